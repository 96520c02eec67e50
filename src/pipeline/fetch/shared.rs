//! The one [`FetchScheduler`] behind its lock, for all threads.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use super::request::FetchRequest;
use super::scheduler::{FetchScheduler, HostNews};
use crate::pipeline::runtime::Notifier;

/// Router, direct fetches and fetchers all count in it. Whoever holds the lock takes no other.
pub struct SharedScheduler {
    scheduler: Mutex<FetchScheduler>,
    /// Told when a place has become free for which something waits.
    on_free_place: OnceLock<Notifier<()>>,
    generations: Mutex<Generations>,
}

/// The routers that there were, one after the other, and what they had begun to write past the writers.
#[derive(Default)]
struct Generations {
    /// Goes up with each restart of the router.
    present: u64,
    /// Writes of this router's that were let through and are not done.
    own: usize,
    /// Those of earlier routers.
    older: usize,
}

/// A write that was let through. Until it is dropped no router takes anything on that comes after the one whose turn the
/// write has.
pub struct LetThrough<'s> {
    scheduler: &'s SharedScheduler,
    generation: u64,
}

impl Drop for LetThrough<'_> {
    fn drop(&mut self) {
        let mut generations = self.scheduler.generations();
        if self.generation == generations.present {
            generations.own -= 1;
            return;
        }
        generations.older -= 1;
        drop(generations);
        if let Some(tell) = self.scheduler.on_free_place.get() {
            tell.send(());
        }
    }
}

impl SharedScheduler {
    /// Puts the scheduler behind its lock; nobody is told of free places until a receiver is set.
    pub fn new(scheduler: FetchScheduler) -> Arc<Self> {
        Arc::new(SharedScheduler {
            scheduler: Mutex::new(scheduler),
            on_free_place: OnceLock::new(),
            generations: Mutex::default(),
        })
    }

    /// The router has lost what it knew: forgets what waits, and lets nothing through any more that has its turn.
    pub fn forget(&self) {
        let mut generations = self.generations();
        generations.present += 1;
        generations.older += std::mem::take(&mut generations.own);
        drop(generations);
        // What waited goes once the lock is free again: with it go places of keys.
        drop(self.with(FetchScheduler::clear));
    }

    /// Which router it is: another after each restart.
    pub fn generation(&self) -> u64 {
        self.generations().present
    }

    /// Lets the write of a request through that has its turn; None if there is another router by now than gave it, or if it must
    /// not be written any more.
    pub fn let_through(&self, request: &FetchRequest, now: Instant) -> Option<LetThrough<'_>> {
        let (generation, mut generations) = (request.generation, self.generations());
        if generation != generations.present || request.is_void(now) {
            return None;
        }
        generations.own += 1;
        drop(generations);
        Some(LetThrough { scheduler: self, generation })
    }

    /// Whether something may still take effect that an earlier router let through. Whoever waits for the end of that is told
    /// as of a [free place](Self::on_free_place).
    pub fn has_older_writes(&self) -> bool {
        self.generations().older > 0
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Set once, when the pipeline is built.
    pub fn on_free_place(&self, tell: Notifier<()>) {
        let _ = self.on_free_place.set(tell);
    }

    /// Under the lock, so `work` must be short. What it finds out of hosts is logged after it.
    pub fn with<T>(&self, work: impl FnOnce(&mut FetchScheduler) -> T) -> T {
        let mut scheduler = self.scheduler.lock().unwrap_or_else(PoisonError::into_inner);
        let done = work(&mut scheduler);
        let news = scheduler.take_news();
        drop(scheduler);
        news.iter().for_each(HostNews::tell);
        done
    }

    /// Does what [`FetchScheduler::submit`] does.
    #[expect(clippy::result_large_err, reason = "seldom, and the request goes on as it is")]
    pub fn submit(&self, request: FetchRequest) -> Result<(), FetchRequest> {
        self.with(|scheduler| scheduler.submit(request, Instant::now()))
    }

    /// Does what [`with`](Self::with) does, for work that may free a place: tells whoever starts what waits for one.
    pub fn free_place(&self, work: impl FnOnce(&mut FetchScheduler)) {
        let others_wait = self.with(|scheduler| {
            work(scheduler);
            scheduler.has_turns()
        });
        if others_wait && let Some(tell) = self.on_free_place.get() {
            tell.send(());
        }
    }

    /// The request's host gave its first sign of life: others may have its place among the few.
    pub fn first_sign(&self, request: &FetchRequest) {
        self.free_place(|scheduler| scheduler.answered(&request.host, Instant::now()));
    }
}
