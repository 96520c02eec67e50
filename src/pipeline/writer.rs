//! Writer: one ordered line to the cache, with group commit.
//!
//! It takes what is waiting, up to `redis.batch_max` commands and `redis.batch_max_bytes`, as one batch, and has one
//! batch in flight; the load itself sets the size, no timer does. What failed for lack of the cache is repeated, in
//! order, before anything later on its key, until `redis.retry_ms` after it came in ([`super::queue`]). A restarted writer
//! repeats the batch it had in flight; the session sees to it that nothing of the lost one takes effect later.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, Handler, Supervised};
use ahash::RandomState;
use futures::lock::Mutex;
use log::warn;
use tokio::task::yield_now;

use super::backlog::Backlog;
use super::gate::Gate;
use super::health::Health;
use super::job::{enter_all, settle_all};
use super::pool::{Pool, Roster};
use super::queue::{Bounds, Fenced, Pending, Queue, Ready};
use super::stopwatch::Leg;
use super::supervision::{Mail, Notice, Stage, Vitals, guarded, spawn_guarded};
use crate::cache::{Cache, CacheError, Command, Reply, Session};
use crate::event::CacheKey;
use crate::event::outcome::{Origin, Outcome, ProblemKind};
use crate::telemetry::metrics::Metrics;

/// How often expired operations are answered while an attempt hangs.
const TICK: Duration = Duration::from_millis(100);
/// How often an idle writer asks the cache for a sign of life.
const PING_EVERY: Duration = Duration::from_millis(500);
const FIRST_BACKOFF: Duration = Duration::from_millis(10);
const MAX_BACKOFF: Duration = Duration::from_millis(250);
/// With less than this part of a batch waiting, the next may wait for more.
const FEW: usize = 8;
/// Restarts an operation in flight survives; one that brings its writer down each time must end.
const MAX_CRASHES: u8 = 5;

/// The bounds of a batch and of trying (`redis.*` settings).
#[derive(Debug, Clone)]
pub struct Limits {
    pub batch_max: usize,
    pub batch_max_bytes: usize,
    /// How long an operation is tried, from when it came in.
    pub retry: Duration,
}

type Keys = HashSet<CacheKey, RandomState>;

/// Operations that are ready, in the order they are to take effect.
pub struct Write(pub Vec<Ready>);

/// Hands over what is ready, emptying `ready`: a vector for each writer.
pub fn hand_over(ready: &mut [Vec<Ready>], writers: &Pool<Writer>) {
    for (number, ready) in ready.iter_mut().enumerate().filter(|(_, ready)| !ready.is_empty()) {
        writers.post(number, Write(std::mem::take(ready)));
    }
}

/// Whether more is to be expected from now on.
pub struct Wanted(pub bool);

/// Passed when all that came before it is in the cache or given up.
pub struct Fence(pub Notice<Fenced>);

/// What a writer is built of.
pub struct Parts {
    pub limits: Limits,
    pub metrics: Metrics,
    pub health: Arc<Health>,
    pub roster: Arc<Roster>,
    pub gate: Arc<Gate>,
    pub cache: Arc<dyn Cache>,
}

pub struct Writer {
    vitals: Arc<Vitals>,
    limits: Limits,
    metrics: Metrics,
    health: Arc<Health>,
    roster: Arc<Roster>,
    cache: Arc<dyn Cache>,
    index: usize,
    /// If not, it goes once nothing has come for a while.
    is_wanted: bool,
    /// Whether it is on the roster.
    is_open: bool,
    session: Rc<Mutex<Box<dyn Session>>>,
    queue: Queue,
    backlog: Backlog,
    /// What the attempt under way carries.
    flight: Option<(Rc<Vec<Command>>, Vec<Pending>)>,
    pinging: bool,
    /// A batch starts soon.
    pumping: bool,
    /// Holds the next attempt back after a failed one.
    resting: bool,
    /// Holds back what was refused while the line works.
    repeat_from: Instant,
    failures: u32,
    last_used: Instant,
    reconnects: u64,
}

impl Writer {
    pub fn new(vitals: Arc<Vitals>, index: usize, parts: Parts) -> Self {
        let Parts { limits, metrics, health, roster, gate, cache } = parts;
        Writer {
            vitals,
            limits,
            metrics,
            health,
            index,
            is_wanted: true,
            is_open: roster.has(index),
            roster,
            session: Rc::new(Mutex::new(cache.session())),
            cache,
            queue: Queue::default(),
            backlog: Backlog::new(gate),
            flight: None,
            pinging: false,
            pumping: false,
            resting: false,
            repeat_from: Instant::now(),
            failures: 0,
            last_used: Instant::now() - PING_EVERY,
            reconnects: 0,
        }
    }

    fn take(&mut self, Write(ready): Write, context: &mut Context<Self>) {
        fail::fail_point!("write");
        self.vitals.set_at_work(true);
        let now = Instant::now();
        enter_all(ready.iter().map(|ready| &ready.slot), Leg::Cache, now);
        let expires = now + self.limits.retry;
        self.queue.add(ready, expires);
        self.backlog.judge(self.queue.len());
        // What else is in the mailbox goes with it.
        self.pump_after(std::future::ready(()), context);
    }

    /// What is on its way comes here whatever is wanted.
    fn change(&mut self, Wanted(is_wanted): Wanted, context: &mut Context<Self>) {
        self.is_wanted = is_wanted;
        if is_wanted {
            self.vitals.set_at_work(true);
            // A sign of life puts it on the roster.
            return self.tick(context);
        }
        self.is_open = false;
        self.roster.close(self.index);
    }

    /// Its line to the cache owes nothing: nothing is under way.
    fn lay_off(&mut self) {
        self.session = Rc::new(Mutex::new(self.cache.session()));
        (self.reconnects, self.failures) = (0, 0);
        self.health.forget_writer(self.index);
        self.vitals.set_at_work(false);
    }

    fn fence(&mut self, Fence(notice): Fence, context: &mut Context<Self>) {
        fail::fail_point!("write");
        self.queue.add_fence(notice);
        self.pump(context);
    }

    /// Starts the next batch when `first` is over, with all that waits by then.
    fn pump_after(&mut self, first: impl Future<Output = ()> + 'static, context: &mut Context<Self>) {
        if !self.queue.is_empty() && !self.is_busy() && !self.pumping {
            self.pumping = true;
            spawn_guarded(context, first, |writer, (), context| {
                writer.pumping = false;
                writer.pump(context);
            });
        }
    }

    fn is_busy(&self) -> bool {
        self.flight.is_some() || self.resting || self.pinging
    }

    /// Starts the next batch if none is in flight.
    fn pump(&mut self, context: &mut Context<Self>) {
        if self.is_busy() {
            return;
        }
        let now = Instant::now();
        self.queue.pass_fences();
        let commands = self.limits.batch_max.min(self.backlog.batch());
        let repeats = if self.repeat_from <= now { commands.div_ceil(2) } else { 0 };
        let bounds = Bounds { commands, bytes: self.limits.batch_max_bytes, repeats };
        let (commands, pending) = self.queue.next_batch(bounds, now);
        if commands.is_empty() {
            return self.queue.pass_fences();
        }
        let left = pending.iter().map(|pending| pending.expires).max().unwrap_or(now) - now;
        let commands = Rc::new(commands);
        let (session, batch, metrics) = (self.session.clone(), commands.clone(), self.metrics.clone());
        self.flight = Some((commands, pending));
        let work = async move {
            let begun = Instant::now();
            let mut session = session.lock().await;
            let results = session.apply(&batch, left).await;
            let took = begun.elapsed();
            metrics.redis_batch(batch.len(), took);
            (results, took, session.reconnects())
        };
        spawn_guarded(context, work, |writer, (results, took, reconnects), context| {
            writer.note_reconnects(reconnects);
            writer.landed(results, took, context);
        });
    }

    fn landed(&mut self, mut results: Vec<Result<Reply, CacheError>>, took: Duration, context: &mut Context<Self>) {
        let Some((commands, pending)) = self.flight.take() else { return };
        let commands = Rc::unwrap_or_clone(commands);
        let now = Instant::now();
        self.last_used = now;
        let mut again = Vec::new();
        let mut held_keys = Keys::default();
        let (mut failure, sent) = (None, commands.len());
        // What a session gives no result for is not known to be done.
        results.resize(commands.len(), Err(CacheError::Unavailable("the cache gave no result".into())));
        let ended = commands.into_iter().zip(pending).zip(results);
        let done = ended.filter_map(|((command, mut pending), result)| {
            let is_held = !held_keys.is_empty() && held_keys.contains(command.key());
            match result {
                Err(error) if error.is_worth_retrying() => {
                    held_keys.insert(command.key().clone());
                    // Otherwise nothing is wrong with the cache.
                    failure = failure.take().or(Some(error).filter(|error| *error != CacheError::RefusedTogether));
                }
                result if !is_held => return Some((pending.slot, outcome(&command, pending.origin, result))),
                _ => {}
            }
            pending.is_repeated = true;
            again.push((command, pending));
            None
        });
        settle_all(done, now);
        let done = sent - again.len();
        self.queue.put_back(again.into_iter());
        // What the cache refuses for now tells nothing of its pace.
        let counted = if failure.is_none() && !self.queue.is_behind() { done } else { 0 };
        self.backlog.landed(counted, took, self.queue.len());
        if failure.is_some() {
            self.metrics.redis_batch_failed();
        }
        match failure {
            Some(error) => self.rest(&error, done > 0, context),
            None => {
                if !self.queue.is_behind() {
                    self.is_well();
                }
                if self.queue.len() >= self.limits.batch_max / FEW {
                    self.pump(context);
                } else {
                    // While this thread tells of what is done, more comes in: a larger batch costs both sides less.
                    self.pump_after(yield_now(), context);
                }
            }
        }
    }

    fn is_well(&mut self) {
        self.failures = 0;
        self.health.set_writer(self.index, true);
        if self.is_wanted && !self.is_open {
            self.is_open = true;
            self.roster.open(self.index);
        }
    }

    fn rest(&mut self, error: &CacheError, some_done: bool, context: &mut Context<Self>) {
        if self.failures == 0 {
            warn!(writer = self.index, cause:% = error; "cache cannot be written, trying again");
        }
        let pause = (FIRST_BACKOFF * 2u32.saturating_pow(self.failures.min(10))).min(MAX_BACKOFF);
        let now = Instant::now();
        self.failures = self.failures.saturating_add(1);
        if some_done {
            self.repeat_from = now + pause;
        } else {
            // Before it is on the roster it has nobody's work, and that it cannot begin turns nothing.
            if self.is_open || !self.is_wanted {
                self.health.set_writer(self.index, false);
            }
            self.resting = true;
        }
        self.answer_expired(now);
        context.run_later(pause, |writer, context| {
            guarded(writer, context, |writer, context| {
                writer.resting = false;
                writer.pump(context);
            });
        });
        self.pump(context);
    }

    /// Answers what has expired, in flight or waiting, while an attempt hangs. What is in flight keeps its place.
    fn answer_expired(&mut self, now: Instant) {
        if let Some((_, pending)) = &self.flight {
            for pending in pending.iter().filter(|pending| pending.expires <= now) {
                pending.slot.settle_early(pending.given_up(now), now);
            }
        }
        if self.queue.expire(now) {
            self.backlog.judge(self.queue.len());
        }
    }

    fn wake_up(&mut self, context: &mut Context<Self>) {
        self.pump(context);
        self.tick(context);
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        let now = Instant::now();
        self.answer_expired(now);
        if self.is_busy() || !self.queue.is_empty() || now.duration_since(self.last_used) < PING_EVERY {
            return;
        }
        if !self.is_wanted {
            if self.vitals.is_at_work() {
                self.lay_off();
            }
            return;
        }
        self.pinging = true;
        let (session, within) = (self.session.clone(), self.limits.retry);
        let work = async move {
            let mut session = session.lock().await;
            let result = session.ping(within).await;
            (result, session.reconnects())
        };
        spawn_guarded(context, work, |writer, (result, reconnects), context| {
            writer.pinging = false;
            writer.last_used = Instant::now();
            writer.note_reconnects(reconnects);
            match result {
                Ok(()) => {
                    writer.is_well();
                    writer.pump(context);
                }
                Err(error) => writer.rest(&error, false, context),
            }
        });
    }

    fn note_reconnects(&mut self, reconnects: u64) {
        for _ in self.reconnects..reconnects {
            self.metrics.redis_reconnected();
        }
        self.reconnects = self.reconnects.max(reconnects);
    }
}

fn outcome(command: &Command, origin: Origin, result: Result<Reply, CacheError>) -> Outcome {
    match (command, result) {
        (Command::Set { value, ttl, .. }, Ok(Reply::Stored)) => {
            Outcome::Stored { bytes: value.len(), ttl: *ttl, source: origin }
        }
        (_, Ok(Reply::Hit(value))) => Outcome::Hit(value),
        (_, Ok(Reply::Miss)) => Outcome::Miss,
        (_, Ok(Reply::Deleted)) => Outcome::Deleted,
        (_, Ok(Reply::Absent)) => Outcome::Absent,
        (_, Ok(Reply::Superseded)) => Outcome::Superseded,
        (_, Ok(Reply::Stored)) => Outcome::failed(ProblemKind::CacheUnavailable, "the cache's reply makes no sense"),
        (_, Err(error)) => Outcome::failed(problem_kind(command, &error), error.to_string()),
    }
}

fn problem_kind(command: &Command, error: &CacheError) -> ProblemKind {
    match (error, command) {
        (CacheError::WrongType, _) => ProblemKind::WrongType,
        (CacheError::ValueTooLarge { .. }, Command::Set { .. }) => ProblemKind::BlobTooLarge,
        (CacheError::ValueTooLarge { .. }, _) => ProblemKind::AnswerTooLarge,
        (CacheError::Refused(_), _) => ProblemKind::CacheRefused,
        (CacheError::Unavailable(_) | CacheError::Unsupported(_), _)
        | (CacheError::RefusedForNow(_) | CacheError::RefusedTogether, _) => ProblemKind::CacheUnavailable,
    }
}

impl Actor for Writer {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.vitals.clone().on_start(context);
        context.run_interval(TICK, |writer, context| guarded(writer, context, Writer::tick));
        context.run_later(Duration::ZERO, |writer, context| guarded(writer, context, Writer::wake_up));
    }
}

impl Supervised for Writer {
    fn restarting(&mut self, _: &mut Self::Context) {
        (self.pinging, self.pumping, self.resting) = (false, false, false);
        let Some((commands, pending)) = self.flight.take() else { return };
        let commands = Rc::unwrap_or_clone(commands);
        let crashed = commands.into_iter().zip(pending).filter_map(|(command, mut pending)| {
            pending.crashes += 1;
            (pending.crashes <= MAX_CRASHES).then_some((command, pending))
        });
        self.queue.put_back(crashed);
    }
}

impl Stage for Writer {
    fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }
}

impl Handler<Mail<Write>> for Writer {
    type Result = ();

    fn handle(&mut self, mail: Mail<Write>, context: &mut Self::Context) {
        guarded(self, context, |writer, context| writer.take(mail.open(), context));
    }
}

impl Handler<Mail<Wanted>> for Writer {
    type Result = ();

    fn handle(&mut self, mail: Mail<Wanted>, context: &mut Self::Context) {
        guarded(self, context, |writer, context| writer.change(mail.open(), context));
    }
}

impl Handler<Mail<Fence>> for Writer {
    type Result = ();

    fn handle(&mut self, mail: Mail<Fence>, context: &mut Self::Context) {
        guarded(self, context, |writer, context| writer.fence(mail.open(), context));
    }
}
