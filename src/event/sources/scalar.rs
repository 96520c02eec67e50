//! Members of a notification whose type nobody can rely on: sizes and generations come as numbers from one producer and
//! as texts from the next, and what is missing here is `null` there.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The text of a string, or the digits of an integer. Anything else is as good as missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scalar<'a>(Option<Cow<'a, str>>);

impl<'a> Scalar<'a> {
    /// None where it is missing or empty.
    pub fn text(self) -> Option<Cow<'a, str>> {
        self.0.filter(|text| !text.is_empty())
    }

    /// The same, looked at.
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref().filter(|text| !text.is_empty())
    }

    /// Digits alone make a number.
    pub fn number<N: std::str::FromStr>(&self) -> Option<N> {
        number(self.as_str()?)
    }
}

impl<'a> From<Option<Cow<'a, str>>> for Scalar<'a> {
    fn from(text: Option<Cow<'a, str>>) -> Self {
        Scalar(text)
    }
}

/// Digits and nothing else, as a number; none where they are too many.
pub(super) fn number<N: std::str::FromStr>(text: &str) -> Option<N> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// An ETag without its quotes.
pub(super) fn unquoted(etag: Cow<'_, str>) -> Cow<'_, str> {
    let inside = etag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).map(str::len);
    match (inside, etag) {
        (None, etag) => etag,
        (Some(length), Cow::Borrowed(etag)) => Cow::Borrowed(etag.get(1..=length).unwrap_or_default()),
        (Some(length), Cow::Owned(etag)) => Cow::Owned(etag.get(1..=length).unwrap_or_default().to_owned()),
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any).map(Scalar)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(number.to_string())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(number.to_string())))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_integers_have_a_text_and_nothing_else_has() {
        let text = |json: &str| serde_json::from_str::<Scalar>(json).expect(json).text().map(Cow::into_owned);
        for (json, expected) in [
            (r#""a""#, "a"),
            (r#""\u00e9""#, "é"),
            ("7", "7"),
            ("18446744073709551615", "18446744073709551615"),
            ("-1", "-1"),
        ] {
            assert_eq!(text(json).as_deref(), Some(expected));
        }
        for json in ["null", "true", "1.5", r#""""#, "[[1]]", r#"{"a":{"b":1}}"#] {
            assert_eq!(text(json), None, "{json}");
        }
    }

    #[test]
    fn a_number_is_digits() {
        assert_eq!(number::<u128>("1699999999999999999999"), Some(1_699_999_999_999_999_999_999));
        for none in ["", "+1", "-1", "1.0", " 1", "0x1", "9999999999999999999999999999999999999999"] {
            assert_eq!(number::<u128>(none), None, "{none}");
        }
    }
}
