//! `GET /replica.json`: this replica in short, for the table of all of them on the page of each.

use std::fs;
use std::time::SystemTime;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse};

use super::admit;
use super::html::{Pages, guarded};
use super::peers::{PartState, ReplicaState};
use super::status::health::{self, HealthPart};
use crate::event::rights::Access;
use crate::http::request::reject;
use crate::http::state::HttpState;
use crate::telemetry::history::STEP;

/// Where Linux tells the name of the machine, which is that of the pod.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// For whoever may read the state.
pub fn show(shared: &HttpState, request: &HttpRequest) -> HttpResponse {
    let Some(pages) = &shared.pages else { return HttpResponse::NotFound().finish() };
    match admit(shared, request, Access::Read) {
        Ok(rights) => {
            let sees_all = rights.is_none_or(|rights| !rights.has_prefixes());
            let told = state(shared, pages, sees_all);
            guarded().insert_header((CACHE_CONTROL, "no-store")).json(told)
        }
        Err(why) => reject(request, &why, ""),
    }
}

/// How this one is. What a failing host was asked for is left out unless the reader sees all keys.
pub fn state(shared: &HttpState, pages: &Pages, sees_all: bool) -> ReplicaState {
    let stuck = shared.pipeline.registry.stuck(shared.settings.stall);
    let (reading, admission) = (shared.metrics.read(), &shared.pipeline.admission);
    let parts = health::parts(shared, &pages.history, &stuck, (SystemTime::now(), sees_all));
    let wrong: Vec<&HealthPart> = parts.iter().filter(|part| part.state != PartState::Ok).collect();
    let state = wrong.iter().map(|part| part.state).max().unwrap_or(PartState::Ok);
    let events: u64 = pages.history.last_step().iter().flat_map(|step| step.events).flatten().sum();
    ReplicaState {
        instance: shared.instance.clone(),
        name: fs::read_to_string(HOST_NAME).unwrap_or_default().trim().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: shared.begun.elapsed().as_secs(),
        state,
        since_ms: wrong.iter().filter_map(|part| part.since_ms).min(),
        why: wrong.iter().map(|part| part.told()).collect::<Vec<_>>().join(" "),
        events_per_second: events as f64 / STEP.as_secs_f64(),
        p99_ms: pages.history.overall(&reading).requests.p99.map(|seconds| (seconds * 1e6).round() / 1e3),
        admission: health::fullness(admission),
        redis_up: shared.pipeline.readiness.is_cache_up(),
        redis: shared.cache_name.clone(),
        has_lease: shared.journal.as_ref().map(|_| shared.metrics.read_journal().lease),
    }
}
