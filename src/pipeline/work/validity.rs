//! Up to when work may begin, where that is for somebody else to say: work that is handed over on behalf of a lease ends with it,
//! however often the lease is prolonged meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// The end of a lease by this process's own clock. Cheap to clone; clones see every change.
#[derive(Debug, Clone)]
pub struct Validity {
    base: Instant,
    /// Milliseconds after `base`.
    until_ms: Arc<AtomicU64>,
}

impl Validity {
    /// Valid up to this moment.
    pub fn until(until: Instant) -> Self {
        let base = Instant::now();
        let validity = Validity { base, until_ms: Arc::default() };
        validity.until_ms.store(validity.millis(until), SeqCst);
        validity
    }

    /// From now on it ends at this moment. One that has ended stays so.
    pub fn prolong(&self, until: Instant) {
        let (now, until) = (self.millis(Instant::now()), self.millis(until));
        let _ = self.until_ms.fetch_update(SeqCst, SeqCst, |before| (before > now).then_some(until));
    }

    /// Ends it now.
    pub fn end(&self) {
        self.until_ms.store(0, SeqCst);
    }

    /// What is left of it; zero: it has ended.
    pub fn left(&self, now: Instant) -> Duration {
        Duration::from_millis(self.until_ms.load(SeqCst).saturating_sub(self.millis(now)))
    }

    /// Whether it has ended.
    pub fn is_over(&self, now: Instant) -> bool {
        self.left(now).is_zero()
    }

    /// Rounded down.
    fn millis(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.base).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_validity_is_prolonged_and_what_has_ended_stays_so() {
        let now = Instant::now();
        let validity = Validity::until(now + Duration::from_secs(5));
        let clone = validity.clone();
        assert!(!clone.is_over(now + Duration::from_secs(4)) && clone.is_over(now + Duration::from_secs(6)));
        validity.prolong(now + Duration::from_secs(10));
        assert!(!clone.is_over(now + Duration::from_secs(9)));
        clone.end();
        validity.prolong(now + Duration::from_secs(100));
        assert!(validity.is_over(Instant::now()), "it has ended");
    }
}
