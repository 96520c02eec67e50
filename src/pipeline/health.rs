//! What `/ready` answers from: state kept in the background, never asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

use log::{info, warn};

use crate::telemetry::metrics::Metrics;

const UNKNOWN: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;

/// Whether the cache can be written, line by line, and whether the service is draining.
pub struct Health {
    writers: Vec<AtomicU8>,
    draining: AtomicBool,
    metrics: Metrics,
}

impl Health {
    pub fn new(writers: usize, metrics: Metrics) -> Arc<Self> {
        let writers = (0..writers).map(|_| AtomicU8::new(UNKNOWN)).collect();
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

    pub fn is_cache_up(&self) -> bool {
        self.writers.iter().all(|state| state.load(Relaxed) == UP)
    }

    /// From here on no new work is taken.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }
}
