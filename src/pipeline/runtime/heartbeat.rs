//! An actor's signs of life, readable from every thread: whether it runs, whether it is stuck, how often it panicked, and
//! what waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use log::error;

use crate::telemetry::metrics::{ActorKind, Metrics};

const FIRST_BACKOFF: Duration = Duration::from_millis(2);
const MAX_BACKOFF: Duration = Duration::from_millis(100);
/// After this time without a panic the back-off starts anew.
const CALM: Duration = Duration::from_secs(5);

/// Written by the actor's own thread, read by probes and metrics.
pub struct Heartbeat {
    /// The label of the actor in the metrics.
    pub kind: ActorKind,
    metrics: Metrics,
    born: Instant,
    /// Milliseconds after `born`.
    last_beat: AtomicU64,
    last_panic: AtomicU64,
    /// Panics in a row.
    panics: AtomicU32,
    /// Messages sent and not yet handled.
    waiting: AtomicI64,
    is_active: AtomicBool,
    has_ended: AtomicBool,
    /// Whether its thread exists for this actor only, and ends with it.
    owns_thread: bool,
}

impl Heartbeat {
    pub(super) fn new(kind: ActorKind, metrics: Metrics, owns_thread: bool) -> Arc<Self> {
        Arc::new(Heartbeat {
            kind,
            metrics,
            born: Instant::now(),
            last_beat: AtomicU64::new(0),
            last_panic: AtomicU64::new(0),
            panics: AtomicU32::new(0),
            waiting: AtomicI64::new(0),
            is_active: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            owns_thread,
        })
    }

    /// Whether it counts as an actor that is running. An idle one has nothing to do and gets nothing new.
    pub fn is_active(&self) -> bool {
        self.is_active.load(Relaxed)
    }

    /// Counts it as running, or as idle.
    pub fn set_active(&self, is_active: bool) {
        // Called with every message, and nearly always without a change: the first look leaves the cache line shared.
        if self.is_active() != is_active && self.is_active.swap(is_active, Relaxed) != is_active {
            if is_active { self.metrics.actor_started(self.kind) } else { self.metrics.actor_stopped(self.kind) }
        }
    }

    pub(super) fn owns_thread(&self) -> bool {
        self.owns_thread
    }

    pub(super) fn started(&self) {
        self.set_active(true);
        self.has_ended.store(false, Relaxed);
        self.beat();
    }

    pub(super) fn beat(&self) {
        self.last_beat.store(self.now_ms(), Relaxed);
    }

    pub(super) fn ended(&self) {
        self.has_ended.store(true, Relaxed);
        self.set_active(false);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Relaxed)
    }

    pub(super) fn record_panic(&self) {
        let now = self.now_ms();
        let before = self.last_panic.swap(now, Relaxed);
        if now.saturating_sub(before) > CALM.as_millis() as u64 {
            self.panics.store(0, Relaxed);
        }
        self.panics.fetch_add(1, Relaxed);
        self.set_active(false);
        self.metrics.actor_restarted(self.kind);
        error!(actor = self.kind.as_str(); "actor panicked and is restarted");
    }

    /// How long its mailbox is held back after the panics so far; zero after a calm time.
    pub(super) fn backoff(&self) -> Duration {
        if self.now_ms().saturating_sub(self.last_panic.load(Relaxed)) >= CALM.as_millis() as u64 {
            return Duration::ZERO;
        }
        match self.panics.load(Relaxed) {
            0 => Duration::ZERO,
            panics => (FIRST_BACKOFF * 2u32.saturating_pow(panics.min(16) - 1)).min(MAX_BACKOFF),
        }
    }

    /// Whether it has not beaten for longer than `stall`, though it should.
    pub(super) fn is_stuck(&self, stall: Duration) -> bool {
        let silence = self.now_ms().saturating_sub(self.last_beat.load(Relaxed));
        !self.has_ended() && u128::from(silence) > stall.as_millis()
    }

    pub(super) fn waiting(&self) -> i64 {
        self.waiting.load(Relaxed)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Counts a message while it waits. The count belongs to the receiving actor: a gauge that all threads share would cost
/// more than the message.
pub(super) struct Waiting(Arc<Heartbeat>);

impl Waiting {
    pub(super) fn new(heartbeat: &Arc<Heartbeat>) -> Self {
        heartbeat.waiting.fetch_add(1, Relaxed);
        Waiting(heartbeat.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}
