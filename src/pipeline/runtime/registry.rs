//! All actors of the pipeline: starts them under a supervisor, and knows which of them are stuck.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::{AsyncContext, Context, Supervisor};
use actix_rt::{Arbiter, ArbiterHandle};

use super::heartbeat::Heartbeat;
use super::mailbox::Mailbox;
use super::stage::{Running, Stage};
use crate::telemetry::metrics::{ActorKind, Metrics};

/// For `/live`, `/ready` and the metrics. Cheap to clone.
#[derive(Clone)]
pub struct ActorRegistry {
    metrics: Metrics,
    actors: Arc<Mutex<Vec<Arc<Heartbeat>>>>,
}

impl ActorRegistry {
    /// A registry without actors; `metrics` shows how many run, and counts restarts.
    pub fn new(metrics: Metrics) -> Self {
        ActorRegistry { metrics, actors: Arc::default() }
    }

    /// Starts a supervised actor on another thread. `make` is called there.
    pub fn start_on<S: Stage>(
        &self,
        thread: &ArbiterHandle,
        kind: ActorKind,
        make: impl FnOnce(Arc<Heartbeat>, Mailbox<S>) -> S + Send + 'static,
    ) -> Mailbox<S> {
        start(thread, self.register(kind, false), make)
    }

    /// Starts a supervised actor on a thread of its own, which ends with it: once nobody has its address any more.
    pub fn start_alone<S: Stage>(
        &self,
        kind: ActorKind,
        make: impl FnOnce(Arc<Heartbeat>, Mailbox<S>) -> S + Send + 'static,
    ) -> io::Result<Mailbox<S>> {
        let thread = Arbiter::try_new()?;
        Ok(start(&thread.handle(), self.register(kind, true), make))
    }

    fn register(&self, kind: ActorKind, owns_thread: bool) -> Arc<Heartbeat> {
        let heartbeat = Heartbeat::new(kind, self.metrics.clone(), owns_thread);
        let mut actors = self.lock();
        actors.retain(|heartbeat| !heartbeat.has_ended());
        actors.push(heartbeat.clone());
        heartbeat
    }

    /// The kinds of which an actor has given no sign of life for longer than `stall`.
    pub fn stuck(&self, stall: Duration) -> Vec<ActorKind> {
        let actors = self.lock();
        let is_stuck = |kind: &ActorKind| actors.iter().any(|actor| actor.kind == *kind && actor.is_stuck(stall));
        ActorKind::ALL.into_iter().filter(is_stuck).collect()
    }

    /// Brings the metrics up to date with the lengths of the mailboxes.
    pub fn publish_waiting(&self) {
        let actors = self.lock();
        for kind in ActorKind::ALL {
            let of_kind = actors.iter().filter(|actor| actor.kind == kind);
            self.metrics.set_actor_waiting(kind, of_kind.map(|actor| actor.waiting()).sum());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Heartbeat>>> {
        self.actors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start<S: Stage>(
    thread: &ArbiterHandle,
    heartbeat: Arc<Heartbeat>,
    make: impl FnOnce(Arc<Heartbeat>, Mailbox<S>) -> S + Send + 'static,
) -> Mailbox<S> {
    let own = heartbeat.clone();
    let address = Supervisor::start_in_arbiter(thread, move |context: &mut Context<Running<S>>| {
        let mailbox = Mailbox { address: context.address(), heartbeat: own.clone() };
        Running { stage: make(own.clone(), mailbox), heartbeat: own }
    });
    Mailbox { address, heartbeat }
}
