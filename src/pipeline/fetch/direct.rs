//! The direct way of a blob that has to wait for nothing but its own download: it is fetched and written on the thread on
//! which it came, past the router.
//!
//! Only what is [alone](crate::pipeline::work::key_order::NextStep::Direct) on its key may take it, and only while its fetch is in
//! nobody's way: limits, turns and breaker of the [`FetchScheduler`](super::scheduler::FetchScheduler) hold for it too. While
//! it is under way everything else on its key goes to the router, which [takes it over](DirectFetch::take_over) before it
//! accepts what is behind it; from then on it goes on as if it had come to the router. So does one whose fetch brings no blob.
//!
//! Taking over and [ending](DirectFetch::ended) exclude one another: an operation that is not here any more was taken over,
//! or has been handed to its writer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use ahash::RandomState;

use super::fetcher::{Fetch, Fetcher, FetcherMessage};
use super::request::{FetchEnded, FetchRequest, FetchResult};
use super::shared::SharedScheduler;
use crate::event::CacheKey;
use crate::pipeline::runtime::{Notifier, Pool, WorkerThread};
use crate::pipeline::work::operation::{AwaitedBlob, Operation};
use crate::pipeline::work::timing::Phase;
use crate::pipeline::write::queue::Ready;
use crate::pipeline::write::writer::{Writer, hand_over};

/// The operations whose blobs are fetched directly, for all threads.
pub struct DirectFetch {
    deps: Deps,
    /// Comes after the fetchers and before any work.
    router: OnceLock<Notifier<FetchEnded>>,
    /// Of the fetches that begin here.
    on_end: Notifier<FetchEnded>,
    state: Mutex<DirectFetches>,
}

/// What it is built of.
pub struct Deps {
    /// How long one attempt may take.
    pub attempt: Duration,
    /// How long all attempts of a fetch may take.
    pub fetch: Duration,
    /// Bytes (`http.max_answer_bytes`).
    pub max_answer_bytes: usize,
    /// Decides when a fetch starts; the central router asks the same one.
    pub scheduler: Arc<SharedScheduler>,
    /// The actors that download.
    pub fetchers: Arc<Pool<Fetcher>>,
    /// The actors that get an operation once its blob is there.
    pub writers: Arc<Pool<Writer>>,
}

/// An operation whose blob is being fetched, with the number of that fetch.
pub type TakenOver = (u64, Operation<AwaitedBlob>);

struct DirectFetches {
    under_way: HashMap<CacheKey, TakenOver, RandomState>,
    last: u64,
    /// A vector for each writer, empty between calls.
    outbox: Vec<Vec<Ready>>,
}

impl DirectFetch {
    /// Nothing is under way yet. Fetches that bring no blob have nowhere to go until the router is set.
    pub fn new(deps: Deps) -> Arc<Self> {
        let state = DirectFetches { under_way: HashMap::default(), last: 0, outbox: Vec::new() };
        Arc::new_cyclic(|direct| {
            let direct: Weak<DirectFetch> = direct.clone();
            let on_end = Notifier::new(move |ended| {
                if let Some(direct) = direct.upgrade() {
                    direct.ended(ended);
                }
            });
            DirectFetch { deps, router: OnceLock::new(), on_end, state: Mutex::new(state) }
        })
    }

    /// Who goes on with what does not end well here, or was taken over. Set once, when the pipeline is built.
    pub fn set_router(&self, router: Notifier<FetchEnded>) {
        let _ = self.router.set(router);
    }

    /// Begins the fetch at once, on a fetcher of this thread; gives the operation back if it has to go to the router.
    #[expect(clippy::result_large_err, reason = "it goes on as it is")]
    pub fn start(&self, operation: Operation<AwaitedBlob>, thread: WorkerThread) -> Result<(), Operation<AwaitedBlob>> {
        let key = operation.key.clone();
        let mut request = FetchRequest::of(&operation);
        request.is_head = true;
        let now = Instant::now();
        let until = request.begin(now, self.deps.attempt, self.deps.fetch);

        let mut state = self.lock();
        if state.under_way.contains_key(&key) {
            return Err(operation);
        }
        let started = self.deps.scheduler.with(|scheduler| scheduler.start_at_once(&mut request, thread, now));
        let Some(fetcher) = started else { return Err(operation) };
        state.last += 1;
        let number = state.last;
        operation.slot.enter(Phase::Fetching, now);
        state.under_way.insert(key, (number, operation));
        drop(state);
        let lost = FetchEnded { epoch: 0, direct: Some(number), fetcher, request, result: FetchResult::Lost };
        let fetch = Fetch { ended: self.on_end.notice(lost), until };
        self.deps.fetchers.post(fetcher, FetcherMessage::Fetch(fetch));
        Ok(())
    }

    /// What was not taken over goes to its writer with its blob; all other news goes to the router.
    fn ended(&self, ended: FetchEnded) {
        let (Some(number), true) = (ended.direct, matches!(ended.result, FetchResult::Blob(..))) else {
            return self.return_to_router(ended);
        };
        let mut state = self.lock();
        let Some(operation) = state.remove(&ended.request.key, number) else {
            drop(state);
            return self.return_to_router(ended);
        };
        let FetchEnded { fetcher, mut request, result: FetchResult::Blob(blob), .. } = ended else { return };
        let now = Instant::now();
        let ready = operation.with_blob(blob, now);
        Ready::send(ready, self.deps.max_answer_bytes, &mut state.outbox);
        // Under the lock: once it is not here any more, what the router sends to the writer comes behind it.
        hand_over(&mut state.outbox, &self.deps.writers);
        drop(state);
        self.deps.scheduler.free_place(|scheduler| {
            scheduler.ended(fetcher, &mut request);
            scheduler.answered(&request.host, now);
        });
    }

    fn return_to_router(&self, ended: FetchEnded) {
        if let Some(router) = self.router.get() {
            router.send(ended);
        }
    }

    /// The operation on this key that is under way here, with its number.
    pub fn take_over(&self, key: &CacheKey) -> Option<TakenOver> {
        self.lock().under_way.remove(key)
    }

    /// The operation of this number, if it was not taken over before.
    pub fn take_over_number(&self, key: &CacheKey, number: u64) -> Option<Operation<AwaitedBlob>> {
        self.lock().remove(key, number)
    }

    /// How many operations are under way here.
    pub fn count(&self) -> usize {
        self.lock().under_way.len()
    }

    /// The keys of all operations under way here.
    pub fn keys(&self) -> Vec<CacheKey> {
        self.lock().under_way.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, DirectFetches> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DirectFetches {
    fn remove(&mut self, key: &CacheKey, number: u64) -> Option<Operation<AwaitedBlob>> {
        let is_it = self.under_way.get(key).is_some_and(|(found, _)| *found == number);
        if is_it { self.under_way.remove(key).map(|(_, operation)| operation) } else { None }
    }
}
