//! From a body to raw events.

use bytes::Bytes;
use bytestring::ByteString;
use memchr::memchr_iter;

use super::plain::{PlainEvent, TextCursor};
use crate::event::rejection::Rejection;
use crate::event::{MAX_NESTING, json};

/// Some editors and exports begin a text with it. It says nothing of UTF-8, and is no part of the JSON.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Bytes of a small event.
const SMALL_EVENT: usize = 40;

/// How a body is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyForm {
    /// One JSON text: an event, or an array of events.
    Json,
    /// One event a line.
    NdJson,
}

/// One event as it was sent: JSON, or the fault of an NDJSON line that is not.
#[derive(Debug, Clone)]
pub struct RawEvent(pub(in crate::event) Result<Document, String>);

impl RawEvent {
    /// Bytes of its text.
    #[allow(clippy::len_without_is_empty, reason = "none is empty")]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |document| document.text.len())
    }

    /// The text of the event, if it is JSON: a slice of the body.
    pub fn json(&self) -> Option<&ByteString> {
        self.0.as_ref().ok().map(|document| &document.text)
    }

    /// Whether these bytes are a part of its text, and not a copy.
    pub fn holds(&self, part: &[u8]) -> bool {
        let text = self.0.as_ref().map_or(&[][..], |document| document.text.as_bytes());
        text.as_ptr_range().contains(&part.as_ptr()) || part.is_empty()
    }
}

/// The JSON of one event: a slice of the body.
#[derive(Debug, Clone)]
pub(in crate::event) struct Document {
    pub text: ByteString,
    /// Where its parts are, if it is so plain that they have been found along the way.
    pub plain: Option<PlainEvent>,
}

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
    Malformed {
        /// What the parser met and where, without quoting the body.
        detail: String,
    },
    /// More events than `event.max_events` allows; none is looked at.
    #[error("the request holds more than {found_more_than} events")]
    TooManyEvents {
        /// The limit that was exceeded. The rest of the body is not counted.
        found_more_than: usize,
    },
}

impl From<SplitError> for Rejection {
    fn from(error: SplitError) -> Self {
        match error {
            SplitError::Malformed { detail } => Rejection::Malformed { detail },
            SplitError::TooManyEvents { found_more_than: max_events } => Rejection::TooManyEvents { max_events },
        }
    }
}

/// Splits a body, without a byte order mark at its beginning, into at most `max_events` events, without a copy. The whole syntax of a JSON body comes before the
/// number of events; a line of NDJSON that is not JSON is an event of its own with that fault.
///
/// # Errors
///
/// [`SplitError`], where no event is to be looked at.
pub fn split(body: &Bytes, form: BodyForm, max_events: usize) -> Result<Split, SplitError> {
    let body = if body.starts_with(BYTE_ORDER_MARK) { &body.slice(BYTE_ORDER_MARK.len()..) } else { body };
    match form {
        BodyForm::Json => split_json(body, max_events),
        BodyForm::NdJson => split_lines(body, max_events),
    }
}

fn split_json(body: &Bytes, max_events: usize) -> Result<Split, SplitError> {
    let malformed = |detail| SplitError::Malformed { detail };
    let text = checked_utf8(body, 0).map_err(malformed)?;
    if !text.trim_ascii_start().starts_with('[') {
        return Ok(Split::One(RawEvent(Ok(document(text, 0).map_err(malformed)?))));
    }
    match elements(&text, max_events) {
        Some(events) => Ok(Split::Batch(events)),
        None => {
            json::check_array(&text).map_err(|error| malformed(not_json(&error, 0)))?;
            check_depth(&text, 0).map_err(malformed)?;
            Err(SplitError::TooManyEvents { found_more_than: max_events })
        }
    }
}

/// The elements of an array. None: it is not JSON, nested too deep, or holds more than `max_events`.
fn elements(text: &ByteString, max_events: usize) -> Option<Vec<RawEvent>> {
    let mut events = Vec::new();
    let mut cursor = TextCursor::new(text);
    cursor.token(b'[')?;
    if cursor.token(b']').is_some() {
        return cursor.is_at_end().then_some(events);
    }
    loop {
        cursor.peek()?;
        let start = cursor.at;
        let plain = PlainEvent::read(&mut cursor);
        if plain.is_none() {
            // The array itself is a level.
            let element = json::first_value(text.get(start..)?).ok()?;
            if json::too_deep(element, MAX_NESTING - 1).is_some() {
                return None;
            }
            cursor.at = start + element.len();
        }
        if events.len() == max_events {
            return None;
        }
        if events.is_empty() {
            events.reserve(max_events.min(text.len() / (cursor.at - start).max(SMALL_EVENT)));
        }
        events.push(RawEvent(Ok(Document { text: text.slice_ref(text.get(start..cursor.at)?), plain })));
        if cursor.token(b',').is_none() {
            cursor.token(b']')?;
            return cursor.is_at_end().then_some(events);
        }
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
        let text = checked_utf8(&body.slice_ref(line), lines_before);
        events.push(RawEvent(text.and_then(|text| document(text, lines_before))));
    }
    Ok(Split::Batch(events))
}

/// A text that is one JSON value.
fn document(text: ByteString, lines_before: usize) -> Result<Document, String> {
    let mut cursor = TextCursor::new(&text);
    let plain = PlainEvent::read(&mut cursor).filter(|_| cursor.is_at_end());
    if plain.is_none() {
        check(&text, lines_before)?;
    }
    Ok(Document { text, plain })
}

fn check(text: &ByteString, lines_before: usize) -> Result<(), String> {
    json::check_syntax(text).map_err(|error| not_json(&error, lines_before))?;
    check_depth(text, lines_before)
}

fn check_depth(text: &ByteString, lines_before: usize) -> Result<(), String> {
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
