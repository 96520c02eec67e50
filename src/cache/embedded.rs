//! The cache in this process: for a demonstration, a test, or a machine without Redis.
//!
//! Owns a map bounded in bytes, from which the least recently used entry goes first. Keys and values are copied as they
//! are stored: they come as slices of a request's body, and an entry of a few bytes would otherwise keep megabytes
//! alive that no bound counts. What is read is shared, not copied. Never blocks on anything but its own locks, so it
//! takes no notice of time limits; a scan is one step, however many keys there are.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{LocalBoxFuture, ready};
use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache as Map;

use super::companion::{companion, owner, slot};
use super::{Cache, CacheError, Command, Doomed, Progress, Reply, Scan, ScanStep, Session, Unlinked};
use crate::event::pattern::Pattern;
use crate::event::version::Version;
use crate::event::{CacheKey, Ttl};

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
    version_window: Ttl,
    /// Held from looking at a key's version to the write that follows from it. Writes without a version need not wait:
    /// wherever they come in between, they could as well have come before or after.
    versions: Mutex<()>,
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
    /// Holds up to `max_bytes` of keys, values and an overhead for each. Keys that begin with `version_prefix`, which is not
    /// empty, are the cache's own: a key's version is kept there for `version_window` (whole seconds, at least one).
    pub fn new(max_bytes: u64, version_prefix: impl Into<String>, version_window: Duration) -> Self {
        let map = Map::builder()
            .max_capacity(max_bytes)
            .weigher(|key: &Bytes, entry: &Entry| {
                u32::try_from(weight(key.len(), entry.value.len())).unwrap_or(u32::MAX)
            })
            // The default policy may refuse a new entry, and then "stored" would not be true.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(FromTheWrite)
            .build_with_hasher(ahash::RandomState::new());
        let seconds = u32::try_from(version_window.as_secs()).unwrap_or(u32::MAX).max(1);
        EmbeddedCache {
            shared: Arc::new(Shared {
                map,
                max_bytes,
                version_prefix: version_prefix.into(),
                version_window: Ttl(NonZeroU32::MIN.saturating_add(seconds - 1)),
                versions: Mutex::default(),
                unsettled_bytes: AtomicU64::new(0),
            }),
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
        doomed: &'a [Doomed],
        scan: Option<Scan<'a>>,
        _within: Duration,
    ) -> LocalBoxFuture<'a, Progress> {
        async move {
            // The batches of a large scan follow each other without a wait: others on the thread must have their turn.
            tokio::task::yield_now().await;
            let mut progress = Progress::default();
            for doomed in doomed {
                match self.shared.sweep(doomed) {
                    Ok(unlinked) => progress.unlinked.push(unlinked),
                    Err(error) => {
                        progress.unlinked.push(Unlinked::default());
                        progress.failure = Some(error);
                    }
                }
            }
            progress.step = scan.map(|scan| self.shared.scan(scan));
            progress
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
            Command::Set { key, value, ttl, version } => {
                self.guarded(key, version.as_ref(), || self.set(key.as_bytes(), value, *ttl))
            }
            Command::Get { key, max_bytes } => self.get(key.as_bytes(), *max_bytes),
            Command::Delete { key, version } => {
                self.guarded(key, version.as_ref(), || match self.remove(key.as_bytes()) {
                    true => Ok(Reply::Deleted),
                    false => Ok(Reply::Absent),
                })
            }
        }
    }

    /// Carries out a write unless it is superseded.
    fn guarded(
        &self,
        key: &CacheKey,
        version: Option<&Version>,
        write: impl FnOnce() -> Result<Reply, CacheError>,
    ) -> Result<Reply, CacheError> {
        let Some(version) = version else { return write() };
        let _held = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let (companion, version) = (self.companion(key.as_bytes()), version.stored());
        if self.version(&companion).is_some_and(|old| old[..] >= version[..]) {
            return Ok(Reply::Superseded);
        }
        let reply = write()?;
        self.set(&companion, &version, Some(self.version_window))?;
        Ok(reply)
    }

    fn sweep(&self, Doomed { keys, version }: &Doomed) -> Result<Unlinked, CacheError> {
        let mut unlinked = Unlinked::default();
        let Some(version) = version.as_ref().map(Version::stored) else {
            unlinked.deleted = keys.iter().map(|key| u64::from(self.remove(key))).sum();
            return Ok(unlinked);
        };
        for key in keys {
            let _held = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
            let companion = self.companion(key);
            let old = self.version(&companion);
            if old.as_ref().is_some_and(|old| old[..] > version[..]) {
                unlinked.newer.extend(self.holds(key).then(|| key.clone()));
                continue;
            }
            let is_deleted = self.remove(key);
            unlinked.deleted += u64::from(is_deleted);
            if is_deleted || old.is_some() {
                self.set(&companion, &version, Some(self.version_window))?;
            }
        }
        Ok(unlinked)
    }

    fn companion(&self, key: &[u8]) -> Vec<u8> {
        companion(&self.version_prefix, slot(key), key).concat()
    }

    fn version(&self, companion: &[u8]) -> Option<Bytes> {
        self.map.get(companion).filter(Entry::is_live).map(|entry| entry.value)
    }

    fn holds(&self, key: &[u8]) -> bool {
        self.map.get(key).is_some_and(|entry| entry.is_live())
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

    fn scan(&self, Scan { only, guarded, .. }: Scan<'_>) -> ScanStep {
        let mut step = ScanStep { keys: Vec::new(), guarded: Vec::new(), next: None };
        let is_wanted = |key: &[u8]| only.is_none_or(|pattern: &Pattern| pattern.matches(key));
        for (key, _) in self.map.iter().filter(|(_, entry)| entry.is_live()) {
            if !key.starts_with(self.version_prefix.as_bytes()) {
                step.keys.extend(is_wanted(&key).then(|| Bytes::clone(&key)));
            } else if guarded && let Some(owner) = owner(&self.version_prefix, &key) {
                step.guarded.extend(is_wanted(owner).then(|| key.slice_ref(owner)));
            }
        }
        step
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
