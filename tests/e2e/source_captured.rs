//! Notifications as real senders made them (`tests/payloads/README.md`), and the exact answer to each.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Answer, Daemon};

/// The request of a file of `tests/payloads/`, posted to `/sources/s`.
fn replay(daemon: &Daemon, file: &str) -> Answer {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/payloads").join(file);
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8(bytes[..end].to_vec()).expect("UTF-8");
    let address = daemon.address().to_string();
    let lines = head.lines().skip(1).filter(|line| !line.is_empty());
    let headers = lines.filter_map(|line| line.split_once(": ")).filter(|(name, _)| !name.eq_ignore_ascii_case("host"));
    let mut request = format!("POST /sources/s HTTP/1.1\r\nHost: {address}\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut wire = daemon.wire();
    assert!(wire.send(&[request.as_bytes(), b"\r\n", &bytes[end..]].concat()));
    wire.answer()
}

fn source(format: &str) -> Daemon {
    Daemon::builder().embedded().set("sources.s.format", format).set("sources.s.value", "facts").start()
}

/// The answer in which nothing was done.
fn nothing() -> Value {
    json!({"status": "ok", "counts": {"ok": 0, "rejected": 0, "unavailable": 0}, "events": []})
}

#[test]
fn events_of_no_storage_are_taken_and_change_nothing() {
    let files = [
        "cloudevents-batch-eventgrid-js.http",
        "cloudevents-batch-eventgrid-python.http",
        "cloudevents-js-binary-extensions.http",
        "cloudevents-js-binary-json-string.http",
        "cloudevents-js-binary.http",
        "cloudevents-js-structured-bytes.http",
        "cloudevents-js-structured.http",
        "cloudevents-python-binary-extensions.http",
        "cloudevents-python-binary-json-string.http",
        "cloudevents-python-binary-subject.http",
        "cloudevents-python-binary.http",
        "cloudevents-python-structured-bytes.http",
        "cloudevents-python-structured.http",
        "eventgrid-python-cloudevent.http",
        "eventgrid-js-event.http",
        "eventgrid-python-event.http",
        "eventgrid-python-events.http",
    ];
    // Each in all the formats that it may be taken for.
    let mut ignored = 0;
    for format in ["auto", "event-grid", "cloudevents"] {
        let daemon = source(format);
        for file in files
            .iter()
            .filter(|file| format != "cloudevents" || !file.starts_with("eventgrid-") || file.contains("cloudevent"))
        {
            let answer = replay(&daemon, file);
            assert_eq!((answer.status, answer.json()), (200, nothing()), "{file} as {format}");
            ignored += 1;
        }
        let counted = daemon.metric("cache_sync_source_ignored_total", &["source=\"s\"", "reason=\"unknown-event\""]);
        assert!(counted >= 17.0, "{format}: {counted}");
    }
    assert_eq!(ignored, 17 + 17 + 14);
}

/// A SET of `a b+c/é.txt` in `sns-bucket`, by a message with this id.
fn stored_by(message: &str, time: &str) -> Value {
    let facts = json!({
        "bucket": "sns-bucket", "object": "a b+c/é.txt", "size": 5, "etag": "5d41402abc4b2a76b9719d911017c592", "time": time
    });
    let bytes = facts.to_string().len();
    let results = json!([{"key": "a b+c/é.txt", "status": "stored", "bytes": bytes, "ttl": null, "source": "inline"}]);
    json!({
        "status": "ok", "counts": {"ok": 1, "rejected": 0, "unavailable": 0},
        "events": [{"index": 0, "status": "ok", "event": "SET", "id": message, "results": results}]
    })
}

#[test]
fn messages_of_sns_are_answered_by_what_is_in_them() {
    let cases = [
        ("localstack-sns-notification.http", nothing()),
        ("localstack-sns-raw.http", nothing()),
        ("localstack-sns-s3-put.http", stored_by("59d20df6-1a1f-471a-aa17-a3938309b302", "2026-11-28T22:54:42.096Z")),
        ("localstack-sns-s3-test-event.http", nothing()),
        ("localstack-sns-unsubscribe-confirmation.http", nothing()),
        ("moto-sns-notification.http", nothing()),
        ("moto-sns-s3-put.http", stored_by("d3aae63e-c3b6-47c4-b682-60e9c2c84aee", "2026-11-28T22:10:51.483Z")),
        ("moto-sns-s3-test-event.http", nothing()),
    ];
    for format in ["auto", "sns"] {
        for (file, expected) in &cases {
            let answer = replay(&source(format), file);
            assert_eq!((answer.status, &answer.json()), (200, expected), "{file} as {format}");
        }
        // LocalStack signs it with a certificate of its own, on a host of its own.
        for topics in ["", "arn:aws:sns:us-east-1:000000000000:t"] {
            let daemon = Daemon::builder().embedded().set("sources.s.format", format).set("sources.s.value", "facts");
            let daemon = daemon.set("sources.s.topics", topics).start();
            replay(&daemon, "localstack-sns-subscription-confirmation.http").problem(401, "unauthorized");
        }
    }
}
