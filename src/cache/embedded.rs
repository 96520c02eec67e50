//! The cache in this process: for a demonstration, a test, or a machine without Redis.
//!
//! Owns a map bounded in bytes, from which the least recently used entry goes first. Keys and values are copied as they
//! are stored: they come as slices of a request's body, and an entry of a few bytes would otherwise keep megabytes
//! alive that no bound counts. What is read is shared, not copied. Never blocks on anything but its own locks, so it
//! takes no notice of time limits; a scan is one step, however many keys there are.

mod value;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{LocalBoxFuture, ready};
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache as Map;

use self::value::{FromTheWrite, Kept, StoredValue};
use super::standing::{Held, Seen, Standing};
use super::version_key::{WRITTEN, owner, version_key};
use super::{
    Cache, CacheError, Command, DeleteGroup, Incoming, Progress, Remembered, Reply, Room, Scan, ScanStep, Session,
    StreamError, Unlinked, Usage,
};
use crate::event::pattern::Wider;
use crate::event::version::Version;
use crate::event::{CacheKey, Ttl};
use crate::redis::slot::slot;

/// The map may exceed its bound by this much, or a 64th of the bound if that is less, until it is made to evict.
const MAX_SLACK_BYTES: u64 = 4 * 1024 * 1024;

/// A map shared by all its sessions. Cheap to clone; clones are the same map.
#[derive(Clone)]
pub struct EmbeddedCache {
    shared: Arc<MapState>,
}

struct MapState {
    map: Map<Bytes, StoredValue, ahash::RandomState>,
    evictions: Arc<AtomicU64>,
    max_bytes: u64,
    version_prefix: String,
    version_window: Duration,
    /// Held from looking at a key's version to the write that follows from it.
    versions: Mutex<()>,
    /// Some key had a version: until then none is looked for.
    has_versions: AtomicBool,
    /// Bytes stored since the map was last made to evict: it does so by itself only after many writes, which may be
    /// large.
    unsettled_bytes: AtomicU64,
    /// For values that are read: they may outlive their entries.
    room: Room,
}

impl EmbeddedCache {
    /// Holds up to `max_bytes` of keys, values and an overhead for each. Keys that begin with `version_prefix`, which is not
    /// empty, are the cache's own: a key's version is kept there for `version_window`.
    pub fn new(max_bytes: u64, version_prefix: impl Into<String>, version_window: Duration) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        let evicted = evictions.clone();
        let map = Map::builder()
            .max_capacity(max_bytes)
            .weigher(|key: &Bytes, entry: &StoredValue| u32::try_from(entry.weight(key.len())).unwrap_or(u32::MAX))
            // The default policy may refuse a new entry, and then "stored" would not be true.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(FromTheWrite)
            .eviction_listener(move |_, _, cause| {
                evicted.fetch_add(u64::from(cause == RemovalCause::Size), Relaxed);
            })
            .build_with_hasher(ahash::RandomState::new());
        EmbeddedCache {
            shared: Arc::new(MapState {
                map,
                evictions,
                max_bytes,
                version_prefix: version_prefix.into(),
                version_window,
                versions: Mutex::default(),
                has_versions: AtomicBool::new(false),
                unsettled_bytes: AtomicU64::new(0),
                room: Room::default(),
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

    fn room(&self) -> &Room {
        &self.shared.room
    }

    /// The value is to be in this process, whole.
    fn takes_streams(&self) -> bool {
        false
    }

    fn usage(&self) -> Option<Usage> {
        let bytes = self.used_bytes();
        Some(Usage { bytes, entries: self.shared.map.entry_count(), evictions: self.shared.evictions.load(Relaxed) })
    }

    fn describe(&self) -> String {
        "embedded".into()
    }
}

/// A session on the shared map: keeps nothing of its own.
pub struct EmbeddedSession {
    shared: Arc<MapState>,
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
        groups: &'a [DeleteGroup],
        scan: Option<Scan<'a>>,
        _within: Duration,
    ) -> LocalBoxFuture<'a, Progress> {
        async move {
            // The batches of a large scan follow each other without a wait: others on the thread must have their turn.
            tokio::task::yield_now().await;
            let mut progress = Progress::default();
            for group in groups {
                progress.unlinked.push(self.shared.sweep(group));
            }
            progress.step = scan.map(|scan| self.shared.scan(scan));
            progress
        }
        .boxed_local()
    }

    fn store_incoming<'a>(
        &'a mut self,
        _value: Incoming<'a>,
        _within: Duration,
    ) -> LocalBoxFuture<'a, Result<Reply, StreamError>> {
        let refused = CacheError::Refused("this cache takes values whole".into());
        ready(Err(refused.into())).boxed_local()
    }

    fn refresh_long<'a>(
        &'a mut self,
        refresh: &'a Command,
        _within: Duration,
    ) -> LocalBoxFuture<'a, Result<Reply, CacheError>> {
        ready(self.shared.apply(refresh)).boxed_local()
    }

    fn ping(&mut self, _within: Duration) -> LocalBoxFuture<'_, Result<(), CacheError>> {
        ready(Ok(())).boxed_local()
    }

    fn reconnects(&self) -> u64 {
        0
    }
}

impl MapState {
    fn apply(&self, command: &Command) -> Result<Reply, CacheError> {
        match command {
            Command::Set { key, value, ttl, version, remembered } => {
                let remembered = remembered.as_ref().filter(|_| version.is_some());
                self.set(key, value, *ttl, version.as_ref(), remembered.map(|own| Arc::new((**own).clone())))
            }
            Command::Look { key, version } => Ok(Reply::Seen(Box::new(self.look(key.as_bytes(), version.as_ref())))),
            Command::Expiry { key } => Ok(self.expiry(key.as_bytes())),
            Command::Refresh { key, ttl, version, remembered } => {
                Ok(self.refresh(key.as_bytes(), *ttl, version, remembered))
            }
            Command::Get { key, max_bytes } => self.get(key.as_bytes(), *max_bytes),
            Command::Delete { key, version } => {
                let _held = self.lock();
                if let Some(version) = version {
                    let stored = version.stored();
                    if self.supersedes(key.as_bytes(), &stored) {
                        return Ok(Reply::Superseded);
                    }
                    self.keep(key.as_bytes(), self.now_applied(&stored));
                }
                Ok(if self.remove(key.as_bytes(), version.is_none()) { Reply::Deleted } else { Reply::Absent })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a write with this version comes too late. An equal version is applied once more if it is a storage's own
    /// place, or if the key is gone and nothing with a version has deleted it.
    fn supersedes(&self, key: &[u8], version: &[u8]) -> bool {
        let Some(old) = self.version(key) else { return false };
        Held::parse(&old.stored).standing(version, self.holds(key)) != Standing::Open
    }

    fn look(&self, key: &[u8], version: Option<&Version>) -> Seen {
        let (entry, old) = (self.map.get(key).filter(StoredValue::is_live), self.version(key));
        let (held, holds) = (old.as_ref().map(|old| Held::parse(&old.stored)), entry.is_some());
        let standing = held.as_ref().zip(version).map(|(held, new)| held.standing(&new.stored(), holds));
        let remembered = entry.and_then(|entry| entry.remembered).map(|remembered| (*remembered).clone());
        let version = held.and_then(|held| Version::from_stored(held.version));
        Seen { standing: standing.unwrap_or_default(), remembered, version, holds }
    }

    fn expiry(&self, key: &[u8]) -> Reply {
        match self.map.get(key).filter(StoredValue::is_live) {
            None => Reply::Miss,
            Some(entry) => Reply::Expires(entry.expires.map(|at| at.saturating_duration_since(Instant::now()))),
        }
    }

    fn refresh(&self, key: &[u8], ttl: Option<Ttl>, version: &Version, remembered: &Remembered) -> Reply {
        let _held = self.lock();
        let stored = version.stored();
        if self.supersedes(key, &stored) {
            return Reply::Superseded;
        }
        let is_it = |entry: &StoredValue| entry.is_live() && entry.remembered.as_deref() == Some(remembered);
        let Some(entry) = self.map.get(key).filter(is_it) else { return Reply::Changed };
        let version = self.now_applied(&[&stored, WRITTEN].concat());
        self.keep(key, version.clone());
        let entry = StoredValue { expires: ttl.map(from_now), version: Some(version), ..entry };
        self.map.insert(Bytes::copy_from_slice(key), entry);
        Reply::Unchanged
    }

    /// The last version applied to the key.
    fn version(&self, key: &[u8]) -> Option<Kept> {
        if !self.has_versions.load(Relaxed) {
            return None;
        }
        let beside = self.map.get(key).filter(StoredValue::is_live).and_then(|entry| entry.version);
        let kept = beside.or_else(|| self.map.get(&self.version_key(key)[..]).and_then(|entry| entry.version));
        kept.filter(|version| Instant::now() < version.until)
    }

    fn now_applied(&self, stored: &[u8]) -> Kept {
        Kept { stored: Bytes::copy_from_slice(stored), until: Instant::now() + self.version_window }
    }

    /// Keeps a version under the key's version key, where it outlives the value.
    fn keep(&self, key: &[u8], version: Kept) {
        self.has_versions.store(true, Relaxed);
        let version_key = self.version_key(key);
        let entry =
            StoredValue { value: Bytes::new(), expires: Some(version.until), version: Some(version), remembered: None };
        let added = entry.weight(version_key.len());
        self.map.insert(version_key.into(), entry);
        self.settle(added);
    }

    fn sweep(&self, DeleteGroup { keys, version }: &DeleteGroup) -> Unlinked {
        let mut unlinked = Unlinked::default();
        let version = version.as_ref().map(Version::stored);
        for key in keys {
            let _held = self.lock();
            let old = version.as_ref().and_then(|_| self.version(key));
            if let (Some(old), Some(version)) = (&old, &version)
                && old.bare() > &version[..]
            {
                unlinked.newer.extend(self.holds(key).then(|| key.clone()));
                continue;
            }
            let is_deleted = self.remove(key, version.is_none());
            unlinked.deleted += u64::from(is_deleted);
            if let Some(version) = &version
                && (is_deleted || old.is_some())
            {
                self.keep(key, self.now_applied(version));
            }
        }
        unlinked
    }

    fn version_key(&self, key: &[u8]) -> Vec<u8> {
        version_key(&self.version_prefix, slot(key), key).concat()
    }

    fn holds(&self, key: &[u8]) -> bool {
        self.map.get(key).is_some_and(|entry| entry.is_live())
    }

    fn set(
        &self,
        key: &CacheKey,
        value: &[u8],
        ttl: Option<Ttl>,
        version: Option<&Version>,
        remembered: Option<Arc<Remembered>>,
    ) -> Result<Reply, CacheError> {
        let (key, most) = (key.as_bytes(), self.max_bytes.min(u64::from(u32::MAX)));
        let too_large =
            |spent: u64| CacheError::ValueTooLarge { bytes: value.len() as u64, max_bytes: most.saturating_sub(spent) };
        // What no entry could hold is not even copied.
        if value.len() as u64 > most {
            return Err(too_large(0));
        }
        let (own_key, own_value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        let held = self.lock();
        let stored = version.map(Version::stored);
        if stored.as_ref().is_some_and(|stored| self.supersedes(key, stored)) {
            return Ok(Reply::Superseded);
        }
        let is_versioned = stored.is_some();
        let version = match stored {
            None => self.version(key),
            Some(stored) => Some(self.now_applied(&[&stored, WRITTEN].concat())),
        };
        let entry = StoredValue { value: own_value, expires: ttl.map(from_now), version, remembered };
        let added = entry.weight(key.len());
        if added > most {
            return Err(too_large(added - value.len() as u64));
        }
        if is_versioned && let Some(version) = &entry.version {
            self.keep(key, version.clone());
        }
        self.map.insert(own_key, entry);
        drop(held);
        self.settle(added);
        Ok(Reply::Stored)
    }

    fn get(&self, key: &[u8], max_bytes: usize) -> Result<Reply, CacheError> {
        match self.map.get(key).filter(StoredValue::is_live) {
            None => Ok(Reply::Miss),
            Some(StoredValue { value, .. }) if value.len() > max_bytes => {
                Err(CacheError::ValueTooLarge { bytes: value.len() as u64, max_bytes: max_bytes as u64 })
            }
            Some(StoredValue { value, .. }) => Ok(Reply::Hit(self.room.hold(value)?)),
        }
    }

    /// Whether there was a value. Its version is to stay where only the value goes.
    fn remove(&self, key: &[u8], leaves_version: bool) -> bool {
        let Some(entry) = self.map.remove(key) else { return false };
        if leaves_version && let Some(version) = &entry.version {
            self.keep(key, version.clone());
        }
        entry.is_live()
    }

    fn scan(&self, Scan { only, versioned, .. }: Scan<'_>) -> ScanStep {
        let mut step = ScanStep { keys: Vec::new(), versioned: Vec::new(), next: None };
        let is_wanted = |key: &[u8]| only.is_none_or(|wider: &Wider| key.starts_with(wider.prefix()));
        for (key, _) in self.map.iter().filter(|(_, entry)| entry.is_live()) {
            if !key.starts_with(self.version_prefix.as_bytes()) {
                step.keys.extend(is_wanted(&key).then(|| Bytes::clone(&key)));
            } else if versioned && let Some(owner) = owner(&self.version_prefix, &key) {
                step.versioned.extend(is_wanted(owner).then(|| key.slice_ref(owner)));
            }
        }
        step
    }

    /// Makes the map evict once enough has been stored. One run evicts a bounded number of entries, so a large value
    /// that takes the place of many small ones calls for several.
    fn settle(&self, added: u64) {
        let slack = (self.max_bytes / 64).min(MAX_SLACK_BYTES);
        if self.unsettled_bytes.fetch_add(added, Relaxed) + added <= slack {
            return;
        }
        self.unsettled_bytes.store(0, Relaxed);
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

fn from_now(ttl: Ttl) -> Instant {
    Instant::now() + Duration::from_secs(ttl.seconds().into())
}
