//! One event of a file: its text as it is sent, where it stood, and what it touches.
//!
//! What it touches is told by the service's own reading of events, with limits so wide that what the service accepts is
//! accepted here too, whatever its settings. What is no valid event even so touches nothing, and is sent all the same:
//! the service says what is wrong with it.

use std::sync::Arc;

use ahash::RandomState;
use bytes::Bytes;
use smallvec::SmallVec;

use crate::event::pattern::Pattern;
use crate::event::validate::validate;
use crate::event::wire::{BodyForm, RawEvent, Split, split};
use crate::event::{Action, Event, Few, Limits};

/// Where an event begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputPlace {
    /// The file as it was named on the command line.
    pub file: Arc<str>,
    /// From 1; 0 stands for the whole file.
    pub line: u64,
}

impl std::fmt::Display for InputPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The number of the event over all files, from 0.
    pub number: u64,
    pub place: InputPlace,
    /// One line, without its end.
    pub text: Bytes,
    pub touches: Touches,
    /// Bytes of the input up to its end.
    pub read_to: u64,
}

/// Which other events it must keep its place among.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touches {
    Nothing,
    /// Keyed hashes of its keys, each once.
    Keys {
        keys: SmallVec<[u64; 1]>,
        /// Whether it may have a version. Repeating such an event does not undo a newer one that has a version too.
        guarded: bool,
    },
    /// It deletes by pattern.
    Everything,
}

/// Tells what events touch.
#[derive(Clone)]
pub struct Looker {
    limits: Limits,
    hasher: RandomState,
}

impl Looker {
    pub fn new() -> Self {
        let limits = Limits { max_events: 2, ..Limits::widest() };
        Looker { limits, hasher: RandomState::new() }
    }

    pub fn touches(&self, text: &Bytes) -> Touches {
        match self.event(text).map(|event| event.action) {
            None => Touches::Nothing,
            Some(Action::DeletePattern { .. }) => Touches::Everything,
            Some(Action::Set(entries)) => self.keys(text, entries.iter().map(|entry| &entry.key)),
            Some(Action::Get(keys) | Action::Delete(keys)) => self.keys(text, keys.iter()),
        }
    }

    /// The event itself, if it is valid.
    pub fn event(&self, text: &Bytes) -> Option<Event> {
        validate(&raw(text)?, &self.limits, 1).ok()
    }

    /// The patterns of a DELETE_PATTERN; none of any other.
    pub fn patterns(&self, text: &Bytes) -> Few<Pattern> {
        match self.event(text).map(|event| event.action) {
            Some(Action::DeletePattern { patterns, .. }) => patterns,
            _ => Few::new(),
        }
    }

    fn keys<'k>(&self, text: &Bytes, keys: impl Iterator<Item = &'k crate::event::CacheKey>) -> Touches {
        let mut hashes: SmallVec<[u64; 1]> = keys.map(|key| self.hasher.hash_one(key.as_str())).collect();
        hashes.sort_unstable();
        hashes.dedup();
        Touches::Keys { keys: hashes, guarded: memchr::memmem::find(text, b"\"version\"").is_some() }
    }
}

/// The keys that an event names.
pub fn named(event: &Event) -> Vec<&str> {
    match &event.action {
        Action::Set(entries) => entries.iter().map(|entry| entry.key.as_str()).collect(),
        Action::Get(keys) | Action::Delete(keys) => keys.iter().map(|key| key.as_str()).collect(),
        Action::DeletePattern { .. } => Vec::new(),
    }
}

fn raw(text: &Bytes) -> Option<RawEvent> {
    match split(text, BodyForm::NdJson, 2) {
        Ok(Split::Batch(events)) => events.into_iter().next(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touches(text: &str) -> Touches {
        Looker::new().touches(&Bytes::copy_from_slice(text.as_bytes()))
    }

    fn keys(text: &str) -> usize {
        match touches(text) {
            Touches::Keys { keys, guarded: false } => keys.len(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn an_event_touches_each_key_it_names_once() {
        assert_eq!(keys(r#"{"key":"SET","value":{"data":{"key":"k","value":1}}}"#), 1);
        assert_eq!(keys(r#"{"key":"SET","value":{"data":[{"key":"k","value":1},{"key":"k","value":2}]}}"#), 1);
        assert_eq!(keys(r#"{"key":"SET","value":{"data":["http://h/a","http://h/b"]}}"#), 2);
        assert_eq!(keys(r#"{"key":"DELETE","value":{"data":"[\"a\",\"b\"]"}}"#), 2);
        let looker = Looker::new();
        let of = |text: &str| looker.touches(&Bytes::copy_from_slice(text.as_bytes()));
        let set = of(r#"{"key":"SET","value":{"data":{"key":"k","value":1}}}"#);
        assert_eq!(set, of(r#"{"key":"DELETE","value":{"data":"k"}}"#));
        assert_ne!(set, of(r#"{"key":"DELETE","value":{"data":"l"}}"#));
    }

    #[test]
    fn a_pattern_touches_everything_and_what_is_no_event_nothing() {
        assert_eq!(touches(r#"{"key":"DELETE_PATTERN","value":{"data":"*"}}"#), Touches::Everything);
        for text in
            ["", "{", "7", "[]", "\u{0}", r#"{"key":"SET"}"#, r#"{"key":"DELETE_PATTERN","value":{"data":"["}}"#]
        {
            assert_eq!(touches(text), Touches::Nothing, "{text}");
        }
        let not_text = Bytes::from_static(b"{\"key\":\"\xff\"}");
        assert_eq!(Looker::new().touches(&not_text), Touches::Nothing);
    }
}
