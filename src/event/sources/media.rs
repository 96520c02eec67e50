//! What a request says about its body, before anybody looks into that.

use std::borrow::Cow;

use super::{Message, SourceFault};

/// The media type without its parameters, in lower case. None: there is none.
pub(super) fn essence<'a>(message: &Message<'a>) -> Option<Cow<'a, str>> {
    let value = message.headers.get("content-type")?;
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let essence = match String::from_utf8_lossy(essence) {
        given if given.bytes().any(|byte| byte.is_ascii_uppercase()) => Cow::Owned(given.to_ascii_lowercase()),
        lower => lower,
    };
    Some(essence).filter(|essence| !essence.is_empty())
}

/// Whether a media type is JSON, or of a syntax that is (`application/problem+json`).
pub(super) fn is_json(essence: &str) -> bool {
    matches!(essence, "application/json" | "text/json") || essence.ends_with("+json")
}

/// Refuses what says that it is something else than JSON; many senders say nothing.
pub(super) fn expect_json(message: &Message, format: &str) -> Result<(), SourceFault> {
    match essence(message) {
        Some(essence) if !is_json(&essence) => {
            Err(SourceFault::MediaType(format!("notifications of {format} are JSON: Content-Type is application/json")))
        }
        _ => Ok(()),
    }
}

/// The same of producers of which some say that their JSON is text, or bytes.
pub(super) fn expect_json_or_text(message: &Message, format: &str) -> Result<(), SourceFault> {
    if is_text_or_json(message) { Ok(()) } else { expect_json(message, format) }
}

/// Whether the media type may be that of JSON: it is, or it is text or bytes, or there is none.
pub(super) fn is_text_or_json(message: &Message) -> bool {
    essence(message)
        .is_none_or(|essence| is_json(&essence) || matches!(&*essence, "text/plain" | "application/octet-stream"))
}

/// The first byte that is no white space.
pub(super) fn first_byte(body: &[u8]) -> Option<u8> {
    body.trim_ascii_start().first().copied()
}

/// The text of a header's value. What is not UTF-8 is Latin-1: JavaScript's clients send it so.
pub(super) fn header_text(value: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(value) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(value.iter().map(|byte| char::from(*byte)).collect()),
    }
}
