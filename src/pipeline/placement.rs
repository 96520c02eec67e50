//! How many actors there are of each kind, and on which threads; both may change while they work.
//!
//! # Who runs where
//!
//! A hop between threads costs more than the work it carries. So intake, validation, the local routers, fetchers and writers
//! run on the HTTP workers' own threads, where each [`Submitter`] starts them: an operation changes threads only to follow an
//! unfinished one of its key. Intake and validation may be put on threads of their own. The central router has a thread, and
//! the scanner has another. Decoding needs the processor alone and has threads of its own, which the fetchers' clients start
//! with the first coded body.
//!
//! # Why nothing is lost and no order broken when sizes change
//!
//! No actor is taken away from its work.
//!
//! - **Writers** keep their places and their mailboxes for good; what changes is which of them may be chosen for a key with
//!   nothing unfinished (the [`ActiveSet`]). Operations under way keep leading to their writer, and those that follow on the
//!   key follow it there ([`key_order`](crate::pipeline::work::key_order)). A new writer becomes active once it has heard from
//!   the cache. A writer that is not wanted any more does what comes; when nothing has come for a while it is idle: it closes
//!   its session, which owes nothing then, and is not counted. If something comes after all, it opens another. Fences go
//!   through all writers that were ever started, so a pattern cannot overtake what one of them has.
//! - **Fetchers** have no order. The [`FetchScheduler`](crate::pipeline::fetch::scheduler::FetchScheduler) counts who is busy
//!   and chooses among the present ones. Attempts under way end where they are.
//! - **Intake and validation** hold a request only before it is accepted, when it has no order yet. A request takes the
//!   [`Route`] of its time; one that waits in a mailbox of an older route holds that mailbox's address, so the actor exists,
//!   and is restarted after a panic, until the last is through. An actor whose address nobody has any more ends by itself,
//!   with its thread if that was its own.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use log::error;

use super::intake::{Intake, Route};
use super::settings::{PipelineSettings, Sizes};
use super::submitter::Submitter;
use super::validation::{NextStages, Validation};
use crate::blob::BlobSettings;
use crate::blob::guard::AllowedHosts;
use crate::cache::{Cache, Session};
use crate::pipeline::fetch::direct::DirectFetch;
use crate::pipeline::fetch::fetcher::{self, Adapt, Fetcher, FetcherMessage};
use crate::pipeline::fetch::shared::SharedScheduler;
use crate::pipeline::fetch::streaming::Passage;
use crate::pipeline::readiness::Readiness;
use crate::pipeline::router::central::{CentralRouter, RouterMessage};
use crate::pipeline::router::local::{self, LocalRouter};
use crate::pipeline::runtime::{
    ActiveSet, ActorRegistry, Heartbeat, MAX_POOL, Mailbox, Pool, Stage, Thread, ThreadHandle, WorkerThread,
};
use crate::pipeline::work::admission::Admission;
use crate::pipeline::work::key_order::KeyOrder;
use crate::pipeline::write::pace::{Lateness, Paces};
use crate::pipeline::write::writer::{self, Writer, WriterMessage};
use crate::telemetry::metrics::{ActorKind, Metrics};

/// What actors are made of.
pub struct Deps {
    pub settings: Arc<PipelineSettings>,
    pub admission: Arc<Admission>,
    pub readiness: Arc<Readiness>,
    pub registry: ActorRegistry,
    pub metrics: Metrics,
    pub cache: Arc<dyn Cache>,
    pub key_order: &'static KeyOrder,
    pub writers: Arc<Pool<Writer>>,
    pub fetchers: Arc<Pool<Fetcher>>,
    /// How large blobs get to the cache.
    pub passage: Passage,
    pub scheduler: Arc<SharedScheduler>,
    pub direct: Arc<DirectFetch>,
    pub router: Mailbox<CentralRouter>,
}

pub struct Placement {
    deps: Deps,
    active: Arc<ActiveSet>,
    paces: Arc<Paces>,
    state: Mutex<Placed>,
}

struct Placed {
    sizes: Sizes,
    blob: Arc<BlobSettings>,
    /// Threads seen so far.
    threads_seen: usize,
    workers: Vec<WorkerEntry>,
    intakes: Vec<Mailbox<Intake>>,
    validations: Vec<Mailbox<Validation>>,
}

/// What runs on one HTTP worker's thread.
struct WorkerEntry {
    worker: WorkerThread,
    thread: ThreadHandle,
    router: Mailbox<LocalRouter>,
    /// None: the pool's are used.
    intake: Option<Mailbox<Intake>>,
    validation: Option<Mailbox<Validation>>,
    route: Arc<ArcSwap<Route>>,
}

impl Placement {
    pub fn new(deps: Deps) -> Arc<Self> {
        let (sizes, blob) = (deps.settings.sizes.clone(), deps.settings.blob.clone());
        let active = ActiveSet::of(sizes.writers);
        let state =
            Placed { sizes, blob, threads_seen: 0, workers: Vec::new(), intakes: Vec::new(), validations: Vec::new() };
        let placement = Placement { deps, active, paces: Paces::new(), state: Mutex::new(state) };
        let mut state = placement.lock();
        placement.fill_pools(&mut state);
        placement.publish_wanted(&state);
        drop(state);
        Arc::new(placement)
    }

    /// The way in for one HTTP worker; to be called on its thread.
    pub fn submitter(&self) -> Submitter {
        let state = &mut *self.lock();
        let worker = WorkerThread::new(state.threads_seen, self.deps.settings.workers);
        state.threads_seen += 1;
        let thread = Thread::current();
        for number in worker.share(state.sizes.writers) {
            self.start_writer(number, &thread);
        }
        for number in worker.share(state.sizes.fetchers) {
            self.start_fetcher(number, &thread, &state.blob);
        }
        let router = self.start_local_router(worker, &thread);
        let (mut intake, mut validation) = (None, None);
        let route = Arc::new(ArcSwap::from_pointee(self.route(
            worker,
            &thread,
            &router,
            (&mut intake, &state.intakes),
            (&mut validation, &state.validations),
        )));
        state.workers.retain(|entry| entry.worker != worker);
        state.workers.push(WorkerEntry { worker, thread, router, intake, validation, route: route.clone() });
        self.publish_wanted(state);
        Submitter { route, max_answer_bytes: self.deps.settings.max_answer_bytes }
    }

    /// The way in over the thread of an HTTP worker, by turns, for whoever is on another. None: no worker has come yet.
    pub fn submitter_by_turn(&self, turn: usize) -> Option<Submitter> {
        let state = self.lock();
        let worker = state.workers.get(turn % state.workers.len().max(1))?;
        Some(Submitter { route: worker.route.clone(), max_answer_bytes: self.deps.settings.max_answer_bytes })
    }

    /// From now on there are these numbers of actors, and blobs may come from these hosts. Must be called within an actix
    /// system.
    pub fn adopt(&self, sizes: &Sizes, allowed_hosts: &AllowedHosts) {
        let state = &mut *self.lock();
        let (allowed_hosts, max_connections) = (allowed_hosts.clone(), sizes.fetches_each);
        let blob = BlobSettings { allowed_hosts, max_connections, ..(*state.blob).clone() };
        if *state.blob != blob {
            state.blob = Arc::new(blob);
        }
        state.sizes = sizes.clone();
        self.resize_fetchers(state);
        self.resize_writers(state);
        self.fill_pools(state);
        for worker in &mut state.workers {
            let WorkerEntry { worker, thread, router, intake, validation, route } = worker;
            let (intake, validation) = ((intake, &*state.intakes), (validation, &*state.validations));
            route.store(Arc::new(self.route(*worker, thread, router, intake, validation)));
        }
        self.publish_wanted(state);
    }

    /// Tells the metrics how many of each there should be: fewer that run than that are lost.
    fn publish_wanted(&self, state: &Placed) {
        let (workers, sizes) = (state.workers.len(), &state.sizes);
        let beside = |pool: usize| if pool == 0 { workers } else { pool };
        for (actor, count) in [
            (ActorKind::Intake, beside(sizes.intake)),
            (ActorKind::Validation, beside(sizes.validation)),
            // With a router on each worker's thread.
            (ActorKind::Router, workers + 1),
            (ActorKind::Fetcher, sizes.fetchers),
            (ActorKind::Writer, sizes.writers),
            (ActorKind::Scanner, 1),
        ] {
            self.deps.metrics.set_actors_wanted(actor, count);
        }
    }

    /// Hosts of blobs that are taken for down.
    pub fn hosts_down(&self) -> usize {
        self.deps.scheduler.with(|scheduler| scheduler.hosts_down(Instant::now()))
    }

    /// A line to the cache for who is no actor.
    pub fn session(&self) -> Box<dyn Session> {
        self.deps.cache.session()
    }

    fn resize_fetchers(&self, state: &Placed) {
        let Sizes { fetchers, fetches_each, fetches_per_host, .. } = state.sizes;
        for number in 0..fetchers.min(MAX_POOL) {
            if let Some(thread) = state.thread_of(number) {
                self.start_fetcher(number, thread, &state.blob);
            }
        }
        for number in self.deps.fetchers.started() {
            let (settings, is_wanted) = (state.blob.clone(), number < fetchers);
            self.deps.fetchers.post(number, FetcherMessage::Adapt(Adapt { settings, is_wanted }));
        }
        self.deps.scheduler.with(|scheduler| scheduler.resize(fetchers, fetches_each, fetches_per_host));
        // What waited for a slot may start.
        self.deps.router.post(RouterMessage::CapacityFreed);
    }

    fn resize_writers(&self, state: &Placed) {
        for number in 0..MAX_POOL {
            let is_wanted = number < state.sizes.writers;
            if self.deps.writers.is_started(number) {
                self.deps.writers.post(number, WriterMessage::SetWanted(is_wanted));
            } else if !is_wanted {
                self.active.close(number);
                self.deps.readiness.forget_writer(number);
            } else if let Some(thread) = state.thread_of(number) {
                self.start_writer(number, thread);
            }
        }
    }

    /// Starts the actors that have their own threads.
    fn fill_pools(&self, state: &mut Placed) {
        let registry = &self.deps.registry;
        fill(&mut state.intakes, state.sizes.intake, || registry.start_alone(ActorKind::Intake, self.intake()));
        let validation = || registry.start_alone(ActorKind::Validation, self.validation());
        fill(&mut state.validations, state.sizes.validation, validation);
    }

    /// The route through the pools, or through the actors on the thread itself where a pool is empty.
    fn route(
        &self,
        worker: WorkerThread,
        thread: &ThreadHandle,
        router: &Mailbox<LocalRouter>,
        (own_intake, intakes): (&mut Option<Mailbox<Intake>>, &[Mailbox<Intake>]),
        (own_validation, validations): (&mut Option<Mailbox<Validation>>, &[Mailbox<Validation>]),
    ) -> Route {
        let registry = &self.deps.registry;
        let validation = pick(worker, validations, own_validation, || {
            registry.start_on(thread, ActorKind::Validation, self.validation())
        });
        let intake = pick(worker, intakes, own_intake, || registry.start_on(thread, ActorKind::Intake, self.intake()));
        Route { intake, next: Arc::new(NextStages { validation, router: router.clone() }) }
    }

    fn start_fetcher(&self, number: usize, thread: &ThreadHandle, settings: &Arc<BlobSettings>) {
        let Deps { fetchers, registry, admission, metrics, scheduler, passage, .. } = &self.deps;
        fetchers.start(number, || {
            let deps = fetcher::Deps {
                scheduler: scheduler.clone(),
                settings: settings.clone(),
                admission: admission.clone(),
                metrics: metrics.clone(),
                passage: passage.clone(),
            };
            registry.start_on(thread, ActorKind::Fetcher, move |heartbeat, _| Fetcher::new(heartbeat, deps))
        });
    }

    fn start_writer(&self, number: usize, thread: &ThreadHandle) {
        let Deps { settings, writers, registry, metrics, readiness, cache, .. } = &self.deps;
        writers.start(number, || {
            let deps = writer::Deps {
                limits: settings.writer.clone(),
                metrics: metrics.clone(),
                readiness: readiness.clone(),
                active: self.active.clone(),
                paces: self.paces.clone(),
                cache: cache.clone(),
            };
            registry.start_on(thread, ActorKind::Writer, move |heartbeat, _| Writer::new(heartbeat, number, deps))
        });
    }

    fn start_local_router(&self, worker: WorkerThread, thread: &ThreadHandle) -> Mailbox<LocalRouter> {
        let Deps { settings, key_order, writers, direct, router, .. } = &self.deps;
        let deps = local::Deps {
            key_order,
            writers: writers.clone(),
            active: self.active.clone(),
            paces: self.paces.clone(),
            thread: worker,
            central: router.clone(),
            direct: direct.clone(),
            max_answer_bytes: settings.max_answer_bytes,
        };
        self.deps.registry.start_on(thread, ActorKind::Router, move |_, own| LocalRouter::new(own, deps))
    }

    fn validation(&self) -> impl FnOnce(Arc<Heartbeat>, Mailbox<Validation>) -> Validation + Send + use<> {
        let (limits, deadline) = (self.deps.settings.limits.clone(), self.deps.settings.deadline);
        let (paces, active, key_order) = (self.paces.clone(), self.active.clone(), self.deps.key_order);
        move |_, _| Validation { limits, deadline, lateness: Lateness { paces, active, key_order } }
    }

    fn intake(&self) -> impl FnOnce(Arc<Heartbeat>, Mailbox<Intake>) -> Intake + Send + use<> {
        let max_events = self.deps.settings.limits.max_events;
        move |_, _| Intake { max_events }
    }

    fn lock(&self) -> MutexGuard<'_, Placed> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Placed {
    /// The thread on which a member of a pool lives. None: the thread is not there yet, and will start its share itself.
    fn thread_of(&self, number: usize) -> Option<&ThreadHandle> {
        self.workers.iter().find(|worker| worker.worker.is_of(number)).map(|worker| &worker.thread)
    }
}

/// Brings a pool to its size. If the system has no thread left for one, those that are there have to do.
fn fill<A: Stage>(pool: &mut Vec<Mailbox<A>>, size: usize, start: impl Fn() -> io::Result<Mailbox<A>>) {
    pool.truncate(size);
    while pool.len() < size {
        match start() {
            Ok(actor) => pool.push(actor),
            Err(cause) => {
                return error!(cause:% = cause, there = pool.len(), wanted = size; "no thread could be started for an actor");
            }
        }
    }
}

fn pick<A: Stage>(
    worker: WorkerThread,
    pool: &[Mailbox<A>],
    own: &mut Option<Mailbox<A>>,
    start: impl FnOnce() -> Mailbox<A>,
) -> Mailbox<A> {
    if let Some(actor) = pool.get(worker.number() % pool.len().max(1)) {
        *own = None;
        return actor.clone();
    }
    own.get_or_insert_with(start).clone()
}
