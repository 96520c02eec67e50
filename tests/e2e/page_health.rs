//! What `/status.json` says of what is not well: since when, why, what failed, and what may be done once more.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::{Blob, BlobServer, Builder, Daemon, Gate, PATIENCE, Redis, Stage, eventually, get, set_inline};

fn status(daemon: &Daemon) -> Value {
    daemon.get("/status.json").json()
}

/// Those parts that are not well.
fn troubles(status: &Value) -> Vec<Value> {
    let parts = status["health"].as_array().expect("a list");
    parts.iter().filter(|part| part["state"] != "ok").cloned().collect()
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

fn stage() -> Stage {
    let builder = |builder: Builder| builder.set("fetch.attempts", 2).set("stores.files.kind", "http");
    Stage::with(|plain| builder(plain).set("stores.files.endpoint", "http://127.0.0.1:9/"))
}

fn from_url(key: &str, url: &str, version: Option<u64>) -> Value {
    let mut event = json!({"key": "SET", "value": {"data": {"key": key, "url": url}, "ttl": 60}});
    if let Some(version) = version {
        event["version"] = version.into();
    }
    event
}

#[test]
fn a_failed_fetch_is_told_with_key_url_and_attempts_and_with_the_event_that_repeats_it() {
    let stage = stage();
    let url = stage.blobs.url("/flaky");
    stage.blobs.put("/flaky", Blob::status(503));
    assert_eq!(stage.daemon.post(&from_url("versioned", &url, Some(7))).status, 503);
    assert_eq!(stage.daemon.post(&from_url("signed", &format!("{url}?sig=PLANTED"), Some(7))).status, 503);
    assert_eq!(stage.daemon.post(&from_url("plain", &url, None)).status, 503);
    let text = stage.daemon.get("/status.json").text();
    assert!(!text.contains("PLANTED"), "{text}");
    let told = status(&stage.daemon);
    let [plain, signed, versioned] = [0, 1, 2].map(|place| &told["failures"][place]);
    assert_eq!((&plain["key"], &plain["url"], &plain["attempts"]), (&json!("plain"), &json!(url), &json!(2)));
    assert_eq!((&plain["class"], &plain["source"]), (&json!("unavailable"), &json!("")));
    assert!(plain["repeat"].is_null() && plain["no_repeat"].as_str().is_some_and(|why| why.contains("no version")));
    assert!(signed["repeat"].is_null() && signed["no_repeat"].as_str().is_some_and(|why| why.contains("query")));
    assert_eq!(versioned["no_repeat"], json!(null));
    // What is offered does what was asked for, and goes over nothing newer.
    stage.blobs.put("/flaky", Blob::bytes("seven"));
    assert_eq!(stage.ok(&versioned["repeat"])[0]["status"], "stored");
    assert_eq!(stage.ok(&get(json!("versioned")))[0]["value"], "seven");
    assert_eq!(stage.ok(&from_url("versioned", &stage.blobs.url("/flaky"), Some(8)))[0]["status"], "stored");
    assert_eq!(stage.ok(&versioned["repeat"])[0]["status"], "superseded");
}

#[test]
fn what_is_rejected_or_came_with_its_value_is_not_offered_again() {
    let mut redis = Redis::start();
    let daemon = Daemon::builder().redis(&redis).set("redis.retry_ms", 200).start();
    daemon.post(&json!({"key": "SET", "value": {"data": {"key": "k", "value": 1}, "ttl": "soon"}}));
    redis.kill();
    daemon.post(&set_inline("kept-nowhere", "v"));
    let failures = status(&daemon)["failures"].clone();
    assert_eq!((&failures[0]["key"], &failures[0]["problem"]), (&json!("kept-nowhere"), &json!("cache-unavailable")));
    assert!(failures[0]["no_repeat"].as_str().is_some_and(|why| why.contains("value is not kept")), "{failures}");
    assert_eq!((&failures[1]["class"], &failures[1]["attempts"]), (&json!(""), &json!(1)));
    assert!(failures[1]["no_repeat"].as_str().is_some_and(|why| why.contains("rejected again")), "{failures}");
}

#[test]
fn a_failure_of_a_source_names_it_and_a_path_of_none_is_not_told() {
    let daemon = Daemon::builder().embedded().set("sources.minio.format", "s3").start();
    daemon.post_to("/sources/minio", &[("content-type", "application/json")], b"{\"no\":\"notification\"");
    daemon.post_to("/sources/somebodys-secret", &[("content-type", "application/json")], b"{}");
    let failures = status(&daemon)["failures"].clone();
    let of_minio = failures.as_array().expect("a list").iter().filter(|failure| failure["source"] == "minio").count();
    assert!(of_minio == 1 && !failures.to_string().contains("somebodys-secret"), "{failures}");
}

#[test]
fn all_is_well_at_first_and_every_part_is_named() {
    let stage = stage();
    let told = status(&stage.daemon);
    assert_eq!(troubles(&told), Vec::<Value>::new());
    let parts: Vec<&str> =
        told["health"].as_array().expect("a list").iter().filter_map(|one| one["part"].as_str()).collect();
    assert_eq!(parts, ["service", "redis", "journal", "admission", "store"]);
    assert_eq!(told["stores"], json!(["files"]));
}

#[test]
fn a_host_and_a_store_that_fail_are_told_with_since_when_and_why_until_they_give_a_blob() {
    let stage = stage();
    let begun = now_ms();
    stage.blobs.put("/flaky", Blob::status(503));
    let event = from_url("k", &stage.blobs.url("/flaky"), Some(1));
    (0..2).for_each(|_| assert_eq!(stage.daemon.post(&event).status, 503));
    let object = json!({"key": "SET", "value": {"data": {"key": "o", "store": "files", "object": "b/n"}}});
    assert_eq!(stage.daemon.post(&object).status, 503);
    let wrong = troubles(&status(&stage.daemon));
    let names: Vec<(&str, &str)> =
        wrong.iter().map(|one| (one["part"].as_str().unwrap(), one["name"].as_str().unwrap())).collect();
    assert_eq!(names, [("store", "files"), ("host", &*format!("127.0.0.1:{}", stage.blobs.port()))], "{wrong:?}");
    for one in &wrong {
        assert!((begun..=now_ms()).contains(&one["since_ms"].as_u64().expect("a time")), "{one}");
    }
    assert!(wrong[1]["why"].as_str().is_some_and(|why| why.contains("503")), "{wrong:?}");
    stage.blobs.put("/flaky", Blob::bytes("now"));
    assert_eq!(stage.daemon.post(&event).status, 200);
    let wrong = troubles(&status(&stage.daemon));
    assert!(wrong.len() == 1 && wrong[0]["part"] == "store", "{wrong:?}");
}

#[test]
fn a_token_for_some_keys_sees_that_a_host_fails_and_not_what_was_fetched() {
    let blobs = BlobServer::start();
    blobs.put("/of-others", Blob::status(503));
    let daemon = Daemon::builder().embedded().set("fetch.attempts", 1);
    let daemon = daemon.set("fetch.allowed_hosts", format!("127.0.0.1:{}", blobs.port()));
    let daemon = daemon.set("auth.tokens", "shop:shop-0123456789abcdef prefix=shop:,admin-0123456789abcdef").start();
    let body = from_url("of-others", &blobs.url("/of-others"), None).to_string();
    let admin = [("authorization", "Bearer admin-0123456789abcdef"), ("content-type", "application/json")];
    assert_eq!(daemon.post_with(&admin, body.as_bytes()).status, 503);
    let seen = |token: &str| {
        let mut wire = daemon.wire();
        wire.send_request("GET", "/status.json", &[("authorization", &format!("Bearer {token}"))], b"");
        wire.answer().json()
    };
    let (all, some) = (seen("admin-0123456789abcdef"), seen("shop-0123456789abcdef"));
    assert_eq!((&all["sees_all_keys"], &some["sees_all_keys"]), (&json!(true), &json!(false)));
    assert!(troubles(&all)[0]["why"].as_str().is_some_and(|why| why.contains("/of-others")), "{all}");
    assert!(troubles(&some)[0]["why"] == "blob-unavailable" && !some.to_string().contains("of-others"), "{some}");
}

#[test]
fn redis_and_the_journal_are_told_with_since_when_and_why_while_they_are_down() {
    let mut redis = Redis::start();
    let daemon = Daemon::builder().redis(&redis).set("redis.retry_ms", 200).set("journal.name", "rcs:page").start();
    let begun = now_ms();
    redis.kill();
    let parts = |wrong: &[Value]| wrong.iter().map(|one| one["part"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let down = || parts(&troubles(&status(&daemon))) == ["redis", "journal"];
    assert!(eventually(Duration::from_secs(20), down), "{}", status(&daemon)["health"]);
    for one in troubles(&status(&daemon)) {
        assert_eq!(one["state"], "down");
        assert!((begun - 2_000..=now_ms()).contains(&one["since_ms"].as_u64().expect("a time")), "{one}");
        assert!(one["why"].as_str().is_some_and(|why| !why.is_empty()), "{one}");
    }
    redis.restart();
    let is_well = || troubles(&status(&daemon)).is_empty();
    assert!(eventually(Duration::from_secs(20), is_well), "{}", status(&daemon)["health"]);
}

#[test]
fn admission_that_is_nearly_full_is_told_with_since_when() {
    let (blobs, gate) = (BlobServer::start(), Gate::closed());
    blobs.put("/held", Blob::bytes("v").gate(&gate));
    let daemon = Daemon::builder().embedded().set("intake.max_in_flight", 10).set("event.max_events", 10);
    let daemon = daemon.set("fetch.allowed_hosts", format!("127.0.0.1:{}", blobs.port())).start();
    let held: Vec<Value> = (0..10).map(|n| from_url(&format!("k{n}"), &blobs.url("/held"), None)).collect();
    let begun_ms = now_ms();
    let mut sender = daemon.wire();
    let json = [("content-type", "application/json")];
    sender.send_request("POST", "/events", &json, Value::from(held).to_string().as_bytes());
    let since_ms = || {
        let part = troubles(&status(&daemon)).into_iter().find(|part| part["part"] == "admission")?;
        Some(part["since_ms"].as_u64().unwrap_or_else(|| panic!("no time: {part}")))
    };
    // It is this very moment, until a sample finds it full; then it stays.
    assert!(eventually(PATIENCE, || since_ms().is_some_and(|since| since + 2_000 < now_ms())));
    assert!(since_ms() >= Some(begun_ms), "{:?} is before {begun_ms}", since_ms());
    gate.open();
    sender.answer();
    assert!(eventually(PATIENCE, || since_ms().is_none()));
}

#[test]
fn a_draining_service_says_so() {
    let stage = stage();
    stage.blobs.put("/hung", Blob::hang());
    let event = from_url("k", &stage.blobs.url("/hung"), None).to_string();
    let mut hung = stage.daemon.wire();
    hung.send_request("POST", "/events", &[("content-type", "application/json")], event.as_bytes());
    stage.blobs.wait_hits("/hung", 1);
    stage.daemon.sigterm();
    let says_so =
        || troubles(&status(&stage.daemon)).iter().any(|one| one["part"] == "service" && one["state"] == "down");
    assert!(eventually(Duration::from_secs(5), says_so), "{}", status(&stage.daemon)["health"]);
}

#[test]
fn the_history_goes_back_as_far_as_is_asked_for() {
    let daemon = Daemon::embedded();
    for (query, span, step) in
        [("", "15m", 5), ("?span=15m", "15m", 5), ("?span=1h", "1h", 20), ("?span=1d", "1d", 480)]
    {
        let history = &daemon.get(&format!("/status.json{query}")).json()["history"];
        assert_eq!((&history["span"], &history["step_seconds"]), (&json!(span), &json!(step)));
    }
    daemon.get("/status.json?span=1y").problem(400, "invalid-request");
    assert_eq!(daemon.get("/status.json?other=1").status, 200);
    let has_hour = || daemon.get("/status.json?span=1h").json()["history"]["steps"] != 0;
    assert!(eventually(Duration::from_secs(40), has_hour), "no step of an hour came");
}

#[test]
fn the_pages_are_small() {
    let daemon = Daemon::embedded();
    for path in ["/", "/docs"] {
        let bytes = daemon.get(path).text().len();
        assert!(bytes < 100_000, "{path} has {bytes} bytes");
    }
    let all = ["/", "/docs"].map(|path| daemon.get(path).text().len()).iter().sum::<usize>();
    assert!(all < 150_000, "{all} bytes");
}
