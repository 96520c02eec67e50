//! Stopwatch: where an entry's time goes between its acceptance and its end. A value; the clock is read by who moves the
//! entry on, and nothing it says has any effect on the work.

use std::time::Instant;

use crate::event::outcome::Spent;

/// A part of its way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// For its turn, a slot, room, a pattern.
    #[default]
    Waiting,
    /// The blob is fetched, pauses between attempts included.
    Fetching,
    /// In a writer's queue or on the way to the cache and back; a pattern: its scan.
    Cache,
}

/// One entry's. All moments are microseconds after the acceptance.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stopwatch {
    phase: Phase,
    has_stopped: bool,
    since: u32,
    fetching: u32,
    cache: u32,
}

impl Stopwatch {
    /// It begins this part. What has ended stays ended.
    pub fn enter(&mut self, phase: Phase, now: u32) {
        if !self.has_stopped {
            match self.phase {
                Phase::Waiting => {}
                Phase::Fetching => self.fetching += now.saturating_sub(self.since),
                Phase::Cache => self.cache += now.saturating_sub(self.since),
            }
            (self.phase, self.since) = (phase, now.max(self.since));
        }
    }

    /// It ends, if it has not before.
    pub fn stop(&mut self, now: u32) {
        self.enter(Phase::Waiting, now);
        self.has_stopped = true;
    }

    /// Up to its end.
    pub fn spent(&self) -> Spent {
        Spent { total: self.since, fetching: self.fetching, cache: self.cache }
    }
}

/// Microseconds from one moment to another; more than an hour is as good as this number can say.
pub fn micros(from: Instant, to: Instant) -> u32 {
    let passed = to.saturating_duration_since(from);
    let micros = passed.as_secs().saturating_mul(1_000_000).saturating_add(passed.subsec_micros().into());
    u32::try_from(micros).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_what_was_spent_in_each_place_and_nothing_counts_after_the_end() {
        let mut watch = Stopwatch::default();
        for (phase, now) in [
            (Phase::Fetching, 10),
            (Phase::Waiting, 110),
            (Phase::Fetching, 150),
            (Phase::Waiting, 160),
            (Phase::Cache, 1_000),
        ] {
            watch.enter(phase, now);
        }
        watch.stop(1_500);
        watch.enter(Phase::Fetching, 9_000);
        watch.stop(10_000);
        assert_eq!(watch.spent(), Spent { total: 1_500, fetching: 110, cache: 500 });
    }

    #[test]
    fn a_clock_that_was_read_early_takes_nothing_back() {
        let mut watch = Stopwatch::default();
        watch.enter(Phase::Cache, 100);
        watch.stop(90);
        assert_eq!(watch.spent(), Spent { total: 100, fetching: 0, cache: 0 });
    }
}
