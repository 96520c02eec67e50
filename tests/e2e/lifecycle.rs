//! Signals, and Redis going away and coming back, all of it under load: nobody is left without an answer.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Blob, BlobServer, Daemon, Gate, PATIENCE, Stage, Wire, eventually, problem_type, results, set_blob, set_inline,
    signal,
};

const SECOND: Duration = Duration::from_secs(1);
const JSON: (&str, &str) = ("content-type", "application/json");

#[track_caller]
pub fn assert_not_ready(daemon: &Daemon) {
    let answer = daemon.get("/ready");
    let json = answer.json();
    assert_eq!((answer.status, &json["status"]), (503, &json!("not_ready")), "{json}");
    let reasons = json["reasons"].as_array().unwrap_or_else(|| panic!("no reasons: {json}"));
    assert!(!reasons.is_empty(), "{json}");
}

#[test]
fn what_a_sender_left_behind_is_told_of_when_the_drain_has_to_end_and_holds_nothing_up() {
    let mut stage = Stage::with(|daemon| daemon.set("http.shutdown_seconds", 2));
    stage.blobs.put("/b", Blob::hang());
    let mut sender = stage.daemon.wire();
    let event = set_blob("k", &stage.blobs.url("/b")).to_string();
    sender.send_request("POST", "/events", &[("x-request-id", "rid-left")], event.as_bytes());
    stage.blobs.wait_hits("/b", 1);
    sender.reset();
    stage.daemon.log_line(|line| line.contains("hung-up") && line.contains("rid-left"));
    stage.daemon.sigterm();
    let line = stage.daemon.log_line(|line| line.contains("event not carried out") && line.contains("rid-left"));
    assert!(line.contains("problem=shutting-down"), "{line}");
    assert_eq!(stage.daemon.wait_exit(10 * SECOND).code(), Some(0));
    assert!(!stage.daemon.logs().iter().any(|line| line.contains("ERROR")), "{:#?}", stage.daemon.logs());
}

#[test]
fn sigterm_finishes_what_was_accepted_and_refuses_what_comes() {
    let mut stage = Stage::with(|daemon| daemon.set("auth.tokens", "secret"));
    let gate = Gate::closed();
    stage.blobs.put("/b", Blob::bytes("blob").gate(&gate));
    let token = ("authorization", "Bearer secret");
    let (daemon, blobs) = (&stage.daemon, &stage.blobs);
    thread::scope(|scope| {
        let held: Vec<_> = (0..10)
            .map(|n| {
                let events = [set_blob(&format!("k{n}"), &blobs.url("/b")), set_inline(&format!("k{n}"), "later")];
                scope.spawn(move || daemon.post_with(&[token, JSON], json!(events).to_string().as_bytes()))
            })
            .collect();
        blobs.wait_hits("/b", 10);
        daemon.sigterm();
        assert!(eventually(2 * SECOND, || daemon.get("/ready").status == 503), "/ready did not turn");
        assert_not_ready(daemon);
        assert_eq!(daemon.get("/live").status, 200);
        for _ in 0..3 {
            let mut wire = daemon.wire();
            wire.send_request("POST", "/events", &[token, ("Content-Type", "text/xml")], b"{");
            let answer = wire.answer();
            answer.problem(503, "shutting-down");
            answer.retry_after();
            assert_eq!(answer.header("connection").map(str::to_lowercase).as_deref(), Some("close"));
            assert!(wire.is_closed());
        }
        daemon.post_with(&[JSON], b"{").problem(401, "unauthorized");
        assert!(held.iter().all(|request| !request.is_finished()));
        gate.open();
        for request in held {
            let answer = request.join().expect("no panic");
            assert_eq!(answer.status, 200, "what was accepted is finished: {}", answer.text());
            assert_eq!(answer.header("connection"), Some("close"), "nothing is to be sent behind it");
        }
    });
    assert_eq!(stage.daemon.wait_exit(5 * SECOND).code(), Some(0));
    for n in 0..10 {
        assert_eq!(stage.redis.value(&format!("k{n}")).as_deref(), Some(b"later".as_slice()));
    }
}

#[test]
fn sigterm_under_load_leaves_no_accepted_request_unanswered() {
    let mut stage = Stage::with(|daemon| daemon);
    stage.blobs.put("/b", Blob::bytes("blob").delay(Duration::from_millis(20)));
    let answered = Mutex::new(HashMap::new());
    let total = AtomicU64::new(0);
    let (daemon, url) = (&stage.daemon, stage.blobs.url("/b"));
    thread::scope(|scope| {
        for client in 0..8u64 {
            let (answered, total, url) = (&answered, &total, &url);
            scope.spawn(move || {
                for n in 0u64.. {
                    let key = format!("{client}:{n}");
                    let event = if n % 3 == 0 { set_blob(&key, url) } else { set_inline(&key, "v") };
                    let Ok(answer) = daemon.try_post(&[JSON], event.to_string().as_bytes()) else {
                        answered.lock().unwrap().insert(key, 0);
                        return;
                    };
                    if answer.status != 200 {
                        answer.problem(503, "shutting-down");
                    }
                    answered.lock().unwrap().insert(key, answer.status);
                    if answer.status != 200 {
                        return;
                    }
                    total.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        assert!(eventually(PATIENCE, || total.load(Ordering::Relaxed) > 300));
        daemon.sigterm();
    });
    assert_eq!(stage.daemon.wait_exit(5 * SECOND).code(), Some(0));
    let mut conn = stage.redis.conn();
    for (key, status) in answered.into_inner().unwrap() {
        let stored: bool = redis::cmd("EXISTS").arg(&key).query(&mut conn).unwrap();
        assert_eq!(stored, status == 200, "{key} was answered {status}");
    }
}

#[test]
fn a_request_on_its_way_when_the_signal_comes_is_answered() {
    let mut daemon = Daemon::embedded();
    let event = set_inline("k", "v").to_string();
    let mut kept: Vec<_> = (0..10).map(|_| daemon.wire()).collect();
    let post = |wire: &mut Wire| {
        wire.send_request("POST", "/events", &[JSON], event.as_bytes());
        wire.try_answer(false)
    };
    assert!(kept.iter_mut().all(|wire| post(wire).is_ok_and(|answer| answer.status == 200)));
    daemon.sigterm();
    assert!(eventually(2 * SECOND, || daemon.try_get("/ready").is_ok_and(|answer| answer.status == 503)));
    for wire in &mut kept {
        let answer = post(wire).expect("an answer on a connection that was kept");
        answer.problem(503, "shutting-down");
        assert_eq!(answer.header("connection"), Some("close"));
    }
    assert_eq!(daemon.wait_exit(5 * SECOND).code(), Some(0));
}

#[test]
fn a_connection_opened_at_the_last_moment_is_answered() {
    let mut daemon = Daemon::embedded();
    let event = set_inline("k", "v").to_string();
    let post = |wire: &mut Wire| {
        wire.send_request("POST", "/events", &[JSON], event.as_bytes());
        wire.try_answer(false)
    };
    let mut kept = daemon.wire();
    assert_eq!(post(&mut kept).expect("an answer").status, 200);
    daemon.sigterm();
    let mut opened = Vec::new();
    thread::scope(|scope| {
        let ended = scope.spawn(|| kept.is_closed());
        while !ended.is_finished() {
            opened.extend(Wire::try_open(daemon.address()));
            thread::sleep(Duration::from_millis(10));
        }
    });
    // The very last may not have been taken on any more.
    for wire in opened.iter_mut().rev().skip(2).take(3) {
        post(wire).expect("an answer").problem(503, "shutting-down");
    }
    assert_eq!(daemon.wait_exit(5 * SECOND).code(), Some(0));
}

#[test]
fn what_cannot_be_finished_in_time_is_answered_all_the_same() {
    for name in ["TERM", "INT"] {
        let mut stage = Stage::with(|daemon| daemon.set("http.shutdown_seconds", 3));
        stage.blobs.put("/b", Blob::bytes("blob").gate(&Gate::closed()));
        let daemon = &stage.daemon;
        let event = set_blob("k", &stage.blobs.url("/b"));
        let begin = thread::scope(|scope| {
            let held = scope.spawn(|| daemon.post(&event));
            stage.blobs.wait_hits("/b", 1);
            let begin = Instant::now();
            signal(daemon.pid(), name);
            let answer = held.join().expect("no panic");
            assert!(begin.elapsed() >= SECOND, "it had two seconds to finish, and got {:?}", begin.elapsed());
            let found = results(&answer, 503, "unavailable");
            assert_eq!(problem_type(&found[0]["problem"]), "shutting-down");
            begin
        });
        assert_eq!(stage.daemon.wait_exit(5 * SECOND).code(), Some(0), "SIG{name}");
        assert!(begin.elapsed() < 4 * SECOND, "{:?}", begin.elapsed());
    }
}

#[test]
fn a_second_signal_exits_at_once() {
    let blobs = BlobServer::start();
    blobs.put("/b", Blob::bytes("blob").gate(&Gate::closed()));
    let mut daemon = Daemon::embedded();
    let mut wire = daemon.wire();
    let body = set_blob("k", &blobs.url("/b")).to_string();
    wire.send_request("POST", "/events", &[JSON], body.as_bytes());
    blobs.wait_hits("/b", 1);
    daemon.sigterm();
    assert!(eventually(2 * SECOND, || daemon.get("/ready").status == 503));
    let begin = Instant::now();
    daemon.sigterm();
    daemon.wait_exit(2 * SECOND);
    assert!(begin.elapsed() < SECOND, "{:?}", begin.elapsed());
}

#[test]
fn an_idle_daemon_ends_at_once() {
    for name in ["TERM", "INT"] {
        let mut daemon = Daemon::embedded();
        let _idle = daemon.wire();
        let begin = Instant::now();
        signal(daemon.pid(), name);
        assert_eq!(daemon.wait_exit(5 * SECOND).code(), Some(0));
        assert!(begin.elapsed() < 3 * SECOND, "SIG{name}: {:?}", begin.elapsed());
    }
}

#[test]
fn connections_are_kept_open_between_requests() {
    let daemon = Daemon::embedded();
    let mut wire = Wire::open(daemon.address());
    for n in 0..50 {
        let body = set_inline("k", &n.to_string()).to_string();
        wire.send_request("POST", "/events", &[JSON], body.as_bytes());
        assert_eq!(wire.answer().status, 200);
    }
}

#[test]
fn a_body_that_is_still_arriving_when_time_is_up_is_answered_too() {
    let mut daemon = Daemon::builder().embedded().set("http.shutdown_seconds", 2).start();
    let mut wire = daemon.wire();
    wire.send(b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{");
    assert!(eventually(2 * SECOND, || daemon.get("/live").status == 200));
    daemon.sigterm();
    let answer = wire.answer();
    answer.problem(503, "shutting-down");
    answer.retry_after();
    assert_eq!(answer.header("connection").map(str::to_lowercase).as_deref(), Some("close"));
    drop(wire);
    assert_eq!(daemon.wait_exit(3 * SECOND).code(), Some(0));
}
