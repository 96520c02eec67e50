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
//! | [switch](router::local) | each operation's turn on its key | what to do | ready operations; the rest to the router | what it held answers `interrupted` |
//! | [router](router::central) | the order of what has to wait, which fetch runs when | operations, ended fetches | fetches, ready operations, sweeps | what is queued answers `interrupted`; starts empty |
//! | [fetcher](fetch::fetcher) | one attempt at a download | a fetch | the bytes or the failure | its fetches are ordered once more, then `interrupted` |
//! | [writer](write::writer) | one line to the cache, group commit | ready operations | replies | what was in flight is written again, in order |
//! | [scanner](write::scanner) | pattern deletes and previews | sweeps that may start | replies | its sweeps answer `interrupted` |
//!
//! One way, no polling back: whoever ends the work answers it. [`router`], [`fetch`] and [`write`](self::write) are three
//! wings over shared ground: [`work`] has what travels and the bounds at the door, [`runtime`] what keeps actors alive;
//! `placement` says who runs where and how many, [`readiness`] whether requests are welcome.

pub mod fetch;
pub mod intake;
mod placement;
pub mod readiness;
pub mod router;
pub mod runtime;
pub mod validation;
pub mod work;
pub mod write;

use std::sync::Arc;
use std::time::Duration;

use actix::Arbiter;
use arc_swap::ArcSwap;
use bytes::Bytes;

use self::fetch::direct;
use self::fetch::direct::Shortcut;
use self::fetch::scheduler::Dispatch;
use self::intake::{Ingest, Way};
pub use self::placement::Sizes;
use self::placement::Staff;
use self::readiness::Health;
use self::router::central::{self, Freed, Router};
use self::runtime::pool::Pool;
use self::runtime::supervision::Watch;
use self::work::admission::{Gate, Permit};
use self::work::job::{Reply, Waiter};
use self::work::key_order::Turns;
use self::write::scanner::Scanner;
use self::write::writer;
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
    /// At the start, and so are the hosts in `blob`.
    pub sizes: Sizes,
    pub max_in_flight: usize,
    pub max_in_flight_bytes: usize,
    /// Patterns under way, all requests together.
    pub max_patterns: usize,
    /// From acceptance to the answer.
    pub deadline: Duration,
    pub max_answer_bytes: usize,
    pub limits: Arc<Limits>,
    pub blob: Arc<blob::Settings>,
    pub retry: blob::retry::Policy,
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
    staff: Arc<Staff>,
}

/// Starts the actors, last stage first. Must be called within an actix system.
pub fn build(settings: Settings, cache: Arc<dyn Cache>, metrics: &Metrics) -> Result<Pipeline, SetupError> {
    // Each fetcher makes a client of its own; that they can be made is known before anything runs.
    BlobClient::new((*settings.blob).clone())?;
    metrics.reserve_hosts(settings.blob.allowed_hosts.by_name());
    metrics.set_admission_limits(settings.max_in_flight, settings.max_in_flight_bytes);
    let gate = Gate::new(settings.max_in_flight, settings.max_in_flight_bytes, settings.blob.max_blob_bytes);
    gate.limit_patterns(settings.max_patterns);
    let health = Health::new(settings.sizes.writers, metrics.clone());
    let watch = Watch::new(metrics.clone());
    // Scans hold many keys against many patterns: not where anybody waits for it.
    let (thread, scans) = (Arbiter::new(), Arbiter::new());
    let turns = Turns::new();

    let writers = Pool::new();
    let scanner = {
        let (retry, cache, gate) = (settings.writer.retry, cache.clone(), gate.clone());
        watch.start_on(&scans.handle(), ActorKind::Scanner, move |vitals, _| {
            let sessions = [cache.session(), cache.session()];
            Scanner::new(vitals, gate, sessions, retry)
        })
    };
    let fetchers = Pool::new();
    let Sizes { fetchers: count, fetches_each, fetches_per_host, .. } = settings.sizes;
    let shortcut = Shortcut::new(
        direct::Parts {
            attempt: settings.blob.attempt_timeout,
            fetch: settings.retry.deadline,
            max_answer_bytes: settings.max_answer_bytes,
            fetchers: fetchers.clone(),
            writers: writers.clone(),
        },
        Dispatch::new(count, fetches_each, fetches_per_host),
    );
    let parts = central::Parts {
        limits: central::Limits {
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
        barriers: turns.barriers(),
    };
    let router =
        watch.start_on(&thread.handle(), ActorKind::Router, move |vitals, own| Router::new(vitals, own, parts));
    let waker = router.clone();
    gate.on_release(move || waker.post(Freed));
    shortcut.leads_past(router.clone());

    let settings = Arc::new(settings);
    let staff = Staff::new(placement::Parts {
        settings: settings.clone(),
        gate: gate.clone(),
        health: health.clone(),
        watch: watch.clone(),
        metrics: metrics.clone(),
        cache,
        turns,
        writers,
        fetchers,
        shortcut,
        router,
    });
    Ok(Pipeline { gate, health, watch, settings, staff })
}

impl Pipeline {
    /// The way in for one HTTP worker; to be called on its thread.
    pub fn entrance(&self) -> Entrance {
        self.staff.entrance()
    }

    /// Has other sizes take effect, and other hosts for blobs; the rest stays as it was built. Must be called within an actix
    /// system.
    pub fn adopt(&self, settings: &Settings) {
        self.staff.adopt(&settings.sizes, &settings.blob.allowed_hosts);
    }

    /// From a request's acceptance to its answer, at most.
    pub fn deadline(&self) -> Duration {
        self.settings.deadline
    }

    /// Hosts of blobs that answer nothing at the moment.
    pub fn hosts_down(&self) -> usize {
        self.staff.hosts_down()
    }

    /// What events are validated against.
    pub fn limits(&self) -> &Limits {
        &self.settings.limits
    }
}

/// Where requests enter the pipeline.
#[derive(Clone)]
pub struct Entrance {
    way: Arc<ArcSwap<Way>>,
    max_answer_bytes: usize,
}

impl Entrance {
    /// Hands a body over; its verdict comes through the waiter. `permit` holds the body's bytes.
    pub fn ingest(&self, body: Bytes, form: Form, permit: Permit, trace: Option<Arc<Trace>>) -> Waiter {
        let (reply, waiter): (Reply, Waiter) = work::job::reply(permit, self.max_answer_bytes, trace);
        let way = self.way.load_full();
        way.intake.post(Ingest { body, form, reply, way: way.clone() });
        waiter
    }
}
