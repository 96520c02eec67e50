//! What a worker has in hand.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Written by the worker, readable from every thread. It has lines of the processor's cache of its own: it changes with each
/// request.
#[repr(align(128))]
pub struct WorkerLoad {
    born: Instant,
    /// Microseconds after that, and one more; 0: nothing waits.
    oldest_since: AtomicU64,
    /// Requests under way.
    busy: AtomicUsize,
}

/// A request under way.
pub struct Busy<'a>(&'a WorkerLoad);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, SeqCst);
    }
}

impl WorkerLoad {
    pub fn new(born: Instant) -> Self {
        WorkerLoad { born, oldest_since: AtomicU64::new(0), busy: AtomicUsize::new(0) }
    }

    pub fn enter(&self) -> Busy<'_> {
        self.busy.fetch_add(1, SeqCst);
        Busy(self)
    }

    /// Requests under way.
    pub fn busy(&self) -> usize {
        self.busy.load(SeqCst)
    }

    /// Since when its oldest event has been waiting.
    pub fn set_oldest_since(&self, since: Option<Instant>) {
        let micros = |since: Instant| 1 + since.saturating_duration_since(self.born).as_micros() as u64;
        self.oldest_since.store(since.map_or(0, micros), Relaxed);
    }

    /// The same, as of the worker's last look.
    pub fn oldest_since(&self) -> Option<Instant> {
        let micros = self.oldest_since.load(Relaxed).checked_sub(1)?;
        Some(self.born + Duration::from_micros(micros))
    }
}
