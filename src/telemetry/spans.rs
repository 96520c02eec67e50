//! Spans of requests that their callers sample, and the document in which a collector takes them (OTLP, JSON over HTTP).
//!
//! Whoever makes spans hands them to a [`Tracer`] and goes on: a bounded number of requests waits for the exporter, and what
//! is beyond is dropped and counted. A collector that is slow or gone costs spans and nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::Metrics;
use crate::event::trace::Trace;

/// Requests whose spans wait for the exporter, at most.
const MAX_WAITING: usize = 1024;
/// What OTLP numbers so.
const ERROR: u8 = 2;

/// A part of the work for a request, with its beginning and its end.
#[derive(Debug)]
pub struct TraceSpan {
    /// What was done: `POST /events`, `SET`, `redis`.
    pub name: String,
    /// Who does it for whom.
    pub kind: SpanKind,
    /// Its own id, 16 hexadecimal digits.
    pub id: String,
    /// The id of the span that it is a part of.
    pub parent: String,
    /// When it began.
    pub begun: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// Whether it failed.
    pub has_failed: bool,
    /// What else is known of it. Holds no value, token or query.
    pub attributes: Vec<(&'static str, Value)>,
}

/// As OTLP numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Inside the service.
    Internal = 1,
    /// A request that the service answers.
    Server = 2,
    /// A request that the service makes.
    Client = 3,
}

/// The spans of one request.
#[derive(Debug)]
pub struct TracedSpans {
    /// The trace that they belong to.
    pub trace: Arc<Trace>,
    /// At least one.
    pub spans: Vec<TraceSpan>,
}

/// The way to the exporter. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tracer {
    waiting: Sender<TracedSpans>,
    metrics: Metrics,
}

impl Tracer {
    /// A tracer, and where its spans come out.
    pub fn new(metrics: Metrics) -> (Self, Receiver<TracedSpans>) {
        let (waiting, spans) = channel(MAX_WAITING);
        (Tracer { waiting, metrics }, spans)
    }

    /// Hands over the spans of a request, or drops them if too many wait.
    pub fn hand_over(&self, spans: TracedSpans) {
        let count = spans.spans.len();
        if self.waiting.try_send(spans).is_err() {
            self.metrics.spans_dropped(count);
        }
    }
}

/// One moment by both clocks, so that others can be told by the clock on the wall.
#[derive(Debug, Clone, Copy)]
pub struct ClockAnchor(Instant, SystemTime);

impl ClockAnchor {
    /// Now.
    pub fn now() -> Self {
        ClockAnchor(Instant::now(), SystemTime::now())
    }

    /// That moment by the clock on the wall.
    pub fn wall(self, moment: Instant) -> SystemTime {
        let ClockAnchor(now, wall) = self;
        match now.checked_duration_since(moment) {
            Some(ago) => wall.checked_sub(ago).unwrap_or(wall),
            None => wall + moment.duration_since(now),
        }
    }
}

/// `resourceSpans` as a collector takes it at `/v1/traces`. `cluster` is left out if it is empty.
pub fn otlp_document(requests: &[TracedSpans], cluster: &str) -> Vec<u8> {
    let mut resource =
        vec![attribute("service.name", &json!("redis-cache-sync")), attribute("service.version", &json!(VERSION))];
    if !cluster.is_empty() {
        resource.push(attribute("k8s.cluster.name", &json!(cluster)));
    }
    let spans: Vec<Value> = requests
        .iter()
        .flat_map(|request| request.spans.iter().map(|one| span(one, request.trace.trace_id())))
        .collect();
    let scope = json!({"scope": {"name": env!("CARGO_CRATE_NAME"), "version": VERSION}, "spans": spans});
    json!({"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": [scope]}]}).to_string().into_bytes()
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn span(span: &TraceSpan, trace_id: &str) -> Value {
    let attributes: Vec<Value> = span.attributes.iter().map(|(name, value)| attribute(name, value)).collect();
    let mut told = json!({
        "traceId": trace_id, "spanId": span.id, "parentSpanId": span.parent,
        "name": span.name, "kind": span.kind as u8, "attributes": attributes,
        "startTimeUnixNano": nanos(span.begun), "endTimeUnixNano": nanos(span.ended.max(span.begun)),
    });
    if span.has_failed {
        told["status"] = json!({"code": ERROR});
    }
    told
}

/// 64-bit numbers are texts in the JSON of OTLP.
fn attribute(name: &str, value: &Value) -> Value {
    let value = match value {
        Value::Number(number) => json!({"intValue": number.to_string()}),
        Value::String(text) => json!({"stringValue": text}),
        other => json!({"stringValue": other.to_string()}),
    };
    json!({"key": name, "value": value})
}

fn nanos(moment: SystemTime) -> String {
    moment.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos().to_string()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    fn traced() -> TracedSpans {
        let parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = Arc::new(Trace::follow(parent, NonZeroU64::MIN).expect("a trace"));
        let begun = UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789);
        let span = TraceSpan {
            name: "SET".to_owned(),
            kind: SpanKind::Client,
            id: "00000000000000aa".to_owned(),
            parent: trace.span_id().to_owned(),
            begun,
            ended: begun + Duration::from_micros(5),
            has_failed: true,
            attributes: vec![("keys", json!(3)), ("outcome", json!("unavailable"))],
        };
        TracedSpans { trace, spans: vec![span] }
    }

    #[test]
    fn the_document_is_that_of_otlp() {
        let document: Value = serde_json::from_slice(&otlp_document(&[traced()], "blue")).expect("JSON");
        let resource = &document["resourceSpans"][0];
        assert_eq!(resource["resource"]["attributes"][2]["value"]["stringValue"], "blue");
        let expected = json!({
            "traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "spanId": "00000000000000aa",
            "parentSpanId": "0000000000000001", "name": "SET", "kind": 3,
            "startTimeUnixNano": "1700000000123456789", "endTimeUnixNano": "1700000000123461789",
            "attributes": [
                {"key": "keys", "value": {"intValue": "3"}},
                {"key": "outcome", "value": {"stringValue": "unavailable"}}
            ],
            "status": {"code": 2}
        });
        assert_eq!(resource["scopeSpans"][0]["spans"], json!([expected]));
    }

    #[test]
    fn what_nobody_takes_is_dropped_and_counted() {
        let metrics = Metrics::new("").expect("metrics");
        let (tracer, mut spans) = Tracer::new(metrics.clone());
        (0..MAX_WAITING + 5).for_each(|_| tracer.hand_over(traced()));
        let text = metrics.encode().expect("text");
        assert!(text.contains(r#"cache_sync_spans_total{outcome="dropped"} 5"#), "{text}");
        assert!(spans.try_recv().is_ok());
    }

    #[test]
    fn a_moment_before_and_one_after_are_told_by_the_other_clock() {
        let anchor = ClockAnchor::now();
        let ClockAnchor(now, wall) = anchor;
        let second = Duration::from_secs(1);
        assert_eq!((anchor.wall(now - second), anchor.wall(now + second)), (wall - second, wall + second));
    }
}
