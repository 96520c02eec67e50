//! The envelope of SNS, with what its signature is over.

use std::fmt::Write;

use serde::Deserialize;

use super::json::read_object;
use super::scalar::Scalar;

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It carries a message of the topic.
    Notification,
    /// The endpoint is asked whether it wants the topic's messages.
    Subscription,
    /// It gets no more of them.
    End,
}

/// A message of SNS, as it is posted without raw delivery.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SnsEnvelope<'a> {
    #[serde(borrow, rename = "Type")]
    kind: Scalar<'a>,
    #[serde(borrow)]
    message_id: Scalar<'a>,
    #[serde(borrow, rename = "TopicArn")]
    topic: Scalar<'a>,
    #[serde(borrow)]
    message: Scalar<'a>,
    #[serde(borrow)]
    timestamp: Scalar<'a>,
    #[serde(borrow, default)]
    subject: Scalar<'a>,
    #[serde(borrow, default)]
    token: Scalar<'a>,
    #[serde(borrow, default, rename = "SubscribeURL")]
    subscribe_url: Scalar<'a>,
    #[serde(borrow, default, rename = "SignatureVersion")]
    version: Scalar<'a>,
    #[serde(borrow, default)]
    signature: Scalar<'a>,
    #[serde(borrow, default, rename = "SigningCertURL")]
    certificate_url: Scalar<'a>,
}

impl<'a> SnsEnvelope<'a> {
    /// None: the body is none.
    pub fn read(body: &'a [u8]) -> Option<Self> {
        read_object(body).ok().filter(|envelope: &SnsEnvelope| envelope.purpose().is_some())
    }

    /// What it is for, by its `Type`; None: SNS has no such type.
    pub fn purpose(&self) -> Option<Purpose> {
        match self.kind.as_str()? {
            "Notification" => Some(Purpose::Notification),
            "SubscriptionConfirmation" => Some(Purpose::Subscription),
            "UnsubscribeConfirmation" => Some(Purpose::End),
            _ => None,
        }
    }

    /// SNS's own id of the message.
    pub fn id(&self) -> Option<&str> {
        self.message_id.as_str()
    }

    /// The topic's ARN.
    pub fn topic(&self) -> Option<&str> {
        self.topic.as_str()
    }

    /// What was published.
    pub fn message(&self) -> Option<&str> {
        self.message.as_str()
    }

    /// `1` or `2`, of those that there are.
    pub fn version(&self) -> Option<&str> {
        self.version.as_str()
    }

    /// In base64.
    pub fn signature(&self) -> Option<&str> {
        self.signature.as_str()
    }

    /// Where the certificate is that it was signed with. It is not trusted: the caller checks the host.
    pub fn certificate_url(&self) -> Option<&str> {
        self.certificate_url.as_str()
    }

    /// The URL that confirms the subscription. It carries a token: never for the log.
    pub fn subscribe_url(&self) -> Option<&str> {
        self.subscribe_url.as_str()
    }

    /// What is signed: names and values, a line each, in the order of the names. None: something of it is missing.
    pub fn text_to_sign(&self) -> Option<String> {
        let is_notification = self.purpose()? == Purpose::Notification;
        let subject = self.subject.as_str().filter(|_| is_notification);
        let (url, token) = (self.subscribe_url.as_str(), self.token.as_str());
        let mut parts = vec![("Message", self.message.as_str()?), ("MessageId", self.message_id.as_str()?)];
        parts.extend(subject.map(|subject| ("Subject", subject)));
        if !is_notification {
            parts.push(("SubscribeURL", url?));
        }
        parts.push(("Timestamp", self.timestamp.as_str()?));
        if !is_notification {
            parts.push(("Token", token?));
        }
        parts.extend([("TopicArn", self.topic()?), ("Type", self.kind.as_str()?)]);
        let mut text = String::new();
        for (name, value) in parts {
            let _ = write!(text, "{name}\n{value}\n");
        }
        Some(text)
    }
}
