//! Every metric by its name, registered and at 0.

use prometheus::{Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::exemplars::Exemplars;
use super::hosts::HostFetches;
use super::journal::JournalFamilies;
use super::labels::{
    AGE_BUCKETS, ActorKind, BATCH_BUCKETS, BATCH_SIZES, DELAY_BUCKETS, EVENT_TYPES, FAILURES, FETCH_BUCKETS,
    FETCH_OUTCOMES, FORBIDDEN_EVENT, HOST_BUCKETS, HTTP_STATUSES, INVALID_EVENT, REFUSALS, REQUEST_BUCKETS, ROUTES,
    STATUSES, failure,
};
use super::senders::SenderFamily;
use super::settled::Pages;
use super::sources::SourceFamilies;
use super::upkeep::UpkeepFamilies;
use crate::event::EventType;
use crate::event::outcome::Class;
use crate::telemetry::series::{Result, Series, counter, counters, durations, gauge, histogram, position, register};

#[derive(Debug)]
pub(super) struct Registered {
    pub registry: Registry,
    /// The four types and, last, `unknown`.
    pub events: [[IntCounter; Class::ALL.len()]; EVENT_TYPES.len()],
    pub entries: [Series<IntCounterVec, IntCounter, { STATUSES.len() }>; EventType::ALL.len()],
    /// The failed entries by type, as `events`.
    pub failed_entries: [Series<IntCounterVec, IntCounter, { FAILURES.len() }>; EVENT_TYPES.len()],
    pub event_delay: Histogram,
    pub refused: Series<IntCounterVec, IntCounter, { REFUSALS.len() }>,
    pub requests: [Series<HistogramVec, Histogram, { HTTP_STATUSES.len() }>; ROUTES.len()],
    pub senders: SenderFamily,
    pub sources: SourceFamilies,
    pub upkeep: UpkeepFamilies,
    pub journal: JournalFamilies,
    pub fetches: Series<HistogramVec, Histogram, { FETCH_OUTCOMES.len() }>,
    pub host_fetches: HostFetches,
    pub hosts_down: IntGauge,
    pub fetched_bytes: IntCounter,
    pub fetch_retries: IntCounter,
    pub batch_commands: Histogram,
    pub batch_duration: Histogram,
    pub failed_batches: IntCounter,
    pub redis_reconnects: IntCounter,
    pub redis_up: IntGauge,
    pub queue_oldest_age: Gauge,
    pub admission_events: IntGauge,
    pub admission_bytes: IntGauge,
    pub admission_limit_events: IntGauge,
    pub admission_limit_bytes: IntGauge,
    pub actors: [IntGauge; ActorKind::ALL.len()],
    pub actors_wanted: [IntGauge; ActorKind::ALL.len()],
    pub actor_restarts: [IntCounter; ActorKind::ALL.len()],
    pub actor_waiting: [IntGauge; ActorKind::ALL.len()],
    /// What is counted elsewhere first.
    pub pages: Pages,
    pub exemplars: Exemplars,
}

impl Registered {
    pub fn new(registry: Registry) -> Result<Self> {
        let r = &registry;
        let (event_delay, event_age, requests) = (event_delay(r)?, event_age(r)?, requests(r)?);
        let registered = Registered {
            pages: Pages::new(&event_delay, &event_age, requests[0].at(0)),
            exemplars: Exemplars::default(),
            events: events(r)?,
            entries: entries(r)?,
            failed_entries: failed_entries(r)?,
            event_delay,
            refused: refused(r)?,
            senders: SenderFamily::new(r)?,
            sources: SourceFamilies::new(r)?,
            upkeep: UpkeepFamilies::new(r)?,
            journal: JournalFamilies::new(r)?,
            requests,
            fetches: fetches(r)?,
            host_fetches: host_fetches(r)?,
            hosts_down: gauge(r, "blob_hosts_down", "Hosts of blobs that do not answer at the moment.")?,
            fetched_bytes: counter(r, "fetched_bytes_total", "Bytes of blobs, decoded.")?,
            fetch_retries: counter(r, "fetch_retries_total", "Attempts after a fetch's first.")?,
            batch_commands: histogram(r, "redis_batch_commands", "Commands in one pipeline.", &BATCH_SIZES)?,
            batch_duration: batch_duration(r)?,
            failed_batches: failed_batches(r)?,
            redis_reconnects: counter(r, "redis_reconnects_total", "Connections to Redis that were made anew.")?,
            redis_up: gauge(r, "redis_up", "1 while Redis answers.")?,
            queue_oldest_age: register(
                r,
                Gauge::new("queue_oldest_age_seconds", "Age of the oldest accepted event that is not settled.")?,
            )?,
            admission_events: gauge(r, "admission_events", "Accepted events that are not yet answered.")?,
            admission_bytes: gauge(r, "admission_bytes", "Bytes held for those events.")?,
            admission_limit_events: gauge(r, "admission_limit_events", "Most events that may be in progress at once.")?,
            admission_limit_bytes: gauge(r, "admission_limit_bytes", "Most bytes that may be held at once.")?,
            actors: actor_gauges(r, "actors", "Actors that are running.")?,
            actors_wanted: actor_gauges(r, "actors_wanted", "Actors that the settings ask for.")?,
            actor_restarts: actor_counters(r, "actor_restarts_total", "Actors restarted after a failure.")?,
            actor_waiting: actor_gauges(r, "actor_waiting_messages", "Messages sent to actors and not yet handled.")?,
            registry,
        };
        registered.show_from_the_start();
        Ok(registered)
    }

    fn show_from_the_start(&self) {
        for (event, series) in EventType::ALL.into_iter().zip(&self.entries) {
            for status in event.statuses() {
                series.at(position(&STATUSES, status));
            }
        }
        for status in ["200", "202", "207", "400", "422", "503"] {
            self.requests[0].at(position(&HTTP_STATUSES, status));
        }
        for (event, series) in EventType::ALL.into_iter().zip(&self.failed_entries) {
            for problem in event.problems() {
                series.at(failure(problem));
            }
        }
        for series in &self.failed_entries {
            series.at(INVALID_EVENT);
            series.at(FORBIDDEN_EVENT);
        }
        for problem in 0..REFUSALS.len() - 1 {
            self.refused.at(problem);
        }
        for outcome in 0..FETCH_OUTCOMES.len() - 1 {
            self.fetches.at(outcome);
        }
    }
}

type Counters<const N: usize> = Series<IntCounterVec, IntCounter, N>;
type Durations<const N: usize> = Series<HistogramVec, Histogram, N>;

fn entries(r: &Registry) -> Result<[Counters<{ STATUSES.len() }>; EventType::ALL.len()]> {
    let all = counters(r, "entries_total", "Entries by type of event and how they ended.", &["type", "outcome"])?;
    Ok(EventType::ALL.map(|event| Series::new(all.clone(), Some(event.as_str()), STATUSES)))
}

fn failed_entries(r: &Registry) -> Result<[Counters<{ FAILURES.len() }>; EVENT_TYPES.len()]> {
    let help = "Entries that were not carried out, by problem.";
    let all = counters(r, "failed_entries_total", help, &["type", "problem"])?;
    Ok(EVENT_TYPES.map(|event| Series::new(all.clone(), Some(event), FAILURES)))
}

fn refused(r: &Registry) -> Result<Counters<{ REFUSALS.len() }>> {
    let all = counters(r, "refused_requests_total", "Requests that never became work.", &["problem"])?;
    Ok(Series::new(all, None, REFUSALS))
}

fn requests(r: &Registry) -> Result<[Durations<{ HTTP_STATUSES.len() }>; ROUTES.len()]> {
    let help = "From a request's head to its answer.";
    let all = durations(r, "request_duration_seconds", help, &REQUEST_BUCKETS, &["route", "status"])?;
    Ok(ROUTES.map(|route| Series::new(all.clone(), Some(route), HTTP_STATUSES)))
}

fn fetches(r: &Registry) -> Result<Durations<{ FETCH_OUTCOMES.len() }>> {
    let help = "One attempt at a blob, up to its last byte.";
    let all = durations(r, "fetch_duration_seconds", help, &FETCH_BUCKETS, &["outcome"])?;
    Ok(Series::new(all, None, FETCH_OUTCOMES))
}

fn host_fetches(r: &Registry) -> Result<HostFetches> {
    let help = "One attempt at a blob, by its host.";
    durations(r, "blob_host_fetch_duration_seconds", help, &HOST_BUCKETS, &["host", "outcome"]).map(HostFetches::new)
}

fn event_delay(r: &Registry) -> Result<Histogram> {
    histogram(r, "event_delay_seconds", "From an event's acceptance to its end; events that ended ok.", &DELAY_BUCKETS)
}

fn event_age(r: &Registry) -> Result<Histogram> {
    histogram(
        r,
        "event_age_seconds",
        "From an event's own time to its end; events that ended ok and carry one.",
        &AGE_BUCKETS,
    )
}

fn batch_duration(r: &Registry) -> Result<Histogram> {
    histogram(
        r,
        "redis_batch_duration_seconds",
        "From sending a pipeline to its last reply, or its failure.",
        &BATCH_BUCKETS,
    )
}

fn failed_batches(r: &Registry) -> Result<IntCounter> {
    counter(r, "redis_failed_batches_total", "Pipelines of which something failed for lack of Redis.")
}

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
