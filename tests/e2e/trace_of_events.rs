//! The trace of CloudEvents stands in the events themselves: what a notification does shows in it, in the log, at blob hosts, in
//! exemplars and in spans.

use serde_json::{Value, json};

use crate::support::{Answer, Blob, BlobServer, Builder, Daemon, PATIENCE, Wire, eventually};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const OTHER: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "00f067aa0ba902b7";
const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

fn parent(trace: &str) -> String {
    format!("00-{trace}-{CALLER}-01")
}

/// An object was created at this URL.
fn created(url: &str) -> Value {
    json!({
        "specversion": "1.0", "id": "e", "source": "/s", "type": "Microsoft.Storage.BlobCreated",
        "subject": "/blobServices/default/containers/c/blobs/o", "data": {"url": url, "contentLength": 5}
    })
}

fn traced(mut event: Value, trace: &str) -> Value {
    event["traceparent"] = json!(parent(trace));
    event["tracestate"] = json!("congo=t61");
    event
}

fn daemon() -> Builder {
    let daemon = Daemon::builder().embedded().set("log_format", "json").set("fetch.propagate_trace", true);
    daemon.set("sources.s.format", "auto").set("sources.f.value", "facts")
}

fn notify(daemon: &Daemon, id: &str, kind: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let headers = [&[("content-type", kind), ("x-request-id", id)], headers].concat();
    daemon.post_to("/sources/s", &headers, body.to_string().as_bytes())
}

/// What the line of the request with this id says of its trace and of its parent.
#[track_caller]
fn told(daemon: &Daemon, id: &str) -> Option<(String, String)> {
    let line = daemon.log_line(|line| line.contains(id) && line.contains("\"body\":\"request\""));
    let line: Value = serde_json::from_str(&line).expect("JSON");
    let text = |name: &str| line.get(name).and_then(Value::as_str).map(str::to_owned);
    text("trace_id").zip(text("parent_span_id"))
}

fn of(trace: &str) -> Option<(String, String)> {
    Some((trace.to_owned(), CALLER.to_owned()))
}

#[test]
fn a_structured_event_takes_its_trace_to_the_log_the_blob_host_and_the_exemplars() {
    let blobs = BlobServer::start();
    blobs.put("/c/o", Blob::bytes("value"));
    let daemon = daemon().start();
    let answer = notify(&daemon, "rid-one", STRUCTURED, &[], &traced(created(&blobs.url("/c/o")), TRACE));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(told(&daemon, "rid-one"), of(TRACE));
    let head = blobs.heads().concat().to_lowercase();
    let ours = |line: &str| line.starts_with(&format!("traceparent: 00-{TRACE}-")) && !line.contains(CALLER);
    assert!(head.lines().any(ours) && head.contains("\r\ntracestate: congo=t61\r\n"), "{head}");
    let mut wire = Wire::open(daemon.address());
    wire.send_request("GET", "/metrics", &[("accept", "application/openmetrics-text")], b"");
    let text = wire.answer().text();
    let is_exemplar = |line: &str| line.contains("route=\"/sources\"") || line.contains("/sources/");
    assert!(text.lines().any(|line| is_exemplar(line) && line.contains(&format!("trace_id=\"{TRACE}\""))), "{text}");
}

#[test]
fn what_fails_for_an_event_is_told_of_in_its_trace() {
    let blobs = BlobServer::start();
    blobs.put("/c/o", Blob::status(403));
    let daemon = daemon().start();
    notify(&daemon, "rid-failed", STRUCTURED, &[], &traced(created(&blobs.url("/c/o")), TRACE));
    let line = daemon.log_line(|line| line.contains("rid-failed") && line.contains("event not carried out"));
    assert!(line.contains(TRACE), "{line}");
}

#[test]
fn a_batch_belongs_to_the_one_trace_that_its_events_name_and_to_none_if_they_name_several() {
    let daemon = daemon().start();
    let event = || created("http://127.0.0.1:9/c/o");
    let same = json!([event(), traced(event(), TRACE), traced(event(), TRACE)]);
    let several = json!([traced(event(), TRACE), traced(event(), OTHER)]);
    notify(&daemon, "rid-same", BATCH, &[], &same);
    notify(&daemon, "rid-several", BATCH, &[], &several);
    // As Event Grid sends them: declared as plain JSON.
    notify(&daemon, "rid-plain", "application/json", &[], &same);
    assert_eq!(["rid-same", "rid-several", "rid-plain"].map(|id| told(&daemon, id)), [of(TRACE), None, of(TRACE)]);
}

#[test]
fn the_trace_of_the_request_goes_before_that_of_its_events() {
    let daemon = daemon().start();
    let event = traced(created("http://127.0.0.1:9/c/o"), TRACE);
    let (own, unsampled) = (parent(OTHER), format!("00-{OTHER}-{CALLER}-00"));
    notify(&daemon, "rid-own", STRUCTURED, &[("traceparent", &own)], &event);
    notify(&daemon, "rid-unsampled", STRUCTURED, &[("traceparent", &unsampled)], &event);
    notify(&daemon, "rid-broken", STRUCTURED, &[("traceparent", "nonsense")], &event);
    assert_eq!(
        ["rid-own", "rid-unsampled", "rid-broken"].map(|id| told(&daemon, id)),
        [of(OTHER), of(OTHER), of(TRACE)]
    );
}

#[test]
fn a_binary_event_has_its_trace_and_its_state_in_headers_of_its_own() {
    let blobs = BlobServer::start();
    blobs.put("/c/o", Blob::bytes("value"));
    let daemon = daemon().start();
    let event = created(&blobs.url("/c/o"));
    let parent = parent(TRACE);
    let attributes = ["specversion", "id", "source", "type", "subject"].map(|name| (format!("ce-{name}"), name));
    let attributes: Vec<(&str, &str)> =
        attributes.iter().map(|(header, name)| (&**header, event[name].as_str().expect("a text"))).collect();
    // What is no visible ASCII is percent-encoded; a `tracestate` without `traceparent` means nothing.
    let trace = [("ce-traceparent", &*parent), ("ce-tracestate", "congo=t61,%20rojo=1"), ("tracestate", "foreign=1")];
    for (id, broken) in [("rid-binary", &[][..]), ("rid-beside", &[("traceparent", "nonsense")][..])] {
        let headers = [&attributes[..], &trace[..], broken].concat();
        let answer = notify(&daemon, id, "application/json", &headers, &event["data"]);
        assert_eq!((answer.status, told(&daemon, id)), (200, of(TRACE)), "{}", answer.text());
        let head = blobs.heads().last().cloned().unwrap_or_default().to_lowercase();
        assert!(head.contains("\r\ntracestate: congo=t61, rojo=1\r\n"), "{head}");
    }
}

#[test]
fn the_spans_of_a_structured_event_are_exported() {
    let collector = BlobServer::start();
    collector.put("/v1/traces", Blob::bytes(""));
    let daemon = daemon().set("traces.endpoint", collector.url("")).start();
    let event = traced(created("http://127.0.0.1:9/c/o"), TRACE);
    daemon.post_to("/sources/f", &[("content-type", STRUCTURED)], event.to_string().as_bytes());
    assert!(eventually(PATIENCE, || collector.answered("/v1/traces") > 0));
    let body = collector.bodies().concat();
    let trace = u128::from_str_radix(TRACE, 16).expect("an id").to_be_bytes();
    let has = |bytes: &[u8]| body.windows(bytes.len()).any(|window| window == bytes);
    assert!(has(&trace) && has(b"POST /sources/f") && has(b"validation") && has(b"redis"));
}

#[test]
fn hostile_traces_cost_a_notification_nothing() {
    let daemon = daemon().start();
    let event = |more: &str| {
        let text = created("http://127.0.0.1:9/c/o").to_string();
        format!("{{{more},{}", &text[1..])
    };
    let long = format!("\"traceparent\":\"{}\"", "0".repeat(1_000_000));
    let twice = format!("\"traceparent\":\"{0}\",\"traceparent\":\"{0}\"", parent(TRACE));
    let many: String =
        (0..9_000).map(|_| format!("{},", event(&format!("\"traceparent\":\"{}\"", parent(TRACE))))).collect();
    let cases = [
        event("\"traceparent\":7"),
        event("\"traceparent\":[{\"traceparent\":\"x\"}]"),
        event("\"traceparent\":\"\\u0000\\r\\ntrace_id=1\""),
        event(&long),
        event(&twice),
    ];
    for (number, body) in cases.iter().enumerate() {
        let id = format!("rid-hostile-{number}-");
        let headers = [("content-type", STRUCTURED), ("x-request-id", &*id)];
        let answer = daemon.post_to("/sources/f", &headers, body.as_bytes());
        assert_eq!((answer.status, told(&daemon, &id)), (200, None), "{body:.80}");
    }
    let headers = [("content-type", BATCH), ("x-request-id", "rid-many")];
    let answer = daemon.post_to("/sources/f", &headers, format!("[{}]", many.trim_end_matches(',')).as_bytes());
    assert_eq!((answer.status, told(&daemon, "rid-many")), (200, of(TRACE)));
}
