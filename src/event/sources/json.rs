//! A body as JSON of one shape.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::SourceFault;

/// Bytes of an element at least, as real producers send them. Only a body with room for more elements of that size than there may be is
/// counted before it is read: that costs a pass.
const LEAST_BYTES: usize = 64;

/// Some senders begin a text with it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The body without a byte order mark and the blanks around it.
pub(super) fn trimmed(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body).trim_ascii()
}

/// The whole body as JSON of this shape.
///
/// # Errors
/// When it is not; the detail tells where, and nothing of the body's texts.
pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, SourceFault> {
    let body = trimmed(body);
    // To know once that all of it is UTF-8 costs less than to look at each of its strings.
    let read = match std::str::from_utf8(body) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(body),
    };
    read.map_err(|error| malformed(&error))
}

/// The whole body as an object with these members.
///
/// # Errors
/// As [`read`].
pub(super) fn read_object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, SourceFault> {
    read(body).map(|Members(members)| members)
}

/// A text that stands in the body, as an object with these members; `part` is its name.
///
/// # Errors
/// When it is not; the detail tells where in the text.
pub(super) fn read_part<'a, T: Deserialize<'a>>(part: &str, text: &'a str) -> Result<T, SourceFault> {
    serde_json::from_str(text).map(|Members(members)| members).map_err(|error| malformed_in(part, &error))
}

/// An object with these members, and nothing else: a struct alone would be read from an array of values too.
pub(super) struct Members<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersOf(PhantomData)).map(Members)
    }
}

struct MembersOf<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for MembersOf<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members))
    }
}

/// What is `null` here is missing there.
pub(super) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Whether so long a body may have more than `max` elements, in which case they are to be counted first: what is made of an element may take
/// a hundred times its bytes.
pub(super) fn may_have_more(body: &[u8], max: usize) -> bool {
    body.len() / LEAST_BYTES > max
}

/// The elements of an array, or the one that stands alone. Each is read by itself where not all have this shape.
///
/// # Errors
/// When the body is not JSON, or has more elements than `max`.
pub(super) fn read_each<'a, T: Deserialize<'a>>(
    body: &'a [u8],
    max: usize,
) -> Result<Vec<Result<T, SourceFault>>, SourceFault> {
    if trimmed(body).first() != Some(&b'[') {
        return match read_object(body) {
            Ok(element) => Ok(vec![Ok(element)]),
            Err(fault) => read::<&RawValue>(body).map(|_| vec![Err(fault)]),
        };
    }
    // What is ignored takes no memory.
    if may_have_more(body, max) && read::<Vec<IgnoredAny>>(body)?.len() > max {
        return Err(SourceFault::TooMany);
    }
    match read::<Vec<Members<T>>>(body) {
        Ok(elements) => Ok(elements.into_iter().map(|Members(element)| Ok(element)).collect()),
        Err(_) => Ok(one_by_one(read(body)?)),
    }
}

/// Elements read one by one, which costs more than to read them together.
pub(super) fn one_by_one<'a, T: Deserialize<'a>>(elements: Vec<&'a RawValue>) -> Vec<Result<T, SourceFault>> {
    elements.into_iter().map(|element| read_part("it", element.get())).collect()
}

/// serde_json's own texts may quote a value, so only the kind of fault and its place are told.
fn malformed(error: &serde_json::Error) -> SourceFault {
    malformed_in("the body", error)
}

/// The same of a text that stands in the body, by its name.
fn malformed_in(part: &str, error: &serde_json::Error) -> SourceFault {
    let what = match error.classify() {
        serde_json::error::Category::Data => "does not have the shape of this format",
        _ => "is not JSON",
    };
    SourceFault::Malformed(format!("{part} {what}: line {}, column {}", error.line(), error.column()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_quotes_nothing() {
        for (text, kind) in
            [(r#"[1 "secret"#, "not JSON"), (r#"["secret"]"#, "shape of this format"), ("secret", "not JSON")]
        {
            let fault = read::<Vec<u8>>(text.as_bytes()).expect_err(text).to_string();
            assert!(fault.contains(kind) && !fault.contains("secret"), "{fault}");
        }
        assert_eq!(read::<Vec<u8>>(b"\xef\xbb\xbf [1]\n"), Ok(vec![1]));
    }

    #[test]
    fn an_array_of_values_is_no_object() {
        #[derive(Debug, serde::Deserialize)]
        struct Named {
            name: String,
        }
        assert_eq!(
            read_object::<Named>(br#"{"name":"a","other":[1]}"#).map(|named| named.name).ok().as_deref(),
            Some("a")
        );
        for none in [r#"["a"]"#, "[]", "null", r#""a""#] {
            assert!(read_object::<Named>(none.as_bytes()).is_err(), "{none}");
        }
        let each = read_each::<Named>(br#"[{"name":"a"},["a"]]"#, 2).expect("JSON");
        assert_eq!(each.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false]);
    }
}
