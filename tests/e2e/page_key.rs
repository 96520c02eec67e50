//! `/key.json`: what a key is beside its value.

use serde_json::{Value, json};

use crate::support::{Daemon, Redis, Stage, set_inline};

fn key(daemon: &Daemon, key: &str) -> Value {
    let answer = daemon.get(&format!("/key.json?key={key}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn set(key: &str, version: Value, ttl: Option<u64>) -> Value {
    json!({"key": "SET", "version": version, "value": {"data": {"key": key, "value": "v"}, "ttl": ttl}})
}

fn assert_told(daemon: &Daemon) {
    for event in [set("number", json!(9_007_199_254_740_993_u64), Some(60)), set("text", json!("2026-11"), None)] {
        assert_eq!(daemon.post(&event).status, 200);
    }
    assert_eq!(daemon.post(&set_inline("plain", "v")).status, 200);
    let number = key(daemon, "number");
    assert_eq!(number["version"], json!({"kind": "number", "value": "9007199254740993"}));
    assert!(number["expires_in_ms"].as_u64().is_some_and(|left| (50_000..=60_000).contains(&left)), "{number}");
    let whole = |state: Value| (state["holds"].clone(), state["expires_in_ms"].clone(), state["version"].clone());
    assert_eq!(whole(key(daemon, "text")), (json!(true), json!(null), json!({"kind": "text", "value": "2026-11"})));
    assert_eq!(whole(key(daemon, "plain")), (json!(true), json!(null), json!(null)));
    assert_eq!(whole(key(daemon, "none")), (json!(false), json!(null), json!(null)));
    // A deleted key keeps its version.
    let delete = json!({"key": "DELETE", "version": "2026-12", "value": {"data": "text"}});
    assert_eq!(daemon.post(&delete).status, 200);
    assert_eq!(whole(key(daemon, "text")), (json!(false), json!(null), json!({"kind": "text", "value": "2026-12"})));
    for bad in ["", "?key=", "?key=rcs:v:x", "?other=1"] {
        daemon.get(&format!("/key.json{bad}")).problem(400, "invalid-request");
    }
}

#[test]
fn a_key_is_told_with_its_expiry_and_its_version() {
    assert_told(&Daemon::embedded());
    assert_told(&Stage::new().daemon);
}

#[test]
fn what_redis_does_not_permit_or_answer_is_told_and_the_rest_all_the_same() {
    let mut redis = Redis::start();
    let daemon = Daemon::builder().redis(&redis).set("redis.retry_ms", 200).start();
    daemon.post(&set("k", json!(7), Some(60)));
    redis::cmd("ACL").arg(&["SETUSER", "default", "-pttl"]).exec(&mut redis.conn()).expect("ACL");
    let told = key(&daemon, "k");
    assert_eq!((&told["holds"], &told["version"]["value"]), (&json!(true), &json!("7")));
    assert!(told["trouble"].as_str().is_some_and(|why| why.contains("PTTL")), "{told}");
    redis.kill();
    let told = key(&daemon, "k");
    assert!(told["holds"].is_null() && told["trouble"].as_str().is_some_and(|why| !why.is_empty()), "{told}");
}

#[test]
fn only_who_has_a_token_sees_it_and_without_pages_nobody() {
    let daemon = Daemon::builder().embedded().set("auth.tokens", "one").start();
    daemon.get("/key.json?key=k").problem(401, "unauthorized");
    let mut wire = daemon.wire();
    wire.send_request("GET", "/key.json?key=k", &[("authorization", "Bearer one")], b"");
    assert_eq!(wire.answer().status, 200);
    let daemon = Daemon::builder().embedded().set("http.page", false).start();
    daemon.get("/key.json?key=k").problem(404, "not-found");
}
