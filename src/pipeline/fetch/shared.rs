//! The one [`FetchScheduler`] behind its lock, for all threads.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use super::request::FetchRequest;
use super::scheduler::{FetchScheduler, HostNews};
use crate::pipeline::runtime::Notifier;

/// Router, direct fetches and fetchers all count in it. Whoever holds the lock takes no other.
pub struct SharedScheduler {
    scheduler: Mutex<FetchScheduler>,
    /// Told when a place has become free for which something waits.
    on_free_place: OnceLock<Notifier<()>>,
    /// Goes up with each restart of the router.
    generation: AtomicU64,
}

impl SharedScheduler {
    /// Puts the scheduler behind its lock; nobody is told of free places until a receiver is set.
    pub fn new(scheduler: FetchScheduler) -> Arc<Self> {
        Arc::new(SharedScheduler {
            scheduler: Mutex::new(scheduler),
            on_free_place: OnceLock::new(),
            generation: AtomicU64::new(0),
        })
    }

    /// The router has lost what it knew: forgets what waits.
    pub fn forget(&self) {
        self.generation.fetch_add(1, SeqCst);
        self.with(FetchScheduler::clear);
    }

    /// Which router it is: another after each restart.
    pub fn generation(&self) -> u64 {
        self.generation.load(SeqCst)
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
