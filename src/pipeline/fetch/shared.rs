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
    permitted: Mutex<PermittedWrites>,
}

/// Writes that bypass the writers and are in progress, by the router that permitted them.
#[derive(Default)]
struct PermittedWrites {
    /// Goes up with each restart of the router.
    present: u64,
    /// Writes that this router permitted.
    own: usize,
    /// Those of earlier routers.
    older: usize,
}

/// Permission to finish a write that bypasses the writers. While a permission of an earlier router exists, the present router accepts
/// no work.
pub struct WritePermission<'s> {
    scheduler: &'s SharedScheduler,
    generation: u64,
}

impl Drop for WritePermission<'_> {
    fn drop(&mut self) {
        let mut permitted = self.scheduler.permitted();
        if self.generation == permitted.present {
            permitted.own -= 1;
            return;
        }
        permitted.older -= 1;
        drop(permitted);
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
            permitted: Mutex::default(),
        })
    }

    /// The router has restarted: drops the queued fetches, and permits no write whose turn an earlier router gave.
    pub fn forget(&self) {
        let mut permitted = self.permitted();
        permitted.present += 1;
        permitted.older += std::mem::take(&mut permitted.own);
        drop(permitted);
        // What waited goes once the lock is free again: with it go places of keys.
        drop(self.with(FetchScheduler::clear));
    }

    /// Which router it is: another after each restart.
    pub fn generation(&self) -> u64 {
        self.permitted().present
    }

    /// Permission to finish the write of this request. None: the router that gave its turn has restarted, or it must not be written any
    /// more.
    pub fn permit_write(&self, request: &FetchRequest, now: Instant) -> Option<WritePermission<'_>> {
        let (generation, mut permitted) = (request.generation, self.permitted());
        if generation != permitted.present || request.is_void(now) {
            return None;
        }
        permitted.own += 1;
        drop(permitted);
        Some(WritePermission { scheduler: self, generation })
    }

    /// Whether writes that an earlier router permitted are in progress. Each that ends tells the receiver of
    /// [free places](Self::on_free_place).
    pub fn has_older_writes(&self) -> bool {
        self.permitted().older > 0
    }

    fn permitted(&self) -> MutexGuard<'_, PermittedWrites> {
        self.permitted.lock().unwrap_or_else(PoisonError::into_inner)
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
