//! The text of an answer on its way out. Large values are not written into it: a value is held already, and its JSON may be
//! six times as long. They are left out, with their places, and written piece by piece while the answer is sent.
//!
//! Promises: the pieces of a text, one after the other, are the very text that would have been written whole; its length is
//! known beforehand; no piece is longer than [`MAX_PIECE_BYTES`]; a value is let go as soon as its last piece is made.

use std::io::{self, Write};
use std::vec;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use memchr::memchr2;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use super::plain::least;
use crate::event::outcome::COUNTED_FROM_BYTES;

/// Bytes up to which values are written in their places, as nearly always.
const WHOLE_BYTES: usize = 64 * 1024;
/// Bytes up to which a text without large values is sent whole.
const MAX_WHOLE_BYTES: usize = 256 * 1024;
/// Bytes up to which a value is written in its place in any text, because to send it apart would cost more than it holds.
const SMALL_BYTES: usize = 256;
/// Bytes that a value that is left out takes beside its own.
const PLACE_BYTES: usize = size_of::<(usize, Bytes)>();
/// Bytes of a value that are made into text at a time. A multiple of three, so that base64 needs no padding in between.
const STEP_BYTES: usize = 6 * 1024;
/// Bytes of a piece: all of a step may have to be escaped, with six bytes for one.
pub const MAX_PIECE_BYTES: usize = 6 * STEP_BYTES + 64;

/// What has been written, without the values that were left out.
#[derive(Debug, Default)]
pub struct Text {
    pub(super) bytes: Vec<u8>,
    left_out: Vec<(usize, Bytes)>,
}

impl Text {
    /// An empty text with room for about this number of bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Text { bytes: Vec::with_capacity(bytes), left_out: Vec::new() }
    }

    /// Bytes in memory, values that were left out included, unless they have room of their own.
    pub fn held_bytes(&self) -> usize {
        let own = |value: &Bytes| if value.len() > COUNTED_FROM_BYTES { 0 } else { value.len() };
        let left_out: usize = self.left_out.iter().map(|(_, value)| PLACE_BYTES + own(value)).sum();
        self.bytes.len() + left_out
    }

    /// All of it, if nothing was left out and it is not large: whoever sends it may make a copy.
    ///
    /// # Errors
    ///
    /// The pieces.
    #[expect(clippy::result_large_err, reason = "seldom, and moved once")]
    pub fn into_whole(self) -> Result<Vec<u8>, TextPieces> {
        if self.left_out.is_empty() && self.bytes.len() <= MAX_WHOLE_BYTES {
            Ok(self.bytes)
        } else {
            Err(TextPieces::new(self))
        }
    }

    /// A value as a JSON string with what tells of its encoding, or its place.
    pub(super) fn value(&mut self, value: &Bytes) {
        if value.len() > SMALL_BYTES && self.bytes.len().saturating_add(value.len()) > WHOLE_BYTES {
            self.left_out.push((self.bytes.len(), value.clone()));
        } else {
            write_value(&mut self.bytes, value);
        }
    }

    /// The same of a key, always in its place: a key has no room of its own.
    pub(super) fn key(&mut self, key: &[u8]) {
        write_value(&mut self.bytes, key);
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        Text { bytes, left_out: Vec::new() }
    }
}

/// Appends a JSON string. One look tells whether it has something to escape; nearly none has, and is copied as a whole.
pub(super) fn write_string(out: &mut Vec<u8>, text: &str) {
    if memchr2(b'"', b'\\', text.as_bytes()).is_none() && least(text.as_bytes()) >= b' ' {
        out.reserve(text.len() + 2);
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        let written = serde_json::to_writer(out, text);
        debug_assert!(written.is_ok(), "a vector takes everything");
    }
}

fn write_value(out: &mut Vec<u8>, value: &[u8]) {
    match str::from_utf8(value) {
        Ok(text) => write_string(out, text),
        Err(_) => {
            let start = out.len() + 1;
            out.push(b'"');
            out.resize(start + base64_length(value.len()), 0);
            let written = STANDARD.encode_slice(value, out.get_mut(start..).unwrap_or_default());
            debug_assert!(written.is_ok(), "the length is right");
            out.extend_from_slice(BASE64_END.as_bytes());
        }
    }
}

/// The end of a value that is no text.
const BASE64_END: &str = "\",\"encoding\":\"base64\"";

fn base64_length(bytes: usize) -> usize {
    bytes.div_ceil(3).saturating_mul(4)
}

/// The text in pieces, in order.
#[derive(Debug)]
pub struct TextPieces {
    text: Bytes,
    /// How much of it has been handed out.
    at: usize,
    values: vec::IntoIter<(usize, Bytes)>,
    /// The next value, and how much of that.
    next: Option<(usize, Bytes)>,
    under_way: Option<Value>,
    length: u64,
}

/// A value of which some has been handed out.
#[derive(Debug)]
struct Value {
    bytes: Bytes,
    at: usize,
    is_text: bool,
}

impl TextPieces {
    fn new(text: Text) -> Self {
        let values: u64 = text.left_out.iter().map(|(_, value)| value_length(value)).sum();
        let length = text.bytes.len() as u64 + values;
        let mut values = text.left_out.into_iter();
        let next = values.next();
        TextPieces { text: text.bytes.into(), at: 0, values, next, under_way: None, length }
    }

    /// The length of the whole text, in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The text up to the next value.
    fn text_piece(&mut self) -> Option<Bytes> {
        let end = self.next.as_ref().map_or(self.text.len(), |(place, _)| *place);
        let end = end.min(self.at + MAX_PIECE_BYTES);
        let piece = (end > self.at).then(|| self.text.slice(self.at..end));
        self.at = end;
        piece
    }
}

impl Iterator for TextPieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(value) = &mut self.under_way {
            let piece = value.piece();
            if value.at == value.bytes.len() {
                self.under_way = None;
            }
            return Some(piece);
        }
        if let Some(piece) = self.text_piece() {
            return Some(piece);
        }
        let (_, bytes) = std::mem::replace(&mut self.next, self.values.next())?;
        let is_text = str::from_utf8(&bytes).is_ok();
        self.under_way = Some(Value { bytes, at: 0, is_text });
        self.next()
    }
}

impl Value {
    fn piece(&mut self) -> Bytes {
        let is_first = self.at == 0;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let mut piece = Vec::with_capacity(rest.len().min(STEP_BYTES).saturating_mul(4) / 3 + 64);
        if is_first {
            piece.push(b'"');
        }
        let step = match self.is_text {
            true => {
                let step = text_step(rest);
                let written = write_escaped(&mut piece, rest.get(..step).unwrap_or_default());
                debug_assert!(written.is_ok(), "a vector takes everything");
                step
            }
            false => {
                let step = rest.len().min(STEP_BYTES);
                piece.extend_from_slice(STANDARD.encode(rest.get(..step).unwrap_or_default()).as_bytes());
                step
            }
        };
        self.at += step;
        if self.at == self.bytes.len() {
            piece.extend_from_slice(if self.is_text { b"\"" } else { BASE64_END.as_bytes() });
        }
        piece.into()
    }
}

/// How much of a text makes a piece: whole characters.
fn text_step(rest: &[u8]) -> usize {
    if rest.len() <= STEP_BYTES {
        return rest.len();
    }
    let is_inside = |at: &usize| rest.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (0..=STEP_BYTES).rev().find(|at| !is_inside(at)).filter(|at| *at > 0).unwrap_or(rest.len())
}

/// Bytes of a value as a JSON string, with what tells of its encoding.
fn value_length(value: &[u8]) -> u64 {
    if str::from_utf8(value).is_err() {
        return 1 + base64_length(value.len()) as u64 + BASE64_END.len() as u64;
    }
    let (mut counted, mut rest) = (Counted(0), value);
    while !rest.is_empty() {
        let (here, behind) = rest.split_at(text_step(rest));
        let written = write_escaped(&mut counted, here);
        debug_assert!(written.is_ok(), "a counter takes everything");
        rest = behind;
    }
    2 + counted.0
}

/// Writes what stands between the quotes of a JSON string.
fn write_escaped(out: impl Write, text: &[u8]) -> io::Result<()> {
    let text = str::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData)?;
    text.serialize(&mut Serializer::with_formatter(out, Unquoted)).map_err(io::Error::from)
}

struct Unquoted;

impl Formatter for Unquoted {
    fn begin_string<W: Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        Ok(())
    }

    fn end_string<W: Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        Ok(())
    }
}

struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(values: &[Bytes]) -> Vec<u8> {
        let mut out = Vec::new();
        for value in values {
            out.extend_from_slice(b"{\"value\":");
            write_value(&mut out, value);
            out.push(b'}');
        }
        out
    }

    fn in_pieces(values: &[Bytes]) -> (u64, Vec<u8>) {
        let mut text = Text::default();
        for value in values {
            text.bytes.extend_from_slice(b"{\"value\":");
            text.left_out.push((text.bytes.len(), value.clone()));
            text.bytes.push(b'}');
        }
        let Err(pieces) = text.into_whole() else { return (0, Vec::new()) };
        let length = pieces.length();
        let pieces: Vec<Bytes> = pieces.collect();
        assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= MAX_PIECE_BYTES));
        (length, pieces.concat())
    }

    fn holds(values: &[Bytes]) {
        let whole = whole(values);
        assert_eq!(in_pieces(values), (whole.len() as u64, whole));
    }

    #[test]
    fn a_text_in_pieces_is_the_same_text() {
        let quotes = "\"\\\u{1}ä𝄞\n".repeat(STEP_BYTES);
        let bytes: Vec<u8> = (0..=255).cycle().take(STEP_BYTES * 3 + 1).collect();
        holds(&[
            Bytes::from(quotes),
            Bytes::from(bytes),
            Bytes::from_static(b"plain"),
            Bytes::from(vec![1; STEP_BYTES]),
        ]);
        for length in [STEP_BYTES - 1, STEP_BYTES, STEP_BYTES + 1, STEP_BYTES + 2] {
            holds(&[Bytes::from(vec![b'"'; length]), Bytes::from(vec![0xff; length])]);
        }
    }

    proptest! {
        #[test]
        fn so_it_is_for_any_values(values in prop::collection::vec((any::<Vec<u8>>(), ".*", 1usize..600), 1..4)) {
            for (bytes, text, times) in values {
                let bytes = Bytes::from(bytes.repeat(times));
                let text = Bytes::from(text.repeat(times));
                holds(&[bytes, text].into_iter().filter(|value| !value.is_empty()).collect::<Vec<_>>());
            }
        }
    }

    proptest! {
        #[test]
        fn a_string_is_written_as_serde_json_would(text in prop_oneof![".*", "[ -~]*", "[a-z\"\\\\\u{7f}\u{1f}ä]*"]) {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            assert_eq!(out, serde_json::to_vec(&text).unwrap());
        }
    }

    #[test]
    fn a_large_text_without_values_comes_in_pieces_too() {
        assert!(Text::from(vec![b'x'; MAX_WHOLE_BYTES]).into_whole().is_ok());
        let large: Vec<u8> = (0..=255).cycle().take(MAX_WHOLE_BYTES + 1).collect();
        let pieces = Text::from(large.clone()).into_whole().unwrap_err();
        assert_eq!((pieces.length(), pieces.collect::<Vec<_>>().concat()), (large.len() as u64, large));
    }

    #[test]
    fn a_text_that_would_be_large_leaves_its_values_out() {
        let mut text = Text::default();
        let value = Bytes::from(vec![b'v'; WHOLE_BYTES / 2]);
        (0..3).for_each(|_| text.value(&value));
        assert_eq!((text.left_out.len(), text.held_bytes()), (2, WHOLE_BYTES / 2 + 2 + 2 * PLACE_BYTES));
        text.value(&Bytes::from_static(b"small"));
        assert_eq!(text.left_out.len(), 2);
        let value = Bytes::from(vec![b'v'; COUNTED_FROM_BYTES]);
        (0..20).for_each(|_| text.value(&value));
        let (places, own) = (text.left_out.len() * PLACE_BYTES, (text.left_out.len() - 2) * COUNTED_FROM_BYTES);
        assert!(text.left_out.len() > 12, "nobody else counts those");
        assert_eq!(text.held_bytes(), text.bytes.len() + places + own);
    }
}
