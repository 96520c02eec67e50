//! Every metric of the service, by name. Owns the registry, the label sets and the handles that count.
//!
//! Promises: names begin with `cache_sync_`; label sets are bounded whatever comes from outside; counting an event costs
//! no lookup by label and no allocation; a series that can be known beforehand shows 0 from the start. When to count is
//! left to those who call.

mod reading;

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{
    Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use self::reading::{ActorState, Reading, Spread};
use super::series::{Result, Series, counter, counters, durations, gauge, histogram, position, register};
use crate::event::EventType;
use crate::event::outcome::Class;

/// Content type of what [`Metrics::encode`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The roles of the pipeline, as the label `actor` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActorKind {
    Intake,
    Validation,
    Router,
    Fetcher,
    Scanner,
    Writer,
}

impl ActorKind {
    pub const ALL: [ActorKind; 6] = [
        ActorKind::Intake,
        ActorKind::Validation,
        ActorKind::Router,
        ActorKind::Fetcher,
        ActorKind::Scanner,
        ActorKind::Writer,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            ActorKind::Intake => "intake",
            ActorKind::Validation => "validation",
            ActorKind::Router => "router",
            ActorKind::Fetcher => "fetcher",
            ActorKind::Scanner => "scanner",
            ActorKind::Writer => "writer",
        }
    }
}

/// The service's metrics. A clone shares them; every method may be called from any thread.
#[derive(Debug, Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    /// The four types and, last, `unknown`.
    events: [[IntCounter; Class::ALL.len()]; EVENT_TYPES.len()],
    entries: [Series<IntCounterVec, IntCounter, { STATUSES.len() }>; EventType::ALL.len()],
    requests: [Series<HistogramVec, Histogram, { HTTP_STATUSES.len() }>; ROUTES.len()],
    fetches: Series<HistogramVec, Histogram, { FETCH_OUTCOMES.len() }>,
    fetched_bytes: IntCounter,
    fetch_retries: IntCounter,
    batch_commands: Histogram,
    batch_duration: Histogram,
    redis_reconnects: IntCounter,
    redis_up: IntGauge,
    admission_events: IntGauge,
    admission_bytes: IntGauge,
    actors: [IntGauge; ActorKind::ALL.len()],
    actor_restarts: [IntCounter; ActorKind::ALL.len()],
    actor_waiting: [IntGauge; ActorKind::ALL.len()],
    resident_memory: IntGauge,
}

/// The types of event, and what stands for one that cannot be told.
pub const EVENT_TYPES: [&str; 5] = ["SET", "GET", "DELETE", "DELETE_PATTERN", "unknown"];
const UNKNOWN_TYPE: usize = EVENT_TYPES.len() - 1;

/// What an entry may end as; the last stands for anything that is not listed.
const STATUSES: [&str; 10] =
    ["stored", "hit", "miss", "deleted", "absent", "preview", "superseded", "rejected", "unavailable", "other"];

/// The routes of the service; the last stands for anything else.
pub const ROUTES: [&str; 9] =
    ["/events", "/live", "/ready", "/metrics", "/openapi.json", "/", "/docs", "/status.json", "other"];
const HTTP_STATUSES: [&str; 15] =
    ["200", "207", "304", "400", "401", "404", "405", "408", "413", "415", "422", "431", "500", "503", "other"];

const FETCH_OUTCOMES: [&str; 7] =
    ["ok", "blob-forbidden", "blob-not-found", "blob-denied", "blob-too-large", "blob-unavailable", "other"];

/// Seconds. From an inline event (well below a millisecond) to `event.deadline_ms`.
const REQUEST_BUCKETS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0];
/// Seconds. From a blob nearby to more than `fetch.timeout_ms`.
const FETCH_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 25.0];
/// Seconds. From a pipeline to a Redis nearby to `redis.retry_ms`.
const BATCH_BUCKETS: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 5.0];
/// Commands of one pipeline.
const BATCH_SIZES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

impl Metrics {
    /// All metrics, at 0. `cluster` is a label on each of them unless it is empty.
    ///
    /// # Errors
    ///
    /// If a metric cannot be registered; a test holds that this does not happen.
    pub fn new(cluster: &str) -> Result<Self> {
        let labels = (!cluster.is_empty()).then(|| HashMap::from([("cluster".to_owned(), cluster.to_owned())]));
        let registry = Registry::new_custom(Some("cache_sync".into()), labels)?;
        register_process_facts(&registry)?;
        let inner = Inner::register(registry)?;
        Ok(Metrics { inner: Arc::new(inner) })
    }

    /// `n` events of a known type have been answered.
    pub fn events_done(&self, event: EventType, class: Class, n: u64) {
        self.inner.events[event as usize][class as usize].inc_by(n);
    }

    /// An event was found invalid; its type is none if that could not be told.
    pub fn event_rejected(&self, event: Option<EventType>) {
        let event = event.map_or(UNKNOWN_TYPE, |event| event as usize);
        self.inner.events[event][Class::Rejected as usize].inc();
    }

    /// `n` entries of an event ended with this status (`Outcome::status`).
    pub fn entries_done(&self, event: EventType, status: &str, n: u64) {
        self.inner.entries[event as usize].at(position(&STATUSES, status)).inc_by(n);
    }

    /// A request has been answered. A path that is no route of ours counts as `other`.
    pub fn request_done(&self, route: &str, status: u16, took: Duration) {
        let status = HTTP_STATUS_CODES.iter().position(|&code| code == status).unwrap_or(HTTP_STATUSES.len() - 1);
        self.inner.requests[position(&ROUTES, route)].at(status).observe(took.as_secs_f64());
    }

    /// An attempt at a blob has ended. `outcome` is `ok`, the problem's slug, or `other` if it only found out how many
    /// bytes it needs; `bytes` are those of the decoded blob.
    pub fn fetch_done(&self, outcome: &'static str, took: Duration, bytes: usize) {
        self.inner.fetches.at(position(&FETCH_OUTCOMES, outcome)).observe(took.as_secs_f64());
        self.inner.fetched_bytes.inc_by(bytes as u64);
    }

    /// A fetch is to be tried again.
    pub fn fetch_retried(&self) {
        self.inner.fetch_retries.inc();
    }

    /// A pipeline of that many commands has been answered by Redis, or has failed.
    pub fn redis_batch(&self, commands: usize, took: Duration) {
        self.inner.batch_commands.observe(commands as f64);
        self.inner.batch_duration.observe(took.as_secs_f64());
    }

    /// A connection to Redis was made anew.
    pub fn redis_reconnected(&self) {
        self.inner.redis_reconnects.inc();
    }

    pub fn set_redis_up(&self, is_up: bool) {
        self.inner.redis_up.set(i64::from(is_up));
    }

    /// What admission has let in and not yet seen leave.
    pub fn set_admission(&self, events: usize, bytes: usize) {
        self.inner.admission_events.set(events as i64);
        self.inner.admission_bytes.set(bytes as i64);
    }

    pub fn actor_started(&self, actor: ActorKind) {
        self.inner.actors[actor as usize].inc();
    }

    pub fn actor_stopped(&self, actor: ActorKind) {
        self.inner.actors[actor as usize].dec();
    }

    /// Supervision has put an actor back on its feet.
    pub fn actor_restarted(&self, actor: ActorKind) {
        self.inner.actor_restarts[actor as usize].inc();
    }

    /// Messages sent to actors of this role and not yet handled.
    pub fn set_actor_waiting(&self, actor: ActorKind, messages: i64) {
        self.inner.actor_waiting[actor as usize].set(messages);
    }

    /// All metrics in Prometheus's text format.
    ///
    /// # Errors
    ///
    /// If the encoder refuses a metric family.
    pub fn encode(&self) -> Result<String> {
        if let Some(bytes) = resident_memory_bytes() {
            self.inner.resident_memory.set(bytes);
        }
        TextEncoder::new().encode_to_string(&self.inner.registry.gather())
    }
}

impl Inner {
    fn register(registry: Registry) -> Result<Self> {
        let r = &registry;
        let entries =
            counters(r, "entries_total", "Entries by type of event and how they ended.", &["type", "outcome"])?;
        let requests = durations(
            r,
            "request_duration_seconds",
            "From a request's head to its answer.",
            &REQUEST_BUCKETS,
            &["route", "status"],
        )?;
        let fetches = durations(
            r,
            "fetch_duration_seconds",
            "One attempt at a blob, up to its last byte.",
            &FETCH_BUCKETS,
            &["outcome"],
        )?;
        let inner = Inner {
            events: events(r)?,
            entries: EventType::ALL.map(|event| Series::new(entries.clone(), Some(event.as_str()), STATUSES)),
            requests: ROUTES.map(|route| Series::new(requests.clone(), Some(route), HTTP_STATUSES)),
            fetches: Series::new(fetches, None, FETCH_OUTCOMES),
            fetched_bytes: counter(r, "fetched_bytes_total", "Bytes of blobs, decoded.")?,
            fetch_retries: counter(r, "fetch_retries_total", "Attempts after a fetch's first.")?,
            batch_commands: histogram(r, "redis_batch_commands", "Commands in one pipeline.", &BATCH_SIZES)?,
            batch_duration: histogram(
                r,
                "redis_batch_duration_seconds",
                "From sending a pipeline to its last reply, or its failure.",
                &BATCH_BUCKETS,
            )?,
            redis_reconnects: counter(r, "redis_reconnects_total", "Connections to Redis that were made anew.")?,
            redis_up: gauge(r, "redis_up", "1 while Redis answers.")?,
            admission_events: gauge(r, "admission_events", "Events that have been let in and are not yet answered.")?,
            admission_bytes: gauge(r, "admission_bytes", "Bytes held for those events.")?,
            actors: actor_gauges(r, "actors", "Actors that are running.")?,
            actor_restarts: actor_counters(r, "actor_restarts_total", "Actors restarted after a failure.")?,
            actor_waiting: actor_gauges(r, "actor_waiting_messages", "Messages sent to actors and not yet handled.")?,
            resident_memory: gauge(r, "process_resident_memory_bytes", "Memory of the process that is in RAM.")?,
            registry,
        };
        inner.show_from_the_start();
        Ok(inner)
    }

    fn show_from_the_start(&self) {
        for (event, series) in EventType::ALL.into_iter().zip(&self.entries) {
            for status in event.statuses() {
                series.at(position(&STATUSES, status));
            }
        }
        for status in ["200", "207", "400", "422", "503"] {
            self.requests[0].at(position(&HTTP_STATUSES, status));
        }
        for outcome in 0..FETCH_OUTCOMES.len() - 1 {
            self.fetches.at(outcome);
        }
    }
}

const HTTP_STATUS_CODES: [u16; 14] = [200, 207, 304, 400, 401, 404, 405, 408, 413, 415, 422, 431, 500, 503];

fn events(registry: &Registry) -> Result<[[IntCounter; Class::ALL.len()]; EVENT_TYPES.len()]> {
    let vec = counters(registry, "events_total", "Events by type and outcome.", &["type", "outcome"])?;
    Ok(EVENT_TYPES.map(|event| Class::ALL.map(|class| vec.with_label_values(&[event, class.as_str()]))))
}

fn actor_gauges(registry: &Registry, name: &str, help: &str) -> Result<[IntGauge; ActorKind::ALL.len()]> {
    let vec = register(registry, IntGaugeVec::new(Opts::new(name, help), &["actor"])?)?;
    Ok(ActorKind::ALL.map(|actor| vec.with_label_values(&[actor.as_str()])))
}

fn actor_counters(registry: &Registry, name: &str, help: &str) -> Result<[IntCounter; ActorKind::ALL.len()]> {
    let vec = counters(registry, name, help, &["actor"])?;
    Ok(ActorKind::ALL.map(|actor| vec.with_label_values(&[actor.as_str()])))
}

fn register_process_facts(registry: &Registry) -> Result<()> {
    let build = IntGaugeVec::new(Opts::new("build_info", "Always 1; the label tells the version."), &["version"])?;
    register(registry, build)?.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    let start = Gauge::new("start_time_seconds", "When the process started, in seconds since 1970.")?;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    register(registry, start)?.set(since_epoch.as_secs_f64());
    Ok(())
}

/// Linux only; none elsewhere.
fn resident_memory_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(cluster: &str) -> Metrics {
        Metrics::new(cluster).unwrap()
    }

    #[track_caller]
    fn assert_shows(metrics: &Metrics, line: &str) {
        let text = metrics.encode().unwrap();
        assert!(text.lines().any(|l| l == line), "{line} is not among\n{text}");
    }

    #[test]
    fn what_can_be_known_beforehand_shows_0_from_the_start() {
        let metrics = metrics("");
        for line in [
            r#"cache_sync_events_total{outcome="ok",type="SET"} 0"#,
            r#"cache_sync_events_total{outcome="unavailable",type="DELETE_PATTERN"} 0"#,
            r#"cache_sync_events_total{outcome="rejected",type="unknown"} 0"#,
            r#"cache_sync_entries_total{outcome="absent",type="DELETE"} 0"#,
            r#"cache_sync_actor_restarts_total{actor="scanner"} 0"#,
            r#"cache_sync_actors{actor="intake"} 0"#,
            r#"cache_sync_actor_waiting_messages{actor="writer"} 0"#,
            r#"cache_sync_request_duration_seconds_count{route="/events",status="503"} 0"#,
            r#"cache_sync_fetch_duration_seconds_count{outcome="blob-unavailable"} 0"#,
            "cache_sync_admission_events 0",
            "cache_sync_admission_bytes 0",
            "cache_sync_redis_up 0",
            "cache_sync_redis_reconnects_total 0",
        ] {
            assert_shows(&metrics, line);
        }
        let text = metrics.encode().unwrap();
        assert!(!text.contains(r#"outcome="hit",type="SET""#) && !text.contains(r#""other""#), "{text}");
    }

    #[test]
    fn every_sample_has_the_prefix_and_the_cluster() {
        let metrics = metrics("west \"1\"");
        let text = metrics.encode().unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.starts_with("cache_sync_") && line.contains(r#"cluster="west \"1\"""#), "{line}");
        }
    }

    #[test]
    fn events_count_by_type_and_outcome() {
        let metrics = metrics("");
        for event in EventType::ALL {
            for (n, class) in Class::ALL.into_iter().enumerate() {
                (0..=n).for_each(|_| metrics.events_done(event, class, 1));
            }
        }
        metrics.event_rejected(None);
        metrics.event_rejected(Some(EventType::Get));
        for event in ["SET", "DELETE", "DELETE_PATTERN"] {
            for (n, outcome) in [(1, "ok"), (2, "rejected"), (3, "unavailable")] {
                assert_shows(
                    &metrics,
                    &format!(r#"cache_sync_events_total{{outcome="{outcome}",type="{event}"}} {n}"#),
                );
            }
        }
        assert_shows(&metrics, r#"cache_sync_events_total{outcome="rejected",type="GET"} 3"#);
        assert_shows(&metrics, r#"cache_sync_events_total{outcome="rejected",type="unknown"} 1"#);
    }

    #[test]
    fn labels_from_outside_stay_within_their_sets() {
        let metrics = metrics("");
        for n in 0..100 {
            metrics.request_done(&format!("/wp-admin/{n}"), 600 + n, Duration::from_millis(3));
            metrics.entries_done(EventType::Get, &format!("new-{n}"), 2);
        }
        metrics.request_done("/events", 200, Duration::from_millis(3));
        assert_shows(&metrics, r#"cache_sync_request_duration_seconds_count{route="other",status="other"} 100"#);
        assert_shows(&metrics, r#"cache_sync_entries_total{outcome="other",type="GET"} 200"#);
        assert_shows(
            &metrics,
            r#"cache_sync_request_duration_seconds_bucket{route="/events",status="200",le="0.005"} 1"#,
        );
    }

    #[test]
    fn each_known_status_code_has_its_own_label() {
        let labels: Vec<String> = HTTP_STATUS_CODES.iter().map(u16::to_string).collect();
        assert_eq!(labels, HTTP_STATUSES[..HTTP_STATUSES.len() - 1]);
    }

    #[test]
    fn enums_stand_in_their_arrays_where_their_labels_do() {
        for event in EventType::ALL {
            assert_eq!(EVENT_TYPES[event as usize], event.as_str());
        }
        for (n, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, n);
        }
        for (n, actor) in ActorKind::ALL.into_iter().enumerate() {
            assert_eq!(actor as usize, n);
        }
    }

    #[test]
    fn actors_fetches_and_redis_are_told() {
        let metrics = metrics("");
        metrics.actor_started(ActorKind::Writer);
        metrics.actor_started(ActorKind::Writer);
        metrics.actor_stopped(ActorKind::Writer);
        metrics.actor_restarted(ActorKind::Fetcher);
        metrics.fetch_done("ok", Duration::from_millis(20), 4096);
        metrics.fetch_retried();
        metrics.redis_batch(20, Duration::from_micros(300));
        metrics.redis_reconnected();
        metrics.set_redis_up(true);
        metrics.set_admission(3, 999);
        for line in [
            r#"cache_sync_actors{actor="writer"} 1"#,
            r#"cache_sync_actor_restarts_total{actor="fetcher"} 1"#,
            r#"cache_sync_fetch_duration_seconds_count{outcome="ok"} 1"#,
            "cache_sync_fetched_bytes_total 4096",
            "cache_sync_fetch_retries_total 1",
            r#"cache_sync_redis_batch_commands_bucket{le="32"} 1"#,
            r#"cache_sync_redis_batch_commands_bucket{le="16"} 0"#,
            r#"cache_sync_redis_batch_duration_seconds_bucket{le="0.0005"} 1"#,
            "cache_sync_redis_reconnects_total 1",
            "cache_sync_redis_up 1",
            "cache_sync_admission_events 3",
            "cache_sync_admission_bytes 999",
            concat!(r#"cache_sync_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
        ] {
            assert_shows(&metrics, line);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_is_read_at_each_scrape() {
        let bytes = resident_memory_bytes().unwrap();
        assert!(bytes > 1024 * 1024, "{bytes}");
        assert!(!metrics("").encode().unwrap().contains("cache_sync_process_resident_memory_bytes 0\n"));
    }
}
