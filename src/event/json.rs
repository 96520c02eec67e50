//! Looking into JSON without taking it apart. Syntax is serde_json's affair; this room keeps the very text: a [`Node`] is
//! a span of a document that is known to be JSON, and strings, members and items are spans of it in turn, found by where
//! values end and no more. Unlike a parser into values it shows members given twice, and finds a lone surrogate only where
//! somebody asks for that string.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;
use memchr::memchr2;
use serde::de::{Deserializer as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A value inside a JSON document.
#[derive(Clone, Copy)]
pub(in crate::event) struct Node<'a> {
    /// What [`Node::text`] is a part of.
    document: &'a ByteString,
    text: &'a str,
}

/// What a value is, told from its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::event) enum Kind {
    Object,
    Array,
    String,
    Number,
    Boolean,
    Null,
}

/// Why a value has no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::event) enum NoText {
    NotAString,
    LoneSurrogate,
}

impl<'a> Node<'a> {
    /// The whole of a document whose syntax has been checked.
    pub fn root(document: &'a ByteString) -> Self {
        Node { document, text: document.trim_matches(|character| u8::try_from(character).is_ok_and(is_whitespace)) }
    }

    pub fn kind(self) -> Kind {
        match self.text.as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Boolean,
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// The JSON text itself, without surrounding white space.
    pub fn text(self) -> &'a str {
        self.text
    }

    /// [`Node::text`] as shared bytes, without a copy.
    pub fn shared(self) -> Bytes {
        self.document.slice_ref(self.text).into_bytes()
    }

    /// What the string says; without a copy if it has no escapes.
    pub fn string(self) -> Result<ByteString, NoText> {
        let inside = self.text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or(NoText::NotAString)?;
        if !inside.contains('\\') {
            return Ok(self.document.slice_ref(inside));
        }
        // The syntax is good, so nothing else can be wrong with it.
        serde_json::from_str::<String>(self.text).map(ByteString::from).map_err(|_| NoText::LoneSurrogate)
    }

    /// The items of an array, and how many there are; only the first `at_most` are kept.
    pub fn items(self, at_most: usize) -> Result<(Vec<Node<'a>>, usize), NotJson> {
        let (mut kept, mut total) = (Vec::new(), 0);
        let mut inside = Cursor::enter(self.text, b'[')?;
        while inside.has_next(b']')? {
            let text = inside.value()?;
            if kept.len() < at_most {
                kept.push(Node { text, ..self });
            }
            total += 1;
        }
        Ok((kept, total))
    }

    /// Shows the members of an object in the order of the text. Names are decoded; one with a lone surrogate is not
    /// UTF-8.
    pub fn for_each_member(self, mut each: impl FnMut(Cow<'a, [u8]>, Node<'a>)) -> Result<(), NotJson> {
        let mut inside = Cursor::enter(self.text, b'{')?;
        while inside.has_next(b'}')? {
            let name = inside.value()?;
            inside.expect(b':')?;
            let text = inside.value()?;
            each(decoded_name(name)?, Node { text, ..self });
        }
        Ok(())
    }
}

/// What was taken for JSON is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::event) struct NotJson;

/// A place inside an object or array that is known to be JSON.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
    is_first: bool,
}

impl<'a> Cursor<'a> {
    fn enter(text: &'a str, open: u8) -> Result<Self, NotJson> {
        let mut cursor = Cursor { text, at: 0, is_first: true };
        cursor.expect(open)?;
        Ok(cursor)
    }

    /// Moves on to the next member or item; false at the end.
    fn has_next(&mut self, close: u8) -> Result<bool, NotJson> {
        match self.peek() {
            Some(byte) if byte == close => Ok(false),
            Some(_) if std::mem::take(&mut self.is_first) => Ok(true),
            _ => self.expect(b',').map(|()| true),
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotJson> {
        if self.peek() != Some(byte) {
            return Err(NotJson);
        }
        self.at += 1;
        Ok(())
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let (skipped, byte) = rest.iter().enumerate().find(|(_, byte)| !is_whitespace(**byte))?;
        self.at += skipped;
        Some(*byte)
    }

    fn value(&mut self) -> Result<&'a str, NotJson> {
        self.peek();
        let start = self.at;
        let rest = self.text.as_bytes().get(start..).ok_or(NotJson)?;
        self.at = start + value_length(rest).ok_or(NotJson)?;
        self.text.get(start..self.at).ok_or(NotJson)
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

/// With both quotes.
fn string_length(text: &[u8]) -> Option<usize> {
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

/// Shows the items of a JSON array and counts them; the error has the line and column of the first fault of syntax.
pub(in crate::event) fn for_each_item<'a>(text: &'a str, each: impl FnMut(&'a str)) -> serde_json::Result<usize> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let total = parser.deserialize_seq(Items(each))?;
    parser.end()?;
    Ok(total)
}

/// Whether the text is one JSON value; the error has line and column.
pub(in crate::event) fn check_syntax(text: &str) -> serde_json::Result<()> {
    serde_json::from_str::<IgnoredAny>(text).map(|_| ())
}

/// Where JSON text opens more than `levels` levels of nesting, as an offset.
pub(in crate::event) fn too_deep(text: &str, levels: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    // The first test spares small events, the second large flat ones.
    if bytes.len() <= 2 * levels || bytes.iter().filter(|&&byte| byte | 0x20 == b'{').count() <= levels {
        return None;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > levels {
                    return Some(at);
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Line and column of an offset, both from 1, in bytes.
pub(in crate::event) fn position(text: &[u8], offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
    let column = 1 + before.iter().rev().take_while(|&&byte| byte != b'\n').count();
    (line, column)
}

fn decoded_name(name: &str) -> Result<Cow<'_, [u8]>, NotJson> {
    match name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inside) if !inside.contains('\\') => Ok(Cow::Borrowed(inside.as_bytes())),
        _ => {
            let decoded = serde_json::Deserializer::from_str(name).deserialize_bytes(NameBytes);
            decoded.map(Cow::Owned).map_err(|_| NotJson)
        }
    }
}

struct Items<F>(F);

impl<'de, F: FnMut(&'de str)> Visitor<'de> for Items<F> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<usize, A::Error> {
        let mut total = 0;
        while let Some(item) = items.next_element::<&'de RawValue>()? {
            (self.0)(item.get());
            total += 1;
        }
        Ok(total)
    }
}

/// serde_json lets lone surrogates pass where bytes are asked for.
struct NameBytes;

impl Visitor<'_> for NameBytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> Vec<(Vec<u8>, String)> {
        let document = ByteString::from(text);
        let mut seen = Vec::new();
        Node::root(&document)
            .for_each_member(|name, value| seen.push((name.into_owned(), value.text().to_owned())))
            .unwrap();
        seen
    }

    #[test]
    fn members_keep_order_duplicates_and_the_very_text() {
        let seen = members(" { \"a\" : 1.0 , \"b\":{ \"x\" : 1 },\"a\": \"\\u0041\" , \"\\u0061\":1e400} ");
        let expected: [(&[u8], &str); 4] =
            [(b"a", "1.0"), (b"b", "{ \"x\" : 1 }"), (b"a", "\"\\u0041\""), (b"a", "1e400")];
        assert_eq!(seen.len(), expected.len());
        for ((name, text), (expected_name, expected_text)) in seen.iter().zip(expected) {
            assert_eq!((name.as_slice(), text.as_str()), (expected_name, expected_text));
        }
    }

    #[test]
    fn names_with_lone_surrogates_are_told_apart() {
        let seen = members(r#"{"\ud800":1,"\ud801":2}"#);
        assert_eq!(seen.len(), 2);
        assert_ne!(seen[0].0, seen[1].0);
    }

    #[test]
    fn a_string_without_escapes_is_a_slice_of_the_document() {
        let document = ByteString::from(" \"plain é\" ");
        let text = Node::root(&document).string().unwrap();
        assert_eq!(text, "plain é");
        assert_eq!(text.as_ptr(), document[2..].as_ptr());
    }

    #[test]
    fn strings_are_decoded_and_lone_surrogates_told() {
        let string = |text: &str| Node::root(&ByteString::from(text)).string();
        assert_eq!(string(r#""""#).unwrap(), "");
        assert_eq!(string(r#""a\"\\\n\u00e9\ud83d\ude00""#).unwrap(), "a\"\\\né😀");
        for lone in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\n""#, r#""\ud800\ud800""#, r#""\ud800x""#] {
            assert_eq!(string(lone), Err(NoText::LoneSurrogate), "{lone}");
        }
        assert_eq!(string("1"), Err(NoText::NotAString));
    }

    #[test]
    fn items_are_counted_beyond_those_kept() {
        let document = ByteString::from("[1, [2], \"]\" ,{}]");
        let (kept, total) = Node::root(&document).items(2).unwrap();
        assert_eq!(total, 4);
        assert_eq!(kept.iter().map(|node| node.text()).collect::<Vec<_>>(), ["1", "[2]"]);
    }

    #[test]
    fn nesting_is_counted_outside_strings_only() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert_eq!(too_deep(&deep(128), 128), None);
        assert_eq!(too_deep(&deep(129), 128), Some(128));
        assert_eq!(too_deep(&format!("{{\"a\":{}}}", deep(128)), 128), Some(132));
        assert_eq!(too_deep(&format!("[\"\\\"{}\",{}]", "[".repeat(500), "{}".repeat(500)), 128), None);
        assert_eq!(too_deep(&format!("[{}]", vec!["[{}]"; 300].join(",")), 128), None);
    }

    #[test]
    fn positions_count_from_one() {
        assert_eq!(position(b"ab\ncd", 0), (1, 1));
        assert_eq!(position(b"ab\ncd", 4), (2, 2));
        assert_eq!(position(b"ab\n", 3), (2, 1));
    }
}
