//! The pages for a person, and what they show.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Answer, Daemon, Redis, Stage, Wire, delete_pattern, eventually, get, set, set_inline};

const PAGES: [&str; 3] = ["/", "/docs", "/status.json"];

fn status(daemon: &Daemon) -> Value {
    let answer = daemon.get("/status.json");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn on_admin(daemon: &Daemon, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut wire = Wire::open(daemon.admin_address());
    wire.send_request("GET", path, headers, b"");
    wire.answer()
}

fn actor<'a>(status: &'a Value, name: &str) -> &'a Value {
    let actors = status["pipeline"].as_array().expect("a list");
    actors.iter().find(|actor| actor["actor"] == name).unwrap_or_else(|| panic!("no {name}: {status}"))
}

#[test]
fn the_pages_run_their_own_script_only_and_are_shown_in_no_frame() {
    let daemon = Daemon::embedded();
    for path in ["/", "/docs"] {
        let page = daemon.get(path);
        assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
        let policy = page.header("content-security-policy").expect("a policy");
        for directive in ["default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "frame-ancestors 'none'"] {
            assert!(policy.contains(directive), "{path}: no {directive} in {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        assert_eq!(page.header("x-frame-options"), Some("DENY"));
        let text = page.text();
        for inline in [" onclick=", " onload=", " onsubmit=", " style=", "src=", "javascript:"] {
            assert!(!text.contains(inline), "{path} has {inline}");
        }
        let elsewhere = text.split("http").skip(1).filter(|rest| rest.starts_with("://") || rest.starts_with("s://"));
        assert!(elsewhere.clone().all(|rest| rest.starts_with("://www.w3.org/2000/svg")), "{path} names another host");
    }
    for path in PAGES {
        assert_eq!(daemon.get(path).header("x-content-type-options"), Some("nosniff"), "{path}");
        let mut wire = daemon.wire();
        wire.send_request("HEAD", path, &[], b"");
        assert_eq!(wire.answer_to_head().status, 200, "{path}");
        let mut wire = daemon.wire();
        wire.send_request("POST", path, &[], b"");
        let answer = wire.answer();
        answer.problem(405, "method-not-allowed");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{path}");
    }
    daemon.get("/docs/").problem(404, "not-found");
    daemon.get("/status").problem(404, "not-found");
}

#[test]
fn the_status_tells_what_was_done_and_with_what() {
    let stage = Stage::with(|builder| builder.set("cluster", "west").set("redis.pool_size", 3));
    let before = status(&stage.daemon);
    assert_eq!((&before["ready"], &before["reasons"], &before["failures"]), (&json!(true), &json!([]), &json!([])));
    assert_eq!(before["service"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&before["service"]["cluster"], &before["service"]["takes_events"]), (&json!("west"), &json!(true)));
    assert_eq!(before["cache"]["up"], true);
    let place = before["cache"]["where"].as_str().unwrap_or_default();
    assert!(place.contains(&stage.redis.port().to_string()), "{before}");
    assert_eq!(actor(&before, "writer")["running"], 3, "{before}");
    assert_eq!(before["admission"]["max_events"], 20_000);
    assert_eq!(before["queue"], json!({"oldest_age_seconds": 0.0, "delay": {"p50_ms": null, "p99_ms": null}}));
    assert_eq!(before["blobs"], json!({"hosts_down": 0, "hosts": []}));

    stage.ok(&set_inline("k", "v"));
    stage.ok(&get(json!("k")));
    stage.daemon.post(&set(json!({"key": "k", "url": stage.blobs.url("/gone")})));
    let after = status(&stage.daemon);
    assert_eq!(after["events"]["SET"], json!({"ok": 1, "rejected": 1, "unavailable": 0}));
    assert_eq!(after["events"]["GET"]["ok"], 1);
    let (p50, p99) = (after["latency"]["p50_ms"].as_f64(), after["latency"]["p99_ms"].as_f64());
    assert!(p50 > Some(0.0) && p99 >= p50, "{after}");
    assert!(after["cache"]["latency"]["p99_ms"].as_f64() > Some(0.0), "{after}");
    assert!(after["queue"]["delay"]["p99_ms"].as_f64() > Some(0.0), "{after}");
    let host = &after["blobs"]["hosts"][0];
    assert_eq!(host["host"], format!("127.0.0.1:{}", stage.blobs.port()));
    assert!(host["ok"] == 0 && host["failed"] == 1 && host["mean_ms"].as_f64() > Some(0.0), "{after}");
}

#[test]
fn the_history_grows_by_what_happened_in_each_step() {
    let daemon = Daemon::embedded();
    let steps = || status(&daemon)["history"]["steps"].as_u64().unwrap_or_default();
    daemon.post(&json!([set_inline("a", "1"), set_inline("b", "2"), delete_pattern(json!("*"))]));
    assert!(eventually(Duration::from_secs(20), || steps() >= 2), "{}", status(&daemon));
    let history = &status(&daemon)["history"];
    let steps = history["steps"].as_u64().expect("a number") as usize;
    let column = |column: &Value| column.as_array().expect("a column").clone();
    let sum = |kind: &str, outcome: &str| -> u64 {
        let steps = column(&history["events"][kind][outcome]);
        steps.iter().filter_map(Value::as_u64).sum()
    };
    assert_eq!((sum("SET", "ok"), sum("DELETE_PATTERN", "rejected"), sum("GET", "ok")), (2, 1, 0), "{history}");
    for name in ["p50_ms", "p99_ms", "cache_p50_ms", "cache_p99_ms", "admission_events", "admission_bytes"] {
        assert_eq!(column(&history[name]).len(), steps, "{name}: {history}");
    }
    let latencies = column(&history["p99_ms"]);
    assert_eq!(latencies.iter().filter(|latency| latency.is_number()).count(), 1, "{history}");
}

#[test]
fn failures_are_told_with_their_problem_and_without_values_tokens_and_queries() {
    let stage = Stage::with(|builder| builder.set("auth.tokens", "PLANTED-token").set("fetch.attempts", 1));
    let hostile = "<script>alert(1)</script>\"\u{202e}\\";
    let token = ("authorization", "Bearer PLANTED-token");
    let post = |body: &[u8]| stage.daemon.post_with(&[token, ("content-type", "application/json")], body);
    let url = format!("{}?sig=PLANTED-query", stage.blobs.url("/gone"));
    post(json!({"key": "SET", "id": hostile, "value": {"data": url}}).to_string().as_bytes());
    post(br#"{"key":"SET","id":"e-2","value":{"data":{"key":"a","value":"PLANTED-value"},"ttl":"PLANTED"}}"#);
    post(br#"{"key":"SET","value":{"data":{"key":"a","value":"PLANTED-broken""#);
    stage.daemon.post_with(&[("authorization", "Bearer PLANTED-wrong")], b"{}").problem(401, "unauthorized");
    let mut wire = stage.daemon.wire();
    wire.send_request("GET", "/status.json", &[token], b"");
    let answer = wire.answer();
    assert!(!answer.text().contains("PLANTED"), "{}", answer.text());
    let status = answer.json();
    let told: Vec<(&str, &str, &str)> = status["failures"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|failure| {
            let text = |name: &str| failure[name].as_str().unwrap_or_else(|| panic!("no {name}: {failure}"));
            assert!(failure["at_ms"].as_u64() > Some(1_600_000_000_000), "{failure}");
            assert!(!text("detail").is_empty() && !text("request_id").is_empty(), "{failure}");
            (text("event"), text("id"), text("problem"))
        })
        .collect();
    let want = [
        ("", "", "unauthorized"),
        ("", "", "malformed-json"),
        ("SET", "e-2", "invalid-event"),
        ("SET", hostile, "blob-not-found"),
    ];
    assert_eq!(told, want);
}

#[test]
fn only_who_has_a_token_sees_the_status_and_the_page_holds_nothing() {
    let daemon = Daemon::builder().embedded().set("auth.tokens", "one,two").set("cluster", "secret-place").start();
    for headers in [&[][..], &[("authorization", "Bearer three")], &[("authorization", "Basic one")]] {
        let mut wire = daemon.wire();
        wire.send_request("GET", "/status.json", headers, b"");
        let answer = wire.answer();
        answer.problem(401, "unauthorized");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let mut wire = daemon.wire();
    wire.send_request("GET", "/status.json", &[("authorization", "Bearer two")], b"");
    assert_eq!(wire.answer().json()["service"]["cluster"], "secret-place");
    for path in ["/", "/docs", "/openapi.json"] {
        let page = daemon.get(path);
        assert!(page.status == 200 && !page.text().contains("secret-place"), "{path}");
    }
}

#[test]
fn with_webhook_secrets_alone_nobody_sees_the_status() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let daemon = Daemon::builder().embedded().set("auth.webhook_secrets", secret).start();
    daemon.get("/status.json").problem(401, "unauthorized");
    assert_eq!(daemon.get("/").status, 200);
}

#[test]
fn with_a_port_for_operating_the_pages_are_there_and_nowhere_else() {
    let builder = Daemon::builder().embedded().unready().set("admin_port", 0).set("auth.tokens", "t");
    let daemon = builder.start();
    for path in PAGES {
        daemon.get(path).problem(404, "not-found");
    }
    for path in ["/", "/docs"] {
        assert_eq!(on_admin(&daemon, path, &[]).status, 200, "{path}");
    }
    on_admin(&daemon, "/status.json", &[]).problem(401, "unauthorized");
    let status = on_admin(&daemon, "/status.json", &[("authorization", "Bearer t")]).json();
    assert_eq!(status["service"]["takes_events"], false);
    assert_eq!(daemon.get("/openapi.json").json(), on_admin(&daemon, "/openapi.json", &[]).json());
}

#[test]
fn switched_off_there_are_no_pages() {
    let daemon = Daemon::builder().embedded().set("http.page", false).start();
    for path in PAGES {
        daemon.get(path).problem(404, "not-found");
    }
    assert_eq!(daemon.get("/openapi.json").status, 200);
    daemon.post(&get(json!(7))).problem(422, "invalid-event");
}

#[test]
fn an_outage_is_told_while_it_lasts() {
    let mut redis = Redis::start();
    let daemon = Daemon::builder().redis(&redis).set("redis.retry_ms", 200).start();
    redis.kill();
    daemon.post(&set_inline("k", "v"));
    let told = |up: bool| eventually(Duration::from_secs(10), || status(&daemon)["cache"]["up"] == up);
    assert!(told(false), "{}", status(&daemon));
    let down = status(&daemon);
    assert_eq!((&down["ready"], &down["failures"][0]["problem"]), (&json!(false), &json!("cache-unavailable")));
    assert!(down["reasons"][0].as_str().is_some_and(|reason| reason.contains("cannot be reached")), "{down}");
    redis.restart();
    assert!(told(true), "{}", status(&daemon));
    assert!(status(&daemon)["cache"]["reconnects"].as_u64() > Some(0), "{}", status(&daemon));
}
