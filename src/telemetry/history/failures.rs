//! The last failures: how many of them and how long their texts are is bounded.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::event::outcome::{Class, FailedFetch};

/// Failures that are kept.
pub const MAX_FAILURES: usize = 50;
/// Bytes of a failure's texts, each.
const MAX_TEXT_BYTES: usize = 300;
/// Bytes of a key and of a URL, each.
const MAX_NAME_BYTES: usize = 1024;
/// Bytes of the event that repeats a failed one: a longer one is not offered.
const MAX_REPEAT_BYTES: usize = 4096;
const NO_VALUE: &str = "Its value is not kept here. Send it again from where it came.";
const REJECTED: &str = "It would be rejected again as it stands.";

/// What is told of an event or request that failed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Failed<'a> {
    /// The type of the event; empty if it could not be read.
    pub event: &'static str,
    /// Empty if it has none.
    pub id: &'a str,
    /// The last part of the problem's type.
    pub problem: &'static str,
    /// The problem's detail; longer texts are cut.
    pub detail: &'a str,
    /// The id of the request, as in the log and in the response's `x-request-id`.
    pub request_id: &'a str,
    /// The key or pattern that failed; empty if it is not known.
    pub key: &'a str,
    /// The name of the source whose notification it was; empty if it came to `/events`.
    pub source: &'a str,
    /// Whether it may succeed later; None: it never became work.
    pub class: Option<Class>,
    /// The fetch that failed, if it was one.
    pub fetch: Option<&'a FailedFetch>,
}

/// A [`Failed`] event or request as it is kept, with its texts cut.
#[derive(Debug, Clone)]
pub struct KeptFailure {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The event's type; empty if that could not be told.
    pub event: &'static str,
    /// The event's own id; empty if it has none.
    pub id: String,
    /// The last part of the problem's type.
    pub problem: &'static str,
    /// The problem's detail.
    pub detail: String,
    /// The id of the request, to find it in the log.
    pub request_id: String,
    /// The key or pattern; empty if it is not known.
    pub key: String,
    /// The source; empty if it came to `/events`.
    pub source: String,
    /// Whether it may succeed later; None: it never became work.
    pub class: Option<Class>,
    /// What was to be fetched, without a query; empty if nothing was.
    pub url: String,
    /// Attempts to fetch it, or 1.
    pub attempts: u32,
    /// The event that does the same once more, or why it is not offered.
    pub repeat: Result<Value, &'static str>,
}

/// The last failures.
#[derive(Debug, Default)]
pub(super) struct Failures(VecDeque<KeptFailure>);

impl Failures {
    /// Keeps a failure; the oldest goes.
    pub fn keep(&mut self, failed: &Failed<'_>, now: SystemTime) {
        if self.0.len() == MAX_FAILURES {
            self.0.pop_front();
        }
        self.0.push_back(KeptFailure::of(failed, now));
    }

    pub fn newest_first(&self) -> Vec<KeptFailure> {
        self.0.iter().rev().cloned().collect()
    }
}

impl KeptFailure {
    fn of(failed: &Failed<'_>, now: SystemTime) -> Self {
        KeptFailure {
            at_ms: millis(now),
            event: failed.event,
            id: cut(failed.id, MAX_TEXT_BYTES),
            problem: failed.problem,
            detail: cut(failed.detail, MAX_TEXT_BYTES),
            request_id: cut(failed.request_id, MAX_TEXT_BYTES),
            key: cut(failed.key, MAX_NAME_BYTES),
            source: cut(failed.source, MAX_TEXT_BYTES),
            class: failed.class,
            url: failed.fetch.map(|fetch| cut(&fetch.target.to_string(), MAX_NAME_BYTES)).unwrap_or_default(),
            attempts: failed.fetch.map_or(1, |fetch| fetch.attempts),
            repeat: repeat(failed),
        }
    }
}

/// What may succeed later is offered again if all of it is known, and if it can undo nothing newer.
fn repeat(failed: &Failed<'_>) -> Result<Value, &'static str> {
    match (failed.class, failed.fetch) {
        (Some(Class::Unavailable), Some(fetch)) => {
            let event = fetch.repeat(failed.key)?;
            let is_short = event.to_string().len() <= MAX_REPEAT_BYTES;
            is_short.then_some(event).ok_or("It is too long to be kept. Send it again from where it came.")
        }
        (Some(Class::Unavailable), None) => Err(NO_VALUE),
        _ => Err(REJECTED),
    }
}

/// Since 1970.
pub fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

pub(super) fn cut(text: &str, max_bytes: usize) -> String {
    let beyond = text.char_indices().find(|(at, character)| at + character.len_utf8() > max_bytes);
    beyond.map_or_else(|| text.to_owned(), |(at, _)| format!("{}…", &text[..at]))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::version::Version;
    use crate::event::{BlobUrl, FetchTarget};

    #[test]
    fn failures_are_bounded_in_number_and_length_the_newest_first() {
        let mut failures = Failures::default();
        let long = "é".repeat(2 * MAX_NAME_BYTES);
        for n in 0..MAX_FAILURES + 5 {
            let id = n.to_string();
            let failed =
                Failed { event: "SET", id: &id, problem: "timeout", detail: &long, key: &long, ..Failed::default() };
            failures.keep(&failed, UNIX_EPOCH + Duration::from_millis(n as u64));
        }
        let failures = failures.newest_first();
        assert_eq!(failures.len(), MAX_FAILURES);
        assert_eq!((failures[0].id.as_str(), failures[0].at_ms), ("54", 54));
        assert_eq!(failures[49].id, "5");
        assert!(failures.iter().all(|failure| failure.detail.len() <= MAX_TEXT_BYTES + '…'.len_utf8()));
        assert!(failures.iter().all(|failure| failure.key.len() <= MAX_NAME_BYTES + '…'.len_utf8()));
    }

    #[test]
    fn a_failed_fetch_is_kept_without_its_query_and_offered_again_where_that_is_safe() {
        let kept = |url: &str, class| {
            let target = FetchTarget::Url(BlobUrl::parse(url).unwrap());
            let version = Version::from_number(3);
            let fetch = FailedFetch { target, attempts: 4, version, ttl: None, is_checked: false };
            let failed = Failed { key: "k", class: Some(class), fetch: Some(&fetch), ..Failed::default() };
            KeptFailure::of(&failed, UNIX_EPOCH)
        };
        let signed = kept("http://h.example/a?sig=secret", Class::Unavailable);
        assert!(!format!("{signed:?}").contains("secret") && signed.repeat.is_err(), "{signed:?}");
        let plain = kept("http://h.example/a", Class::Unavailable);
        assert_eq!((plain.url.as_str(), plain.attempts), ("http://h.example/a", 4));
        assert_eq!(plain.repeat.unwrap()["version"], 3);
        assert_eq!(kept("http://h.example/a", Class::Rejected).repeat, Err(REJECTED));
        let long = kept(&format!("http://h.example/{}", "a".repeat(5000)), Class::Unavailable);
        assert!(long.repeat.is_err() && long.url.len() <= MAX_NAME_BYTES + '…'.len_utf8());
    }
}
