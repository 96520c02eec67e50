//! Writer: one ordered line to the cache, with group commit.
//!
//! It takes what is waiting, up to `redis.batch_max` commands and `redis.batch_max_bytes`, as one batch, and has one
//! batch in flight; the load itself sets the size, no timer does. What failed for lack of the cache is repeated, in
//! order, before anything later on its key, until `redis.retry_ms` after it came in ([`super::queue`]); while the cache is
//! known to be down, what waits and what comes is answered at once ([`health`]). A restarted writer repeats the batch it had
//! in flight; the session sees to it that nothing of the lost one takes effect later.

mod batch;
mod health;
mod lost;
mod outcome;
mod probe;
mod told;

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::lock::Mutex;
use log::warn;

use self::health::CacheHealth;
use super::pace::{Pace, Paces};
use super::queue::{self, FenceReached, Pending, Queue, Ready};
use crate::cache::{Cache, Command, Session};
use crate::pipeline::readiness::Readiness;
use crate::pipeline::runtime::{ActiveSet, DropNotice, Heartbeat, Pool, Stage, StageContext};
use crate::pipeline::work::reply::enter_all;
use crate::pipeline::work::timing::Phase;
use crate::telemetry::metrics::Metrics;

/// How often expired operations are answered while an attempt hangs.
const TICK: Duration = Duration::from_millis(100);
/// How often an idle writer asks the cache for a sign of life.
const PING_EVERY: Duration = Duration::from_millis(500);

/// The bounds of a batch and of trying (`redis.*` settings).
#[derive(Debug, Clone)]
pub struct WriterLimits {
    /// Commands of one batch at most (`redis.batch_max`).
    pub batch_max: usize,
    /// Bytes of one batch at most (`redis.batch_max_bytes`); a larger value goes alone.
    pub batch_max_bytes: usize,
    /// How long an operation is tried, from when it came in.
    pub retry: Duration,
}

/// Everything that may be sent to a writer.
pub enum WriterMessage {
    /// Operations that are ready, and questions about keys, in the order they are to take effect; from the routers and from direct fetches.
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
pub struct Deps {
    /// The bounds of its batches and of trying.
    pub limits: WriterLimits,
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
    limits: WriterLimits,
    metrics: Metrics,
    readiness: Arc<Readiness>,
    active: Arc<ActiveSet>,
    cache: Arc<dyn Cache>,
    index: usize,
    membership: Membership,
    session: Rc<Mutex<Box<dyn Session>>>,
    queue: Queue,
    activity: Activity,
    health: CacheHealth,
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
    /// Not in the active set before it has heard from the cache.
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
    BackingOff,
}

impl Writer {
    /// A writer with this number in its pool. It opens a session, which connects with the first batch or ping.
    pub fn new(heartbeat: Arc<Heartbeat>, index: usize, deps: Deps) -> Self {
        let Deps { limits, metrics, readiness, active, paces, cache } = deps;
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
            health: CacheHealth::new(retry),
            wake_at: None,
            refusal: None,
            last_used: Instant::now() - PING_EVERY,
            reconnects: 0,
        }
    }

    fn accept(&mut self, ready: Vec<Ready>, context: &mut StageContext<'_, Self>) {
        fail_point!("write");
        self.heartbeat.set_active(true);
        let now = Instant::now();
        enter_all(ready.iter().filter_map(Ready::entry), Phase::Cache, now);
        if self.health.is_down() {
            let outcome = queue::not_tried(self.health.hindrance(), now);
            return ready.into_iter().for_each(|ready| ready.fail(outcome.clone(), now));
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
        // A sign of life puts it into the active set.
        self.tick(context);
    }

    /// Goes idle: the session owes nothing, because nothing is in progress.
    fn go_idle(&mut self) {
        self.session = Rc::new(Mutex::new(self.cache.session()));
        self.reconnects = 0;
        self.health = CacheHealth::new(self.limits.retry);
        self.readiness.forget_writer(self.index);
        self.heartbeat.set_active(false);
    }

    fn fence(&mut self, notice: DropNotice<FenceReached>, context: &mut StageContext<'_, Self>) {
        fail_point!("write");
        self.queue.add_fence(notice);
        self.release_fences();
        self.pump(context);
    }

    /// Answers what has expired, in flight or waiting, while an attempt hangs; and all of it once the cache is known to be down. What
    /// is in flight keeps its place, and is not sent again.
    fn answer_expired(&mut self, now: Instant) {
        if self.health.has_gone_down(now) {
            let (cause, since) = self.health.hindrance().map(|(cause, since)| (cause.clone(), since)).unzip();
            let cause = cause.unwrap_or_default();
            let ms = since.map_or(0, |since| u64::try_from((now - since).as_millis()).unwrap_or(u64::MAX));
            warn!(writer = self.index, cause:% = cause, ms; "cache is down, events fail at once");
        }
        let (is_down, hindrance) = (self.health.is_down(), self.health.hindrance());
        if let Activity::Writing(_, pending) = &mut self.activity {
            for pending in pending.iter_mut().filter(|pending| is_down || pending.is_expired(now)) {
                pending.give_up_early(hindrance, now);
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
            self.go_idle();
        }
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
            WriterMessage::Write(ready) => self.accept(ready, context),
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

#[cfg(test)]
mod tests;
