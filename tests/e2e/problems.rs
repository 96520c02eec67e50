//! Requests that never become work: which problem document answers them, and which fault goes first.

use serde_json::json;

use crate::support::{Answer, Daemon, get, gzip, results, set_inline};

const JSON: (&str, &str) = ("content-type", "application/json");

fn wire_answer(daemon: &Daemon, method: &str, path: &str) -> Answer {
    let mut wire = daemon.wire();
    wire.send_request(method, path, &[], b"");
    wire.answer()
}

#[test]
fn what_is_not_json_is_malformed_and_says_where() {
    let daemon = Daemon::embedded();
    let bad: &[&[u8]] = &[
        b"",
        b" \n ",
        b"{",
        b"{\"key\":\"GET\"",
        b"[{}",
        b"[1,]",
        b"{'key':1}",
        b"{\"a\":1}}",
        b"{} {}",
        b"nul",
        b"NaN",
        b"{\"a\":01}",
        b"{\"a\":1.}",
        b"{\"a\":+1}",
        b"\"\x01\"",
        b"{\"a\":\"\xff\"}",
        b"{\"a\":\"\\x\"}",
        b"{a:1}",
        b"[1 2]",
        b"{\"a\":\"\\ud8\"}",
        b"// c\n{}",
    ];
    for body in bad {
        let shown = String::from_utf8_lossy(body);
        let answer = daemon.post_with(&[JSON], body);
        assert_eq!(answer.status, 400, "{shown}: {}", answer.text());
        let problem = answer.problem(400, "malformed-json");
        let detail = problem["detail"].as_str().unwrap_or_default().to_lowercase();
        assert!(detail.contains("line") && detail.contains("column"), "{shown}: {problem}");
    }
    let problem = daemon.post_text("{\n  \"key\": \"GET\",,\n}").problem(400, "malformed-json");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("line 2")), "{problem}");
}

#[test]
fn unknown_routes_are_not_found() {
    let daemon = Daemon::embedded();
    for (method, path) in
        [("GET", "/nope"), ("POST", "/nope"), ("POST", "/events/1"), ("PUT", "/live/x"), ("GET", "/EVENTS")]
    {
        wire_answer(&daemon, method, path).problem(404, "not-found");
    }
}

#[test]
fn a_wrong_method_is_told_which_are_allowed() {
    let daemon = Daemon::embedded();
    let cases = [
        ("GET", "/events", "POST"),
        ("PUT", "/events", "POST"),
        ("DELETE", "/events", "POST"),
        ("PATCH", "/events", "POST"),
        ("POST", "/live", "GET"),
        ("POST", "/ready", "GET"),
        ("PUT", "/metrics", "GET"),
        ("DELETE", "/ready", "GET"),
    ];
    for (method, path, allowed) in cases {
        let answer = wire_answer(&daemon, method, path);
        answer.problem(405, "method-not-allowed");
        let allow = answer.header("allow").unwrap_or_else(|| panic!("{method} {path}: no Allow"));
        let allow: Vec<_> = allow.split(',').map(str::trim).collect();
        assert!(allow.contains(&allowed) && !allow.contains(&method), "{method} {path}: {allow:?}");
        assert_eq!(allow.contains(&"HEAD"), allowed == "GET", "{method} {path}: {allow:?}");
    }
}

#[test]
fn head_is_allowed_where_get_is() {
    let daemon = Daemon::embedded();
    let mut wire = daemon.wire();
    for (path, status) in [("/live", 200), ("/ready", 200), ("/metrics", 200), ("/events", 405), ("/nope", 404)] {
        wire.send_request("HEAD", path, &[], b"");
        assert_eq!(wire.answer_to_head().status, status, "{path}");
    }
    wire.send_request("GET", "/live", &[], b"");
    assert_eq!(wire.answer().status, 200, "an answer to HEAD carried a body");
}

#[test]
fn media_types_and_content_codings() {
    let daemon = Daemon::embedded();
    let event = get(json!("k")).to_string();
    let good = ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/x-ndjson"];
    for kind in good {
        assert_eq!(daemon.post_with(&[("content-type", kind)], event.as_bytes()).status, 200, "{kind}");
    }
    for kind in
        ["text/plain", "application/xml", "application/jsonx", "text/json", "application/x-www-form-urlencoded", "json"]
    {
        daemon.post_with(&[("content-type", kind)], event.as_bytes()).problem(415, "unsupported-media-type");
    }
    for coding in ["br", "deflate", "zstd", "gzip, gzip", "x"] {
        let headers = [JSON, ("content-encoding", coding)];
        daemon.post_with(&headers, event.as_bytes()).problem(415, "unsupported-media-type");
    }
    let mut wire = daemon.wire();
    wire.send_request("POST", "/events", &[], event.as_bytes());
    let answer = wire.answer();
    assert_eq!(answer.status, 200, "no content type means JSON: {}", answer.text());
    let of_any_page = [("origin", "https://example.com")];
    let mut wire = daemon.wire();
    wire.send_request("POST", "/events", &of_any_page, event.as_bytes());
    wire.answer().problem(415, "unsupported-media-type");
    assert_eq!(daemon.post_with(&[of_any_page[0], JSON], event.as_bytes()).status, 200);
    assert!(answer.json().get("results").is_some());
}

#[test]
fn gzip_is_understood_and_a_broken_one_refused() {
    let daemon = Daemon::embedded();
    let event = set_inline("k", &"v".repeat(1000)).to_string();
    let packed = gzip(event.as_bytes());
    let headers = [JSON, ("content-encoding", "gzip")];
    results(&daemon.post_with(&headers, &packed), 200, "ok");
    let nd = [("content-type", "application/x-ndjson"), ("content-encoding", "gzip")];
    let answer = daemon.post_with(&nd, &gzip(format!("{event}\n{event}\n").as_bytes()));
    assert_eq!(answer.json()["counts"], json!({"ok": 2, "rejected": 0, "unavailable": 0}));
    let mut flipped = packed.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x5a;
    for broken in [event.as_bytes(), &packed[..packed.len() - 9], &packed[..5], &flipped] {
        daemon.post_with(&headers, broken).problem(400, "malformed-json");
    }
}

#[test]
fn the_first_fault_in_the_order_answers() {
    let settings = Daemon::builder().embedded().set("auth.tokens", "secret").set("http.max_body_bytes", 500);
    let daemon = settings.set("event.max_events", 3).start();
    let token = ("authorization", "Bearer secret");
    let xml = ("content-type", "text/xml");
    let huge = vec![b'{'; 501];
    let four = json!([1, 2, 3, 4]).to_string();
    let mut wire = daemon.wire();
    wire.send_request("DELETE", "/nope", &[xml], &huge);
    wire.answer().problem(404, "not-found");
    let mut wire = daemon.wire();
    wire.send_request("PUT", "/events", &[xml], &huge);
    wire.answer().problem(405, "method-not-allowed");
    daemon.post_with(&[xml], &huge).problem(401, "unauthorized");
    daemon.post_with(&[token, xml], &huge).problem(415, "unsupported-media-type");
    daemon.post_with(&[token, JSON, ("content-encoding", "br")], &huge).problem(415, "unsupported-media-type");
    daemon.post_with(&[token, JSON], &huge).problem(413, "payload-too-large");
    daemon.post_with(&[token, JSON], b"[1,2,3,4").problem(400, "malformed-json");
    daemon.post_with(&[token, JSON], four.as_bytes()).problem(413, "payload-too-large");
    daemon.post_with(&[token, JSON], b"1").problem(422, "invalid-event");
}

#[test]
fn a_request_id_is_taken_over_or_made() {
    let daemon = Daemon::embedded();
    let event = get(json!("k")).to_string();
    let id_of = |given: &str| {
        let answer = daemon.post_with(&[JSON, ("x-request-id", given)], event.as_bytes());
        answer.header("x-request-id").expect("a request id").to_owned()
    };
    let longest = "i".repeat(128);
    for id in ["abc-123", "!~{}", &longest] {
        assert_eq!(id_of(id), id);
    }
    let too_long = "i".repeat(129);
    for id in [too_long.as_str(), "a b", ""] {
        let made = id_of(id);
        assert!(made != id && !made.is_empty() && made.len() <= 128, "{id:?} became {made:?}");
    }
    let made: Vec<_> =
        ["/live", "/nope"].iter().map(|path| daemon.get(path).header("x-request-id").map(str::to_owned)).collect();
    assert!(made.iter().all(Option::is_some) && made[0] != made[1], "{made:?}");
    let mut wire = daemon.wire();
    wire.send_request("GET", "/nope", &[("X-Request-Id", "mine")], b"");
    assert_eq!(wire.answer().header("x-request-id"), Some("mine"));
}

#[test]
fn a_refusal_reaches_a_sender_that_sends_its_whole_body_first() {
    let daemon = Daemon::builder().embedded().set("auth.tokens", "secret").start();
    // More than the buffers between the two hold.
    let body = vec![b' '; 24 << 20];
    let token = ("authorization", "Bearer secret");
    let xml = ("content-type", "text/xml");
    for (path, headers, status) in [
        ("/nope", vec![token], 404),
        ("/live", vec![token], 405),
        ("/events", vec![], 401),
        ("/events", vec![token, xml], 415),
        ("/events", vec![token, JSON], 413),
    ] {
        let mut wire = daemon.wire();
        assert!(wire.send_request("POST", path, &headers, &body), "the connection was reset before {status}");
        assert_eq!(wire.answer().status, status);
        assert!(wire.is_closed());
    }
}

#[test]
fn requests_sent_behind_a_refused_one_are_answered() {
    let daemon = Daemon::embedded();
    let mut wire = daemon.wire();
    let event = get(json!("k")).to_string();
    wire.send_request("POST", "/events", &[JSON], b"{");
    wire.send_request("POST", "/nope", &[JSON], event.as_bytes());
    wire.send_request("POST", "/events", &[("content-type", "text/xml")], event.as_bytes());
    wire.send_request("POST", "/events", &[JSON], b"{}");
    wire.send_request("POST", "/events", &[JSON], event.as_bytes());
    let found: Vec<_> = (0..5).map(|_| wire.answer().status).collect();
    assert_eq!(found, [400, 404, 415, 422, 200]);
}

#[test]
fn a_head_that_is_no_http_is_a_problem_document_too() {
    let daemon = Daemon::embedded();
    let long = format!("GET /live HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(300_000));
    let many = format!("GET /live HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: x\r\n".repeat(200));
    let cases: [(&[u8], u16, &str); 6] = [
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, "malformed-request"),
        (b"GET /live HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n", 400, "malformed-request"),
        (b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "malformed-request"),
        (b"POST /events HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400, "malformed-request"),
        (long.as_bytes(), 431, "head-too-large"),
        (many.as_bytes(), 431, "head-too-large"),
    ];
    for (bytes, status, slug) in cases {
        let answer = daemon.raw(bytes);
        answer.problem(status, slug);
        assert!(answer.header("x-request-id").is_some_and(|id| !id.is_empty()), "{answer:?}");
        assert_eq!(answer.header("connection"), Some("close"));
    }
}

#[test]
fn odd_gzip_is_understood_if_it_is_whole() {
    let daemon = Daemon::embedded();
    let event = get(json!("k")).to_string();
    let coded = [JSON, ("content-encoding", "gzip")];
    let nd = [("content-type", "application/x-ndjson"), ("content-encoding", "gzip")];
    let (first, second) = event.as_bytes().split_at(7);
    let members = [gzip(first), gzip(b""), gzip(second)].concat();
    results(&daemon.post_with(&coded, &members), 200, "ok");
    assert_eq!(daemon.post_with(&nd, &gzip(b"")).status, 200, "gzip of nothing is NDJSON without lines");
    daemon.post_with(&nd, b"").problem(400, "malformed-json");
    let garbage = [gzip(event.as_bytes()), b"garbage".to_vec()].concat();
    daemon.post_with(&coded, &garbage).problem(400, "malformed-json");
    let mut wrong_sum = gzip(event.as_bytes());
    let at = wrong_sum.len() - 8;
    wrong_sum[at] ^= 1;
    daemon.post_with(&coded, &wrong_sum).problem(400, "malformed-json");
}
