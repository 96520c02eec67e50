//! Notifications of storage: what real producers send, and what becomes of it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{
    Answer, Blob, BlobServer, Builder, Daemon, PATIENCE, Redis, Stage, eventually, get, problem_type, results, signal,
};

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

/// A captured notification: its headers and its body. Of those that came by a queue there is the body alone.
fn captured(file: &str) -> (Vec<(String, String)>, Vec<u8>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/payloads").join(file);
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n").filter(|_| file.ends_with(".http")) else {
        return (vec![("content-type".to_owned(), "application/json".to_owned())], bytes);
    };
    let head = String::from_utf8(bytes[..end].to_vec()).expect("UTF-8");
    let own = ["host", "content-length", "connection", "accept-encoding"];
    let header = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        (!own.contains(&name.to_lowercase().as_str())).then(|| (name.to_lowercase(), value.to_owned()))
    };
    (head.lines().skip(1).filter_map(header).collect(), bytes[end + 4..].to_vec())
}

fn replay(daemon: &Daemon, file: &str) -> Answer {
    let (headers, body) = captured(file);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    daemon.post_to("/sources/s", &headers, &body)
}

/// With the id of its notification.
fn with_id(id: &str, (mut entry, facts): (Value, Option<Value>)) -> (Value, Option<Value>) {
    entry["id"] = json!(id);
    (entry, facts)
}

/// What a source answers if this is what became of each of its events.
fn answered(entries: &[Value]) -> Value {
    let event = |(index, entry): (usize, &Value)| {
        let mut entry = entry.clone();
        let id = entry.as_object_mut().and_then(|entry| entry.remove("id"));
        let event = if entry["status"] == "stored" { "SET" } else { "DELETE" };
        let mut answered = json!({"index": index, "status": "ok", "event": event, "results": [entry]});
        if let Some(id) = id {
            answered["id"] = id;
        }
        answered
    };
    let events: Vec<Value> = entries.iter().enumerate().map(event).collect();
    json!({"status": "ok", "counts": {"ok": events.len(), "rejected": 0, "unavailable": 0}, "events": events})
}

/// An element of an answer, and what its key then holds.
type Expected = (Value, Option<Value>);

/// A SET of an object, as it is answered, and what is stored of it.
fn stored(facts: Value) -> Expected {
    let key = format!("{}/{}", facts["bucket"].as_str().expect("a bucket"), facts["object"].as_str().expect("a name"));
    let bytes = facts.to_string().len();
    (json!({"key": key, "status": "stored", "bytes": bytes, "ttl": null, "source": "inline"}), Some(facts))
}

fn absent(key: &str) -> Expected {
    (json!({"key": key, "status": "absent"}), None)
}

/// moto gives every event the same id.
const MOTO: &str = "17793124-05d4-b198-2fde-7ededc63b103";

/// Each captured notification, alone, in its format and in `auto`: the exact answer, and what Redis has then.
#[test]
fn captured_notifications_of_s3_and_seaweedfs_have_their_exact_answers() {
    let moto = |object: &str, size: u64, etag: &str, time: &str| {
        stored(json!({"bucket": "evt-bucket", "object": object, "size": size, "etag": etag, "time": time}))
    };
    let hello = "5d41402abc4b2a76b9719d911017c592";
    let seaweed = |object: &str, size: u64, etag: &str, mime: Option<&str>, time: &str, version: Option<&str>| {
        let bucket = if version.is_some() { "vbkt" } else { "bkt1" };
        let mut facts = json!({"bucket": bucket, "object": object, "size": size, "etag": etag});
        for (name, value) in [("content_type", mime), ("time", Some(time)), ("version", version)] {
            if let Some(value) = value {
                facts[name] = json!(value);
            }
        }
        stored(facts)
    };
    let text = Some("text/plain; charset=utf-8");
    let cases: Vec<(&str, &str, Vec<Expected>)> = vec![
        ("s3", "moto-s3-test-event.json", vec![]),
        ("s3", "moto-s3-put.json", vec![moto("a b+c/é.txt", 5, hello, "2026-11-28T22:10:23.403Z")]),
        (
            "s3",
            "moto-s3-copy.json",
            vec![moto("copy.txt", 6, "6e809cbda0732ac4845916a59016f954", "2026-11-28T22:10:26.458Z")],
        ),
        ("s3", "moto-s3-delete.json", vec![absent("evt-bucket/a b+c/é.txt")]),
        ("s3", "localstack-s3-test-event.json", vec![]),
        ("s3", "localstack-s3-put.json", vec![moto("a b+c/é.txt", 5, hello, "2026-11-28T22:54:13.674Z")]),
        ("s3", "localstack-s3-delete.json", vec![absent("evt-bucket/a b+c/é.txt")]),
        ("s3", "localstack-s3-versioned-delete-marker.json", vec![absent("evt-bucket/v")]),
        ("eventbridge", "moto-eventbridge-tags-added.json", vec![]),
        (
            "eventbridge",
            "moto-eventbridge-created.json",
            vec![with_id(
                MOTO,
                stored(json!({
                    "bucket": "eb-bucket", "object": "a b+c/é.txt", "size": 5, "etag": hello, "time": "2026-11-28T22:10:40Z"
                })),
            )],
        ),
        (
            "s3",
            "localstack-s3-versioned-put.json",
            vec![stored(json!({
                "bucket": "evt-bucket", "object": "v", "size": 1, "etag": "c4ca4238a0b923820dcc509a6f75849b",
                "time": "2026-11-28T22:54:24.344Z", "version": "AaIkXepYlsTOQPApOb88WBEoR0ZpBnkj"
            }))],
        ),
        (
            "s3",
            "moto-s3-multipart-second-of-two.json",
            vec![stored(json!({
                "bucket": "evt-bucket", "object": "mp.bin", "size": 5_242_890, "etag": "326078dc9f7f9af267714c26f3d05fc3-2",
                "time": "2026-11-28T22:10:32.606Z"
            }))],
        ),
        (
            "eventbridge",
            "localstack-eventbridge-created.json",
            vec![with_id(
                "14888830-6762-4d11-abfb-091c0ccb025a",
                stored(json!({
                    "bucket": "eb-bucket", "object": "a b+c/é.txt", "size": 5, "etag": hello, "time": "2026-11-28T22:54:30Z"
                })),
            )],
        ),
        ("eventbridge", "moto-eventbridge-deleted.json", vec![with_id(MOTO, absent("eb-bucket/a b+c/é.txt"))]),
        (
            "eventbridge",
            "localstack-eventbridge-deleted.json",
            vec![with_id("697e10f5-836d-4853-85ef-66139a43b17f", absent("eb-bucket/a b+c/é.txt"))],
        ),
        ("seaweedfs", "seaweedfs-directory.http", vec![]),
        ("seaweedfs", "seaweedfs-multipart-part.http", vec![]),
        ("seaweedfs", "seaweedfs-versioned-folder-update.http", vec![]),
        (
            "seaweedfs",
            "seaweedfs-create.http",
            vec![seaweed("a b+c/é.txt", 5, "498c381ba18fc1be2160719e3e0a7c45", text, "2026-11-28T22:04:23Z", None)],
        ),
        (
            "seaweedfs",
            "seaweedfs-update.http",
            vec![seaweed(
                "plain.txt",
                6,
                "6e809cbda0732ac4845916a59016f954",
                Some("text/plain"),
                "2026-11-28T22:04:21Z",
                None,
            )],
        ),
        (
            "seaweedfs",
            "seaweedfs-empty-object.http",
            vec![seaweed("empty", 0, "d41d8cd98f00b204e9800998ecf8427e", None, "2026-11-28T22:04:33Z", None)],
        ),
        (
            "seaweedfs",
            "seaweedfs-multipart-done.http",
            vec![seaweed(
                "mp/x.bin",
                5_243_880,
                "417c1d0d2afa7c1509a76024e89b0203-2",
                None,
                "2026-11-28T22:04:42Z",
                None,
            )],
        ),
        ("seaweedfs", "seaweedfs-delete.http", vec![absent("bkt1/a b+c/é.txt")]),
        (
            "seaweedfs",
            "seaweedfs-versioned-put.http",
            vec![seaweed(
                "d/k",
                2,
                "6654c734ccab8f440ff0825eb443dc7f",
                text,
                "2026-11-28T22:04:47Z",
                Some("6713ab4b27947ddb17adfb52f4b547bb"),
            )],
        ),
        ("seaweedfs", "seaweedfs-versioned-delete-marker.http", vec![absent("vbkt/d/k")]),
        (
            "seaweedfs",
            "seaweedfs-rename.http",
            vec![
                absent("/dir1/file1.txt"),
                stored(json!({
                    "bucket": "", "object": "dir1/file2.txt", "size": 3, "etag": "900150983cd24fb0d6963f7d28e17f72",
                    "content_type": "text/plain", "time": "2026-11-28T22:08:56Z"
                })),
            ],
        ),
    ];
    for (format, file, expected) in cases {
        for format in [format, "auto"] {
            let daemon = facts(format).set("sources.s.key", "{bucket}/{object}").start();
            let answer = replay(&daemon, file);
            let entries: Vec<Value> = expected.iter().map(|(entry, _)| entry.clone()).collect();
            assert_eq!((answer.status, answer.json()), (200, answered(&entries)), "{file} as {format}");
            for (entry, facts) in &expected {
                let held = &results(&daemon.post(&get(entry["key"].clone())), 200, "ok")[0];
                let held = held["value"].as_str().map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
                assert_eq!(&held, facts, "{file} as {format}");
            }
        }
    }
}

#[test]
fn an_overwrite_and_a_deletion_within_a_second_take_effect_in_the_order_of_versions() {
    let daemon = facts("seaweedfs").start();
    let statuses = |file| statuses(&replay(&daemon, file));
    assert_eq!(statuses("seaweedfs-versioned-put.http"), ["stored"]);
    assert_eq!(statuses("seaweedfs-versioned-delete-marker.http"), ["deleted"], "ids count down");
    assert_eq!(statuses("seaweedfs-versioned-put.http"), ["superseded"]);
}

/// SeaweedFS tells of the rename first, and then that the object which had the name before is deleted.
#[test]
fn an_object_that_was_renamed_over_another_stays() {
    let daemon = facts("seaweedfs").start();
    let entry = |name: &str, nanos: u64| {
        let attributes = json!({"file_size": nanos % 10, "mtime": nanos / 1_000_000_000});
        json!({"name": name, "chunks": [{"modified_ts_ns": nanos, "e_tag": "e"}], "attributes": attributes})
    };
    let tell = |event: &str, key: &str, message: Value| {
        let answer =
            notify(&daemon, &json!({"event_type": event, "key": format!("/buckets/b/{key}"), "message": message}));
        assert_eq!(answer.status, 200, "{}", answer.text());
        statuses(&answer)
    };
    let (former, moved) = (1_795_956_946_223_575_792, 1_795_956_958_983_846_245);
    tell("create", "new", json!({"new_entry": entry("new", former)}));
    tell("create", "old", json!({"new_entry": entry("old", moved)}));
    let rename =
        json!({"old_entry": entry("old", moved), "new_entry": entry("new", moved), "new_parent_path": "/buckets/b"});
    assert_eq!(tell("rename", "old", rename), ["deleted", "stored"]);
    assert_eq!(tell("delete", "new", json!({"old_entry": entry("new", former)})), ["superseded"]);
    let held = &results(&daemon.post(&get(json!("new"))), 200, "ok")[0];
    assert!(held["value"].as_str().is_some_and(|facts| facts.contains("\"size\":5")), "{held}");
    assert_eq!(tell("delete", "new", json!({"old_entry": entry("new", moved)})), ["deleted"]);
}

#[test]
fn a_sequencer_that_never_changes_is_no_order() {
    let daemon = facts("s3").start();
    let at = |event, millis: u32| {
        let mut record = record(event, "k", "0055AED6DCD90281E5");
        record["eventTime"] = json!(format!("2026-11-28T22:10:23.{millis:03}Z"));
        statuses(&notify(&daemon, &records(&[record])))
    };
    assert_eq!(at("ObjectCreated:Put", 1), ["stored"]);
    assert_eq!(at("ObjectRemoved:Delete", 2), ["deleted"]);
    assert_eq!(at("ObjectCreated:Put", 3), ["stored"]);
    assert_eq!(at("ObjectCreated:Put", 3), ["stored"], "what is fetched last stands");
    assert_eq!(at("ObjectRemoved:Delete", 2), ["superseded"]);
}

#[test]
fn a_notification_is_answered_as_its_producer_expects() {
    let daemon = facts("s3").set("event.max_key_bytes", 20).set("event.max_events", 3).start();
    let one = |object: &str| record("ObjectCreated:Put", object, "0A");
    let answer = notify(&daemon, &records(&[one("short"), one(&"long".repeat(10))]));
    let body = answer.json();
    assert_eq!((answer.status, &body["counts"]), (200, &json!({"ok": 1, "rejected": 1, "unavailable": 0})), "{body}");
    assert_eq!(body["events"][1]["problem"]["errors"][0]["pointer"], "/value/data/key");
    daemon.log_line(|line| line.contains("event rejected"));
    let post = |path: &str, content_type: &str, body: &str| {
        let answer = daemon.post_to(path, &[("content-type", content_type)], body.as_bytes());
        (answer.status, problem_type(&answer.json()).to_owned())
    };
    let json = "application/json";
    assert_eq!(post("/sources/s", json, "{\"Records\":"), (400, "malformed-json".to_owned()));
    assert_eq!(post("/sources/s", json, r#"{"a":1}"#), (400, "malformed-json".to_owned()));
    assert_eq!(post("/sources/s", "text/csv", "a,b"), (415, "unsupported-media-type".to_owned()));
    assert_eq!(post("/sources/other", json, "{}"), (404, "not-found".to_owned()));
    assert_eq!(post("/sources/%73", json, "{}"), (404, "not-found".to_owned()));
    assert_eq!(post("/sources/", json, "{}"), (404, "not-found".to_owned()));
    let many = records(&[one("1"), one("2"), one("3"), one("4")]).to_string();
    assert_eq!(post("/sources/s", json, &many), (413, "payload-too-large".to_owned()));
    let answer = daemon.raw(b"DELETE /sources/s HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((answer.status, answer.header("allow").is_some()), (405, true));
    assert_eq!(daemon.post_to("/sources/s", &[], b"").status, 200, "a probe");
}

#[test]
fn what_may_succeed_later_is_503() {
    let mut stage = Stage::with(|daemon| {
        daemon.set("sources.s.format", "s3").set("sources.s.value", "facts").set("redis.retry_ms", 300)
    });
    let put = records(&[record("ObjectCreated:Put", "k", "0A")]);
    stage.redis.pause();
    let answer = notify(&stage.daemon, &put);
    assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true), "{}", answer.text());
    stage.redis.resume();
    assert!(eventually(PATIENCE, || notify(&stage.daemon, &put).status == 200));
}

/// A CloudEvent of Event Grid, which names the object's URL.
fn blob_created(url: &str, sequencer: &str) -> Value {
    json!([{
        "id": "1", "topic": "t", "subject": "/blobServices/default/containers/c/blobs/k",
        "eventType": "Microsoft.Storage.BlobCreated", "eventTime": "2026-11-28T22:44:51Z", "dataVersion": "",
        "metadataVersion": "1",
        "data": {"api": "PutBlob", "blobType": "BlockBlob", "url": url, "contentLength": 5, "sequencer": sequencer}
    }])
}

#[test]
fn an_object_is_fetched_and_one_that_is_gone_by_then_is_no_fault() {
    let blobs = BlobServer::start();
    let daemon = Daemon::builder().embedded().set("sources.s.format", "event-grid").start();
    let url = blobs.url("/c/k");
    blobs.put("/c/k", Blob::bytes("bytes"));
    assert_eq!(statuses(&notify(&daemon, &blob_created(&url, "0A"))), ["stored"]);
    assert_eq!(results(&daemon.post(&get(json!("k"))), 200, "ok")[0]["value"], "bytes");
    for status in [404, 410, 409, 412] {
        blobs.put("/c/k", Blob::status(status));
        let answer = notify(&daemon, &blob_created(&url, "0B"));
        assert_eq!((answer.status, statuses(&answer)), (200, vec!["superseded".to_owned()]), "{status}");
    }
    blobs.put("/c/k", Blob::status(403));
    let answer = notify(&daemon, &blob_created(&url, "0C"));
    assert_eq!((answer.status, statuses(&answer)), (200, vec!["rejected".to_owned()]));
    blobs.put("/c/k", Blob::bytes("newer"));
    assert_eq!(statuses(&notify(&daemon, &blob_created(&url, "0B"))), ["stored"], "an equal place is not old");
    assert_eq!(statuses(&notify(&daemon, &blob_created(&url, "09"))), ["superseded"]);
}

#[test]
fn bytes_that_are_nowhere_to_be_had_are_said_to_be() {
    let daemon = Daemon::builder().embedded().set("sources.s.format", "s3").start();
    daemon.log_line(|line| line.contains("such notifications name no URL"));
    let put = record("ObjectCreated:Put", "k", "0A");
    let answer = notify(&daemon, &records(&[put, record("ObjectRemoved:Delete", "k", "0B")]));
    let body = answer.json();
    assert_eq!((answer.status, &body["counts"]), (200, &json!({"ok": 1, "rejected": 1, "unavailable": 0})), "{body}");
    let error = &body["events"][0]["problem"]["errors"][0];
    assert_eq!(error["pointer"], "/value/data/url");
    assert!(error["detail"].as_str().is_some_and(|detail| detail.contains("no store")), "{error}");
}

/// What is told of beside it is not lost, and the producer, who would send the same again, is told that it is done.
#[test]
fn a_malformed_record_is_rejected_and_those_beside_it_are_carried_out() {
    let daemon = facts("auto").start();
    let put = |object: &str| record("ObjectCreated:Put", object, "0A");
    for bad in [json!(7), json!({"eventName": "ObjectCreated:Put", "s3": "nothing"})] {
        let answer = notify(&daemon, &records(&[put("a"), bad.clone(), put("b")]));
        let body = answer.json();
        assert_eq!(
            (answer.status, &body["counts"]),
            (200, &json!({"ok": 2, "rejected": 1, "unavailable": 0})),
            "{body}"
        );
        let problem = &body["events"][1]["problem"];
        assert_eq!(problem["type"], "urn:redis-cache-sync:invalid-event", "{body}");
        daemon.log_line(|line| line.contains("event rejected") && line.contains("element 1"));
        assert_eq!(notify(&daemon, &records(&[bad])).status, 400, "no record is one");
    }
    assert_eq!(results(&daemon.post(&get(json!(["a", "b"]))), 200, "ok").len(), 2);
}

#[test]
fn a_change_deletes_the_key_where_readers_fill_the_cache() {
    let daemon = Daemon::builder().embedded().set("sources.s.format", "s3").set("sources.s.value", "none").start();
    let fill = || daemon.post(&crate::support::set_inline("k", "filled"));
    let change = |event, sequencer| statuses(&notify(&daemon, &records(&[record(event, "k", sequencer)])));
    fill();
    assert_eq!(change("ObjectCreated:Put", "0A"), ["deleted"]);
    fill();
    assert_eq!(change("ObjectCreated:Put", "0A"), ["deleted"], "a repetition is not old");
    fill();
    assert_eq!(change("ObjectCreated:Put", "09"), ["superseded"]);
    assert_eq!(change("ObjectRemoved:Delete", "0B"), ["deleted"]);
}

#[test]
fn what_is_not_asked_for_is_counted_as_ignored() {
    let daemon = facts("s3").set("sources.s.include", "photos/a*,photos/b*").set("sources.s.exclude", "*.tmp").start();
    let put = |object: &str| record("ObjectCreated:Put", object, "0A");
    let all = [put("a1"), put("b2"), put("c3"), put("a.tmp"), put("a/"), record("ObjectTagging:Put", "a1", "0B")];
    let answer = notify(&daemon, &records(&all));
    assert_eq!((answer.status, statuses(&answer)), (200, vec!["stored".to_owned(); 2]));
    let ignored = |reason: &str| {
        let reason = format!("reason=\"{reason}\"");
        daemon.metric("cache_sync_source_ignored_total", &["source=\"s\"", &reason])
    };
    assert_eq!((ignored("filtered"), ignored("folder"), ignored("metadata")), (2.0, 1.0, 1.0));
    assert_eq!(daemon.metric("cache_sync_source_elements_total", &["source=\"s\""]), 6.0);
    assert_eq!(daemon.metric("cache_sync_source_lag_seconds_count", &["source=\"s\""]), 2.0);
    let shown = &daemon.get("/status.json").json()["sources"];
    assert_eq!((&shown[0]["source"], &shown[0]["format"]), (&json!("s"), &json!("s3")), "{shown}");
    assert_eq!((&shown[0]["received"], &shown[0]["ignored"]), (&json!(6), &json!(4)), "{shown}");
    assert!(shown[0]["mean_lag_seconds"].is_number(), "{shown}");
}

#[test]
fn sources_come_change_and_go_with_the_settings() {
    let file = |text: &str| format!("[sources.s]\nformat = \"s3\"\nvalue = \"facts\"\n{text}");
    let daemon = Daemon::builder().embedded().file("config/default.toml", &file("")).start();
    let write = |text: &str| {
        fs::write(daemon.dir().join("config/default.toml"), text).expect("a file");
        signal(daemon.pid(), "HUP");
    };
    let put = records(&[record("ObjectCreated:Put", "k", "0A")]);
    let key = |answer: &Answer| answer.json()["events"][0]["results"][0]["key"].as_str().map(str::to_owned);
    assert_eq!(key(&notify(&daemon, &put)).as_deref(), Some("k"));
    write(&file("key = \"p:{object}\"\n"));
    assert!(eventually(PATIENCE, || key(&notify(&daemon, &put)).as_deref() == Some("p:k")));
    write(&file(
        "key = \"p:{object}\"\ntokens = [\"a-long-random-text\"]\n[sources.t]\nformat = \"s3\"\nvalue = \"none\"\n",
    ));
    assert!(eventually(PATIENCE, || notify(&daemon, &put).status == 401));
    let other = daemon.post_to("/sources/t", &[("content-type", "application/json")], put.to_string().as_bytes());
    assert_eq!(other.status, 200, "{}", other.text());
    write("log_level = \"info\"\n");
    assert!(eventually(PATIENCE, || notify(&daemon, &put).status == 404));
}
