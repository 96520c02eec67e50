//! Looking into JSON without taking it apart. serde_json checks the syntax; this module keeps the exact text. A [`Tree`] says
//! where the values of a document are that is known to be JSON, found in one pass by where values end and no more; a
//! [`Node`] is one of them. Unlike a parser into values it shows members given twice, and finds a lone surrogate only where
//! somebody asks for that string.

mod spans;

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;
use serde::de::{Deserialize, Deserializer as _, IgnoredAny, Visitor};
use serde_json::value::RawValue;

pub(crate) use self::spans::string_length;
pub(in crate::event) use self::spans::{EventPart, NoTree};
use self::spans::{Span, spans};

/// A document with the places of its values.
pub(in crate::event) struct Tree<'a> {
    document: &'a ByteString,
    /// Each object or array before what is in it, each name before its value.
    spans: Vec<Span>,
}

/// A value inside a JSON document.
#[derive(Clone, Copy)]
pub(in crate::event) struct Node<'a> {
    tree: &'a Tree<'a>,
    at: usize,
}

/// What a value is, told from its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::event) enum JsonKind {
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

impl<'a> Tree<'a> {
    /// The tree of a document whose syntax has been checked. Of each array only the first `at_most` items can be looked at,
    /// so that a large one does not cost many times its size.
    pub fn of(document: &'a ByteString, part: EventPart, at_most: usize) -> Result<Self, NoTree> {
        let spans = spans(document.as_bytes(), part, at_most)?;
        Ok(Tree { document, spans })
    }

    pub fn root(&self) -> Node<'_> {
        Node { tree: self, at: 0 }
    }
}

impl<'a> Node<'a> {
    pub fn kind(self) -> JsonKind {
        match self.text().as_bytes().first() {
            Some(b'{') => JsonKind::Object,
            Some(b'[') => JsonKind::Array,
            Some(b'"') => JsonKind::String,
            Some(b't' | b'f') => JsonKind::Boolean,
            Some(b'n') => JsonKind::Null,
            _ => JsonKind::Number,
        }
    }

    /// The JSON text itself, without surrounding white space.
    pub fn text(self) -> &'a str {
        self.span().and_then(|span| self.tree.document.get(span.start..span.end)).unwrap_or_default()
    }

    /// [`Node::text`] as shared bytes, without a copy.
    pub fn shared(self) -> Bytes {
        self.tree.document.slice_ref(self.text()).into_bytes()
    }

    /// What the string says; without a copy if it has no escapes.
    pub fn string(self) -> Result<ByteString, NoText> {
        let text = self.text();
        let inside = unquoted(text).ok_or(NoText::NotAString)?;
        if !inside.contains('\\') {
            return Ok(self.tree.document.slice_ref(inside));
        }
        // The syntax is good, so nothing else can be wrong with it.
        serde_json::from_str::<String>(text).map(ByteString::from).map_err(|_| NoText::LoneSurrogate)
    }

    /// How many items an array has.
    pub fn total(self) -> usize {
        self.span().map_or(0, |span| span.total)
    }

    /// The members of an object in the order of the text: names and values.
    pub fn members(self) -> impl Iterator<Item = (Node<'a>, Node<'a>)> {
        let mut inside = self.items();
        std::iter::from_fn(move || Some((inside.next()?, inside.next()?)))
    }

    /// What a name says. One with a lone surrogate is not UTF-8.
    pub fn name(self) -> Cow<'a, [u8]> {
        let text = self.text();
        match unquoted(text) {
            Some(inside) if !inside.contains('\\') => Cow::Borrowed(inside.as_bytes()),
            _ => {
                let decoded = serde_json::Deserializer::from_str(text).deserialize_bytes(NameBytes);
                decoded.map_or(Cow::Borrowed(text.as_bytes()), Cow::Owned)
            }
        }
    }

    /// The items of an array that are kept; of an object, names and values in turn.
    pub fn items(self) -> impl Iterator<Item = Node<'a>> {
        let end = self.span().map_or(0, |span| span.next);
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            let node = (at < end).then_some(Node { at, ..self })?;
            at = node.span()?.next;
            Some(node)
        })
    }

    fn span(self) -> Option<&'a Span> {
        self.tree.spans.get(self.at)
    }
}

/// The JSON value that the text begins with.
pub(in crate::event) fn first_value(text: &str) -> serde_json::Result<&str> {
    <&RawValue>::deserialize(&mut serde_json::Deserializer::from_str(text)).map(RawValue::get)
}

/// Whether the text is one JSON value; the error has line and column.
pub(in crate::event) fn check_syntax(text: &str) -> serde_json::Result<()> {
    serde_json::from_str::<IgnoredAny>(text).map(|_| ())
}

/// The same of an array, of which it says more exactly what is wrong.
pub(in crate::event) fn check_array(text: &str) -> serde_json::Result<()> {
    serde_json::from_str::<Vec<IgnoredAny>>(text).map(|_| ())
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

fn unquoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"')
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
        let tree = Tree::of(&document, EventPart::Event, 2).unwrap();
        tree.root().members().map(|(name, value)| (name.name().into_owned(), value.text().to_owned())).collect()
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
        let text = Tree::of(&document, EventPart::Event, 0).unwrap().root().string().unwrap();
        assert_eq!(text, "plain é");
        assert_eq!(text.as_ptr(), document[2..].as_ptr());
    }

    #[test]
    fn strings_are_decoded_and_lone_surrogates_told() {
        let string = |text: &str| Tree::of(&ByteString::from(text), EventPart::Event, 0).unwrap().root().string();
        assert_eq!(string(r#""""#).unwrap(), "");
        assert_eq!(string(r#""a\"\\\n\u00e9\ud83d\ude00""#).unwrap(), "a\"\\\né😀");
        for lone in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\n""#, r#""\ud800\ud800""#, r#""\ud800x""#] {
            assert_eq!(string(lone), Err(NoText::LoneSurrogate), "{lone}");
        }
        assert_eq!(string("1"), Err(NoText::NotAString));
    }

    #[test]
    fn items_are_counted_beyond_those_kept() {
        let document = ByteString::from("[1, [2], \"]\" ,{\"a\":[]}]");
        let array = Tree::of(&document, EventPart::Event, 2).unwrap();
        assert_eq!(array.root().total(), 4);
        assert_eq!(array.root().items().map(Node::text).collect::<Vec<_>>(), ["1", "[2]"]);
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
