//! `/live`, `/ready` and `/metrics`: answered from state kept in the background, never slow.
//!
//! They take the state of all workers and the kinds of which an actor is stuck, so that a thread that does nothing else
//! can answer too.

use actix_web::http::header::{Accept, CONTENT_TYPE, Header, HeaderValue, Quality};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::problem::add_retry_after;
use super::state::HttpState;
use crate::pipeline::write::queue::seconds;
use crate::telemetry::ActorKind;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Serialize)]
struct Status {
    status: &'static str,
    reasons: Vec<String>,
}

/// 200 while the process can make progress. Never asks the cache.
pub fn live(_: &HttpState, stuck: &[ActorKind], _: &HttpRequest) -> HttpResponse {
    let reasons: Vec<String> = stuck.iter().map(|kind| format!("a {} is stuck", kind.as_str())).collect();
    if reasons.is_empty() {
        return fine(r#"{"status":"live"}"#);
    }
    HttpResponse::ServiceUnavailable().json(Status { status: "stuck", reasons })
}

/// 200 when events would be carried out.
pub fn ready(shared: &HttpState, stuck: &[ActorKind], _: &HttpRequest) -> HttpResponse {
    let reasons = reasons(shared, stuck);
    if reasons.is_empty() {
        return fine(r#"{"status":"ready"}"#);
    }
    let mut response = HttpResponse::ServiceUnavailable();
    add_retry_after(&mut response, shared.retry_after());
    response.json(Status { status: "not_ready", reasons })
}

/// What keeps events from being carried out.
pub fn reasons(shared: &HttpState, stuck: &[ActorKind]) -> Vec<String> {
    let readiness = &shared.pipeline.readiness;
    let mut reasons = Vec::new();
    if readiness.is_draining() {
        reasons.push("the service is draining".to_owned());
    }
    if !readiness.is_cache_up() {
        let why = readiness.trouble().map(|(cause, time)| format!(" for {}: {cause}", seconds(time)));
        reasons.push(format!("{} cannot be reached{}", shared.cache_name, why.unwrap_or_default()));
    }
    for kind in stuck {
        reasons.push(format!("the {} pool is down", kind.as_str()));
    }
    reasons
}

fn fine(body: &'static str) -> HttpResponse {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json"))).body(body)
}

/// The Prometheus text format, or that of OpenMetrics for who prefers it.
pub fn metrics(shared: &HttpState, _: &[ActorKind], request: &HttpRequest) -> HttpResponse {
    let (events, bytes) = shared.pipeline.admission.in_use();
    shared.metrics.set_admission(events, bytes);
    shared.metrics.set_oldest_age(shared.oldest_age());
    shared.metrics.set_hosts_down(shared.pipeline.hosts_down());
    shared.pipeline.publish(&shared.metrics);
    shared.pipeline.registry.publish_waiting();
    if prefers_openmetrics(request) {
        return HttpResponse::Ok().content_type(OPENMETRICS).body(shared.metrics.encode_openmetrics());
    }
    match shared.metrics.encode() {
        Ok(text) => HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text),
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}

/// Whether OpenMetrics is asked for by name, in this version, and no less than other text. Whoever takes anything gets the usual.
fn prefers_openmetrics(request: &HttpRequest) -> bool {
    let Ok(accept) = Accept::parse(request) else { return false };
    let most = |kind: &str, version: &str| {
        let fits = accept.iter().filter(|range| {
            let asked = range.item.get_param("version").map(|asked| asked.as_str().to_owned());
            range.item.essence_str() == kind && asked.is_none_or(|asked| asked == version)
        });
        fits.map(|range| range.quality).max().unwrap_or(Quality::ZERO)
    };
    let openmetrics = most("application/openmetrics-text", "1.0.0");
    openmetrics > Quality::ZERO && openmetrics >= most("text/plain", "0.0.4")
}
