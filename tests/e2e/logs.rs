//! The log: one line a request, whose it is and how it went; and what must never stand in it.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Blob, BlobServer, Builder, Daemon, Gate, Stage, delete, delete_pattern, eventually, get, set, set_blob, set_inline,
};

const JSON: (&str, &str) = ("content-type", "application/json");

/// Posts under this request id, and returns every log line that carries it once the info line has come.
fn lines_of(daemon: &Daemon, id: &str, body: &Value) -> Vec<String> {
    daemon.post_with(&[JSON, ("x-request-id", id)], body.to_string().as_bytes());
    daemon.log_line(|line| line.contains(id) && is(line, "info"));
    // The next request's line comes behind all of this one's.
    let after = format!("after-{}", id.to_uppercase());
    daemon.post_with(&[JSON, ("x-request-id", &after)], b"[]");
    daemon.log_line(|line| line.contains(&after));
    daemon.logs().into_iter().filter(|line| line.contains(id)).collect()
}

/// Whether a line is of this level, in either format.
fn is(line: &str, level: &str) -> bool {
    match serde_json::from_str::<Value>(line) {
        Ok(json) => json["severity_text"].as_str().is_some_and(|found| found.eq_ignore_ascii_case(level)),
        Err(_) => line.split(|c: char| !c.is_alphanumeric()).take(10).any(|word| word.eq_ignore_ascii_case(level)),
    }
}

/// Whether any field of a JSON line has this value, as itself or as text.
fn has(line: &Value, wanted: &Value) -> bool {
    let text = wanted.as_str().map_or(wanted.to_string(), str::to_owned);
    let fits = |value: &Value| value == wanted || value.as_str() == Some(&text);
    line.as_object().is_some_and(|fields| {
        fields.values().any(|value| fits(value) || value.as_object().is_some_and(|inner| inner.values().any(fits)))
    })
}

#[test]
fn a_request_is_one_line_at_info() {
    for format in ["text", "json"] {
        let daemon = Daemon::builder().embedded().set("log_format", format).start();
        for (id, body) in [
            ("rid-single", get(json!(["a", "b"]))),
            ("rid-batch", json!([set(json!({"key": "a", "value": 1})), delete(json!("a")), get(json!("a"))])),
            ("rid-empty", json!([])),
        ] {
            let lines = lines_of(&daemon, id, &body);
            assert_eq!(lines.iter().filter(|line| is(line, "info")).count(), 1, "{format}: {lines:#?}");
            assert!(!lines.iter().any(|line| is(line, "debug")), "{format}: {lines:#?}");
        }
        let lines = lines_of(&daemon, "rid-bad", &json!({"key": "GET"}));
        assert_eq!(lines.iter().filter(|line| is(line, "info")).count(), 1, "{format}: {lines:#?}");
    }
}

#[test]
fn the_line_tells_keys_outcome_and_cluster() {
    let blobs = BlobServer::start();
    let builder = Daemon::builder().embedded().set("log_format", "json").set("cluster", "blue-17");
    let daemon = builder.set("fetch.attempts", 1).start();
    blobs.put("/down", Blob::status(503));
    let seven = get(json!(["a", "b", "c", "d", "e", "f", "g"]));
    let gone =
        set(json!((0..7).map(|n| json!({"key": format!("k{n}"), "url": blobs.url("/gone")})).collect::<Vec<_>>()));
    let down =
        set(json!((0..7).map(|n| json!({"key": format!("k{n}"), "url": blobs.url("/down")})).collect::<Vec<_>>()));
    for (id, body, outcome) in [("rid-1", &seven, "ok"), ("rid-2", &gone, "rejected"), ("rid-3", &down, "unavailable")]
    {
        let lines = lines_of(&daemon, id, body);
        let line = lines.iter().find(|line| is(line, "info")).expect("a line at info");
        let line: Value = serde_json::from_str(line).expect("a line of JSON");
        for wanted in [json!(7), json!(outcome), json!(id), json!("blue-17")] {
            assert!(has(&line, &wanted), "no field is {wanted}: {line}");
        }
    }
    for line in daemon.logs() {
        let json: Value =
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("a line that is no JSON ({e}): {line}"));
        assert!(has(&json, &json!("blue-17")), "no cluster: {line}");
    }
    let metrics = daemon.metrics();
    let ours: Vec<_> = metrics.keys().filter(|name| name.starts_with("cache_sync_")).collect();
    assert!(!ours.is_empty() && ours.iter().all(|name| name.contains("cluster=\"blue-17\"")), "{ours:#?}");
}

#[test]
fn in_json_a_line_has_the_names_of_opentelemetry() {
    let daemon = Daemon::builder().embedded().set("log_format", "json").set("cluster", "blue-17").start();
    let lines = lines_of(&daemon, "rid-names", &json!([get(json!("a")), {"key": "GET", "id": "bad"}]));
    let parsed = |level: &str| -> Value {
        let line = lines.iter().find(|line| is(line, level)).expect("a line of this level");
        serde_json::from_str(line).expect("a line of JSON")
    };
    let request = parsed("info");
    let wanted = json!({
        "severity_text": "INFO", "severity_number": 9, "body": "request",
        "service.name": "redis-cache-sync", "service.version": env!("CARGO_PKG_VERSION"), "k8s.cluster.name": "blue-17",
        "http.request.method": "POST", "url.path": "/events", "http.response.status_code": 207,
        "asked": "batch", "events": 2, "keys": 1, "outcome": "rejected", "request_id": "rid-names",
    });
    for (name, value) in wanted.as_object().expect("an object") {
        assert_eq!(&request[name], value, "{name}: {request}");
    }
    let names = request.as_object().expect("an object").keys().map(String::as_str).collect::<BTreeSet<_>>();
    let wanted = wanted.as_object().expect("an object").keys().map(String::as_str);
    let varying = [
        "client.address",
        "token",
        "timestamp",
        "otel.scope.name",
        "ms",
        "http.request.body.size",
        "http.response.body.size",
    ];
    assert_eq!(names, wanted.chain(varying).collect());
    assert!(is_rfc_3339(request["timestamp"].as_str().expect("a text")), "{request}");

    let failure = parsed("warn");
    assert!(failure["severity_number"] == 13 && failure["error.type"] == "invalid-event", "{failure}");
    assert!(failure["exception.message"].as_str().is_some_and(|cause| cause.contains("/value")), "{failure}");

    let listening: Value = serde_json::from_str(&daemon.log_line(|line| line.contains("\"listening\""))).expect("JSON");
    assert_eq!(listening["server.address"], "127.0.0.1");
    assert_eq!(listening["server.port"], daemon.address().port());
}

/// RFC 3339, in UTC.
fn is_rfc_3339(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00.000Z"
}

#[test]
fn in_text_the_cluster_stands_on_every_line_too() {
    let daemon = Daemon::builder().embedded().set("cluster", "blue-17").start();
    daemon.post(&get(json!("k")));
    daemon.post(&json!({}));
    lines_of(&daemon, "rid-x", &get(json!("k")));
    assert!(daemon.logs().iter().all(|line| line.contains("blue-17")), "{:#?}", daemon.logs());
}

#[test]
fn an_event_is_a_line_at_debug() {
    let daemon = Daemon::builder().embedded().set("log_level", "debug").start();
    let mut events = [get(json!("a")), delete(json!("a"))];
    for (event, id) in events.iter_mut().zip(["ev-one", "ev-two"]) {
        event["id"] = json!(id);
    }
    let lines = lines_of(&daemon, "rid-debug", &json!(events));
    for id in ["ev-one", "ev-two"] {
        assert!(lines.iter().any(|line| is(line, "debug") && line.contains(id)), "no line about {id}: {lines:#?}");
    }
}

#[test]
fn a_failure_is_a_warning_with_its_id_and_problem() {
    let blobs = BlobServer::start();
    let daemon = Daemon::builder().embedded().set("fetch.attempts", 1).start();
    blobs.put("/down", Blob::status(503));
    let with_id = |mut event: Value, id: &str| {
        event["id"] = json!(id);
        event
    };
    let cases = [
        ("ev-gone", set_blob("k", &blobs.url("/gone")), "blob-not-found"),
        ("ev-down", set_blob("k", &blobs.url("/down")), "blob-unavailable"),
        ("ev-bad", get(json!("")), "invalid-event"),
    ];
    for (id, event, problem) in cases {
        daemon.post(&with_id(event.clone(), id));
        let line = daemon.log_line(|line| line.contains(id) && is(line, "warn"));
        assert!(line.contains(problem), "{line}");
        let id = format!("{id}-in-batch");
        daemon.post(&json!([get(json!("k")), with_id(event, &id)]));
        let line = daemon.log_line(|line| line.contains(&id) && is(line, "warn"));
        assert!(line.contains(problem), "{line}");
    }
}

#[test]
fn no_value_ever_reaches_the_log() {
    let blobs = BlobServer::start();
    blobs.put("/blob", Blob::bytes("S3CRET-in-blob"));
    for format in ["text", "json"] {
        let builder = Daemon::builder().embedded().set("log_level", "debug").set("log_format", format);
        let daemon = builder.set("auth.tokens", "S3CRET-token").start();
        let post = |body: &str| {
            let headers = [JSON, ("authorization", "Bearer S3CRET-token")];
            daemon.post_with(&headers, body.as_bytes()).text()
        };
        let url = format!("{}?sig=S3CRET-query", blobs.url("/blob"));
        post(&set(json!({"key": "a", "value": "S3CRET-text"})).to_string());
        post(&set(json!({"key": "b", "value": {"card": "S3CRET-json"}})).to_string());
        post(&set(json!([url, {"key": "c", "url": url}])).to_string());
        assert!(post(&get(json!(["a", "b", "c"])).to_string()).contains("S3CRET-json"));
        post(r#"{"key":"SET","value":{"data":{"key":"a","value":"S3CRET-broken""#);
        post(r#"{"key":"SET","value":{"data":{"key":"a","value":"S3CRET==","encoding":"base64"}}}"#);
        post(r#"{"key":"SET","value":{"data":{"key":"a","value":"S3CRET\ud800"}}}"#);
        post(r#"{"key":"SET","value":{"data":{"key":"a","value":"S3CRET","url":"http://h/?S3CRET"}}}"#);
        post(r#"{"key":"SET","value":{"data":{"key":"a","value":null},"ttl":"S3CRET"}}"#);
        daemon.post_with(&[JSON, ("authorization", "Bearer S3CRET-wrong")], b"{}");
        daemon.post_with(&[JSON, ("authorization", "Bearer S3CRET-token"), ("x-request-id", "the-end")], b"[]");
        daemon.log_line(|line| line.contains("the-end"));
        let log = daemon.logs();
        let told: Vec<_> = log.iter().filter(|line| line.contains("S3CRET")).collect();
        assert!(told.is_empty(), "{told:#?}");
    }
}

#[test]
fn what_a_sender_names_cannot_forge_a_line() {
    let daemon = Daemon::builder().embedded().set("log_level", "debug").start();
    let forged = "x\nFORGED line\r\nFORGED again\u{1b}[31m";
    for event in
        [get(json!(forged)), json!({"key": "GET", "value": {"data": {forged: 1}}}), json!({"key": forged, "value": 1})]
    {
        let mut event = event;
        event["id"] = json!(forged);
        daemon.post(&event);
    }
    lines_of(&daemon, "rid-last", &json!([]));
    let log = daemon.logs();
    assert!(!log.iter().any(|line| line.starts_with("FORGED") || line.contains('\u{1b}')), "{log:#?}");
}

#[test]
fn what_is_turned_away_is_not_told_as_ok() {
    let daemon = Daemon::builder().embedded().set("log_format", "json").start();
    for (method, path, outcome) in
        [("GET", "/nope?sig=S3CRET", "not-found"), ("GET", "/events?sig=S3CRET", "method-not-allowed")]
    {
        let mut wire = daemon.wire();
        wire.send_request(method, path, &[("x-request-id", outcome)], b"");
        wire.answer();
        for level in ["info", "warn"] {
            let line = daemon.log_line(|line| line.contains(outcome) && is(line, level));
            let line: Value = serde_json::from_str(&line).expect("a line of JSON");
            assert!(line["outcome"] == outcome && line["request_id"] == outcome, "{line}");
        }
    }
    assert!(!daemon.logs().iter().any(|line| line.contains("S3CRET")), "{:#?}", daemon.logs());
}

/// A stage on which what takes longer than 600 ms is slow.
fn slow_stage(settings: impl FnOnce(Builder) -> Builder) -> Stage {
    Stage::with(|daemon| settings(daemon.set("log_format", "json").set("log_slow_ms", 600)))
}

/// Waits until so many events are inside, and then until they are all slow.
#[track_caller]
fn wait_slow(daemon: &Daemon, events: u32) {
    let is_inside = || daemon.metric("cache_sync_admission_events", &[]) == f64::from(events);
    assert!(eventually(Duration::from_secs(5), is_inside), "{events} events were not accepted");
    let age = || daemon.metric("cache_sync_queue_oldest_age_seconds", &[]);
    let then = age();
    assert!(eventually(Duration::from_secs(5), || age() > then + 1.0), "nothing waits");
}

/// The line whose field says so, and its parts, which must be the whole: total, waiting, fetching and Redis's share.
#[track_caller]
fn slow_line(daemon: &Daemon, message: &str, (field, says): (&str, &str)) -> (Value, [u64; 4]) {
    let fits = |line: &Value| line["body"] == message && line[field] == says;
    let line = daemon.log_line(|line| serde_json::from_str::<Value>(line).is_ok_and(|line| fits(&line)));
    let line: Value = serde_json::from_str(&line).expect("a line of JSON");
    let parts = ["ms", "waiting_ms", "fetching_ms", "redis_ms"].map(|part| line[part].as_u64().expect(part));
    assert_eq!(parts[0], parts[1] + parts[2] + parts[3], "{line}");
    assert!(line["severity_text"] == "WARN" && parts[0] >= 600, "{line}");
    (line, parts)
}

fn slow_lines(daemon: &Daemon) -> usize {
    daemon.logs().iter().filter(|line| line.contains(r#""body":"slow operation""#)).count()
}

#[test]
fn a_slow_blob_and_what_waits_behind_it_say_so() {
    let stage = slow_stage(|daemon| daemon);
    let gate = Gate::closed();
    stage.blobs.put("/b", Blob::bytes("b").gate(&gate));
    let mut blob = set_blob("k", &stage.blobs.url("/b?sig=S3CRET"));
    blob["id"] = json!("ev-slow");
    let headers = [JSON, ("x-request-id", "rid-slow")];
    thread::scope(|scope| {
        scope.spawn(|| stage.daemon.post_with(&headers, blob.to_string().as_bytes()));
        stage.blobs.wait_hits("/b", 1);
        let is_inside = |events: f64| stage.daemon.metric("cache_sync_admission_events", &[]) == events;
        scope.spawn(|| stage.daemon.post(&get(json!(["k", "other"]))));
        assert!(eventually(Duration::from_secs(5), || is_inside(2.0)), "the second was not accepted");
        scope.spawn(|| stage.daemon.post(&delete_pattern(json!("k*"))));
        wait_slow(&stage.daemon, 3);
        gate.open();
    });
    let (line, [total, waiting, fetching, redis]) = slow_line(&stage.daemon, "slow operation", ("event", "SET"));
    assert!(fetching > total / 2 && waiting < fetching && redis < fetching, "{line}");
    assert_eq!((&line["event"], &line["event_id"]), (&json!("SET"), &json!("ev-slow")));
    assert_eq!(line["request_id"], "rid-slow");
    for event in ["GET", "DELETE_PATTERN"] {
        let (line, [total, waiting, fetching, _]) = slow_line(&stage.daemon, "slow operation", ("event", event));
        assert!(waiting > total / 2 && fetching == 0, "{line}");
    }
    assert_eq!(slow_lines(&stage.daemon), 3, "another key's operation was not slow: {:#?}", stage.daemon.logs());
    assert!(!stage.daemon.logs().iter().any(|line| line.contains("S3CRET")), "{:#?}", stage.daemon.logs());
}

#[test]
fn all_attempts_at_a_blob_and_the_pauses_between_them_are_fetching() {
    let stage = slow_stage(|daemon| daemon);
    let again = || Blob::status(503).header("Retry-After", "1");
    stage.blobs.put_sequence("/b", vec![again(), Blob::bytes("b")]);
    stage.ok(&set_blob("k", &stage.blobs.url("/b")));
    let (line, [total, _, fetching, _]) = slow_line(&stage.daemon, "slow operation", ("key", "k"));
    assert!(total >= 1000 && fetching >= 1000, "{line}");
}

#[test]
fn a_slow_redis_is_told_from_the_rest() {
    let mut stage = slow_stage(|daemon| daemon.set("redis.response_timeout_ms", 10_000));
    stage.redis.pause();
    thread::scope(|scope| {
        scope.spawn(|| stage.daemon.post(&set_inline("k", "v")));
        wait_slow(&stage.daemon, 1);
        stage.redis.resume();
    });
    let (line, [total, waiting, fetching, redis]) = slow_line(&stage.daemon, "slow operation", ("key", "k"));
    assert!(redis > total / 2 && waiting < redis && fetching == 0, "{line}");
}

#[test]
fn the_scan_of_a_pattern_is_the_time_of_redis() {
    let stage = Stage::with(|daemon| daemon.set("log_format", "json").set("log_slow_ms", 1));
    let mut pipe = redis::pipe();
    for n in 0..50_000 {
        pipe.cmd("SET").arg(format!("k{n}")).arg("v").ignore();
    }
    pipe.exec(&mut stage.redis.conn()).expect("SET");
    stage.ok(&delete_pattern(json!("k*")));
    let line = stage.daemon.log_line(|line| line.contains("slow operation") && line.contains("DELETE_PATTERN"));
    let line: Value = serde_json::from_str(&line).expect("a line of JSON");
    let part = |part: &str| line[part].as_u64().expect("a number");
    assert!(line["key"] == "k*" && part("redis_ms") > part("ms") / 2, "{line}");
    assert_eq!(part("ms"), part("waiting_ms") + part("fetching_ms") + part("redis_ms"), "{line}");
}

#[test]
fn what_failed_slowly_says_on_its_own_line_where_its_time_went() {
    let mut stage = slow_stage(|daemon| daemon.set("fetch.attempts", 1).set("redis.retry_ms", 1500));
    stage.blobs.put("/down", Blob::status(503).delay(Duration::from_millis(1200)));
    stage.daemon.post(&set_blob("b", &stage.blobs.url("/down")));
    let (line, [total, _, fetching, redis]) = slow_line(&stage.daemon, "event not carried out", ("key", "b"));
    assert!(line["error.type"] == "blob-unavailable" && fetching > total / 2 && redis == 0, "{line}");
    stage.redis.pause();
    stage.daemon.post(&set_inline("k", "v"));
    let (line, [total, _, _, redis]) = slow_line(&stage.daemon, "event not carried out", ("key", "k"));
    assert!(line["error.type"] == "cache-unavailable" && redis > total / 2, "{line}");
    stage.redis.resume();
    stage.daemon.post(&set_blob("quick", &stage.blobs.url("/gone")));
    let line = stage.daemon.log_line(|line| line.contains("blob-not-found"));
    assert!(!line.contains("_ms") && slow_lines(&stage.daemon) == 0, "{:#?}", stage.daemon.logs());
}

#[test]
fn what_is_not_done_when_its_answer_is_due_says_where_it_was() {
    let stage = slow_stage(|daemon| daemon.set("event.deadline_ms", 1500).set("fetch.per_host", 1));
    let gate = Gate::closed();
    stage.blobs.put("/b", Blob::bytes("b").gate(&gate));
    let url = stage.blobs.url("/b");
    stage.daemon.post(&json!([set_blob("first", &url), set_blob("second", &url)]));
    gate.open();
    let (line, [total, _, fetching, _]) = slow_line(&stage.daemon, "event not carried out", ("key", "first"));
    assert!(line["error.type"] == "timeout" && fetching > total / 2, "{line}");
    let (line, [total, waiting, ..]) = slow_line(&stage.daemon, "event not carried out", ("key", "second"));
    assert!(line["error.type"] == "timeout" && waiting > total / 2, "{line}");
}

#[test]
fn slow_operations_do_not_flood_the_log_and_none_is_lost_from_the_count() {
    let mut stage = slow_stage(|daemon| daemon.set("redis.response_timeout_ms", 10_000));
    let events: Vec<Value> = (0..3000).map(|n| set_inline(&format!("k{n}"), "v")).collect();
    stage.redis.pause();
    thread::scope(|scope| {
        scope.spawn(|| stage.daemon.post(&json!(events)));
        wait_slow(&stage.daemon, 3000);
        stage.redis.resume();
    });
    let line =
        stage.daemon.log_line(|line| line.contains("similar lines left out") && line.contains("\"slow operation\""));
    let line: Value = serde_json::from_str(&line).expect("a line of JSON");
    let told = slow_lines(&stage.daemon);
    assert!((1..=200).contains(&told), "{told} lines");
    assert!(line["count"].as_u64() == Some(3000 - told as u64), "{told} were told of, and {line}");
}

#[test]
fn what_a_caller_can_repeat_is_limited_and_counted() {
    let daemon = Daemon::builder().embedded().set("auth.tokens", "0123456789abcdef").start();
    let token = ("authorization", "Bearer 0123456789abcdef");
    let lines = "x\n".repeat(9_000);
    let count = |part: &str| daemon.logs().iter().filter(|line| line.contains(part)).count();
    let answer = daemon.post_with(&[token, ("content-type", "application/x-ndjson")], lines.as_bytes());
    assert_eq!(answer.status, 207);
    let told = daemon.log_line(|line| line.contains("similar lines left out") && line.contains("malformed-json"));
    let rejected = count(" event rejected ");
    assert!((100..=300).contains(&rejected), "{rejected} lines: a hundred in each two seconds");
    assert!(told.contains(&format!("count={}", 9_000 - rejected)), "{told}");
    for _ in 0..50 {
        daemon.post_with(&[], b"{}").problem(401, "unauthorized");
    }
    daemon.log_line(|line| line.contains("similar lines left out") && line.contains("unauthorized"));
    assert!(count(" request rejected ") < 10, "{}", count(" request rejected "));
    assert!(eventually(Duration::from_secs(5), || count(" request method=") >= 51), "each request has its line");
}

#[test]
fn of_requests_that_went_well_some_have_a_line_and_of_failures_each() {
    let builder = Daemon::builder().embedded().set("http.workers", 1).set("log_requests_one_in", 10);
    let daemon = builder.start();
    let post = |id: &str, body: &Value| daemon.post_with(&[JSON, ("x-request-id", id)], body.to_string().as_bytes());
    for n in 0..40 {
        assert_eq!(post(&format!("well-{n}-"), &set_inline("k", "v")).status, 200);
        assert_eq!(post(&format!("bad-{n}-"), &json!({"key": "SET"})).status, 422);
        assert_eq!(post(&format!("some-{n}-"), &json!([set_inline("k", "v"), {"key": "SET"}])).status, 207);
        daemon.post_to("/nowhere", &[("x-request-id", &format!("lost-{n}-"))], b"");
    }
    daemon.log_line(|line| line.contains(" request method=") && line.contains("lost-39-"));
    let lines =
        |id: &str| daemon.logs().iter().filter(|line| line.contains(" request method=") && line.contains(id)).count();
    assert_eq!([lines("well-"), lines("bad-"), lines("some-"), lines("lost-")], [4, 40, 40, 40]);
}

#[test]
fn an_outage_that_is_over_is_told_with_its_length() {
    let mut stage = Stage::with(|daemon| daemon.set("redis.retry_ms", 200).set("redis.pool_size", 1));
    let daemon = &stage.daemon;
    stage.redis.kill();
    daemon.log_line(|line| line.contains("cache cannot be reached") && line.contains("cause="));
    thread::sleep(Duration::from_millis(300));
    stage.redis.restart();
    let line = daemon.log_line(|line| line.contains("cache can be reached again"));
    let lasted = line.split("down_seconds=").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok());
    assert!(lasted.is_some_and(|seconds| seconds >= 0.3), "{line}");
    assert!(!daemon.logs().iter().any(|line| line.contains("still cannot be reached")), "a minute has not passed");
}
