//! The actors: order, flow, supervision.
//!
//! ```text
//!                   HTTP worker threads
//! POST /events ─▶ intake ─▶ validation ─▶ switch ──────────▶ writer ─▶ cache
//!                   │           │            │                 ▲
//!                   ▼           ▼            │ what has to     │ what need not
//!                refused     rejected        ▼ wait            │ wait any more
//!                                          router ─────────────┘
//!                                           │  ▲
//!                                           ├──┴── fetcher (pool): blobs
//!                                           └───── scanner ─▶ cache
//! ```
//!
//! | actor | owns | receives | sends | on death |
//! | --- | --- | --- | --- | --- |
//! | [`intake`] | splitting a body into events | a request body | raw events | its request answers `interrupted` |
//! | [`validation`] | raw event → valid event or every fault; admission | raw events | what to do, in order | the same |
//! | [`switch`] | each operation's turn on its key | what to do | ready operations; the rest to the router | what it held answers `interrupted` |
//! | [`router`] | the order of what has to wait, which fetch runs when | operations, ended fetches | fetches, ready operations, sweeps | what is queued answers `interrupted`; starts empty |
//! | [`fetcher`] | one attempt at a download | a fetch | the bytes or the failure | its fetches are ordered once more, then `interrupted` |
//! | [`writer`] | one line to the cache, group commit | ready operations | replies | what was in flight is written again, in order |
//! | [`scanner`] | pattern deletes and previews | sweeps that may start | replies | its sweeps answer `interrupted` |
//!
//! One way, no polling back: whoever ends the work answers it. [`job`] has what rides along, [`gate`] the bounds at the
//! door, [`stopwatch`] where time went, [`turns`] the order of keys over all threads, [`shortcut`] the blobs that wait for nothing else, [`lanes`] and
//! [`dispatch`] the router's state as values, [`supervision`] what keeps actors alive.

pub mod backlog;
pub mod dispatch;
pub mod fetcher;
pub mod gate;
pub mod health;
pub mod intake;
pub mod job;
pub mod lanes;
pub mod router;
pub mod scanner;
pub mod shortcut;
pub mod stopwatch;
pub mod supervision;
pub mod switch;
pub mod turns;
pub mod validation;
pub mod writer;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use actix::Arbiter;
use bytes::Bytes;
use futures::lock::Mutex;

use self::dispatch::Dispatch;
use self::fetcher::Fetcher;
use self::gate::{Gate, Permit};
use self::health::Health;
use self::intake::{Ingest, Intake};
use self::job::{Reply, Waiter};
use self::router::{Freed, Parts, Router};
use self::scanner::Scanner;
use self::shortcut::Shortcut;
use self::supervision::{Crew, Pool, Post, Watch};
use self::switch::Switch;
use self::turns::Turns;
use self::validation::{Onward, Validation};
use self::writer::Writer;
use crate::blob;
use crate::blob::SetupError;
use crate::blob::client::BlobClient;
use crate::cache::Cache;
use crate::event::Limits;
use crate::event::trace::Trace;
use crate::event::wire::Form;
use crate::telemetry::metrics::{ActorKind, Metrics};

#[derive(Debug, Clone)]
pub struct Settings {
    /// Actors on threads of their own; 0: one on each HTTP worker's thread.
    pub intake_pool: usize,
    pub validation_pool: usize,
    pub max_in_flight: usize,
    pub max_in_flight_bytes: usize,
    /// From acceptance to the answer.
    pub deadline: Duration,
    pub max_answer_bytes: usize,
    pub limits: Arc<Limits>,
    pub fetch_pool: usize,
    /// Fetches at once in each fetcher.
    pub fetch_concurrency: usize,
    pub fetch_per_host: usize,
    pub blob: Arc<blob::Settings>,
    pub retry: blob::retry::Policy,
    pub writer_pool: usize,
    pub writer: writer::Limits,
    /// HTTP workers: how often [`Pipeline::entrance`] is called.
    pub entrances: usize,
}

/// The running pipeline. Cheap to clone.
#[derive(Clone)]
pub struct Pipeline {
    pub gate: Arc<Gate>,
    pub health: Arc<Health>,
    pub watch: Watch,
    settings: Arc<Settings>,
    metrics: Metrics,
    cache: Arc<dyn Cache>,
    turns: &'static Turns,
    writers: Arc<Pool<Writer>>,
    fetchers: Arc<Pool<Fetcher>>,
    shortcut: Arc<Shortcut>,
    router: Post<Router>,
    intakes: Vec<Post<Intake>>,
    validations: Vec<Post<Validation>>,
    next: Arc<AtomicUsize>,
}

/// Starts the actors, last stage first. Must be called within an actix system.
pub fn build(settings: Settings, cache: Arc<dyn Cache>, metrics: &Metrics) -> Result<Pipeline, SetupError> {
    // Each fetcher makes a client of its own; that they can be made is known before anything runs.
    BlobClient::new((*settings.blob).clone())?;
    metrics.reserve_hosts(settings.blob.allowed_hosts.by_name());
    metrics.set_admission_limits(settings.max_in_flight, settings.max_in_flight_bytes);
    let gate = Gate::new(settings.max_in_flight, settings.max_in_flight_bytes, settings.blob.max_blob_bytes);
    let health = Health::new(settings.writer_pool, metrics.clone());
    let watch = Watch::new(metrics.clone());
    let threads = Threads::place(&settings);

    let writers = Pool::new(settings.writer_pool);
    let scanner = {
        let (retry, cache) = (settings.writer.retry, cache.clone());
        watch.start_on(&threads.pipeline.handle(), ActorKind::Scanner, move |vitals, _| {
            let session = Rc::new(Mutex::new(cache.session()));
            Scanner { vitals, session, retry }
        })
    };
    let fetchers = Pool::new(settings.fetch_pool);
    let shortcut = Shortcut::new(
        shortcut::Parts {
            attempt: settings.blob.attempt_timeout,
            fetch: settings.retry.deadline,
            max_answer_bytes: settings.max_answer_bytes,
            fetchers: fetchers.clone(),
            writers: writers.clone(),
        },
        Dispatch::new(settings.fetch_pool, settings.fetch_concurrency, settings.fetch_per_host),
    );
    let parts = Parts {
        limits: router::Limits {
            retry: settings.retry,
            attempt: settings.blob.attempt_timeout,
            max_answer_bytes: settings.max_answer_bytes,
        },
        metrics: metrics.clone(),
        gate: gate.clone(),
        writers: writers.clone(),
        fetchers: fetchers.clone(),
        shortcut: shortcut.clone(),
        scanner,
    };
    let router = watch
        .start_on(&threads.pipeline.handle(), ActorKind::Router, move |vitals, own| Router::new(vitals, own, parts));
    let waker = router.clone();
    gate.on_release(move || waker.post(Freed));
    shortcut.leads_past(router.clone());

    let settings = Arc::new(settings);
    let mut pipeline = Pipeline {
        gate,
        health,
        watch,
        settings,
        metrics: metrics.clone(),
        cache,
        turns: Turns::new(),
        writers,
        fetchers,
        shortcut,
        router,
        intakes: Vec::new(),
        validations: Vec::new(),
        next: Arc::default(),
    };
    for arbiter in &threads.validation {
        let make = pipeline.validation();
        pipeline.validations.push(pipeline.watch.start_on(&arbiter.handle(), ActorKind::Validation, make));
    }
    for arbiter in &threads.intake {
        let make = pipeline.intake();
        pipeline.intakes.push(pipeline.watch.start_on(&arbiter.handle(), ActorKind::Intake, make));
    }
    Ok(pipeline)
}

/// Who runs where. A hop between threads costs more than the work it carries. So intake, validation, fetchers and writers are
/// on the HTTP workers' own threads (an [`Entrance`] starts them there): an operation changes threads only to follow an
/// unfinished one of its key. The router and the scanner, which see the others, share a thread. Only decoding, which is
/// work for the processor alone, has threads of its own: the fetchers' clients begin them with the first coded body.
struct Threads {
    pipeline: Arbiter,
    validation: Vec<Arbiter>,
    intake: Vec<Arbiter>,
}

impl Threads {
    fn place(settings: &Settings) -> Self {
        let arbiters = |count: usize| (0..count).map(|_| Arbiter::new()).collect();
        Threads {
            pipeline: Arbiter::new(),
            validation: arbiters(settings.validation_pool),
            intake: arbiters(settings.intake_pool),
        }
    }
}

impl Pipeline {
    /// The way in for one HTTP worker; to be called on its thread.
    pub fn entrance(&self) -> Entrance {
        let turn = self.next.fetch_add(1, Relaxed);
        let switch = self.start_switch(self.start_writers(turn), self.start_fetchers(turn));
        let pooled_validation = self.validations.get(turn % self.validations.len().max(1)).cloned();
        let validation =
            pooled_validation.unwrap_or_else(|| self.watch.start(ActorKind::Validation, self.validation()));
        let pooled_intake = self.intakes.get(turn % self.intakes.len().max(1)).cloned();
        let intake = pooled_intake.unwrap_or_else(|| self.watch.start(ActorKind::Intake, self.intake()));
        let onward = Arc::new(Onward { validation, switch });
        Entrance { intake, onward, max_answer_bytes: self.settings.max_answer_bytes }
    }

    /// From a request's acceptance to its answer, at most.
    pub fn deadline(&self) -> Duration {
        self.settings.deadline
    }

    /// Hosts of blobs that answer nothing at the moment.
    pub fn hosts_down(&self) -> usize {
        self.shortcut.dispatch(|dispatch| dispatch.hosts_down())
    }

    /// What events are validated against.
    pub fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    /// Which of so many writers or fetchers are this thread's share, or the nearest if there are fewer than entrances.
    fn share(&self, turn: usize, count: usize) -> Vec<usize> {
        let (entrances, count) = (self.settings.entrances.max(1), count.max(1));
        (turn % entrances % count..count).step_by(entrances).collect()
    }

    /// Starts this thread's share; which they are.
    fn start_fetchers(&self, turn: usize) -> Vec<usize> {
        let own = self.share(turn, self.fetchers.count());
        for &number in &own {
            self.fetchers.start(number, || {
                let (settings, gate, metrics) = (self.settings.blob.clone(), self.gate.clone(), self.metrics.clone());
                let (shortcut, client, crew) = (self.shortcut.clone(), None, Crew::default());
                self.watch.start(ActorKind::Fetcher, move |vitals, _| Fetcher {
                    vitals,
                    shortcut,
                    settings,
                    gate,
                    metrics,
                    client,
                    crew,
                })
            });
        }
        own
    }

    /// Starts this thread's share; which they are.
    fn start_writers(&self, turn: usize) -> Vec<usize> {
        let own = self.share(turn, self.settings.writer_pool);
        for &number in &own {
            self.writers.start(number, || {
                let (limits, metrics, health) =
                    (self.settings.writer.clone(), self.metrics.clone(), self.health.clone());
                let (gate, cache) = (self.gate.clone(), self.cache.clone());
                self.watch.start(ActorKind::Writer, move |vitals, _| {
                    Writer::new(vitals, limits, metrics, health, number, gate, cache.as_ref())
                })
            });
        }
        own
    }

    fn start_switch(&self, nearest: Vec<usize>, nearest_fetchers: Vec<usize>) -> Post<Switch> {
        let parts = switch::Parts {
            turns: self.turns,
            writers: self.writers.clone(),
            nearest,
            nearest_fetchers,
            shortcut: self.shortcut.clone(),
            router: self.router.clone(),
            max_answer_bytes: self.settings.max_answer_bytes,
        };
        self.watch.start(ActorKind::Router, move |vitals, _| Switch::new(vitals, parts))
    }

    fn validation(&self) -> impl FnOnce(Arc<supervision::Vitals>, Post<Validation>) -> Validation + Send + use<> {
        let (limits, deadline) = (self.settings.limits.clone(), self.settings.deadline);
        move |vitals, _| Validation { vitals, limits, deadline }
    }

    fn intake(&self) -> impl FnOnce(Arc<supervision::Vitals>, Post<Intake>) -> Intake + Send + use<> {
        let max_events = self.settings.limits.max_events;
        move |vitals, _| Intake { vitals, max_events }
    }
}

/// Where requests enter the pipeline.
#[derive(Clone)]
pub struct Entrance {
    intake: Post<Intake>,
    onward: Arc<Onward>,
    max_answer_bytes: usize,
}

impl Entrance {
    /// Hands a body over; its verdict comes through the waiter. `permit` holds the body's bytes.
    pub fn ingest(&self, body: Bytes, form: Form, permit: Permit, trace: Option<Arc<Trace>>) -> Waiter {
        let (reply, waiter): (Reply, Waiter) = job::reply(permit, self.max_answer_bytes, trace);
        self.intake.post(Ingest { body, form, reply, onward: self.onward.clone() });
        waiter
    }
}
