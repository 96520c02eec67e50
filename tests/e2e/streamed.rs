//! Blobs that go to Redis as they come in. A low `fetch.stream_bytes` sends small ones that way too.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Blob, Daemon, Gate, PATIENCE, Random, Redis, Stage, delete, delete_pattern, eventually, get, ndjson, results,
    set_blob, set_inline,
};

fn at(version: u64, mut event: Value) -> Value {
    event["version"] = version.into();
    event
}

/// All but the shortest blobs are passed on.
fn stage() -> Stage {
    Stage::with(|daemon| daemon.set("fetch.stream_bytes", 10))
}

/// What each entry of each event came to.
#[track_caller]
fn entries(daemon: &Daemon, events: &[Value]) -> Vec<Value> {
    let answer = daemon.post_ndjson(&ndjson(events)).json();
    let events = answer["events"].as_array().unwrap_or_else(|| panic!("no events: {answer}")).clone();
    events.iter().flat_map(|event| event["results"].as_array().cloned().unwrap_or_default()).collect()
}

#[track_caller]
fn statuses(daemon: &Daemon, events: &[Value]) -> Vec<String> {
    entries(daemon, events).iter().map(|entry| entry["status"].as_str().expect("a status").to_owned()).collect()
}

fn peak_kib(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

#[test]
fn a_large_blob_is_stored_byte_for_byte_and_takes_little_memory() {
    let stage = Stage::with(|daemon| daemon.set("fetch.max_blob_bytes", 200 << 20));
    let body = Random::seeded(7).bytes(150 << 20);
    stage.blobs.put("/large", Blob::bytes(&body));
    let url = stage.blobs.url("/large");
    assert_eq!(statuses(&stage.daemon, &[set_inline("warm", "up"), at(1, set_inline("warm", "up"))]), ["stored"; 2]);
    let before = peak_kib(&stage.daemon);
    let mut plain = set_blob("k", &url);
    plain["value"]["ttl"] = json!(500);
    for (event, ttl) in [(plain, json!(500)), (at(1, set_blob("v", &url)), Value::Null)] {
        let key = event["value"]["data"]["key"].clone();
        let expected = json!({"key": key, "status": "stored", "bytes": body.len(), "ttl": ttl, "source": "blob"});
        assert_eq!(results(&stage.daemon.post(&event), 200, "ok"), [expected]);
        assert!(stage.redis.value(key.as_str().expect("a key")).is_some_and(|value| value == body));
    }
    assert!((1..=500).contains(&stage.redis.ttl("k")) && stage.redis.ttl("v") == -1);
    let grown = peak_kib(&stage.daemon) - before;
    assert!(grown < 24 * 1024, "{grown} KiB more");
    assert_eq!(statuses(&stage.daemon, &[at(1, set_inline("v", "late"))]), ["superseded"]);
}

#[test]
fn what_breaks_off_leaves_the_old_value_and_is_fetched_once_more() {
    let stage = stage();
    let whole = || Blob::bytes(vec![b'x'; 100_000]);
    for (key, version) in [("plain", None), ("versioned", Some(2))] {
        let event = |path: &str| {
            let event = set_blob(key, &stage.blobs.url(path));
            version.map_or(event.clone(), |version| at(version, event))
        };
        let first = set_inline(key, "old");
        statuses(&stage.daemon, &[if version.is_some() { at(1, first) } else { first }]);
        stage.blobs.put("/cut", whole().cut_after(50_000));
        let answer = stage.daemon.post(&event("/cut"));
        let problem = &results(&answer, 503, "unavailable")[0]["problem"];
        assert_eq!(problem["type"], "urn:redis-cache-sync:blob-unavailable", "{problem}");
        assert_eq!(stage.redis.value(key).as_deref(), Some(b"old".as_slice()));
        stage.blobs.put_sequence("/once", vec![whole().cut_after(50_000), whole()]);
        assert_eq!(statuses(&stage.daemon, &[event("/once")]), ["stored"]);
        assert_eq!(stage.redis.value(key), Some(vec![b'x'; 100_000]));
        // Nor does anything arrive later of what was given up.
        assert_eq!(statuses(&stage.daemon, &[set_inline(key, "new"), get(json!(key))]), ["stored", "hit"]);
    }
}

#[test]
fn it_keeps_its_turn_among_others_on_its_key() {
    let stage = stage();
    let gate = Gate::closed();
    let body = |byte: u8| vec![byte; 5000];
    stage.blobs.put("/slow", Blob::bytes(body(b's')).drip(500, Duration::from_millis(20)).gate(&gate));
    stage.blobs.put("/fast", Blob::bytes(body(b'f')));
    let (slow, fast) = (stage.blobs.url("/slow"), stage.blobs.url("/fast"));
    let batch = [
        set_inline("k", "first"),
        set_blob("k", &slow),
        get(json!("k")),
        set_blob("k", &fast),
        get(json!("k")),
        delete_pattern(json!("k*")),
        get(json!("k")),
        at(1, set_blob("k", &fast)),
        at(2, set_blob("k", &slow)),
        set_inline("k", "last"),
        get(json!("k")),
        delete(json!("k")),
        set_blob("k", &slow),
    ];
    let answers = std::thread::scope(|scope| {
        let posting = scope.spawn(|| entries(&stage.daemon, &batch));
        stage.blobs.wait_hits("/slow", 1);
        // Others do not wait for it.
        assert_eq!(statuses(&stage.daemon, &[set_blob("other", &fast), set_inline("more", "v")]), ["stored"; 2]);
        gate.open();
        posting.join().expect("it answers")
    });
    let ends: Vec<&str> = answers.iter().map(|entry| entry["status"].as_str().expect("a status")).collect();
    let expected = [
        "stored",
        "stored",
        "hit",
        "stored",
        "hit",
        "deleted",
        "miss",
        "superseded",
        "stored",
        "stored",
        "hit",
        "deleted",
        "stored",
    ];
    // Of two versions that wait side by side the newer may be the only one that is fetched.
    let either = ends
        .iter()
        .zip(expected)
        .all(|(found, wanted)| *found == wanted || wanted == "superseded" && *found == "stored");
    assert!(either, "{ends:?}");
    let text = |byte| String::from_utf8(body(byte)).expect("text");
    assert_eq!((&answers[2]["value"], &answers[4]["value"]), (&json!(text(b's')), &json!(text(b'f'))));
    assert_eq!(answers[10]["value"], "last");
    assert_eq!(stage.redis.value("k"), Some(body(b's')));
}

#[test]
fn a_newer_version_that_comes_while_it_is_passed_on_wins() {
    let stage = stage();
    let other = Daemon::with_redis(&stage.redis);
    let body = vec![b'x'; 20_000];
    for (key, theirs, ours, kept) in
        [("newer", 3, "superseded", b"theirs".to_vec()), ("older", 1, "stored", body.clone())]
    {
        let path = format!("/{key}");
        // The first half comes at once; the second only once they have written.
        stage.blobs.put_sequence(
            &path,
            vec![Blob::bytes(&body).drip(10_000, Duration::from_millis(1000)), Blob::bytes(&body)],
        );
        let answer = std::thread::scope(|scope| {
            let posting = scope.spawn(|| statuses(&stage.daemon, &[at(2, set_blob(key, &stage.blobs.url(&path)))]));
            stage.blobs.wait_hits(&path, 1);
            // It is watched by then.
            let watched = || {
                let list: String =
                    redis::cmd("CLIENT").arg("LIST").query(&mut stage.redis.conn()).expect("CLIENT LIST");
                list.contains("cmd=watch") || list.contains("cmd=multi")
            };
            assert!(eventually(PATIENCE, watched));
            statuses(&other, &[at(theirs, set_inline(key, "theirs"))]);
            posting.join().expect("it answers")
        });
        assert_eq!(answer, [ours], "{key}");
        assert_eq!(stage.redis.value(key), Some(kept), "{key}");
    }
}

#[test]
fn what_the_event_does_not_mean_is_not_let_through() {
    let stage = stage();
    stage.blobs.put("/b", Blob::bytes(vec![b'x'; 100_000]));
    statuses(&stage.daemon, &[set_inline("k", "old")]);
    let wrong = json!({"key": "k", "url": stage.blobs.url("/b"), "sha256": "0".repeat(64)});
    let answer = stage.daemon.post(&json!({"key": "SET", "value": {"data": wrong}}));
    let problem = &results(&answer, 503, "unavailable")[0]["problem"];
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("`sha256`")), "{problem}");
    assert_eq!(stage.redis.value("k").as_deref(), Some(b"old".as_slice()));
}

#[test]
fn unknown_lengths_and_codings_are_held_as_ever() {
    let stage = stage();
    let body = vec![b'x'; 50_000];
    for (path, blob) in [("/chunked", Blob::bytes(&body).chunked()), ("/gzip", Blob::bytes(&body).gzip())] {
        stage.blobs.put(path, blob);
        assert_eq!(statuses(&stage.daemon, &[at(1, set_blob(path, &stage.blobs.url(path)))]), ["stored"]);
        assert_eq!(stage.redis.value(path), Some(body.clone()));
    }
}

#[test]
fn a_redis_that_refuses_or_is_away_is_told_of() {
    let mut stage = Stage::with(|daemon| {
        daemon.set("fetch.stream_bytes", 10).set("fetch.attempts", 2).set("redis.version_window_seconds", 100)
    });
    stage.blobs.put("/b", Blob::bytes(vec![b'x'; 100_000]));
    let url = stage.blobs.url("/b");
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1").exec(&mut stage.redis.conn()).expect("CONFIG SET");
    let answer = stage.daemon.post(&set_blob("k", &url));
    let problem = &results(&answer, 503, "unavailable")[0]["problem"];
    assert_eq!(problem["type"], "urn:redis-cache-sync:cache-unavailable", "{problem}");
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("0").exec(&mut stage.redis.conn()).expect("CONFIG SET");
    stage.redis.kill();
    let answer = stage.daemon.post(&set_blob("k", &url));
    assert_eq!(results(&answer, 503, "unavailable").len(), 1);
    stage.redis.restart();
    assert!(eventually(PATIENCE, || statuses(&stage.daemon, &[set_blob("k", &url)]) == ["stored"]));
    let redis = Redis::start();
    let mut user = redis::cmd("ACL");
    user.arg(&["SETUSER", "sync", "reset", "on", ">pw", "~*", "+@all", "-multi"]);
    user.exec(&mut redis.conn()).expect("ACL SETUSER");
    let daemon = Daemon::builder().redis(&redis).set("redis.username", "sync").set("redis.password", "pw");
    let daemon = daemon.set("fetch.stream_bytes", 10).start();
    assert_eq!(statuses(&daemon, &[set_blob("k", &url)]), ["stored"], "one command needs no more rights");
    let answer = daemon.post(&at(1, set_blob("k", &url)));
    let problem = &results(&answer, 422, "rejected")[0]["problem"];
    assert_eq!(problem["type"], "urn:redis-cache-sync:cache-refused", "{problem}");
}

#[test]
fn a_redis_that_is_busy_when_a_stream_begins_is_waited_for() {
    let connecting = Duration::from_millis(300);
    for has_version in [false, true] {
        let Stage { daemon, mut redis, blobs } = Stage::with(|daemon| {
            let daemon = daemon.set("fetch.stream_bytes", 10).set("fetch.attempts", 1).set("redis.retry_ms", 20_000);
            daemon.set("redis.connect_timeout_ms", connecting.as_millis()).set("redis.response_timeout_ms", 10_000)
        });
        let gate = Gate::closed();
        blobs.put("/b", Blob::bytes(vec![b'x'; 50_000]).gate(&gate));
        let event = set_blob("k", &blobs.url("/b"));
        let event = if has_version { at(1, event) } else { event };
        let stored = std::thread::scope(|scope| {
            let posting = scope.spawn(|| statuses(&daemon, &[event]));
            blobs.wait_hits("/b", 1);
            redis.pause();
            let before = redis.unread().len();
            gate.open();
            assert!(eventually(PATIENCE, || redis.unread().len() > before), "the stream logs in");
            // For longer than it may take to connect to a Redis that is well.
            std::thread::sleep(connecting * 4);
            redis.resume();
            posting.join().expect("it answers")
        });
        assert_eq!(stored, ["stored"]);
    }
}
