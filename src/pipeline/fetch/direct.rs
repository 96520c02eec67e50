//! Shortcut: the way of a blob that has to wait for nothing but its own download. It is fetched and written on the thread on
//! which it came, past the router.
//!
//! Only what is [alone](crate::pipeline::work::key_order::Way::Alone) on its key may take it, and only while its fetch is in nobody's way: the
//! limits, turns and breaker of [`Dispatch`] hold for it too, which therefore lives here, for all threads. While it is under
//! way all else on its key goes to the router, which [claims](Shortcut::claim) it before taking on what is behind it; a
//! claimed one goes on as if it had come to the router. So does one whose fetch brings no blob.
//!
//! Claiming and [ending](Shortcut::end) exclude one another: an operation that is not here any more is claimed, or has been
//! handed to its writer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ahash::RandomState;
use bytes::Bytes;

use super::fetcher::{Fetch, FetchEnded, FetchResult, Fetcher};
use super::scheduler::{Dispatch, Order};
use crate::event::CacheKey;
use crate::event::outcome::Origin;
use crate::pipeline::router::central::{Freed, Router};
use crate::pipeline::runtime::pool::{Home, Pool};
use crate::pipeline::runtime::supervision::{Notice, Post};
use crate::pipeline::work::admission::Permit;
use crate::pipeline::work::job::{Operation, Verb};
use crate::pipeline::work::timing::Leg;
use crate::pipeline::write::queue::Ready;
use crate::pipeline::write::writer::{Writer, hand_over};

pub struct Shortcut {
    parts: Parts,
    /// Comes after the fetchers and before any work.
    router: OnceLock<Post<Router>>,
    state: Mutex<State>,
}

/// What a shortcut is built of.
pub struct Parts {
    /// One attempt, and all of a fetch.
    pub attempt: Duration,
    pub fetch: Duration,
    pub max_answer_bytes: usize,
    pub fetchers: Arc<Pool<Fetcher>>,
    pub writers: Arc<Pool<Writer>>,
}

struct State {
    under_way: HashMap<CacheKey, (u64, Operation), RandomState>,
    dispatch: Dispatch,
    last: u64,
    is_closed: bool,
    /// A vector for each writer, empty between calls.
    outbox: Vec<Vec<Ready>>,
}

impl Shortcut {
    pub fn new(parts: Parts, dispatch: Dispatch) -> Arc<Self> {
        let outbox = Vec::new();
        let state = State { under_way: HashMap::default(), dispatch, last: 0, is_closed: false, outbox };
        Arc::new(Shortcut { parts, router: OnceLock::new(), state: Mutex::new(state) })
    }

    /// Set once, when the pipeline is built.
    pub fn leads_past(&self, router: Post<Router>) {
        let _ = self.router.set(router);
    }

    /// Begins the fetch at once, on a fetcher of this thread; gives the operation back if it has to go to the router.
    #[expect(clippy::result_large_err, reason = "it goes on as it is")]
    pub fn start(&self, operation: Operation, home: Home) -> Result<(), Operation> {
        let (Verb::SetBlob { url, .. }, Some(router)) = (&operation.verb, self.router.get()) else {
            return Err(operation);
        };
        let key = operation.key.clone();
        let mut order = Order::new(0, key.clone(), url.clone(), operation.deadline).traced(operation.slot.trace());
        order.is_head = true;
        let now = Instant::now();
        let until = order.begin(now, self.parts.attempt, self.parts.fetch);

        let mut state = self.lock();
        if state.is_closed || state.under_way.contains_key(&key) {
            return Err(operation);
        }
        let Some(fetcher) = state.dispatch.start_at_once(&mut order, home, now) else { return Err(operation) };
        state.last += 1;
        let shortcut = Some(state.last);
        let ended = router.notice(FetchEnded { epoch: 0, shortcut, fetcher, order, result: FetchResult::Lost });
        let number = state.last;
        operation.slot.enter(Leg::Fetching, now);
        state.under_way.insert(key, (number, operation));
        drop(state);
        self.parts.fetchers.post(fetcher, Fetch { ended, until });
        Ok(())
    }

    /// A fetch has ended. What took the shortcut and was not claimed goes to its writer; all other news goes to the router.
    pub fn end(&self, mut notice: Notice<FetchEnded>) {
        let Some(FetchEnded { shortcut: Some(number), result: FetchResult::Blob(..), order, fetcher, .. }) =
            notice.letter_mut()
        else {
            return;
        };
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(operation) = state.remove(&order.key, *number) else { return };
        state.dispatch.ended(*fetcher, order);
        let now = Instant::now();
        state.dispatch.answered(&order.host, now);
        let ready = match notice.take().map(|ended| ended.result) {
            Some(FetchResult::Blob(value, permit)) => with_blob(operation, value, permit, now),
            _ => None,
        };
        if let Some(operation) = ready {
            Ready::send(operation, self.parts.max_answer_bytes, &mut state.outbox);
            // Under the lock: once it is not here any more, what the router sends to the writer comes behind it.
            hand_over(&mut state.outbox, &self.parts.writers);
        }
        let others_wait = state.dispatch.has_turns();
        drop(guard);
        if others_wait && let Some(router) = self.router.get() {
            router.post(Freed);
        }
    }

    /// The host of the order gave its first sign of life: others may have its place among the few.
    pub fn answered(&self, order: &Order) {
        let others_wait = self.dispatch(|dispatch| {
            dispatch.answered(&order.host, Instant::now());
            dispatch.has_turns()
        });
        if others_wait && let Some(router) = self.router.get() {
            router.post(Freed);
        }
    }

    /// The operation on this key that is under way here, with its number.
    pub fn claim(&self, key: &CacheKey) -> Option<(u64, Operation)> {
        self.lock().under_way.remove(key)
    }

    /// How much is under way here.
    pub fn count(&self) -> usize {
        self.lock().under_way.len()
    }

    /// Of all that is under way here.
    pub fn keys(&self) -> Vec<CacheKey> {
        self.lock().under_way.keys().cloned().collect()
    }

    /// The operation of this number, if it was not claimed before.
    pub fn recall(&self, key: &CacheKey, number: u64) -> Option<Operation> {
        self.lock().remove(key, number)
    }

    /// While fetches wait for bytes of the budget, younger ones do not pass them by.
    pub fn close(&self, is_closed: bool) {
        self.lock().is_closed = is_closed;
    }

    /// As [`Dispatch::submit`].
    #[expect(clippy::result_large_err, reason = "seldom, and the order goes on as it is")]
    pub fn submit(&self, order: Order) -> Result<(), Order> {
        self.lock().dispatch.submit(order, Instant::now())
    }

    /// What else there is to do with it. Under the lock, so it must be short.
    pub fn dispatch<T>(&self, work: impl FnOnce(&mut Dispatch) -> T) -> T {
        work(&mut self.lock().dispatch)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, key: &CacheKey, number: u64) -> Option<Operation> {
        let is_it = self.under_way.get(key).is_some_and(|(found, _)| *found == number);
        if is_it { self.under_way.remove(key).map(|(_, operation)| operation) } else { None }
    }
}

/// The operation now that its blob is there.
pub fn with_blob(operation: Operation, value: Bytes, permit: Permit, now: Instant) -> Option<Operation> {
    operation.slot.enter(Leg::Waiting, now);
    let Verb::SetBlob { ttl, .. } = operation.verb else { return None };
    let verb = Verb::Set { value, origin: Origin::Blob, ttl, held: Some(permit) };
    Some(Operation { verb, ..operation })
}
