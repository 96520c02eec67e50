//! Events with a version: late and repeated ones never win, through one replica or several.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Blob, Daemon, PATIENCE, Redis, Stage, delete, delete_pattern, eventually, get, ndjson, results, set_blob,
    set_inline,
};

const VERSION_KEYS: &str = "rcs:v:";

/// The event with a version.
fn at(version: impl Into<Value>, mut event: Value) -> Value {
    event["version"] = version.into();
    event
}

fn statuses(daemon: &Daemon, event: &Value) -> Vec<String> {
    let answer = daemon.post(event);
    assert_eq!(answer.status, 200, "{}", answer.text());
    results(&answer, 200, "ok").iter().map(|entry| entry["status"].as_str().expect("a status").to_owned()).collect()
}

#[test]
fn a_late_or_repeated_event_is_superseded_on_both_backends() {
    let redis = Redis::start();
    for daemon in [Daemon::with_redis(&redis), Daemon::embedded()] {
        assert_eq!(statuses(&daemon, &at(2, set_inline("k", "two"))), ["stored"]);
        assert_eq!(statuses(&daemon, &at(1, set_inline("k", "one"))), ["superseded"]);
        assert_eq!(statuses(&daemon, &at(2, set_inline("k", "again"))), ["superseded"]);
        assert_eq!(statuses(&daemon, &at(3, delete(json!(["k", "none"])))), ["deleted", "absent"]);
        assert_eq!(statuses(&daemon, &at(2, set_inline("k", "late"))), ["superseded"]);
        assert_eq!(statuses(&daemon, &at(3, delete(json!("k")))), ["superseded"]);
        assert_eq!(statuses(&daemon, &at(3, set_inline("none", "late"))), ["superseded"]);
        assert_eq!(statuses(&daemon, &get(json!("k"))), ["miss"]);
        assert_eq!(statuses(&daemon, &at("2026-11-23T10:00:00Z", set_inline("k", "text"))), ["stored"]);
        assert_eq!(statuses(&daemon, &at("2026-11-23T09:59:59Z", set_inline("k", "late"))), ["superseded"]);
        assert_eq!(statuses(&daemon, &at(i64::MAX, set_inline("k", "a number"))), ["superseded"]);
        let answer = daemon.post(&get(json!("k")));
        assert_eq!(results(&answer, 200, "ok")[0]["value"], "text");
    }
}

#[test]
fn values_stay_plain_and_version_keys_stay_hidden_and_expire() {
    let stage =
        Stage::with(|daemon| daemon.set("redis.version_window_seconds", 100).set("event.allow_match_all", true));
    let mut event = at(7, set_inline("{a}b", "value"));
    event["value"]["ttl"] = json!(50);
    stage.ok(&event);
    assert_eq!(stage.redis.value("{a}b").as_deref(), Some(b"value".as_slice()));
    assert!((1..=50).contains(&stage.redis.ttl("{a}b")));
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut stage.redis.conn()).expect("KEYS");
    let version_key = keys.iter().find(|key| *key != "{a}b").expect("a version_key");
    assert!(version_key.starts_with(VERSION_KEYS), "{version_key}");
    assert!((51..=100).contains(&stage.redis.ttl(version_key)));

    let preview = &stage.ok(&delete_pattern(json!({"pattern": "*", "dry_run": true})))[0];
    assert_eq!(preview["matched"], 1);
    let gone = &stage.ok(&delete_pattern(json!("*")))[0];
    assert_eq!((&gone["matched"], &gone["deleted"]), (&json!(1), &json!(1)));
    assert!(stage.redis.exists(version_key), "a plain delete leaves the version");
    assert_eq!(statuses(&stage.daemon, &at(6, set_inline("{a}b", "late"))), ["superseded"]);
    let answer = stage.daemon.post(&at(8, delete(json!(version_key))));
    assert_eq!(answer.status, 422, "{}", answer.text());
}

#[test]
fn what_was_purged_is_published_again_with_the_same_version() {
    let redis = Redis::start();
    for daemon in [Daemon::with_redis(&redis), Daemon::embedded()] {
        let publish = at(7, set_inline("shop:1", "seven"));
        assert_eq!(statuses(&daemon, &publish), ["stored"]);
        for purge in [delete_pattern(json!("shop:*")), delete(json!("shop:1"))] {
            assert_eq!(statuses(&daemon, &purge), ["deleted"]);
            assert_eq!(statuses(&daemon, &at(6, set_inline("shop:1", "six"))), ["superseded"]);
            assert_eq!(statuses(&daemon, &publish), ["stored"]);
            assert_eq!(statuses(&daemon, &publish), ["superseded"]);
        }
        for (version, removal) in [(7, delete_pattern(json!("shop:*"))), (8, delete(json!("shop:1")))] {
            assert_eq!(statuses(&daemon, &at(version, removal)).len(), 1);
            assert_eq!(statuses(&daemon, &at(version, set_inline("shop:1", "late"))), ["superseded"]);
            assert_eq!(statuses(&daemon, &get(json!("shop:1"))), ["miss"]);
        }
    }
}

#[test]
fn what_redis_refuses_for_good_is_rejected_and_names_the_command() {
    let redis = Redis::start();
    let rights = |rules: &[&str]| {
        let mut change = redis::cmd("ACL");
        change.arg(&["SETUSER", "sync", "reset", "on", ">pw", "~*", "+@all"]).arg(rules);
        change.exec(&mut redis.conn()).expect("ACL SETUSER");
    };
    // To change them ends the connections of the user.
    let start = |rules: &[&str]| {
        rights(rules);
        Daemon::builder().redis(&redis).set("redis.username", "sync").set("redis.password", "pw").start()
    };
    let daemon = start(&["-set", "-unlink", "-getrange", "-setex"]);
    let (plain, versioned) = (set_inline("k", "v"), at(1, set_inline("k", "v")));
    for (event, detail) in [
        (plain, "redis refused SET: NOPERM"),
        (get(json!("k")), "redis refused GETRANGE: NOPERM"),
        (delete(json!("k")), "redis refused UNLINK: NOPERM"),
        (at(1, delete(json!("k"))), "redis refused SETEX: NOPERM"),
        (versioned.clone(), "NOPERM"),
    ] {
        let answer = daemon.post(&event);
        let problem = &results(&answer, 422, "rejected")[0]["problem"];
        assert_eq!(problem["type"], "urn:redis-cache-sync:cache-refused", "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|found| found.ends_with(detail)), "{problem}");
    }
    let daemon = start(&["-unlink"]);
    assert_eq!(statuses(&daemon, &versioned), ["stored"], "nothing of it was done before");
    let answer = daemon.post(&delete_pattern(json!("k*")));
    let problem = &results(&answer, 422, "rejected")[0]["problem"];
    assert_eq!(problem["type"], "urn:redis-cache-sync:cache-refused", "{problem}");
}

#[test]
fn after_the_window_a_version_is_forgotten() {
    let stage = Stage::with(|daemon| daemon.set("redis.version_window_seconds", 1));
    stage.ok(&at(9, set_inline("k", "nine")));
    assert!(eventually(PATIENCE, || statuses(&stage.daemon, &at(1, set_inline("k", "one"))) == ["stored"]));
}

#[test]
fn two_replicas_agree_whatever_order_the_events_come_in() {
    let redis = Redis::start();
    let replicas = [Daemon::with_redis(&redis), Daemon::with_redis(&redis)];
    let events: Vec<Value> =
        (1..=60).map(|version| at(version, set_inline(&format!("k{}", version % 3), &version.to_string()))).collect();
    for (turn, event) in events.iter().chain(events.iter().rev()).enumerate() {
        statuses(&replicas[turn % 2], event);
    }
    for (key, highest) in [("k0", "60"), ("k1", "58"), ("k2", "59")] {
        assert_eq!(redis.value(key).as_deref(), Some(highest.as_bytes()));
    }
}

#[test]
fn a_blob_is_guarded_as_an_inline_value_is() {
    let stage = Stage::new();
    stage.blobs.put("/slow", Blob::bytes(b"slow").delay(Duration::from_millis(200)));
    let url = stage.blobs.url("/slow");
    assert_eq!(statuses(&stage.daemon, &at(2, set_blob("k", &url))), ["stored"]);
    assert_eq!(statuses(&stage.daemon, &at(1, set_blob("k", &url))), ["superseded"]);
    let batch = ndjson(&[at(4, set_blob("k", &url)), at(3, set_inline("k", "late")), at(5, delete(json!("k")))]);
    let answer = stage.daemon.post_ndjson(&batch).json();
    let ends: Vec<&Value> =
        answer["events"].as_array().expect("events").iter().map(|event| &event["results"][0]["status"]).collect();
    assert_eq!(ends, ["stored", "superseded", "deleted"]);
}

#[test]
fn a_pattern_with_a_version_spares_what_is_newer_and_guards_what_it_deletes() {
    let redis = Redis::start();
    for daemon in [Daemon::with_redis(&redis), Daemon::embedded()] {
        for (key, version) in [("s:1", 1), ("s:5", 5), ("s:9", 9)] {
            statuses(&daemon, &at(version, set_inline(key, "v")));
        }
        statuses(&daemon, &set_inline("s:plain", "v"));
        statuses(&daemon, &at(3, delete(json!("s:gone"))));
        let answer = daemon.post(&at(5, delete_pattern(json!("s:*"))));
        let want = json!([{"pattern": "s:*", "status": "deleted", "matched": 4, "deleted": 3}]);
        assert_eq!(json!(results(&answer, 200, "ok")), want);
        for key in ["s:1", "s:5", "s:plain", "s:gone"] {
            assert_eq!(statuses(&daemon, &at(5, set_inline(key, "late"))), ["superseded"], "{key}");
            assert_eq!(statuses(&daemon, &at(6, set_inline(key, "new"))), ["stored"], "{key}");
        }
        assert_eq!(statuses(&daemon, &at(5, set_inline("s:never seen", "v"))), ["stored"]);
        assert_eq!(statuses(&daemon, &get(json!("s:9"))), ["hit"]);
    }
}

/// In one scan: each raises what the one before has deleted.
#[test]
fn patterns_that_share_a_scan_leave_the_greatest_version() {
    let stage = Stage::new();
    for round in 0..5 {
        let key = format!("p:{round}");
        stage.ok(&set_inline(&key, "v"));
        let patterns =
            [delete_pattern(json!("p:*")), at(4, delete_pattern(json!("p:*"))), at(7, delete_pattern(json!("p:*")))];
        let mut events = patterns.to_vec();
        events.insert(0, at(2, set_inline(&key, "v")));
        let answer = stage.daemon.post_ndjson(&ndjson(&events));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(statuses(&stage.daemon, &at(7, set_inline(&key, "late"))), ["superseded"]);
    }
}

/// In one scan too: what one pattern leaves is there for those behind it.
#[test]
fn what_a_pattern_spares_is_seen_by_those_after_it() {
    let redis = Redis::start();
    for daemon in [Daemon::with_redis(&redis), Daemon::embedded()] {
        statuses(&daemon, &at(9, set_inline("p:newer", "v")));
        statuses(&daemon, &at(1, set_inline("p:older", "v")));
        let preview = delete_pattern(json!({"pattern": "p:*", "dry_run": true}));
        let events = [at(5, delete_pattern(json!("p:*"))), preview.clone(), delete_pattern(json!("p:*")), preview];
        let answer = daemon.post_ndjson(&ndjson(&events)).json();
        let counted = |index: usize| {
            let entry = &answer["events"][index]["results"][0];
            (entry["matched"].as_u64(), entry["deleted"].as_u64())
        };
        assert_eq!(counted(0), (Some(2), Some(1)), "{answer}");
        assert_eq!(counted(1), (Some(1), None), "{answer}");
        assert_eq!(counted(2), (Some(1), Some(1)), "{answer}");
        assert_eq!(counted(3), (Some(0), None), "{answer}");
    }
}

#[test]
fn a_server_that_has_lost_the_scripts_is_given_them_again() {
    let stage = Stage::new();
    assert_eq!(statuses(&stage.daemon, &at(1, set_inline("k", "v"))), ["stored"]);
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut stage.redis.conn()).expect("SCRIPT FLUSH");
    for version in 2..6 {
        assert_eq!(statuses(&stage.daemon, &at(version, set_inline("k", "v"))), ["stored"]);
    }
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut stage.redis.conn()).expect("SCRIPT FLUSH");
    assert_eq!(statuses(&stage.daemon, &at(9, delete_pattern(json!("k*")))), ["deleted"]);
}

/// A call that several share must not take the others down with one that the user may not write, nor say that the cache is.
#[test]
fn one_key_that_is_not_permitted_fails_alone() {
    let redis = Redis::start();
    let rights = ["SETUSER", "sync", "on", ">pw", "~ok:*", "~rcs:v:*", "+@all"];
    redis::cmd("ACL").arg(&rights).exec(&mut redis.conn()).expect("ACL SETUSER");
    let daemon = Daemon::builder().redis(&redis).set("redis.username", "sync").set("redis.password", "pw").start();
    let keys = ["ok:1", "forbidden", "ok:2", "ok:1"];
    let with_versions = keys.iter().zip(1..).map(|(key, version)| at(version, set_inline(key, "v"))).collect();
    let without = keys.iter().map(|key| set_inline(key, "v")).collect();
    let several: [Vec<Value>; 2] = [without, with_versions];
    for events in several {
        let answer = daemon.post_ndjson(&ndjson(&events)).json();
        let ends: Vec<&Value> =
            answer["events"].as_array().expect("events").iter().map(|event| &event["status"]).collect();
        assert_eq!(ends, ["ok", "rejected", "ok", "ok"], "{answer}");
    }
    assert_eq!(daemon.metric("cache_sync_redis_failed_batches_total", &[]), 0.0);
    assert!(!daemon.logs().iter().any(|line| line.contains("write to the cache failed")));
}

#[test]
fn a_start_on_a_redis_that_may_evict_versions_warns() {
    let redis = Redis::start();
    let quiet = Daemon::with_redis(&redis);
    redis::cmd("CONFIG").arg(&["SET", "maxmemory-policy", "allkeys-lru"]).exec(&mut redis.conn()).expect("CONFIG SET");
    let warned = Daemon::with_redis(&redis);
    warned.log_line(|line| line.contains("redis may evict versions") && line.contains("allkeys-lru"));
    assert!(!quiet.logs().iter().any(|line| line.contains("evict")));
}
