//! Keys of operations that write and came behind a pattern delete: one that stopped before its end and goes on later
//! has to look at them again, because it may have passed their places.

use std::collections::HashMap;

use ahash::RandomState;
use bytes::Bytes;

use super::BarrierId;

/// Bytes of the keys that are noted, at most.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// What a key takes besides its text, about.
const ENTRY_BYTES: usize = 64;

/// Each key with the last barrier that an operation on it came behind.
#[derive(Default)]
pub(super) struct WrittenKeys {
    keys: HashMap<Bytes, BarrierId, RandomState>,
    bytes: usize,
    /// The last barrier behind which a key came for which there was no room.
    lacks: Option<BarrierId>,
}

impl WrittenKeys {
    pub(super) fn note(&mut self, key: &[u8], behind: BarrierId) {
        if let Some(noted) = self.keys.get_mut(key) {
            *noted = behind.max(*noted);
            return;
        }
        let bytes = key.len() + ENTRY_BYTES;
        if self.bytes + bytes > MAX_BYTES {
            self.lacks = self.lacks.max(Some(behind));
            return;
        }
        self.bytes += bytes;
        self.keys.insert(Bytes::copy_from_slice(key), behind);
    }

    /// The keys behind this barrier, whatever its patterns. None: some of them are not known.
    pub(super) fn since(&self, barrier: BarrierId) -> Option<Vec<Bytes>> {
        if self.lacks >= Some(barrier) {
            return None;
        }
        let behind = self.keys.iter().filter(|(_, behind)| **behind >= barrier);
        Some(behind.map(|(key, _)| key.clone()).collect())
    }

    /// Only barriers from `first` on are still asked about; None: there are none. Room is made once there is little.
    pub(super) fn forget_before(&mut self, first: Option<BarrierId>) {
        let Some(first) = first else { return *self = WrittenKeys::default() };
        self.lacks = self.lacks.filter(|lacks| *lacks >= first);
        if self.bytes > MAX_BYTES / 2 {
            self.keys.retain(|_, behind| *behind >= first);
            self.bytes = self.keys.keys().map(|key| key.len() + ENTRY_BYTES).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn barrier(number: u64) -> BarrierId {
        BarrierId::new(number).unwrap()
    }

    fn since(written: &WrittenKeys, number: u64) -> Option<Vec<Bytes>> {
        let mut keys = written.since(barrier(number))?;
        keys.sort();
        Some(keys)
    }

    #[test]
    fn a_barrier_is_told_the_keys_that_came_behind_it() {
        let mut written = WrittenKeys::default();
        for (key, behind) in [("a:1", 1), ("a:2", 2), ("a:2", 1), ("a:3", 1), ("a:3", 3)] {
            written.note(key.as_bytes(), barrier(behind));
        }
        assert_eq!(since(&written, 1).unwrap(), ["a:1", "a:2", "a:3"]);
        assert_eq!(since(&written, 2).unwrap(), ["a:2", "a:3"]);
        assert_eq!(since(&written, 3).unwrap(), ["a:3"]);
        assert!(since(&written, 4).unwrap().is_empty());
    }

    #[test]
    fn where_there_was_no_room_for_a_key_nothing_is_told() {
        let mut written = WrittenKeys::default();
        let key = |n: usize| format!("{n:01000}");
        (0..=MAX_BYTES / 1000).for_each(|n| written.note(key(n).as_bytes(), barrier(2)));
        assert!(since(&written, 1).is_none() && since(&written, 2).is_none());
        assert!(since(&written, 3).is_some(), "none of those came behind it");
        assert!(written.bytes <= MAX_BYTES);
        written.forget_before(Some(barrier(2)));
        assert!(since(&written, 2).is_none());
        written.forget_before(Some(barrier(3)));
        written.note(b"later", barrier(3));
        assert_eq!(since(&written, 2).unwrap(), ["later"], "of the others nobody asks any more");
        written.forget_before(None);
        assert!(since(&written, 1).is_some_and(|keys| keys.is_empty()));
    }
}
