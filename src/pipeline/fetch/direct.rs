//! The direct way of a blob that has to wait for nothing but its own download: it is fetched and written on the thread on
//! which it came, past the router.
//!
//! Only what is [alone](crate::pipeline::work::key_order::NextStep::Direct) on its key may take it, and only while its fetch is in
//! nobody's way: limits, turns and breaker of the [`FetchScheduler`](super::scheduler::FetchScheduler) hold for it too. One with
//! a version asks the cache first how its write stands. While it is under way everything else on its key goes to the
//! router, which [takes it over](DirectFetch::take_over) before it accepts what is behind it; from then on it goes on as if
//! it had come to the router. So does one whose fetch brings no blob.
//!
//! Taking over and [ending](DirectFetch::ended) exclude one another: an operation that is not here any more was taken over,
//! or has been handed to its writer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use ahash::RandomState;

use super::fetcher::{FetchAttempt, Fetcher, FetcherMessage};
use super::request::{FetchEnded, FetchRequest, FetchResult, QuestionEnded};
use super::shared::SharedScheduler;
use crate::blob::store::Stores;
use crate::cache::{Command, Reply, Standing};
use crate::event::CacheKey;
use crate::event::outcome::{Origin, Outcome};
use crate::pipeline::runtime::{Notifier, Pool, WorkerThread};
use crate::pipeline::work::key_order::KeyTicket;
use crate::pipeline::work::operation::{AwaitedBlob, Operation};
use crate::pipeline::work::question::{CacheAnswer, Question};
use crate::pipeline::work::timing::Phase;
use crate::pipeline::write::queue::Ready;
use crate::pipeline::write::writer::{Writer, hand_over};

/// The operations whose blobs are fetched directly, for all threads.
pub struct DirectFetch {
    deps: Deps,
    /// Comes after the fetchers and before any work.
    router: OnceLock<(Notifier<FetchEnded>, Notifier<QuestionEnded>)>,
    /// Told of the end of each fetch that begins here.
    on_end: Notifier<FetchEnded>,
    /// Told of the answer to each question that is asked here.
    on_answer: Notifier<QuestionEnded>,
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
    /// Tell where an object is.
    pub stores: Stores,
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
            let own: Weak<DirectFetch> = direct.clone();
            let on_end = Notifier::new(move |ended| {
                if let Some(direct) = own.upgrade() {
                    direct.ended(ended);
                }
            });
            let own: Weak<DirectFetch> = direct.clone();
            let on_answer = Notifier::new(move |ended| {
                if let Some(direct) = own.upgrade() {
                    direct.answered(ended);
                }
            });
            DirectFetch { deps, router: OnceLock::new(), on_end, on_answer, state: Mutex::new(state) }
        })
    }

    /// Who goes on with what does not end well here, or was taken over. Set once, when the pipeline is built.
    pub fn set_router(&self, fetches: Notifier<FetchEnded>, questions: Notifier<QuestionEnded>) {
        let _ = self.router.set((fetches, questions));
    }

    /// Begins the fetch at once, on a fetcher of this thread, or puts what has to be asked first beside what is `ready` for the
    /// writers; gives the operation back if it has to go to the router.
    #[expect(clippy::result_large_err, reason = "it goes on as it is")]
    pub fn start(
        &self,
        operation: Operation<AwaitedBlob>,
        thread: WorkerThread,
        ready: &mut Vec<Vec<Ready>>,
    ) -> Result<(), Operation<AwaitedBlob>> {
        let (key, now) = (operation.key.clone(), Instant::now());
        let mut request = FetchRequest::of(&operation);
        (request.is_head, request.thread) = (true, Some(thread));
        (request.turn, request.generation) = (Some(operation.ticket.twin()), self.deps.scheduler.generation());
        let mut state = self.lock();
        if state.under_way.contains_key(&key) {
            return Err(operation);
        }
        let number = state.last + 1;
        if let Some(look) = operation.look() {
            let ticket = operation.ticket.twin();
            (state.last, _) = (number, state.under_way.insert(key, (number, operation)));
            self.ask(look, number, request, ticket, ready);
            return Ok(());
        }
        let Some((fetcher, until)) = self.begin(&mut request, now) else { return Err(operation) };
        operation.slot.enter(Phase::Fetching, now);
        (state.last, _) = (number, state.under_way.insert(key, (number, operation)));
        drop(state);
        self.post(Some(number), fetcher, request, until);
        Ok(())
    }

    fn ask(
        &self,
        command: Command,
        number: u64,
        request: FetchRequest,
        ticket: KeyTicket,
        ready: &mut Vec<Vec<Ready>>,
    ) {
        let (tell, deadline) = (self.on_answer.clone(), request.deadline);
        let tell = move |answer| tell.send(QuestionEnded { epoch: 0, direct: Some(number), request, answer });
        Ready::ask(command, Question::new(tell), ticket, deadline, ready);
    }

    /// Never under the lock: if its writer is gone, the question is dropped here, and to be lost is an answer.
    fn ask_at_once(&self, command: Command, number: u64, request: FetchRequest, ticket: KeyTicket) {
        let mut ready = Vec::new();
        self.ask(command, number, request, ticket, &mut ready);
        hand_over(&mut ready, &self.deps.writers);
    }

    /// Takes a place with a fetcher of the request's thread; None if it would have to wait for one. Until when the attempt may
    /// take.
    fn begin(&self, request: &mut FetchRequest, now: Instant) -> Option<(usize, Instant)> {
        let thread = request.thread?;
        let fetcher = self.deps.scheduler.with(|scheduler| scheduler.start_at_once(request, thread, now))?;
        Some((fetcher, request.begin(now, self.deps.attempt, self.deps.fetch)))
    }

    fn post(&self, direct: Option<u64>, fetcher: usize, request: FetchRequest, until: Instant) {
        let lost = FetchEnded { epoch: 0, direct, fetcher, request, result: FetchResult::Lost };
        let fetch = FetchAttempt { ended: self.on_end.notice(lost), until };
        self.deps.fetchers.post(fetcher, FetcherMessage::Fetch(fetch));
    }

    /// What was not taken over goes to its writer with its blob, or to stand as it is; all other news goes to the router.
    fn ended(&self, ended: FetchEnded) {
        let is_good = match &ended.result {
            FetchResult::Blob(_) | FetchResult::NotModified => true,
            FetchResult::Written { reply, .. } => matches!(reply, Reply::Stored | Reply::Superseded),
            _ => false,
        };
        let (Some(number), true) = (ended.direct, is_good) else { return self.return_to_router(ended) };
        let now = Instant::now();
        let mut state = self.lock();
        let Some(operation) = state.get(&ended.request.key, number) else {
            drop(state);
            return self.return_to_router(ended);
        };
        let known = ended.request.known.as_deref();
        let refresh =
            known.and_then(|known| operation.refresh(known)).map(|refresh| (refresh, operation.ticket.twin()));
        let FetchEnded { fetcher, mut request, result, .. } = ended;
        let host = request.host.clone();
        self.deps.scheduler.free_place(|scheduler| {
            scheduler.ended(fetcher, &mut request);
            if !request.is_same {
                scheduler.answered(&host, now);
            }
        });
        match (result, refresh) {
            (FetchResult::Blob(blob), _) => {
                let Some(operation) = state.remove(&request.key, number) else { return };
                let ready = operation.with_blob(blob, Vec::new(), now);
                Ready::send(ready, self.deps.max_answer_bytes, &mut state.outbox);
            }
            (FetchResult::Written { reply, bytes }, _) => {
                let Some(operation) = state.remove(&request.key, number) else { return };
                drop((state, request));
                let outcome = match reply {
                    Reply::Stored => Outcome::Stored { bytes, ttl: operation.action.ttl, source: Origin::Blob },
                    _ => Outcome::Superseded,
                };
                return operation.slot.settle(outcome, now);
            }
            (_, Some((refresh, ticket))) => {
                drop(state);
                return self.ask_at_once(refresh, number, request, ticket);
            }
            // A host does not say so unasked.
            _ => return,
        }
        // Under the lock: once it is not here any more, what the router sends to the writer comes behind it.
        hand_over(&mut state.outbox, &self.deps.writers);
    }

    /// The cache has answered. What goes on without the router does so here; all other news goes to it.
    fn answered(&self, ended: QuestionEnded) {
        let now = Instant::now();
        let mut state = self.lock();
        if matches!(&ended.answer, CacheAnswer::Seen(seen) if seen.standing == Standing::Open) {
            return self.fetch_or_refresh(state, ended);
        }
        let Some(operation) = ended.direct.and_then(|number| state.get(&ended.request.key, number)) else {
            drop(state);
            return self.return_answer_to_router(ended);
        };
        let outcome = match &ended.answer {
            CacheAnswer::Seen(_) | CacheAnswer::Superseded => Outcome::Superseded,
            CacheAnswer::Unchanged => {
                Outcome::Unchanged { bytes: ended.request.known_bytes(), ttl: operation.action.ttl }
            }
            CacheAnswer::Lost | CacheAnswer::Changed | CacheAnswer::Refused | CacheAnswer::Failed(_) => {
                drop(state);
                return self.return_answer_to_router(ended);
            }
        };
        let done = state.under_way.remove(&ended.request.key);
        drop(state);
        if let Some((_, operation)) = done {
            operation.slot.settle(outcome, now);
        }
    }

    /// The write would take effect: the blob is fetched, unless the event shows that the key has it.
    fn fetch_or_refresh(&self, state: MutexGuard<'_, DirectFetches>, mut ended: QuestionEnded) {
        let request = &mut ended.request;
        let operation = ended.direct.and_then(|number| Some((number, state.get(&request.key, number)?)));
        let (CacheAnswer::Seen(seen), Some((number, operation))) = (&mut ended.answer, operation) else {
            drop(state);
            return self.return_answer_to_router(ended);
        };
        request.known = seen.remembered.take().map(Box::new);
        request.is_same = request.is_named(&self.deps.stores);
        let known = request.known.as_deref().filter(|_| request.is_same && !request.is_long());
        if let Some(refresh) = known.and_then(|known| operation.refresh(known)) {
            let ticket = operation.ticket.twin();
            drop(state);
            return self.ask_at_once(refresh, number, ended.request, ticket);
        }
        let now = Instant::now();
        let Some((fetcher, until)) = self.begin(request, now) else {
            seen.remembered = request.known.take().map(|known| *known);
            drop(state);
            return self.return_answer_to_router(ended);
        };
        operation.slot.enter(Phase::Fetching, now);
        drop(state);
        self.post(ended.direct, fetcher, ended.request, until);
    }

    fn return_to_router(&self, ended: FetchEnded) {
        if let Some((fetches, _)) = self.router.get() {
            fetches.send(ended);
        }
    }

    fn return_answer_to_router(&self, ended: QuestionEnded) {
        if let Some((_, questions)) = self.router.get() {
            questions.send(ended);
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
    fn get(&self, key: &CacheKey, number: u64) -> Option<&Operation<AwaitedBlob>> {
        self.under_way.get(key).filter(|(found, _)| *found == number).map(|(_, operation)| operation)
    }

    fn remove(&mut self, key: &CacheKey, number: u64) -> Option<Operation<AwaitedBlob>> {
        let is_it = self.under_way.get(key).is_some_and(|(found, _)| *found == number);
        if is_it { self.under_way.remove(key).map(|(_, operation)| operation) } else { None }
    }
}

#[cfg(test)]
mod tests;
