//! Where the values of a JSON document are.

use memchr::memchr2;
use smallvec::SmallVec;

/// Objects and arrays inside one another that are looked into: an event's, its `value`, its `data`, and an entry or a list of keys.
/// What is deeper is text.
const LEVELS: usize = 4;

/// Names and values that are looked at: so many, and so many more for each item that an array may have. What is beyond would
/// take many times the memory that its text does.
const MAX_SPANS: usize = 512 * 1024;
const SPANS_AN_ITEM: usize = 16;

/// Room for a small event.
const FEW_SPANS: usize = 16;

/// Which part of an event a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::event) enum EventPart {
    /// The whole event.
    Event,
    /// What its `data` is, if that was a string.
    Data,
}

impl EventPart {
    /// How many levels of an event are around the document.
    fn levels_outside(self) -> usize {
        match self {
            EventPart::Event => 0,
            EventPart::Data => 2,
        }
    }
}

/// From where to where a value is.
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    /// The place after all that is inside.
    pub(super) next: usize,
    /// Names and values, or items, right inside; of an array also those that are left out.
    pub(super) total: usize,
}

/// Why there is no tree of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::event) enum NoTree {
    /// What was taken for JSON is not.
    NotJson,
    /// It has more names and values than are looked at.
    TooLarge,
}

/// Whether anything inside an object or array is ever looked at, by its level, its first byte, that of what it is in, and the name before
/// it. Members beside `value` are not, nor is a value that is to be stored: they may be of any size.
fn is_looked_into(level: usize, byte: u8, parent: u8, name: &[u8]) -> bool {
    match level {
        0 | 2 => true,
        1 => name == br#""value""# || name.contains(&b'\\'),
        // Entries in an array, or the `keys` or `patterns` of an object.
        3 => matches!((parent, byte), (b'[', b'{') | (b'{', b'[')),
        _ => false,
    }
}

/// The places of the values of a document that is known to be JSON; of each array only of the first `at_most` items.
pub(super) fn spans(text: &[u8], part: EventPart, at_most: usize) -> Result<Vec<Span>, NoTree> {
    let levels_outside = part.levels_outside();
    let max_spans = at_most.saturating_mul(SPANS_AN_ITEM).saturating_add(MAX_SPANS);
    let mut spans: Vec<Span> = Vec::with_capacity(FEW_SPANS);
    let mut open: SmallVec<[usize; LEVELS]> = SmallVec::new();
    let mut at = 0;
    loop {
        let byte = *text.get(at).ok_or(NoTree::NotJson)?;
        match byte {
            b',' | b':' => at += 1,
            _ if is_whitespace(byte) => at += 1,
            b'}' | b']' => {
                at += 1;
                let next = spans.len();
                let closed = open.pop().and_then(|place| spans.get_mut(place)).ok_or(NoTree::NotJson)?;
                (closed.end, closed.next) = (at, next);
            }
            _ => {
                let (kept, parent) = match open.last() {
                    Some(parent) => {
                        let parent = spans.get_mut(*parent).ok_or(NoTree::NotJson)?;
                        parent.total += 1;
                        let kind = *text.get(parent.start).ok_or(NoTree::NotJson)?;
                        (parent.total <= at_most || kind == b'{', kind)
                    }
                    None => (true, 0),
                };
                let name = || spans.last().and_then(|before| text.get(before.start..before.end)).unwrap_or_default();
                let place = spans.len();
                let start = at;
                let is_container = matches!(byte, b'{' | b'[');
                if kept && is_container && is_looked_into(levels_outside + open.len(), byte, parent, name()) {
                    open.push(place);
                    at += 1;
                } else {
                    at += text.get(at..).and_then(value_length).ok_or(NoTree::NotJson)?;
                }
                if kept && place == max_spans {
                    return Err(NoTree::TooLarge);
                }
                if kept {
                    spans.push(Span { start, end: at, next: place + 1, total: 0 });
                }
            }
        }
        if open.is_empty() && !spans.is_empty() {
            return Ok(spans);
        }
    }
}

/// How long the value is that the text begins with.
fn value_length(text: &[u8]) -> Option<usize> {
    match text.first()? {
        b'"' => string_length(text),
        b'{' | b'[' => container_length(text),
        _ => {
            text.iter().position(|byte| matches!(byte, b',' | b'}' | b']') || is_whitespace(*byte)).or(Some(text.len()))
        }
    }
}

/// How many bytes the JSON string has that the text begins with, both quotes included; None: it does not end.
pub(crate) fn string_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        match text.get(at)? {
            b'"' => return Some(at + 1),
            _ => at += 2,
        }
    }
}

fn container_length(text: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0usize);
    loop {
        match text.get(at)? {
            b'"' => at += string_length(text.get(at..)?)? - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 1 => return Some(at + 1),
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
}

/// What JSON allows between its tokens.
fn is_whitespace(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}
