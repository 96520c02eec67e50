//! `/status.json`: what the page shows.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::event::outcome::Class;
use crate::http::probes;
use crate::http::sources::ActiveSource;
use crate::http::state::HttpState;
use crate::telemetry::ActorKind;
use crate::telemetry::history::{History, HistoryStep, KeptFailure, Overall, Quantiles, STEP};
use crate::telemetry::metrics::{EVENT_TYPES, HostState, JournalReading};

/// Hosts of blobs that are shown.
const MAX_SLOWEST: usize = 5;

#[derive(Serialize)]
pub struct Status<'a> {
    service: Service<'a>,
    ready: bool,
    reasons: Vec<String>,
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
    history: Course,
    failures: Vec<Failed>,
}

#[derive(Serialize)]
struct Service<'a> {
    version: &'static str,
    cluster: &'a str,
    uptime_seconds: u64,
    memory_bytes: Option<i64>,
    /// Whether `POST /events` is on this port.
    takes_events: bool,
}

#[derive(Serialize)]
struct Actors {
    actor: &'static str,
    running: u64,
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

/// A column for each thing that is drawn.
#[derive(Serialize)]
struct Course {
    step_seconds: u64,
    steps: usize,
    events: ByType<Vec<u64>>,
    p50_ms: Vec<Option<f64>>,
    p99_ms: Vec<Option<f64>>,
    cache_p50_ms: Vec<Option<f64>>,
    cache_p99_ms: Vec<Option<f64>>,
    admission_events: Vec<usize>,
    admission_bytes: Vec<usize>,
}

#[derive(Serialize)]
struct Latency {
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

#[derive(Serialize)]
struct Failed {
    at_ms: u64,
    event: &'static str,
    id: String,
    problem: &'static str,
    detail: String,
    request_id: String,
}

impl<'a> Status<'a> {
    pub fn of(shared: &'a HttpState, history: &History, stuck: &[ActorKind]) -> Self {
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
            },
            ready: reasons.is_empty(),
            reasons,
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
                hosts: shared.metrics.slowest_hosts(MAX_SLOWEST).into_iter().map(Host::from).collect(),
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
            history: Course::of(&history.steps()),
            failures: history.failures().into_iter().map(Failed::from).collect(),
        }
    }
}

impl Actors {
    fn of(shared: &HttpState, kind: ActorKind, stuck: &[ActorKind]) -> Self {
        let state = shared.metrics.actor(kind);
        Actors {
            actor: kind.as_str(),
            running: state.running,
            waiting: state.waiting,
            restarts: state.restarts,
            stuck: stuck.contains(&kind),
        }
    }
}

impl Course {
    fn of(steps: &[HistoryStep]) -> Self {
        let events = |event: usize, class: usize| steps.iter().map(|step| step.events[event][class]).collect();
        let quantile =
            |of: fn(&HistoryStep) -> Option<f64>| steps.iter().map(|step| of(step).map(milliseconds)).collect();
        Course {
            step_seconds: STEP.as_secs(),
            steps: steps.len(),
            events: ByType(std::array::from_fn(|event| std::array::from_fn(|class| events(event, class)))),
            p50_ms: quantile(|step| step.requests.p50),
            p99_ms: quantile(|step| step.requests.p99),
            cache_p50_ms: quantile(|step| step.batches.p50),
            cache_p99_ms: quantile(|step| step.batches.p99),
            admission_events: steps.iter().map(|step| step.admission_events).collect(),
            admission_bytes: steps.iter().map(|step| step.admission_bytes).collect(),
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

impl From<KeptFailure> for Failed {
    fn from(failure: KeptFailure) -> Self {
        let KeptFailure { at_ms, event, id, problem, detail, request_id } = failure;
        Failed { at_ms, event, id, problem, detail, request_id }
    }
}

/// An object of objects: type, then outcome.
struct ByType<T>([[T; Class::ALL.len()]; EVENT_TYPES.len()]);

struct ByOutcome<'a, T>(&'a [T; Class::ALL.len()]);

impl<T: Serialize> Serialize for ByType<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(EVENT_TYPES.len()))?;
        for (event, classes) in EVENT_TYPES.iter().zip(&self.0) {
            map.serialize_entry(event, &ByOutcome(classes))?;
        }
        map.end()
    }
}

impl<T: Serialize> Serialize for ByOutcome<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Class::ALL.iter().map(|class| class.as_str()).zip(self.0))
    }
}
