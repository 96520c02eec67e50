//! Blobs that need not be fetched, or not once more: superseded before the fetch, or the same as before.

use serde_json::{Value, json};

use crate::support::{
    Blob, BlobServer, Daemon, Gate, PATIENCE, Redis, Stage, delete, delete_pattern, eventually, get, ndjson, results,
    set_blob, set_inline,
};

fn at(version: impl Into<Value>, mut event: Value) -> Value {
    event["version"] = version.into();
    event
}

/// What each entry of each event came to, in the order sent.
#[track_caller]
fn statuses(daemon: &Daemon, events: &[Value]) -> Vec<String> {
    let answer = daemon.post_ndjson(&ndjson(events)).json();
    let events = answer["events"].as_array().unwrap_or_else(|| panic!("no events: {answer}"));
    let entries = events.iter().flat_map(|event| event["results"].as_array().into_iter().flatten());
    entries.map(|entry| entry["status"].as_str().expect("a status").to_owned()).collect()
}

#[track_caller]
fn status(daemon: &Daemon, event: Value) -> String {
    statuses(daemon, &[event]).remove(0)
}

/// Requests for the path that named an entity tag.
fn conditional(blobs: &BlobServer, path: &str) -> usize {
    let is_one = |head: &&String| head.contains(path) && head.to_ascii_lowercase().contains("if-none-match:");
    blobs.heads().iter().filter(is_one).count()
}

#[test]
fn what_is_superseded_is_not_fetched() {
    let redis = Redis::start();
    for daemon in [Daemon::with_redis(&redis), Daemon::embedded()] {
        let blobs = BlobServer::start();
        blobs.put("/b", Blob::bytes("blob"));
        let blob = |key: &str| set_blob(key, &blobs.url("/b"));
        assert_eq!(status(&daemon, at(5, set_inline("k", "five"))), "stored");
        assert_eq!(status(&daemon, at(3, delete(json!("gone")))), "absent");
        for late in [at(4, blob("k")), at(5, blob("k")), at(3, blob("gone")), at(2, blob("gone"))] {
            assert_eq!(status(&daemon, late), "superseded");
        }
        assert_eq!(blobs.hits("/b"), 0);
        assert_eq!(status(&daemon, delete(json!("k"))), "deleted");
        assert_eq!(status(&daemon, at(5, blob("k"))), "stored", "to publish again fills the cache again");
        assert_eq!(status(&daemon, at(5, blob("k"))), "superseded");
        // What stands before it on its key decides, though it is not done when the question is asked.
        let batch = [delete(json!("k")), at(5, blob("k")), at(4, blob("k"))];
        assert_eq!(statuses(&daemon, &batch), ["deleted", "stored", "superseded"]);
        assert_eq!(status(&daemon, blob("k")), "stored", "without a version nothing is asked");
    }
}

#[test]
fn many_questions_share_a_pipeline() {
    let stage = Stage::new();
    stage.blobs.put("/b", Blob::bytes("blob"));
    let keys: Vec<String> = (0..500).map(|number| format!("k{number}")).collect();
    let inline: Vec<Value> = keys.iter().map(|key| at(5, set_inline(key, "v"))).collect();
    statuses(&stage.daemon, &inline);
    let batches = || stage.daemon.metric("cache_sync_redis_batch_commands_count", &[]);
    let before = batches();
    let late: Vec<Value> = keys.iter().map(|key| at(4, set_blob(key, &stage.blobs.url("/b")))).collect();
    assert_eq!(statuses(&stage.daemon, &late), vec!["superseded"; 500]);
    let used = batches() - before;
    assert!(used <= 50.0, "{used} pipelines for 500 questions");
    assert_eq!(stage.blobs.hits("/b"), 0);
}

#[test]
fn a_blob_that_is_the_same_is_not_sent_again_and_its_time_to_live_runs_anew() {
    let redis = Redis::start();
    for daemon in [Daemon::with_redis(&redis), Daemon::embedded()] {
        let blobs = BlobServer::start();
        blobs.put("/b", Blob::bytes("blob").etag("\"v1\""));
        let with_ttl = |ttl: u64| {
            let mut event = set_blob("k", &blobs.url("/b"));
            event["value"]["ttl"] = ttl.into();
            event
        };
        assert_eq!(status(&daemon, at(1, with_ttl(50))), "stored");
        let answer = daemon.post(&at(2, with_ttl(5000)));
        let expected = json!({"key": "k", "status": "unchanged", "bytes": 4, "ttl": 5000, "source": "blob"});
        assert_eq!(results(&answer, 200, "ok"), [expected]);
        assert_eq!((blobs.hits("/b"), conditional(&blobs, "/b")), (2, 1));
        // Its version counts as applied.
        assert_eq!(status(&daemon, at(2, set_inline("k", "late"))), "superseded");
        assert_eq!(status(&daemon, at(3, set_blob("k", &blobs.url("/b")))), "unchanged");
        assert_eq!(results(&daemon.post(&get(json!("k"))), 200, "ok")[0]["value"], "blob");
        // Another state of it is fetched, and from then on remembered.
        blobs.put("/b", Blob::bytes("other").etag("\"v2\""));
        assert_eq!(status(&daemon, at(4, with_ttl(50))), "stored");
        assert_eq!(status(&daemon, at(5, with_ttl(50))), "unchanged");
        assert_eq!(results(&daemon.post(&get(json!("k"))), 200, "ok")[0]["value"], "other");
        assert_eq!(daemon.metric("cache_sync_entries_total", &["outcome=\"unchanged\""]), 3.0);
        assert_eq!(daemon.metric("cache_sync_fetch_duration_seconds_count", &["outcome=\"not-modified\""]), 3.0);
    }
    assert_eq!(redis.value("k").as_deref(), Some(b"other".as_slice()));
    assert!((1..=50).contains(&redis.ttl("k")));
}

#[test]
fn a_long_blob_that_is_the_same_stands_too() {
    let redis = Redis::start();
    for (key, stream_bytes) in [("passed-on", "1 MiB"), ("held", "10 MiB")] {
        let daemon = Daemon::builder().redis(&redis).set("fetch.stream_bytes", stream_bytes).start();
        let (blobs, body) = (BlobServer::start(), vec![b'x'; 3_500_000]);
        blobs.put("/b", Blob::bytes(&body).etag("\"v1\""));
        let publish = |version: u64| status(&daemon, at(version, set_blob(key, &blobs.url("/b"))));
        assert_eq!((publish(1), publish(2)), ("stored".to_owned(), "unchanged".to_owned()), "{key}");
        assert_eq!(status(&daemon, at(2, set_inline(key, "late"))), "superseded");
        let mut other = body.clone();
        other[3_000_000] = b'y';
        redis.put(key, &other);
        assert_eq!((publish(3), publish(4)), ("stored".to_owned(), "unchanged".to_owned()), "{key}");
        assert!(redis.value(key).is_some_and(|value| value == body), "{key}");
        // In the middle of others on its key it waits for its turn.
        let batch = [set_inline(key, "v"), at(5, set_blob(key, &blobs.url("/b"))), delete(json!(key))];
        assert_eq!(statuses(&daemon, &batch), ["stored", "stored", "deleted"], "{key}");
    }
}

#[test]
fn unchanged_is_true_whatever_others_did_to_the_key() {
    // Of the last of these Redis compares piece by piece.
    for body in [b"blob".to_vec(), vec![b'x'; (1 << 20) + 1]] {
        unchanged_is_true(&body);
    }
}

fn unchanged_is_true(body: &[u8]) {
    let (stage, length) = (Stage::new(), body.len());
    let (other, longer) = ([&body[1..], b"g"].concat(), [body, b" and more"].concat());
    stage.blobs.put("/b", Blob::bytes(body).etag("\"v1\""));
    let mut version = 0;
    let mut publish = || {
        version += 1;
        status(&stage.daemon, at(version, set_blob("k", &stage.blobs.url("/b"))))
    };
    assert_eq!((publish(), publish()), ("stored".to_owned(), "unchanged".to_owned()));
    let acl = |rule: &str| redis::cmd("ACL").arg(&["SETUSER", "default", rule]).exec(&mut stage.redis.conn());
    let others: [(&str, &dyn Fn()); 7] = [
        ("another program", &|| stage.redis.put("k", &other)),
        ("a longer value", &|| stage.redis.put("k", &longer)),
        ("an empty value", &|| stage.redis.put("k", b"")),
        ("a SET without a version", &|| drop(stage.ok(&set_inline("k", "plain")))),
        ("a DELETE without a version", &|| drop(stage.ok(&delete(json!("k"))))),
        ("a pattern", &|| drop(stage.ok(&delete_pattern(json!("k*"))))),
        ("a list", &|| {
            let mut redis = stage.redis.conn();
            redis::cmd("DEL").arg("k").exec(&mut redis).expect("DEL");
            redis::cmd("RPUSH").arg("k").arg("x").exec(&mut redis).expect("RPUSH");
        }),
    ];
    for (who, act) in others {
        act();
        assert_eq!(publish(), "stored", "{length} bytes, after {who}");
        assert!(stage.redis.value("k").is_some_and(|value| value == body), "{length} bytes, after {who}");
        assert_eq!(publish(), "unchanged", "{length} bytes, after {who}");
    }
    stage.redis.put("k", body);
    assert_eq!(publish(), "unchanged", "whoever wrote it, these are the bytes");
    acl("-persist").expect("ACL");
    let without = publish();
    acl("+persist").expect("ACL");
    assert_eq!((&without[..], &publish()[..]), ("stored", "unchanged"), "{length} bytes");
}

#[test]
fn what_changes_while_the_host_answers_is_fetched_after_all() {
    let stage = Stage::new();
    let url = stage.blobs.url("/b");
    for act in ["replaced", "deleted"] {
        let gate = Gate::closed();
        let blob = Blob::bytes("blob").etag("\"v1\"");
        stage.blobs.put_sequence("/b", vec![blob.clone(), blob.clone().gate(&gate), blob]);
        assert_eq!(status(&stage.daemon, at(1, set_blob(act, &url))), "stored");
        let answer = std::thread::scope(|scope| {
            let posting = scope.spawn(|| status(&stage.daemon, at(2, set_blob(act, &url))));
            stage.blobs.wait_hits("/b", 2);
            match act {
                "replaced" => stage.redis.put(act, b"other"),
                _ => redis::cmd("DEL").arg(act).exec(&mut stage.redis.conn()).expect("DEL"),
            }
            gate.open();
            posting.join().expect("it answers")
        });
        assert_eq!((answer.as_str(), stage.blobs.hits("/b")), ("stored", 3), "{act}");
        assert_eq!(stage.redis.value(act).as_deref(), Some(b"blob".as_slice()), "{act}");
    }
}

#[test]
fn what_stands_keeps_its_turn() {
    let stage = Stage::new();
    let slow = Gate::closed();
    stage.blobs.put("/b", Blob::bytes("blob").etag("\"v1\""));
    stage.blobs.put("/slow", Blob::bytes("slow").gate(&slow));
    let (blob, slow_url) = (stage.blobs.url("/b"), stage.blobs.url("/slow"));
    assert_eq!(status(&stage.daemon, at(1, set_blob("k", &blob))), "stored");
    let batch = [set_blob("k", &slow_url), get(json!("k")), at(2, set_blob("k", &blob)), get(json!("k"))];
    let answer = std::thread::scope(|scope| {
        let posting = scope.spawn(|| stage.daemon.post_ndjson(&ndjson(&batch)).json());
        stage.blobs.wait_hits("/slow", 1);
        stage.blobs.wait_hits("/b", 2);
        slow.open();
        posting.join().expect("it answers")
    });
    let entry = |index: usize| answer["events"][index]["results"][0].clone();
    let ends: Vec<Value> = (0..4).map(|index| entry(index)["status"].clone()).collect();
    assert_eq!(ends, ["stored", "hit", "stored", "hit"], "what stood there was replaced before its turn");
    assert_eq!((entry(1)["value"].clone(), entry(3)["value"].clone()), (json!("slow"), json!("blob")));
}

#[test]
fn only_the_same_bytes_of_the_same_place_count_as_the_same() {
    let stage = Stage::new();
    stage.blobs.put("/a", Blob::bytes("aaaa").etag("\"v1\""));
    stage.blobs.put("/b", Blob::bytes("bbbb").etag("\"v1\""));
    stage.blobs.put("/weak", Blob::bytes("weak").etag("W/\"v1\""));
    stage.blobs.put("/deaf", Blob::bytes("deaf").header("ETag", "\"v1\""));
    let publish = |version: u64, path: &str| status(&stage.daemon, at(version, set_blob("k", &stage.blobs.url(path))));
    assert_eq!(publish(1, "/a"), "stored");
    assert_eq!(publish(2, "/b"), "stored", "the same tag of another blob");
    assert_eq!(stage.redis.value("k").as_deref(), Some(b"bbbb".as_slice()));
    assert_eq!(publish(3, "/b?X-Amz-Signature=one&X-Amz-Date=1"), "unchanged", "signed anew, it is the same blob");
    assert_eq!((publish(4, "/weak"), publish(5, "/weak")), ("stored".to_owned(), "stored".to_owned()));
    assert_eq!((publish(6, "/deaf"), publish(7, "/deaf")), ("stored".to_owned(), "stored".to_owned()));
    assert_eq!((conditional(&stage.blobs, "/weak"), conditional(&stage.blobs, "/deaf")), (0, 1));
    // Without a version there is nothing to keep a tag beside.
    let plain = set_blob("plain", &stage.blobs.url("/a"));
    assert_eq!(statuses(&stage.daemon, std::slice::from_ref(&plain)), ["stored"]);
    assert_eq!(statuses(&stage.daemon, &[plain]), ["stored"]);
    assert_eq!(conditional(&stage.blobs, "/a"), 0);
}

/// Holds the one place that the host has, so that what is posted waits.
fn one_place(stage: &Stage, held: Blob) -> Gate {
    let gate = Gate::closed();
    stage.blobs.put("/held", held.gate(&gate));
    gate
}

#[test]
fn of_those_that_wait_on_one_key_the_newest_alone_is_fetched() {
    let stage = Stage::with(|daemon| daemon.set("fetch.per_host", 1));
    for version in 1..=20 {
        stage.blobs.put(&format!("/b{version}"), Blob::bytes(format!("blob {version}")));
    }
    let blob = |version: u64| at(version, set_blob("k", &stage.blobs.url(&format!("/b{version}"))));
    let gate = one_place(&stage, Blob::bytes("held"));
    let order = [3, 1, 2, 4, 7, 6, 5, 20, 8, 9, 19, 10, 11, 18, 12, 13, 17, 14, 15, 16];
    let events: Vec<Value> = order.into_iter().map(blob).collect();
    let answers = std::thread::scope(|scope| {
        let holding = scope.spawn(|| status(&stage.daemon, set_blob("other", &stage.blobs.url("/held"))));
        stage.blobs.wait_hits("/held", 1);
        let posting = scope.spawn(|| statuses(&stage.daemon, &events));
        let waiting = || stage.daemon.metric("cache_sync_admission_events", &[]) >= 21.0;
        assert!(eventually(PATIENCE, waiting), "all have been accepted");
        // Each has asked by then.
        let asked = || stage.daemon.metric("cache_sync_redis_batch_commands_sum", &[]) >= 20.0;
        assert!(eventually(PATIENCE, asked), "all have asked");
        gate.open();
        assert_eq!(holding.join().expect("it answers"), "stored");
        posting.join().expect("it answers")
    });
    let expected: Vec<&str> =
        order.iter().map(|version| if *version == 20 { "stored" } else { "superseded" }).collect();
    assert_eq!(answers, expected);
    assert_eq!((stage.blobs.hits("/b20"), stage.redis.value("k")), (1, Some(b"blob 20".to_vec())));
    let others: usize = (1..20).map(|version| stage.blobs.hits(&format!("/b{version}"))).sum();
    assert_eq!(others, 0, "none but the newest is fetched");
}

/// So many, each held beside the next, that calls within calls would run out of stack.
const LONG_CHAIN: u64 = 4000;

/// Posts a chain of ever newer versions of one key behind a fetch that holds the only place, which is then answered.
fn post_chain(held: Blob) -> (Stage, Vec<String>) {
    let stage = Stage::with(|daemon| daemon.set("fetch.per_host", 1));
    let gate = one_place(&stage, held);
    stage.blobs.put("/b", Blob::bytes("blob"));
    let events: Vec<Value> =
        (1..=LONG_CHAIN).map(|version| at(version, set_blob("k", &stage.blobs.url("/b")))).collect();
    let answers = std::thread::scope(|scope| {
        let holding = scope.spawn(|| status(&stage.daemon, set_blob("other", &stage.blobs.url("/held"))));
        stage.blobs.wait_hits("/held", 1);
        let posting = scope.spawn(|| statuses(&stage.daemon, &events));
        let asked = || stage.daemon.metric("cache_sync_redis_batch_commands_sum", &[]) >= LONG_CHAIN as f64;
        assert!(eventually(PATIENCE, asked), "all have asked");
        gate.open();
        holding.join().expect("it answers");
        posting.join().expect("it answers")
    });
    assert_eq!(stage.daemon.get("/live").status, 200);
    (stage, answers)
}

#[test]
fn a_long_chain_of_versions_is_answered_by_the_newest() {
    let (stage, answers) = post_chain(Blob::bytes("held"));
    assert_eq!(answers.iter().filter(|status| *status == "superseded").count() as u64, LONG_CHAIN - 1);
    assert_eq!((answers.last().map(String::as_str), stage.blobs.hits("/b")), (Some("stored"), 1));
}

#[test]
fn a_long_chain_of_versions_fails_with_its_host() {
    let (stage, answers) = post_chain(Blob::status(503).header("Retry-After", "3600"));
    assert_eq!(
        answers.iter().filter(|status| !["stored", "superseded"].contains(&status.as_str())).count() as u64,
        LONG_CHAIN
    );
    assert_eq!(stage.blobs.hits("/b"), 0);
}

#[test]
fn the_newest_may_be_what_is_there_already() {
    let stage = Stage::with(|daemon| daemon.set("fetch.per_host", 1));
    stage.blobs.put("/b", Blob::bytes("blob").etag("\"v1\""));
    let blob = |version: u64| at(version, set_blob("k", &stage.blobs.url("/b")));
    assert_eq!(status(&stage.daemon, blob(1)), "stored");
    let gate = one_place(&stage, Blob::bytes("held"));
    let answers = std::thread::scope(|scope| {
        let holding = scope.spawn(|| status(&stage.daemon, set_blob("other", &stage.blobs.url("/held"))));
        stage.blobs.wait_hits("/held", 1);
        let posting = scope.spawn(|| statuses(&stage.daemon, &[blob(2), blob(3), get(json!("k"))]));
        let asked = || stage.daemon.metric("cache_sync_redis_batch_commands_sum", &[]) >= 4.0;
        assert!(eventually(PATIENCE, asked), "all have asked");
        gate.open();
        assert_eq!(holding.join().expect("it answers"), "stored");
        posting.join().expect("it answers")
    });
    assert_eq!(answers, ["superseded", "unchanged", "hit"]);
    assert_eq!(stage.blobs.hits("/b"), 2);
}

#[test]
fn if_the_newest_cannot_be_had_the_next_one_is_fetched_and_nothing_is_skipped_that_somebody_reads() {
    let stage = Stage::with(|daemon| daemon.set("fetch.per_host", 1));
    for version in [1, 2, 3, 5] {
        stage.blobs.put(&format!("/b{version}"), Blob::bytes(format!("blob {version}")));
    }
    let blob = |version: u64| at(version, set_blob("k", &stage.blobs.url(&format!("/b{version}"))));
    let gate = one_place(&stage, Blob::bytes("held"));
    // There is no /b4.
    let events = [blob(1), get(json!("k")), blob(2), blob(3), blob(4), get(json!("k")), blob(5)];
    let answer = std::thread::scope(|scope| {
        let holding = scope.spawn(|| status(&stage.daemon, set_blob("other", &stage.blobs.url("/held"))));
        stage.blobs.wait_hits("/held", 1);
        let posting = scope.spawn(|| stage.daemon.post_ndjson(&ndjson(&events)).json());
        let asked = || stage.daemon.metric("cache_sync_redis_batch_commands_sum", &[]) >= 5.0;
        assert!(eventually(PATIENCE, asked), "all have asked");
        gate.open();
        assert_eq!(holding.join().expect("it answers"), "stored");
        posting.join().expect("it answers")
    });
    let entry = |index: usize| answer["events"][index]["results"][0].clone();
    let ends: Vec<Value> = (0..7).map(|index| entry(index)["status"].clone()).collect();
    assert_eq!(ends, ["stored", "hit", "superseded", "stored", "rejected", "hit", "stored"]);
    assert_eq!((entry(1)["value"].clone(), entry(5)["value"].clone()), (json!("blob 1"), json!("blob 3")));
    assert_eq!(stage.blobs.hits("/b2"), 0);
}

#[test]
fn a_redis_that_cannot_be_asked_is_told_of_before_anything_is_fetched() {
    let mut stage = Stage::with(|daemon| daemon.set("redis.retry_ms", 300));
    stage.blobs.put("/b", Blob::bytes("blob"));
    stage.redis.kill();
    let answer = stage.daemon.post(&at(1, set_blob("k", &stage.blobs.url("/b"))));
    let entry = &results(&answer, 503, "unavailable")[0];
    assert_eq!(entry["problem"]["type"], "urn:redis-cache-sync:cache-unavailable", "{entry}");
    assert_eq!(stage.blobs.hits("/b"), 0);
    stage.redis.restart();
    let stored = || status(&stage.daemon, at(1, set_blob("k", &stage.blobs.url("/b")))) == "stored";
    assert!(eventually(PATIENCE, stored));
}

#[test]
fn a_blob_that_is_not_what_the_event_says_is_not_stored() {
    let stage = Stage::with(|daemon| daemon.set("fetch.attempts", 2));
    let path = "/b";
    let right = || Blob::bytes("value").etag("\"v2\"");
    let sha256 = "cd42404d52ad55ccfa9aca4adc828aa5800ad9d385a0671fbcbf724118320619";
    let entry = |members: Value| {
        let mut entry = json!({"key": "k", "url": stage.blobs.url(path)});
        entry.as_object_mut().expect("an object").extend(members.as_object().expect("members").clone());
        json!({"key": "SET", "value": {"data": entry}})
    };
    for members in
        [json!({"etag": "v2"}), json!({"sha256": sha256}), json!({"bytes": 5}), json!({"etag": "\"v2\"", "bytes": 5})]
    {
        stage.blobs.put(path, right());
        assert_eq!(status(&stage.daemon, entry(members.clone())), "stored", "{members}");
        // A mirror that lags behind for once is asked once more.
        stage.blobs.put_sequence(path, vec![Blob::bytes("stale!").etag("\"v1\""), right()]);
        assert_eq!(status(&stage.daemon, entry(members.clone())), "stored", "{members}");
        assert_eq!(stage.redis.value("k").as_deref(), Some(b"value".as_slice()), "{members}");
    }
    for (members, detail) in [
        (json!({"etag": "v1"}), "event's `etag`"),
        (json!({"sha256": sha256.replace('c', "d")}), "event's `sha256`"),
        (json!({"bytes": 4}), "event's `bytes`"),
    ] {
        for blob in [right(), right().gzip(), right().chunked()] {
            stage.blobs.put(path, blob);
            let answer = stage.daemon.post(&entry(members.clone()));
            let problem = &results(&answer, 503, "unavailable")[0]["problem"];
            assert_eq!(problem["type"], "urn:redis-cache-sync:blob-unavailable", "{members}");
            assert!(problem["detail"].as_str().is_some_and(|found| found.contains(detail)), "{problem}");
            assert_eq!(stage.blobs.hits(path), 2, "{members}");
        }
    }
    // Neither does a 304 stand for what the event does not mean.
    stage.blobs.put(path, right());
    assert_eq!(status(&stage.daemon, at(1, entry(json!({})))), "stored");
    assert_eq!(status(&stage.daemon, at(2, entry(json!({"etag": "v2", "bytes": 5})))), "unchanged");
    let before = conditional(&stage.blobs, path);
    assert_eq!(status(&stage.daemon, at(3, entry(json!({"sha256": sha256})))), "stored");
    let other = stage.daemon.post(&at(4, entry(json!({"etag": "v3"}))));
    assert_eq!(results(&other, 503, "unavailable")[0]["problem"]["type"], "urn:redis-cache-sync:blob-unavailable");
    assert_eq!(conditional(&stage.blobs, path), before);
}
