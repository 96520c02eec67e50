//! The actors: order, flow, supervision.
//!
//! ```text
//!                   HTTP worker threads
//! POST /events ─▶ intake ─▶ validation ─▶ local router ────▶ writer ─▶ cache
//!                   │           │            │                 ▲
//!                   ▼           ▼            │ what has to     │ what need not
//!                refused     rejected        ▼ wait            │ wait any more
//!                                     central router ──────────┘
//!                                           │  ▲
//!                                           ├──┴── fetcher (pool): blobs
//!                                           └───── scanner ─▶ cache
//! ```
//!
//! | actor | owns | receives | sends | after a panic |
//! | --- | --- | --- | --- | --- |
//! | [`intake`] | splitting a body into events | a request's body | raw events | its request answers `interrupted` |
//! | [`validation`] | raw event → valid event or every fault; admission | raw events; from sources and the journal, events | actions, in order | the same |
//! | [local router](router::local) | each operation's place in the order of its key | actions | ready operations, fetches that wait for nothing else; the rest to the central router | what it held answers `interrupted` |
//! | [central router](router::central) | the order of what has to wait, which fetch runs when | operations and pattern deletes; what became of fetches, questions, fences and scans | fetches, questions, ready operations, fences, scans | what is queued answers `interrupted`; a scan under way, and a large blob that is all but written, still hold their keys |
//! | [fetcher](fetch::fetcher) | attempts at downloads; large blobs go from it to the cache | a fetch, other settings | the bytes or the failure | its fetches are tried once more, then answer `interrupted` |
//! | [writer](write::writer) | one session of the cache, group commit | ready operations, questions, fences, its place in the pool | replies, answers to questions, fences that were reached | what was in flight is written again, in order; a read before a write of its key answers `interrupted` |
//! | [scanner](write::scanner) | pattern deletes and previews | those that may start | replies | they answer `interrupted` |
//!
//! Work goes one way, and whoever ends it answers it. [`router`], [`fetch`] and [`write`](mod@write) are three wings over
//! shared ground: [`work`] has what travels, with its order and its admission; [`runtime`] keeps actors alive; `placement`
//! says who runs where and how many there are, [`readiness`] whether requests are welcome.
//!
//! # Why not shards
//!
//! With N shards by key, each owning its lanes and its connection, and with a pattern as one message to all of them, there would
//! be no table of keys, no claims and no central part. It was measured what that saves and what it costs (two cores, 64
//! connections, one SET a request):
//!
//! - A hop to another thread and back costs 4.6 µs of processor time an event, 14.3 becomes 18.9 (`validation.pool_size` 0 and 1,
//!   medians of six runs in turn): waking, a lock, cold caches. Of N shards N-1 are on another thread than the connection that
//!   brought the event, so one event in two pays that on two cores, three in four on four.
//! - All that keeps order on the local path takes 366 of 51,600 instructions of such an event, 0.7 %: the key's hash, its place in
//!   the table, the ticket, the packing of the batch. In batches of 500 mixed events it is 360 of 7,100, 5 %, by `callgrind`.
//! - A batch would be cut into N parts with a round trip each, where a request's operations go to one writer today, and its answer
//!   would wait for the last of them.
//! - A pattern needs all shards to have come to it before its scan, and its keys held until that ends, in each of them: the same
//!   fences and barriers, told by N messages.
//!
//! So what can go on at once stays on the thread that it came in on, and only what has to wait pays for a hop.

pub mod fetch;
pub mod intake;
mod look;
mod placement;
pub mod readiness;
pub mod router;
pub mod runtime;
mod settings;
mod submitter;
pub mod validation;
pub mod work;
pub mod write;

use std::sync::Arc;
use std::time::Duration;

use self::fetch::direct::{self, DirectFetch};
use self::fetch::scheduler::FetchScheduler;
use self::fetch::shared::SharedScheduler;
use self::fetch::streaming::{Passage, StreamPlaces};
use self::placement::Placement;
use self::readiness::Readiness;
use self::router::central::{self, CentralRouter, RouterMessage};
use self::runtime::{ActorRegistry, Mailbox, Pool, Thread};
pub use self::settings::{PipelineSettings, Sizes};
pub use self::submitter::Submitter;
use self::work::admission::{Admission, ValueLender};
use self::work::key_order::KeyOrder;
use self::write::scanner::Scanner;
use crate::blob::SetupError;
use crate::blob::client::BlobClient;
use crate::cache::{Cache, Usage};
use crate::event::Limits;
use crate::telemetry::metrics::{ActorKind, Metrics};

/// The running pipeline. Cheap to clone.
#[derive(Clone)]
pub struct Pipeline {
    /// The bounds on events and bytes in progress; HTTP asks it before it reads a body.
    pub admission: Arc<Admission>,
    /// Whether the cache answers and whether the service drains; `/ready` reads it.
    pub readiness: Arc<Readiness>,
    /// All actors with their signs of life; `/live` reads it.
    pub registry: ActorRegistry,
    cache: Arc<dyn Cache>,
    settings: Arc<PipelineSettings>,
    placement: Arc<Placement>,
}

/// Starts the actors, last stage first. Must be called within an actix system.
pub fn build(settings: PipelineSettings, cache: Arc<dyn Cache>, metrics: &Metrics) -> Result<Pipeline, SetupError> {
    // Each fetcher makes a client of its own; that they can be made is known before anything runs.
    BlobClient::new((*settings.blob).clone())?;
    metrics.reserve_hosts(settings.blob.stores.names().map(|name| format!("store/{name}")));
    metrics.reserve_hosts(settings.blob.allowed_hosts.by_name());
    metrics.set_admission_limits(settings.max_in_flight, settings.max_in_flight_bytes);
    let admission = Admission::new(settings.max_in_flight, settings.max_in_flight_bytes, settings.blob.max_blob_bytes);
    admission.limit_patterns(settings.max_patterns);
    cache.room().borrow_from(ValueLender(admission.clone()));
    let readiness = Readiness::new(settings.sizes.writers, metrics.clone());
    let registry = ActorRegistry::new(metrics.clone());
    let key_order = KeyOrder::new();

    // Empty until the placement fills them: the router and the direct fetches post to them by number.
    let (writers, fetchers) = (Pool::new(), Pool::new());
    let Sizes { fetchers: count, fetches_each, fetches_per_host, .. } = settings.sizes;
    let scheduler = SharedScheduler::new(FetchScheduler::new(count, fetches_each, fetches_per_host));
    let direct = DirectFetch::new(direct::Deps {
        attempt: settings.blob.attempt_timeout,
        fetch: settings.retry.deadline,
        max_answer_bytes: settings.max_answer_bytes,
        stores: settings.blob.stores.clone(),
        scheduler: scheduler.clone(),
        fetchers: fetchers.clone(),
        writers: writers.clone(),
    });
    let deps = central::Deps {
        limits: settings.router_limits(),
        metrics: metrics.clone(),
        admission: admission.clone(),
        writers: writers.clone(),
        fetchers: fetchers.clone(),
        stores: settings.blob.stores.clone(),
        scheduler: scheduler.clone(),
        direct: direct.clone(),
        scanner: start_scanner((&registry, metrics), &cache, &admission, settings.writer.retry),
        barriers: key_order.barriers(),
    };
    let router = start_router(&registry, deps);

    let places = StreamPlaces::new();
    let passage = Passage { cache: cache.clone(), from_bytes: settings.stream_bytes, places };
    let settings = Arc::new(settings);
    let placement = Placement::new(placement::Deps {
        settings: settings.clone(),
        admission: admission.clone(),
        readiness: readiness.clone(),
        registry: registry.clone(),
        metrics: metrics.clone(),
        cache: cache.clone(),
        key_order,
        writers,
        fetchers,
        passage,
        scheduler,
        direct,
        router,
    });
    Ok(Pipeline { admission, readiness, registry, cache, settings, placement })
}

/// On a thread of its own: scans hold many keys against many patterns.
fn start_scanner(
    (registry, metrics): (&ActorRegistry, &Metrics),
    cache: &Arc<dyn Cache>,
    admission: &Arc<Admission>,
    retry: Duration,
) -> Mailbox<Scanner> {
    let (cache, admission, metrics) = (cache.clone(), admission.clone(), metrics.clone());
    registry.start_on(&Thread::new().handle(), ActorKind::Scanner, move |_, _| {
        let sessions = [cache.session(), cache.session()];
        Scanner::new(admission, sessions, retry, metrics)
    })
}

/// On a thread of its own, with everything that wakes it.
fn start_router(registry: &ActorRegistry, deps: central::Deps) -> Mailbox<CentralRouter> {
    let (admission, scheduler, direct) = (deps.admission.clone(), deps.scheduler.clone(), deps.direct.clone());
    let thread = Thread::new();
    let router = registry.start_on(&thread.handle(), ActorKind::Router, move |_, own| CentralRouter::new(own, deps));
    let waker = router.clone();
    admission.on_release(move || waker.post(RouterMessage::CapacityFreed));
    scheduler.on_free_place(router.notifier(|()| RouterMessage::CapacityFreed));
    direct.set_router(router.notifier(RouterMessage::FetchEnded), router.notifier(RouterMessage::QuestionEnded));
    router
}

impl Pipeline {
    /// The way in for one HTTP worker; to be called on its thread.
    pub fn submitter(&self) -> Submitter {
        self.placement.submitter()
    }

    /// The way in for whoever is on no HTTP worker's thread, by turns over those of the workers. None: there are none yet.
    pub fn submitter_by_turn(&self, turn: usize) -> Option<Submitter> {
        self.placement.submitter_by_turn(turn)
    }

    /// Has other sizes take effect, and other hosts for blobs; the rest stays as it was built. Must be called within an actix
    /// system.
    pub fn adopt(&self, settings: &PipelineSettings) {
        self.placement.adopt(&settings.sizes, &settings.blob.allowed_hosts);
    }

    /// From a request's acceptance to its answer, at most.
    pub fn deadline(&self) -> Duration {
        self.settings.deadline
    }

    /// Has the metrics show what nobody counts there: patterns in progress, and what a cache in this process holds.
    pub fn publish(&self, metrics: &Metrics) {
        metrics.set_patterns(self.admission.patterns());
        if let Some(Usage { bytes, entries, evictions }) = self.cache.usage() {
            metrics.set_embedded(bytes, entries, evictions);
        }
    }

    /// Hosts of blobs that do not answer at the moment.
    pub fn hosts_down(&self) -> usize {
        self.placement.hosts_down()
    }

    /// What events are validated against.
    pub fn limits(&self) -> &Limits {
        &self.settings.limits
    }
}
