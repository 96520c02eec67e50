//! The fetch that failed, told apart: what was asked for, how often, and how to ask once more.

use serde_json::{Value, json};

use crate::event::version::Version;
use crate::event::{FetchTarget, Ttl};

/// A fetch that failed. Nothing of it is on the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct FailedFetch {
    /// What was asked for. `Display` shows no query.
    pub target: FetchTarget,
    /// Attempts that were made; 0: none, because its host was known not to answer.
    pub attempts: u32,
    /// The version of its event.
    pub version: Option<Version>,
    /// The time to live of its entry, in seconds; None: the key was not to expire.
    pub ttl: Option<Ttl>,
    /// Whether its event says what the blob must be.
    pub is_checked: bool,
}

impl FailedFetch {
    /// The event that fetches the same for `key` once more, or why there is none that is safe: only a version keeps it from
    /// going over something newer, and a query is not kept.
    ///
    /// # Errors
    ///
    /// Why, as a sentence for a person.
    pub fn repeat(&self, key: &str) -> Result<Value, &'static str> {
        let version = match &self.version {
            None => return Err("It has no version: repeated, it could undo something newer."),
            Some(version) if version.is_place() => return Err("Its storage sends it again, or it is a dead letter."),
            Some(version) => version.number().map(Value::from).or_else(|| version.text().map(Value::from)),
        };
        if self.is_checked {
            return Err("Its event says what the blob must be, which is not kept. Send it again from where it came.");
        }
        let entry = match &self.target {
            FetchTarget::Url(url) if url.expose().query().is_some() => {
                return Err("The query of its URL is not kept. Send it again from where it came.");
            }
            FetchTarget::Url(url) => json!({"key": key, "url": url.expose().as_str()}),
            FetchTarget::Object(object) => json!({"key": key, "store": object.store(), "object": object.path()}),
        };
        let mut value = json!({ "data": entry });
        if let Some(ttl) = self.ttl {
            value["ttl"] = ttl.seconds().into();
        }
        Ok(json!({"key": "SET", "version": version, "value": value}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::version::{Place, Rank};
    use crate::event::{BlobUrl, StoreObject};

    fn fetch(url: &str, version: Option<Version>) -> FailedFetch {
        let target = FetchTarget::Url(BlobUrl::parse(url).expect("a URL"));
        FailedFetch { target, attempts: 4, version, ttl: None, is_checked: false }
    }

    #[test]
    fn only_what_can_undo_nothing_newer_and_is_known_as_a_whole_is_repeated() {
        let plain = || fetch("https://h.example/a%20b", Version::from_number(7));
        let event =
            json!({"key": "SET", "version": 7, "value": {"data": {"key": "k", "url": "https://h.example/a%20b"}}});
        assert_eq!(plain().repeat("k"), Ok(event));
        let object = FetchTarget::Object(StoreObject::parse("main", "b/n").expect("an object"));
        let stored = FailedFetch { target: object, version: Version::from_text("v"), ..plain() };
        let data = json!({"key": "k", "store": "main", "object": "b/n"});
        assert_eq!(stored.repeat("k"), Ok(json!({"key": "SET", "version": "v", "value": {"data": data}})));
        let place = Version::from_place(&Place::Number(1), Rank::Set);
        assert!(fetch("https://h.example/a", None).repeat("k").is_err_and(|why| why.contains("no version")));
        assert!(fetch("https://h.example/a", place).repeat("k").is_err_and(|why| why.contains("storage")));
        let signed = fetch("https://h.example/a?sig=secret", Version::from_number(1)).repeat("k");
        assert!(signed.is_err_and(|why| why.contains("query")));
        assert!(FailedFetch { is_checked: true, ..plain() }.repeat("k").is_err());
    }
}
