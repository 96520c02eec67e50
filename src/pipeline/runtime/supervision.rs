//! Keeping actors alive: the guard around every handler and every spawned future, restart with back-off, and the
//! heartbeat by which an actor that is stuck, rather than dead, is found.
//!
//! actix's `Supervisor` restarts a context that stopped; a panic that leaves a handler ends the actor and its mailbox
//! for good. So no panic leaves one: [`guarded`] catches it, counts it and stops the context, and the supervisor
//! restarts the same value with its mailbox intact. `panic = "abort"` must never be set.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use actix::fut::{ActorFutureExt, wrap_future};
use actix::{
    Actor, ActorContext, Addr, Arbiter, AsyncContext, Context, Handler, Message, Recipient, Supervised, Supervisor,
};
use actix_rt::ArbiterHandle;
use futures::future::{LocalBoxFuture, poll_fn};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use log::error;

use crate::telemetry::metrics::{ActorKind, Metrics};

const FIRST_BACKOFF: Duration = Duration::from_millis(2);
const MAX_BACKOFF: Duration = Duration::from_millis(100);
/// So long without a panic, and the back-off starts anew.
const CALM: Duration = Duration::from_secs(5);
const BEAT: Duration = Duration::from_millis(250);

/// An actor of the pipeline: it runs under a supervisor and knows its vital signs.
pub trait Stage: Actor<Context = Context<Self>> + Supervised {
    fn vitals(&self) -> &Arc<Vitals>;

    /// Called at each heartbeat, for what need not be done at once.
    fn beat(&mut self) {}
}

/// An actor's signs of life, readable from every thread.
pub struct Vitals {
    kind: ActorKind,
    metrics: Metrics,
    born: Instant,
    /// Milliseconds after `born`.
    last_beat: AtomicU64,
    last_panic: AtomicU64,
    /// Panics in a row.
    panics: AtomicU32,
    /// Messages sent and not yet handled.
    waiting: AtomicI64,
    is_at_work: AtomicBool,
    has_ended: AtomicBool,
    /// Whether its thread is there for it alone, and ends with it.
    is_alone: bool,
}

impl Vitals {
    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn record_panic(&self) {
        let now = self.now();
        let before = self.last_panic.swap(now, Relaxed);
        if now.saturating_sub(before) > CALM.as_millis() as u64 {
            self.panics.store(0, Relaxed);
        }
        self.panics.fetch_add(1, Relaxed);
        self.set_at_work(false);
        self.metrics.actor_restarted(self.kind);
        error!(actor = self.kind.as_str(); "actor panicked and is restarted");
    }

    fn backoff(&self) -> Duration {
        match self.panics.load(Relaxed) {
            0 => Duration::ZERO,
            panics => (FIRST_BACKOFF * 2u32.saturating_pow(panics.min(16) - 1)).min(MAX_BACKOFF),
        }
    }

    /// Whether it counts as an actor that is running.
    pub fn is_at_work(&self) -> bool {
        self.is_at_work.load(Relaxed)
    }

    /// Is it not, it is laid off: it has nothing to do, and gets nothing new.
    pub fn set_at_work(&self, is_at_work: bool) {
        // Told with every message, and nearly always what is known: the first look leaves the cache line shared.
        if self.is_at_work() != is_at_work && self.is_at_work.swap(is_at_work, Relaxed) != is_at_work {
            if is_at_work { self.metrics.actor_started(self.kind) } else { self.metrics.actor_stopped(self.kind) }
        }
    }

    /// Nobody can reach it any more, and nothing is left in its mailbox: it is not restarted.
    fn end<A: Stage>(&self, context: &mut Context<A>) {
        if self.is_alone {
            Arbiter::current().stop();
        }
        context.stop();
    }

    /// To be called from `started`: begins the heartbeat, and after a panic holds the mailbox back for a while. An actor whose
    /// address nobody has any more ends at the second beat that finds it so: between the two its mailbox was looked
    /// into, and nothing can have come since.
    pub fn on_start<A: Stage>(self: &Arc<Self>, context: &mut Context<A>) {
        self.set_at_work(true);
        self.has_ended.store(false, Relaxed);
        self.last_beat.store(self.now(), Relaxed);
        let (mut is_forsaken, pulse) = (false, Pulse(self.clone()));
        context.run_interval(BEAT, move |actor, context| {
            let Pulse(vitals) = &pulse;
            vitals.last_beat.store(vitals.now(), Relaxed);
            let was_forsaken = std::mem::replace(&mut is_forsaken, !context.connected());
            if was_forsaken && is_forsaken {
                vitals.end(context);
            }
            guarded(actor, context, |actor, _| actor.beat());
        });
        let backoff = self.backoff();
        let recent = self.now().saturating_sub(self.last_panic.load(Relaxed)) < CALM.as_millis() as u64;
        if recent && !backoff.is_zero() {
            context.wait(wrap_future::<_, A>(actix_rt::time::sleep(backoff)));
        }
    }

    fn is_stuck(&self, stall: Duration) -> bool {
        if self.has_ended.load(Relaxed) {
            return false;
        }
        let silence = self.now().saturating_sub(self.last_beat.load(Relaxed));
        u128::from(silence) > stall.as_millis()
    }
}

/// Beats as long as the actor's futures are there; a restart makes another.
struct Pulse(Arc<Vitals>);

impl Drop for Pulse {
    fn drop(&mut self) {
        self.0.has_ended.store(true, Relaxed);
        self.0.set_at_work(false);
    }
}

/// Runs a handler's work. A panic in it is counted and restarts the actor; what the work held answers by its drop.
pub fn guarded<A: Stage>(actor: &mut A, context: &mut Context<A>, work: impl FnOnce(&mut A, &mut Context<A>)) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(actor, context))) {
        fall(actor, context, panic);
    }
}

/// Spawns a future on the actor under the same guard, and hands it what came of it. A restart cancels the future.
pub fn spawn_guarded<A: Stage, T: 'static>(
    context: &mut Context<A>,
    work: impl Future<Output = T> + 'static,
    then: impl FnOnce(&mut A, T, &mut Context<A>) + 'static,
) {
    let caught = AssertUnwindSafe(work).catch_unwind();
    context.spawn(wrap_future::<_, A>(caught).map(|result, actor: &mut A, context| match result {
        Ok(value) => guarded(actor, context, |actor, context| then(actor, value, context)),
        Err(panic) => fall(actor, context, panic),
    }));
}

/// An actor's futures when there may be many: each is polled only when it was woken, while what is spawned on a context is
/// polled whenever anything there is. A panic in one restarts the actor; a restart cancels them all.
#[derive(Default)]
pub struct Crew {
    members: Rc<RefCell<FuturesUnordered<Member>>>,
}

type Member = LocalBoxFuture<'static, std::thread::Result<()>>;

impl Crew {
    /// To be called from `started`.
    pub fn start<A: Stage>(context: &mut Context<A>) -> Self {
        let crew = Crew::default();
        let members = crew.members.clone();
        let panic = poll_fn(move |cx| {
            while let Poll::Ready(Some(result)) = members.borrow_mut().poll_next_unpin(cx) {
                if let Err(panic) = result {
                    return Poll::Ready(panic);
                }
            }
            Poll::Pending
        });
        context.spawn(wrap_future::<_, A>(panic).map(|panic, actor: &mut A, context| fall(actor, context, panic)));
        crew
    }

    pub fn is_idle(&self) -> bool {
        self.members.borrow().is_empty()
    }

    /// To be called from a handler: a context looks at its futures after each message.
    pub fn add(&self, work: impl Future<Output = ()> + 'static) {
        self.members.borrow().push(AssertUnwindSafe(work).catch_unwind().boxed_local());
    }
}

fn fall<A: Stage>(actor: &mut A, context: &mut Context<A>, panic: Box<dyn Any + Send>) {
    // A payload may itself panic when dropped.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
    actor.vitals().record_panic();
    // Without an address left it would not be restarted.
    if context.connected() { context.stop() } else { actor.vitals().clone().end(context) }
}

/// All actors of the pipeline, for `/live`, `/ready` and the metrics.
#[derive(Clone)]
pub struct Watch {
    metrics: Metrics,
    actors: Arc<Mutex<Vec<Arc<Vitals>>>>,
}

impl Watch {
    pub fn new(metrics: Metrics) -> Self {
        Watch { metrics, actors: Arc::default() }
    }

    /// Starts a supervised actor on the current thread's arbiter.
    pub fn start<A: Stage>(&self, kind: ActorKind, make: impl FnOnce(Arc<Vitals>, Post<A>) -> A + 'static) -> Post<A> {
        let vitals = self.enrol(kind, false);
        let own = vitals.clone();
        let address = Supervisor::start(move |context: &mut Context<A>| {
            make(own.clone(), Post { address: context.address(), vitals: own })
        });
        Post { address, vitals }
    }

    /// Starts a supervised actor on another arbiter.
    pub fn start_on<A: Stage>(
        &self,
        arbiter: &ArbiterHandle,
        kind: ActorKind,
        make: impl FnOnce(Arc<Vitals>, Post<A>) -> A + Send + 'static,
    ) -> Post<A> {
        self.begin(arbiter, self.enrol(kind, false), make)
    }

    /// Starts a supervised actor on a thread of its own, which ends with it: when nobody has its address any more.
    pub fn start_alone<A: Stage>(
        &self,
        kind: ActorKind,
        make: impl FnOnce(Arc<Vitals>, Post<A>) -> A + Send + 'static,
    ) -> io::Result<Post<A>> {
        let thread = Arbiter::try_new()?;
        Ok(self.begin(&thread.handle(), self.enrol(kind, true), make))
    }

    fn begin<A: Stage>(
        &self,
        arbiter: &ArbiterHandle,
        vitals: Arc<Vitals>,
        make: impl FnOnce(Arc<Vitals>, Post<A>) -> A + Send + 'static,
    ) -> Post<A> {
        let own = vitals.clone();
        let address = Supervisor::start_in_arbiter(arbiter, move |context: &mut Context<A>| {
            make(own.clone(), Post { address: context.address(), vitals: own })
        });
        Post { address, vitals }
    }

    fn enrol(&self, kind: ActorKind, is_alone: bool) -> Arc<Vitals> {
        let vitals = Arc::new(Vitals {
            kind,
            metrics: self.metrics.clone(),
            born: Instant::now(),
            last_beat: AtomicU64::new(0),
            last_panic: AtomicU64::new(0),
            panics: AtomicU32::new(0),
            waiting: AtomicI64::new(0),
            is_at_work: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            is_alone,
        });
        let mut actors = self.actors.lock().unwrap_or_else(PoisonError::into_inner);
        actors.retain(|vitals| !vitals.has_ended.load(Relaxed));
        actors.push(vitals.clone());
        vitals
    }

    /// The kinds of which an actor has given no sign of life for so long.
    pub fn stuck(&self, stall: Duration) -> Vec<ActorKind> {
        let actors = self.actors.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stuck = |kind: &ActorKind| actors.iter().any(|vitals| vitals.kind == *kind && vitals.is_stuck(stall));
        ActorKind::ALL.into_iter().filter(is_stuck).collect()
    }

    /// Brings the metrics up to date with what waits in the mailboxes.
    pub fn tell_waiting(&self) {
        let actors = self.actors.lock().unwrap_or_else(PoisonError::into_inner);
        for kind in ActorKind::ALL {
            let of_kind = actors.iter().filter(|vitals| vitals.kind == kind);
            self.metrics.set_actor_waiting(kind, of_kind.map(|vitals| vitals.waiting.load(Relaxed)).sum());
        }
    }
}

/// An actor's address. What is posted waits in its mailbox, and is counted while it does.
pub struct Post<A: Actor> {
    address: Addr<A>,
    vitals: Arc<Vitals>,
}

impl<A: Actor> Clone for Post<A> {
    fn clone(&self) -> Self {
        Post { address: self.address.clone(), vitals: self.vitals.clone() }
    }
}

impl<A: Actor<Context = Context<A>>> Post<A> {
    /// Never blocks. If the actor is gone the message is dropped, and what it held answers by its drop.
    pub fn post<M: Send + 'static>(&self, letter: M)
    where
        A: Handler<Mail<M>>,
    {
        self.address.do_send(Mail { letter, _waiting: Waiting::new(&self.vitals) });
    }

    /// A message to this actor that is sent when it is dropped.
    pub fn notice<M: Send + 'static>(&self, letter: M) -> Notice<M>
    where
        A: Handler<Mail<M>>,
    {
        Notice { to: self.address.clone().recipient(), letter: Some(letter), vitals: self.vitals.clone() }
    }
}

/// Counts a message while it waits. Counted by the actor that it goes to: a gauge that all threads share would cost more than the
/// message.
struct Waiting(Arc<Vitals>);

impl Waiting {
    fn new(vitals: &Arc<Vitals>) -> Self {
        vitals.waiting.fetch_add(1, Relaxed);
        Waiting(vitals.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// A message on its way.
pub struct Mail<M> {
    letter: M,
    _waiting: Waiting,
}

impl<M> Mail<M> {
    /// The message; from here on it does not count as waiting.
    pub fn open(self) -> M {
        self.letter
    }
}

impl<M> Message for Mail<M> {
    type Result = ();
}

/// Sends its message when it is dropped: news of an end that cannot be lost, whatever ends it.
pub struct Notice<M: Send + 'static> {
    to: Recipient<Mail<M>>,
    letter: Option<M>,
    vitals: Arc<Vitals>,
}

impl<M: Send + 'static> Notice<M> {
    /// The message, which is then not sent.
    pub fn take(mut self) -> Option<M> {
        self.letter.take()
    }

    /// The message as it would be sent.
    pub fn letter(&self) -> Option<&M> {
        self.letter.as_ref()
    }

    /// The same, to be filled in.
    pub fn letter_mut(&mut self) -> Option<&mut M> {
        self.letter.as_mut()
    }
}

impl<M: Send + 'static> Drop for Notice<M> {
    fn drop(&mut self) {
        if let Some(letter) = self.letter.take() {
            self.to.do_send(Mail { letter, _waiting: Waiting::new(&self.vitals) });
        }
    }
}
