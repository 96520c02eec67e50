//! Where scans have stopped before their end, for a while: the same patterns sent again go on there.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ahash::RandomState;
use bytes::Bytes;

use crate::cache::Cursor;
use crate::event::pattern::Pattern;
use crate::event::version::Version;

/// How long a place is kept.
const KEEP: Duration = Duration::from_secs(300);
/// Places kept, at most: beyond them the oldest go.
const MAX_PLACES: usize = 256;
/// Bytes of the samples in them, at most: beyond them, too, the oldest go.
const MAX_SAMPLE_BYTES: usize = 4 * 1024 * 1024;

/// What a sweep is known by when it comes again: its patterns in any order, its version, and whether it is a preview.
pub(super) type Name = [u64; 2];

/// How far a sweep has come.
pub(super) struct Place {
    pub(super) cursor: Cursor,
    /// Of a preview, for each of its patterns by text: what was counted and sampled.
    pub(super) found: HashMap<Box<str>, (u64, Vec<Bytes>)>,
}

impl Place {
    fn sample_bytes(&self) -> usize {
        self.found.values().flat_map(|(_, sample)| sample).map(Bytes::len).sum()
    }
}

#[derive(Default)]
pub(super) struct Places {
    kept: HashMap<Name, (Instant, Place)>,
    hashers: [RandomState; 2],
}

impl Places {
    pub(super) fn name(&self, patterns: &[Pattern], version: Option<&Version>, dry_run: bool) -> Name {
        let mut texts: Vec<&str> = patterns.iter().map(Pattern::as_str).collect();
        texts.sort_unstable();
        let version = version.map(Version::stored);
        self.hashers.each_ref().map(|hasher| hasher.hash_one((&texts, &version, dry_run)))
    }

    pub(super) fn keep(&mut self, name: Name, place: Place, now: Instant) {
        self.drop_old(now);
        while !self.kept.is_empty()
            && (self.kept.len() >= MAX_PLACES || self.sample_bytes() + place.sample_bytes() > MAX_SAMPLE_BYTES)
        {
            let oldest = self.kept.iter().min_by_key(|(_, (kept, _))| *kept).map(|(name, _)| *name);
            oldest.map(|oldest| self.kept.remove(&oldest));
        }
        self.kept.insert(name, (now, place));
    }

    fn sample_bytes(&self) -> usize {
        self.kept.values().map(|(_, place)| place.sample_bytes()).sum()
    }

    pub(super) fn take(&mut self, name: &Name, now: Instant) -> Option<Place> {
        self.drop_old(now);
        self.kept.remove(name).map(|(_, place)| place)
    }

    fn drop_old(&mut self, now: Instant) {
        self.kept.retain(|_, (kept, _)| now.saturating_duration_since(*kept) < KEEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&'static str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::parse(*text, true).unwrap()).collect()
    }

    fn place(at: u64) -> Place {
        Place { cursor: Cursor { at, server: 1 }, found: HashMap::new() }
    }

    #[test]
    fn a_place_is_found_once_by_the_same_sweep_and_not_after_five_minutes() {
        let (mut places, now) = (Places::default(), Instant::now());
        let name = places.name(&patterns(&["a*", "b*"]), None, false);
        assert_eq!(name, places.name(&patterns(&["b*", "a*"]), None, false));
        assert_ne!(name, places.name(&patterns(&["a*", "b*"]), None, true));
        assert_ne!(name, places.name(&patterns(&["a*", "b*"]), Version::from_number(1).as_ref(), false));
        assert_ne!(name, places.name(&patterns(&["a*"]), None, false));
        places.keep(name, place(7), now);
        assert_eq!(places.take(&name, now + KEEP / 2).map(|place| place.cursor.at), Some(7));
        assert!(places.take(&name, now).is_none());
        places.keep(name, place(7), now);
        assert!(places.take(&name, now + KEEP).is_none());
    }

    #[test]
    fn of_samples_that_are_too_large_together_the_oldest_go() {
        let (mut places, now) = (Places::default(), Instant::now());
        for (age, number) in (0..5).rev().enumerate() {
            let sample = vec![Bytes::from(vec![b'k'; MAX_SAMPLE_BYTES / 4])];
            let place = Place { found: HashMap::from([("k*".into(), (1, sample))]), ..place(number) };
            places.keep([number, 0], place, now - Duration::from_millis(age as u64));
        }
        assert_eq!(places.kept.len(), 4);
        assert!(places.take(&[0, 0], now).is_some() && places.take(&[1, 0], now).is_none());
    }

    #[test]
    fn of_too_many_places_the_oldest_go() {
        let (mut places, now) = (Places::default(), Instant::now());
        let names: Vec<Name> = (0..=MAX_PLACES as u64).map(|number| [number, 0]).collect();
        for (age, name) in names.iter().rev().enumerate() {
            places.keep(*name, place(name[0]), now - Duration::from_millis(age as u64));
        }
        assert_eq!(places.kept.len(), MAX_PLACES);
        assert!(places.take(&names[MAX_PLACES], now).is_some());
        assert!(places.take(&names[1], now).is_none() && places.take(&names[0], now).is_some());
    }
}
