//! Spans of sampled requests reach a collector, and a collector that is gone holds nothing up.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Blob, BlobServer, PATIENCE, Stage, eventually, get, set_blob, set_inline};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const PATH: &str = "/v1/traces";

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

fn collector() -> BlobServer {
    let collector = BlobServer::start();
    collector.put(PATH, Blob::bytes("{}"));
    collector
}

fn stage(collector: &BlobServer) -> Stage {
    let endpoint = collector.url("/");
    Stage::with(|daemon| daemon.set("traces.endpoint", endpoint).set("cluster", "blue").set("sources.s.value", "facts"))
}

/// Every span that the collector has received.
fn spans(collector: &BlobServer) -> Vec<Value> {
    let mut spans = Vec::new();
    for body in collector.bodies() {
        let document: Value = serde_json::from_str(&body).expect("JSON");
        let resource = &document["resourceSpans"][0];
        let service = &resource["resource"]["attributes"][0];
        assert_eq!(
            (&service["key"], &service["value"]["stringValue"]),
            (&json!("service.name"), &json!("redis-cache-sync"))
        );
        spans.extend(resource["scopeSpans"][0]["spans"].as_array().expect("spans").clone());
    }
    spans
}

#[track_caller]
fn named<'a>(spans: &'a [Value], name: &str) -> &'a Value {
    spans.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("no span {name}: {spans:#?}"))
}

fn moment(span: &Value, end: &str) -> u128 {
    span[end].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no {end}: {span}"))
}

#[test]
fn a_collector_receives_the_spans_of_a_request_from_intake_to_redis() {
    let collector = collector();
    let stage = stage(&collector);
    stage.blobs.put("/slow", Blob::bytes("value").delay(Duration::from_millis(120)));
    let body = set_blob("k", &stage.blobs.url("/slow?sig=SECRET")).to_string();
    assert_eq!(stage.daemon.post_with(&[("traceparent", &parent("01"))], body.as_bytes()).status, 200);
    assert!(eventually(PATIENCE, || collector.answered(PATH) > 0));
    let spans = spans(&collector);
    assert!(spans.iter().all(|span| span["traceId"] == TRACE), "{spans:#?}");
    let (request, event) = (named(&spans, "POST /events"), named(&spans, "SET"));
    assert_eq!((&request["parentSpanId"], &request["kind"]), (&json!(CALLER), &json!(2)));
    for inside in ["validation", "SET"] {
        assert_eq!(named(&spans, inside)["parentSpanId"], request["spanId"], "{inside}");
    }
    for inside in ["fetch", "redis"] {
        assert_eq!(named(&spans, inside)["parentSpanId"], event["spanId"], "{inside}");
    }
    for span in &spans {
        let (from, to) = (moment(span, "startTimeUnixNano"), moment(span, "endTimeUnixNano"));
        assert!(from <= to && from >= moment(request, "startTimeUnixNano"), "{span}");
        assert!(to <= moment(request, "endTimeUnixNano") + 1_000_000, "{span} ends after {request}");
    }
    let fetch = named(&spans, "fetch");
    let took = moment(fetch, "endTimeUnixNano") - moment(fetch, "startTimeUnixNano");
    assert!(took >= 100_000_000, "{took} ns");
    assert!(moment(named(&spans, "redis"), "startTimeUnixNano") >= moment(fetch, "endTimeUnixNano"));
    assert!(!collector.bodies().join("").contains("SECRET"));
    assert!(eventually(PATIENCE, || stage.daemon.metric("cache_sync_spans_total", &["outcome=\"exported\""]) >= 5.0));
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
    assert_eq!(named(&spans, "POST /sources/s")["parentSpanId"], CALLER);
    assert!(!spans.iter().any(|span| span["name"] == "POST /events"), "{spans:#?}");
}

#[test]
fn a_failure_shows_in_its_span() {
    let collector = collector();
    let stage = stage(&collector);
    let body = json!([set_blob("k", &stage.blobs.url("/gone")), set_inline("l", "1")]).to_string();
    assert_eq!(stage.daemon.post_with(&[("traceparent", &parent("01"))], body.as_bytes()).status, 207);
    assert!(eventually(PATIENCE, || collector.answered(PATH) > 0));
    let failed: Vec<bool> =
        spans(&collector).iter().filter(|span| span["name"] == "SET").map(|span| span["status"]["code"] == 2).collect();
    assert_eq!(failed, [true, false]);
}

#[test]
fn a_collector_that_hangs_or_is_gone_holds_no_event_up() {
    let collector = collector();
    collector.put(PATH, Blob::hang());
    let stage = stage(&collector);
    let body = set_inline("k", "v").to_string();
    let begun = Instant::now();
    for _ in 0..2_000 {
        assert_eq!(stage.daemon.post_with(&[("traceparent", &parent("01"))], body.as_bytes()).status, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    let dropped = || stage.daemon.metric("cache_sync_spans_total", &["outcome=\"dropped\""]);
    assert!(eventually(PATIENCE, || dropped() > 0.0));
    stage.daemon.log_line(|line| line.contains("spans cannot be exported"));
}
