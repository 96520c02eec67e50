//! Operations on one key take effect in the order in which they were accepted; other keys do not wait.
//!
//! A gate holds a blob back for as long as the test wants, so that nothing here depends on how long anything takes.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Answer, Blob, Daemon, Gate, Stage, delete, delete_pattern, eventually, get, results, set, set_blob, set_inline,
};

/// Both backends: the order is the daemon's promise, not the cache's.
fn stages() -> Vec<(Stage, Daemon)> {
    let stage = Stage::new();
    let over_redis = Daemon::with_redis(&stage.redis);
    vec![(stage, over_redis), (Stage::new(), Daemon::embedded())]
}

fn value_of(daemon: &Daemon, key: &str) -> Value {
    let found = results(&daemon.post(&get(json!(key))), 200, "ok");
    found[0].get("value").cloned().unwrap_or(Value::Null)
}

/// Posts `first`, waits until the blob server has seen its fetch (so it is accepted), posts `second`, checks that it
/// waits, opens the gate; both answers.
fn overlap(stage: &Stage, daemon: &Daemon, path: &str, gate: &Gate, first: &Value, second: &Value) -> (Answer, Answer) {
    let seen = stage.blobs.hits(path);
    thread::scope(|scope| {
        let first = scope.spawn(|| daemon.post(first));
        stage.blobs.wait_hits(path, seen + 1);
        let waiting = scope.spawn(|| daemon.post(second));
        // It must be in the daemon before the gate opens, or it would prove nothing.
        let accepted = || daemon.metric("cache_sync_admission_events", &[]) >= 2.0;
        assert!(crate::support::eventually(Duration::from_secs(10), accepted));
        assert!(!waiting.is_finished(), "the later operation did not wait for the earlier");
        gate.open();
        (first.join().expect("no panic"), waiting.join().expect("no panic"))
    })
}

#[test]
fn a_slow_blob_then_an_inline_value_in_one_batch() {
    for (stage, daemon) in stages() {
        let gate = Gate::closed();
        stage.blobs.put("/b", Blob::bytes("blob").gate(&gate));
        let events = json!([set_blob("k", &stage.blobs.url("/b")), set_inline("k", "inline"), get(json!("k"))]);
        let answer = thread::scope(|scope| {
            let posted = scope.spawn(|| daemon.post(&events));
            stage.blobs.wait_hits("/b", 1);
            gate.open();
            posted.join().expect("no panic")
        });
        let json = answer.json();
        assert_eq!(answer.status, 200, "{json}");
        assert_eq!(json["events"][0]["results"][0]["status"], "stored", "{json}");
        assert_eq!(json["events"][2]["results"][0]["value"], "inline", "{json}");
        assert_eq!(value_of(&daemon, "k"), "inline");
    }
}

#[test]
fn a_slow_blob_then_an_inline_value_in_one_event() {
    for (stage, daemon) in stages() {
        stage.blobs.put("/b", Blob::bytes("blob").delay(Duration::from_millis(150)));
        let url = stage.blobs.url("/b");
        daemon.post(&set(json!([{"key": "k", "url": url}, {"key": "k", "value": "inline"}])));
        assert_eq!(value_of(&daemon, "k"), "inline");
        daemon.post(&set(json!([{"key": "k", "value": "inline"}, {"key": "k", "url": url}])));
        assert_eq!(value_of(&daemon, "k"), "blob");
    }
}

#[test]
fn a_slow_blob_then_an_inline_value_in_two_requests() {
    for (stage, daemon) in stages() {
        let gate = Gate::closed();
        stage.blobs.put("/b", Blob::bytes("blob").gate(&gate));
        let blob = set_blob("k", &stage.blobs.url("/b"));
        let (first, second) = overlap(&stage, &daemon, "/b", &gate, &blob, &set_inline("k", "inline"));
        assert_eq!((first.status, second.status), (200, 200));
        assert_eq!(value_of(&daemon, "k"), "inline");
    }
}

#[test]
fn a_slow_blob_then_a_read_sees_the_blob() {
    for (stage, daemon) in stages() {
        let gate = Gate::closed();
        stage.blobs.put("/b", Blob::bytes("blob").gate(&gate));
        let blob = set_blob("k", &stage.blobs.url("/b"));
        let (_, read) = overlap(&stage, &daemon, "/b", &gate, &blob, &get(json!("k")));
        assert_eq!(results(&read, 200, "ok"), [json!({"key": "k", "status": "hit", "value": "blob"})]);
    }
}

#[test]
fn a_slow_blob_then_a_delete_leaves_nothing() {
    for (stage, daemon) in stages() {
        let gate = Gate::closed();
        stage.blobs.put("/b", Blob::bytes("blob").gate(&gate));
        let blob = set_blob("k", &stage.blobs.url("/b"));
        let (first, second) = overlap(&stage, &daemon, "/b", &gate, &blob, &delete(json!("k")));
        assert_eq!(results(&first, 200, "ok")[0]["status"], "stored");
        assert_eq!(results(&second, 200, "ok"), [json!({"key": "k", "status": "deleted"})]);
        assert_eq!(value_of(&daemon, "k"), Value::Null);
    }
}

#[test]
fn a_slow_blob_then_a_fast_blob_keeps_the_fast_one() {
    for (stage, daemon) in stages() {
        let gate = Gate::closed();
        stage.blobs.put("/slow", Blob::bytes("slow").gate(&gate));
        stage.blobs.put("/fast", Blob::bytes("fast"));
        let slow = set_blob("k", &stage.blobs.url("/slow"));
        let fast = set_blob("k", &stage.blobs.url("/fast"));
        overlap(&stage, &daemon, "/slow", &gate, &slow, &fast);
        assert_eq!(value_of(&daemon, "k"), "fast");
    }
}

#[test]
fn a_failed_blob_lets_the_later_operations_through() {
    for (stage, daemon) in stages() {
        let gate = Gate::closed();
        stage.blobs.put("/gone", Blob::status(404).gate(&gate));
        let blob = set_blob("k", &stage.blobs.url("/gone"));
        let (first, second) = overlap(&stage, &daemon, "/gone", &gate, &blob, &set_inline("k", "inline"));
        assert_eq!((first.status, second.status), (422, 200));
        assert_eq!(value_of(&daemon, "k"), "inline");
    }
}

#[test]
fn a_pattern_is_an_operation_on_every_key_that_it_matches() {
    for (stage, daemon) in stages() {
        let gate = Gate::closed();
        stage.blobs.put("/b", Blob::bytes("blob").gate(&gate));
        let blob = set_blob("a:1", &stage.blobs.url("/b"));
        let later = json!([delete_pattern(json!("a:*")), set_inline("a:2", "later"), get(json!(["a:1", "a:2"]))]);
        let (first, second) = overlap(&stage, &daemon, "/b", &gate, &blob, &later);
        assert_eq!(first.status, 200);
        let json = second.json();
        assert_eq!(
            json["events"][0]["results"][0],
            json!({"pattern": "a:*", "status": "deleted", "matched": 1, "deleted": 1}),
            "{json}"
        );
        assert_eq!(value_of(&daemon, "a:1"), Value::Null);
        assert_eq!(value_of(&daemon, "a:2"), "later");
    }
}

#[test]
fn a_pattern_in_one_batch_with_what_came_before_and_after() {
    for (stage, daemon) in stages() {
        stage.blobs.put("/b", Blob::bytes("blob").delay(Duration::from_millis(100)));
        let url = stage.blobs.url("/b");
        let answer = daemon.post(&json!([
            set_blob("a:1", &url),
            set_inline("a:3", "x"),
            delete_pattern(json!({"pattern": "a:*", "dry_run": true})),
            delete_pattern(json!("a:*")),
            set_blob("a:2", &url),
            set_inline("a:3", "later"),
            delete_pattern(json!({"pattern": "a:*", "dry_run": true})),
        ]));
        let json = answer.json();
        let matched = |index: usize| json["events"][index]["results"][0]["matched"].clone();
        assert_eq!([matched(2), matched(3), matched(6)], [2, 2, 2], "{json}");
        assert_eq!(value_of(&daemon, "a:1"), Value::Null);
        assert_eq!(value_of(&daemon, "a:2"), "blob");
        assert_eq!(value_of(&daemon, "a:3"), "later");
    }
}

#[test]
fn other_keys_are_answered_promptly_while_a_blob_is_awaited() {
    for (stage, daemon) in stages() {
        let gate = Gate::closed();
        stage.blobs.put("/b", Blob::bytes("blob").gate(&gate));
        stage.blobs.put("/quick", Blob::bytes("quick"));
        let blob = set_blob("held", &stage.blobs.url("/b"));
        let others = [
            set_inline("other", "1"),
            get(json!("other")),
            delete(json!("other")),
            set_blob("other", &stage.blobs.url("/quick")),
            delete_pattern(json!("oth*")),
            json!([set_inline("x", "1"), set_inline("y", "1"), get(json!(["x", "y"]))]),
        ];
        thread::scope(|scope| {
            let held = scope.spawn(|| daemon.post(&blob));
            stage.blobs.wait_hits("/b", 1);
            for event in &others {
                let best = (0..5).map(|_| {
                    let begin = Instant::now();
                    let answer = daemon.post(event);
                    assert_eq!(answer.status, 200, "{event}: {}", answer.text());
                    begin.elapsed()
                });
                let best = best.min().unwrap_or_default();
                assert!(best < Duration::from_millis(100), "{event} took {best:?} while another key was waited for");
            }
            assert!(!held.is_finished());
            gate.open();
            assert_eq!(held.join().expect("no panic").status, 200);
        });
    }
}

#[test]
fn keys_of_one_event_wait_each_for_itself() {
    for (stage, daemon) in stages() {
        let gate = Gate::closed();
        stage.blobs.put("/b", Blob::bytes("blob").gate(&gate));
        let mixed = set(json!([{"key": "held", "url": stage.blobs.url("/b")}, {"key": "free", "value": "now"}]));
        thread::scope(|scope| {
            let held = scope.spawn(|| daemon.post(&mixed));
            stage.blobs.wait_hits("/b", 1);
            let stored = crate::support::eventually(Duration::from_secs(5), || value_of(&daemon, "free") == "now");
            assert!(stored, "the inline entry waited for the blob of another key");
            assert!(!held.is_finished(), "an event is answered when all of it is done");
            gate.open();
            assert_eq!(held.join().expect("no panic").status, 200);
        });
    }
}

#[test]
fn what_was_accepted_is_carried_out_even_if_the_sender_hangs_up() {
    for (stage, daemon) in stages() {
        let gate = Gate::closed();
        stage.blobs.put("/b", Blob::bytes("blob").gate(&gate));
        let body = set_blob("k", &stage.blobs.url("/b")).to_string();
        let mut wire = daemon.wire();
        wire.send_request("POST", "/events", &[("content-type", "application/json")], body.as_bytes());
        stage.blobs.wait_hits("/b", 1);
        drop(wire);
        // Time in which the hang-up may be noticed; the promise holds whether it was or not.
        thread::sleep(Duration::from_millis(50));
        gate.open();
        assert_eq!(value_of(&daemon, "k"), "blob", "a read sees what was accepted before it");
    }
}

#[test]
fn a_long_chain_on_one_key_ends_with_its_last() {
    for (stage, daemon) in stages() {
        stage.blobs.fallback(|target| {
            let number: u64 = target.trim_start_matches('/').parse().ok()?;
            Some(Blob::bytes(number.to_string()).delay(Duration::from_millis(30 - number % 30)))
        });
        let write = |n: u64| match n % 3 {
            0 => set_inline("k", &n.to_string()),
            _ => set_blob("k", &stage.blobs.url(&format!("/{n}"))),
        };
        let chained: Vec<_> = (0..60).flat_map(|n| [write(n), get(json!("k"))]).collect();
        let json = daemon.post(&json!(chained)).json();
        for n in 0..60 {
            assert_eq!(json["events"][2 * n + 1]["results"][0]["value"], n.to_string(), "{json}");
        }
    }
}

#[test]
fn nothing_of_a_long_request_is_seen_before_all_of_it_has_its_place() {
    let stage = &Stage::new();
    let gate = Gate::closed();
    stage.blobs.put("/b", Blob::bytes("blob").gate(&gate));
    thread::scope(|scope| {
        let blob = scope.spawn(|| stage.daemon.post(&set_blob("s:1", &stage.blobs.url("/b"))));
        stage.blobs.wait_hits("/b", 1);
        // They wait for the blob, and each key is held against all of them.
        let patterns = |n: usize| (0..63).map(move |m| format!("*z*{n}x{m}*q")).chain(["s:*".to_owned()]);
        let waiting: Vec<_> = (0..8)
            .map(|n| {
                let event = delete_pattern(json!(patterns(n).collect::<Vec<_>>()));
                scope.spawn(move || stage.daemon.post(&event).status)
            })
            .collect();
        let under_way = || stage.daemon.metric("cache_sync_admission_events", &[]) >= 9.0;
        assert!(eventually(Duration::from_secs(10), under_way));
        let key = |n: usize| format!("q{n:010}x{n:010}z");
        let events: Vec<Value> = (0..2000).map(|n| set_inline(&key(n), "first")).collect();
        let first = scope.spawn(move || stage.daemon.post(&json!(events)).status);
        let is_seen = || results(&stage.daemon.post(&get(json!(key(0)))), 200, "ok")[0]["status"] == "hit";
        assert!(eventually(Duration::from_secs(10), is_seen));
        assert_eq!(stage.daemon.post(&set_inline(&key(1999), "second")).status, 200);
        assert_eq!(first.join().expect("no panic"), 200);
        assert_eq!(stage.redis.value(&key(1999)).as_deref(), Some(b"second".as_slice()));
        gate.open();
        assert_eq!(blob.join().expect("no panic").status, 200);
        assert!(waiting.into_iter().all(|waiting| waiting.join().expect("no panic") == 200));
    });
}
