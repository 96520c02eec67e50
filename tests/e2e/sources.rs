//! Notifications of storage: what real producers send, and what becomes of it.

use serde_json::{Value, json};

use crate::support::{Answer, Builder, Daemon, Redis};

/// A source of this format that stores what notifications say.
fn facts(format: &str) -> Builder {
    Daemon::builder().embedded().set("sources.s.format", format).set("sources.s.value", "facts")
}

/// One record of S3.
fn record(event: &str, object: &str, sequencer: &str) -> Value {
    json!({
        "eventName": event,
        "eventTime": "2026-11-28T22:10:23.403Z",
        "s3": {
            "bucket": {"name": "photos"},
            "object": {"key": object, "size": 5, "eTag": "e1", "sequencer": sequencer}
        }
    })
}

fn records(records: &[Value]) -> Value {
    json!({"Records": records})
}

fn notify(daemon: &Daemon, notification: &Value) -> Answer {
    daemon.post_to("/sources/s", &[("content-type", "application/json")], notification.to_string().as_bytes())
}

/// The status of each event of an answer to a notification.
fn statuses(answer: &Answer) -> Vec<String> {
    let body = answer.json();
    let events = body["events"].as_array().unwrap_or_else(|| panic!("{}", answer.text()));
    let status = |event: &Value| event["results"][0]["status"].as_str().unwrap_or("invalid").to_owned();
    events.iter().map(status).collect()
}

#[test]
fn a_notification_of_s3_ends_in_redis() {
    let redis = Redis::start();
    let daemon =
        facts("s3").redis(&redis).set("cache.backend", "redis").set("sources.s.key", "{source}:{bucket}/{object}");
    let daemon = daemon.set("sources.s.ttl", 600).start();
    let answer = notify(&daemon, &records(&[record("ObjectCreated:Put", "a+b%2F%C3%A9.txt", "0A")]));
    let expected = json!({
        "status": "ok",
        "counts": {"ok": 1, "rejected": 0, "unavailable": 0},
        "events": [{"index": 0, "status": "ok", "event": "SET", "results": [
            {"key": "s:photos/a b/é.txt", "status": "stored", "bytes": 96, "ttl": 600, "source": "inline"}
        ]}]
    });
    assert_eq!((answer.status, answer.json()), (200, expected));
    let stored = redis.value("s:photos/a b/é.txt").expect("a value");
    let facts: Value = serde_json::from_slice(&stored).expect("JSON");
    let expected = json!({
        "bucket": "photos", "object": "a b/é.txt", "size": 5, "etag": "e1", "time": "2026-11-28T22:10:23.403Z"
    });
    assert_eq!(facts, expected);
    let answer = notify(&daemon, &records(&[record("ObjectRemoved:Delete", "a%20b/%C3%A9.txt", "0B")]));
    assert_eq!((answer.status, statuses(&answer)), (200, vec!["deleted".to_owned()]));
    assert_eq!(redis.value("s:photos/a b/é.txt"), None);
}

#[test]
fn one_notification_may_name_a_key_twice() {
    let daemon = facts("s3").start();
    let twice = [
        record("ObjectCreated:Put", "k", "0A"),
        record("ObjectRemoved:Delete", "k", "0B"),
        record("ObjectCreated:Copy", "k", "09"),
        record("ObjectCreated:Copy", "k", "0C"),
    ];
    let answer = notify(&daemon, &records(&twice));
    assert_eq!(
        (answer.status, statuses(&answer)),
        (200, ["stored", "deleted", "superseded", "stored"].map(str::to_owned).to_vec())
    );
}
