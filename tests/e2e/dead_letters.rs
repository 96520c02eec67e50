//! What cannot be applied becomes a dead letter, everything else goes on, and a letter can be listed, run again and dropped.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::journal::{assert_accepted, assert_empty, keep, length};
use crate::support::{
    Blob, BlobServer, Daemon, Gate, PATIENCE, Redis, Stage, eventually, results, set_blob, set_inline,
};

const CHANGES: [&str; 2] = ["/dead-letters/replay", "/dead-letters/drop"];

fn run(redis: &Redis, args: &[&str]) -> Output {
    command(redis, args).output().expect("the program runs")
}

fn command(redis: &Redis, args: &[&str]) -> Command {
    let url = format!("redis://127.0.0.1:{}/0", redis.port());
    let mut command = Command::new(env!("CARGO_BIN_EXE_redis-cache-sync"));
    command
        .arg("dead-letters")
        .args(args)
        .env_clear()
        .env("REDIS_URL", url)
        .env("REDIS_CONNECT_TIMEOUT_MS", "20000")
        .current_dir(std::env::temp_dir());
    command
}

fn listed(redis: &Redis, filter: &[&str]) -> Vec<Value> {
    let output = run(redis, &[&["list", "--json"], filter].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn letters(redis: &Redis) -> u64 {
    redis::cmd("XLEN").arg("{rcs:journal}:dead").query(&mut redis.conn()).expect("XLEN")
}

#[test]
fn poison_is_set_aside_and_replayed_after_the_mend_over_nothing_newer() {
    let Stage { daemon, redis, blobs } = Stage::new();
    blobs.put("/bad", Blob::status(403));
    let url = blobs.url("/bad");
    let events: Vec<Value> = (0..500)
        .map(|n| match n % 100 {
            0 => set_blob(&format!("p:{n}"), &url),
            _ => set_inline(&format!("k:{n}"), "v"),
        })
        .collect();
    assert_accepted(&keep(&daemon, &json!(events)), 500);
    assert_empty(&redis);
    assert_eq!(letters(&redis), 5);
    assert!((0..500).all(|n| redis.exists(&format!("k:{n}")) == (n % 100 != 0)));
    let all = listed(&redis, &[]);
    assert!(all.iter().all(|letter| letter["problem"] == "blob-denied" && letter["attempts"] == 1), "{all:#?}");
    let mut keys: Vec<&str> = all.iter().filter_map(|letter| letter["keys"][0].as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["p:0", "p:100", "p:200", "p:300", "p:400"]);
    for (filter, count) in [
        (["--key", "p:1*"], 1),
        (["--problem", "blob-denied"], 5),
        (["--problem", "cache-refused"], 0),
        (["--source", "minio"], 0),
        (["--age", "1h"], 0),
        (["--age", "<1h"], 5),
    ] {
        assert_eq!(listed(&redis, &filter).len(), count, "{filter:?}");
    }
    let id = all[0]["id"].as_str().expect("an id");
    let shown = run(&redis, &["show", id]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("\"event\""), "{shown:?}");
    assert_eq!(run(&redis, &["show", "1-1"]).status.code(), Some(1));
    let millis = id.split_once('-').expect("milliseconds and a number").0;
    for no_id in ["-", "+", "$", millis, "1-1-1", "18446744073709551616-0"] {
        let refused = run(&redis, &["replay", "--", no_id]);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(64) && told.contains("1795903463933-0"), "{no_id}: {refused:?}");
    }
    assert_eq!(letters(&redis), 5, "what is no ID of a letter touches none");
    assert_eq!(daemon.metric("cache_sync_dead_letters_total", &["problem=\"blob-denied\""]), 5.0);

    blobs.put("/bad", Blob::bytes("mended"));
    assert_eq!(daemon.post(&set_inline("p:400", "newer")).status, 200);
    let replayed = run(&redis, &["replay"]);
    assert!(replayed.status.success(), "{replayed:?}");
    assert_empty(&redis);
    let only_one = || letters(&redis) == 1;
    assert!(eventually(PATIENCE, only_one), "{:#?}", listed(&redis, &[]));
    for n in [0, 100, 200, 300] {
        assert_eq!(redis.value(&format!("p:{n}")).as_deref(), Some(&b"mended"[..]));
    }
    assert_eq!(redis.value("p:400").as_deref(), Some(&b"newer"[..]), "nothing newer is overwritten");
    let superseded = || listed(&redis, &[])[0]["problem"] == "superseded";
    assert!(superseded());
    let before = listed(&redis, &[])[0]["id"].clone();
    assert!(run(&redis, &["replay"]).status.success());
    let anew = || letters(&redis) == 1 && listed(&redis, &[])[0]["id"] != before;
    assert!(eventually(PATIENCE, anew) && superseded(), "{:#?}", listed(&redis, &[]));
    assert_eq!(redis.value("p:400").as_deref(), Some(&b"newer"[..]), "however often it is replayed");
    assert!(run(&redis, &["drop"]).status.success());
    assert_eq!(letters(&redis), 0);
}

#[test]
fn what_is_unavailable_too_often_is_a_dead_letter_and_the_oldest_go() {
    let Stage { daemon, redis, blobs } = Stage::with(|daemon| {
        let daemon = daemon.set("journal.max_attempts", 2).set("fetch.attempts", 1);
        daemon.set("dead_letters.max_events", 2)
    });
    blobs.put("/down", Blob::status(503));
    for n in 0..3 {
        assert_accepted(&keep(&daemon, &set_blob(&format!("k{n}"), &blobs.url("/down"))), 1);
        assert_empty(&redis);
    }
    let all = listed(&redis, &[]);
    assert_eq!(all.iter().map(|letter| letter["keys"][0].clone()).collect::<Vec<_>>(), ["k1", "k2"]);
    assert!(all.iter().all(|letter| letter["problem"] == "blob-unavailable" && letter["attempts"] == 2), "{all:#?}");
    assert_eq!(daemon.metric("cache_sync_dead_letters_dropped_total", &[]), 1.0);
    // As if others were waiting.
    redis.put("{rcs:journal}:events", b"5");
    let refused = run(&redis, &["replay", "--journal-max-events", "5"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("journal.max_events"), "{refused:?}");
    assert_eq!(letters(&redis), 2, "they stay");
}

#[test]
fn a_notification_that_can_never_succeed_is_a_dead_letter_and_one_for_the_journal_is_answered_202() {
    let (redis, blobs) = (Redis::start(), BlobServer::start());
    let daemon =
        Daemon::builder().redis(&redis).set("sources.weed.format", "seaweedfs").set("sources.weed.accept", "journal");
    let daemon = daemon.set("sources.weed.value", "facts").set("sources.minio.format", "s3").start();
    let record = |event: &str| {
        json!({"Records": [{"eventSource": "minio:s3", "eventName": event, "eventTime": "2026-11-28T22:10:23.403Z",
            "s3": {"bucket": {"name": "b"}, "object": {"key": "o", "sequencer": "0055AED6DCD90281E5"}}}]})
    };
    let json = ("content-type", "application/json");
    let answer = daemon.post_to("/sources/minio", &[json], record("s3:ObjectCreated:Put").to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(eventually(PATIENCE, || letters(&redis) == 1), "no store and no URL");
    assert_eq!(listed(&redis, &["--source", "minio"])[0]["problem"], "invalid-event");
    assert_eq!(run(&redis, &["replay"]).status.code(), Some(1), "there is no event to run again");
    let created =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/payloads/seaweedfs-create.http")).expect("a payload");
    let body = created.windows(4).position(|end| end == b"\r\n\r\n").map_or(&created[..], |end| &created[end + 4..]);
    let answer = daemon.post_to("/sources/weed", &[json], body);
    assert_eq!((answer.status, answer.json()), (202, json!({"status": "accepted", "events": 1})));
    assert_empty(&redis);
    drop(blobs);
}

/// What MinIO tells of an object that was put.
fn put_record(object: &str) -> Value {
    json!({"eventSource": "minio:s3", "eventName": "s3:ObjectCreated:Put", "eventTime": "2026-11-28T22:10:23.403Z",
        "s3": {"bucket": {"name": "b"}, "object": {"key": object, "sequencer": "0055AED6DCD90281E5"}}})
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn a_notification_that_can_never_succeed_is_a_dead_letter_though_its_sender_hung_up() {
    let (redis, blobs, gate) = (Redis::start(), BlobServer::start(), Gate::closed());
    let held = gate.clone();
    blobs.fallback(move |_| Some(Blob::status(403).gate(&held)));
    let daemon = Daemon::builder().redis(&redis).set("http.workers", 1).set("stores.files.kind", "http");
    let daemon = daemon.set("stores.files.endpoint", format!("http://127.0.0.1:{}/", blobs.port()));
    let daemon = daemon.set("sources.minio.format", "s3").set("sources.minio.store", "files").start();
    let mut wire = daemon.wire();
    let body = json!({"Records": [put_record("o")]}).to_string();
    wire.send_request("POST", "/sources/minio", &[JSON], body.as_bytes());
    assert!(eventually(PATIENCE, || !blobs.targets().is_empty()), "the object is asked for");
    wire.reset();
    daemon.log_line(|line| line.contains("hung-up"));
    gate.open();
    assert!(eventually(PATIENCE, || letters(&redis) == 1), "what was rejected is a dead letter");
    assert_eq!(listed(&redis, &["--source", "minio"])[0]["problem"], "blob-denied");
}

#[test]
fn what_is_invalid_of_a_notification_for_the_journal_is_a_dead_letter_though_its_sender_hung_up() {
    let (cache, mut journal) = (Redis::start(), Redis::start());
    let daemon = Daemon::builder().redis(&cache).set("journal.url", format!("redis://127.0.0.1:{}/0", journal.port()));
    let daemon = daemon.set("redis.response_timeout_ms", 20_000).set("http.workers", 1);
    let daemon =
        daemon.set("event.max_key_bytes", 4).set("sources.minio.format", "s3").set("sources.minio.accept", "journal");
    let daemon = daemon.set("sources.minio.value", "facts").set("sources.minio.key", "{object}").start();
    assert_accepted(&keep(&daemon, &set_inline("k", "1")), 1);
    assert_empty(&journal);
    journal.pause();
    let mut wire = daemon.wire();
    let body = json!({"Records": [put_record("o"), put_record("too-long")]}).to_string();
    wire.send_request("POST", "/sources/minio", &[JSON], body.as_bytes());
    let held = || daemon.metric("cache_sync_admission_events", &[]) >= 1.0;
    assert!(eventually(PATIENCE, held), "it has arrived");
    wire.reset();
    daemon.log_line(|line| line.contains("hung-up"));
    journal.resume();
    assert!(eventually(PATIENCE, || letters(&journal) == 1), "what was invalid is a dead letter");
    assert_empty(&journal);
    assert!(cache.exists("o"));
}

#[test]
fn the_drain_waits_for_the_dead_letters_of_what_was_answered() {
    let (cache, journal) = (Redis::start(), Redis::start());
    let daemon = Daemon::builder().redis(&cache).set("journal.url", format!("redis://127.0.0.1:{}/0", journal.port()));
    let daemon = daemon.set("redis.response_timeout_ms", 20_000).set("redis.connect_timeout_ms", 20_000);
    let daemon =
        daemon.set("event.max_key_bytes", 4).set("sources.minio.format", "s3").set("sources.minio.value", "facts");
    let mut daemon = daemon.set("sources.minio.key", "{object}").start();
    redis::cmd("CLIENT").arg(&["PAUSE", "2000", "ALL"]).exec(&mut journal.conn()).expect("CLIENT PAUSE");
    let body = json!({"Records": [put_record("o"), put_record("too-long")]}).to_string();
    assert_eq!(daemon.post_to("/sources/minio", &[JSON], body.as_bytes()).status, 200);
    daemon.sigterm();
    assert_eq!(daemon.wait_exit(PATIENCE).code(), Some(0));
    assert!(cache.exists("o"));
    assert_eq!(letters(&journal), 1);
}

#[test]
fn a_letter_of_several_keys_that_succeeds_in_parts_is_run_again_up_to_its_end() {
    let Stage { daemon, redis, blobs } = Stage::with(|daemon| daemon.set("fetch.attempts", 1));
    blobs.put("/a", Blob::status(403));
    blobs.put("/b", Blob::status(403));
    let data = json!([{"key": "a", "url": blobs.url("/a")}, {"key": "b", "url": blobs.url("/b")}]);
    assert_accepted(&keep(&daemon, &json!({"key": "SET", "value": {"data": data}})), 1);
    assert_empty(&redis);
    assert_eq!(letters(&redis), 1);
    blobs.put("/a", Blob::bytes("a"));
    blobs.put("/b", Blob::status(503));
    assert!(run(&redis, &["replay"]).status.success());
    assert!(eventually(PATIENCE, || redis.exists("a")), "the first is mended");
    blobs.wait_hits("/b", 4);
    blobs.put("/b", Blob::bytes("b"));
    assert!(eventually(PATIENCE, || length(&redis) == 0), "it ends");
    assert_eq!(letters(&redis), 0, "{:#?}", listed(&redis, &[]));
    assert_eq!((redis.value("a"), redis.value("b")), (Some(b"a".to_vec()), Some(b"b".to_vec())));
}

/// The first holder dies with letters that are run again and not trimmed: the next one finds what it has written itself.
#[test]
fn what_a_letter_has_written_itself_does_not_keep_it_from_being_run_again() {
    let (cache, journal, blobs) = (Redis::start(), Redis::start(), BlobServer::start());
    let start = || {
        let daemon = Daemon::builder().redis(&cache).set("fetch.attempts", 1);
        daemon.set("journal.url", format!("redis://127.0.0.1:{}/0", journal.port())).start()
    };
    let permit = |set: &str, mset: &str| {
        redis::cmd("ACL").arg(&["SETUSER", "default", set, mset]).exec(&mut cache.conn()).expect("ACL SETUSER");
    };
    let first = start();
    cache.put("gone", b"old");
    permit("-set", "-mset");
    blobs.put("/b", Blob::status(403));
    let data = json!([{"key": "a", "value": "a"}, {"key": "b", "url": blobs.url("/b")}]);
    let several = json!({"key": "SET", "value": {"data": data}});
    let twice = json!([{"key": "t", "value": "1"}, {"key": "t", "value": "2"}, {"key": "gone", "value": "new"}]);
    let events = json!([several, {"key": "SET", "value": {"data": twice}}, set_inline("one", "1")]);
    assert_accepted(&keep(&first, &events), 3);
    assert_empty(&journal);
    assert_eq!(letters(&journal), 3, "{:#?}", listed(&journal, &[]));
    permit("+set", "+mset");
    blobs.put("/b", Blob::status(503));
    assert!(run(&journal, &["replay"]).status.success());
    let written = |redis: &Redis| ["a", "t", "gone", "one"].map(|key| redis.value(key).unwrap_or_default());
    let expected = ["a", "2", "new", "1"].map(|value| value.as_bytes().to_vec());
    assert!(eventually(PATIENCE, || written(&cache) == expected), "all but the blob is there");
    drop(first);
    let hits = blobs.hits("/b");
    let second = start();
    blobs.wait_hits("/b", hits + 2);
    assert_eq!(letters(&journal), 0, "{:#?}", listed(&journal, &[]));
    blobs.put("/b", Blob::bytes("b"));
    assert_empty(&journal);
    assert_eq!(letters(&journal), 0, "{:#?}", listed(&journal, &[]));
    assert_eq!((written(&cache), cache.value("b")), (expected, Some(b"b".to_vec())));
    drop(second);
}

#[test]
fn a_letter_with_a_version_that_is_forgotten_overwrites_nothing_newer() {
    let window = ("redis.version_window_seconds", 1);
    let Stage { daemon, redis, blobs } = Stage::with(|daemon| daemon.set(window.0, window.1));
    let replay = || {
        let mut command = command(&redis, &["replay"]);
        command.env("REDIS_VERSION_WINDOW_SECONDS", "1").output().expect("the program runs")
    };
    let of_version = |mut event: Value, version: u64| {
        event["version"] = json!(version);
        event
    };
    blobs.put("/bad", Blob::status(403));
    let old = |key: &str| of_version(set_blob(key, &blobs.url("/bad")), 1);
    assert_accepted(&keep(&daemon, &json!([old("overtaken"), old("untouched")])), 2);
    assert_empty(&redis);
    assert_eq!(letters(&redis), 2);
    results(&daemon.post(&of_version(set_inline("overtaken", "newer"), 2)), 200, "ok");
    let versions = || redis::cmd("KEYS").arg("rcs:v:*").query::<Vec<String>>(&mut redis.conn()).expect("KEYS");
    assert!(eventually(PATIENCE, || versions().is_empty()), "versions are forgotten: {:?}", versions());
    blobs.put("/bad", Blob::bytes("old"));
    assert!(replay().status.success());
    assert_empty(&redis);
    assert_eq!(redis.value("untouched").as_deref(), Some(&b"old"[..]));
    assert_eq!(redis.value("overtaken").as_deref(), Some(&b"newer"[..]), "nothing newer is overwritten");
    let superseded = || listed(&redis, &["--problem", "superseded"])[0]["id"].clone();
    let before = superseded();
    assert!(replay().status.success());
    assert_empty(&redis);
    assert!(letters(&redis) == 1 && superseded() != before, "{:#?}", listed(&redis, &[]));
    assert_eq!(redis.value("overtaken").as_deref(), Some(&b"newer"[..]), "however often it is replayed");
    assert!(run(&redis, &["drop"]).status.success());
    let mut letter = redis::cmd("XADD");
    letter.arg("{rcs:journal}:dead").arg("*").arg("problem").arg("blob-denied").arg("died").arg("1");
    letter.arg("event").arg(old("k").to_string()).exec(&mut redis.conn()).expect("XADD");
    let refused = replay();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && told.contains("--force"), "{told}");
}

#[test]
fn a_redis_that_permits_no_journal_is_not_asked_again_for_each_notification() {
    let redis = Redis::start();
    let user = ["SETUSER", "half", "on", ">pw", "~*", "+@all", "-eval", "-xadd"];
    redis::cmd("ACL").arg(&user).exec(&mut redis.conn()).expect("a user");
    let daemon = Daemon::builder().redis(&redis).set("redis.username", "half").set("redis.password", "pw");
    let daemon = daemon.set("sources.minio.format", "s3").start();
    let dropped = || daemon.metric("cache_sync_dead_letters_dropped_total", &[]);
    let record = json!({"Records": [{"eventSource": "minio:s3", "eventName": "s3:ObjectCreated:Put",
        "eventTime": "2026-11-28T22:10:23.403Z",
        "s3": {"bucket": {"name": "b"}, "object": {"key": "o", "sequencer": "0055AED6DCD90281E5"}}}]});
    for n in 1..=20 {
        let json = ("content-type", "application/json");
        assert_eq!(daemon.post_to("/sources/minio", &[json], record.to_string().as_bytes()).status, 200);
        assert!(eventually(PATIENCE, || dropped() == f64::from(n)), "{} of {n} are counted", dropped());
    }
    let lines = daemon.logs();
    let told = lines.iter().filter(|line| line.contains("dead letter could not be written")).count();
    let denied: Vec<Vec<redis::Value>> = redis::cmd("ACL").arg("LOG").query(&mut redis.conn()).expect("ACL LOG");
    let of = |entry: &Vec<redis::Value>, name: &str| {
        let place = entry.iter().position(|part| *part == redis::Value::BulkString(name.into()))?;
        Some(format!("{:?}", entry.get(place + 1)?))
    };
    let evals = denied.iter().filter(|entry| of(entry, "object").is_some_and(|object| object.contains("eval")));
    let counts: Vec<Option<String>> = evals.map(|entry| of(entry, "count")).collect();
    // The feeder asks once, and each HTTP worker at most once.
    assert!(told <= 1 && counts.len() <= 2, "{told} warnings, {counts:?}");
}

#[test]
fn large_letters_are_read_a_few_at_a_time() {
    const LETTERS: usize = 16;
    let Stage { daemon, redis, .. } = Stage::new();
    let event = set_inline("large", &"x".repeat(4 << 20)).to_string();
    for n in 0..LETTERS {
        let mut letter = redis::cmd("XADD");
        letter.arg("{rcs:journal}:dead").arg("*").arg("problem").arg("blob-denied").arg("event").arg(&event);
        letter.arg("of").arg(format!("{n}-0.0")).exec(&mut redis.conn()).expect("XADD");
    }
    let before = peak_mib(daemon.pid()).expect("it runs");
    let listed = daemon.get("/dead-letters.json").json();
    assert_eq!(listed["letters"].as_array().map(Vec::len), Some(LETTERS), "{listed}");
    let peak = peak_mib(daemon.pid()).expect("it runs");
    assert!(peak < before + 40, "{peak} MiB after {before} for {LETTERS} letters of 4 MiB");
    let mut command = command(&redis, &["list"]);
    let mut listing = command.stdout(Stdio::null()).spawn().expect("the program runs");
    let mut peak = 0;
    let ended = eventually(PATIENCE, || {
        peak = peak_mib(listing.id()).unwrap_or(0).max(peak);
        listing.try_wait().expect("a child").is_some()
    });
    assert!(ended && listing.wait().is_ok_and(|status| status.success()), "it lists");
    assert!(peak > 0 && peak < 80, "{peak} MiB for {LETTERS} letters of 4 MiB");
}

#[test]
fn letters_of_many_small_parts_are_shown_in_a_few_times_their_bytes() {
    const AT_ONCE: usize = 4;
    let Stage { daemon, redis, .. } = Stage::new();
    let extra = "0,".repeat(4 << 20);
    let event = format!(r#"{{"key":"SET","value":{{"data":{{"key":"k","value":"v"}}}},"extra":[{extra}0]}}"#);
    let mut letter = redis::cmd("XADD");
    letter.arg("{rcs:journal}:dead").arg("1-1").arg("problem").arg("blob-denied").arg("event").arg(&event);
    letter.exec(&mut redis.conn()).expect("XADD");
    let before = peak_mib(daemon.pid()).expect("it runs");
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let answer = daemon.get("/dead-letters.json?id=1-1");
                let text = answer.text();
                let begin: String = text.chars().take(200).collect();
                assert!(answer.status == 200 && text.contains(&extra), "{}: {begin}", answer.status);
            });
        }
    });
    let request = json!({"ids": ["1-1"]}).to_string();
    let answer = daemon.post_to("/dead-letters/replay", &[("content-type", "application/json")], request.as_bytes());
    assert_eq!(answer.json()["done"], 0, "what its keys held is not known");
    let peak = peak_mib(daemon.pid()).expect("it runs");
    assert!(peak < before + 120, "{peak} MiB after {before} for {AT_ONCE} answers of 8 MiB");
}

#[test]
fn lists_side_by_side_share_two_connections() {
    const AT_ONCE: usize = 24;
    let Stage { daemon, redis, .. } = Stage::new();
    assert_eq!(daemon.get("/dead-letters.json").status, 200);
    let mut conn = redis.conn();
    let connected = |conn: &mut redis::Connection| {
        let clients: String = redis::cmd("CLIENT").arg("LIST").query(conn).expect("CLIENT LIST");
        clients.lines().count()
    };
    let before = connected(&mut conn);
    // Scripts wait so long, and with them the lists.
    redis::cmd("CLIENT").arg(&["PAUSE", "1500", "WRITE"]).exec(&mut conn).expect("CLIENT PAUSE");
    let mut most = 0;
    std::thread::scope(|scope| {
        let lists: Vec<_> =
            (0..AT_ONCE).map(|_| scope.spawn(|| assert_eq!(daemon.get("/dead-letters.json").status, 200))).collect();
        while !lists.iter().all(|list| list.is_finished()) {
            most = connected(&mut conn).max(most);
        }
    });
    // Two may close while two begin, and the journal's own may be made anew.
    assert!(most <= before + 6, "{most} connections after {before} for {AT_ONCE} lists");
}

#[test]
fn a_change_has_the_time_and_the_room_of_a_body() {
    let redis = Redis::start();
    let daemon = Daemon::builder().redis(&redis).set("http.body_timeout_ms", 400).start();
    for path in CHANGES {
        let mut wire = daemon.wire();
        wire.send_request("POST", path, &[JSON, ("content-length", "20")], b"{");
        wire.answer().problem(408, "request-timeout");
        assert!(wire.is_closed());
        let ids = format!("{{\"ids\":[\"1-1\"]{}}}", " ".repeat(64 << 10));
        let told = daemon.post_to(path, &[JSON], ids.as_bytes()).problem(413, "payload-too-large");
        let detail = told["detail"].as_str().expect("a detail");
        assert!(detail.contains("65536") && !detail.contains("http.max_body_bytes"), "{detail}");
    }
}

#[test]
fn a_change_is_refused_while_the_service_drains_and_answered_when_it_ends() {
    let redis = Redis::start();
    let mut daemon = Daemon::builder().redis(&redis).set("http.shutdown_seconds", 4).start();
    let waits = [JSON, ("content-length", "20"), ("expect", "100-continue")];
    let mut waiting = CHANGES.map(|path| {
        let mut wire = daemon.wire();
        wire.send_request("POST", path, &waits, b"");
        assert_eq!(wire.answer_to_head().status, 100);
        wire
    });
    let mut late = CHANGES.map(|path| (path, daemon.wire()));
    daemon.sigterm();
    daemon.log_line(|line| line.contains("draining"));
    for (path, wire) in &mut late {
        wire.send_request("POST", path, &[JSON], b"{\"ids\":[\"1-1\"]}");
        let answer = wire.answer();
        answer.problem(503, "shutting-down");
        assert_eq!(answer.header("connection"), Some("close"), "{path}");
    }
    for wire in &mut waiting {
        wire.answer().problem(503, "shutting-down");
    }
    assert!(daemon.wait_exit(PATIENCE).success());
}

/// Of memory; None: it has ended.
fn peak_mib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(peak.trim().trim_end_matches(" kB").parse::<u64>().ok()? >> 10)
}
