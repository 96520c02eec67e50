//! The spans of a request that its caller samples: the request itself, its validation, and each event with the parts of its
//! slowest entry. All are made once the answer is known, of what is measured anyway; a request that is not sampled costs
//! nothing.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};

use super::request_ids::{RequestIds, span_id};
use crate::event::outcome::Class;
use crate::event::trace::Trace;
use crate::event::wire::{Answered, EventResult};
use crate::pipeline::work::reply::Verdict;
use crate::telemetry::spans::{ClockAnchor, SpanData, Tracer};

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
) -> Vec<SpanData> {
    let Some(accepted) = accepted else { return Vec::new() };
    let anchor = ClockAnchor::now();
    let accepted_at = anchor.wall(accepted);
    let mut parts = Parts { trace, request: id(trace.span_id()), spans: Vec::new() };
    if let Some(received) = received {
        parts.add("validation", SpanKind::Internal, parts.request, (anchor.wall(received), accepted_at));
    }
    match verdict {
        Verdict::One(answered) => parts.add_event(answered, accepted_at),
        Verdict::Batch(elements) => {
            let answered = elements.iter().filter_map(|element| match element {
                EventResult::Answered(answered) => Some(answered),
                EventResult::Invalid(_) => None,
            });
            answered.take(MAX_EVENTS).for_each(|answered| parts.add_event(answered, accepted_at));
        }
        Verdict::Rejected(_) => {}
    }
    parts.spans
}

/// The spans of a request, while they are made.
struct Parts<'a> {
    trace: &'a Trace,
    request: SpanId,
    spans: Vec<SpanData>,
}

impl Parts<'_> {
    /// The event, and where the time of its slowest entry went. Its parts stand one behind another: waits between them are
    /// shown at the beginning.
    fn add_event(&mut self, answered: &Answered, accepted: SystemTime) {
        let slowest = answered.spent.iter().copied().max_by_key(|spent| spent.total).unwrap_or_default();
        let micros = |micros: u32| Duration::from_micros(micros.into());
        let (total, fetching, cache) = (micros(slowest.total), micros(slowest.fetching), micros(slowest.cache));
        let (ended, class) = (accepted + total, answered.class());
        let event = self.add(answered.event.as_str(), SpanKind::Internal, self.request, (accepted, ended));
        if class != Class::Ok {
            event.status = Status::error("");
        }
        let keys = i64::try_from(answered.targets.len()).unwrap_or(i64::MAX);
        event.attributes =
            vec![KeyValue::new("cache_sync.keys", keys), KeyValue::new("cache_sync.outcome", class.as_str())];
        if let Some(id) = &answered.id {
            event.attributes.push(KeyValue::new("cache_sync.event_id", id.to_string()));
        }
        let id = event.span_context.span_id();
        let cache_from = accepted + total.saturating_sub(cache);
        let fetch_from = accepted + total.saturating_sub(fetching).saturating_sub(cache);
        let parts = [
            ("waiting", SpanKind::Internal, accepted, fetch_from),
            ("fetch", SpanKind::Client, fetch_from, cache_from),
            ("redis", SpanKind::Client, cache_from, ended),
        ];
        for (name, kind, begun, ended) in parts.into_iter().filter(|(_, _, begun, ended)| ended > begun) {
            let part = self.add(name, kind, id, (begun, ended));
            if name == "redis" {
                part.attributes.push(KeyValue::new("db.system.name", "redis"));
            }
        }
    }

    fn add(
        &mut self,
        name: &'static str,
        kind: SpanKind,
        parent: SpanId,
        lasted: (SystemTime, SystemTime),
    ) -> &mut SpanData {
        let id = SpanId::from_bytes(span_id().get().to_be_bytes());
        self.spans.push(span(self.trace, name.into(), kind, (id, parent), lasted));
        let last = self.spans.len() - 1;
        &mut self.spans[last]
    }
}

/// A span of this trace. What cannot be told in its terms is left out: an id of zeros, and a state that breaks its rules.
fn span(
    trace: &Trace,
    name: Cow<'static, str>,
    span_kind: SpanKind,
    (id, parent_span_id): (SpanId, SpanId),
    (start_time, end_time): (SystemTime, SystemTime),
) -> SpanData {
    let trace_id = TraceId::from_hex(trace.trace_id()).unwrap_or(TraceId::INVALID);
    let flags = TraceFlags::new(u8::from_str_radix(trace.flags(), 16).unwrap_or_default());
    let state: TraceState = trace.tracestate().parse().unwrap_or_default();
    let scope = InstrumentationScope::builder(env!("CARGO_CRATE_NAME")).with_version(env!("CARGO_PKG_VERSION"));
    SpanData {
        span_context: SpanContext::new(trace_id, id, flags, false, state),
        parent_span_id,
        parent_span_is_remote: false,
        span_kind,
        name,
        start_time,
        end_time: end_time.max(start_time),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: scope.build(),
    }
}

fn id(digits: &str) -> SpanId {
    SpanId::from_hex(digits).unwrap_or(SpanId::INVALID)
}

/// Hands over all spans of a request that has been answered, if it is sampled; `spans` are those of what was done for it.
pub fn hand_over(ids: &RequestIds, mut spans: Vec<SpanData>, tracer: Option<&Tracer>, request: &RequestSpan<'_>) {
    let Some((tracer, trace)) = sampled(ids, tracer) else { return };
    let RequestSpan { method, path, status, outcome, begun } = *request;
    let anchor = ClockAnchor::now();
    let (name, ids_of) = (format!("{method} {path}"), (id(trace.span_id()), id(trace.parent_span_id())));
    let lasted = (anchor.wall(begun), anchor.wall(Instant::now()));
    let told = SpanData {
        parent_span_is_remote: true,
        status: if status >= 500 { Status::error("") } else { Status::Unset },
        attributes: vec![
            KeyValue::new("http.request.method", method.to_owned()),
            KeyValue::new("url.path", path.to_owned()),
            KeyValue::new("http.response.status_code", i64::from(status)),
            KeyValue::new("cache_sync.outcome", outcome.to_owned()),
            KeyValue::new("cache_sync.request_id", ids.id.as_str().to_owned()),
        ],
        ..span(trace, name.into(), SpanKind::Server, ids_of, lasted)
    };
    spans.push(told);
    tracer.hand_over(spans);
}
