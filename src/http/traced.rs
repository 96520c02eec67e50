//! The spans of a request that its caller samples: the request itself, its validation, and each event with the parts of its
//! slowest entry. All are made once the answer is known, of what is measured anyway; a request that is not sampled costs
//! nothing.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use super::request_ids::{RequestIds, span_id};
use crate::event::outcome::Class;
use crate::event::trace::Trace;
use crate::event::wire::{Answered, EventResult};
use crate::pipeline::work::reply::Verdict;
use crate::telemetry::spans::{ClockAnchor, SpanKind, TraceSpan, TracedSpans, Tracer};

/// Events of a request that have spans, the first ones.
const MAX_EVENTS: usize = 32;

/// A request as a span.
pub struct RequestSpan<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub status: u16,
    /// What its line in the log calls so.
    pub outcome: &'a str,
    pub begun: Instant,
}

/// The trace of a request that is to be exported.
pub fn sampled<'a>(ids: &'a RequestIds, tracer: Option<&'a Tracer>) -> Option<(&'a Tracer, &'a Arc<Trace>)> {
    tracer.zip(ids.sampled())
}

/// The spans of what was done for a request, but for the request itself.
pub fn of_verdict(
    verdict: &Verdict,
    trace: &Trace,
    received: Option<Instant>,
    accepted: Option<Instant>,
) -> Vec<TraceSpan> {
    let Some(accepted) = accepted else { return Vec::new() };
    let anchor = ClockAnchor::now();
    let (request, accepted_at) = (trace.span_id(), anchor.wall(accepted));
    let mut spans = Vec::new();
    if let Some(received) = received {
        spans.push(part("validation", SpanKind::Internal, request, (anchor.wall(received), accepted_at)));
    }
    match verdict {
        Verdict::One(answered) => add_event(&mut spans, answered, request, accepted_at),
        Verdict::Batch(elements) => {
            let answered = elements.iter().filter_map(|element| match element {
                EventResult::Answered(answered) => Some(answered),
                EventResult::Invalid(_) => None,
            });
            answered.take(MAX_EVENTS).for_each(|answered| add_event(&mut spans, answered, request, accepted_at));
        }
        Verdict::Rejected(_) => {}
    }
    spans
}

/// The event, and where the time of its slowest entry went. Its parts stand one behind another: waits between them are shown
/// at the beginning.
fn add_event(spans: &mut Vec<TraceSpan>, answered: &Answered, request: &str, accepted: SystemTime) {
    let slowest = answered.spent.iter().copied().max_by_key(|spent| spent.total).unwrap_or_default();
    let micros = |micros: u32| Duration::from_micros(micros.into());
    let (total, fetching, cache) = (micros(slowest.total), micros(slowest.fetching), micros(slowest.cache));
    let class = answered.class();
    let mut event = part(answered.event.as_str(), SpanKind::Internal, request, (accepted, accepted + total));
    event.has_failed = class != Class::Ok;
    event.attributes =
        vec![("cache_sync.keys", json!(answered.targets.len())), ("cache_sync.outcome", json!(class.as_str()))];
    if let Some(id) = &answered.id {
        event.attributes.push(("cache_sync.event_id", json!(&**id)));
    }
    let (fetch_from, cache_from) =
        (accepted + total.saturating_sub(fetching).saturating_sub(cache), accepted + total.saturating_sub(cache));
    let parts = [
        ("waiting", SpanKind::Internal, accepted, fetch_from),
        ("fetch", SpanKind::Client, fetch_from, cache_from),
        ("redis", SpanKind::Client, cache_from, accepted + total),
    ];
    let id = event.id.clone();
    spans.push(event);
    let parts = parts.into_iter().filter(|(_, _, begun, ended)| ended > begun);
    spans.extend(parts.map(|(name, kind, begun, ended)| part(name, kind, &id, (begun, ended))));
}

fn part(name: &str, kind: SpanKind, parent: &str, (begun, ended): (SystemTime, SystemTime)) -> TraceSpan {
    let attributes = if name == "redis" { vec![("db.system.name", json!("redis"))] } else { Vec::new() };
    let (id, parent) = (span_id(), parent.to_owned());
    TraceSpan { name: name.to_owned(), kind, id, parent, begun, ended, has_failed: false, attributes }
}

/// Hands over all spans of a request that has been answered, if it is sampled; `spans` are those of what was done for it.
pub fn hand_over(ids: &RequestIds, mut spans: Vec<TraceSpan>, tracer: Option<&Tracer>, request: &RequestSpan<'_>) {
    let Some((tracer, trace)) = sampled(ids, tracer) else { return };
    let RequestSpan { method, path, status, outcome, begun } = *request;
    let anchor = ClockAnchor::now();
    spans.push(TraceSpan {
        name: format!("{method} {path}"),
        kind: SpanKind::Server,
        id: trace.span_id().to_owned(),
        parent: trace.parent_span_id().to_owned(),
        begun: anchor.wall(begun),
        ended: anchor.wall(Instant::now()),
        has_failed: status >= 500,
        attributes: vec![
            ("http.request.method", json!(method)),
            ("url.path", json!(path)),
            ("http.response.status_code", json!(status)),
            ("cache_sync.outcome", json!(outcome)),
            ("cache_sync.request_id", json!(ids.id.as_str())),
        ],
    });
    tracer.hand_over(TracedSpans { trace: trace.clone(), spans });
}
