//! Rights of tokens: who may read, who may write, and which keys.

use std::fs;

use serde_json::{Value, json};

use crate::journal::{ASYNC, assert_accepted, assert_empty};
use crate::support::http::request;
use crate::support::{
    Answer, Blob, BlobServer, Builder, Daemon, PATIENCE, Redis, delete, delete_pattern, eventually, get, problem_type,
    set, set_blob, set_inline,
};

const READER: &str = "reader-0123456789abcdef";
const SHOP: &str = "shop-0123456789abcdef";
const ADMIN: &str = "admin-0123456789abcdef";
const INGEST: &str = "ingest-0123456789abcdef";

/// Each of these, and one that may do everything.
fn tokens() -> String {
    format!("page:{READER} read, shop:{SHOP} prefix=shop: prefix=shared:\ningest:{INGEST} write,{ADMIN}")
}

fn daemon(settings: impl FnOnce(Builder) -> Builder) -> Daemon {
    settings(Daemon::builder().embedded().set("auth.tokens", tokens())).start()
}

fn post_to(daemon: &Daemon, path: &str, token: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let own = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    daemon.post_to(path, &[&own, headers].concat(), body.to_string().as_bytes())
}

fn post(daemon: &Daemon, token: &str, body: &Value) -> Answer {
    post_to(daemon, "/events", token, &[], body)
}

fn read(daemon: &Daemon, token: &str, path: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let mut wire = daemon.wire();
    wire.send_request("GET", path, &[("authorization", &bearer)], b"");
    wire.answer()
}

#[track_caller]
fn assert_forbidden(answer: &Answer, named: &[&str]) {
    let problem = answer.problem(403, "forbidden");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(named.iter().all(|name| detail.contains(name)), "{detail}");
}

#[test]
fn an_event_outside_of_its_tokens_rights_is_refused_and_none_of_it_is_done() {
    let daemon = daemon(|settings| settings);
    let is_stored = |key: &str| post(&daemon, ADMIN, &get(json!(key))).json()["results"][0]["status"] == "hit";
    for (token, event, named) in [
        (READER, set_inline("a", "1"), &["page", "only read"][..]),
        (READER, delete(json!("a")), &["page", "only read"]),
        (READER, delete_pattern(json!("a*")), &["page", "only read"]),
        (INGEST, get(json!("a")), &["ingest", "only write"]),
        (INGEST, delete_pattern(json!({"pattern": "a*", "dry_run": true})), &["ingest", "only write"]),
        (SHOP, set_inline("other:1", "1"), &["shop", "\"other:1\"", "\"shop:\", \"shared:\""]),
        (SHOP, set(json!([{"key": "shop:1", "value": 1}, {"key": "sho", "value": 1}])), &["\"sho\""]),
        (SHOP, get(json!(["shop:1", "x"])), &["\"x\""]),
        (SHOP, delete(json!(["shared:1", "x"])), &["\"x\""]),
        (SHOP, delete_pattern(json!(["shop:*", "sh*"])), &["pattern", "\"sh*\""]),
        (SHOP, delete_pattern(json!({"pattern": "*shop:*", "dry_run": true})), &["pattern"]),
    ] {
        assert_forbidden(&post(&daemon, token, &event), named);
    }
    assert!(!is_stored("a") && !is_stored("shop:1") && !is_stored("other:1"));
    for (token, event) in [
        (SHOP, set_inline("shop:1", "1")),
        (SHOP, set_inline("shared:1", "1")),
        (READER, get(json!("shop:1"))),
        (INGEST, set_inline("other:1", "1")),
        (SHOP, delete_pattern(json!(["shop:*", r"shared\:?"]))),
        (READER, delete_pattern(json!({"pattern": "other:*", "dry_run": true}))),
        (ADMIN, set_inline("a", "1")),
    ] {
        assert_eq!(post(&daemon, token, &event).json()["status"], "ok", "{event}");
    }
    assert!(is_stored("a") && is_stored("other:1") && !is_stored("shop:1") && !is_stored("shared:1"));
    assert_eq!(daemon.metric("cache_sync_refused_requests_total", &["problem=\"forbidden\""]), 11.0);
    daemon.log_line(|line| line.contains("event rejected") && line.contains("problem=forbidden"));
}

#[test]
fn what_is_wrong_with_an_event_is_said_before_who_may_send_it() {
    let daemon = daemon(|settings| settings);
    post(&daemon, READER, &json!({"key": "SET", "value": {}})).problem(422, "invalid-event");
    post(&daemon, "unknown", &set_inline("a", "1")).problem(401, "unauthorized");
}

#[test]
fn of_a_batch_only_what_is_outside_is_refused() {
    let redis = Redis::start();
    let daemon = daemon(|settings| settings.redis(&redis).set("cache.backend", "redis"));
    let batch = json!([
        set_inline("shop:1", "1"),
        {"key": "SET", "id": "theirs", "value": {"data": {"key": "other:1", "value": "1"}}},
        set_inline("shared:1", "1"),
        {"key": "SET"}
    ]);
    let answer = post(&daemon, SHOP, &batch);
    let body = answer.json();
    assert_eq!((answer.status, &body["counts"]), (207, &json!({"ok": 2, "rejected": 2, "unavailable": 0})));
    let refused = &body["events"][1];
    assert_eq!((&refused["status"], &refused["id"]), (&json!("rejected"), &json!("theirs")));
    assert_eq!(problem_type(&refused["problem"]), "forbidden");
    assert!(redis.exists("shop:1") && redis.exists("shared:1") && !redis.exists("other:1"));
    let of = |problem: &str| daemon.metric("cache_sync_failed_entries_total", &[problem]);
    assert_eq!((of("problem=\"forbidden\""), of("problem=\"invalid-event\"")), (1.0, 1.0));

    let answer = post_to(&daemon, "/events", SHOP, &[ASYNC], &batch);
    assert_eq!((answer.status, &answer.json()["events"][1]["id"]), (207, &json!("theirs")));
    assert_forbidden(&post_to(&daemon, "/events", READER, &[ASYNC], &set_inline("a", "1")), &["only read"]);
    assert_empty(&redis);
    assert!(!redis.exists("other:1") && !redis.exists("a"));
}

#[test]
fn the_state_is_for_those_who_may_read_and_the_failures_of_others_for_those_without_prefixes() {
    let daemon = daemon(|settings| settings);
    post(&daemon, SHOP, &set_inline("other:1", "1"));
    let status = |token: &str| read(&daemon, token, "/status.json").json();
    let failures = |token: &str| status(token)["failures"].as_array().map(Vec::len);
    assert_eq!((failures(READER), failures(ADMIN), failures(SHOP)), (Some(1), Some(1), Some(0)));
    let may_write = [READER, ADMIN, SHOP].map(|token| status(token)["may_write"].as_bool());
    assert_eq!(may_write, [Some(false), Some(true), Some(true)]);
    assert_forbidden(&read(&daemon, INGEST, "/status.json"), &["ingest"]);
    read(&daemon, "unknown", "/status.json").problem(401, "unauthorized");
}

#[test]
fn dead_letters_are_shown_and_changed_within_the_rights() {
    let (redis, blobs) = (Redis::start(), BlobServer::start());
    let allowed = format!("127.0.0.1:{}", blobs.port());
    let daemon =
        daemon(|settings| settings.redis(&redis).set("cache.backend", "redis").set("fetch.allowed_hosts", &allowed));
    blobs.put("/bad", Blob::status(403));
    let (own, other) = (set_blob("shop:1", &blobs.url("/bad")), set_blob("other:1", &blobs.url("/bad")));
    assert_accepted(&post_to(&daemon, "/events", ADMIN, &[ASYNC], &json!([own, other])), 2);
    let letters = |token: &str| read(&daemon, token, "/dead-letters.json").json()["letters"].clone();
    assert!(eventually(PATIENCE, || letters(ADMIN).as_array().is_some_and(|all| all.len() == 2)));
    let shown = letters(SHOP);
    assert_eq!((shown.as_array().map(Vec::len), &shown[0]["keys"]), (Some(1), &json!(["shop:1"])));
    assert_eq!(letters(READER).as_array().map(Vec::len), Some(2));
    assert_forbidden(&read(&daemon, INGEST, "/dead-letters.json"), &["ingest"]);

    let all = letters(ADMIN);
    let id = |key: &str| {
        let letter = all.as_array().expect("letters").iter().find(|letter| letter["keys"][0] == key).expect("it");
        letter["id"].clone()
    };
    let (own, other) = (id("shop:1"), id("other:1"));
    let theirs = format!("/dead-letters.json?id={}", other.as_str().expect("an id"));
    read(&daemon, SHOP, &theirs).problem(404, "not-found");
    assert_eq!(read(&daemon, READER, &theirs).status, 200);
    let both = json!({"ids": [own, other]});
    for change in ["/dead-letters/drop", "/dead-letters/replay"] {
        assert_forbidden(&post_to(&daemon, change, READER, &[], &both), &["page"]);
    }
    // Who waits for leave to send a body gets it here as well.
    let (mut wire, token) = (daemon.wire(), format!("Bearer {SHOP}"));
    let nothing = json!({"ids": ["1-1"]}).to_string();
    let length = nothing.len().to_string();
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    let waits = [("content-length", length.as_str()), ("expect", "100-continue")];
    wire.send(&request("POST", "/dead-letters/drop", &[headers, waits].concat(), b""));
    assert_eq!(wire.answer_to_head().status, 100);
    wire.send(nothing.as_bytes());
    assert_eq!(wire.answer().json()["done"], 0);
    let answer = post_to(&daemon, "/dead-letters/drop", SHOP, &[], &both).json();
    assert_eq!((&answer["done"], &answer["stays"][0]["id"]), (&json!(1), &other));
    assert_eq!(letters(ADMIN)[0]["keys"], json!(["other:1"]));
}

#[test]
fn a_source_is_limited_by_the_tokens_that_it_accepts() {
    let record = |object: &str| {
        json!({
            "eventName": "ObjectCreated:Put", "eventTime": "2026-11-28T22:10:23.403Z",
            "s3": {"bucket": {"name": "b"}, "object": {"key": object, "size": 5, "eTag": "e1", "sequencer": "01"}}
        })
    };
    let notification = json!({"Records": [record("shop:1"), record("other:1")]});
    let source = |settings: Builder| settings.set("sources.s.value", "facts");
    let statuses = |daemon: &Daemon, token: &str| {
        let answer = post_to(daemon, "/sources/s", token, &[], &notification);
        let body = answer.json();
        let status = |at: usize| body["events"][at]["status"].as_str().unwrap_or_default().to_owned();
        (answer.status, status(0), status(1))
    };
    let of = |status, first: &str, second: &str| (status, first.to_owned(), second.to_owned());
    let shared = daemon(source);
    assert_eq!(statuses(&shared, SHOP), of(200, "ok", "rejected"));
    assert_eq!(statuses(&shared, READER), of(200, "rejected", "rejected"));
    assert_eq!(statuses(&shared, ADMIN), of(200, "ok", "ok"));
    let own = daemon(|settings| source(settings).set("sources.s.tokens", "minio:0123456789abcdef write prefix=other:"));
    assert_eq!(statuses(&own, "0123456789abcdef"), of(200, "rejected", "ok"));
    assert_eq!(post_to(&own, "/sources/s", SHOP, &[], &notification).status, 401);
}

#[test]
fn rights_change_with_the_file_that_they_stand_in() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), format!("shop:{SHOP}")).expect("it can be written");
    let daemon = Daemon::builder().embedded().set("auth.tokens_file", file.path().display()).start();
    let status = || post(&daemon, SHOP, &set_inline("other:1", "1")).status;
    assert_eq!(status(), 200);
    fs::write(file.path(), format!("shop:{SHOP} prefix=shop:")).expect("it can be written");
    assert!(eventually(PATIENCE, || status() == 403));
    fs::write(file.path(), format!("shop:{SHOP} reed")).expect("it can be written");
    let line = daemon.log_line(|line| line.contains("file cannot be used"));
    assert!(line.contains("item 1: a right other than read, write and prefix=TEXT"), "{line}");
    assert_eq!(status(), 403);
}
