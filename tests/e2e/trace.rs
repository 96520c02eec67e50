//! W3C Trace Context: whose trace a request belongs to stands on its lines, and goes to blob hosts where that is wanted.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Blob, BlobServer, Builder, Daemon, eventually, get, set_blob, set_inline};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const JSON: (&str, &str) = ("content-type", "application/json");

fn traceparent() -> String {
    format!("00-{TRACE}-{CALLER}-01")
}

fn json_daemon() -> Builder {
    Daemon::builder().embedded().set("log_format", "json").set("log_level", "debug").set("fetch.attempts", 1)
}

/// Posts under this id with these headers beside, and returns all of the request's lines.
fn lines_of(daemon: &Daemon, id: &str, headers: &[(&str, &str)], body: &Value) -> Vec<Value> {
    let headers = [&[JSON, ("x-request-id", id)], headers].concat();
    daemon.post_with(&headers, body.to_string().as_bytes());
    let parsed = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("no JSON ({e}): {line}"));
    daemon.log_line(|line| line.contains(id) && parsed(line)["body"] == "request");
    daemon.logs().iter().filter(|line| line.contains(id)).map(|line| parsed(line)).collect()
}

/// The value of a header in a request's head.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut values = head.lines().filter_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    });
    let value = values.next();
    assert_eq!(values.next(), None, "{name} is there twice:\n{head}");
    value
}

#[test]
fn the_trace_of_the_caller_stands_on_every_line_of_its_request() {
    let daemon = json_daemon().start();
    let invalid = json!({"key": "GET", "id": "bad", "value": {"data": ""}});
    let lines = lines_of(&daemon, "rid-traced", &[("traceparent", &traceparent())], &json!([get(json!("a")), invalid]));
    let bodies: Vec<_> = lines.iter().filter_map(|line| line["body"].as_str()).collect();
    assert_eq!(bodies.len(), 3, "a line an event, a failure and the request: {lines:#?}");
    let span = lines[0]["span_id"].as_str().expect("a span of our own").to_owned();
    assert!(span.len() == 16 && span != CALLER && u64::from_str_radix(&span, 16).is_ok_and(|id| id != 0), "{span}");
    for line in &lines {
        assert!(line["trace_id"] == TRACE && line["span_id"] == span && line["trace_flags"] == "01", "{line}");
        let is_request = line["body"] == "request";
        assert_eq!(line.get("parent_span_id"), is_request.then(|| json!(CALLER)).as_ref(), "{line}");
    }
    let others = lines_of(&daemon, "rid-again", &[("traceparent", &traceparent())], &json!([]));
    assert_ne!(others[0]["span_id"], span.as_str(), "a request is a span");
}

#[test]
fn what_is_turned_away_is_found_by_its_trace_too() {
    let daemon = json_daemon().set("auth.tokens", "secret").start();
    let lines = lines_of(&daemon, "rid-denied", &[("traceparent", &traceparent())], &json!([]));
    assert!(lines.iter().any(|line| line["outcome"] == "unauthorized"), "{lines:#?}");
    assert!(lines.iter().all(|line| line["trace_id"] == TRACE), "{lines:#?}");
}

#[test]
fn what_was_slow_and_what_failed_are_found_by_their_trace() {
    let blobs = BlobServer::start();
    blobs.put("/slow", Blob::bytes("value").delay(Duration::from_millis(200)));
    let daemon = json_daemon().set("log_slow_ms", 100).start();
    let body = json!([set_blob("a", &blobs.url("/slow")), set_blob("b", &blobs.url("/gone"))]);
    let lines = lines_of(&daemon, "rid-slow", &[("traceparent", &traceparent())], &body);
    for said in ["slow operation", "event not carried out"] {
        let line = lines.iter().find(|line| line["body"] == said).unwrap_or_else(|| panic!("{said}: {lines:#?}"));
        assert!(line["trace_id"] == TRACE && line["span_id"].is_string(), "{line}");
    }
}

#[test]
fn without_a_valid_traceparent_no_trace_is_told_of() {
    let daemon = json_daemon().start();
    let (upper, long, later) = (traceparent().to_uppercase(), traceparent() + "-more", traceparent() + "x");
    let zeros = format!("00-{}-{CALLER}-01", "0".repeat(32));
    let valid = traceparent();
    let cases: [&[(&str, &str)]; 7] = [
        &[],
        &[("tracestate", "a=1")],
        &[("traceparent", &upper)],
        &[("traceparent", &long)],
        &[("traceparent", &later)],
        &[("traceparent", &zeros)],
        &[("traceparent", &valid), ("traceparent", &valid)],
    ];
    for (number, headers) in cases.into_iter().enumerate() {
        for line in lines_of(&daemon, &format!("rid-none-{number}-"), headers, &get(json!("a"))) {
            for field in ["trace_id", "span_id", "trace_flags", "parent_span_id"] {
                assert_eq!(line.get(field), None, "{headers:?}: {line}");
            }
        }
    }
    let lines = lines_of(&daemon, "rid-later", &[("traceparent", &format!("cc-{TRACE}-{CALLER}-00-x"))], &json!([]));
    assert!(lines[0]["trace_id"] == TRACE && lines[0]["trace_flags"] == "00", "{lines:#?}");
}

#[test]
fn in_text_the_trace_stands_behind_the_request_id() {
    let daemon = Daemon::embedded();
    let header = traceparent();
    daemon.post_with(&[JSON, ("x-request-id", "rid-text"), ("traceparent", &header)], b"[]");
    let line = daemon.log_line(|line| line.contains("rid-text"));
    assert!(line.contains(&format!(" request_id=rid-text trace_id={TRACE} span_id=")), "{line}");
    assert!(line.ends_with(&format!(" parent_span_id={CALLER} trace_flags=01")), "{line}");
    daemon.post_with(&[JSON, ("x-request-id", "rid-bare")], b"[]");
    assert!(daemon.log_line(|line| line.contains("rid-bare")).ends_with(" request_id=rid-bare"));
}

#[test]
fn a_blob_host_is_told_of_the_trace_where_that_is_wanted() {
    let blobs = BlobServer::start();
    blobs.put("/blob", Blob::bytes("value"));
    let daemon = json_daemon().set("fetch.propagate_trace", true).start();
    let headers = [("traceparent", &*traceparent()), ("tracestate", "congo=t61rcWkgMzE"), ("tracestate", "rojo=1")];
    // Alone on its key, behind another operation on it, and twice in a request.
    let bodies = [
        set_blob("k", &blobs.url("/blob")),
        json!([set_inline("k", "1"), set_blob("k", &blobs.url("/blob"))]),
        json!([set_blob("k", &blobs.url("/blob")), set_blob("k", &blobs.url("/blob"))]),
    ];
    for (number, body) in bodies.iter().enumerate() {
        let before = blobs.heads().len();
        let lines = lines_of(&daemon, &format!("rid-blob-{number}-"), &headers, body);
        let span = lines[0]["span_id"].as_str().expect("a span");
        let heads = blobs.heads().split_off(before);
        assert!(!heads.is_empty());
        for head in heads {
            assert_eq!(header(&head, "traceparent"), Some(&*format!("00-{TRACE}-{span}-01")), "{head}");
            assert_eq!(header(&head, "tracestate"), Some("congo=t61rcWkgMzE,rojo=1"), "{head}");
        }
    }
    let (before, long) = (blobs.heads().len(), "x".repeat(513));
    let headers = [("traceparent", &*traceparent()), ("tracestate", &long)];
    lines_of(&daemon, "rid-long", &headers, &set_blob("k", &blobs.url("/blob")));
    lines_of(&daemon, "rid-untraced", &[("tracestate", "a=1")], &set_blob("k", &blobs.url("/blob")));
    let heads = blobs.heads().split_off(before);
    assert!(header(&heads[0], "traceparent").is_some() && header(&heads[0], "tracestate").is_none(), "{heads:#?}");
    assert!(header(&heads[1], "traceparent").is_none() && header(&heads[1], "tracestate").is_none(), "{heads:#?}");
}

#[test]
fn a_retry_tells_of_the_trace_again_and_a_redirect_to_another_host_does_not() {
    let (blobs, elsewhere) = (BlobServer::start(), BlobServer::start());
    blobs.put("/near", Blob::redirect(&blobs.url("/blob")));
    blobs.put("/far", Blob::redirect(&elsewhere.url("/blob")));
    blobs.put_sequence("/shaky", vec![Blob::status(503), Blob::bytes("value")]);
    for server in [&blobs, &elsewhere] {
        server.put("/blob", Blob::bytes("value"));
    }
    let daemon = json_daemon().set("fetch.propagate_trace", true).set("fetch.attempts", 3).start();
    for path in ["/near", "/far", "/shaky"] {
        let headers = [("traceparent", &*traceparent()), ("tracestate", "a=1")];
        lines_of(&daemon, &format!("rid{}", path.replace('/', "-")), &headers, &set_blob("k", &blobs.url(path)));
    }
    let told = |head: &String| (header(head, "traceparent").is_some(), header(head, "tracestate").is_some());
    assert!(blobs.heads().len() == 5 && blobs.heads().iter().all(|head| told(head) == (true, true)));
    assert_eq!(elsewhere.heads().iter().map(told).collect::<Vec<_>>(), [(false, false)]);
}

#[test]
fn unless_it_is_wanted_no_blob_host_is_told_of_a_trace() {
    let blobs = BlobServer::start();
    blobs.put("/blob", Blob::bytes("value"));
    let daemon = json_daemon().start();
    let headers = [("traceparent", &*traceparent()), ("tracestate", "a=1")];
    lines_of(&daemon, "rid-quiet", &headers, &set_blob("k", &blobs.url("/blob")));
    assert!(eventually(crate::support::PATIENCE, || !blobs.heads().is_empty()));
    let heads = blobs.heads().concat().to_lowercase();
    assert!(!heads.contains("traceparent") && !heads.contains("tracestate") && !heads.contains(TRACE), "{heads}");
}
