//! What `/ready` answers from: state kept in the background, never asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

use log::{info, warn};

use super::pool::MAX_POOL;
use crate::telemetry::metrics::Metrics;

/// There is no such writer, or it has not been heard of yet: that there is to be another turns nothing.
const ABSENT: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;
/// As ABSENT, but of one that is there from the start: nothing is ready before it is.
const UNKNOWN: u8 = 3;

/// Whether the cache can be written, line by line, and whether the service is draining.
pub struct Health {
    writers: [AtomicU8; MAX_POOL],
    draining: AtomicBool,
    metrics: Metrics,
}

impl Health {
    pub fn new(writers: usize, metrics: Metrics) -> Arc<Self> {
        let state = |number| if number < writers { UNKNOWN } else { ABSENT };
        let writers = std::array::from_fn(|number| AtomicU8::new(state(number)));
        Arc::new(Health { writers, draining: AtomicBool::new(false), metrics })
    }

    /// A writer's line to the cache works, or does not.
    pub fn set_writer(&self, index: usize, up: bool) {
        let Some(state) = self.writers.get(index) else { return };
        let now = if up { UP } else { DOWN };
        let before = state.swap(now, Relaxed);
        if before == now {
            return;
        }
        self.metrics.set_redis_up(self.is_cache_up());
        match (up, before) {
            (true, DOWN) => info!(writer = index; "cache can be written again"),
            (true, _) => {}
            (false, _) => warn!(writer = index; "cache cannot be reached"),
        }
    }

    /// A writer has left, and with it what it said.
    pub fn forget_writer(&self, index: usize) {
        let Some(state) = self.writers.get(index) else { return };
        state.store(ABSENT, Relaxed);
        self.metrics.set_redis_up(self.is_cache_up());
    }

    pub fn is_cache_up(&self) -> bool {
        self.writers.iter().all(|state| matches!(state.load(Relaxed), UP | ABSENT))
    }

    /// From here on no new work is taken.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }
}
