//! How long the oldest event of a worker has been waiting.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Since when a worker's oldest event waits, readable from every thread. As good as the worker's last look.
pub struct OldestPending {
    born: Instant,
    /// Microseconds after that, and one more; 0: nothing waits.
    since: AtomicU64,
}

impl OldestPending {
    pub fn new(born: Instant) -> Self {
        OldestPending { born, since: AtomicU64::new(0) }
    }

    pub fn set(&self, since: Option<Instant>) {
        let micros = |since: Instant| 1 + since.saturating_duration_since(self.born).as_micros() as u64;
        self.since.store(since.map_or(0, micros), Relaxed);
    }

    pub fn since(&self) -> Option<Instant> {
        let micros = self.since.load(Relaxed).checked_sub(1)?;
        Some(self.born + Duration::from_micros(micros))
    }
}
