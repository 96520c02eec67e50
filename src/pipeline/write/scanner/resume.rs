//! Where scans have stopped before their end, for a while: the same patterns sent again go on there.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ahash::RandomState;
use bytes::Bytes;

use crate::cache::Cursor;
use crate::event::pattern::Pattern;
use crate::event::version::Version;
use crate::pipeline::work::barriers::WritesBehind;

/// How long a place is kept.
const KEEP: Duration = Duration::from_secs(300);
/// ResumePoints kept, at most: beyond them the oldest go.
const MAX_POINTS: usize = 256;
/// Bytes of the samples in them, at most: beyond them, too, the oldest go.
const MAX_SAMPLE_BYTES: usize = 4 * 1024 * 1024;

/// Where a scan is.
pub(super) enum At {
    Start,
    ResumePoint(Cursor),
    End,
}

impl At {
    /// Where a pass begins.
    pub(super) fn begin(pass: Option<&Option<Cursor>>) -> Self {
        match pass {
            Some(Some(cursor)) => At::ResumePoint(*cursor),
            Some(None) | None => At::Start,
        }
    }
}

/// What a pattern delete is known by when it comes again: its patterns in any order, its version, and whether it is a preview.
pub(super) type ScanName = [u64; 2];

/// How far a pattern delete has come.
pub(super) struct ResumePoint {
    pub(super) cursor: Cursor,
    /// What a preview has counted and sampled, for each of its patterns by text.
    pub(super) found: HashMap<Box<str>, (u64, Vec<Bytes>)>,
    /// Knows what was written since, which may lie before the cursor; a preview has none.
    pub(super) writes: Option<WritesBehind>,
}

impl ResumePoint {
    fn sample_bytes(&self) -> usize {
        self.found.values().flat_map(|(_, sample)| sample).map(Bytes::len).sum()
    }
}

#[derive(Default)]
pub(super) struct ResumePoints {
    kept: HashMap<ScanName, (Instant, ResumePoint)>,
    hashers: [RandomState; 2],
}

impl ResumePoints {
    pub(super) fn name(&self, patterns: &[Pattern], version: Option<&Version>, dry_run: bool) -> ScanName {
        let mut texts: Vec<&str> = patterns.iter().map(Pattern::as_str).collect();
        texts.sort_unstable();
        let version = version.map(Version::stored);
        self.hashers.each_ref().map(|hasher| hasher.hash_one((&texts, &version, dry_run)))
    }

    pub(super) fn keep(&mut self, name: ScanName, place: ResumePoint, now: Instant) {
        self.drop_old(now);
        while !self.kept.is_empty()
            && (self.kept.len() >= MAX_POINTS || self.sample_bytes() + place.sample_bytes() > MAX_SAMPLE_BYTES)
        {
            let oldest = self.kept.iter().min_by_key(|(_, (kept, _))| *kept).map(|(name, _)| *name);
            oldest.map(|oldest| self.kept.remove(&oldest));
        }
        self.kept.insert(name, (now, place));
    }

    fn sample_bytes(&self) -> usize {
        self.kept.values().map(|(_, place)| place.sample_bytes()).sum()
    }

    pub(super) fn take(&mut self, name: &ScanName, now: Instant) -> Option<ResumePoint> {
        self.drop_old(now);
        self.kept.remove(name).map(|(_, place)| place)
    }

    /// Drops those whose time is over.
    pub(super) fn drop_old(&mut self, now: Instant) {
        self.kept.retain(|_, (kept, _)| now.saturating_duration_since(*kept) < KEEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&'static str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::parse(*text, true).unwrap()).collect()
    }

    fn place(at: u64) -> ResumePoint {
        ResumePoint { cursor: Cursor { at, server: 1 }, found: HashMap::new(), writes: None }
    }

    #[test]
    fn a_place_is_found_once_by_the_same_sweep_and_not_after_five_minutes() {
        let (mut resume, now) = (ResumePoints::default(), Instant::now());
        let name = resume.name(&patterns(&["a*", "b*"]), None, false);
        assert_eq!(name, resume.name(&patterns(&["b*", "a*"]), None, false));
        assert_ne!(name, resume.name(&patterns(&["a*", "b*"]), None, true));
        assert_ne!(name, resume.name(&patterns(&["a*", "b*"]), Version::from_number(1).as_ref(), false));
        assert_ne!(name, resume.name(&patterns(&["a*"]), None, false));
        resume.keep(name, place(7), now);
        assert_eq!(resume.take(&name, now + KEEP / 2).map(|place| place.cursor.at), Some(7));
        assert!(resume.take(&name, now).is_none());
        resume.keep(name, place(7), now);
        assert!(resume.take(&name, now + KEEP).is_none());
    }

    #[test]
    fn of_samples_that_are_too_large_together_the_oldest_go() {
        let (mut resume, now) = (ResumePoints::default(), Instant::now());
        for (age, number) in (0..5).rev().enumerate() {
            let sample = vec![Bytes::from(vec![b'k'; MAX_SAMPLE_BYTES / 4])];
            let place = ResumePoint { found: HashMap::from([("k*".into(), (1, sample))]), ..place(number) };
            resume.keep([number, 0], place, now - Duration::from_millis(age as u64));
        }
        assert_eq!(resume.kept.len(), 4);
        assert!(resume.take(&[0, 0], now).is_some() && resume.take(&[1, 0], now).is_none());
    }

    #[test]
    fn of_too_many_places_the_oldest_go() {
        let (mut resume, now) = (ResumePoints::default(), Instant::now());
        let names: Vec<ScanName> = (0..=MAX_POINTS as u64).map(|number| [number, 0]).collect();
        for (age, name) in names.iter().rev().enumerate() {
            resume.keep(*name, place(name[0]), now - Duration::from_millis(age as u64));
        }
        assert_eq!(resume.kept.len(), MAX_POINTS);
        assert!(resume.take(&names[MAX_POINTS], now).is_some());
        assert!(resume.take(&names[1], now).is_none() && resume.take(&names[0], now).is_some());
    }
}
