//! `/status.json`: what the page shows.

mod course;
mod failed;
pub mod health;

use std::time::SystemTime;

use serde::Serialize;

use self::course::{ByType, Course};
use self::failed::FailedEvent;
use self::health::HealthPart;
use crate::event::rights::{Access, Rights};
use crate::http::probes;
use crate::http::sources::ActiveSource;
use crate::http::state::HttpState;
use crate::telemetry::ActorKind;
use crate::telemetry::history::{History, Overall, Quantiles, Span};
use crate::telemetry::metrics::{HostState, JournalReading};

/// Hosts of blobs that are shown: as many as have series of their own.
const MAX_HOSTS: usize = 32;

/// What the reader may see, and do.
#[derive(Clone, Copy)]
pub struct Reader {
    sees_all: bool,
    may_write: bool,
}

impl Reader {
    /// None: everything.
    pub fn of(rights: Option<&Rights>) -> Self {
        Reader {
            sees_all: rights.is_none_or(|rights| !rights.has_prefixes()),
            may_write: rights.is_none_or(|rights| rights.allow(Access::Write).is_ok()),
        }
    }
}

#[derive(Serialize)]
pub struct Status<'a> {
    service: Service<'a>,
    ready: bool,
    reasons: Vec<String>,
    /// What the service is made of and depends on, and how each is.
    health: Vec<HealthPart>,
    /// Whether the reader's token has no prefixes: otherwise failures are left out.
    sees_all_keys: bool,
    /// Whether the reader's token permits to write.
    may_write: bool,
    events: ByType<u64>,
    latency: Latency,
    pipeline: Vec<Actors>,
    admission: Admission,
    queue: Queue,
    blobs: Blobs,
    cache: Cache<'a>,
    /// None: there is none.
    journal: Option<JournalState>,
    /// In the order of their names.
    sources: Vec<SourceState>,
    /// Their names: an entry may say that it comes from one.
    stores: &'a [String],
    history: Course,
    failures: Vec<FailedEvent>,
}

#[derive(Serialize)]
struct Service<'a> {
    version: &'static str,
    cluster: &'a str,
    uptime_seconds: u64,
    memory_bytes: Option<i64>,
    /// Whether `POST /events` is on this port.
    takes_events: bool,
    /// Whether `/replicas.json` tells of other replicas.
    has_peers: bool,
}

#[derive(Serialize)]
struct Actors {
    actor: &'static str,
    running: u64,
    wanted: u64,
    waiting: u64,
    restarts: u64,
    stuck: bool,
}

#[derive(Serialize)]
struct Admission {
    events: usize,
    max_events: usize,
    bytes: usize,
    max_bytes: usize,
}

#[derive(Serialize)]
struct Queue {
    /// Of the oldest event that is accepted and not answered.
    oldest_age_seconds: f64,
    /// From the acceptance of an event to its end.
    delay: Latency,
}

#[derive(Serialize)]
struct Blobs {
    hosts_down: usize,
    /// The slowest first.
    hosts: Vec<Host>,
}

#[derive(Serialize)]
struct Host {
    host: String,
    ok: u64,
    failed: u64,
    mean_ms: f64,
}

#[derive(Serialize)]
struct Cache<'a> {
    up: bool,
    #[serde(rename = "where")]
    place: &'a str,
    reconnects: u64,
    latency: Latency,
}

/// As this replica last heard of it: within 1.5 s where it is up.
#[derive(Serialize)]
struct JournalState {
    up: bool,
    /// Whether this replica feeds it.
    lease: bool,
    events: i64,
    max_events: u64,
    oldest_age_seconds: f64,
    dead_letters: i64,
}

#[derive(Serialize)]
struct SourceState {
    source: String,
    format: &'static str,
    received: u64,
    ignored: u64,
    /// From a change at the storage to the cache.
    mean_lag_seconds: Option<f64>,
}

impl From<(&str, &ActiveSource)> for SourceState {
    fn from((name, source): (&str, &ActiveSource)) -> Self {
        let (received, ignored) = source.metrics().counts();
        let mean_lag_seconds = source.metrics().mean_lag().map(|lag| (lag * 1e3).round() / 1e3);
        SourceState { source: name.to_owned(), format: source.format().as_str(), received, ignored, mean_lag_seconds }
    }
}

#[derive(Serialize)]
struct Latency {
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

impl<'a> Status<'a> {
    /// With the history of this span, and the failures if the reader sees all keys.
    pub fn of(shared: &'a HttpState, history: &History, stuck: &[ActorKind], (span, reader): (Span, Reader)) -> Self {
        let Reader { sees_all, may_write } = reader;
        let (reading, admission) = (shared.metrics.read(), &shared.pipeline.admission);
        let ((events, bytes), (max_events, max_bytes)) = (admission.in_use(), admission.limits());
        let Overall { requests, batches, delays } = history.overall(&reading);
        let reasons = probes::reasons(shared, stuck);
        shared.pipeline.registry.publish_waiting();
        Status {
            service: Service {
                version: env!("CARGO_PKG_VERSION"),
                cluster: &shared.settings.cluster,
                uptime_seconds: shared.begun.elapsed().as_secs(),
                memory_bytes: shared.metrics.memory_bytes(),
                takes_events: shared.settings.admin_port.is_none(),
                has_peers: shared.settings.peers.is_some(),
            },
            ready: reasons.is_empty(),
            reasons,
            health: health::parts(shared, history, stuck, (SystemTime::now(), sees_all)),
            sees_all_keys: sees_all,
            may_write,
            events: ByType(reading.events),
            latency: Latency::of(requests),
            pipeline: ActorKind::ALL.map(|kind| Actors::of(shared, kind, stuck)).into(),
            admission: Admission { events, max_events, bytes, max_bytes },
            queue: Queue {
                oldest_age_seconds: milliseconds(shared.oldest_age().as_secs_f64() / 1e3),
                delay: Latency::of(delays),
            },
            blobs: Blobs {
                hosts_down: shared.pipeline.hosts_down(),
                hosts: shared.metrics.slowest_hosts(MAX_HOSTS).into_iter().map(Host::from).collect(),
            },
            cache: Cache {
                up: shared.pipeline.readiness.is_cache_up(),
                place: &shared.cache_name,
                reconnects: shared.metrics.reconnects(),
                latency: Latency::of(batches),
            },
            journal: shared.journal.as_ref().map(|journal| {
                let JournalReading { up, lease, events, oldest_age, dead_letters } = shared.metrics.read_journal();
                let oldest_age_seconds = milliseconds(oldest_age / 1e3);
                JournalState { up, lease, events, max_events: journal.max_events(), oldest_age_seconds, dead_letters }
            }),
            sources: shared.sources.each(|name, source| SourceState::from((name, source))),
            stores: shared.pipeline.limits().stores.as_deref().unwrap_or_default(),
            history: Course::of(&history.steps(span), span),
            failures: history.failures().into_iter().filter(|_| sees_all).map(FailedEvent::from).collect(),
        }
    }
}

impl Actors {
    fn of(shared: &HttpState, kind: ActorKind, stuck: &[ActorKind]) -> Self {
        let state = shared.metrics.actor(kind);
        Actors {
            actor: kind.as_str(),
            running: state.running,
            wanted: state.wanted,
            waiting: state.waiting,
            restarts: state.restarts,
            stuck: stuck.contains(&kind),
        }
    }
}

impl Latency {
    fn of(Quantiles { p50, p99 }: Quantiles) -> Self {
        Latency { p50_ms: p50.map(milliseconds), p99_ms: p99.map(milliseconds) }
    }
}

/// To a thousandth.
fn milliseconds(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e3
}

impl From<HostState> for Host {
    fn from(HostState { host, ok, failed, mean }: HostState) -> Self {
        Host { host, ok, failed, mean_ms: milliseconds(mean) }
    }
}
