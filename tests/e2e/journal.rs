//! The journal: what was answered 202 is applied, in the order of its acceptance, whatever happens in between.

use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::patterns::fill;
use crate::support::{
    Answer, Blob, BlobServer, Builder, Daemon, HungHosts, PATIENCE, Redis, Stage, delete, delete_pattern, eventually,
    get, ndjson, set_blob, set_inline,
};

pub const ASYNC: (&str, &str) = ("prefer", "respond-async");

pub fn keep(daemon: &Daemon, body: &Value) -> Answer {
    daemon.post_with(&[ASYNC], body.to_string().as_bytes())
}

#[track_caller]
pub fn assert_accepted(answer: &Answer, events: u64) {
    assert_eq!((answer.status, answer.json()), (202, json!({"status": "accepted", "events": events})));
    assert_eq!(answer.header("preference-applied"), Some("respond-async"));
}

/// Entries of the journal.
pub fn length(journal: &Redis) -> u64 {
    redis::cmd("XLEN").arg("rcs:journal").query(&mut journal.conn()).expect("XLEN")
}

/// Waits for as long as it is being emptied.
#[track_caller]
pub fn assert_empty(redis: &Redis) {
    let mut left = u64::MAX;
    while left > 0 {
        let before = left;
        let is_shorter = || {
            left = length(redis);
            left < before
        };
        assert!(eventually(PATIENCE, is_shorter), "the journal is not emptied: {left} entries");
    }
}

/// A daemon with a Redis of its own for the journal.
fn apart(cache: &Redis, journal: &Redis) -> Builder {
    Daemon::builder().redis(cache).set("journal.url", format!("redis://127.0.0.1:{}/0", journal.port()))
}

#[test]
fn events_are_answered_before_they_are_applied_and_applied_in_order() {
    let Stage { daemon, redis, .. } = Stage::new();
    assert_accepted(&keep(&daemon, &set_inline("a", "1")), 1);
    assert_accepted(&keep(&daemon, &json!([set_inline("a", "2"), set_inline("b", "1"), delete(json!("b"))])), 3);
    let lines = ndjson(&[set_inline("p:1", "x"), delete_pattern(json!("p:*")), set_inline("p:2", "y")]);
    let answer = daemon.post_with(&[ASYNC, ("content-type", "application/x-ndjson")], lines.as_bytes());
    assert_accepted(&answer, 3);
    assert_empty(&redis);
    assert_eq!(redis.value("a").as_deref(), Some(&b"2"[..]));
    assert!(!redis.exists("b") && !redis.exists("p:1"));
    assert_eq!(redis.value("p:2").as_deref(), Some(&b"y"[..]));
}

#[test]
fn the_line_of_a_request_that_is_kept_counts_its_keys() {
    let stage = Stage::new();
    let body = json!([delete(json!(["a", "b"])), set_inline("c", "1"), {"key": "nonsense"}]);
    let answer = stage.daemon.post_with(&[ASYNC, ("x-request-id", "rid-three-keys")], body.to_string().as_bytes());
    assert_eq!(answer.status, 207, "{}", answer.text());
    let line = stage.daemon.log_line(|line| line.contains("rid-three-keys") && line.contains("asked=journal"));
    assert!(line.contains("events=3 ") && line.contains("keys=3 "), "{line}");
}

/// An append whose time was over, and the first lease, change what all transactions of the journal watch.
#[test]
fn events_are_accepted_while_others_spoil_the_transactions_of_the_journal() {
    let Stage { daemon, redis, .. } = Stage::new();
    // Long, so that Redis reads it in several pieces and hears others in between.
    let body = set_inline("k", &"x".repeat(300_000));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut conn = redis.conn();
            while !over.load(Relaxed) {
                redis::cmd("INCR").arg("{rcs:journal}:late").exec(&mut conn).expect("INCR");
                thread::sleep(Duration::from_millis(5));
            }
        });
        let answers: Vec<Answer> = (0..200).map(|_| keep(&daemon, &body)).collect();
        over.store(true, Relaxed);
        answers.iter().for_each(|answer| assert_accepted(answer, 1));
    });
    assert_empty(&redis);
}

#[test]
fn what_is_invalid_is_told_at_once_and_the_rest_of_its_batch_is_kept() {
    let Stage { daemon, redis, .. } = Stage::new();
    let invalid = json!({"key": "SET", "id": "bad", "value": {"data": {"key": ""}}});
    keep(&daemon, &invalid).problem(422, "invalid-event");
    daemon.post_with(&[ASYNC], b"{").problem(400, "malformed-json");
    let mut named = set_inline("a", "1");
    named["id"] = json!("good");
    let answer = keep(&daemon, &json!([named, invalid, get(json!("a"))]));
    let told = answer.json();
    assert_eq!((answer.status, &told["counts"]), (207, &json!({"ok": 1, "rejected": 2, "unavailable": 0})));
    assert_eq!(told["events"][0], json!({"index": 0, "status": "accepted", "event": "SET", "id": "good"}));
    assert_eq!((&told["events"][1]["id"], &told["events"][1]["status"]), (&json!("bad"), &json!("rejected")));
    assert_eq!(told["events"][2]["problem"]["errors"][0]["pointer"], "/key", "a read has no answer later: {told}");
    let minimal = [("prefer", "respond-async, return=minimal")];
    let answer = daemon.post_with(&minimal, json!([set_inline("c", "1"), invalid]).to_string().as_bytes());
    assert_eq!(answer.json()["events"].as_array().map(Vec::len), Some(1));
    assert_eq!(answer.header("preference-applied"), Some("respond-async, return=minimal"));
    assert_empty(&redis);
    assert_eq!(redis.value("a").as_deref(), Some(&b"1"[..]));
}

#[test]
fn a_request_of_reads_is_answered_at_once_as_if_there_were_no_preference() {
    let Stage { daemon, redis, .. } = Stage::new();
    redis.put("a", b"1");
    let answer = keep(&daemon, &get(json!("a")));
    assert_eq!((answer.status, &answer.json()["results"][0]["value"]), (200, &json!("1")));
    assert_eq!(answer.header("preference-applied"), None);
    let preview = delete_pattern(json!({"pattern": "a*", "dry_run": true}));
    assert_eq!(keep(&daemon, &json!([preview])).status, 200);
    assert_eq!(keep(&daemon, &json!([])).json()["counts"]["ok"], 0);
    assert!(!redis.exists("rcs:journal"));
}

#[test]
fn a_journal_of_its_own_keeps_accepting_while_the_cache_is_down() {
    let (mut cache, journal) = (Redis::durable(), Redis::start());
    let daemon = apart(&cache, &journal).set("redis.retry_ms", 500).start();
    cache.kill();
    for n in 0..100 {
        assert_accepted(&keep(&daemon, &set_inline(&format!("k{}", n % 10), &n.to_string())), 1);
    }
    let depth = || daemon.metric("cache_sync_journal_events", &[]);
    assert!(eventually(PATIENCE, || depth() == 100.0), "{} events", depth());
    cache.restart();
    assert_empty(&journal);
    for n in 0..10 {
        assert_eq!(cache.value(&format!("k{n}")), Some((90 + n).to_string().into_bytes()));
    }
    assert!(!cache.exists("rcs:journal"), "the journal has a Redis of its own");
}

#[test]
fn a_journal_that_is_full_or_cannot_be_reached_takes_nothing_on() {
    let (mut cache, mut journal) = (Redis::start(), Redis::start());
    let daemon = apart(&cache, &journal).set("journal.max_events", 5).set("redis.retry_ms", 500).start();
    cache.pause();
    for n in 0..5 {
        assert_accepted(&keep(&daemon, &set_inline(&format!("k{n}"), "v")), 1);
    }
    let full = keep(&daemon, &set_inline("k5", "v"));
    full.problem(503, "journal-full");
    full.retry_after();
    keep(&daemon, &json!([set_inline("k5", "v"), set_inline("k6", "v")])).problem(503, "journal-full");
    let more = json!((0..6).map(|n| set_inline(&format!("k{n}"), "v")).collect::<Vec<Value>>());
    let never = keep(&daemon, &more);
    never.problem(413, "payload-too-large");
    let detail = never.json()["detail"].to_string();
    assert!(detail.contains("has 6 events") && detail.contains("at most 5 (journal.max_events)"), "{detail}");
    assert!(never.header("retry-after").is_none(), "it must not be sent again");
    cache.resume();
    assert_empty(&journal);
    let again = || keep(&daemon, &set_inline("k5", "v")).status == 202;
    assert!(eventually(PATIENCE, again), "there is room again");
    assert_empty(&journal);
    journal.kill();
    let answer = keep(&daemon, &set_inline("k7", "v"));
    answer.problem(503, "journal-unavailable");
    answer.retry_after();
    assert_eq!(daemon.post(&set_inline("k8", "v")).status, 200, "the cache is there");
    assert_eq!(cache.value("k5").as_deref(), Some(&b"v"[..]));
}

#[test]
fn what_was_accepted_survives_the_process() {
    let (mut cache, journal) = (Redis::start(), Redis::start());
    let first = apart(&cache, &journal).set("redis.retry_ms", 500).start();
    cache.pause();
    for n in 0..20 {
        assert_accepted(&keep(&first, &set_inline("k", &n.to_string())), 1);
    }
    first.log_line(|line| line.contains("journal's Redis has no append-only file"));
    drop(first);
    cache.resume();
    let _second = apart(&cache, &journal).start();
    assert_empty(&journal);
    assert_eq!(cache.value("k").as_deref(), Some(&b"19"[..]));
}

#[test]
fn what_fails_is_told_of_at_each_attempt_and_counted_once_it_has_ended() {
    let (redis, blobs) = (Redis::start(), BlobServer::start());
    blobs.fallback(|_| Some(Blob::status(500)));
    let store = format!("http://127.0.0.1:{}/", blobs.port());
    let daemon = Daemon::builder().redis(&redis).set("log_level", "debug").set("fetch.attempts", 1);
    let daemon = daemon.set("stores.files.kind", "http").set("stores.files.endpoint", store);
    let daemon = daemon.set("sources.minio.format", "s3").set("sources.minio.store", "files");
    let daemon = daemon.set("sources.minio.accept", "journal").start();
    let body = json!({"Records": [{"eventName": "s3:ObjectCreated:Put", "eventTime": "2026-11-28T22:10:23.403Z",
        "s3": {"bucket": {"name": "b"}, "object": {"key": "o", "sequencer": "0055AED6DCD90281E5"}}}]});
    let headers = [("content-type", "application/json"), ("x-request-id", "rid-kept")];
    assert_eq!(daemon.post_to("/sources/minio", &headers, body.to_string().as_bytes()).status, 202);
    let line = daemon.log_line(|line| line.contains("event not carried out"));
    for told in [
        "WARN",
        "event=SET",
        "key=o",
        "problem=blob-unavailable",
        "cause=",
        "attempts=1",
        "source=minio",
        "request_id=rid-kept",
    ] {
        assert!(line.contains(told), "no {told} in {line}");
    }
    let events = |outcome: &str| daemon.metric("cache_sync_events_total", &["type=\"SET\"", outcome]);
    assert_eq!(events(""), 0.0, "it has not ended");

    blobs.fallback(|_| Some(Blob::bytes("mended")));
    let is_end = |line: &str| line.contains("DEBUG event event=SET") && line.contains("rid-kept");
    let line = daemon.log_line(is_end);
    assert!(line.contains("outcome=ok"), "{line}");
    assert_eq!((events("outcome=\"ok\""), events("")), (1.0, 1.0), "once, however many attempts");
    let entries = |labels: &[&str]| daemon.metric("cache_sync_entries_total", labels);
    assert_eq!((entries(&["outcome=\"stored\""]), entries(&["type=\"SET\""])), (1.0, 1.0));
    assert_eq!(daemon.metric("cache_sync_failed_entries_total", &[]), 0.0);
    for (name, labels) in [("event_delay", ""), ("event_age", ""), ("source_lag", "source=\"minio\"")] {
        assert_eq!(daemon.metric(&format!("cache_sync_{name}_seconds_count"), &[labels]), 1.0, "{name}");
    }
}

#[test]
fn what_of_an_event_can_never_succeed_is_counted_beside_the_rest_and_named_in_the_log() {
    let Stage { daemon, redis, blobs } = Stage::new();
    blobs.put("/good", Blob::bytes("v"));
    blobs.put("/bad", Blob::status(403));
    let data = json!([{"key": "good", "url": blobs.url("/good")}, {"key": "bad", "url": blobs.url("/bad")}]);
    assert_accepted(&keep(&daemon, &json!({"key": "SET", "id": "e-1", "value": {"data": data}})), 1);
    let line = daemon.log_line(|line| line.contains("event is a dead letter"));
    for told in ["event=SET", "event_id=e-1", "key=bad", "problem=blob-denied", "cause=", "attempts=1", "request_id="] {
        assert!(line.contains(told), "no {told} in {line}");
    }
    assert_empty(&redis);
    for (name, label, count) in [
        ("events", "outcome=\"rejected\"", 1.0),
        ("events", "", 1.0),
        ("entries", "outcome=\"stored\"", 1.0),
        ("entries", "outcome=\"rejected\"", 1.0),
        ("failed_entries", "problem=\"blob-denied\"", 1.0),
        ("failed_entries", "", 1.0),
    ] {
        assert_eq!(daemon.metric(&format!("cache_sync_{name}_total"), &[label]), count, "{name} {label}");
    }
}

#[test]
fn a_lease_is_given_back_at_once_on_sigterm() {
    let Stage { mut daemon, redis, .. } = Stage::new();
    assert_accepted(&keep(&daemon, &set_inline("k", "1")), 1);
    assert_empty(&redis);
    assert!(redis.exists("{rcs:journal}:lease"));
    daemon.sigterm();
    assert!(daemon.wait_exit(Duration::from_secs(20)).success());
    assert!(!redis.exists("{rcs:journal}:lease") && !redis.exists("{rcs:journal}:former"));
}

/// Its connections are killed by the next holder: what has no reply may still land.
#[test]
fn a_holder_that_has_had_no_reply_is_not_taken_for_idle_on_sigterm() {
    let (mut cache, journal) = (Redis::start(), Redis::start());
    let daemon = apart(&cache, &journal).set("redis.response_timeout_ms", 300).set("redis.retry_ms", 500);
    let mut daemon = daemon.start();
    assert_accepted(&keep(&daemon, &set_inline("k", "1")), 1);
    assert_empty(&journal);
    cache.pause();
    assert_accepted(&keep(&daemon, &set_inline("k", "2")), 1);
    let repeated = || daemon.metric("cache_sync_journal_redeliveries_total", &[]) > 0.0;
    assert!(eventually(PATIENCE, repeated), "there is no reply");
    cache.resume();
    assert_empty(&journal);
    daemon.sigterm();
    assert!(daemon.wait_exit(Duration::from_secs(20)).success());
    assert!(!journal.exists("{rcs:journal}:lease") && journal.exists("{rcs:journal}:former"));
}

#[test]
fn work_of_the_journal_that_hangs_does_not_hold_up_the_end() {
    let hung = HungHosts::start(1);
    let redis = Redis::start();
    let builder = Daemon::builder().redis(&redis).set("fetch.allowed_hosts", hung.allowed());
    let mut daemon = builder.set("http.shutdown_seconds", 3).start();
    assert_accepted(&keep(&daemon, &set_blob("k", &hung.url(0))), 1);
    assert!(eventually(PATIENCE, || hung.connections() > 0), "the blob is not asked for");
    daemon.sigterm();
    // A holder that has no time to wait for what it handed over used to take ten seconds.
    assert!(daemon.wait_exit(Duration::from_secs(8)).success());
    assert!(!redis.exists("{rcs:journal}:lease") && length(&redis) == 1);
}

#[test]
fn a_pattern_over_more_keys_than_the_deadline_allows_is_done_after_more_attempts_than_others_get() {
    let redis = Redis::start();
    fill(&redis, 1_000_000, "'other:' .. i");
    fill(&redis, 3000, "'s:' .. i");
    let daemon = Daemon::builder().redis(&redis).set("event.deadline_ms", 150).set("journal.max_attempts", 2).start();
    assert_accepted(&keep(&daemon, &delete_pattern(json!("s:*[0-9]"))), 1);
    assert_empty(&redis);
    let attempts = daemon.metric("cache_sync_journal_redeliveries_total", &[]);
    assert!(attempts >= 2.0, "{attempts} attempts were enough");
    let left: Vec<String> = redis::cmd("KEYS").arg("s:*").query(&mut redis.conn()).expect("KEYS");
    assert!(left.is_empty() && !redis.exists("{rcs:journal}:dead"), "{} keys are left", left.len());
}

#[test]
fn an_answer_waits_for_the_replicas_that_are_asked_for() {
    let (journal, replica) = (Redis::start(), Redis::start());
    let daemon = apart(&Redis::start(), &journal).set("journal.wait_replicas", 1).unready().start();
    let told = keep(&daemon, &set_inline("k", "v")).problem(503, "journal-unavailable");
    assert!(told["detail"].as_str().is_some_and(|detail| detail.contains("0 replicas acknowledged")), "{told}");
    let master = journal.port().to_string();
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(&master).exec(&mut replica.conn()).expect("REPLICAOF");
    let accepted = || keep(&daemon, &set_inline("k", "v")).status == 202;
    assert!(eventually(PATIENCE, accepted), "there is a replica");
    assert!(replica.exists("rcs:journal"), "it has what was answered");
}

#[test]
fn an_answer_waits_for_the_disk_if_that_is_asked_for_and_says_so_where_it_cannot() {
    let cache = Redis::start();
    let has_waitaof = {
        let found: Vec<redis::Value> =
            redis::cmd("COMMAND").arg("INFO").arg("WAITAOF").query(&mut cache.conn()).expect("COMMAND INFO");
        !matches!(found[..], [redis::Value::Nil])
    };
    for (journal, has_file) in [(Redis::durable(), true), (Redis::start(), false)] {
        let daemon = apart(&cache, &journal).set("journal.wait_aof", true).start();
        let answer = keep(&daemon, &set_inline("k", "v"));
        if has_waitaof && has_file {
            assert_accepted(&answer, 1);
        } else {
            let told = answer.problem(503, "journal-unavailable");
            assert!(told["detail"].as_str().is_some_and(|detail| detail.contains("WAITAOF")), "{told}");
        }
    }
}

#[test]
fn what_a_sender_that_hung_up_was_not_told_is_counted_all_the_same() {
    let (cache, mut journal) = (Redis::start(), Redis::start());
    let daemon = apart(&cache, &journal).set("redis.response_timeout_ms", 20_000).set("http.workers", 1).start();
    assert_accepted(&keep(&daemon, &set_inline("k", "1")), 1);
    journal.pause();
    let mut wire = daemon.wire();
    let body = json!([set_inline("k", "2"), {"key": "SET", "id": "of-whom-nobody-hears", "value": {}}]).to_string();
    wire.send_request("POST", "/events", &[ASYNC, ("content-type", "application/json")], body.as_bytes());
    let held = || daemon.metric("cache_sync_admission_events", &[]) >= 1.0;
    assert!(eventually(PATIENCE, held), "it has arrived");
    wire.reset();
    daemon.log_line(|line| line.contains("hung-up"));
    journal.resume();
    let accepted = || daemon.metric("cache_sync_journal_accepted_events_total", &[]) == 2.0;
    assert!(eventually(PATIENCE, accepted), "it is in the journal");
    daemon.log_line(|line| line.contains("of-whom-nobody-hears"));
    assert_empty(&journal);
    assert_eq!(cache.value("k").as_deref(), Some(&b"2"[..]));
}

#[test]
fn what_was_answered_503_is_not_appended_once_the_journal_answers_again() {
    let (cache, mut journal) = (Redis::start(), Redis::start());
    let daemon = apart(&cache, &journal).set("event.deadline_ms", 1500).set("http.workers", 1).start();
    assert_accepted(&keep(&daemon, &set_inline("k", "1")), 1);
    assert_empty(&journal);
    journal.pause();
    // One is sent to the journal's Redis, the other waits for it.
    let ask = |key: &str| {
        let (mut wire, body) = (daemon.wire(), set_inline(key, "late").to_string());
        wire.send_request("POST", "/events", &[ASYNC, ("content-type", "application/json")], body.as_bytes());
        wire
    };
    let mut wires = [ask("in-flight"), ask("waiting")];
    wires.iter_mut().for_each(|wire| assert_eq!(wire.answer().status, 503));
    journal.resume();
    let accepted = || keep(&daemon, &set_inline("k", "2")).status == 202;
    assert!(eventually(PATIENCE, accepted), "the journal answers again");
    assert_empty(&journal);
    assert!(eventually(PATIENCE, || cache.value("k").as_deref() == Some(&b"2"[..])));
    assert!(!cache.exists("in-flight") && !cache.exists("waiting"), "they were answered 503");
}

#[test]
fn no_event_no_pattern_and_no_clear_touches_what_the_journal_keeps() {
    let Stage { daemon, redis, blobs } = Stage::with(|daemon| daemon.set("event.allow_match_all", true));
    blobs.put("/bad", Blob::status(403));
    assert_accepted(&keep(&daemon, &set_blob("k", &blobs.url("/bad"))), 1);
    assert_empty(&redis);
    let own = || {
        let mut keys: Vec<String> = redis::cmd("KEYS").arg("*rcs:journal*").query(&mut redis.conn()).expect("KEYS");
        keys.sort_unstable();
        keys
    };
    let before = own();
    assert!(before.iter().any(|key| key == "{rcs:journal}:dead"), "{before:?}");
    for pattern in ["*", "{rcs*", "*journal*", "{rcs:journal}:dead"] {
        assert_eq!(daemon.post(&delete_pattern(json!(pattern))).status, 200);
    }
    for key in ["rcs:journal", "{rcs:journal}:dead"] {
        for event in [set_inline(key, "v"), delete(json!(key)), get(json!(key))] {
            daemon.post(&event).problem(422, "invalid-event");
        }
    }
    let url = format!("redis://127.0.0.1:{}/0", redis.port());
    let mut clear = Command::new(env!("CARGO_BIN_EXE_redis-cache-sync"));
    clear.args(["clear", "--event-allow-match-all", "--yes", "*"]).env_clear().env("REDIS_URL", url);
    let cleared = clear.current_dir(std::env::temp_dir()).output().expect("the program runs");
    assert!(cleared.status.success(), "{cleared:?}");
    assert_eq!(own(), before);
}
