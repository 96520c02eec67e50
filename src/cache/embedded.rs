//! The cache in this process: for a demonstration, a test, or a machine without Redis.
//!
//! Owns a map bounded in bytes, from which the least recently used entry goes first. Keys and values are copied as they
//! are stored: they come as slices of a request's body, and an entry of a few bytes would otherwise keep megabytes
//! alive that no bound counts. What is read is shared, not copied. Never blocks on anything but its own locks, so it
//! takes no notice of time limits; a scan is one step, however many keys there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{LocalBoxFuture, ready};
use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache as Map;

use super::{Cache, CacheError, Command, Progress, Reply, Scan, ScanStep, Session};
use crate::event::Ttl;
use crate::event::pattern::Pattern;

/// What an entry costs beside its key and value, about.
const ENTRY_OVERHEAD_BYTES: u64 = 64;
/// The map may exceed its bound by this much, or a 64th of the bound if that is less, until it is made to evict.
const MAX_SLACK_BYTES: u64 = 4 * 1024 * 1024;

/// A map shared by all its sessions. Cheap to clone; clones are the same map.
#[derive(Clone)]
pub struct EmbeddedCache {
    shared: Arc<Shared>,
}

struct Shared {
    map: Map<Bytes, Entry, ahash::RandomState>,
    max_bytes: u64,
    version_prefix: String,
    /// Bytes stored since the map was last made to evict: it does so by itself only after many writes, which may be
    /// large.
    unsettled_bytes: AtomicU64,
}

#[derive(Clone)]
struct Entry {
    value: Bytes,
    /// None: does not expire. The map's own clock only decides when the memory is freed.
    expires: Option<Instant>,
}

impl Entry {
    fn is_live(&self) -> bool {
        self.expires.is_none_or(|at| Instant::now() < at)
    }
}

impl EmbeddedCache {
    /// Holds up to `max_bytes` of keys, values and an overhead for each. Keys that begin with `version_prefix` are left
    /// out of scans; an empty one hides nothing.
    pub fn new(max_bytes: u64, version_prefix: impl Into<String>) -> Self {
        let map = Map::builder()
            .max_capacity(max_bytes)
            .weigher(|key: &Bytes, entry: &Entry| {
                u32::try_from(weight(key.len(), entry.value.len())).unwrap_or(u32::MAX)
            })
            // The default policy may refuse a new entry, and then "stored" would not be true.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(FromTheWrite)
            .build_with_hasher(ahash::RandomState::new());
        let unsettled_bytes = AtomicU64::new(0);
        EmbeddedCache {
            shared: Arc::new(Shared { map, max_bytes, version_prefix: version_prefix.into(), unsettled_bytes }),
        }
    }

    /// What the live and the not yet reclaimed entries take, keys and overhead included.
    pub fn used_bytes(&self) -> u64 {
        self.shared.map.run_pending_tasks();
        self.shared.map.weighted_size()
    }
}

impl Cache for EmbeddedCache {
    fn session(&self) -> Box<dyn Session> {
        Box::new(EmbeddedSession { shared: self.shared.clone() })
    }

    fn describe(&self) -> String {
        "embedded".into()
    }
}

/// A session on the shared map: keeps nothing of its own.
pub struct EmbeddedSession {
    shared: Arc<Shared>,
}

impl Session for EmbeddedSession {
    fn apply<'a>(
        &'a mut self,
        batch: &'a [Command],
        _within: Duration,
    ) -> LocalBoxFuture<'a, Vec<Result<Reply, CacheError>>> {
        async move { batch.iter().map(|command| self.shared.apply(command)).collect() }.boxed_local()
    }

    fn unlink_and_scan<'a>(
        &'a mut self,
        doomed: &'a [Vec<Bytes>],
        scan: Option<Scan<'a>>,
        _within: Duration,
    ) -> LocalBoxFuture<'a, Progress> {
        async move {
            // The batches of a large scan follow each other without a wait: others on the thread must have their turn.
            tokio::task::yield_now().await;
            let remove = |keys: &Vec<Bytes>| keys.iter().map(|key| u64::from(self.shared.remove(key))).sum();
            let deleted = doomed.iter().map(remove).collect();
            let step = scan.map(|scan| ScanStep { keys: self.shared.keys(scan.only), next: None });
            Progress { deleted, step, failure: None }
        }
        .boxed_local()
    }

    fn ping(&mut self, _within: Duration) -> LocalBoxFuture<'_, Result<(), CacheError>> {
        ready(Ok(())).boxed_local()
    }

    fn reconnects(&self) -> u64 {
        0
    }
}

impl Shared {
    fn apply(&self, command: &Command) -> Result<Reply, CacheError> {
        match command {
            Command::Set { key, value, ttl } => self.set(key.as_bytes(), value, *ttl),
            Command::Get { key, max_bytes } => self.get(key.as_bytes(), *max_bytes),
            Command::Delete { key } if self.remove(key.as_bytes()) => Ok(Reply::Deleted),
            Command::Delete { .. } => Ok(Reply::Absent),
        }
    }

    fn set(&self, key: &[u8], value: &[u8], ttl: Option<Ttl>) -> Result<Reply, CacheError> {
        let added = weight(key.len(), value.len());
        if added > self.max_bytes.min(u64::from(u32::MAX)) {
            let spent = added - value.len() as u64;
            let max_bytes = self.max_bytes.min(u64::from(u32::MAX)).saturating_sub(spent);
            return Err(CacheError::ValueTooLarge { bytes: value.len() as u64, max_bytes });
        }
        let expires = ttl.map(|ttl| Instant::now() + Duration::from_secs(ttl.seconds().into()));
        self.map.insert(Bytes::copy_from_slice(key), Entry { value: Bytes::copy_from_slice(value), expires });
        self.settle(added);
        Ok(Reply::Stored)
    }

    fn get(&self, key: &[u8], max_bytes: usize) -> Result<Reply, CacheError> {
        match self.map.get(key).filter(Entry::is_live) {
            None => Ok(Reply::Miss),
            Some(Entry { value, .. }) if value.len() > max_bytes => {
                Err(CacheError::ValueTooLarge { bytes: value.len() as u64, max_bytes: max_bytes as u64 })
            }
            Some(Entry { value, .. }) => Ok(Reply::Hit(value)),
        }
    }

    fn remove(&self, key: &[u8]) -> bool {
        self.map.remove(key).is_some_and(|entry| entry.is_live())
    }

    fn keys(&self, only: Option<&Pattern>) -> Vec<Bytes> {
        let prefix = self.version_prefix.as_bytes();
        self.map
            .iter()
            .filter(|(key, entry)| entry.is_live() && (prefix.is_empty() || !key.starts_with(prefix)))
            .filter(|(key, _)| only.is_none_or(|pattern| pattern.matches(key)))
            .map(|(key, _)| Bytes::clone(&key))
            .collect()
    }

    /// Makes the map evict once enough has been stored. One run evicts a bounded number of entries, so a large value
    /// that takes the place of many small ones calls for several.
    fn settle(&self, added: u64) {
        let slack = (self.max_bytes / 64).min(MAX_SLACK_BYTES);
        if self.unsettled_bytes.fetch_add(added, Ordering::Relaxed) + added <= slack {
            return;
        }
        self.unsettled_bytes.store(0, Ordering::Relaxed);
        let mut before = u64::MAX;
        loop {
            self.map.run_pending_tasks();
            let now = self.map.weighted_size();
            if now <= self.max_bytes || now >= before {
                return;
            }
            before = now;
        }
    }
}

/// Tells the map when an entry may be reclaimed: counted from its last write, which also clears an earlier limit.
struct FromTheWrite;

impl Expiry<Bytes, Entry> for FromTheWrite {
    fn expire_after_create(&self, _: &Bytes, entry: &Entry, _: Instant) -> Option<Duration> {
        entry.expires.map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn expire_after_update(&self, _: &Bytes, entry: &Entry, _: Instant, _: Option<Duration>) -> Option<Duration> {
        entry.expires.map(|at| at.saturating_duration_since(Instant::now()))
    }
}

fn weight(key_bytes: usize, value_bytes: usize) -> u64 {
    key_bytes as u64 + value_bytes as u64 + ENTRY_OVERHEAD_BYTES
}
