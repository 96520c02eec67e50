//! Slow operations in the log: what took longer than `log_slow_ms`, and where its time went. That they do not flood it is the
//! logger's care.

use std::time::Duration;

use super::request_ids::{RequestIds, log_request};
use crate::event::outcome::Spent;
use crate::event::wire::Answered;

pub struct SlowLog {
    /// Microseconds; beyond the greatest nothing is told apart.
    limit: u32,
}

/// Where the time went, in milliseconds; the last three are the first.
pub struct SlowTimes {
    pub ms: u32,
    pub waiting_ms: u32,
    pub fetching_ms: u32,
    pub redis_ms: u32,
}

impl SlowLog {
    pub fn new(limit: Duration) -> Self {
        SlowLog { limit: u32::try_from(limit.as_micros()).unwrap_or(u32::MAX) }
    }

    /// Whether any of its operations was slow.
    pub fn concerns(&self, answered: &Answered) -> bool {
        answered.spent.iter().any(|spent| self.is_slow(*spent))
    }

    /// None: it was not slow.
    pub fn parts(&self, spent: Spent) -> Option<SlowTimes> {
        let (ms, fetching_ms, redis_ms) = (spent.total / 1000, spent.fetching / 1000, spent.cache / 1000);
        let waiting_ms = ms.saturating_sub(fetching_ms).saturating_sub(redis_ms);
        self.is_slow(spent).then_some(SlowTimes { ms, waiting_ms, fetching_ms, redis_ms })
    }

    /// Tells of every operation of the event that ended ok and was slow.
    pub fn tell(&self, answered: &Answered, ids: &RequestIds) {
        let (event, event_id) = (answered.event.as_str(), answered.id.as_deref().unwrap_or_default());
        let ended = answered.targets.iter().zip(&answered.outcomes).zip(&answered.spent);
        for ((key, _), spent) in ended.filter(|((_, outcome), _)| outcome.problem().is_none()) {
            let Some(SlowTimes { ms, waiting_ms, fetching_ms, redis_ms }) = self.parts(*spent) else { continue };
            log_request!(warn of ids; event, event_id, key:% = key, ms, waiting_ms, fetching_ms, redis_ms; "slow operation");
        }
    }

    fn is_slow(&self, spent: Spent) -> bool {
        spent.total > self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_the_whole_however_they_are_rounded() {
        let slow = SlowLog::new(Duration::from_millis(10));
        for (total, fetching, cache) in [(10_001, 0, 0), (20_999, 10_999, 9_999), (3_600_000_000, 999, 1_999)] {
            let parts = slow.parts(Spent { total, fetching, cache }).unwrap();
            assert_eq!(parts.ms, parts.waiting_ms + parts.fetching_ms + parts.redis_ms);
            assert_eq!((parts.ms, parts.fetching_ms), (total / 1000, fetching / 1000));
        }
        assert!(slow.parts(Spent { total: 10_000, ..Spent::default() }).is_none());
    }
}
