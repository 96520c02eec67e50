//! What is read of a sender before anybody asks for it: bounded, timed and counted, and enough for everybody to go on.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{Builder, Daemon, Wire, eventually, set_inline};

const JSON: (&str, &str) = ("content-type", "application/json");
const CHUNKED: (&str, &str) = ("transfer-encoding", "chunked");
const KIB: usize = 1024;
const SOON: Duration = Duration::from_secs(10);

/// With room for so many connections that read as much as comes.
fn with_places(places: usize) -> Builder {
    let builder = Daemon::builder().embedded().set("http.workers", 1).set("http.body_timeout_ms", 5000);
    let builder = builder.set("http.max_body_bytes", 500_000).set("fetch.max_blob_bytes", 500_000);
    builder.set("intake.max_in_flight_bytes", 900_000 + places * KIB * KIB)
}

/// About a hundred KiB of events.
fn batch() -> Vec<u8> {
    let events: Vec<Value> = (0..20).map(|n| set_inline(&format!("k{n}"), &"v".repeat(5 * KIB))).collect();
    json!(events).to_string().into_bytes()
}

fn post(wire: &mut Wire) {
    wire.send_request("POST", "/events", &[JSON], &batch());
    assert_eq!(wire.answer().json()["status"], "ok");
}

fn live(wire: &mut Wire) {
    wire.send_request("GET", "/live", &[], b"");
    assert_eq!(wire.answer().status, 200);
}

#[test]
fn a_large_body_is_read_without_a_place_and_what_comes_behind_it_too() {
    let daemon = with_places(0).start();
    let mut wire = daemon.wire();
    for _ in 0..3 {
        post(&mut wire);
        live(&mut wire);
    }
    let body = batch();
    let waits = [JSON, ("content-length", &body.len().to_string()), ("expect", "100-continue")];
    wire.send(&request("POST", "/events", &waits, b""));
    assert_eq!(wire.answer_to_head().status, 100);
    wire.send(&body);
    assert_eq!(wire.answer().json()["status"], "ok");
}

#[test]
fn idle_connections_that_posted_much_keep_no_later_one_from_posting() {
    let daemon = with_places(2).start();
    let mut all: Vec<Wire> = (0..12).map(|_| daemon.wire()).collect();
    for _ in 0..2 {
        all.iter_mut().for_each(post);
    }
    all.iter_mut().for_each(live);
}

#[test]
fn blank_lines_before_a_head_are_part_of_it() {
    let hasty = Daemon::builder().embedded().set("http.head_timeout_ms", 300).start();
    let mut wire = hasty.wire();
    live(&mut wire);
    wire.send(&b"\r\n".repeat(32));
    wire.answer().problem(408, "request-timeout");
    assert!(wire.is_closed());

    let daemon = Daemon::embedded();
    let mut wire = daemon.wire();
    live(&mut wire);
    for _ in 0..40 {
        wire.send(&b"\r\n".repeat(KIB / 2));
    }
    wire.answer().problem(431, "head-too-large");
    assert!(wire.is_closed());

    // A few are left over by old clients.
    let mut wire = daemon.wire();
    live(&mut wire);
    wire.send(b"\r\n\r\n");
    live(&mut wire);
}

#[test]
fn a_body_behind_an_answer_is_not_read_on_and_holds_nothing() {
    let daemon = Daemon::builder().embedded().set("auth.tokens", "0123456789abcdef").start();
    let long = "x".repeat(5 * KIB);
    let counted = || daemon.metric("cache_sync_admission_bytes", &[]);
    for (method, path, status) in [("POST", "/nothing", 404), ("POST", "/events", 401), ("GET", "/live", 200)] {
        let mut wire = daemon.wire();
        wire.send_request(method, path, &[CHUNKED, ("x", &long)], b"4\r\nbody\r\n");
        let answer = wire.answer();
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{path}");
        wire.send(b"4\r\nmore\r\n");
        assert!(wire.is_closed(), "{path}: something came behind");
        assert!(eventually(SOON, || counted() == 0.0), "{path}: {} bytes are counted", counted());
    }
    // One that is whole is no reason to close.
    let mut wire = daemon.wire();
    for (method, path, status) in [("POST", "/nothing", 404), ("POST", "/events", 401), ("GET", "/live", 200)] {
        wire.send_request(method, path, &[CHUNKED], b"4\r\nbody\r\n0\r\n\r\n");
        let answer = wire.answer();
        assert_eq!((answer.status, answer.header("connection")), (status, None), "{path}");
    }
}

#[test]
fn who_waits_for_an_answer_that_closes_sees_the_end_without_sending_more() {
    let daemon = Daemon::embedded();
    let mut wire = daemon.wire();
    wire.send_request("POST", "/nothing", &[CHUNKED], b"4\r\nbody\r\n");
    wire.answer().problem(404, "not-found");
    assert!(wire.is_closed());
}
