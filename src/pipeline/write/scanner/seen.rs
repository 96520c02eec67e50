//! Which keys a scan has counted: one note for all its patterns, for Redis may show a key twice.
//!
//! The note holds eight bytes a key. What it may hold is bounded, and taken from admission as it grows; when it is full it
//! goes on with every second key, then every fourth, each of which stands for two or four.

use std::collections::HashSet;
use std::hash::Hash;

use ahash::RandomState;

use crate::pipeline::work::admission::Permit;

/// Keys noted at first.
const FIRST_KEYS: usize = 896;
/// Keys noted, at most: a table of 2^21 resume. Up to here counts are exact.
const MAX_KEYS: usize = FIRST_KEYS << 11;
/// What a key costs, with the table that is left behind when it grows.
const KEY_BYTES: usize = 16;

pub(super) struct CountedKeys {
    hashes: HashSet<u64, RandomState>,
    hasher: RandomState,
    /// A key is noted if this number of bits of its hash are zero.
    level: u32,
    max_keys: usize,
    permit: Permit,
}

impl CountedKeys {
    pub(super) fn new(permit: Permit) -> Self {
        CountedKeys { hashes: HashSet::default(), hasher: RandomState::new(), level: 0, max_keys: FIRST_KEYS, permit }
    }

    /// For how many keys this one counts: none if it was seen before.
    pub(super) fn note(&mut self, key: impl Hash) -> u64 {
        let hash = self.hasher.hash_one(key);
        if hash.trailing_zeros() < self.level || self.hashes.contains(&hash) {
            return 0;
        }
        while self.hashes.len() >= self.max_keys {
            self.make_room();
            if hash.trailing_zeros() < self.level {
                return 0;
            }
        }
        self.hashes.insert(hash);
        1 << self.level
    }

    /// Takes room for a key that is shown, until the scan is over.
    pub(super) fn hold(&mut self, bytes: usize) -> bool {
        self.permit.try_grow(0, bytes)
    }

    /// Whether counts are no longer exact.
    pub(super) fn is_estimating(&self) -> bool {
        self.level > 0
    }

    fn make_room(&mut self) {
        if self.max_keys < MAX_KEYS && self.permit.try_grow(0, self.max_keys * KEY_BYTES) {
            self.max_keys *= 2;
            return;
        }
        self.level += 1;
        let level = self.level;
        self.hashes.retain(|hash| hash.trailing_zeros() >= level);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::work::admission::Admission;

    fn count(seen: &mut CountedKeys, keys: std::ops::Range<u32>) -> u64 {
        keys.map(|key| seen.note(key)).sum()
    }

    #[test]
    fn a_key_counts_once() {
        let mut seen = CountedKeys::new(Admission::new(1, 1 << 30, 1).permit());
        assert_eq!(count(&mut seen, 0..100_000), 100_000);
        assert_eq!(count(&mut seen, 50_000..150_000), 50_000);
        assert!(!seen.is_estimating());
    }

    #[test]
    fn where_admission_is_full_counts_become_estimates_and_memory_stays_as_it_is() {
        let admission = Admission::new(1, 100_000, 1);
        let mut seen = CountedKeys::new(admission.permit());
        let counted = count(&mut seen, 0..1_000_000);
        assert!(seen.is_estimating() && seen.hashes.capacity() <= 8192 && admission.in_use().1 <= 100_000);
        assert!((900_000..1_100_000).contains(&counted), "{counted}");
        assert!(count(&mut seen, 0..1_000_000) < 300_000, "most were seen before");
        drop(seen);
        assert_eq!(admission.in_use().1, 0);
    }
}
