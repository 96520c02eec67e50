//! Spans of sampled requests reach a collector, and a collector that is gone holds nothing up.

use std::io::Read;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use prost::Message;
use serde_json::json;

use crate::support::{Blob, BlobServer, Builder, PATIENCE, Stage, eventually, get, set_blob, set_inline};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const PATH: &str = "/v1/traces";

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

fn collector() -> BlobServer {
    let collector = BlobServer::start();
    collector.put(PATH, Blob::bytes(ExportTraceServiceResponse::default().encode_to_vec()));
    collector
}

fn stage(collector: &BlobServer) -> Stage {
    stage_with(collector, |daemon| daemon)
}

fn stage_with(collector: &BlobServer, more: impl FnOnce(Builder) -> Builder) -> Stage {
    let endpoint = collector.url("/");
    Stage::with(|daemon| {
        more(daemon.set("traces.endpoint", endpoint).set("cluster", "blue").set("sources.s.value", "facts"))
    })
}

/// What the collector has received, request by request.
fn received(collector: &BlobServer) -> Vec<ResourceSpans> {
    let decoded = |(head, body): (String, Vec<u8>)| {
        let head = head.to_lowercase();
        assert!(head.contains("content-type: application/x-protobuf"), "{head}");
        let mut plain = Vec::new();
        match head.contains("content-encoding: gzip") {
            true => GzDecoder::new(&*body).read_to_end(&mut plain).expect("gzip"),
            false => body.as_slice().read_to_end(&mut plain).expect("a body"),
        };
        ExportTraceServiceRequest::decode(&*plain).expect("protobuf").resource_spans
    };
    collector.heads().into_iter().zip(collector.bodies()).flat_map(decoded).collect()
}

/// Every span that the collector has received.
fn spans(collector: &BlobServer) -> Vec<Span> {
    received(collector).into_iter().flat_map(|told| told.scope_spans).flat_map(|scope| scope.spans).collect()
}

#[track_caller]
fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no span {name}: {spans:#?}"))
}

fn text(attributes: &[KeyValue], name: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == name)?.value.clone()?.value?;
    Some(match value {
        Value::StringValue(text) => text,
        other => format!("{other:?}"),
    })
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn post(stage: &Stage, body: &serde_json::Value) -> u16 {
    stage.daemon.post_with(&[("traceparent", &parent("01"))], body.to_string().as_bytes()).status
}

fn count(stage: &Stage, outcome: &str) -> f64 {
    stage.daemon.metric("cache_sync_spans_total", &[&format!("outcome=\"{outcome}\"")])
}

#[test]
fn a_collector_receives_the_spans_of_a_request_from_intake_to_redis() {
    let collector = collector();
    let stage = stage(&collector);
    stage.blobs.put("/slow", Blob::bytes("value").delay(Duration::from_millis(120)));
    let url = stage.blobs.url("/slow?sig=SECRET");
    // The second waits for the first.
    let body = json!([set_blob("k", &url), set_inline("k", "2")]).to_string();
    let headers = [("traceparent", &*parent("01")), ("tracestate", "rojo=1,congo=t61")];
    assert_eq!(stage.daemon.post_with(&headers, body.as_bytes()).status, 200);
    assert!(eventually(PATIENCE, || collector.answered(PATH) > 0));
    let spans = spans(&collector);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE && span.trace_state == "rojo=1,congo=t61"));
    let request = named(&spans, "POST /events");
    assert_eq!((hex(&request.parent_span_id), request.kind), (CALLER.to_owned(), SpanKind::Server as i32));
    assert_eq!(text(&request.attributes, "http.response.status_code").as_deref(), Some("IntValue(200)"));
    assert_eq!(named(&spans, "validation").parent_span_id, request.span_id);
    let events: Vec<&Span> = spans.iter().filter(|span| span.name == "SET").collect();
    assert!(events.len() == 2 && events.iter().all(|event| event.parent_span_id == request.span_id), "{spans:#?}");
    let inside = |event: &Span, name: &str| {
        spans.iter().find(|span| span.name == name && span.parent_span_id == event.span_id).cloned()
    };
    let lasted = |span: &Span| span.end_time_unix_nano - span.start_time_unix_nano;
    let (fetch, redis) = (inside(events[0], "fetch").expect("a fetch"), inside(events[0], "redis").expect("a write"));
    assert!(fetch.kind == SpanKind::Client as i32 && lasted(&fetch) >= 100_000_000, "{fetch:#?}");
    assert!(redis.start_time_unix_nano >= fetch.end_time_unix_nano, "{redis:#?}");
    assert_eq!(text(&redis.attributes, "db.system.name").as_deref(), Some("redis"));
    let waiting = inside(events[1], "waiting").expect("the second waits");
    assert!(lasted(&waiting) >= 100_000_000, "{waiting:#?}");
    assert!(inside(events[1], "redis").is_some() && inside(events[1], "fetch").is_none(), "{spans:#?}");
    for span in &spans {
        let (from, to) = (span.start_time_unix_nano, span.end_time_unix_nano);
        assert!(from <= to && from >= request.start_time_unix_nano, "{span:#?}");
        assert!(to <= request.end_time_unix_nano + 1_000_000, "{span:#?} ends after {request:#?}");
    }
    assert!(!String::from_utf8_lossy(&collector.bodies().concat()).contains("SECRET"));
    assert!(eventually(PATIENCE, || count(&stage, "exported") >= spans.len() as f64));
    let resource = received(&collector)[0].resource.clone().expect("a resource").attributes;
    let said = ["service.name", "k8s.cluster.name", "telemetry.sdk.name"].map(|name| text(&resource, name));
    assert_eq!(said.map(Option::unwrap_or_default), ["redis-cache-sync", "blue", "opentelemetry"]);
}

#[test]
fn only_what_the_caller_samples_is_exported() {
    let collector = collector();
    let stage = stage(&collector);
    let body = get(json!("k")).to_string();
    stage.daemon.post_with(&[], body.as_bytes());
    stage.daemon.post_with(&[("traceparent", &parent("00"))], body.as_bytes());
    let headers = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "s"), ("ce-type", "unknown")];
    let parent = parent("01");
    let headers = [&headers[..], &[("ce-traceparent", &parent), ("content-type", "application/json")]].concat();
    assert_eq!(stage.daemon.post_to("/sources/s", &headers, b"{}").status, 200);
    assert!(eventually(PATIENCE, || collector.answered(PATH) > 0));
    let spans = spans(&collector);
    assert_eq!(hex(&named(&spans, "POST /sources/s").parent_span_id), CALLER);
    assert!(!spans.iter().any(|span| span.name == "POST /events"), "{spans:#?}");
}

#[test]
fn a_failure_shows_in_its_span() {
    let collector = collector();
    let stage = stage(&collector);
    assert_eq!(post(&stage, &json!([set_blob("k", &stage.blobs.url("/gone")), set_inline("l", "1")])), 207);
    assert!(eventually(PATIENCE, || collector.answered(PATH) > 0));
    let is_error = |span: &Span| span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error);
    let failed: Vec<bool> = spans(&collector).iter().filter(|span| span.name == "SET").map(is_error).collect();
    assert_eq!(failed, [true, false]);
}

#[test]
fn what_the_environment_says_of_headers_resource_and_compression_holds_and_what_it_says_of_the_way_does_not() {
    let collector = collector();
    collector.put_sequence(PATH, vec![Blob::status(400), Blob::bytes("")]);
    let stage = stage_with(&collector, |daemon| {
        daemon
            .env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20S3CRET,x-tenant=blue")
            .env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
            .env("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")
            .env("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=shop,k8s.pod.name=pod-7")
            .env("OTEL_SERVICE_NAME", "prices")
            .set("log_level", "debug")
    });
    assert_eq!(post(&stage, &set_inline("k", "v")), 200);
    stage.daemon.log_line(|line| line.contains("spans cannot be exported") && line.contains("answered 400"));
    assert_eq!(post(&stage, &set_inline("k", "v")), 200);
    stage.daemon.log_line(|line| line.contains("spans can be exported again"));
    for head in collector.heads() {
        let head = head.to_lowercase();
        for line in ["authorization: bearer s3cret", "x-tenant: blue", "content-encoding: gzip"] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
        }
    }
    let resource = received(&collector)[0].resource.clone().expect("a resource").attributes;
    let names = ["service.name", "service.namespace", "k8s.pod.name", "k8s.cluster.name"];
    let said = names.map(|name| text(&resource, name).unwrap_or_default());
    assert_eq!(said, ["prices", "shop", "pod-7", "blue"]);
    assert!(!stage.daemon.logs().join("\n").contains("S3CRET"));
}

#[test]
fn the_environment_alone_exports_nothing() {
    let collector = collector();
    let endpoint = collector.url("");
    let stage = Stage::with(|daemon| daemon.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint));
    assert_eq!(post(&stage, &set_inline("k", "v")), 200);
    stage.daemon.sigterm();
    let mut stage = stage;
    assert!(stage.daemon.wait_exit(PATIENCE).success());
    assert_eq!(collector.hits(PATH), 0);
}

#[test]
fn a_collector_that_is_busy_for_a_moment_loses_nothing() {
    let collector = collector();
    let busy = || Blob::status(503).header("Retry-After", "1");
    collector.put_sequence(PATH, vec![busy(), Blob::status(502), Blob::bytes("")]);
    let stage = stage(&collector);
    assert_eq!(post(&stage, &set_inline("k", "v")), 200);
    assert!(eventually(PATIENCE, || count(&stage, "exported") >= 4.0), "{:?}", stage.daemon.metrics());
    assert_eq!((collector.hits(PATH), count(&stage, "dropped")), (3, 0.0));
    assert!(!stage.daemon.logs().join("\n").contains("spans cannot be exported"));
}

#[test]
fn spans_that_the_collector_rejects_are_counted_as_dropped() {
    let collector = collector();
    let rejected = ExportTracePartialSuccess { rejected_spans: 2, error_message: "too old".to_owned() };
    let answer = ExportTraceServiceResponse { partial_success: Some(rejected) };
    collector.put(PATH, Blob::bytes(answer.encode_to_vec()));
    let stage = stage(&collector);
    assert_eq!(post(&stage, &set_inline("k", "v")), 200);
    stage.daemon.log_line(|line| line.contains("spans cannot be exported") && line.contains("rejected 2 spans"));
    assert_eq!(count(&stage, "dropped"), 2.0);
    assert_eq!(count(&stage, "exported"), (spans(&collector).len() - 2) as f64);
}

#[test]
fn a_collector_that_hangs_or_is_gone_holds_no_event_up() {
    let collector = collector();
    collector.put(PATH, Blob::hang());
    let stage = stage(&collector);
    // Each has two spans and those of 32 events: more than may wait.
    let events = serde_json::Value::from(vec![set_inline("k", "v"); 40]);
    let begun = Instant::now();
    for _ in 0..250 {
        assert_eq!(post(&stage, &events), 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert!(eventually(PATIENCE, || count(&stage, "dropped") > 0.0));
    stage.daemon.log_line(|line| line.contains("spans cannot be exported") && line.contains("within 5 seconds"));
}

#[test]
fn the_spans_of_the_last_requests_are_exported_before_the_process_ends() {
    let collector = collector();
    let slow = Blob::bytes("").delay(Duration::from_millis(1200));
    collector.put_sequence(PATH, vec![slow, Blob::bytes("")]);
    let mut stage = stage(&collector);
    assert_eq!(post(&stage, &set_inline("k", "v")), 200);
    collector.wait_hits(PATH, 1);
    // These wait until the collector has taken the first.
    for _ in 0..2 {
        assert_eq!(post(&stage, &set_inline("k", "v")), 200);
    }
    stage.daemon.sigterm();
    assert!(stage.daemon.wait_exit(PATIENCE).success());
    let spans = spans(&collector);
    assert_eq!(spans.iter().filter(|span| span.name == "POST /events").count(), 3, "{spans:#?}");
}

#[test]
fn a_collector_that_hangs_keeps_no_process_from_its_end() {
    let collector = collector();
    collector.put(PATH, Blob::hang());
    let mut stage = stage(&collector);
    assert_eq!(post(&stage, &set_inline("k", "v")), 200);
    collector.wait_hits(PATH, 1);
    assert_eq!(post(&stage, &set_inline("k", "v")), 200);
    let begun = Instant::now();
    stage.daemon.sigterm();
    assert!(stage.daemon.wait_exit(PATIENCE).success());
    // Two batches have five seconds each.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    stage.daemon.log_line(|line| line.contains("spans cannot be exported") && line.contains("the service ends"));
}
