//! Requests that are too slow, too large or too many.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::support::{
    Blob, BlobServer, Daemon, Gate, delete, eventually, get, gzip, gzip_bomb, ndjson, set_blob, set_inline,
};

const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn a_slow_head_or_body_times_out() {
    let settings = Daemon::builder().embedded().set("http.head_timeout_ms", 400).set("http.body_timeout_ms", 400);
    let daemon = settings.start();
    let head = "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n";
    for (name, bytes) in [("body", format!("{head}\r\n{{\"key\":")), ("head", head.to_owned())] {
        let mut wire = daemon.wire();
        let begin = Instant::now();
        wire.send(bytes.as_bytes());
        let answer = wire.answer();
        let took = begin.elapsed();
        answer.problem(408, "request-timeout");
        assert!(answer.header("x-request-id").is_some_and(|id| !id.is_empty()), "slow {name}: {answer:?}");
        assert!((Duration::from_millis(300)..Duration::from_secs(3)).contains(&took), "slow {name}: {took:?}");
    }
}

#[test]
fn a_dripping_body_times_out_all_the_same() {
    let daemon = Daemon::builder().embedded().set("http.body_timeout_ms", 500).start();
    let mut wire = daemon.wire();
    wire.send(b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n");
    let mut writer = wire.writer();
    thread::spawn(move || {
        (0..100).all(|_| writer.write_all(b" ").inspect(|()| thread::sleep(Duration::from_millis(50))).is_ok())
    });
    let begin = Instant::now();
    wire.answer().problem(408, "request-timeout");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[test]
fn an_answer_that_is_not_taken_ends_the_connection() {
    let daemon = Daemon::builder().embedded().set("http.body_timeout_ms", 2000).start();
    // In parts, each of which arrives in time on a machine that is busy.
    let (keys, part) = ((0..15).map(|n| format!("k{n}")).collect::<Vec<_>>(), "x".repeat(1_000_000));
    for key in &keys {
        assert_eq!(daemon.post(&set_inline(key, &part)).status, 200);
    }
    let whole = keys.len() * part.len();
    // With a window so small the kernel keeps little of the answer.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("SO_RCVBUF");
    socket.connect(&daemon.address().into()).expect("the daemon accepts connections");
    let mut idle = TcpStream::from(socket);
    let asked = get(json!(keys)).to_string();
    let head = format!(
        "POST /events HTTP/1.1\r\nhost: localhost\r\nx-request-id: unread-1\r\ncontent-length: {}\r\n\r\n",
        asked.len()
    );
    idle.write_all((head + &asked).as_bytes()).expect("a request");
    let told = daemon.log_line(|line| line.contains("client did not read its answer in time"));
    assert!(told.contains("unread-1"), "{told}");
    let mut taken = Vec::new();
    let _ = idle.read_to_end(&mut taken);
    assert!(taken.len() < whole, "it is whole all the same");
    assert!(daemon.post(&get(json!(keys))).body.len() > whole, "who takes it gets it");
}

#[test]
fn a_body_that_is_too_large_is_refused_however_it_comes() {
    let daemon = Daemon::builder().embedded().set("http.max_body_bytes", 1000).start();
    let event = |len: usize| {
        let empty = set_inline("k", "").to_string().len();
        set_inline("k", &"x".repeat(len - empty)).to_string().into_bytes()
    };
    assert_eq!(daemon.post_with(&[JSON], &event(1000)).status, 200);
    daemon.post_with(&[JSON], &event(1001)).problem(413, "payload-too-large");
    assert_eq!(daemon.post_with(&[JSON, ("content-encoding", "gzip")], &gzip(&event(1000))).status, 200);
    daemon.post_with(&[JSON, ("content-encoding", "gzip")], &gzip(&event(1001))).problem(413, "payload-too-large");
    let bomb = gzip_bomb(4 << 20);
    daemon.post_with(&[JSON, ("content-encoding", "gzip")], &bomb[..900]).problem(413, "payload-too-large");

    let mut wire = daemon.wire();
    wire.send(b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n{");
    wire.answer().problem(413, "payload-too-large");

    let mut wire = daemon.wire();
    wire.send(b"POST /events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..11 {
        wire.send(format!("64\r\n{}\r\n", " ".repeat(100)).as_bytes());
    }
    wire.answer().problem(413, "payload-too-large");
}

#[test]
fn more_events_or_work_than_could_ever_be_taken_is_refused() {
    let daemon = Daemon::builder()
        .embedded()
        .set("event.max_events", 10)
        .set("event.max_keys", 40)
        .set("http.max_body_bytes", 10_240)
        .set("fetch.max_blob_bytes", 10_240)
        .set("intake.max_in_flight_bytes", 10_240)
        .start();
    let events = vec![get(json!("k")); 11];
    assert_eq!(daemon.post(&json!(events[..10])).status, 200);
    daemon.post(&json!(events)).problem(413, "payload-too-large");
    daemon.post_ndjson(&ndjson(&events)).problem(413, "payload-too-large");
    assert_eq!(daemon.post_ndjson(&format!("\n{}\n\n", ndjson(&events[..10]))).status, 200);
    let entries = get(json!(vec!["k"; 30]));
    assert_eq!(daemon.post(&entries).status, 200);
    daemon.post(&json!([entries, entries])).problem(413, "payload-too-large");
}

#[test]
fn full_admission_refuses_at_once_and_only_work() {
    let blobs = BlobServer::start();
    let gate = Gate::closed();
    blobs.put("/slow", Blob::bytes("x").gate(&gate));
    let daemon = Daemon::builder().embedded().set("intake.max_in_flight", 3).set("event.max_events", 3).start();
    let slow: Vec<Value> = (0..3).map(|n| set_blob(&format!("k{n}"), &blobs.url("/slow"))).collect();
    thread::scope(|scope| {
        let held = scope.spawn(|| daemon.post(&json!(slow)));
        assert!(eventually(Duration::from_secs(10), || daemon.metric("cache_sync_admission_events", &[]) == 3.0));
        let begin = Instant::now();
        for body in [get(json!("k")), json!([delete(json!("x"))])] {
            let answer = daemon.post(&body);
            answer.problem(503, "overloaded");
            answer.retry_after();
        }
        assert!(begin.elapsed() < Duration::from_secs(1), "a refusal took {:?}", begin.elapsed());
        let told: HashSet<u64> = (0..40).map(|_| daemon.post(&get(json!("k"))).retry_after()).collect();
        assert!(told.len() > 1, "all are to come back at the same time: {told:?}");
        daemon.post_text(r#"{"key":"GET","value":{"data":""}}"#).problem(422, "invalid-event");
        daemon.post_text("{").problem(400, "malformed-json");
        daemon.post(&json!(vec![get(json!("k")); 4])).problem(413, "payload-too-large");
        assert_eq!(daemon.post_text("[]").status, 200);
        for path in ["/ready", "/live", "/metrics"] {
            assert_eq!(daemon.get(path).status, 200, "full admission does not turn {path}");
        }
        gate.open();
        assert_eq!(held.join().expect("no panic").status, 200);
    });
    assert_eq!(daemon.post(&get(json!("k0"))).status, 200);
    assert!(eventually(Duration::from_secs(5), || daemon.metric("cache_sync_admission_events", &[]) == 0.0));
    assert!(eventually(Duration::from_secs(5), || daemon.metric("cache_sync_admission_bytes", &[]) == 0.0));
}

#[test]
fn the_head_of_every_request_on_a_connection_is_timed() {
    let daemon = Daemon::builder().embedded().set("http.head_timeout_ms", 400).start();
    let mut wire = daemon.wire();
    for _ in 0..2 {
        wire.send_request("GET", "/live", &[], b"");
        assert_eq!(wire.answer().status, 200);
        thread::sleep(Duration::from_millis(600));
    }
    let begin = Instant::now();
    wire.send(b"GET /live HTTP/1.1\r\nHo");
    let mut writer = wire.writer();
    thread::spawn(move || {
        (0..100).all(|_| writer.write_all(b"s").inspect(|()| thread::sleep(Duration::from_millis(50))).is_ok())
    });
    wire.answer().problem(408, "request-timeout");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[test]
fn a_body_may_take_longer_than_a_head() {
    let daemon = Daemon::builder().embedded().set("http.head_timeout_ms", 300).start();
    let event = get(json!("k")).to_string();
    let head = format!("POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n", event.len());
    let mut wire = daemon.wire();
    for expect in ["", "Expect: 100-continue\r\n"] {
        wire.send(format!("{head}{expect}\r\n").as_bytes());
        if !expect.is_empty() {
            assert_eq!(wire.answer_to_head().status, 100);
        }
        for part in event.as_bytes().chunks(event.len() / 3) {
            thread::sleep(Duration::from_millis(250));
            wire.send(part);
        }
        assert_eq!(wire.answer().status, 200, "{expect:?}");
    }
}
