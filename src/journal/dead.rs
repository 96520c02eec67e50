//! Dead letters: events that could not be applied, with all that is needed to understand and to repeat them. They are entries
//! of a stream of their own, one field for each thing that is known, so that `redis-cli XRANGE` shows them too.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use serde::de::{Deserialize, Deserializer, IgnoredAny};
use serde_json::{Value, json};

use super::entry::{Digest, Record, SEVERAL_DIGESTS, digests};
use super::letter_id::LetterId;
use super::link::{Args, Value as Reply, args, field};
use super::window::Meta;
use super::{Journal, unix_millis};
use crate::event::rights::Rights;
use crate::event::time::rfc3339;
use crate::event::{Few, Limits};

/// The problem of a replayed letter that was not run: its keys hold something else than when it was given up.
pub const SUPERSEDED: &str = "superseded";

const BURY: &str = include_str!("scripts/bury.lua");

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The event as `POST /events` takes it. Empty: its source reported something that is not a valid event.
    pub event: Bytes,
    /// Its version, if that is a storage's own place in its order.
    pub place: Option<Bytes>,
    /// The last part of the problem's type.
    pub problem: String,
    /// What happened, for a person.
    pub detail: String,
    /// The request that it came with; `id` is the entry of the journal, empty if it never was in it.
    pub meta: Meta,
    /// When it was given up, in milliseconds since 1970.
    pub died_ms: u64,
    /// Attempts that counted, those before a replay included, and the one that made it a dead letter.
    pub attempts: u32,
    /// Of what each of its keys held then; one may stand for all of them. Empty: that could not be read.
    pub held: Vec<Digest>,
    /// Its place in the journal: entry and event; empty: it never was in it.
    pub of: String,
}

impl DeadLetter {
    /// Of a notification that never was in the journal. `record`: its event, if it is one.
    pub fn of_notification(
        record: Option<Record>,
        (problem, detail): (&str, &str),
        source: &str,
        request_id: &str,
    ) -> Self {
        let now = unix_millis();
        let (event, place) = record.map(|record| (record.json, record.place)).unwrap_or_default();
        let meta =
            Meta { id: String::new(), source: source.to_owned(), request_id: request_id.to_owned(), accepted_ms: now };
        DeadLetter {
            event,
            place,
            problem: problem.to_owned(),
            detail: detail.to_owned(),
            meta,
            died_ms: now,
            attempts: 1,
            held: Vec::new(),
            of: String::new(),
        }
    }

    /// The command that adds it. `holder`: who must have the lease; empty: nobody.
    pub fn bury(&self, journal: &Journal, holder: &str) -> Args {
        let keys = &journal.shared.keys;
        let mut command = args![
            "EVAL",
            BURY,
            4_u64,
            &keys.dead,
            &keys.buried,
            &keys.lease,
            &keys.stream,
            journal.settings().max_dead_letters,
            &self.of,
            holder.to_owned()
        ];
        let mut field = |name: &'static str, value: Bytes| {
            if !value.is_empty() {
                command.push(Bytes::from_static(name.as_bytes()));
                command.push(value);
            }
        };
        let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let number = |number: u64| text(&number.to_string());
        field("problem", text(&self.problem));
        field("detail", text(&self.detail));
        field("event", self.event.clone());
        field("place", self.place.clone().unwrap_or_default());
        field("source", text(&self.meta.source));
        field("request", text(&self.meta.request_id));
        field("accepted", number(self.meta.accepted_ms));
        field("died", number(self.died_ms));
        field("attempts", number(self.attempts.into()));
        field("digest", self.held.concat().into());
        field("of", text(&self.of));
        command
    }

    /// The dead letter of an entry's fields. What is missing is empty.
    pub fn read(fields: &[Reply]) -> Self {
        let field = |name| field(fields, name).cloned();
        let text = |name| field(name).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default();
        let number = |name| text(name).parse::<u64>().unwrap_or(0);
        let of = text("of");
        let id = of.split_once('.').map_or("", |(id, _)| id).to_owned();
        DeadLetter {
            event: field("event").unwrap_or_default(),
            place: field("place"),
            problem: text("problem"),
            detail: text("detail"),
            meta: Meta { id, source: text("source"), request_id: text("request"), accepted_ms: number("accepted") },
            died_ms: number("died"),
            attempts: u32::try_from(number("attempts")).unwrap_or(u32::MAX),
            held: digests(&field("digest").unwrap_or_default()),
            of,
        }
    }

    /// The keys or patterns that its event names; none: it is no valid event.
    pub fn keys(&self) -> Few<ByteString> {
        self.record(&[]).event(&Limits::widest()).map(|event| event.action.targets()).unwrap_or_default()
    }

    /// Whether whoever has these rights may see it: all that its event names is within them. None: everything is.
    pub fn is_within(&self, rights: Option<&Rights>) -> bool {
        let event = || self.record(&[]).event(&Limits::widest());
        let is_covered = |rights: &Rights| event().is_ok_and(|event| rights.cover(&event.action).is_ok());
        rights.is_none_or(|rights| !rights.has_prefixes() || is_covered(rights))
    }

    /// What is known of it, but for its event.
    pub fn to_json(&self, id: LetterId) -> Value {
        json!({
            "id": id.to_string(), "problem": self.problem, "detail": self.detail, "source": self.meta.source,
            "keys": self.keys().iter().map(|key| &**key).collect::<Vec<&str>>(),
            "accepted": when(self.meta.accepted_ms), "died": when(self.died_ms),
            "attempts": self.attempts, "request_id": self.meta.request_id,
        })
    }

    /// What its keys must still hold for it to be run again; nothing: whatever they hold. Versions are kept for `window`: within
    /// that the version alone decides. `force` passes over that it may overwrite something newer.
    ///
    /// # Errors
    /// Why it must not be run again, for a person.
    pub fn guard(&self, force: bool, window: Duration) -> Result<&[Digest], &'static str> {
        if self.event.is_empty() {
            return Err("its source reported something that is not a valid event");
        }
        let has_version = self.place.is_some() || names_version(&self.event);
        // A superseded letter was given up a second time: its age does not tell whether the cache still keeps the version.
        let age = Duration::from_millis(unix_millis().saturating_sub(self.died_ms));
        let is_kept = age < window && self.problem != SUPERSEDED;
        match &self.held[..] {
            _ if force || has_version && is_kept => Ok(&[]),
            [] if has_version => {
                Err("its version may not tell any more what is newer (redis.version_window_seconds), and \
                                      what its keys held when it was given up is not known: --force runs it")
            }
            [] => Err("it has no version, and what its keys held when it was given up is not known: --force runs it"),
            held => Ok(held),
        }
    }

    /// What is appended to the journal to run it again if its keys still hold this; nothing: whatever they hold.
    pub fn record(&self, held: &[Digest]) -> Record {
        let unless_changed = match held {
            [] => None,
            [one] => Some(*one),
            _ => Some(SEVERAL_DIGESTS),
        };
        Record {
            json: self.event.clone(),
            place: self.place.clone(),
            unless_changed,
            attempts: self.attempts,
            tag: None,
        }
    }
}

/// Whether an event has a version. What else it says is passed over: a tree of it would take many times its bytes.
fn names_version(event: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Versioned {
        #[serde(default, deserialize_with = "is_there")]
        version: bool,
    }
    // An array would be taken for its members.
    event.trim_ascii_start().starts_with(b"{")
        && serde_json::from_slice::<Versioned>(event).is_ok_and(|event| event.version)
}

fn is_there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

/// RFC 3339, in seconds. What stands in Redis may be no time at all.
pub fn when(millis: u64) -> String {
    i64::try_from(millis / 1000).ok().and_then(rfc3339).unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_those_that_the_event_would_write() {
        let keys = |text: &'static str| {
            let record = Some(Record::of_json(Bytes::from_static(text.as_bytes())));
            let keys = DeadLetter::of_notification(record, ("", ""), "", "").keys();
            keys.iter().map(|key| key.to_string()).collect::<Vec<_>>()
        };
        let url =
            r#"{"key":"SET","value":{"data":[{"url":"http://h/a%20b/c?sig=x"},"http://h/d",{"key":"k","value":1}]}}"#;
        assert_eq!(keys(url), ["a b/c", "d", "k"]);
        assert_eq!(keys(r#"{"key":"DELETE","value":{"data":"{\"keys\":[\"a\",\"b\"]}"}}"#), ["a", "b"]);
        assert_eq!(keys(r#"{"key":"DELETE_PATTERN","value":{"data":{"pattern":"*"}}}"#), ["*"]);
        assert_eq!(keys("no event"), [""; 0]);
    }

    #[test]
    fn a_version_guards_a_letter_as_long_as_versions_are_kept_and_digests_do_from_then_on() {
        const WINDOW: Duration = Duration::from_secs(3600);
        let letter = |version: &str, hours: u64, held: &[Digest], problem: &str| {
            let text = format!(r#"{{"key":"SET",{version}"value":{{"data":{{"key":"k","value":1}}}}}}"#);
            let letter = DeadLetter::of_notification(Some(Record::of_json(text.into())), (problem, ""), "", "");
            DeadLetter { died_ms: letter.died_ms - hours * 3_600_000, held: held.to_vec(), ..letter }
        };
        let (versioned, digest) = (r#""version":1,"#, [[7; 32]]);
        assert_eq!(letter(versioned, 0, &digest, "timeout").guard(false, WINDOW), Ok(&[][..]));
        assert_eq!(letter(versioned, 2, &digest, "timeout").guard(false, WINDOW), Ok(&digest[..]));
        assert_eq!(letter(versioned, 0, &digest, SUPERSEDED).guard(false, WINDOW), Ok(&digest[..]));
        assert_eq!(letter("", 0, &digest, "timeout").guard(false, WINDOW), Ok(&digest[..]));
        for (version, hours) in [(versioned, 2), ("", 0)] {
            assert!(letter(version, hours, &[], "timeout").guard(false, WINDOW).is_err());
            assert_eq!(letter(version, hours, &digest, "timeout").guard(true, WINDOW), Ok(&[][..]));
        }
    }

    #[test]
    fn a_version_is_found_among_other_members() {
        for (event, expected) in [
            (r#"{"extra":[0,{"version":1}]}"#, false),
            (r#"{"extra":[0],"version":7,"other":{}}"#, true),
            (r#"{"version":null}"#, true),
            (r#"[1]"#, false),
            ("", false),
        ] {
            assert_eq!(names_version(event.as_bytes()), expected, "{event}");
        }
    }
}
