//! `/live`, `/ready` and `/metrics`: answered from state kept in the background, never slow.

use actix_web::{HttpResponse, web};
use serde::Serialize;

use super::problem::add_retry_after;
use super::shared::Shared;

#[derive(Serialize)]
struct Status<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<&'a str>,
}

/// 200 while the process can make progress. Never asks the cache.
pub async fn live(shared: web::Data<Shared>) -> HttpResponse {
    let stuck = shared.pipeline.watch.stuck(shared.settings.stall);
    if stuck.is_empty() {
        return HttpResponse::Ok().json(Status { status: "live", reasons: Vec::new() });
    }
    let reasons: Vec<String> = stuck.iter().map(|kind| format!("a {} is stuck", kind.as_str())).collect();
    let reasons = reasons.iter().map(String::as_str).collect();
    HttpResponse::ServiceUnavailable().json(Status { status: "stuck", reasons })
}

/// 200 when events would be carried out.
pub async fn ready(shared: web::Data<Shared>) -> HttpResponse {
    let health = &shared.pipeline.health;
    let mut reasons = Vec::new();
    if health.is_draining() {
        reasons.push("the service is draining".to_owned());
    }
    if !health.is_cache_up() {
        reasons.push(format!("{} cannot be reached", shared.cache_name));
    }
    for kind in shared.pipeline.watch.stuck(shared.settings.stall) {
        reasons.push(format!("the {} pool is down", kind.as_str()));
    }
    if reasons.is_empty() {
        return HttpResponse::Ok().json(Status { status: "ready", reasons: Vec::new() });
    }
    let reasons = reasons.iter().map(String::as_str).collect();
    let mut response = HttpResponse::ServiceUnavailable();
    add_retry_after(&mut response);
    response.json(Status { status: "not_ready", reasons })
}

/// The Prometheus text format.
pub async fn metrics(shared: web::Data<Shared>) -> HttpResponse {
    let (events, bytes) = shared.pipeline.gate.in_use();
    shared.metrics.set_admission(events, bytes);
    match shared.metrics.encode() {
        Ok(text) => HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text),
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}
