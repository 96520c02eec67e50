//! The contract's clauses about the event, one by one.

use bytes::Bytes;

use super::*;
use crate::event::invalid::Fault;
use crate::event::wire::{BodyForm, Split, split};
use crate::event::{CacheKey, EntityTag, FetchTarget, OwnKeys, SetEntry, Source};

mod data;
mod envelope;
mod plain;
mod set;

fn limits() -> Limits {
    Limits {
        max_events: 10,
        max_keys: 3,
        max_key_bytes: 16,
        default_ttl: None,
        max_ttl_seconds: 1000,
        allow_match_all: false,
        own_keys: OwnKeys::new("rcs:v:", "rcs:journal"),
        stores: Some(["main".to_owned()].into()),
    }
}

fn check_with(event: &str, limits: &Limits) -> Result<Event, Invalid> {
    match split(&Bytes::from(event.to_owned()), BodyForm::NdJson, 1).unwrap() {
        Split::Batch(events) => validate(&events[0], limits, MAX_FAULTS),
        Split::One(_) => panic!("a line is a batch of one"),
    }
}

/// The event of this type whose `data` and further members of `value` are given.
fn event(kind: &str, data: &str) -> String {
    format!(r#"{{"key":"{kind}","value":{{"data":{data}}}}}"#)
}

#[track_caller]
fn valid(event: &str) -> Event {
    check_with(event, &limits()).unwrap_or_else(|invalid| panic!("{event}: {invalid:?}"))
}

#[track_caller]
fn faults(event: &str) -> Vec<Fault> {
    match check_with(event, &limits()) {
        Err(Invalid { kind: InvalidKind::Faults(faults), .. }) if !faults.is_empty() => faults,
        other => panic!("{event}: {other:?}"),
    }
}

/// That the event has faults at these places and at no others.
#[track_caller]
fn assert_faults(event: &str, pointers: &[&str]) {
    let faults = faults(event);
    let found: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
    assert_eq!(found, pointers, "{event}: {faults:?}");
}

#[track_caller]
fn entries(event: &str) -> Vec<SetEntry> {
    match valid(event).action {
        Action::Set(entries) => entries.into_vec(),
        other => panic!("{other:?}"),
    }
}

/// The bytes that a SET of this one entry would store.
#[track_caller]
fn stored(entry: &str) -> Bytes {
    match entries(&event("SET", entry)).remove(0).source {
        Source::Inline(bytes) => bytes,
        Source::Blob(url) => panic!("{url}"),
    }
}

fn keys_of(event: &str) -> Vec<String> {
    let texts = |keys: Vec<CacheKey>| keys.iter().map(|key| key.as_str().to_owned()).collect();
    match valid(event).action {
        Action::Set(entries) => texts(entries.into_iter().map(|entry| entry.key).collect()),
        Action::Get(keys) | Action::Delete(keys) => texts(keys.into_vec()),
        Action::DeletePattern { patterns, .. } => patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect(),
    }
}
