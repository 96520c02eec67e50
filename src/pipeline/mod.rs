//! The actors: order, flow, supervision.
//!
//! ```text
//!            HTTP worker threads                    pipeline thread             fetch threads
//! POST /events ─▶ intake ─▶ validation ─▶ router ─┬───────────────▶ writer ─▶ cache
//!                   │           │           ▲  ▲  ├─▶ fetcher (pool) ──┐
//!                   ▼           ▼           │  └──┼──── blob bytes ◀───┘
//!                refused     rejected       │     └─▶ scanner ─▶ cache
//!                                           └── ended ◀──┘
//! ```
//!
//! | actor | owns | receives | sends | on death |
//! | --- | --- | --- | --- | --- |
//! | [`intake`] | splitting a body into events | a request body | raw events | its request answers `interrupted` |
//! | [`validation`] | raw event → valid event or every fault; admission | raw events | operations, in order | the same |
//! | [`router`] | order per key, which fetch runs when | operations, ended fetches | fetches, ready operations, sweeps | what is queued answers `interrupted`; starts empty |
//! | [`fetcher`] | one attempt at a download | a fetch | the bytes or the failure | its fetches are ordered once more, then `interrupted` |
//! | [`writer`] | one line to the cache, group commit | ready operations | replies | what was in flight is written again, in order |
//! | [`scanner`] | pattern deletes and previews | sweeps that may start | replies | its sweeps answer `interrupted` |
//!
//! One way, no polling back: whoever ends the work answers it. [`job`] has what rides along, [`gate`] the bounds at the
//! door, [`lanes`] and [`dispatch`] the router's state as values, [`supervision`] what keeps actors alive.

pub mod dispatch;
pub mod fetcher;
pub mod gate;
pub mod health;
pub mod intake;
pub mod job;
pub mod lanes;
pub mod router;
pub mod scanner;
pub mod supervision;
pub mod validation;
pub mod writer;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use actix::Arbiter;
use bytes::Bytes;
use futures::lock::Mutex;

use self::fetcher::Fetcher;
use self::gate::{Gate, Permit};
use self::health::Health;
use self::intake::{Ingest, Intake};
use self::job::{Reply, Waiter};
use self::router::{BytesFreed, Parts, Router};
use self::scanner::Scanner;
use self::supervision::{Post, Watch};
use self::validation::Validation;
use self::writer::Writer;
use crate::blob;
use crate::blob::SetupError;
use crate::blob::client::BlobClient;
use crate::cache::Cache;
use crate::event::Limits;
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
}

/// The running pipeline. Cheap to clone.
#[derive(Clone)]
pub struct Pipeline {
    pub gate: Arc<Gate>,
    pub health: Arc<Health>,
    pub watch: Watch,
    settings: Arc<Settings>,
    router: Post<Router>,
    intakes: Vec<Post<Intake>>,
    validations: Vec<Post<Validation>>,
    next: Arc<AtomicUsize>,
}

/// Starts the actors, last stage first. Must be called within an actix system.
pub fn build(settings: Settings, cache: Arc<dyn Cache>, metrics: &Metrics) -> Result<Pipeline, SetupError> {
    // Each fetcher makes a client of its own; that they can be made is known before anything runs.
    BlobClient::new((*settings.blob).clone())?;
    let gate = Gate::new(settings.max_in_flight, settings.max_in_flight_bytes, settings.blob.max_blob_bytes);
    let health = Health::new(settings.writer_pool, metrics.clone());
    let watch = Watch::new(metrics.clone());
    let threads = Threads::place(&settings);

    let writers = (0..settings.writer_pool)
        .map(|index| {
            let (limits, metrics, health, cache) =
                (settings.writer.clone(), metrics.clone(), health.clone(), cache.clone());
            watch.start_on(&threads.pipeline.handle(), ActorKind::Writer, move |vitals, _| {
                Writer::new(vitals, limits, metrics, health, index, cache.as_ref())
            })
        })
        .collect();
    let scanner = {
        let retry = settings.writer.retry;
        watch.start_on(&threads.pipeline.handle(), ActorKind::Scanner, move |vitals, _| {
            let session = Rc::new(Mutex::new(cache.session()));
            Scanner { vitals, session, retry }
        })
    };
    let fetchers = (0..settings.fetch_pool)
        .zip(threads.fetch.iter().cycle())
        .map(|(_, arbiter)| {
            let (settings, gate, metrics) = (settings.blob.clone(), gate.clone(), metrics.clone());
            watch.start_on(&arbiter.handle(), ActorKind::Fetcher, move |vitals, _| Fetcher {
                vitals,
                settings,
                gate,
                metrics,
                client: None,
            })
        })
        .collect();
    let parts = Parts {
        limits: router::Limits {
            retry: settings.retry,
            attempt: settings.blob.attempt_timeout,
            max_answer_bytes: settings.max_answer_bytes,
        },
        metrics: metrics.clone(),
        gate: gate.clone(),
        writers,
        fetchers,
        scanner,
        fetches_per_fetcher: settings.fetch_concurrency,
        fetches_per_host: settings.fetch_per_host,
    };
    let router = watch
        .start_on(&threads.pipeline.handle(), ActorKind::Router, move |vitals, own| Router::new(vitals, own, parts));
    let waker = router.clone();
    gate.on_release(move || waker.post(BytesFreed));

    let settings = Arc::new(settings);
    let mut pipeline = Pipeline {
        gate,
        health,
        watch,
        settings,
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

/// Who runs where. A hop between threads costs more than the work it carries, so the router, the writers and the scanner
/// share one, and intake and validation belong on the HTTP workers' own (an [`Entrance`] starts them there). Downloads,
/// with their TLS and decompression, must not hold up the writing: they have threads of their own.
struct Threads {
    pipeline: Arbiter,
    fetch: Vec<Arbiter>,
    validation: Vec<Arbiter>,
    intake: Vec<Arbiter>,
}

impl Threads {
    fn place(settings: &Settings) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let arbiters = |count: usize| (0..count).map(|_| Arbiter::new()).collect();
        Threads {
            pipeline: Arbiter::new(),
            fetch: arbiters(settings.fetch_pool.min(cores)),
            validation: arbiters(settings.validation_pool),
            intake: arbiters(settings.intake_pool),
        }
    }
}

impl Pipeline {
    /// The way in for one HTTP worker; to be called on its thread.
    pub fn entrance(&self) -> Entrance {
        let turn = self.next.fetch_add(1, Relaxed);
        let pooled_validation = self.validations.get(turn % self.validations.len().max(1)).cloned();
        let validation =
            pooled_validation.unwrap_or_else(|| self.watch.start(ActorKind::Validation, self.validation()));
        let pooled_intake = self.intakes.get(turn % self.intakes.len().max(1)).cloned();
        let intake = pooled_intake.unwrap_or_else(|| self.watch.start(ActorKind::Intake, self.intake()));
        Entrance { intake, validation, max_answer_bytes: self.settings.max_answer_bytes }
    }

    /// From a request's acceptance to its answer, at most.
    pub fn deadline(&self) -> Duration {
        self.settings.deadline
    }

    fn validation(&self) -> impl FnOnce(Arc<supervision::Vitals>, Post<Validation>) -> Validation + Send + use<> {
        let (limits, deadline, router) = (self.settings.limits.clone(), self.settings.deadline, self.router.clone());
        move |vitals, _| Validation { vitals, limits, deadline, router }
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
    validation: Post<Validation>,
    max_answer_bytes: usize,
}

impl Entrance {
    /// Hands a body over; its verdict comes through the waiter. `permit` holds the body's bytes.
    pub fn ingest(&self, body: Bytes, form: Form, permit: Permit) -> Waiter {
        let (reply, waiter): (Reply, Waiter) = job::reply(permit, self.max_answer_bytes);
        self.intake.post(Ingest { body, form, reply, validation: self.validation.clone() });
        waiter
    }
}
