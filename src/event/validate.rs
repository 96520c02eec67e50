//! From a raw event to a valid [`Event`], or to every fault it has, each with its RFC 6901 pointer. Promises that an event
//! is valid as a whole or not at all, that nothing is guessed, and that no fault repeats a value or a URL's query. Syntax
//! is already checked in [`super::wire`]; whether a blob's host may be called is judged when it is fetched.

mod data;
mod entry;
mod faults;
mod named;
mod plain;
mod url;

use std::str::FromStr;

use bytestring::ByteString;

pub use self::data::key_fault;
use self::faults::{At, EventMember, FoundFaults, Others, ROOT, Reported};
use self::named::NamedKeys;
pub use self::url::MAX_URL_BYTES;
pub(in crate::event) use self::url::parse as parse_url;
use super::invalid::{Invalid, InvalidKind};
use super::json::{EventPart, JsonKind, NoText, NoTree, Node, Tree};
use super::rights::Rights;
use super::version::{MAX_TEXT_BYTES, Version};
use super::wire::{Document, RawEvent};
use super::{Action, Event, EventType, Few, Limits, MAX_ID_BYTES, Ttl};

/// Members of `value` or of `data`. Beside `value` they are no extras but stand in the wrong place, where they would be lost.
const MISPLACED: [&str; 8] = ["ttl", "data", "url", "pattern", "patterns", "keys", "dry_run", "encoding"];

/// Faults listed in the answer to one request, at most; an invalid event always has its first.
pub const MAX_FAULTS: usize = 10_000;

/// Validates one event.
///
/// # Errors
///
/// [`Invalid`], with all that is wrong. Beyond `max_faults` the rest is left out and said to be.
pub fn validate(raw: &RawEvent, limits: &Limits, max_faults: usize) -> Result<Event, Invalid> {
    let Document { text, plain } = match &raw.0 {
        Ok(document) => document,
        Err(fault) => {
            return Err(Invalid { id: None, event: None, kind: InvalidKind::Malformed(fault.clone()) });
        }
    };
    let mut check = Check { limits, faults: FoundFaults::new(max_faults), named: None };
    if let Some(event) = plain.as_ref().and_then(|plain| check.plain(text, plain)) {
        return Ok(event);
    }
    let tree = check.tree(text, EventPart::Event);
    let Envelope { id, version, time, event, action } = match &tree {
        Some(tree) => check.envelope(tree.root()),
        None => Envelope::default(),
    };
    match action {
        Some(action) if check.faults.is_empty() => Ok(Event { id, version, time, action }),
        _ => Err(Invalid { id, event, kind: InvalidKind::Faults(check.faults.into_list()) }),
    }
}

/// The faults that may still be listed in the answer to a request of several events.
pub struct FaultBudget(usize);

impl Default for FaultBudget {
    fn default() -> Self {
        FaultBudget(MAX_FAULTS)
    }
}

impl FaultBudget {
    /// [`validate`], for one event of several, whose sender has these rights; None: all.
    ///
    /// # Errors
    ///
    /// [`Invalid`], with the faults that there is still room for.
    pub fn validate(&mut self, raw: &RawEvent, limits: &Limits, rights: Option<&Rights>) -> Result<Event, Invalid> {
        let event = validate(raw, limits, self.0);
        if let Err(invalid) = &event {
            self.0 = self.0.saturating_sub(invalid.listed());
        }
        match (&event, rights) {
            (Ok(valid), Some(rights)) => rights.refusal(valid).map_or(event, Err),
            _ => event,
        }
    }
}

/// What was valid of an event.
#[derive(Default)]
struct Envelope {
    id: Option<ByteString>,
    version: Option<Version>,
    time: Option<i64>,
    event: Option<EventType>,
    action: Option<Action>,
}

/// One validation. Its methods give what is valid; None means that a fault is reported.
struct Check<'l> {
    limits: &'l Limits,
    faults: FoundFaults,
    /// The keys so far of an event that must name none twice.
    named: Option<NamedKeys>,
}

impl Check<'_> {
    /// The tree of a text that is known to be JSON, with as many items of an array as are ever looked at.
    fn tree<'d>(&mut self, document: &'d ByteString, part: EventPart) -> Option<Tree<'d>> {
        match Tree::of(document, part, self.limits.max_keys.max(super::MAX_PATTERNS)) {
            Ok(tree) => Some(tree),
            Err(NoTree::NotJson) => self.faults.refuse(&ROOT, "is not JSON"),
            Err(NoTree::TooLarge) => self.faults.refuse(&ROOT, "holds more names and values than the service reads"),
        }
    }

    fn envelope(&mut self, root: Node<'_>) -> Envelope {
        if root.kind() != JsonKind::Object {
            self.faults.add(&ROOT, "must be a JSON object");
            return Envelope::default();
        }
        let names = ["key", "id", "version", "value", "time"];
        let [key, id, version, value, time] = self.faults.members(root, names, Others::Ignored(&MISPLACED), &ROOT);
        let event = self.event_type(key);
        let id = self.id(id);
        // A read is no work to guard, so it takes no notice of a version.
        let version = if event == Some(EventType::Get) { None } else { self.version(version) };
        let action = self.value(value, event);
        Envelope { id, version, time: time.given().and_then(unix_millis), event, action }
    }

    fn event_type(&mut self, key: EventMember<'_>) -> Option<EventType> {
        let at = ROOT.name("key");
        let expected = "must be `SET`, `GET`, `DELETE` or `DELETE_PATTERN`";
        let node = match key {
            EventMember::Given(node) => node,
            EventMember::Absent => return self.faults.refuse(&at, format!("is missing: {expected}")),
            EventMember::Twice => return None,
        };
        let named = node.string().ok().and_then(|text| EventType::ALL.into_iter().find(|event| text == event.as_str()));
        named.or_else(|| self.faults.refuse(&at, expected))
    }

    fn id(&mut self, id: EventMember<'_>) -> Option<ByteString> {
        let at = ROOT.name("id");
        let id = self.text(id.given()?, &at, "must be a string")?;
        if id.len() > MAX_ID_BYTES {
            return self.faults.refuse(&at, format!("must be at most {MAX_ID_BYTES} bytes long"));
        }
        Some(id)
    }

    fn version(&mut self, version: EventMember<'_>) -> Option<Version> {
        let at = ROOT.name("version");
        let node = version.given()?;
        self.named = Some(NamedKeys::default());
        let given = match node.kind() {
            JsonKind::Number => digits(node.text()).and_then(Version::from_number),
            JsonKind::String => {
                let text = self.text(node, &at, "must be a string")?;
                Version::from_text(&text)
            }
            JsonKind::Null | JsonKind::Object | JsonKind::Array | JsonKind::Boolean => None,
        };
        given.or_else(|| {
            let detail =
                format!("must be a whole number from 0 to 2^63-1, or a string of at most {MAX_TEXT_BYTES} bytes");
            self.faults.refuse(&at, detail)
        })
    }

    /// The `value`; without a type only for what is wrong under any type.
    fn value(&mut self, value: EventMember<'_>, event: Option<EventType>) -> Option<Action> {
        let at = ROOT.name("value");
        let value = match value {
            EventMember::Given(value) if value.kind() == JsonKind::Object => value,
            EventMember::Given(_) => return self.faults.refuse(&at, "must be an object with `data`"),
            EventMember::Absent => return self.faults.refuse(&at, "is missing: must be an object with `data`"),
            EventMember::Twice => return None,
        };
        let [data, ttl] = self.faults.members(value, ["data", "ttl"], Others::Refused, &at);
        let ttl = match event {
            Some(EventType::Set) => self.ttl(ttl, &at).or(self.limits.default_ttl),
            _ => None,
        };
        match data {
            EventMember::Given(data) => self.data(data, &at.name("data"), event, ttl),
            EventMember::Absent => self.faults.refuse(&at.name("data"), "is missing: names what the event is about"),
            EventMember::Twice => None,
        }
    }

    /// A `ttl` of the object at `at`; None also if it is absent or empty.
    fn ttl(&mut self, ttl: EventMember<'_>, at: &At<'_>) -> Option<Ttl> {
        let node = ttl.given()?;
        let given = match node.kind() {
            JsonKind::Null => return None,
            JsonKind::Number => digits(node.text()),
            JsonKind::String => match node.string() {
                Ok(text) if text.is_empty() => return None,
                Ok(text) => digits(&text),
                Err(_) => None,
            },
            JsonKind::Object | JsonKind::Array | JsonKind::Boolean => None,
        };
        let max = self.limits.max_ttl_seconds;
        given.and_then(|seconds| self.ttl_of(seconds)).or_else(|| {
            let detail = format!("must be a whole number of seconds from 1 to {max}, or a string of such digits");
            self.faults.refuse(&at.name("ttl"), detail)
        })
    }

    fn ttl_of(&self, seconds: u32) -> Option<Ttl> {
        Ttl::from_seconds(seconds).filter(|_| seconds <= self.limits.max_ttl_seconds)
    }

    /// The text of a string.
    fn text(&mut self, node: Node<'_>, at: &At<'_>, expected: &'static str) -> Option<ByteString> {
        match node.string() {
            Ok(text) => Some(text),
            Err(NoText::NotAString) => self.faults.refuse(at, expected),
            Err(NoText::LoneSurrogate) => self.faults.refuse(at, "holds half of a surrogate pair, which is not text"),
        }
    }

    /// Every item of an array through `one`; its fault if there are none or more than `at_most`.
    fn list<T>(
        &mut self,
        array: Node<'_>,
        at: &At<'_>,
        at_most: usize,
        mut one: impl FnMut(&mut Self, Node<'_>, &At<'_>) -> Option<T>,
    ) -> Option<Few<T>> {
        let total = array.total();
        if total == 0 {
            return self.faults.refuse(at, "must not be empty");
        }
        if total > at_most {
            return self.faults.refuse(at, format!("holds {total}, allowed are at most {at_most}"));
        }
        let mut valid = Few::with_capacity(total);
        for (index, item) in array.items().enumerate() {
            valid.extend(one(self, item, &at.index(index)));
        }
        (valid.len() == total).then_some(valid)
    }

    /// The JSON inside a string that parses as an object or an array; None for any other value.
    fn json_inside(&mut self, data: Node<'_>, at: &At<'_>) -> Result<Option<ByteString>, Reported> {
        if data.kind() != JsonKind::String {
            return Ok(None);
        }
        let text = self.text(data, at, "must be a string").ok_or(Reported)?;
        if !text.trim_ascii_start().starts_with(['{', '[']) || super::json::check_syntax(&text).is_err() {
            return Ok(None);
        }
        if super::json::too_deep(&text, super::MAX_NESTING).is_some() {
            let detail = format!("holds JSON nested deeper than {} levels", super::MAX_NESTING);
            self.faults.add(at, detail);
            return Err(Reported);
        }
        Ok(Some(text))
    }
}

/// The milliseconds since 1970 of an RFC 3339 text. An extra may be anything: what is no time is none.
fn unix_millis(time: Node<'_>) -> Option<i64> {
    super::time::unix_millis(&time.string().ok()?)
}

/// Digits and nothing else, as a number.
fn digits<N: FromStr>(text: &str) -> Option<N> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests;
