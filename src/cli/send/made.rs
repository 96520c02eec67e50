//! Events that `send` makes of files, rows and keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use memchr::memchr_iter;
use serde::Serialize;

use super::event::InputPlace;

/// What a source of such events comes to next.
pub enum MadeStep {
    Made(Made),
    /// Nothing: to come to the next one may take a while.
    Pause,
}

/// What became of a part of a source.
pub struct Made {
    pub place: InputPlace,
    /// The event; or what stands in its place among those that were not stored, and why there is none.
    pub event: Result<Bytes, (Bytes, String)>,
}

/// What may stand in for the value of an event, so that the service refuses it.
const NO_VALUE: Option<&str> = None;

#[derive(Serialize)]
struct Event<'a, T> {
    key: &'static str,
    /// Tells where it came from if the value is missing: the service ignores it.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    value: Value<T>,
}

#[derive(Serialize)]
struct Value<T> {
    data: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u32>,
}

#[derive(Serialize)]
struct MadeEntry<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
}

/// A SET of these bytes, `ttl` in seconds.
pub fn set(key: &str, value: Vec<u8>, ttl: Option<u32>) -> Bytes {
    let (value, encoding) = as_text(value);
    line(&Event {
        key: "SET",
        file: None,
        value: Value { data: MadeEntry { key, value: Some(&value), encoding }, ttl },
    })
}

/// In its place among the events that were not stored, where there is no value. Sent again, it is refused.
pub fn set_without_value(key: &str, file: &str) -> Bytes {
    let data = MadeEntry { key, value: NO_VALUE, encoding: None };
    line(&Event { key: "SET", file: Some(file), value: Value { data, ttl: None } })
}

/// A DELETE of these keys.
pub fn delete(keys: &[String]) -> Bytes {
    line(&Event { key: "DELETE", file: None, value: Value { data: keys, ttl: None } })
}

/// A value as an event carries it: as text, or as base64 where it is no text, or has NULs enough to be longer as text. In JSON
/// each of them takes six bytes.
fn as_text(content: Vec<u8>) -> (String, Option<&'static str>) {
    let is_shorter_as_text = 5 * memchr_iter(0, &content).count() <= content.len() / 3;
    match String::from_utf8(content) {
        Ok(text) if is_shorter_as_text => (text, None),
        Ok(text) => (STANDARD.encode(text), Some("base64")),
        Err(bytes) => (STANDARD.encode(bytes.as_bytes()), Some("base64")),
    }
}

fn line(event: &impl Serialize) -> Bytes {
    // Texts and numbers alone: there is nothing that could not be written.
    serde_json::to_vec(event).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_goes_as_text_or_as_base64_whichever_is_shorter() {
        let text = |value: &[u8]| String::from_utf8(set("k", value.to_vec(), Some(5)).to_vec()).unwrap();
        assert_eq!(text(b"a\nb"), r#"{"key":"SET","value":{"data":{"key":"k","value":"a\nb"},"ttl":5}}"#);
        let binary = |value| {
            format!(r#"{{"key":"SET","value":{{"data":{{"key":"k","value":"{value}","encoding":"base64"}},"ttl":5}}}}"#)
        };
        assert_eq!(text(b"\xff"), binary("/w=="));
        assert_eq!(text(&[0; 6]), binary("AAAAAAAA"), "six bytes for each NUL otherwise");
    }
}
