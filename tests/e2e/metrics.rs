//! `/metrics`: what each metric counts; `/live` and `/ready` of a healthy daemon.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Blob, Daemon, Gate, Redis, Stage, delete, delete_pattern, eventually, get, set, set_blob, set_inline,
};
use crate::tls::{Authority, Files};

#[test]
fn events_are_counted_by_type_and_outcome() {
    let stage = Stage::with(|daemon| daemon.set("fetch.attempts", 1));
    stage.blobs.put("/down", Blob::status(503));
    let count = |kind: &str, outcome: &str| {
        let labels = [format!("type=\"{kind}\""), format!("outcome=\"{outcome}\"")];
        stage.daemon.metric("cache_sync_events_total", &[&labels[0], &labels[1]])
    };
    stage.daemon.post(&json!([
        set_inline("a", "1"),
        set_inline("b", "1"),
        set_blob("c", &stage.blobs.url("/gone")),
        set_blob("d", &stage.blobs.url("/down")),
        get(json!("a")),
        delete(json!("a")),
    ]));
    stage.daemon.post(&delete_pattern(json!("b*")));
    let want = [
        ("SET", "ok", 2.0),
        ("SET", "rejected", 1.0),
        ("SET", "unavailable", 1.0),
        ("GET", "ok", 1.0),
        ("DELETE", "ok", 1.0),
        ("DELETE_PATTERN", "ok", 1.0),
    ];
    for (kind, outcome, events) in want {
        assert_eq!(count(kind, outcome), events, "{kind} {outcome}");
    }
}

#[test]
fn the_promised_metrics_are_there_from_the_start() {
    let stage = Stage::new();
    let answer = stage.daemon.get("/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{answer:?}");
    assert!(answer.text().contains("# TYPE cache_sync_redis_up gauge"), "{}", answer.text());
    let metrics = stage.daemon.metrics();
    let is_ours = |name: &str| name.starts_with("cache_sync_");
    assert!(metrics.keys().all(|name| is_ours(name) || name.starts_with("process_")), "{metrics:#?}");
    assert!(stage.daemon.metric("process_resident_memory_bytes", &[]) > 1e6, "{metrics:#?}");
    assert_eq!(stage.daemon.metric("cache_sync_redis_up", &[]), 1.0);
    for name in ["cache_sync_admission_events", "cache_sync_admission_bytes"] {
        let found = metrics.keys().any(|sample| sample.split('{').next() == Some(name));
        assert!(found && stage.daemon.metric(name, &[]) == 0.0, "{name}: {metrics:#?}");
    }
    for actor in ["intake", "validation", "router", "fetcher", "writer"] {
        let label = format!("actor=\"{actor}\"");
        assert!(stage.daemon.metric("cache_sync_actors", &[&label]) >= 1.0, "{actor}: {metrics:#?}");
        let restarts =
            metrics.iter().find(|(name, _)| name.starts_with("cache_sync_actor_restarts") && name.contains(&label));
        assert_eq!(restarts.map(|(_, count)| *count), Some(0.0), "{actor}: {metrics:#?}");
    }
}

#[test]
fn pools_have_the_size_that_was_set() {
    let stage = Stage::with(|daemon| daemon.set("fetch.pool_size", 3).set("redis.pool_size", 5));
    let actors = |actor: &str| stage.daemon.metric("cache_sync_actors", &[&format!("actor=\"{actor}\"")]);
    assert_eq!((actors("fetcher"), actors("writer")), (3.0, 5.0));
    assert_eq!((stage.daemon.get("/live").status, stage.daemon.get("/ready").status), (200, 200));
}

#[test]
fn the_docs_name_every_metric_and_no_other() {
    let own = Files::of(&Authority::new().vouch_for("a-client"));
    let daemon = Daemon::builder().embedded().set("sources.s.value", "facts").set("auth.tokens", "t");
    let daemon = daemon.set("redis.tls_cert", own.path("tls.crt").display());
    let daemon = daemon.set("redis.tls_key", own.path("tls.key").display()).start();
    let metrics = daemon.get("/metrics").text();
    let exported: BTreeSet<&str> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let page = include_str!("../../docs/monitoring.md");
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let named: BTreeSet<&str> = page
        .match_indices("cache_sync_")
        .chain(page.match_indices("process_"))
        .filter(|(at, _)| !page[..*at].ends_with(is_name))
        .map(|(at, _)| page[at..].split(|character| !is_name(character)).next().unwrap_or_default())
        .filter(|name| !["cache_sync_", "process_"].contains(name))
        .collect();
    assert_eq!(named, exported);
}

const SECOND: Duration = Duration::from_secs(1);

/// A moment so many seconds from now, as RFC 3339 has it.
fn moment(seconds: i64) -> String {
    let date = format!("now {seconds:+} seconds");
    let output = Command::new("date").args(["-u", "-d", &date, "+%Y-%m-%dT%H:%M:%SZ"]).output().expect("date runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What a histogram without labels has counted, and what of that was not longer than each of these bounds.
fn spread<const N: usize>(daemon: &Daemon, name: &str, bounds: [&str; N]) -> (f64, [f64; N]) {
    let below = |bound: &str| daemon.metric(&format!("{name}_bucket"), &[&format!("le=\"{bound}\"")]);
    (daemon.metric(&format!("{name}_count"), &[]), bounds.map(below))
}

#[test]
fn the_delay_is_that_of_each_event_that_ended_ok_and_of_no_other() {
    let stage = Stage::with(|daemon| daemon.set("fetch.attempts", 1));
    stage.blobs.put("/slow", Blob::bytes("slow").delay(Duration::from_millis(400)));
    let delays = || spread(&stage.daemon, "cache_sync_event_delay_seconds", ["0.25", "30"]);
    assert_eq!(delays(), (0.0, [0.0, 0.0]));
    stage.daemon.post(&json!([
        set_inline("a", "1"),
        set(json!([{"key": "b", "value": "1"}, {"key": "c", "url": stage.blobs.url("/slow")}])),
        set_blob("d", &stage.blobs.url("/gone")),
        get(json!(["a", "b"])),
        get(json!(7)),
    ]));
    assert_eq!(delays(), (3.0, [2.0, 3.0]));
    stage.ok(&set_blob("e", &stage.blobs.url("/slow")));
    stage.ok(&delete_pattern(json!("a*")));
    stage.daemon.post(&set_blob("d", &stage.blobs.url("/gone")));
    assert_eq!(delays(), (5.0, [3.0, 5.0]));
}

#[test]
fn the_age_is_counted_from_the_events_own_time_if_that_is_one() {
    let stage = Stage::new();
    let ages = || spread(&stage.daemon, "cache_sync_event_age_seconds", ["5", "60", "300", "604800"]);
    let at = |time: Value| {
        let mut event = get(json!("a"));
        event["time"] = time;
        event
    };
    let no_times = [json!(null), json!(5), json!(""), json!("yesterday"), json!({"time": 1}), json!("2026-01-01")];
    let long = format!("{}Z", "2026-01-01T00:00:00.".to_owned() + &"1".repeat(5000));
    let lone = r#"{"key":"GET","time":"\ud800","value":{"data":"a"}}"#;
    for time in no_times.into_iter().chain([json!(long)]) {
        stage.ok(&at(time));
    }
    assert_eq!(stage.daemon.post_text(lone).status, 200);
    assert_eq!(ages().0, 0.0);
    stage.ok(&at(json!(moment(-120))));
    assert_eq!(ages(), (1.0, [0.0, 0.0, 1.0, 1.0]));
    stage.ok(&at(json!("1999-12-31T23:59:60+02:00")));
    stage.ok(&at(json!("2000-01-01t00:00:00.123456789z")));
    let mut rejected = at(json!(moment(0)));
    rejected["value"]["data"] = json!("");
    stage.daemon.post(&json!([at(json!(moment(3600))), at(json!(moment(-120))), get(json!("a")), rejected]));
    assert_eq!(ages(), (4.0, [1.0, 1.0, 3.0, 3.0]));
    let twice = r#"{"key":"GET","time":"x","time":"y","value":{"data":"a"}}"#;
    stage.daemon.post_text(twice).problem(422, "invalid-event");
}

fn refused(daemon: &Daemon, problem: &str) -> f64 {
    daemon.metric("cache_sync_refused_requests_total", &[&format!("problem=\"{problem}\"")])
}

#[test]
fn requests_that_never_became_work_are_counted_by_their_problem() {
    let builder = Daemon::builder().embedded().set("auth.tokens", "t").set("http.max_body_bytes", 1000);
    let daemon = builder.set("http.head_timeout_ms", 300).set("event.max_events", 3).start();
    let token = ("authorization", "Bearer t");
    let post = |content: &str, body: &[u8]| daemon.post_with(&[token, ("content-type", content)], body);
    let one = get(json!("a")).to_string();
    post("application/json", format!("[{one},{{}}]").as_bytes());
    assert_eq!(daemon.metric("cache_sync_refused_requests_total", &[]), 0.0);
    post("application/json", b"{");
    post("text/plain", one.as_bytes());
    post("application/json", &[b' '; 2000]);
    post("application/json", format!("[{one},{one},{one},{one}]").as_bytes());
    post("application/json", b"{}");
    daemon.post_with(&[], one.as_bytes());
    daemon.get("/nope");
    daemon.get("/events");
    daemon.raw(b"no HTTP\r\n\r\n");
    daemon.raw(b"GET /live HT");
    daemon.raw(format!("GET /live HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(200_000)).as_bytes());
    let want = [
        ("malformed-json", 1.0),
        ("unsupported-media-type", 1.0),
        ("payload-too-large", 2.0),
        ("invalid-event", 1.0),
        ("unauthorized", 1.0),
        ("not-found", 1.0),
        ("method-not-allowed", 1.0),
        ("malformed-request", 1.0),
        ("request-timeout", 1.0),
        ("head-too-large", 1.0),
        ("overloaded", 0.0),
        ("interrupted", 0.0),
        ("timeout", 0.0),
        ("shutting-down", 0.0),
    ];
    for (problem, count) in want {
        assert_eq!(refused(&daemon, problem), count, "{problem}: {:#?}", daemon.metrics());
    }
}

#[test]
fn a_full_door_and_a_closed_one_are_counted_and_so_is_what_it_is_held_against() {
    let stage = Stage::with(|daemon| {
        let bytes = daemon.set("intake.max_in_flight_bytes", "80 MiB").set("fetch.max_blob_bytes", "10 MiB");
        bytes.set("event.max_events", 2).set("intake.max_in_flight", 2)
    });
    let limit = |of: &str| stage.daemon.metric(&format!("cache_sync_admission_limit_{of}"), &[]);
    assert_eq!((limit("events"), limit("bytes")), (2.0, f64::from(80 << 20)));
    let gate = Gate::closed();
    stage.blobs.put("/b", Blob::bytes("b").gate(&gate));
    let url = stage.blobs.url("/b");
    thread::scope(|scope| {
        let posted = scope.spawn(|| stage.daemon.post(&json!([set_blob("a", &url), set_blob("b", &url)])));
        stage.blobs.wait_hits("/b", 2);
        stage.daemon.post(&get(json!("c"))).problem(503, "overloaded");
        assert_eq!(refused(&stage.daemon, "overloaded"), 1.0);
        stage.daemon.sigterm();
        let closed = || stage.daemon.post(&get(json!("c"))).text().contains("shutting-down");
        assert!(eventually(5 * SECOND, closed), "it does not drain");
        assert!(refused(&stage.daemon, "shutting-down") >= 1.0);
        gate.open();
        assert_eq!(posted.join().expect("no panic").status, 200);
    });
}

#[test]
fn entries_that_failed_are_counted_by_their_problem() {
    let stage = Stage::with(|daemon| daemon.set("fetch.attempts", 1));
    stage.blobs.put("/denied", Blob::status(403));
    stage.blobs.put("/down", Blob::status(503));
    redis::cmd("LPUSH").arg("list").arg("x").exec(&mut stage.redis.conn()).expect("LPUSH");
    let url = |path: &str| stage.blobs.url(path);
    stage.daemon.post(&json!([
        set(json!([{"key": "a", "url": url("/gone")}, {"key": "b", "value": "1"}, {"key": "c", "url": url("/denied")}])),
        set_blob("d", &url("/gone")),
        set_blob("e", &url("/denied")),
        set_blob("f", &url("/down")),
        get(json!(["list", "b"])),
        get(json!(7)),
        {"key": "NOPE"},
    ]));
    stage.daemon.post(&get(json!("list")));
    stage.daemon.post(&get(json!(7))).problem(422, "invalid-event");
    let want = [
        ("SET", "blob-not-found", 2.0),
        ("SET", "blob-denied", 2.0),
        ("SET", "blob-unavailable", 1.0),
        ("SET", "cache-unavailable", 0.0),
        ("GET", "wrong-type", 2.0),
        ("GET", "invalid-event", 1.0),
        ("unknown", "invalid-event", 1.0),
        ("DELETE_PATTERN", "timeout", 0.0),
    ];
    let failed = |labels: &[&str]| stage.daemon.metric("cache_sync_failed_entries_total", labels);
    for (kind, problem, count) in want {
        let (kind, problem) = (format!("type=\"{kind}\""), format!("problem=\"{problem}\""));
        assert_eq!(failed(&[&kind, &problem]), count, "{kind} {problem}");
    }
    assert_eq!(failed(&[]), 9.0);
}

#[test]
fn fetches_are_counted_by_host_and_what_must_not_be_called_gets_no_name() {
    let stage =
        Stage::with(|daemon| daemon.set("fetch.attempts", 1).set("fetch.allowed_hosts", "127.0.0.1,listed.test:81"));
    stage.blobs.put("/slow", Blob::bytes("slow").delay(Duration::from_millis(300)));
    let name = "cache_sync_blob_host_fetch_duration_seconds";
    let count = |host: &str, outcome: &str| {
        let (host, outcome) = (format!("host=\"{host}\""), format!("outcome=\"{outcome}\""));
        let samples = stage.daemon.metrics();
        let series = |sample: &&String| sample.contains(&host) && sample.contains(&outcome);
        let count = samples.keys().find(|sample| sample.starts_with(&format!("{name}_count")) && series(sample));
        count.map(|sample| samples[sample])
    };
    for host in ["listed.test:81", "127.0.0.1:80", "127.0.0.1:443", "other"] {
        assert_eq!((count(host, "ok"), count(host, "failed")), (Some(0.0), Some(0.0)), "{host}");
    }
    let own = format!("127.0.0.1:{}", stage.blobs.port());
    assert_eq!(count(&own, "ok"), None);
    stage.ok(&set_blob("a", &stage.blobs.url("/slow")));
    stage.daemon.post(&set_blob("b", &stage.blobs.url("/gone")));
    stage.daemon.post(&set_blob("c", "http://forbidden.test/b"));
    assert_eq!((count(&own, "ok"), count(&own, "failed")), (Some(1.0), Some(1.0)));
    assert_eq!((count("forbidden.test:80", "failed"), count("other", "failed")), (None, Some(1.0)));
    let host = format!("host=\"{own}\"");
    let below = |bound: &str| {
        stage.daemon.metric(&format!("{name}_bucket"), &[&host, "outcome=\"ok\"", &format!("le=\"{bound}\"")])
    };
    assert_eq!((below("0.25"), below("5")), (0.0, 1.0));
}

#[test]
fn hosts_that_are_down_are_counted_until_they_answer() {
    let stage =
        Stage::with(|daemon| daemon.set("fetch.timeout_ms", 300).set("fetch.attempts", 1).set("fetch.per_host", 1));
    let down = || stage.daemon.metric("cache_sync_blob_hosts_down", &[]);
    assert_eq!(down(), 0.0);
    stage.blobs.put("/h", Blob::hang());
    let events: Vec<Value> = (0..5).map(|n| set_blob(&format!("k{n}"), &stage.blobs.url("/h"))).collect();
    stage.daemon.post(&json!(events));
    assert_eq!(down(), 1.0);
    stage.blobs.put("/h", Blob::bytes("back"));
    let back = || stage.daemon.post(&events[0]).status == 200;
    assert!(eventually(10 * SECOND, back), "the host answers again and is not asked");
    assert_eq!(down(), 0.0);
}

#[test]
fn the_oldest_event_has_its_age_even_if_its_sender_has_gone_and_counts_when_it_ends() {
    let stage = Stage::new();
    let gate = Gate::closed();
    stage.blobs.put("/b", Blob::bytes("b").gate(&gate));
    let age = || stage.daemon.metric("cache_sync_queue_oldest_age_seconds", &[]);
    assert_eq!(age(), 0.0);
    let mut sender = stage.daemon.wire();
    let event = set_blob("a", &stage.blobs.url("/b")).to_string();
    sender.send_request("POST", "/events", &[("x-request-id", "the-one-that-left")], event.as_bytes());
    stage.blobs.wait_hits("/b", 1);
    let begun = Instant::now();
    assert!(eventually(5 * SECOND, || age() > 0.5), "{}", age());
    assert!(age() < begun.elapsed().as_secs_f64() + 1.0);
    sender.reset();
    stage.daemon.log_line(|line| line.contains("hung-up") && line.contains("the-one-that-left"));
    stage.ok(&get(json!("z")));
    assert!(eventually(5 * SECOND, || age() > 1.0), "{}", age());
    let done = || stage.daemon.metric("cache_sync_events_total", &["type=\"SET\"", "outcome=\"ok\""]);
    assert_eq!(done(), 0.0);
    gate.open();
    assert!(eventually(5 * SECOND, || age() == 0.0), "{}", age());
    assert!(eventually(5 * SECOND, || done() == 1.0), "an event that was carried out is not counted");
    assert_eq!(spread(&stage.daemon, "cache_sync_event_delay_seconds", ["0.5"]), (2.0, [1.0]));
}

#[test]
fn batches_that_redis_did_not_take_are_counted() {
    let mut redis = Redis::start();
    let daemon = Daemon::builder().redis(&redis).set("redis.retry_ms", 300).start();
    let failed = || daemon.metric("cache_sync_redis_failed_batches_total", &[]);
    daemon.post(&set_inline("a", "1"));
    assert_eq!(failed(), 0.0);
    redis.kill();
    daemon.post(&set_inline("a", "1"));
    assert!(failed() >= 1.0, "{}", failed());
    redis.restart();
    assert!(eventually(10 * SECOND, || daemon.post(&set_inline("a", "1")).status == 200));
    let before = failed();
    daemon.post(&set_inline("a", "1"));
    assert_eq!(failed(), before);
}
