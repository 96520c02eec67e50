//! What must hold of any input. The fuzzer looks for inputs of which it does not; a test holds it for those that are kept.

use std::net::IpAddr;
use std::path::PathBuf;

use bytes::Bytes;
use redis_cache_sync::blob::guard::{AllowedHosts, is_public};
use redis_cache_sync::config::{Args, Config};
use redis_cache_sync::event::invalid::InvalidKind;
use redis_cache_sync::event::pattern::Pattern;
use redis_cache_sync::event::sources::{Format, Headers, Mapping, Message, Parsed, ValueMode, parse};
use redis_cache_sync::event::validate::validate;
use redis_cache_sync::event::wire::{BodyForm, RawEvent, Split, SplitError, split};
use redis_cache_sync::event::{Action, BlobUrl, Event, Limits, OwnKeys};
use serde_json::Value;
use serde_json::value::RawValue;
use url::{Host, Url};

/// A request's body behind a byte that says in which form: the same syntax as serde_json's, and what is valid says what
/// serde_json reads there.
pub fn events(data: &[u8]) {
    let Some((&form, body)) = data.split_first() else { return };
    let form = if form % 2 == 0 { BodyForm::Json } else { BodyForm::NdJson };
    let limits = Limits {
        max_events: 100,
        max_keys: 10,
        max_key_bytes: 64,
        default_ttl: None,
        max_ttl_seconds: 1000,
        allow_match_all: false,
        own_keys: OwnKeys::new("rcs:v:", "rcs:journal"),
        stores: Some(["main".to_owned()].into()),
    };
    let body = Bytes::copy_from_slice(body);
    let is_json = serde_json::from_slice::<&RawValue>(&body).is_ok();
    match split(&body, form, limits.max_events) {
        Ok(Split::One(raw)) => {
            assert!(is_json);
            check_event(&raw, &limits, Some(&body));
        }
        Ok(Split::Batch(events)) => {
            assert!(is_json || form == BodyForm::NdJson);
            assert!(events.len() <= limits.max_events);
            for raw in &events {
                check_event(raw, &limits, None);
            }
        }
        Err(SplitError::Malformed { detail }) => {
            assert!(form == BodyForm::Json && (!is_json || detail.contains("nested deeper")), "{detail}");
        }
        Err(SplitError::TooManyEvents { .. }) => {}
    }
}

/// A body behind a byte that says in which format, and with which headers: whatever it is, it is taken apart or refused, and what
/// is valid of it keeps to the limits.
pub fn notifications(data: &[u8]) {
    let Some((&choice, body)) = data.split_first() else { return };
    let format = Format::ALL[usize::from(choice) % Format::ALL.len()];
    let limits = Limits {
        max_events: 100,
        max_keys: 10,
        max_key_bytes: 64,
        default_ttl: None,
        max_ttl_seconds: 1000,
        allow_match_all: false,
        own_keys: OwnKeys::new("rcs:v:", "rcs:journal"),
        stores: Some(["main".to_owned()].into()),
    };
    let all = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-type", "Microsoft.Storage.BlobCreated"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("x-amz-sns-message-type", "Notification"),
    ];
    let headers = &all[..usize::from(choice / 8) % (all.len() + 1)];
    let headers = Pairs(headers);
    let Ok(Parsed::Elements(elements)) = parse(format, &Message { headers: &headers, body, max_elements: 10_000 })
    else {
        return;
    };
    let (count, key) = (elements.len(), "{bucket}/{object}".parse().expect("a template"));
    let mapping = Mapping {
        name: "s".into(),
        format,
        key,
        ttl: None,
        include: vec![],
        exclude: vec![],
        value: ValueMode::Facts,
        store: None,
    };
    let mapped = mapping.events(elements, &limits);
    assert_eq!(mapped.events.len() as u64 + mapped.ignored.iter().sum::<u64>(), count as u64);
    for event in mapped.events.iter().flatten() {
        let (Action::Set(_) | Action::Delete(_)) = &event.action else { panic!("{event:?}") };
        assert!(event.version.as_ref().is_none_or(|version| version.stored().starts_with(b"s")), "{event:?}");
        let keys: Vec<&str> = match &event.action {
            Action::Set(entries) => entries.iter().map(|entry| entry.key.as_str()).collect(),
            Action::Delete(keys) => keys.iter().map(|key| key.as_str()).collect(),
            _ => Vec::new(),
        };
        assert!(keys.len() == 1 && (1..=64).contains(&keys[0].len()) && !keys[0].starts_with("rcs:v:"), "{event:?}");
    }
}

struct Pairs<'a>(&'a [(&'a str, &'a str)]);

impl Headers for Pairs<'_> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_bytes())
    }
}

fn check_event(raw: &RawEvent, limits: &Limits, body: Option<&Bytes>) {
    match validate(raw, limits, 100) {
        Ok(event) => {
            let read = body.and_then(|body| serde_json::from_slice::<Value>(body).ok());
            if let (Some(read), Some(body)) = (read, body) {
                agree(&event, &read);
                if read.get("nobody's").is_none() {
                    agree_with_an_extra(&event, body, limits);
                }
            }
        }
        Err(invalid) => {
            if let InvalidKind::Faults(faults) = &invalid.kind {
                assert!(!faults.is_empty());
                assert!(faults.iter().all(|fault| fault.pointer.is_empty() || fault.pointer.starts_with('/')));
            }
            let _ = serde_json::to_string(&invalid.problem()).unwrap();
        }
    }
}

/// An extra member changes nothing but how closely the event is looked at.
fn agree_with_an_extra(event: &Event, body: &Bytes, limits: &Limits) {
    let text = std::str::from_utf8(body).expect("a valid event is UTF-8");
    let with_extra = text.replacen('{', r#"{"nobody's":0,"#, 1);
    match split(&Bytes::from(with_extra), BodyForm::Json, 1) {
        Ok(Split::One(raw)) => assert_eq!(validate(&raw, limits, 100).as_ref(), Ok(event)),
        other => panic!("{other:?}"),
    }
}

fn agree(event: &Event, read: &Value) {
    assert_eq!(read["key"], event.action.name().as_str());
    assert_eq!(read.get("id").and_then(Value::as_str), event.id.as_deref());
    let data = match &read["value"]["data"] {
        Value::String(text) => serde_json::from_str(text)
            .ok()
            .filter(|inside: &Value| inside.is_object() || inside.is_array())
            .unwrap_or_else(|| Value::String(text.clone())),
        other => other.clone(),
    };
    let keys: Vec<&str> = match &event.action {
        Action::Set(entries) => entries.iter().map(|entry| entry.key.as_str()).collect(),
        Action::Get(keys) | Action::Delete(keys) => keys.iter().map(|key| key.as_str()).collect(),
        Action::DeletePattern { patterns, .. } => patterns.iter().map(|pattern| pattern.as_str()).collect(),
    };
    let list = match &data {
        Value::Array(items) => items.clone(),
        Value::Object(members) => match members.get("keys").or(members.get("patterns")) {
            Some(Value::Array(items)) => items.clone(),
            _ => vec![data.clone()],
        },
        _ => vec![data.clone()],
    };
    assert_eq!(list.len(), keys.len());
    for (item, key) in list.iter().zip(keys) {
        let named = match item {
            Value::String(text) => Some(text.as_str()),
            _ => item.get("key").or(item.get("pattern")).and_then(Value::as_str),
        };
        let is_url = named.is_none_or(|named| matches!(event.action, Action::Set(_)) && named != key);
        assert!(is_url || named == Some(key), "{named:?} became {key:?}");
    }
}

/// Two patterns and a key, a line each: never slow, and what no key may share is not said to be shared.
pub fn patterns(data: &[u8]) {
    let mut lines = data.splitn(3, |&byte| byte == b'\n');
    let mut text = || String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let (one, other, key) = (Pattern::parse(text(), true), Pattern::parse(text(), true), text());
    let (Ok(one), Ok(other)) = (one, other) else { return };
    let share = one.matches(key.as_bytes()) && other.matches(key.as_bytes());
    assert!(!share || one.may_overlap(&other), "{one:?} and {other:?} share {key:?}");
    assert_eq!(one.may_overlap(&other), other.may_overlap(&one));
}

/// A URL, and behind a line end a list of allowed hosts: what is let through is public or listed, and what is shown has
/// no query.
pub fn urls(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (text, list) = text.split_once('\n').unwrap_or((&text, ""));
    let Some(blob) = BlobUrl::parse(text) else { return };
    let url = blob.expose();
    assert!(matches!(url.scheme(), "http" | "https"));
    assert!(url.username().is_empty() && url.password().is_none());
    let shown = format!("{blob} {blob:?}");
    assert!(!shown.contains(['?', '#']), "{shown}");
    // What is asked for is what was judged: parsed once more it is the same.
    assert_eq!(Url::parse(url.as_str()).as_ref(), Ok(url));
    let host = url.host().expect("an http URL has a host");
    if let Ok(judged) = AllowedHosts::default().judge(url) {
        assert!(matches!(url.port_or_known_default(), Some(80 | 443)));
        let ip = match &host {
            Host::Domain(name) => return assert!(name.parse::<IpAddr>().is_err(), "{name} is an address"),
            Host::Ipv4(ip) => IpAddr::V4(*ip),
            Host::Ipv6(ip) => IpAddr::V6(*ip),
        };
        assert_eq!(AllowedHosts::judge_address(judged, &host, ip).is_ok(), is_public(ip));
    }
    if let Ok(allowed) = list.parse::<AllowedHosts>() {
        assert_eq!(allowed.to_string().parse(), Ok(allowed), "what is displayed parses to the same");
    }
}

/// The settings' file: faults or settings, and each fault says something.
pub fn settings(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // What such settings name would be read.
    if ["file", "tls", "ca"].iter().any(|part| text.contains(part)) {
        return;
    }
    let file: PathBuf = std::env::temp_dir().join(format!("settings-{}.toml", std::process::id()));
    std::fs::write(&file, &*text).expect("a file to read from");
    match Config::load(Args { file: Some(file), ..Args::default() }) {
        Ok(loaded) => assert!(!loaded.sources.is_empty()),
        Err(faults) => assert!(!faults.to_string().is_empty()),
    }
}
