//! What an actor of the pipeline is: a [`Stage`], run as an actix actor under a supervisor, with the panic guard around
//! everything it does.
//!
//! actix's `Supervisor` restarts a context that stopped; a panic that leaves a handler ends the actor and its mailbox
//! for good. So no panic leaves one: it is caught here, counted, and stops the context, and the supervisor restarts the
//! same value with its mailbox intact. `panic = "abort"` must never be set. A stage has no access to its actix context,
//! so nothing it does can pass the guard by.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use actix::fut::{ActorFutureExt, wrap_future};
use actix::{Actor, ActorContext, Arbiter, AsyncContext, Context, Handler, Message, Supervised};
use futures::FutureExt;

use super::heartbeat::{Heartbeat, Waiting};
use super::timer::Every;

const BEAT: Duration = Duration::from_millis(250);

/// An actor of the pipeline. A panic in any of these methods restarts it: the value stays, its futures are cancelled, and
/// what the panicking work held answers by its drop.
pub trait Stage: Sized + Unpin + 'static {
    /// Everything that may be sent to it.
    type Message: Send + 'static;

    /// Called on its own thread before any message, at the start and after each panic.
    fn started(&mut self, _context: &mut StageContext<'_, Self>) {}

    /// Called after a panic, before [`started`](Stage::started): gives up what it cannot go on with.
    fn restarting(&mut self) {}

    /// Handles one message. It must not block the thread; what takes time is spawned on `context`. A panic here
    /// restarts the stage, and the messages behind it survive.
    fn handle(&mut self, message: Self::Message, context: &mut StageContext<'_, Self>);

    /// Called four times a second, for what need not be done at once.
    fn beat(&mut self) {}
}

/// What a stage may do beside its own work: begin futures and timers. All of them end with a restart.
pub struct StageContext<'c, S: Stage>(&'c mut Context<Running<S>>);

impl<S: Stage> StageContext<'_, S> {
    /// Runs a future on the actor's thread and hands its output to `then`.
    pub fn spawn<T: 'static>(
        &mut self,
        work: impl Future<Output = T> + 'static,
        then: impl FnOnce(&mut S, T, &mut StageContext<'_, S>) + 'static,
    ) {
        let caught = wrap_future::<_, Running<S>>(AssertUnwindSafe(work).catch_unwind());
        self.0.spawn(caught.map(|result, running, context| match result {
            Ok(value) => running.run_guarded(context, |stage, context| then(stage, value, context)),
            Err(panic) => running.handle_panic(context, panic),
        }));
    }

    /// Calls `then` once the time is over.
    pub fn after(&mut self, time: Duration, then: impl FnOnce(&mut S, &mut StageContext<'_, S>) + 'static) {
        self.0.run_later(time, |running, context| running.run_guarded(context, then));
    }

    /// Calls `work` again and again, with this time between.
    pub fn every(&mut self, time: Duration, mut work: impl FnMut(&mut S, &mut StageContext<'_, S>) + Unpin + 'static) {
        self.0.spawn(Every::new(time, move |running: &mut Running<S>, context: &mut Context<Running<S>>| {
            running.run_guarded(context, &mut work);
        }));
    }

    /// Restarts the actor with the panic that the future ends with.
    pub(super) fn restart_on(&mut self, panic: impl Future<Output = Box<dyn Any + Send>> + 'static) {
        let panic = wrap_future::<_, Running<S>>(panic);
        self.0.spawn(panic.map(|panic, running, context| running.handle_panic(context, panic)));
    }
}

/// A stage as the actor that actix knows.
pub struct Running<S: Stage> {
    pub(super) stage: S,
    pub(super) heartbeat: Arc<Heartbeat>,
}

impl<S: Stage> Running<S> {
    fn run_guarded(&mut self, context: &mut Context<Self>, work: impl FnOnce(&mut S, &mut StageContext<'_, S>)) {
        let stage = &mut self.stage;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(stage, &mut StageContext(context)))) {
            self.handle_panic(context, panic);
        }
    }

    fn handle_panic(&mut self, context: &mut Context<Self>, panic: Box<dyn Any + Send>) {
        drop_payload(panic);
        self.heartbeat.record_panic();
        // Without an address left it would not be restarted.
        if context.connected() { context.stop() } else { self.end(context) }
    }

    /// Nobody can reach it any more, and its mailbox is empty: it is not restarted.
    fn end(&self, context: &mut Context<Self>) {
        if self.heartbeat.owns_thread() {
            Arbiter::current().stop();
        }
        context.stop();
    }

    /// Begins the heartbeat. An actor whose address nobody has any more ends at the second beat that finds it so: between
    /// the two its mailbox was looked into, and nothing can have come since.
    fn start_heartbeat(&mut self, context: &mut Context<Self>) {
        self.heartbeat.started();
        let (mut is_forsaken, pulse) = (false, Pulse(self.heartbeat.clone()));
        context.spawn(Every::new(BEAT, move |running: &mut Self, context: &mut Context<Self>| {
            pulse.0.beat();
            let was_forsaken = std::mem::replace(&mut is_forsaken, !context.connected());
            if was_forsaken && is_forsaken {
                running.end(context);
            }
            running.run_guarded(context, |stage, _| stage.beat());
        }));
    }
}

/// A payload may itself panic when it is dropped.
fn drop_payload(panic: Box<dyn Any + Send>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
}

/// Lives as long as the actor's futures; a restart makes another.
struct Pulse(Arc<Heartbeat>);

impl Drop for Pulse {
    fn drop(&mut self) {
        self.0.ended();
    }
}

impl<S: Stage> Actor for Running<S> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.start_heartbeat(context);
        let backoff = self.heartbeat.backoff();
        if !backoff.is_zero() {
            // Holds the mailbox back.
            context.wait(wrap_future::<_, Self>(actix_rt::time::sleep(backoff)));
        }
        self.run_guarded(context, |stage, context| stage.started(context));
    }
}

impl<S: Stage> Supervised for Running<S> {
    fn restarting(&mut self, _: &mut Self::Context) {
        let stage = &mut self.stage;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| stage.restarting())) {
            drop_payload(panic);
            self.heartbeat.record_panic();
        }
    }
}

/// A message on its way to a stage.
pub(super) struct Envelope<M> {
    pub(super) message: M,
    pub(super) waiting: Waiting,
}

impl<M> Message for Envelope<M> {
    type Result = ();
}

impl<S: Stage> Handler<Envelope<S::Message>> for Running<S> {
    type Result = ();

    fn handle(&mut self, Envelope { message, waiting }: Envelope<S::Message>, context: &mut Self::Context) {
        drop(waiting);
        self.run_guarded(context, |stage, context| stage.handle(message, context));
    }
}
