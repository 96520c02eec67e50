//! What an event is once it is valid. Everything here is valid by construction: whoever holds an [`Event`] need not
//! check it again. Pure: no I/O, no actors, no clock.
//!
//! [`wire`] knows the shapes that arrive and leave, [`validate`] turns what arrived into an [`Event`] or into every
//! fault it has, [`pattern`] is Redis's glob, [`version`] the source's own order, [`outcome`] is what became of it;
//! [`rights`] is what its sender may do, [`trace`] is the trace that its request belongs to, [`sources`] reads what storage says in words of its own.

pub mod expected;
pub mod hex;
pub mod invalid;
mod json;
pub mod outcome;
mod own_keys;
pub mod pattern;
pub mod rejection;
pub mod rights;
pub mod sources;
mod target;
pub mod time;
pub mod trace;
pub mod validate;
pub mod version;
pub mod wire;

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use smallvec::SmallVec;

use self::expected::Expected;
pub(crate) use self::json::string_length;
pub use self::own_keys::OwnKeys;
use self::pattern::Pattern;
pub use self::target::{EntityTag, FetchTarget, MAX_ENTITY_TAG_BYTES, MAX_OBJECT_BYTES, StoreObject};
pub use self::time::unix_millis;
use self::version::Version;

/// The bounds an event is validated against (`event.*` settings).
#[derive(Debug, Clone)]
pub struct Limits {
    /// Events of one request.
    pub max_events: usize,
    /// Entries of one event.
    pub max_keys: usize,
    /// Bytes of a key or pattern in UTF-8 (`event.max_key_bytes`).
    pub max_key_bytes: usize,
    /// For an event that names no ttl; none: the key does not expire.
    pub default_ttl: Option<Ttl>,
    /// The longest time to live that an event may name (`event.max_ttl_seconds`).
    pub max_ttl_seconds: u32,
    /// Whether a pattern of nothing but wildcards is let through.
    pub allow_match_all: bool,
    /// Keys that belong to the service.
    pub own_keys: OwnKeys,
    /// The names of the stores that an entry may fetch from (`stores.NAME`); None: any name is let through.
    pub stores: Option<Arc<[String]>>,
}

impl Limits {
    /// Whatever may have been let through by any settings.
    pub fn widest() -> Self {
        Limits {
            max_events: usize::MAX,
            max_keys: usize::MAX,
            max_key_bytes: usize::MAX,
            default_ttl: None,
            max_ttl_seconds: u32::MAX,
            allow_match_all: true,
            own_keys: OwnKeys::default(),
            stores: None,
        }
    }
}

/// Patterns of one event, at most.
pub const MAX_PATTERNS: usize = 64;
/// Bytes of an event's `id`, at most.
pub const MAX_ID_BYTES: usize = 256;
/// Levels of JSON nesting, at most.
pub const MAX_NESTING: usize = 128;

/// Mostly one: what an event names, and what becomes of it.
pub type Few<T> = SmallVec<[T; 1]>;

/// An event that is valid as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The sender's name for it, given back in the answer and in the logs.
    pub id: Option<ByteString>,
    /// The place of the event in the source's own order. A read has none; an event that has one names no key twice.
    pub version: Option<Version>,
    /// When it happened at its source, in milliseconds since 1970, if it carries a time: for the metrics alone.
    pub time: Option<i64>,
    /// What it asks for, with all keys or patterns.
    pub action: Action,
}

/// What the event asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// At least one entry.
    Set(Few<SetEntry>),
    /// At least one key.
    Get(Few<CacheKey>),
    /// At least one key.
    Delete(Few<CacheKey>),
    /// At least one pattern and at most [`MAX_PATTERNS`].
    DeletePattern {
        /// What the keys to be deleted look like.
        patterns: Few<Pattern>,
        /// Whether nothing is deleted, and the answer only says what would be.
        dry_run: bool,
    },
}

impl Action {
    /// The event's type as the wire and the metrics name it.
    pub fn name(&self) -> EventType {
        match self {
            Action::Set(_) => EventType::Set,
            Action::Get(_) => EventType::Get,
            Action::Delete(_) => EventType::Delete,
            Action::DeletePattern { .. } => EventType::DeletePattern,
        }
    }

    /// Entries: what is answered one by one.
    pub fn entries(&self) -> usize {
        match self {
            Action::Set(entries) => entries.len(),
            Action::Get(keys) | Action::Delete(keys) => keys.len(),
            Action::DeletePattern { patterns, .. } => patterns.len(),
        }
    }

    /// The first key that it names.
    pub fn first_key(&self) -> Option<&CacheKey> {
        match self {
            Action::Set(entries) => entries.first().map(|entry| &entry.key),
            Action::Get(keys) | Action::Delete(keys) => keys.first(),
            Action::DeletePattern { .. } => None,
        }
    }

    /// The keys or patterns that it names, one for each entry.
    pub fn targets(&self) -> Few<ByteString> {
        match self {
            Action::Set(entries) => entries.iter().map(|entry| entry.key.text().clone()).collect(),
            Action::Get(keys) | Action::Delete(keys) => keys.iter().map(|key| key.text().clone()).collect(),
            Action::DeletePattern { patterns, .. } => patterns.iter().map(|pattern| pattern.text().clone()).collect(),
        }
    }

    /// The number of patterns in the event, previewed ones too.
    pub fn patterns(&self) -> usize {
        match self {
            Action::DeletePattern { patterns, .. } => patterns.len(),
            Action::Set(_) | Action::Get(_) | Action::Delete(_) => 0,
        }
    }
}

/// The four types of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// Writes values, inline or from blobs.
    Set,
    /// Reads values.
    Get,
    /// Deletes keys by name.
    Delete,
    /// Deletes, or previews, the keys that match a glob.
    DeletePattern,
}

impl EventType {
    /// Every type, in the order of the discriminants: metrics index their arrays by it.
    pub const ALL: [EventType; 4] = [EventType::Set, EventType::Get, EventType::Delete, EventType::DeletePattern];

    /// The type as the member `key` of an event and the metric labels spell it: `SET`.
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::Set => "SET",
            EventType::Get => "GET",
            EventType::Delete => "DELETE",
            EventType::DeletePattern => "DELETE_PATTERN",
        }
    }
}

/// One key to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct SetEntry {
    /// The key that the value is stored under.
    pub key: CacheKey,
    /// The value itself, or where to download it.
    pub source: Source,
    /// None: the key does not expire.
    pub ttl: Option<Ttl>,
    /// What the blob must be; None: anything. An inline value has none.
    pub expected: Option<Arc<Expected>>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// The bytes as they are stored; usually a slice of the request's body.
    Inline(Bytes),
    /// Where to download them from when the entry is carried out.
    Blob(FetchTarget),
}

/// A cache key: UTF-8, of permitted length, outside the service's own prefix. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey(pub(in crate::event) ByteString);

impl CacheKey {
    /// A key from text that is known to be good: the caller has checked length and prefix.
    pub fn new_unchecked(text: impl Into<ByteString>) -> Self {
        CacheKey(text.into())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key as Redis sees it, in UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The shared text: a clone of it copies no bytes, but keeps the buffer alive that it is a slice of.
    pub fn text(&self) -> &ByteString {
        &self.0
    }

    /// The same key in memory of its own, which keeps nothing else alive.
    pub fn copied(&self) -> CacheKey {
        CacheKey(ByteString::from(self.as_str()))
    }

    /// The key as shared bytes, without a copy.
    pub fn to_bytes(&self) -> Bytes {
        self.0.as_bytes().clone()
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Seconds to live, from the write. At most `event.max_ttl_seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ttl(pub NonZeroU32);

impl Ttl {
    /// None for 0: a key that expires at once is a delete.
    pub fn from_seconds(seconds: u32) -> Option<Self> {
        NonZeroU32::new(seconds).map(Ttl)
    }

    /// Seconds to live, at least 1.
    pub fn seconds(self) -> u32 {
        self.0.get()
    }
}

/// An `http` or `https` URL without userinfo and fragment. Scheme, host and port are as the WHATWG URL standard parses
/// them, path and query as they were written. Whether its host may be called is judged when it is fetched. Its `Debug` and
/// `Display` leave out the query: it carries signatures. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct BlobUrl(pub(in crate::event) Arc<NamedUrl>);

#[derive(PartialEq, Eq)]
pub(in crate::event) struct NamedUrl {
    pub url: url::Url,
    /// Path and query, if `url` does not have them to the letter.
    pub as_written: Option<Box<str>>,
}

impl BlobUrl {
    /// None for what is no blob's URL.
    pub fn parse(text: &str) -> Option<Self> {
        validate::parse_url(text).ok()
    }

    /// The whole URL, signature included: for the request alone, never for a log or an answer.
    pub fn expose(&self) -> &url::Url {
        &self.0.url
    }

    /// Path and query as they go into the request: for that alone, as [`expose`](BlobUrl::expose).
    pub fn target(&self) -> &str {
        let parsed = || &self.0.url[url::Position::BeforePath..url::Position::AfterQuery];
        self.0.as_written.as_deref().unwrap_or_else(parsed)
    }

    /// Host and port: what shares a limit and a breaker.
    pub fn authority(&self) -> Cow<'_, str> {
        let url = &self.0.url;
        let given = &url[url::Position::BeforeHost..url::Position::AfterPort];
        match (url.port(), url.scheme()) {
            (Some(_), _) => Cow::Borrowed(given),
            (None, "https") => Cow::Owned([given, ":443"].concat()),
            (None, _) => Cow::Owned([given, ":80"].concat()),
        }
    }
}

impl fmt::Display for BlobUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.url[..url::Position::AfterPath])
    }
}

impl fmt::Debug for BlobUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
