//! Keeping actors alive: the guard around every handler and every spawned future, restart with back-off, and the
//! heartbeat by which an actor that is stuck, rather than dead, is found.
//!
//! actix's `Supervisor` restarts a context that stopped; a panic that leaves a handler ends the actor and its mailbox
//! for good. So no panic leaves one: [`guarded`] catches it, counts it and stops the context, and the supervisor
//! restarts the same value with its mailbox intact. `panic = "abort"` must never be set.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix::fut::{ActorFutureExt, wrap_future};
use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, Recipient, Supervised, Supervisor};
use actix_rt::ArbiterHandle;
use futures::FutureExt;
use log::error;

use crate::telemetry::metrics::{ActorKind, Metrics, Waiting};

const FIRST_BACKOFF: Duration = Duration::from_millis(2);
const MAX_BACKOFF: Duration = Duration::from_millis(100);
/// So long without a panic, and the back-off starts anew.
const CALM: Duration = Duration::from_secs(5);
const BEAT: Duration = Duration::from_millis(250);

/// An actor of the pipeline: it runs under a supervisor and knows its vital signs.
pub trait Stage: Actor<Context = Context<Self>> + Supervised {
    fn vitals(&self) -> &Arc<Vitals>;
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
        self.metrics.actor_stopped(self.kind);
        self.metrics.actor_restarted(self.kind);
        error!(actor = self.kind.as_str(); "actor panicked and is restarted");
    }

    fn backoff(&self) -> Duration {
        match self.panics.load(Relaxed) {
            0 => Duration::ZERO,
            panics => (FIRST_BACKOFF * 2u32.saturating_pow(panics.min(16) - 1)).min(MAX_BACKOFF),
        }
    }

    /// To be called from `started`: begins the heartbeat, and after a panic holds the mailbox back for a while.
    pub fn on_start<A: Stage>(&self, context: &mut Context<A>) {
        self.metrics.actor_started(self.kind);
        self.last_beat.store(self.now(), Relaxed);
        context.run_interval(BEAT, |actor, _| {
            let vitals = actor.vitals();
            vitals.last_beat.store(vitals.now(), Relaxed);
        });
        let backoff = self.backoff();
        let recent = self.now().saturating_sub(self.last_panic.load(Relaxed)) < CALM.as_millis() as u64;
        if recent && !backoff.is_zero() {
            context.wait(wrap_future::<_, A>(actix_rt::time::sleep(backoff)));
        }
    }

    fn is_stuck(&self, stall: Duration) -> bool {
        let silence = self.now().saturating_sub(self.last_beat.load(Relaxed));
        u128::from(silence) > stall.as_millis()
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

fn fall<A: Stage>(actor: &mut A, context: &mut Context<A>, panic: Box<dyn Any + Send>) {
    // A payload may itself panic when dropped.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
    actor.vitals().record_panic();
    context.stop();
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
        let (vitals, metrics) = (self.enrol(kind), self.metrics.clone());
        let address = Supervisor::start(move |context: &mut Context<A>| {
            make(vitals, Post { address: context.address(), kind, metrics })
        });
        Post { address, kind, metrics: self.metrics.clone() }
    }

    /// Starts a supervised actor on another arbiter.
    pub fn start_on<A: Stage>(
        &self,
        arbiter: &ArbiterHandle,
        kind: ActorKind,
        make: impl FnOnce(Arc<Vitals>, Post<A>) -> A + Send + 'static,
    ) -> Post<A> {
        let (vitals, metrics) = (self.enrol(kind), self.metrics.clone());
        let address = Supervisor::start_in_arbiter(arbiter, move |context: &mut Context<A>| {
            make(vitals, Post { address: context.address(), kind, metrics })
        });
        Post { address, kind, metrics: self.metrics.clone() }
    }

    fn enrol(&self, kind: ActorKind) -> Arc<Vitals> {
        let vitals = Arc::new(Vitals {
            kind,
            metrics: self.metrics.clone(),
            born: Instant::now(),
            last_beat: AtomicU64::new(0),
            last_panic: AtomicU64::new(0),
            panics: AtomicU32::new(0),
        });
        self.actors.lock().unwrap_or_else(PoisonError::into_inner).push(vitals.clone());
        vitals
    }

    /// The kinds of which an actor has given no sign of life for so long.
    pub fn stuck(&self, stall: Duration) -> Vec<ActorKind> {
        let actors = self.actors.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stuck = |kind: &ActorKind| actors.iter().any(|vitals| vitals.kind == *kind && vitals.is_stuck(stall));
        ActorKind::ALL.into_iter().filter(is_stuck).collect()
    }
}

/// An actor's address. What is posted waits in its mailbox, and is counted while it does.
pub struct Post<A: Actor> {
    address: Addr<A>,
    kind: ActorKind,
    metrics: Metrics,
}

impl<A: Actor> Clone for Post<A> {
    fn clone(&self) -> Self {
        Post { address: self.address.clone(), kind: self.kind, metrics: self.metrics.clone() }
    }
}

impl<A: Actor<Context = Context<A>>> Post<A> {
    /// Never blocks. If the actor is gone the message is dropped, and what it held answers by its drop.
    pub fn post<M: Send + 'static>(&self, letter: M)
    where
        A: Handler<Mail<M>>,
    {
        self.address.do_send(Mail { letter, _waiting: self.metrics.waiting(self.kind) });
    }

    /// A message to this actor that is sent when it is dropped.
    pub fn notice<M: Send + 'static>(&self, letter: M) -> Notice<M>
    where
        A: Handler<Mail<M>>,
    {
        let (kind, metrics) = (self.kind, self.metrics.clone());
        Notice { to: self.address.clone().recipient(), letter: Some(letter), kind, metrics }
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
    kind: ActorKind,
    metrics: Metrics,
}

impl<M: Send + 'static> Notice<M> {
    /// The message as it would be sent, to be filled in.
    pub fn letter_mut(&mut self) -> Option<&mut M> {
        self.letter.as_mut()
    }
}

impl<M: Send + 'static> Drop for Notice<M> {
    fn drop(&mut self) {
        if let Some(letter) = self.letter.take() {
            self.to.do_send(Mail { letter, _waiting: self.metrics.waiting(self.kind) });
        }
    }
}
