//! Amazon SNS around the notifications of S3: in its envelope, or raw.

use std::borrow::Cow;

use super::envelope::{Purpose, SnsEnvelope};
use super::{Handshake, Ignored, Message, Notified, Parsed, SourceFault, s3};

/// The header of messages that are delivered raw.
const RAW: &str = "x-amz-sns-rawdelivery";

/// Whether the message is of this format: for `auto`. Some senders leave out the headers, and raw delivery has no envelope.
pub fn looks_like(message: &Message) -> bool {
    message.headers.get("x-amz-sns-message-type").is_some() || SnsEnvelope::read(message.body).is_some()
}

/// Takes a notification apart.
///
/// # Errors
/// When the body is none of this format.
pub fn parse<'a>(message: &Message<'a>) -> Result<Parsed<'a>, SourceFault> {
    let Some(envelope) = SnsEnvelope::read(message.body) else { return raw(message) };
    let ignored = |why| Ok(Parsed::Elements(vec![Notified::Ignored(why)]));
    match envelope.purpose() {
        Some(Purpose::Subscription) => {
            let missing = |what: &str| SourceFault::Malformed(format!("`{what}` is missing"));
            let topic = envelope.topic().ok_or_else(|| missing("TopicArn"))?.to_owned().into();
            let subscribe_url = envelope.subscribe_url().ok_or_else(|| missing("SubscribeURL"))?.to_owned().into();
            Ok(Parsed::Handshake(Handshake::SnsConfirmation { topic, subscribe_url }))
        }
        Some(Purpose::End) => ignored(Ignored::Test),
        _ => {
            let text = envelope.message().unwrap_or_default();
            let parsed = s3::parse_anything(&Message { body: text.as_bytes(), ..*message })?;
            Ok(with_id(parsed, envelope.id()).into_owned())
        }
    }
}

/// A message without an envelope. Whoever may publish to the topic may publish anything; where no header says that it is of a
/// topic, it must be what it seems.
fn raw<'a>(message: &Message<'a>) -> Result<Parsed<'a>, SourceFault> {
    let parsed = match message.headers.get(RAW) {
        Some(_) => s3::parse_anything(message),
        None => s3::parse(message),
    }?;
    let id = message.headers.get("x-amz-sns-message-id").and_then(|id| std::str::from_utf8(id).ok());
    Ok(with_id(parsed, id))
}

/// The changes of a message with its id.
fn with_id<'a>(mut parsed: Parsed<'a>, id: Option<&'a str>) -> Parsed<'a> {
    if let (Parsed::Elements(elements), Some(id)) = (&mut parsed, id) {
        for element in elements {
            if let Notified::Change(change) = element {
                change.id = Some(Cow::Borrowed(id));
            }
        }
    }
    parsed
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::event::sources::captured::Captured;
    use crate::event::sources::{Format, Notified, Parsed};

    /// The objects that a request tells of.
    fn objects(request: &Captured, format: Format) -> Vec<String> {
        let Ok(Parsed::Elements(elements)) = request.parse(format) else { panic!("no notification") };
        let object =
            |element| if let Notified::Change(change) = element { Some(change.object.into_owned()) } else { None };
        elements.into_iter().filter_map(object).collect()
    }

    #[test]
    fn what_stands_beside_the_envelopes_own_members_is_not_read() {
        let records = |key: &str| {
            let s3 = json!({"bucket": {"name": "b"}, "object": {"key": key}});
            json!([{"eventName": "ObjectRemoved:Delete", "s3": s3}])
        };
        let message = json!({"Records": records("signed")}).to_string();
        let body = json!({"Records": records("beside"), "Type": "Notification", "MessageId": "1", "TopicArn": "t",
            "Message": message, "Timestamp": "2026-01-02T03:04:05.000Z"});
        let request = Captured::new(&[("content-type", "text/plain")], body.to_string().as_bytes());
        assert_eq!(objects(&request, Format::Sns), ["signed"]);
        assert_eq!(objects(&request, Format::S3), ["beside"]);
        let event = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "s"), ("ce-bucket", "b")];
        let kind = ("ce-type", "google.cloud.storage.object.v1.deleted");
        let headers: Vec<_> = event.into_iter().chain([kind, ("ce-subject", "objects/beside")]).collect();
        let request = headers.iter().fold(request, |request, (name, value)| request.with(name, value.as_bytes()));
        assert_eq!(objects(&request, Format::Sns), ["signed"]);
    }
}
