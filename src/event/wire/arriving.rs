//! From a body to raw events.

use bytes::Bytes;
use bytestring::ByteString;
use memchr::memchr_iter;

use crate::event::{MAX_NESTING, json};

/// How a body is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON text: an event, or an array of events.
    Json,
    /// One event a line.
    NdJson,
}

/// One event as it was sent: a slice of the body that is JSON, or the fault of an NDJSON line that is not.
#[derive(Debug, Clone)]
pub struct RawEvent(pub(in crate::event) Result<ByteString, String>);

/// What a body holds.
#[derive(Debug)]
pub enum Split {
    /// A JSON text that is no array, perhaps not even an object.
    One(RawEvent),
    /// The elements of an array or the lines of NDJSON, in order; also of one, or of none.
    Batch(Vec<RawEvent>),
}

/// Why a body as a whole is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// Not JSON, or nested too deep; `detail` has line and column.
    #[error("{detail}")]
    Malformed { detail: String },
    #[error("the request holds more than {found_more_than} events")]
    TooManyEvents { found_more_than: usize },
}

/// Splits a body into at most `max_events` events, without a copy. The whole syntax of a JSON body comes before the
/// number of events; a line of NDJSON that is not JSON is an event of its own with that fault.
///
/// # Errors
///
/// [`SplitError`], where no event is to be looked at.
pub fn split(body: &Bytes, form: Form, max_events: usize) -> Result<Split, SplitError> {
    match form {
        Form::Json => split_json(body, max_events),
        Form::NdJson => split_lines(body, max_events),
    }
}

fn split_json(body: &Bytes, max_events: usize) -> Result<Split, SplitError> {
    let malformed = |detail| SplitError::Malformed { detail };
    let text = checked_utf8(body, 0).map_err(malformed)?;
    if !text.trim_ascii_start().starts_with('[') {
        check(&text, 0).map_err(malformed)?;
        return Ok(Split::One(RawEvent(Ok(text))));
    }
    let mut events = Vec::new();
    let mut deep = None;
    let total = json::for_each_item(&text, |element| {
        // The array itself is a level.
        if let Some(at) = json::too_deep(element, MAX_NESTING - 1) {
            deep.get_or_insert(element.as_ptr().addr() - text.as_ptr().addr() + at);
        } else if events.len() < max_events {
            events.push(RawEvent(Ok(text.slice_ref(element))));
        }
    })
    .map_err(|error| malformed(not_json(&error, 0)))?;
    match deep {
        Some(at) => Err(malformed(too_deep(text.as_bytes(), at, 0))),
        None if total > max_events => Err(SplitError::TooManyEvents { found_more_than: max_events }),
        None => Ok(Split::Batch(events)),
    }
}

fn split_lines(body: &Bytes, max_events: usize) -> Result<Split, SplitError> {
    let mut events = Vec::new();
    let mut start = 0;
    for (lines_before, end) in memchr_iter(b'\n', body).chain([body.len()]).enumerate() {
        let line = body.get(start..end).unwrap_or_default();
        start = end + 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        if events.len() == max_events {
            return Err(SplitError::TooManyEvents { found_more_than: max_events });
        }
        events.push(RawEvent(checked_line(&body.slice_ref(line), lines_before)));
    }
    Ok(Split::Batch(events))
}

fn checked_line(line: &Bytes, lines_before: usize) -> Result<ByteString, String> {
    let text = checked_utf8(line, lines_before)?;
    check(&text, lines_before)?;
    Ok(text)
}

fn check(text: &ByteString, lines_before: usize) -> Result<(), String> {
    json::check_syntax(text).map_err(|error| not_json(&error, lines_before))?;
    match json::too_deep(text, MAX_NESTING) {
        Some(at) => Err(too_deep(text.as_bytes(), at, lines_before)),
        None => Ok(()),
    }
}

fn checked_utf8(bytes: &Bytes, lines_before: usize) -> Result<ByteString, String> {
    ByteString::try_from(bytes.clone()).map_err(|error| {
        let (line, column) = json::position(bytes, error.valid_up_to());
        format!("not UTF-8 at line {} column {column}", lines_before + line)
    })
}

fn too_deep(text: &[u8], at: usize, lines_before: usize) -> String {
    let (line, column) = json::position(text, at);
    format!("nested deeper than {MAX_NESTING} levels at line {} column {column}", lines_before + line)
}

/// serde_json's own words, with the line counted in the whole body.
fn not_json(error: &serde_json::Error, lines_before: usize) -> String {
    let text = error.to_string();
    let own_position = format!(" at line {} column {}", error.line(), error.column());
    let what = text.strip_suffix(&own_position).unwrap_or(&text);
    format!("{what} at line {} column {}", lines_before + error.line(), error.column())
}

#[cfg(test)]
mod tests;
