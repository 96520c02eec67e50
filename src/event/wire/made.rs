//! A valid event as the JSON that `POST /events` takes: for whoever keeps one and runs it later.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use crate::event::hex::hex;
use crate::event::target::FetchTarget;
use crate::event::time::rfc3339_millis;
use crate::event::{Action, BlobUrl, CacheKey, Event, Few, SetEntry, Source};

#[derive(Serialize)]
struct Written<'a> {
    key: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Version<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    value: Value<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Version<'a> {
    Number(u64),
    Text(&'a str),
}

#[derive(Serialize)]
struct Value<'a> {
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Entries(#[serde(serialize_with = "entries")] &'a Few<SetEntry>),
    Keys(#[serde(serialize_with = "keys")] &'a Few<CacheKey>),
    Patterns { patterns: Vec<&'a str>, dry_run: bool },
}

#[derive(Serialize, Default)]
struct Entry<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

/// The event's JSON. A version that is a place of a storage's own is left out: JSON has no form for it.
pub fn event_text(event: &Event) -> Vec<u8> {
    let data = match &event.action {
        Action::Set(entries) => Data::Entries(entries),
        Action::Get(keys) | Action::Delete(keys) => Data::Keys(keys),
        Action::DeletePattern { patterns, dry_run } => {
            Data::Patterns { patterns: patterns.iter().map(|pattern| pattern.as_str()).collect(), dry_run: *dry_run }
        }
    };
    let version = event.version.as_ref();
    let number = version.and_then(|version| version.number()).map(Version::Number);
    let version = number.or_else(|| version.and_then(|version| version.text()).map(Version::Text));
    let (key, id, time) = (event.action.name().as_str(), event.id.as_deref(), event.time.and_then(rfc3339_millis));
    let written = Written { key, id, version, time, value: Value { data } };
    // A struct of texts and numbers always becomes JSON.
    serde_json::to_vec(&written).unwrap_or_default()
}

fn entries<S: Serializer>(entries: &Few<SetEntry>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(Some(entries.len()))?;
    for SetEntry { key, source, ttl, expected } in entries {
        let ttl = ttl.map(|ttl| ttl.seconds());
        let etag = expected.as_ref().and_then(|expected| Some(expected.etag.as_ref()?.to_string()));
        let sha256 = expected.as_ref().and_then(|expected| Some(hex(expected.sha256.as_ref()?)));
        let bytes = expected.as_ref().and_then(|expected| expected.bytes);
        let (etag, sha256) = (etag.as_deref(), sha256.as_deref());
        let entry = Entry { key: key.as_str(), ttl, etag, sha256, bytes, ..Entry::default() };
        match source {
            Source::Blob(FetchTarget::Url(url)) => list.serialize_element(&Entry { url: Some(&full(url)), ..entry })?,
            Source::Blob(FetchTarget::Object(object)) => {
                let (store, object) = (Some(object.store()), Some(object.path()));
                list.serialize_element(&Entry { store, object, ..entry })?
            }
            Source::Inline(value) => match str::from_utf8(value) {
                Ok(text) => list.serialize_element(&Entry { value: Some(text), ..entry })?,
                Err(_) => {
                    let text = STANDARD.encode(value);
                    list.serialize_element(&Entry { value: Some(&text), encoding: Some("base64"), ..entry })?;
                }
            },
        }
    }
    list.end()
}

/// With path and query as they were written.
fn full(url: &BlobUrl) -> String {
    let parsed = url.expose();
    [&parsed[..url::Position::BeforePath], url.target()].concat()
}

fn keys<S: Serializer>(keys: &Few<CacheKey>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(keys.iter().map(CacheKey::as_str))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::validate::{MAX_FAULTS, validate};
    use crate::event::wire::{BodyForm, Split, split};
    use crate::event::{Limits, OwnKeys};

    fn read(text: &[u8]) -> Event {
        let limits = Limits {
            max_events: 1,
            max_keys: 100,
            max_key_bytes: 1024,
            default_ttl: None,
            max_ttl_seconds: 1000,
            allow_match_all: false,
            own_keys: OwnKeys::new("rcs:v:", "rcs:journal"),
            stores: None,
        };
        let Ok(Split::One(raw)) = split(&Bytes::copy_from_slice(text), BodyForm::Json, 1) else { panic!("one event") };
        validate(&raw, &limits, MAX_FAULTS).expect("a valid event")
    }

    #[test]
    fn an_event_that_is_written_is_the_same_when_it_is_read() {
        for text in [
            r#"{"key":"SET","id":"e\"1","value":{"data":[{"key":"a","value":"v\n"},{"key":"b","value":{"x":1.0},"ttl":7}]}}"#,
            r#"{"key":"SET","version":9223372036854775807,"value":{"data":{"key":"k","value":"AAH/","encoding":"base64"}}}"#,
            r#"{"key":"SET","version":"2026-01","value":{"data":"http://h.test/a%20b//c?sig=x%2F1"}}"#,
            r#"{"key":"SET","value":{"data":{"key":"k","url":"https://h.test:8443/x?"},"ttl":"60"}}"#,
            r#"{"key":"SET","value":{"data":{"key":"k","store":"main","object":"bucket/a b"}}}"#,
            r#"{"key":"SET","value":{"data":{"key":"k","url":"http://h.test/x","etag":"W/\"a\"","bytes":7,"sha256":"00ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffab"}}}"#,
            r#"{"key":"DELETE","value":{"data":["a","é"]}}"#,
            r#"{"key":"DELETE","time":"2026-11-28T22:10:23.403Z","value":{"data":["a","é"]}}"#,
            r#"{"key":"DELETE_PATTERN","value":{"data":{"patterns":["a*","b\\*"],"dry_run":true}}}"#,
        ] {
            let event = read(text.as_bytes());
            assert_eq!(read(&event_text(&event)), event, "{text}");
        }
    }
}
