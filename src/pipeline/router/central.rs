//! Router: order per key. What it takes on is accepted: operations go to their key's writer in the order in which they
//! came, blobs are fetched ahead and written in their turn, patterns wait for what was before them.
//!
//! The state of order is in [`Lanes`], that of fetching in [`Dispatch`]; here is only what moves them. A blob that took the
//! [`Shortcut`] is none of the router's business until something comes behind it on its key, a pattern does, or its fetch
//! does not end well: then it is claimed, and goes on as if it had come this way.
//!
//! After a panic the router starts empty under a new epoch: what was queued answers `interrupted`, results of older epochs
//! are dropped, and while a scan of an older epoch runs nothing new is taken on.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, Handler, Supervised};

use super::lanes::{Lanes, Seq};
use crate::blob::retry::{Decision, Policy};
use crate::blob::{FetchError, FetchErrorKind};
use crate::event::outcome::{Outcome, ProblemKind};
use crate::event::pattern::{Pattern, PatternIndex};
use crate::event::{CacheKey, Few};
use crate::pipeline::fetch::direct::{Shortcut, with_blob};
use crate::pipeline::fetch::fetcher::{Fetch, FetchEnded, FetchResult, Fetcher, problem_kind};
use crate::pipeline::fetch::scheduler::{Dispatch, Order};
use crate::pipeline::runtime::pool::Pool;
use crate::pipeline::runtime::supervision::{Mail, Post, Stage, Vitals, guarded};
use crate::pipeline::work::admission::{Gate, Standing};
use crate::pipeline::work::barriers::{BarrierId, Barriers};
use crate::pipeline::work::job::{Operation, Sweep, Verb};
use crate::pipeline::work::timing::Leg;
use crate::pipeline::write::queue::{Fenced, Ready};
use crate::pipeline::write::scanner::{ScanKind, Scanner, StartSweeps, SweepEnded};
use crate::pipeline::write::writer::{Fence, Writer, hand_over};
use crate::telemetry::metrics::Metrics;

/// How often a fence is posted again to a writer that lost it.
const FENCE_TRIES: u32 = 20;
/// Heads of their keys for which there was no room, after which the younger are not asked about: with very many waiting
/// each release of bytes would cost a look at all of them.
const MAX_REFUSED: usize = 64;
/// Of a failed blob's URL so much is told, which leaves room for all but the oddest.
const MAX_SHOWN_URL_BYTES: usize = 512;
/// Keys held against patterns on this thread, at most; more are looked at beside, where nobody waits for it.
const MAX_COMPARED_HERE: usize = 512;
/// How often a fetch may come back for want of bytes: each time it asks for what it then needed.
const MAX_WAITS: u32 = 16;

/// What could not go straight to a writer, in the order of acceptance.
pub struct Detained {
    pub tasks: Vec<Task>,
}

pub enum Task {
    Key(Operation),
    Pattern(Sweep),
}

/// Bytes have come home, or a slot, for which a fetch waits.
pub struct Freed;

/// What the router needs to know of the settings.
#[derive(Debug, Clone)]
pub struct Limits {
    pub retry: Policy,
    pub attempt: Duration,
    pub max_answer_bytes: usize,
}

pub struct Router {
    vitals: Arc<Vitals>,
    limits: Limits,
    metrics: Metrics,
    gate: Arc<Gate>,
    own: Post<Router>,
    writers: Arc<Pool<Writer>>,
    fetchers: Arc<Pool<Fetcher>>,
    shortcut: Arc<Shortcut>,
    scanner: Post<Scanner>,
    epoch: u64,
    lanes: Lanes<Operation, Sweep>,
    /// Where those that were claimed from the shortcut stand.
    claimed: HashMap<u64, Seq>,
    /// Fetches that wait for so many bytes of the budget.
    parked: BTreeMap<Seq, (Order, usize)>,
    barriers: &'static Barriers,
    /// Barriers for which the lanes have yet to be looked through.
    looks: Vec<(BarrierId, Few<Pattern>)>,
    /// Those for which that is being done beside.
    in_hand: Vec<BarrierId>,
    /// By their kinds.
    scans: [Scan; 2],
    rounds: u64,
    /// What came while a scan of an older epoch ran.
    held: VecDeque<Detained>,
    /// Operations that may go on, on their way out.
    freed: Vec<Operation>,
    outbox: Vec<Vec<Ready>>,
}

/// Where the sweeps of one kind are.
#[derive(Default)]
struct Scan {
    fencing: Option<Fencing>,
    /// It runs, and is of this epoch or an older one.
    runs: bool,
    /// Barriers to lift when it ends.
    lifting: Vec<BarrierId>,
}

/// Keys that are to be held against patterns.
struct Look {
    ids: Vec<BarrierId>,
    patterns: PatternIndex<BarrierId>,
    keys: Vec<CacheKey>,
}

impl Look {
    /// For each barrier the keys that it matches.
    fn find(self) -> Vec<(BarrierId, Vec<CacheKey>)> {
        let mut found: Vec<(BarrierId, Vec<CacheKey>)> = self.ids.into_iter().map(|id| (id, Vec::new())).collect();
        let mut matching = Vec::new();
        for key in self.keys {
            self.patterns.all(key.as_bytes(), &mut matching);
            for id in &matching {
                if let Ok(place) = found.binary_search_by_key(id, |(id, _)| *id)
                    && let Some((_, keys)) = found.get_mut(place)
                {
                    keys.push(key.clone());
                }
            }
        }
        found
    }
}

/// Keys have been held against patterns.
pub struct Looked {
    epoch: u64,
    /// None: it was lost.
    found: Option<Vec<(BarrierId, Vec<CacheKey>)>>,
}

/// Sweeps that wait for the writers to pass their fence.
struct Fencing {
    round: u64,
    sweeps: Vec<Sweep>,
    writers_left: usize,
    tries: u32,
}

/// Everything the router is built of.
pub struct Parts {
    pub limits: Limits,
    pub metrics: Metrics,
    pub gate: Arc<Gate>,
    pub writers: Arc<Pool<Writer>>,
    pub fetchers: Arc<Pool<Fetcher>>,
    pub shortcut: Arc<Shortcut>,
    pub scanner: Post<Scanner>,
    pub barriers: &'static Barriers,
}

impl Router {
    pub fn new(vitals: Arc<Vitals>, own: Post<Router>, parts: Parts) -> Self {
        let Parts { limits, metrics, gate, writers, fetchers, shortcut, scanner, barriers } = parts;
        Router {
            vitals,
            limits,
            metrics,
            gate,
            own,
            claimed: HashMap::new(),
            outbox: Vec::new(),
            writers,
            fetchers,
            shortcut,
            scanner,
            epoch: 0,
            lanes: Lanes::default(),
            parked: BTreeMap::new(),
            barriers,
            looks: Vec::new(),
            in_hand: Vec::new(),
            scans: Default::default(),
            rounds: 0,
            held: VecDeque::new(),
            freed: Vec::new(),
        }
    }

    fn accept(&mut self, detained: Detained) {
        if self.is_cut_off() {
            self.held.push_back(detained);
            return;
        }
        for task in detained.tasks {
            match task {
                Task::Pattern(sweep) => {
                    let (id, patterns) = (sweep.barrier.id(), sweep.patterns.clone());
                    self.lanes.put_up(id, patterns.clone(), !sweep.dry_run, sweep);
                    self.look_for(id, patterns);
                }
                Task::Key(operation) => self.accept_one(operation),
            }
        }
        self.go_on();
    }

    /// Finds out which of the keys that have something unfinished here the patterns match: beside, if it may take long.
    fn look_for(&mut self, id: BarrierId, patterns: Few<Pattern>) {
        let keys = self.lanes.keys().len() + self.shortcut.count();
        self.looks.push((id, patterns));
        if keys * self.looks.iter().map(|(_, patterns)| patterns.len()).sum::<usize>() > MAX_COMPARED_HERE {
            self.look_beside();
        } else if self.in_hand.is_empty() {
            let found = self.next_look().find();
            self.looked(found);
        }
    }

    fn look_beside(&mut self) {
        if !self.in_hand.is_empty() || self.looks.is_empty() {
            return;
        }
        let look = self.next_look();
        self.in_hand.clone_from(&look.ids);
        let epoch = self.epoch;
        let mut notice = self.own.notice(Looked { epoch, found: None });
        actix_rt::task::spawn_blocking(move || {
            let found = look.find();
            if let Some(looked) = notice.letter_mut() {
                looked.found = Some(found);
            }
        });
    }

    fn next_look(&mut self) -> Look {
        let keys = self.lanes.keys().cloned().chain(self.shortcut.keys()).collect();
        let mut patterns = PatternIndex::default();
        let looks = std::mem::take(&mut self.looks);
        looks.iter().for_each(|(id, own)| own.iter().for_each(|pattern| patterns.insert(*id, pattern)));
        Look { ids: looks.into_iter().map(|(id, _)| id).collect(), patterns, keys }
    }

    fn looked(&mut self, found: Vec<(BarrierId, Vec<CacheKey>)>) {
        for (id, keys) in found {
            for key in &keys {
                if let Some((number, operation)) = self.shortcut.claim(key) {
                    self.claim(number, operation);
                }
            }
            self.lanes.looked(id, &keys);
        }
    }

    fn look_ended(&mut self, Looked { epoch, found }: Looked) {
        fail_point!("router");
        if epoch != self.epoch {
            return;
        }
        let ids = std::mem::take(&mut self.in_hand);
        // If it was lost, the barriers wait for all keys.
        let all = || ids.into_iter().map(|id| (id, self.lanes.keys().cloned().chain(self.shortcut.keys()).collect()));
        let found = found.unwrap_or_else(|| all().collect());
        self.looked(found);
        self.look_beside();
        self.go_on();
    }

    fn accept_one(&mut self, operation: Operation) {
        let key = operation.key.clone();
        let is_there = |id: &BarrierId| self.lanes.knows(*id) || self.barriers.stands(*id);
        let behind = operation.turn.behind().filter(is_there);
        if let Some((number, before)) = self.shortcut.claim(&key) {
            self.claim(number, before);
        }
        if let Verb::SetBlob { url, .. } = &operation.verb {
            let (url, deadline, trace) = (url.clone(), operation.deadline, operation.slot.trace());
            let seq = self.lanes.wait_for_blob(&key, behind, operation);
            self.order(Order::new(seq, key, url, deadline).traced(trace));
        } else if self.lanes.is_clear(&key, behind) {
            Ready::send(operation, self.limits.max_answer_bytes, &mut self.outbox);
        } else {
            self.lanes.wait(&key, behind, operation);
        }
    }

    fn claim(&mut self, number: u64, operation: Operation) -> Seq {
        let key = operation.key.clone();
        let seq = self.lanes.wait_for_blob(&key, None, operation);
        self.claimed.insert(number, seq);
        seq
    }

    /// Where the order of an ended fetch stands; None if this epoch knows nothing of it.
    fn place(&mut self, epoch: u64, shortcut: Option<u64>, key: &CacheKey, seq: Seq) -> Option<Seq> {
        let Some(number) = shortcut else { return (epoch == self.epoch).then_some(seq) };
        if let Some(operation) = self.shortcut.recall(key, number) {
            self.claim(number, operation);
        }
        self.claimed.remove(&number)
    }

    /// A scan of an older epoch still runs: its keys are not known here, so nothing can be taken on.
    fn is_cut_off(&self) -> bool {
        let scan = &self.scans[ScanKind::Deletes as usize];
        scan.runs && scan.lifting.is_empty()
    }

    /// Moves all that can move now.
    fn go_on(&mut self) {
        loop {
            self.unpark();
            self.start_fetches();
            if self.freed.is_empty() {
                break;
            }
            for operation in std::mem::take(&mut self.freed) {
                Ready::send(operation, self.limits.max_answer_bytes, &mut self.outbox);
            }
        }
        hand_over(&mut self.outbox, &self.writers);
        self.shortcut.close(!self.parked.is_empty());
        self.start_sweeps();
    }

    fn order(&mut self, order: Order) {
        if let Err(order) = self.shortcut.submit(order) {
            self.fail_unasked(&order);
        }
    }

    fn start_fetches(&mut self) {
        loop {
            let now = Instant::now();
            let next = self.shortcut.dispatch(|dispatch| dispatch.start_next(now));
            let Some((index, mut order)) = next else { break };
            if order.deadline <= now {
                self.shortcut.dispatch(|dispatch| dispatch.ended(index, &mut order));
                self.fail(&order, failure(&order, ProblemKind::Timeout, "its blob's turn did not come in time"));
                continue;
            }
            order.is_head = self.lanes.is_head(&order.key, order.seq);
            self.note(&order, Leg::Fetching, now);
            let until = order.begin(now, self.limits.attempt, self.limits.retry.deadline);
            let (epoch, result) = (self.epoch, FetchResult::Lost);
            let ended = self.own.notice(FetchEnded { epoch, shortcut: None, fetcher: index, order, result });
            self.fetchers.post(index, Fetch { ended, until });
        }
    }

    /// The order's operation begins this part of its way.
    fn note(&self, order: &Order, leg: Leg, now: Instant) {
        if let Some(operation) = self.lanes.awaited(&order.key, order.seq) {
            operation.slot.enter(leg, now);
        }
    }

    fn fetch_ended(&mut self, ended: FetchEnded, context: &mut Context<Self>) {
        let FetchEnded { epoch, shortcut, fetcher, mut order, result } = ended;
        self.shortcut.dispatch(|dispatch| dispatch.ended(fetcher, &mut order));
        let place = self.place(epoch, shortcut, &order.key, order.seq);
        fail_point!("router");
        if let Some(seq) = place {
            order.seq = seq;
            self.turn(order, result, context);
        }
        self.go_on();
    }

    fn turn(&mut self, mut order: Order, result: FetchResult, context: &mut Context<Self>) {
        let now = Instant::now();
        match result {
            FetchResult::Blob(value, permit) => {
                self.shortcut.dispatch(|dispatch| dispatch.answered(&order.host, now));
                let with_value = |operation: Operation| with_blob(operation, value, permit, now);
                self.lanes.blob_ended(&order.key, order.seq, with_value, &mut self.freed);
            }
            FetchResult::NeedsBytes(bytes) => {
                self.shortcut.dispatch(|dispatch| dispatch.answered(&order.host, now));
                self.note(&order, Leg::Waiting, now);
                order.attempts -= 1;
                order.waits += 1;
                if order.waits > MAX_WAITS {
                    let detail = "the budget (intake.max_in_flight_bytes) had no room for it, time after time";
                    return self.fail(&order, failure(&order, ProblemKind::BlobUnavailable, detail));
                }
                self.parked.insert(order.seq, (order, bytes));
            }
            FetchResult::GaveUp => {
                let begun = order.attempt_begun;
                self.shortcut.dispatch(|dispatch| dispatch.heard_nothing(&order.host, begun));
                self.note(&order, Leg::Waiting, now);
                order.attempts -= 1;
                order.given_up += 1;
                self.order(order);
            }
            FetchResult::Lost if order.losses == 0 => {
                order.losses += 1;
                order.attempts -= 1;
                self.note(&order, Leg::Waiting, now);
                self.order(order);
            }
            FetchResult::Lost => {
                let detail = "the fetcher failed under it";
                self.fail(&order, failure(&order, ProblemKind::Interrupted, detail));
            }
            FetchResult::Failed(error) => self.attempt_failed(order, error, context),
        }
    }

    fn attempt_failed(&mut self, order: Order, error: FetchError, context: &mut Context<Self>) {
        if error.silent {
            let begun = order.attempt_begun;
            let given_back = self.shortcut.dispatch(|dispatch| {
                dispatch.heard_nothing(&order.host, begun);
                if order.is_cut_short { Vec::new() } else { dispatch.was_silent(&order.host, begun) }
            });
            for order in given_back {
                self.fail_unasked(&order);
            }
        } else {
            self.shortcut.dispatch(|dispatch| dispatch.answered(&order.host, Instant::now()));
        }
        if let Some(asked) = error.retry_after.filter(|asked| !asked.is_zero() && !error.elsewhere) {
            self.leave_alone(&order.host, asked, context);
        }
        let elapsed = order.begun.map(|begun| begun.elapsed()).unwrap_or_default();
        match self.limits.retry.decide(order.attempts, &error, elapsed, fastrand::f64()) {
            Decision::RetryAfter(pause) if Instant::now() + pause < order.deadline => {
                self.metrics.fetch_retried();
                context.run_later(pause, |router, context| {
                    guarded(router, context, |router, _| {
                        router.note(&order, Leg::Waiting, Instant::now());
                        router.order(order);
                        router.go_on();
                    });
                });
            }
            // The attempt was cut to the request's deadline, which is no failure of the host.
            _ if order.deadline <= Instant::now() && matches!(error.kind, FetchErrorKind::Unavailable) => {
                let detail = format!("its blob was not there in time, the last attempt said: {}", error.detail);
                self.fail(&order, failure(&order, ProblemKind::Timeout, &detail));
            }
            _ => self.fail(&order, fetch_outcome(error, &order)),
        }
    }

    /// A host asked for it. No longer than a fetch may take: then it is asked again, and may say so once more.
    fn leave_alone(&mut self, host: &Arc<str>, asked: Duration, context: &mut Context<Self>) {
        let (now, wait) = (Instant::now(), asked.min(self.limits.retry.deadline));
        for order in self.shortcut.dispatch(|dispatch| dispatch.rest(host, now + asked, now + wait)) {
            self.fail_unasked(&order);
        }
        let host = host.clone();
        context.run_later(wait, move |router, context| {
            guarded(router, context, |router, _| {
                router.shortcut.dispatch(|dispatch| dispatch.rested(&host, Instant::now()));
                router.go_on();
            });
        });
    }

    /// Its host is down, or rests for too long.
    fn fail_unasked(&mut self, order: &Order) {
        let outcome = match self.shortcut.dispatch(|dispatch| dispatch.asked_until(&order.host)) {
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                let detail = "its host asked to be left alone (Retry-After) for longer than the event may wait";
                lasting(failure(order, ProblemKind::BlobUnavailable, detail), left)
            }
            None => {
                let detail = "the host answers nothing at the moment; a probe is let through to it once in a while";
                failure(order, ProblemKind::BlobUnavailable, detail)
            }
        };
        self.fail(order, outcome);
    }

    /// The order comes to nothing: its entry is answered, and its key goes on.
    fn fail(&mut self, order: &Order, outcome: Outcome) {
        let settle = |operation: Operation| {
            operation.slot.settle(outcome, Instant::now());
            None
        };
        self.lanes.blob_ended(&order.key, order.seq, settle, &mut self.freed);
        if !self.parked.is_empty() {
            // One of them may have come to the head of its key by that.
            self.own.post(Freed);
        }
    }

    /// Fetches that wait for bytes, oldest first. Only the oldest head may draw on the reserve.
    fn unpark(&mut self) {
        if self.parked.is_empty() {
            return;
        }
        self.gate.want();
        let now = Instant::now();
        let mut leaving = Vec::new();
        let (mut is_oldest, mut refused) = (true, 0);
        for (seq, (order, bytes)) in &self.parked {
            if order.deadline <= now {
                leaving.push((*seq, None));
                continue;
            }
            let standing = match self.lanes.is_head(&order.key, *seq) {
                true if std::mem::take(&mut is_oldest) => Standing::OldestHead,
                true => Standing::Head,
                false => Standing::Ahead,
            };
            match self.gate.try_blob(*bytes, standing) {
                Some(permit) => leaving.push((*seq, Some(permit))),
                None if standing == Standing::Ahead => {}
                None if refused < MAX_REFUSED => refused += 1,
                None => break,
            }
        }
        for (seq, permit) in leaving {
            let Some((mut order, _)) = self.parked.remove(&seq) else { continue };
            if permit.is_some() {
                order.prepaid = permit;
                self.order(order);
            } else {
                let detail = "the budget (intake.max_in_flight_bytes) had no room for its blob in time";
                self.fail(&order, failure(&order, ProblemKind::Timeout, detail));
            }
        }
    }

    /// Previews do not wait for a scan that deletes, nor such a one for them; those that can start together share one.
    fn start_sweeps(&mut self) {
        for kind in [ScanKind::Deletes, ScanKind::Previews] {
            let scan = &self.scans[kind as usize];
            if scan.runs || scan.fencing.is_some() {
                continue;
            }
            let (ids, sweeps): (Vec<BarrierId>, Vec<Sweep>) =
                self.lanes.start(kind == ScanKind::Previews).into_iter().unzip();
            if !ids.is_empty() {
                self.put_up_fence(kind, ids, sweeps);
            }
        }
    }

    fn put_up_fence(&mut self, kind: ScanKind, ids: Vec<BarrierId>, sweeps: Vec<Sweep>) {
        self.rounds += 1;
        let round = self.rounds;
        let writers = self.writers.started();
        let fencing = Fencing { round, sweeps, writers_left: writers.len(), tries: FENCE_TRIES };
        self.scans[kind as usize] = Scan { fencing: Some(fencing), runs: false, lifting: ids };
        for writer in writers {
            self.post_fence(round, writer);
        }
    }

    fn post_fence(&self, round: u64, index: usize) {
        let lost = Fenced { epoch: self.epoch, round, writer: index, passed: false };
        self.writers.post(index, Fence(self.own.notice(lost)));
    }

    fn fenced(&mut self, Fenced { epoch, round, writer, passed }: Fenced) {
        fail_point!("router");
        let is_of = |scan: &Scan| scan.fencing.as_ref().is_some_and(|fencing| fencing.round == round);
        let Some(kind) =
            [ScanKind::Deletes, ScanKind::Previews].into_iter().find(|kind| is_of(&self.scans[*kind as usize]))
        else {
            return;
        };
        let scan = &mut self.scans[kind as usize];
        let Some(fencing) = scan.fencing.as_mut().filter(|_| epoch == self.epoch) else { return };
        if passed {
            fencing.writers_left -= 1;
        } else if fencing.tries > 0 {
            fencing.tries -= 1;
            return self.post_fence(round, writer);
        } else {
            scan.fencing = None;
            return self.lift(kind);
        }
        if fencing.writers_left > 0 {
            return;
        }
        let Some(Fencing { sweeps, .. }) = scan.fencing.take() else { return };
        scan.runs = true;
        let ended = self.own.notice(SweepEnded { epoch: self.epoch, kind });
        self.scanner.post(StartSweeps { kind, sweeps, ended });
    }

    fn sweep_ended(&mut self, SweepEnded { epoch, kind }: SweepEnded) {
        let is_own = epoch == self.epoch;
        if is_own || kind == ScanKind::Deletes {
            self.scans[kind as usize].runs = false;
        }
        fail_point!("router");
        if is_own {
            return self.lift(kind);
        }
        while !self.is_cut_off()
            && let Some(detained) = self.held.pop_front()
        {
            self.accept(detained);
        }
    }

    fn lift(&mut self, kind: ScanKind) {
        let done = std::mem::take(&mut self.scans[kind as usize].lifting);
        self.lanes.lift(&done, &mut self.freed);
        self.go_on();
    }
}

/// What was asked, of whom, and why it failed.
fn failure(order: &Order, kind: ProblemKind, why: &str) -> Outcome {
    let url = order.url.to_string();
    let (shown, rest) = match url.get(..MAX_SHOWN_URL_BYTES) {
        Some(first) if url.len() > MAX_SHOWN_URL_BYTES => (first, "…"),
        _ => (url.as_str(), ""),
    };
    Outcome::failed(kind, format!("GET {shown}{rest}: {why}"))
}

fn fetch_outcome(error: FetchError, order: &Order) -> Outcome {
    let why = match order.attempts {
        0 | 1 => error.detail,
        attempts => format!("{} (attempt {attempts})", error.detail),
    };
    let outcome = failure(order, problem_kind(error.kind), &why);
    lasting(outcome, error.retry_after.unwrap_or_default())
}

fn lasting(outcome: Outcome, wait: Duration) -> Outcome {
    match outcome {
        Outcome::Failed(problem) => Outcome::Failed(problem.lasting(wait)),
        other => other,
    }
}

impl Actor for Router {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.vitals.clone().on_start(context);
    }
}

impl Supervised for Router {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.epoch += 1;
        self.lanes = Lanes::default();
        self.claimed.clear();
        self.shortcut.dispatch(Dispatch::clear);
        self.parked.clear();
        self.looks.clear();
        self.in_hand.clear();
        let runs = self.scans[ScanKind::Deletes as usize].runs;
        self.scans = [Scan { runs, ..Scan::default() }, Scan::default()];
        self.freed.clear();
        self.outbox.iter_mut().for_each(Vec::clear);
        if !runs {
            self.held.clear();
        }
    }
}

impl Stage for Router {
    fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }
}

impl Handler<Mail<Detained>> for Router {
    type Result = ();

    fn handle(&mut self, mail: Mail<Detained>, context: &mut Self::Context) {
        guarded(self, context, |router, _| {
            let detained = mail.open();
            fail_point!("router");
            router.accept(detained);
        });
    }
}

impl Handler<Mail<FetchEnded>> for Router {
    type Result = ();

    fn handle(&mut self, mail: Mail<FetchEnded>, context: &mut Self::Context) {
        guarded(self, context, |router, context| router.fetch_ended(mail.open(), context));
    }
}

impl Handler<Mail<Fenced>> for Router {
    type Result = ();

    fn handle(&mut self, mail: Mail<Fenced>, context: &mut Self::Context) {
        guarded(self, context, |router, _| router.fenced(mail.open()));
    }
}

impl Handler<Mail<Looked>> for Router {
    type Result = ();

    fn handle(&mut self, mail: Mail<Looked>, context: &mut Self::Context) {
        guarded(self, context, |router, _| router.look_ended(mail.open()));
    }
}

impl Handler<Mail<SweepEnded>> for Router {
    type Result = ();

    fn handle(&mut self, mail: Mail<SweepEnded>, context: &mut Self::Context) {
        guarded(self, context, |router, _| router.sweep_ended(mail.open()));
    }
}

impl Handler<Mail<Freed>> for Router {
    type Result = ();

    fn handle(&mut self, mail: Mail<Freed>, context: &mut Self::Context) {
        let Freed = mail.open();
        guarded(self, context, |router, _| {
            fail_point!("router");
            router.go_on();
        });
    }
}
