//! The journal: accepted means kept. Events that were answered 202 lie in a Redis Stream until they have been applied, in the
//! order in which they were accepted.
//!
//! # What there is in Redis
//!
//! All of it in one slot of a cluster, on the Redis of `journal.url`, or else on that of the cache:
//!
//! | key | what it is |
//! | --- | --- |
//! | `NAME` | the stream; an entry holds the events of one request ([`entry`]) |
//! | `{NAME}:events` | how many events the stream holds |
//! | `{NAME}:lease` | who feeds the journal into its pipeline, with an expiry ([`lease`]) |
//! | `{NAME}:epoch` | how many leases there have been |
//! | `{NAME}:late` | how many appends came too late and were not carried out ([`append`]) |
//! | `{NAME}:former` | the holders whose connections have still to be killed |
//! | `{NAME}:dead` | the stream of dead letters ([`dead`]) |
//! | `{NAME}:buried` | which events of the journal are among them |
//!
//! # The way of an event
//!
//! Each HTTP worker has an [`appender`](append): it appends what is waiting as one pipeline, and answers all of it. One
//! replica at a time holds the lease and feeds: it reads the stream in order, hands to its pipeline what may go ahead
//! ([`window`]: nothing passes an earlier event of its keys), and trims what is done, up to the first that is not. So a
//! replica that takes over runs again whatever was not trimmed, in the same order, and the state at the end is the same.
//!
//! # Fencing
//!
//! A holder trusts its own clock alone: what it hands over carries the time up to which the lease is its own
//! ([`Validity`](crate::pipeline::work::validity::Validity)), and nothing is sent to the cache after that. What it has sent
//! may lie in a socket; so the next holder kills the connections of the former at the cache before it begins.

mod append;
pub mod dead;
pub mod entry;
mod feeder;
mod filter;
mod keys;
mod lease;
mod letter_id;
mod letters;
mod link;
mod promise;
pub mod window;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use crate::redis::{Redis, Settings};
use crate::telemetry::metrics::Metrics;

use self::lease::ASK_EVERY;

pub use self::append::{AppendError, AppendResult, AppendStage, Appender};
pub use self::feeder::{Feeding, feed};
pub use self::filter::LetterFilter;
pub use self::keys::Keys;
pub use self::letter_id::LetterId;
pub use self::letters::{LetterWalk, Letters};
pub use self::link::{Connector, LinkError};
pub use self::promise::{Loss, Tried};

/// Reads a stream on: entries behind one, up to a number of entries or bytes.
const READ: &str = include_str!("journal/scripts/read.lua");
/// How long nothing is asked of a Redis that refuses the journal, if no journal is configured. An event that must be kept
/// is tried all the same.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// The settings of the journal and its dead letters.
#[derive(Debug, Clone)]
pub struct JournalSettings {
    /// The stream's name (`journal.name`).
    pub name: String,
    /// Events that it holds at most (`journal.max_events`).
    pub max_events: u64,
    /// Attempts at an event that ends unavailable before it is a dead letter (`journal.max_attempts`).
    pub max_attempts: u32,
    /// Replicas that acknowledge an event before it is answered (`journal.wait_replicas`).
    pub wait_replicas: u32,
    /// Whether an event is on disk before it is answered (`journal.wait_aof`).
    pub wait_aof: bool,
    /// Dead letters at most (`dead_letters.max_events`).
    pub max_dead_letters: u64,
    /// How long the cache keeps a version (`redis.version_window_seconds`).
    pub version_window: Duration,
    /// Whether the settings name it: then what keeps it from working is said aloud.
    pub is_asked_for: bool,
}

/// The journal of one process. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    settings: JournalSettings,
    keys: Keys,
    connector: Connector,
    /// By what this process is known among those that may feed.
    holder: String,
    /// The cache, where the connections of former holders are killed; None: it is in this process.
    cache: Option<Redis>,
    metrics: Metrics,
    /// Events in the stream, as the last reply said, and those on their way to it.
    depth: AtomicU64,
    on_their_way: AtomicU64,
    /// Each dead letter of a notification holds it until it is written, or cannot be.
    letters_on_their_way: Arc<()>,
    /// When what is under way is answered at the latest, once the process drains.
    cut_off: OnceLock<Instant>,
    /// Wakes the feeder of this process: something was appended.
    appended: Notify,
    /// Until when nothing is asked of its Redis.
    left_alone: Mutex<Option<Instant>>,
    /// Since when its Redis cannot be worked with, and why.
    trouble: Mutex<Option<(Instant, String)>>,
}

impl Journal {
    /// Connects to nothing yet.
    pub fn new(
        settings: JournalSettings,
        holder: &str,
        connector: Connector,
        cache: Option<Redis>,
        metrics: Metrics,
    ) -> Self {
        let keys = Keys::of(&settings.name);
        let shared = Shared {
            settings,
            keys,
            connector,
            holder: holder.to_owned(),
            cache,
            metrics,
            depth: AtomicU64::new(0),
            on_their_way: AtomicU64::new(0),
            letters_on_their_way: Arc::default(),
            cut_off: OnceLock::new(),
            appended: Notify::new(),
            left_alone: Mutex::default(),
            trouble: Mutex::default(),
        };
        Journal { shared: Arc::new(shared) }
    }

    /// Whether the settings name it.
    pub fn is_asked_for(&self) -> bool {
        self.settings().is_asked_for
    }

    /// Events that it holds at most.
    pub fn max_events(&self) -> u64 {
        self.settings().max_events
    }

    /// The process drains: at this time what is under way is answered, and is not appended any more.
    pub fn ends_at(&self, cut_off: Instant) {
        let _ = self.shared.cut_off.set(cut_off);
    }

    /// Whether dead letters of notifications that were answered have still to be written.
    pub fn has_letters_on_their_way(&self) -> bool {
        Arc::strong_count(&self.shared.letters_on_their_way) > 1
    }

    /// What its Redis has told.
    fn note(&self, events: u64, oldest_age: Duration, dead_letters: u64) {
        self.shared.depth.store(events, Relaxed);
        self.shared.metrics.set_journal(events, oldest_age, dead_letters);
        self.shared.metrics.set_journal_up(true);
        *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Its Redis cannot be worked with.
    fn note_trouble(&self, cause: String) {
        self.shared.metrics.set_journal_up(false);
        let mut trouble = self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.get_or_insert_with(|| (Instant::now(), String::new())).1 = cause;
    }

    /// For how long its Redis has not been of use, and why; None: it is.
    pub fn trouble(&self) -> Option<(Duration, String)> {
        let trouble = self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.as_ref().map(|(since, cause)| (since.elapsed(), cause.clone()))
    }

    fn note_depth(&self, events: u64) {
        self.shared.depth.store(events, Relaxed);
        self.shared.metrics.set_journal_events(events);
    }

    /// Where nobody has asked for a journal, a Redis that does not permit it is left alone for a while: each refusal is an entry in
    /// its ACL LOG.
    fn note_refusal(&self, error: &LinkError) {
        if matches!(error, LinkError::Refused(_)) && !self.settings().is_asked_for {
            *self.left_alone() = Some(Instant::now() + REFUSED_PAUSE);
        }
    }

    /// Whether nothing is to be asked of its Redis, unless an event is to be kept.
    fn is_left_alone(&self) -> bool {
        self.left_alone().is_some_and(|until| Instant::now() < until)
    }

    /// How long to wait before its Redis is asked again.
    fn pause(&self) -> Duration {
        let left = self.left_alone().map(|until| until.saturating_duration_since(Instant::now()));
        left.unwrap_or_default().max(ASK_EVERY)
    }

    fn left_alone(&self) -> MutexGuard<'_, Option<Instant>> {
        self.shared.left_alone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> &JournalSettings {
        &self.shared.settings
    }
}

/// Milliseconds since 1970, by the clock on the wall.
pub fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The name of the connections of a holder to the cache, by which another kills them.
pub fn connection_name(holder: &str) -> String {
    format!("{}:{holder}", Settings::CLIENT_NAME)
}
