//! What the embedded cache holds under a key, and for how long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use moka::Expiry;

use crate::cache::Remembered;
use crate::cache::standing::Held;

/// What an entry costs beside its key and value, about.
const ENTRY_OVERHEAD_BYTES: u64 = 64;
/// What is remembered of a value, about.
const REMEMBERED_BYTES: u64 = 160;

/// A value, or in place of a value a version, under a version key.
#[derive(Clone)]
pub(super) struct StoredValue {
    pub(super) value: Bytes,
    /// None: does not expire. The map's own clock only decides when the memory is freed.
    pub(super) expires: Option<Instant>,
    /// That of the key, if it has one: so that it stays as long as the value does.
    pub(super) version: Option<Kept>,
    /// What is remembered of this very value: whoever writes another takes it away.
    pub(super) remembered: Option<Arc<Remembered>>,
}

/// A version, as long as it is kept.
#[derive(Clone)]
pub(super) struct Kept {
    /// As it is stored in a version key.
    pub(super) stored: Bytes,
    pub(super) until: Instant,
}

impl StoredValue {
    /// What it takes of the bound under a key of so many bytes.
    pub(super) fn weight(&self, key_bytes: usize) -> u64 {
        let version = self.version.as_ref().map_or(0, |version| version.stored.len());
        let remembered = self.remembered.as_ref().map_or(0, |_| REMEMBERED_BYTES);
        (key_bytes + self.value.len() + version) as u64 + remembered + ENTRY_OVERHEAD_BYTES
    }

    pub(super) fn is_live(&self) -> bool {
        self.expires.is_none_or(|at| Instant::now() < at)
    }
}

impl Kept {
    pub(super) fn bare(&self) -> &[u8] {
        Held::parse(&self.stored).version
    }
}

/// Tells the map when an entry may be reclaimed: counted from its last write, which also clears an earlier limit.
pub(super) struct FromTheWrite;

impl Expiry<Bytes, StoredValue> for FromTheWrite {
    fn expire_after_create(&self, _: &Bytes, entry: &StoredValue, _: Instant) -> Option<Duration> {
        entry.expires.map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn expire_after_update(&self, _: &Bytes, entry: &StoredValue, _: Instant, _: Option<Duration>) -> Option<Duration> {
        entry.expires.map(|at| at.saturating_duration_since(Instant::now()))
    }
}
