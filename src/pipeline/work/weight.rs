//! Weight: what an event holds in memory from its acceptance to its answer, beside its body. Measured with thousands of each
//! kind that wait for Redis or for their blobs (`make torture`, rows `memory-…`), and rounded up.

use crate::event::invalid::{Invalid, InvalidKind};
use crate::event::pattern::Pattern;
use crate::event::wire::RawEvent;
use crate::event::{Action, Event, Source};

/// Bytes of an entry by which a request is judged that could never be taken on: one event of `event.max_keys` always can.
pub const LEAST_BYTES: usize = 256;
/// Bytes of an event, whatever it asks for: its answer and its place in the request's work.
const EVENT_BYTES: usize = 192;
/// Bytes of an entry: slot, outcome, stopwatch, operation, command, a place in a queue.
const ENTRY_BYTES: usize = 512;
/// Bytes of an entry that waits for its blob, besides: the URL, taken apart, a lane, a fetch's order, a place among its host's.
const BLOB_BYTES: usize = 2048;
/// Bytes of a fault, beside its texts, and of what is written about it.
const FAULT_BYTES: usize = 256;

/// Bytes of a valid event.
pub fn of_event(event: &Event, raw: &RawEvent) -> usize {
    let entries = event.action.entries() * ENTRY_BYTES;
    let more = match &event.action {
        Action::Set(entries) => {
            let (mut is_decoded, mut blobs) = (false, 0);
            for entry in entries {
                match &entry.source {
                    Source::Inline(value) => is_decoded |= !raw.holds(value),
                    Source::Blob(target) => {
                        is_decoded |= !raw.holds(entry.key.as_str().as_bytes());
                        blobs += BLOB_BYTES + target.text_bytes();
                    }
                }
            }
            // What was decoded is a text of its own beside the body, and no longer than what it was made of.
            blobs + if is_decoded { raw.len() } else { 0 }
        }
        Action::Get(keys) | Action::Delete(keys) => {
            let is_decoded = keys.iter().any(|key| !raw.holds(key.as_str().as_bytes()));
            if is_decoded { raw.len() } else { 0 }
        }
        Action::DeletePattern { patterns, .. } => patterns.iter().map(|pattern| pattern.held_bytes()).sum(),
    };
    EVENT_BYTES + entries + more
}

/// Bytes of an event that was made here: nothing of it is a part of the body.
pub fn of_made(event: &Event) -> usize {
    let entries = event.action.entries() * ENTRY_BYTES;
    let own = match &event.action {
        Action::Set(entries) => {
            let value = |source: &Source| match source {
                Source::Inline(value) => value.len(),
                Source::Blob(target) => BLOB_BYTES + target.text_bytes(),
            };
            entries.iter().map(|entry| entry.key.as_str().len() + value(&entry.source)).sum()
        }
        Action::Get(keys) | Action::Delete(keys) => keys.iter().map(|key| key.as_str().len()).sum(),
        Action::DeletePattern { patterns, .. } => patterns.iter().map(Pattern::held_bytes).sum::<usize>(),
    };
    EVENT_BYTES + entries + own
}

/// Bytes of an invalid event, which are its faults and what is answered of them.
pub fn of_invalid(invalid: &Invalid) -> usize {
    let faults = match &invalid.kind {
        InvalidKind::Malformed(_) | InvalidKind::Forbidden(_) => 1,
        InvalidKind::Faults(faults) => faults.len(),
    };
    EVENT_BYTES + faults * FAULT_BYTES + 2 * invalid.text_bytes()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::validate::{MAX_FAULTS, validate};
    use crate::event::wire::{BodyForm, Split, split};
    use crate::event::{Limits, OwnKeys};

    fn weight(text: &str) -> usize {
        let body = Bytes::from(text.to_owned());
        let Ok(Split::One(raw)) = split(&body, BodyForm::Json, 1) else { panic!("one event") };
        let limits = Limits {
            max_events: 1,
            max_keys: 1000,
            max_key_bytes: 1024,
            default_ttl: None,
            max_ttl_seconds: 1000,
            allow_match_all: false,
            own_keys: OwnKeys::new("rcs:v:", "rcs:journal"),
            stores: None,
        };
        match validate(&raw, &limits, MAX_FAULTS) {
            Ok(event) => of_event(&event, &raw),
            Err(invalid) => of_invalid(&invalid),
        }
    }

    #[test]
    fn slices_of_the_body_weigh_nothing_more_and_what_was_decoded_does() {
        let value = "v".repeat(10_000);
        let set = |value: &str| format!(r#"{{"key":"SET","value":{{"data":{{"key":"k","value":"{value}"}}}}}}"#);
        assert_eq!(weight(&set(&value)), EVENT_BYTES + ENTRY_BYTES);
        assert!(weight(&set(&format!("\\n{value}"))) > value.len());
        assert!(weight(&format!(r#"{{"key":"GET","value":{{"data":"[\"{}\"]"}}}}"#, "k".repeat(500))) > 1000);
    }

    #[test]
    fn blobs_patterns_and_faults_weigh_what_they_hold() {
        let url = format!("http://h.test/{}", "a".repeat(500));
        let blob = weight(&format!(r#"{{"key":"SET","value":{{"data":{{"key":"k","url":"{url}"}}}}}}"#));
        assert!(blob > EVENT_BYTES + ENTRY_BYTES + BLOB_BYTES + 500, "{blob}");
        let classes = weight(&format!(r#"{{"key":"DELETE_PATTERN","value":{{"data":"a{}"}}}}"#, "[^a]".repeat(200)));
        assert!(classes > EVENT_BYTES + ENTRY_BYTES + 801, "{classes}");
        let named = weight(&format!(r#"{{"key":"GET","value":{{"{}":1}}}}"#, "n".repeat(5000)));
        assert!(named > 5000, "{named}");
    }
}
