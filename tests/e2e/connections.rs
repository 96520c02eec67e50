//! What holds of a connection, whatever comes over it and however it is cut: answers stand in their order, whole, one for
//! each request, and what is no HTTP ends it with a problem document.

use std::fs;

use serde_json::json;

use crate::support::http::request;
use crate::support::{Answer, Blob, BlobServer, Builder, Daemon, Gate, PATIENCE, Wire};
use crate::support::{eventually, get, results, set_blob, set_inline};
use crate::tls::{Authority, Files, default_client};

const JSON: (&str, &str) = ("content-type", "application/json");
const H2C: [(&str, &str); 3] = [
    ("Connection", "Upgrade, HTTP2-Settings"),
    ("Upgrade", "h2c"),
    ("HTTP2-Settings", "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA"),
];

/// Answers to GETs of values that read like answers, each written in many pieces. A piece may begin anywhere, so the values
/// are shifted byte by byte: pieces of some begin where a status line does.
fn values_come_back_whole(open: impl Fn() -> Wire) {
    let line = "HTTP/1.1 400 ";
    for shift in 0..line.len() {
        let value = ["-".repeat(shift), line.repeat(600_000 / line.len())].concat();
        let mut wire = open();
        wire.send_request("POST", "/events", &[JSON], set_inline("k", &value).to_string().as_bytes());
        results(&wire.answer(), 200, "ok");
        let ask = request("POST", "/events", &[JSON], get(json!("k")).to_string().as_bytes());
        let taken = |answer: Answer| assert!(answer.json()["results"][0]["value"] == *value, "another value came back");
        wire.send(&ask);
        taken(wire.answer());
        wire.send(&[ask.clone(), request("HEAD", "/live", &[], b""), ask, request("GET", "/nope", &[], b"")].concat());
        taken(wire.answer());
        assert_eq!(wire.answer_to_head().status, 200);
        taken(wire.answer());
        wire.answer().problem(404, "not-found");
    }
}

#[test]
fn a_value_that_reads_like_answers_comes_back_whole() {
    let daemon = Daemon::embedded();
    values_come_back_whole(|| Wire::narrow(daemon.address()));
}

#[test]
fn over_tls_too() {
    let authority = Authority::new();
    let files = Files::of(&authority.vouch_for("127.0.0.1"));
    let client = default_client(&authority);
    let daemon = files.builder().start();
    values_come_back_whole(|| Wire::narrow_tls(daemon.address(), client.clone()));
}

#[test]
fn broken_chunks_and_garbage_behind_a_good_request_get_one_problem_document_each() {
    let daemon = Daemon::embedded();
    let chunked = [JSON, ("Transfer-Encoding", "chunked")];
    let event = get(json!("k")).to_string();
    let good = request("POST", "/events", &[JSON], event.as_bytes());
    let broken = request("POST", "/events", &chunked, b"zz\r\n{}\r\n0\r\n\r\n");
    let late = request("POST", "/events", &chunked, b"2\r\n{}xx0\r\n\r\n");
    let zipped = request("POST", "/events", &[chunked[0], chunked[1], ("content-encoding", "gzip")], b"1\r\n\x1fxx");
    let cases = [
        ("broken", broken, vec![400]),
        ("broken later", late, vec![400]),
        ("broken gzip", zipped, vec![400]),
        ("good, garbage", [good.clone(), b"\x16\x03\x01\r\n\r\n".to_vec()].concat(), vec![200, 400]),
        ("good, good, garbage", [good.clone(), good, b"nonsense\r\n\r\n".to_vec()].concat(), vec![200, 200, 400]),
    ];
    for (name, bytes, statuses) in &cases {
        let mut wire = daemon.wire();
        wire.send(bytes);
        for status in statuses {
            let answer = wire.try_answer(false).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(answer.status, *status, "{name}: {}", answer.text());
            if *status == 400 {
                answer.problem(400, "malformed-request");
                assert_eq!(answer.header("connection"), Some("close"), "{name}");
            }
        }
        assert!(wire.is_closed(), "{name}: something came behind");
    }
    let refused = || daemon.metric("cache_sync_refused_requests_total", &["malformed-request"]);
    assert!(eventually(PATIENCE, || refused() == cases.len() as f64), "{}", refused());
    assert!(!daemon.logs().iter().any(|line| line.contains("hung-up")), "{}", daemon.logs().join("\n"));
}

#[test]
fn what_is_pipelined_behind_the_last_request_is_not_carried_out() {
    let daemon = Daemon::embedded();
    for last in [("Connection", "close"), ("connection", "Keep-Alive, Close")] {
        let mut wire = daemon.wire();
        let first = request("POST", "/events", &[JSON, last], set_inline("first", "1").to_string().as_bytes());
        let second = request("POST", "/events", &[JSON], set_inline("second", "2").to_string().as_bytes());
        wire.send(&[first, second.clone(), second].concat());
        let answer = wire.answer();
        results(&answer, 200, "ok");
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(wire.is_closed());
        let kept = daemon.post(&get(json!(["first", "second"]))).json();
        assert_eq!((&kept["results"][0]["status"], &kept["results"][1]["status"]), (&json!("hit"), &json!("miss")));
    }
}

#[test]
fn an_offer_of_http_2_is_ignored_and_the_connection_kept() {
    let daemon = Daemon::embedded();
    let mut wire = daemon.wire();
    let event = set_inline("k", "Upgrade: h2c").to_string();
    for _ in 0..3 {
        wire.send_request("POST", "/events", &[H2C[0], H2C[1], H2C[2], JSON], event.as_bytes());
        let answer = wire.answer();
        results(&answer, 200, "ok");
        assert_eq!((answer.header("connection"), answer.header("upgrade")), (None, None));
    }
    let socket = [("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket")];
    wire.send_request("GET", "/live", &socket, b"");
    assert_eq!(wire.answer().status, 200);
    wire.send_request("POST", "/events", &[JSON], get(json!("k")).to_string().as_bytes());
    assert_eq!(wire.answer().json()["results"][0]["value"], "Upgrade: h2c");
}

#[test]
fn an_offer_that_comes_in_pieces_or_behind_another_request_is_ignored_too() {
    let daemon = Daemon::embedded();
    let event = set_inline("k", "v").to_string();
    let offers = request("POST", "/events", &[H2C[0], H2C[1], H2C[2], JSON], event.as_bytes());
    let socket = request("GET", "/live", &[("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket")], b"");
    let mut wire = daemon.wire();
    let find = |word: &str| offers.windows(word.len()).position(|part| part == word.as_bytes()).expect("it is there");
    // Within each word that matters, so that the first part has been read when the second comes.
    for word in ["Connection", "Upgrade, HTTP2", "Upgrade: h2c", "h2c", "HTTP2-Settings:"] {
        for cut in [find(word) + 1, find(word) + word.len() - 1] {
            let (first, second) = offers.split_at(cut);
            wire.send(first);
            // What one connection reads late, another one reads no sooner.
            assert_eq!(daemon.get("/live").status, 200);
            wire.send(second);
            let answer = wire.answer();
            results(&answer, 200, "ok");
            assert_eq!(answer.header("connection"), None, "cut in {word:?}");
        }
    }
    wire.send(&[&offers[..], &socket, &offers, &socket, &offers].concat());
    for at in 0..5 {
        let answer = wire.answer();
        assert_eq!((answer.status, answer.header("connection")), (200, None), "{at}");
    }
    wire.send(&offers);
    assert_eq!(wire.answer().status, 200, "the connection is kept");
}

/// Two requests in one packet, the first of which takes its time.
#[test]
fn what_is_wrong_with_a_request_costs_no_answer_to_one_before_it() {
    let (daemon, blobs) = (Daemon::embedded(), BlobServer::start());
    let chunked = [JSON, ("Transfer-Encoding", "chunked")];
    let broken = request("POST", "/events", &chunked, b"zz\r\n{}\r\n0\r\n\r\n");
    let late = request("POST", "/events", &chunked, b"2\r\n{}xx0\r\n\r\n");
    let half = request("POST", "/events", &[JSON, ("Content-Length", "1000")], b"{");
    let long = request("GET", "/live", &[("x", &"x".repeat(140_000))], b"");
    let cases = [
        ("broken", broken, 400),
        ("broken later", late, 400),
        ("garbage", b"\x16\x03\x01\r\n\r\n".to_vec(), 400),
        ("a head without end", long[..long.len() - 4].to_vec(), 431),
        ("half a body", half, 408),
    ];
    for (number, (name, bad, status)) in cases.into_iter().enumerate() {
        let (gate, path) = (Gate::closed(), format!("/{number}"));
        blobs.put(&path, Blob::bytes("x").gate(&gate));
        let hasty = Daemon::builder().embedded().set("http.body_timeout_ms", 300);
        let of_its_own = (status == 408).then(|| hasty.start());
        let daemon = of_its_own.as_ref().unwrap_or(&daemon);
        let event = set_blob("k", &blobs.url(&path)).to_string();
        let mut wire = daemon.wire();
        wire.send(&[request("POST", "/events", &[JSON], event.as_bytes()), bad].concat());
        blobs.wait_hits(&path, 1);
        gate.open();
        results(&wire.try_answer(false).unwrap_or_else(|error| panic!("{name}: {error}")), 200, "ok");
        let answer = wire.try_answer(false).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        assert!(wire.is_closed(), "{name}: something came behind");
    }
}

fn called(daemon: &Daemon, path: &str, host: &str) -> Answer {
    daemon.raw(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
}

#[test]
fn an_open_service_answers_to_its_own_names_alone() {
    let open = Daemon::builder().embedded().set("http.hosts", "cache-sync").start();
    for path in ["/live", "/metrics", "/", "/nope"] {
        for foreign in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", ""] {
            called(&open, path, foreign).problem(421, "misdirected-request");
        }
        for ours in ["127.0.0.1", "10.1.2.3:8080", "[::1]:80", "LOCALHOST", "cache-sync:8080"] {
            assert_ne!(called(&open, path, ours).status, 421, "{path} {ours}");
        }
    }
    let event = set_inline("k", "v").to_string();
    let rebound =
        format!("POST /events HTTP/1.1\r\nHost: evil.example\r\nContent-Length: {}\r\n\r\n{event}", event.len());
    open.raw(rebound.as_bytes()).problem(421, "misdirected-request");
    assert_eq!(open.post(&get(json!("k"))).json()["results"][0]["status"], "miss");
    let absolute = b"GET http://evil.example/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
    open.raw(absolute).problem(421, "misdirected-request");
    assert_eq!(open.raw(b"GET /live HTTP/1.0\r\n\r\n").status, 200, "HTTP/1.0 need not say");
    let locked = Daemon::builder().embedded().set("auth.tokens", "0123456789abcdef").start();
    assert_eq!(called(&locked, "/live", "evil.example").status, 200);
}

#[test]
fn idle_connections_are_kept_for_their_time_and_new_ones_beyond_the_most_wait() {
    let builder = Daemon::builder().embedded().unready().set("http.workers", 1);
    let daemon = builder.set("http.max_connections", 2).set("http.keep_alive_seconds", 1).start();
    let live = request("GET", "/live", &[], b"");
    let mut open: Vec<Wire> = (0..2).map(|_| daemon.wire()).collect();
    for wire in &mut open {
        wire.send(&live);
        assert_eq!(wire.answer().status, 200);
    }
    let mut waiting = daemon.wire();
    waiting.send(&live);
    // Nothing is refused: it is answered as soon as the idle ones have had their time.
    assert_eq!(waiting.answer().status, 200);
    assert!(open.iter_mut().any(Wire::is_closed));
}

#[test]
fn a_request_of_http_1_0_costs_no_other_connection() {
    let daemon = Daemon::builder().embedded().set("http.workers", 1).start();
    let live = request("GET", "/live", &[], b"");
    for old in [&b"GET /live HTTP/1.0\r\n\r\n"[..], b"GET /live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"] {
        let mut kept = daemon.wire();
        kept.send(&live);
        assert_eq!(kept.answer().status, 200);
        assert_eq!(daemon.raw(old).status, 200);
        for _ in 0..3 {
            kept.send(&live);
            assert_eq!(kept.answer().status, 200, "it was closed");
        }
    }
    let mut old = daemon.wire();
    for _ in 0..3 {
        old.send(b"GET /live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let answer = old.answer();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("keep-alive")));
    }
}

/// The head of a POST whose sender waits for leave to send its body.
fn expecting(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    request("POST", path, &[headers, &[("Expect", "100-continue")]].concat(), b"")
}

#[test]
fn a_refusal_is_the_answer_to_an_expectation_where_the_head_shows_it() {
    let daemon = Daemon::builder().embedded().set("auth.tokens", "0123456789abcdef").start();
    let (token, length) = (("authorization", "Bearer 0123456789abcdef"), ("content-length", "10"));
    let cases = [
        (expecting("/events", &[length]), 401),
        (expecting("/nope", &[length]), 404),
        (expecting("/live", &[length]), 405),
        (expecting("/events", &[length, token, ("content-type", "text/xml")]), 415),
        (expecting("/events", &[token, JSON, ("content-length", "99999999")]), 413),
    ];
    for (head, status) in cases {
        let mut wire = daemon.wire();
        wire.send(&head);
        assert_eq!(wire.answer().status, status);
    }
    let mut wire = daemon.wire();
    let event = get(json!("k")).to_string();
    wire.send(&expecting("/events", &[token, JSON, ("content-length", &event.len().to_string())]));
    let interim = wire.answer_to_head();
    assert_eq!((interim.status, interim.headers.len()), (100, 0));
    wire.send(event.as_bytes());
    assert_eq!(wire.answer().status, 200);
    wire.send_request("POST", "/events", &[token, JSON], event.as_bytes());
    assert_eq!(wire.answer().status, 200, "the connection is kept");
}

#[test]
fn who_waits_for_leave_is_told_of_another_name_and_of_the_end_of_the_service_at_once() {
    let (daemon, blobs) =
        (Daemon::builder().embedded().set("fetch.allowed_hosts", "127.0.0.1").start(), BlobServer::start());
    let length = ("content-length", "10");
    let mut wire = daemon.wire();
    wire.send(b"POST /events HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n");
    wire.answer().problem(421, "misdirected-request");

    // Something to finish, so that it drains for as long as it takes.
    let gate = Gate::closed();
    blobs.put("/slow", Blob::bytes("x").gate(&gate));
    let mut slow = daemon.wire();
    slow.send_request("POST", "/events", &[JSON], set_blob("k", &blobs.url("/slow")).to_string().as_bytes());
    blobs.wait_hits("/slow", 1);
    let mut before = daemon.wire();
    daemon.sigterm();
    daemon.log_line(|line| line.contains("draining"));
    for wire in [&mut before, &mut daemon.wire()] {
        wire.send(&expecting("/events", &[JSON, length]));
        let answer = wire.answer();
        answer.problem(503, "shutting-down");
        assert_eq!(answer.header("connection"), Some("close"));
    }
    gate.open();
    results(&slow.answer(), 200, "ok");
}

fn hasty() -> Builder {
    Daemon::builder().embedded().set("http.head_timeout_ms", 300)
}

#[test]
fn half_a_head_behind_a_request_has_a_heads_time_and_an_idle_connection_has_not() {
    let daemon = hasty().start();
    let good = request("POST", "/events", &[JSON], get(json!("k")).to_string().as_bytes());
    let live = request("GET", "/live", &[], b"");
    let chunks = format!("{:x}\r\n{}\r\n0\r\n\r\n", get(json!("k")).to_string().len(), get(json!("k")));
    let chunked = request("POST", "/events", &[JSON, ("Transfer-Encoding", "chunked")], chunks.as_bytes());
    for requests in [vec![&good], vec![&live, &good], vec![&good, &live], vec![&chunked], vec![&chunked, &chunked]] {
        let mut wire = daemon.wire();
        let mut bytes: Vec<u8> = requests.iter().copied().flatten().copied().collect();
        bytes.extend_from_slice(b"GET /li");
        wire.send(&bytes);
        requests.iter().for_each(|_| assert_eq!(wire.answer().status, 200));
        wire.answer().problem(408, "request-timeout");
        assert!(wire.is_closed());
    }
    let mut idle = daemon.wire();
    idle.send(&good);
    assert_eq!(idle.answer().status, 200);
    // Two heads' times of another connection have passed.
    for _ in 0..2 {
        daemon.raw(b"GET /li").problem(408, "request-timeout");
    }
    idle.send(&good);
    assert_eq!(idle.answer().status, 200, "an idle connection is kept");
}

#[test]
fn a_connection_on_which_nothing_was_sent_is_closed_without_a_word() {
    let daemon = hasty().start();
    let mut wire = daemon.wire();
    assert!(wire.is_closed());
    assert_eq!(daemon.metric("cache_sync_refused_requests_total", &["request-timeout"]), 0.0);
    let told: Vec<_> = daemon.logs().into_iter().filter(|line| line.contains("rejected")).collect();
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn of_two_content_types_neither_holds() {
    let daemon = Daemon::embedded();
    let mut wire = daemon.wire();
    let twice = [JSON, ("Content-Type", "application/x-ndjson")];
    wire.send_request("POST", "/events", &twice, get(json!("k")).to_string().as_bytes());
    wire.answer().problem(415, "unsupported-media-type");
}

#[test]
fn paths_are_compared_as_they_are_sent() {
    let daemon = Daemon::embedded();
    let mut wire = daemon.wire();
    for (method, path) in
        [("POST", "/%65vents"), ("GET", "/liv%65"), ("GET", "/%2e/live"), ("POST", "/events%2F"), ("GET", "//live")]
    {
        wire.send_request(method, path, &[], b"");
        wire.answer().problem(404, "not-found");
    }
    wire.send_request("GET", "/live?x=%65", &[], b"");
    assert_eq!(wire.answer().status, 200);
    assert_eq!(daemon.raw(b"GET http://localhost/live HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200);
    assert_eq!(daemon.raw(b"GET http://localhost/liv%65 HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 404);
}

/// Each that is still read on holds a socket beside those that count.
#[test]
fn connections_that_are_being_ended_are_bounded_too() {
    let daemon = Daemon::builder().embedded().set("http.max_connections", 8).start();
    let sockets = || {
        let files = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("a process").flatten();
        files.filter(|file| fs::read_link(file.path()).is_ok_and(|to| to.to_string_lossy().contains("socket:"))).count()
    };
    let (before, mut most) = (sockets(), 0);
    let mut ended: Vec<Wire> = Vec::new();
    for _ in 0..60 {
        let mut wire = daemon.wire();
        wire.send(&request("POST", "/events", &[JSON, ("content-length", "99999999")], b"["));
        wire.answer().problem(413, "payload-too-large");
        ended.push(wire);
        // None of them is silent.
        ended.iter_mut().for_each(|wire| {
            wire.send(b" ");
        });
        most = most.max(sockets().saturating_sub(before));
    }
    assert!(most <= 8 + 16, "{most} sockets");
}
