//! Writer: one ordered line to the cache, with group commit.
//!
//! It takes what is waiting, up to `redis.batch_max` commands and `redis.batch_max_bytes`, as one batch, and has one
//! batch in flight; the load itself sets the size, no timer does. What failed for lack of the cache is repeated, in
//! order, before anything later on its key, until `redis.retry_ms` after it came in ([`super::queue`]); while the cache is
//! known to be down, what waits and what comes is answered at once ([`line`]). A restarted writer repeats the batch it had
//! in flight; the session sees to it that nothing of the lost one takes effect later.

mod line;
mod lost;

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::lock::Mutex;
use log::{info, warn};
use tokio::task::yield_now;

use self::line::Line;
use super::pace::{Pace, Paces};
use super::queue::{self, Again, Bounds, FenceReached, Pending, Queue, Ready};
use crate::cache::{Cache, CacheError, Command, Reply, Session};
use crate::event::outcome::{Origin, Outcome, ProblemKind};
use crate::pipeline::readiness::Readiness;
use crate::pipeline::runtime::{ActiveSet, DropNotice, Heartbeat, Pool, Stage, StageContext};
use crate::pipeline::work::reply::{enter_all, settle_all};
use crate::pipeline::work::timing::Phase;
use crate::telemetry::metrics::Metrics;

/// How often expired operations are answered while an attempt hangs.
const TICK: Duration = Duration::from_millis(100);
/// How often an idle writer asks the cache for a sign of life.
const PING_EVERY: Duration = Duration::from_millis(500);
/// With less than this part of a batch waiting, the next may wait for more.
const FEW: usize = 8;

/// The bounds of a batch and of trying (`redis.*` settings).
#[derive(Debug, Clone)]
pub struct Limits {
    /// Commands of one batch at most (`redis.batch_max`).
    pub batch_max: usize,
    /// Bytes of one batch at most (`redis.batch_max_bytes`); a larger value goes alone.
    pub batch_max_bytes: usize,
    /// How long an operation is tried, from when it came in.
    pub retry: Duration,
}

/// Everything that may be sent to a writer.
pub enum WriterMessage {
    /// Operations that are ready, in the order they are to take effect; from the routers and from direct fetches.
    Write(Vec<Ready>),
    /// Told once everything that came before it is in the cache or given up; from the central router.
    Fence(DropNotice<FenceReached>),
    /// Whether more is to be expected from now on; from the placement.
    SetWanted(bool),
}

/// Hands over what is ready, emptying `ready`: a vector for each writer.
pub fn hand_over(ready: &mut [Vec<Ready>], writers: &Pool<Writer>) {
    for (number, ready) in ready.iter_mut().enumerate().filter(|(_, ready)| !ready.is_empty()) {
        writers.post(number, WriterMessage::Write(std::mem::take(ready)));
    }
}

/// What a writer is built of.
pub struct Parts {
    /// The bounds of its batches and of trying.
    pub limits: Limits,
    /// Counts batches and shows how long they take.
    pub metrics: Metrics,
    /// Learns whether its connection works; `/ready` answers from it.
    pub readiness: Arc<Readiness>,
    /// The writers that may be chosen: it adds and removes itself.
    pub active: Arc<ActiveSet>,
    /// Where it publishes how fast it empties its queue.
    pub paces: Arc<Paces>,
    /// Opens its session.
    pub cache: Arc<dyn Cache>,
}

/// The actor. Each has one session and one batch in flight.
pub struct Writer {
    heartbeat: Arc<Heartbeat>,
    limits: Limits,
    metrics: Metrics,
    readiness: Arc<Readiness>,
    active: Arc<ActiveSet>,
    cache: Arc<dyn Cache>,
    index: usize,
    membership: Membership,
    session: Rc<Mutex<Box<dyn Session>>>,
    queue: Queue,
    activity: Activity,
    line: Line,
    /// When it looks at what was refused again.
    wake_at: Option<Instant>,
    /// The last refusal and since when there were some, until there is none.
    refusal: Option<(Cow<'static, str>, Instant)>,
    last_used: Instant,
    reconnects: u64,
}

/// What it is to its pool.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Membership {
    /// Not on the active before it has heard from the cache.
    Joining,
    Open,
    /// Nothing new is given to it; it goes once nothing has come for a while.
    Leaving,
}

/// What it does.
enum Activity {
    Idle,
    /// A batch starts soon.
    Gathering,
    /// What the attempt under way carries.
    Writing(Rc<Vec<Command>>, Vec<Pending>),
    Pinging,
    /// Holds the next attempt back after a failed one.
    Resting,
}

impl Writer {
    /// A writer with this number in its pool. It opens a session, which connects with the first batch or ping.
    pub fn new(heartbeat: Arc<Heartbeat>, index: usize, parts: Parts) -> Self {
        let Parts { limits, metrics, readiness, active, paces, cache } = parts;
        let retry = limits.retry;
        Writer {
            heartbeat,
            limits,
            metrics,
            readiness,
            index,
            membership: if active.has(index) { Membership::Open } else { Membership::Joining },
            active,
            session: Rc::new(Mutex::new(cache.session())),
            cache,
            queue: Queue::new(retry, Pace::new(paces, index)),
            activity: Activity::Idle,
            line: Line::new(retry),
            wake_at: None,
            refusal: None,
            last_used: Instant::now() - PING_EVERY,
            reconnects: 0,
        }
    }

    fn take(&mut self, ready: Vec<Ready>, context: &mut StageContext<'_, Self>) {
        fail_point!("write");
        self.heartbeat.set_active(true);
        let now = Instant::now();
        enter_all(ready.iter().map(|ready| &ready.slot), Phase::Cache, now);
        if self.line.is_down() {
            let outcome = queue::not_tried(self.line.hindrance(), now);
            return settle_all(ready.into_iter().map(|ready| (ready.slot, outcome.clone())), now);
        }
        self.queue.add(ready, now);
        // What else is in the mailbox goes with it.
        self.pump_after(std::future::ready(()), context);
    }

    /// What is on its way comes here whatever is wanted.
    fn set_wanted(&mut self, is_wanted: bool, context: &mut StageContext<'_, Self>) {
        if !is_wanted {
            self.membership = Membership::Leaving;
            return self.active.close(self.index);
        }
        if self.membership == Membership::Leaving {
            self.membership = Membership::Joining;
        }
        self.heartbeat.set_active(true);
        // A sign of life puts it on the active.
        self.tick(context);
    }

    /// Its line to the cache owes nothing: nothing is under way.
    fn lay_off(&mut self) {
        self.session = Rc::new(Mutex::new(self.cache.session()));
        self.reconnects = 0;
        self.line = Line::new(self.limits.retry);
        self.readiness.forget_writer(self.index);
        self.heartbeat.set_active(false);
    }

    fn fence(&mut self, notice: DropNotice<FenceReached>, context: &mut StageContext<'_, Self>) {
        fail_point!("write");
        self.queue.add_fence(notice);
        self.release_fences();
        self.pump(context);
    }

    /// Starts the next batch when `first` is over, with all that waits by then.
    fn pump_after(&mut self, first: impl Future<Output = ()> + 'static, context: &mut StageContext<'_, Self>) {
        if matches!(self.activity, Activity::Idle) && !self.queue.is_empty() {
            self.activity = Activity::Gathering;
            context.spawn(first, |writer, (), context| writer.pump(context));
        }
    }

    /// Starts the next batch if none is in flight.
    fn pump(&mut self, context: &mut StageContext<'_, Self>) {
        if !matches!(self.activity, Activity::Idle | Activity::Gathering) {
            return;
        }
        self.activity = Activity::Idle;
        let begun = Instant::now();
        let most = self.limits.batch_max.min(self.queue.pace().batch());
        let bounds = Bounds { commands: most, bytes: self.limits.batch_max_bytes, repeats: most.div_ceil(2) };
        let (commands, pending) = self.queue.next_batch(bounds, self.line.hindrance(), begun);
        if commands.is_empty() {
            return self.wake_when_due(begun, context);
        }
        let left = pending.iter().map(|pending| pending.expires).max().unwrap_or(begun) - begun;
        let commands = Rc::new(commands);
        let (session, batch, metrics) = (self.session.clone(), commands.clone(), self.metrics.clone());
        self.activity = Activity::Writing(commands, pending);
        let work = async move {
            let begun = Instant::now();
            let mut session = session.lock().await;
            let results = session.apply(&batch, left).await;
            metrics.redis_batch(batch.len(), begun.elapsed());
            (results, begun, session.reconnects())
        };
        context.spawn(work, |writer, (results, begun, reconnects), context| {
            writer.note_reconnects(reconnects);
            writer.landed(results, begun, context);
        });
    }

    /// Nothing can be sent before what was refused is due.
    fn wake_when_due(&mut self, now: Instant, context: &mut StageContext<'_, Self>) {
        let Some(due) = self.queue.next_due() else { return };
        if self.wake_at.is_some_and(|at| at <= due) {
            return;
        }
        self.wake_at = Some(due);
        context.after(due.saturating_duration_since(now), |writer, context| {
            writer.wake_at = None;
            writer.pump(context);
        });
    }

    fn landed(
        &mut self,
        mut results: Vec<Result<Reply, CacheError>>,
        begun: Instant,
        context: &mut StageContext<'_, Self>,
    ) {
        let Activity::Writing(commands, pending) = std::mem::replace(&mut self.activity, Activity::Idle) else {
            return;
        };
        let commands = Rc::unwrap_or_clone(commands);
        let now = Instant::now();
        self.last_used = now;
        let (mut again, sent) = (Again::default(), commands.len());
        // What a session gives no result for is not known to be done.
        results.resize(sent, Err(CacheError::Unavailable("the cache gave no result".into())));
        let queue = &mut self.queue;
        let ended = commands.into_iter().zip(pending).zip(results);
        let done = ended.filter_map(|((command, pending), result)| {
            if queue.is_done(&mut again, &pending, &result) {
                return Some((pending.slot, outcome(&command, pending.origin, result)));
            }
            again.add(command, pending);
            None
        });
        settle_all(done, now);
        let done = sent - again.count();
        self.note_refusal(again.refusal().cloned(), done > 0, now);
        let failure = again.failure.clone();
        if failure.is_none() {
            // What the cache refuses for now tells nothing of its pace.
            let counted = if again.refusal().is_none() { done } else { 0 };
            let waiting = self.queue.ready();
            self.queue.pace().landed(counted, now - begun, waiting);
            self.queue.landed(again, now);
            self.is_well();
            return self.go_on(context);
        }
        self.metrics.redis_batch_failed();
        self.note_failure(failure.unwrap_or_default(), begun, done > 0, false);
        if self.line.is_suspect() {
            again.give_up(self.line.hindrance(), now);
        }
        self.queue.landed(again, now);
        self.rest(context);
    }

    fn go_on(&mut self, context: &mut StageContext<'_, Self>) {
        if self.queue.ready() >= self.limits.batch_max / FEW {
            self.pump(context);
        } else {
            // While this thread tells of what is done, more comes in: a larger batch costs both sides less.
            self.pump_after(yield_now(), context);
        }
    }

    /// A batch or a ping was answered.
    fn is_well(&mut self) {
        self.line.done();
        self.show_well();
    }

    fn show_well(&mut self) {
        self.queue.pace().set_silent(false);
        self.readiness.set_writer(self.index, None);
        if self.membership == Membership::Joining {
            self.membership = Membership::Open;
            self.active.open(self.index);
        }
    }

    fn note_failure(&mut self, cause: Cow<'static, str>, begun: Instant, some_done: bool, is_ping: bool) {
        if !self.line.is_failing() {
            warn!(writer = self.index, cause:% = cause; "cache cannot be written, trying again");
        }
        self.line.failed(cause, begun, some_done, is_ping);
        self.queue.pace().set_silent(true);
        // Before it is on the active it has nobody's work, and that it cannot begin turns nothing.
        if !some_done && self.membership != Membership::Joining {
            self.readiness.set_writer(self.index, self.line.hindrance());
        }
    }

    /// Said once when the cache begins to refuse commands, and once when it has ended.
    fn note_refusal(&mut self, cause: Option<Cow<'static, str>>, some_done: bool, now: Instant) {
        match (cause, &mut self.refusal) {
            (Some(cause), Some((last, _))) => *last = cause,
            (Some(cause), none) => {
                warn!(writer = self.index, cause:% = cause; "cache refuses commands, trying them again");
                *none = Some((cause, now));
            }
            (None, Some((_, since))) if some_done && self.queue.next_due().is_none() => {
                let ms = u64::try_from((now - *since).as_millis()).unwrap_or(u64::MAX);
                info!(writer = self.index, ms; "cache refuses no commands any more");
                self.refusal = None;
            }
            _ => {}
        }
    }

    fn rest(&mut self, context: &mut StageContext<'_, Self>) {
        self.activity = Activity::Resting;
        self.answer_expired(Instant::now());
        context.after(self.line.pause(), |writer, context| {
            if !matches!(writer.activity, Activity::Resting) {
                return;
            }
            writer.activity = Activity::Idle;
            if writer.line.wants_ping() { writer.ping(context) } else { writer.pump(context) }
        });
    }

    /// Answers what has expired, in flight or waiting, while an attempt hangs; and all of it once the cache is known to be down. What
    /// is in flight keeps its place.
    fn answer_expired(&mut self, now: Instant) {
        if self.line.has_gone_down(now) {
            let (cause, since) = self.line.hindrance().map(|(cause, since)| (cause.clone(), since)).unzip();
            let cause = cause.unwrap_or_default();
            let ms = since.map_or(0, |since| u64::try_from((now - since).as_millis()).unwrap_or(u64::MAX));
            warn!(writer = self.index, cause:% = cause, ms; "cache is down, events are answered at once");
        }
        let (is_down, hindrance) = (self.line.is_down(), self.line.hindrance());
        if let Activity::Writing(_, pending) = &self.activity {
            for pending in pending.iter().filter(|pending| is_down || pending.expires <= now) {
                pending.slot.settle_early(pending.given_up(hindrance, now), now);
            }
        }
        if is_down {
            self.queue.give_up_all(hindrance, now);
        } else {
            self.queue.expire(hindrance, now);
        }
        self.release_fences();
    }

    /// What has no operation before it need not wait for the cache to be back.
    fn release_fences(&mut self) {
        if !matches!(self.activity, Activity::Writing(..)) {
            self.queue.release_fences();
        }
    }

    fn wake_up(&mut self, context: &mut StageContext<'_, Self>) {
        self.pump(context);
        self.tick(context);
    }

    fn tick(&mut self, context: &mut StageContext<'_, Self>) {
        let now = Instant::now();
        self.answer_expired(now);
        if !matches!(self.activity, Activity::Idle) {
            return;
        }
        if !self.queue.is_empty() {
            // A fence may have nothing before it any more.
            return self.pump(context);
        }
        if now.duration_since(self.last_used) < PING_EVERY {
            return;
        }
        if self.membership != Membership::Leaving {
            self.ping(context);
        } else if self.heartbeat.is_active() {
            self.lay_off();
        }
    }

    fn ping(&mut self, context: &mut StageContext<'_, Self>) {
        self.activity = Activity::Pinging;
        let (session, within) = (self.session.clone(), self.limits.retry);
        let work = async move {
            let begun = Instant::now();
            let mut session = session.lock().await;
            let result = session.ping(within).await;
            (result, begun, session.reconnects())
        };
        context.spawn(work, |writer, (result, begun, reconnects), context| {
            writer.activity = Activity::Idle;
            writer.last_used = Instant::now();
            writer.note_reconnects(reconnects);
            match result {
                Ok(()) => {
                    writer.line.pinged();
                    writer.show_well();
                    writer.pump(context);
                }
                // A part of the cache: others go on.
                Err(CacheError::RefusedForNow(cause) | CacheError::Down(cause)) => {
                    writer.line.pinged();
                    writer.readiness.set_writer(writer.index, Some((&cause, begun)));
                    writer.pump(context);
                }
                Err(error) => {
                    writer.note_failure(error.cause(), begun, false, true);
                    writer.rest(context);
                }
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
        (_, Ok(Reply::Stored | Reply::Seen(_) | Reply::Unchanged | Reply::Changed)) => {
            Outcome::failed(ProblemKind::CacheUnavailable, "the cache's reply makes no sense")
        }
        (_, Err(CacheError::Down(cause))) => {
            Outcome::failed(ProblemKind::CacheUnavailable, format!("Redis is down, so it was not tried: {cause}"))
        }
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
        | (CacheError::RefusedForNow(_) | CacheError::Down(_) | CacheError::RefusedTogether, _)
        | (CacheError::Postponed | CacheError::Overtaken, _) => ProblemKind::CacheUnavailable,
    }
}

impl Stage for Writer {
    type Message = WriterMessage;

    fn started(&mut self, context: &mut StageContext<'_, Self>) {
        context.every(TICK, Writer::tick);
        context.after(Duration::ZERO, Writer::wake_up);
    }

    fn handle(&mut self, message: WriterMessage, context: &mut StageContext<'_, Self>) {
        match message {
            WriterMessage::Write(ready) => self.take(ready, context),
            WriterMessage::Fence(notice) => self.fence(notice, context),
            WriterMessage::SetWanted(is_wanted) => self.set_wanted(is_wanted, context),
        }
    }

    fn restarting(&mut self) {
        self.wake_at = None;
        let Activity::Writing(commands, pending) = std::mem::replace(&mut self.activity, Activity::Idle) else {
            return;
        };
        let now = Instant::now();
        self.queue.lost(lost::to_repeat(Rc::unwrap_or_clone(commands), pending, now), now);
    }
}
