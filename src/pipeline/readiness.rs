//! The state that `/ready` reports. It is kept in the background, so the answer is never slow.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{info, warn};

use crate::pipeline::runtime::MAX_POOL;
use crate::pipeline::write::queue::Hindrance;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::outage::{Outage, OutageNews, down_seconds};

/// There is no such writer, or it has not been heard of yet: a writer that is about to start does not change readiness.
const ABSENT: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;
/// Like ABSENT, but for a writer that is there from the start: nothing is ready before it is.
const UNKNOWN: u8 = 3;

/// Whether the cache can be written, line by line, and whether the service is draining.
pub struct Readiness {
    writers: [AtomicU8; MAX_POOL],
    /// Each writer that is down.
    troubles: Mutex<BTreeMap<usize, Trouble>>,
    draining: AtomicBool,
    metrics: Metrics,
}

/// Why a writer is down, in its last words, and since when.
#[derive(Default)]
struct Trouble {
    cause: Cow<'static, str>,
    outage: Outage,
}

impl Readiness {
    /// The readiness of `writers`, none of which has reached the cache yet: not ready.
    pub fn new(writers: usize, metrics: Metrics) -> Arc<Self> {
        let state = |number| if number < writers { UNKNOWN } else { ABSENT };
        let writers = std::array::from_fn(|number| AtomicU8::new(state(number)));
        Arc::new(Readiness { writers, troubles: Mutex::default(), draining: AtomicBool::new(false), metrics })
    }

    /// A writer's line to the cache works, or `trouble` says why it does not, and since when.
    pub fn set_writer(&self, index: usize, trouble: Option<Hindrance<'_>>) {
        let Some(state) = self.writers.get(index) else { return };
        let up = trouble.is_none();
        if up && state.load(Relaxed) == UP {
            return;
        }
        let news = self.note(index, trouble, Instant::now());
        let now = if up { UP } else { DOWN };
        if state.swap(now, Relaxed) != now {
            self.metrics.set_redis_up(self.is_cache_up());
        }
        let cause = trouble.map(|(cause, _)| cause.as_ref()).unwrap_or_default();
        match news {
            Some(OutageNews::Began) => warn!(writer = index, cause; "cache cannot be reached"),
            Some(OutageNews::Lasts(lasted)) => {
                warn!(writer = index, cause, down_seconds = down_seconds(lasted); "cache still cannot be reached")
            }
            Some(OutageNews::Ended(lasted)) => {
                info!(writer = index, down_seconds = down_seconds(lasted); "cache can be reached again")
            }
            None => {}
        }
    }

    fn note(&self, index: usize, trouble: Option<Hindrance<'_>>, now: Instant) -> Option<OutageNews> {
        let mut troubles = self.troubles();
        let Some((cause, since)) = trouble else { return troubles.remove(&index)?.outage.is_over(now) };
        let known = troubles.entry(index).or_default();
        known.cause = cause.clone();
        known.outage.goes_on(since, now)
    }

    /// A writer has left, and with it what it said.
    pub fn forget_writer(&self, index: usize) {
        let Some(state) = self.writers.get(index) else { return };
        self.troubles().remove(&index);
        state.store(ABSENT, Relaxed);
        self.metrics.set_redis_up(self.is_cache_up());
    }

    /// Why the cache cannot be reached, in the words of the writer that has found so for longest, and for how long it has.
    pub fn trouble(&self) -> Option<(Cow<'static, str>, Duration)> {
        let troubles = self.troubles();
        let since = |trouble: &&Trouble| trouble.outage.since();
        let trouble = troubles.values().filter(|trouble| since(trouble).is_some()).min_by_key(since)?;
        Some((trouble.cause.clone(), trouble.outage.since()?.elapsed()))
    }

    fn troubles(&self) -> MutexGuard<'_, BTreeMap<usize, Trouble>> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the cache answers every writer that is there.
    pub fn is_cache_up(&self) -> bool {
        self.writers.iter().all(|state| matches!(state.load(Relaxed), UP | ABSENT))
    }

    /// From here on no new work is taken.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Whether [`drain`](Readiness::drain) was called; requests are then answered `shutting-down`.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }
}
