//! Amazon SNS around the notifications of S3: in its envelope, or raw.

use super::envelope::{Purpose, SnsEnvelope};
use super::{Handshake, Ignored, Message, Notified, Parsed, SourceFault, s3};

/// Whether the message is of this format: for `auto`. Some senders leave out the headers, and raw delivery has no envelope.
pub fn looks_like(message: &Message) -> bool {
    message.headers.get("x-amz-sns-message-type").is_some() || SnsEnvelope::read(message.body).is_some()
}

/// Takes a notification apart.
///
/// # Errors
/// When the body is none of this format.
pub fn parse<'a>(message: &Message<'a>) -> Result<Parsed<'a>, SourceFault> {
    let Some(envelope) = SnsEnvelope::read(message.body) else { return s3::parse(message) };
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
            // Whoever may publish to the topic may publish anything.
            match s3::parse(&Message { headers: message.headers, body: text.as_bytes() }) {
                Ok(parsed) => Ok(parsed.into_owned()),
                Err(_) => ignored(Ignored::UnknownEvent),
            }
        }
    }
}
