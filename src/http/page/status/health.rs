//! Whether it is well: each thing that the service is made of or depends on, and if it is not well, since when and why.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::http::page::peers::PartState;
use crate::http::state::HttpState;
use crate::pipeline::work::admission::Admission;
use crate::telemetry::ActorKind;
use crate::telemetry::history::{FailingHost, History, millis};

/// Of the admission's limits: from here on it is about to refuse events.
const NEARLY_FULL: f64 = 0.9;
const STORE: &str = "store/";

/// One thing, and how it is.
#[derive(Serialize)]
pub struct HealthPart {
    part: PartKind,
    /// Which one, where there may be several.
    name: String,
    pub state: PartState,
    /// Milliseconds since 1970; None: it is well, or that is not known.
    pub since_ms: Option<u64>,
    /// In words; empty: it is well.
    why: String,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum PartKind {
    Service,
    Redis,
    Journal,
    Admission,
    Store,
    Host,
}

/// Redis, journal and admission always; every store; and those hosts that fail. Why a host fails names what was fetched, so that is
/// for readers of all keys alone.
pub fn parts(
    shared: &HttpState,
    history: &History,
    stuck: &[ActorKind],
    (now, sees_all): (SystemTime, bool),
) -> Vec<HealthPart> {
    let mut failing = history.failing_hosts(|host| shared.metrics.blobs_given(host), now);
    for host in failing.iter_mut().filter(|_| !sees_all) {
        host.detail = host.problem.to_owned();
    }
    let mut parts = vec![service(shared, stuck), redis(shared, now)];
    parts.extend(journal(shared, now));
    parts.push(admission(shared, history, now));
    for name in shared.pipeline.limits().stores.as_deref().unwrap_or_default() {
        let of_store = failing.iter().find(|host| host.host.strip_prefix(STORE) == Some(name));
        parts.push(
            of_store.map_or_else(|| HealthPart::well(PartKind::Store, name), |host| HealthPart::failing(host, name)),
        );
    }
    let hosts = failing.iter().filter(|host| !host.host.starts_with(STORE));
    parts.extend(hosts.map(|host| HealthPart::failing(host, &host.host)));
    parts
}

fn service(shared: &HttpState, stuck: &[ActorKind]) -> HealthPart {
    let stuck: Vec<String> = stuck.iter().map(|kind| format!("The {} pool is down.", kind.as_str())).collect();
    let why = match shared.pipeline.readiness.is_draining() {
        true => "It is shutting down: new events are refused.".to_owned(),
        false => stuck.join(" "),
    };
    let state = if why.is_empty() { PartState::Ok } else { PartState::Down };
    HealthPart { part: PartKind::Service, name: String::new(), state, since_ms: None, why }
}

fn redis(shared: &HttpState, now: SystemTime) -> HealthPart {
    let readiness = &shared.pipeline.readiness;
    if readiness.is_cache_up() {
        return HealthPart::well(PartKind::Redis, &shared.cache_name);
    }
    let (why, time) = match readiness.trouble() {
        Some((why, time)) => (why.into_owned(), Some(time)),
        None => ("It has not been reached since the start.".to_owned(), Some(shared.begun.elapsed())),
    };
    HealthPart::down(PartKind::Redis, &shared.cache_name, (time, why), now)
}

fn journal(shared: &HttpState, now: SystemTime) -> Option<HealthPart> {
    let journal = shared.journal.as_ref()?;
    Some(match journal.trouble() {
        None => HealthPart::well(PartKind::Journal, ""),
        Some((time, why)) => HealthPart::down(PartKind::Journal, "", (Some(time), why), now),
    })
}

/// The part of the admission that is in use, from 0 to 1: of events or of bytes, whichever is more.
pub fn fullness(admission: &Admission) -> f64 {
    part_of(admission.in_use(), admission.limits())
}

fn part_of((events, bytes): (usize, usize), (max_events, max_bytes): (usize, usize)) -> f64 {
    let share = |used: usize, most: usize| used as f64 / most.max(1) as f64;
    share(events, max_events).max(share(bytes, max_bytes))
}

fn admission(shared: &HttpState, history: &History, now: SystemTime) -> HealthPart {
    let admission = &shared.pipeline.admission;
    let full = fullness(admission);
    if full < NEARLY_FULL {
        return HealthPart::well(PartKind::Admission, "");
    }
    let why =
        format!("{:.0} % of what may be in progress is. Beyond that, events are answered overloaded.", full * 100.0);
    let limits = admission.limits();
    let since_ms = history.admission_since(|in_use| part_of(in_use, limits) >= NEARLY_FULL).or(Some(millis(now)));
    HealthPart { part: PartKind::Admission, name: String::new(), state: PartState::Degraded, since_ms, why }
}

impl HealthPart {
    /// What it is and why it is not well, as a sentence.
    pub fn told(&self) -> String {
        let part = match self.part {
            PartKind::Service => "Service",
            PartKind::Redis => "Redis",
            PartKind::Journal => "Journal",
            PartKind::Admission => "Admission",
            PartKind::Store => "Store",
            PartKind::Host => "Host",
        };
        let name = if self.name.is_empty() { String::new() } else { format!(" {}", self.name) };
        let end = if self.why.ends_with('.') { "" } else { "." };
        format!("{part}{name}: {}{end}", self.why)
    }

    fn well(part: PartKind, name: &str) -> Self {
        HealthPart { part, name: name.to_owned(), state: PartState::Ok, since_ms: None, why: String::new() }
    }

    fn down(part: PartKind, name: &str, (time, why): (Option<Duration>, String), now: SystemTime) -> Self {
        let since = time.and_then(|time| now.checked_sub(time)?.duration_since(UNIX_EPOCH).ok());
        let since_ms = since.map(|since| since.as_millis() as u64);
        HealthPart { part, name: name.to_owned(), state: PartState::Down, since_ms, why }
    }

    fn failing(host: &FailingHost, name: &str) -> Self {
        let part = if host.host.starts_with(STORE) { PartKind::Store } else { PartKind::Host };
        let why = host.detail.clone();
        HealthPart { part, name: name.to_owned(), state: PartState::Degraded, since_ms: Some(host.since_ms), why }
    }
}
