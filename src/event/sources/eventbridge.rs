//! Amazon EventBridge: one event of S3 a request.

use super::{Message, Parsed, SourceFault};

/// Whether the message is of this format: for `auto`.
pub fn looks_like(_message: &Message) -> bool {
    false
}

/// Takes a notification apart.
///
/// # Errors
/// When the body is none of this format.
pub fn parse<'a>(_message: &Message<'a>) -> Result<Parsed<'a>, SourceFault> {
    Err(SourceFault::Malformed("notifications of this format cannot be read yet".to_owned()))
}
