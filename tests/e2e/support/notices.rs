//! Changes of objects, told shuffled, twice and late in the words of each format: a [`Dialect`] says how a format tells of
//! changes, and of how many at once.

use std::collections::HashMap;
use std::env;
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Daemon;
use super::http::request;

const OBJECTS: usize = 200;
const NOTIFICATIONS: usize = 10_000;
/// Of what is sent, so many percent are sent once more.
const TWICE: u64 = 5;
/// Connections that deliver at once, so that requests overtake one another.
const CONNECTIONS: usize = 4;

/// A change of one object, in the order of its storage.
#[derive(Debug, Clone, Copy)]
struct Change {
    object: usize,
    /// What the object was before, and is after it.
    before: u64,
    after: u64,
    deletes: bool,
}

impl Change {
    fn name(&self) -> String {
        format!("d {}/é-{}.txt", self.object % 7, self.object)
    }
}

/// How a format tells of changes.
pub struct Dialect {
    pub format: &'static str,
    /// In one request, at most.
    batch: usize,
    body: fn(&[Change]) -> Vec<u8>,
    content_type: &'static str,
}

pub const DIALECTS: [Dialect; 10] = [
    Dialect { format: "s3", batch: 50, body: s3, content_type: "application/json" },
    Dialect { format: "auto", batch: 50, body: minio, content_type: "application/json" },
    // moto has no sequencer: there the time of the event decides.
    Dialect { format: "s3", batch: 50, body: moto, content_type: "application/json" },
    Dialect { format: "sns", batch: 50, body: sns, content_type: "text/plain; charset=UTF-8" },
    Dialect { format: "eventbridge", batch: 1, body: eventbridge, content_type: "application/json" },
    Dialect { format: "seaweedfs", batch: 1, body: seaweedfs, content_type: "application/json" },
    Dialect { format: "event-grid", batch: 50, body: event_grid, content_type: "application/json" },
    Dialect {
        format: "cloudevents",
        batch: 50,
        body: cloud_events,
        content_type: "application/cloudevents-batch+json",
    },
    Dialect {
        format: "cloudevents",
        batch: 50,
        body: google_cloud_events,
        content_type: "application/cloudevents-batch+json",
    },
    Dialect { format: "gcs", batch: 1, body: pub_sub, content_type: "application/json" },
];

/// Of unequal lengths, as storage writes them: only as numbers do they compare.
fn sequencer(change: &Change) -> String {
    format!("{:X}", change.after * 7)
}

fn azure(change: &Change) -> (&'static str, String, Value) {
    let kind = if change.deletes { "Microsoft.Storage.BlobDeleted" } else { "Microsoft.Storage.BlobCreated" };
    let subject = format!("/blobServices/default/containers/c/blobs/{}", change.name());
    let url = format!("https://acct.blob.core.windows.net/c/{}", change.name());
    (kind, subject, json!({"url": url, "contentLength": change.after, "sequencer": sequencer(change)}))
}

fn event_grid(changes: &[Change]) -> Vec<u8> {
    let event = |change: &Change| {
        let (kind, subject, data) = azure(change);
        json!({"id": "e", "eventType": kind, "subject": subject, "eventTime": "2026-11-28T22:44:51Z", "data": data, "dataVersion": ""})
    };
    Value::from(changes.iter().map(event).collect::<Vec<_>>()).to_string().into_bytes()
}

fn cloud_events(changes: &[Change]) -> Vec<u8> {
    let event = |change: &Change| {
        let (kind, subject, data) = azure(change);
        json!({"specversion": "1.0", "id": "e", "source": "/s", "type": kind, "subject": subject, "data": data})
    };
    Value::from(changes.iter().map(event).collect::<Vec<_>>()).to_string().into_bytes()
}

/// Milliseconds after some moment.
fn time(change: &Change) -> String {
    format!("2026-11-28T22:10:{:02}.{:03}Z", change.after / 1000, change.after % 1000)
}

/// As a form escapes it.
fn escaped(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect()
}

fn records(changes: &[Change], record: impl Fn(&Change, &str) -> Value) -> Value {
    let kind = |change: &Change| if change.deletes { "ObjectRemoved:Delete" } else { "ObjectCreated:Put" };
    changes.iter().map(|change| record(change, kind(change))).collect::<Vec<_>>().into()
}

fn s3_records(changes: &[Change]) -> Value {
    records(changes, |change, kind| {
        let object = json!({"key": escaped(&change.name()), "size": change.after, "sequencer": sequencer(change)});
        json!({"eventName": kind, "eventTime": time(change), "s3": {"bucket": {"name": "c"}, "object": object}})
    })
}

fn s3(changes: &[Change]) -> Vec<u8> {
    json!({"Records": s3_records(changes)}).to_string().into_bytes()
}

/// Nanoseconds since 1970 in hexadecimal digits, and the first of the records once more above them.
fn minio(changes: &[Change]) -> Vec<u8> {
    let records = records(changes, |change, kind| {
        let nanos = 1_795_903_463_933_850_106 + change.after * 1000;
        let object = json!({"key": escaped(&change.name()), "size": change.after, "sequencer": format!("{nanos:X}")});
        let s3 = json!({"bucket": {"name": "c"}, "object": object});
        json!({"eventName": format!("s3:{kind}"), "eventTime": "2026-11-28T22:10:23.403Z", "s3": s3})
    });
    json!({"EventName": "s3:ObjectCreated:Put", "Key": "c/k", "Records": records}).to_string().into_bytes()
}

fn moto(changes: &[Change]) -> Vec<u8> {
    let records = records(changes, |change, kind| {
        let object = json!({"key": escaped(&change.name()), "size": change.after, "eTag": "e"});
        json!({"eventName": kind, "eventTime": time(change), "s3": {"bucket": {"name": "c"}, "object": object}})
    });
    json!({"Records": records}).to_string().into_bytes()
}

fn sns(changes: &[Change]) -> Vec<u8> {
    let message = json!({"Records": s3_records(changes)}).to_string();
    let topic = "arn:aws:sns:us-east-1:123456789012:t";
    let time = "2026-11-28T22:54:42.103Z";
    json!({"Type": "Notification", "MessageId": "m", "TopicArn": topic, "Message": message, "Timestamp": time})
        .to_string()
        .into_bytes()
}

fn eventbridge(changes: &[Change]) -> Vec<u8> {
    let change = &changes[0];
    let kind = if change.deletes { "Object Deleted" } else { "Object Created" };
    let object = json!({"key": change.name(), "size": change.after, "sequencer": sequencer(change)});
    let detail = json!({"bucket": {"name": "c"}, "object": object});
    json!({"id": "e", "source": "aws.s3", "detail-type": kind, "time": "2026-11-28T22:10:40Z", "detail": detail})
        .to_string()
        .into_bytes()
}

/// What went is told with the chunks that it had.
fn seaweedfs(changes: &[Change]) -> Vec<u8> {
    let change = &changes[0];
    let at = if change.deletes { change.before } else { change.after };
    let entry = json!({
        "name": "n", "chunks": [{"modified_ts_ns": 1_795_903_463_933_850_106 + at * 1000, "e_tag": "e"}],
        "attributes": {"file_size": change.after, "mtime": 1_795_903_463, "inode": 16_784_179_491_352_257_472_u64},
    });
    let (kind, message) = match change.deletes {
        true => ("delete", json!({"old_entry": entry})),
        false => ("create", json!({"new_entry": entry, "new_parent_path": "/buckets/c"})),
    };
    let key = format!("/buckets/c/{}", change.name());
    json!({"event_type": kind, "key": key, "message": message}).to_string().into_bytes()
}

/// What went carries its own generation, not one of its end.
fn generation(change: &Change) -> u64 {
    if change.deletes { change.before } else { change.after }
}

fn google_cloud_events(changes: &[Change]) -> Vec<u8> {
    let event = |change: &Change| {
        let kind = if change.deletes { "deleted" } else { "finalized" };
        json!({
            "specversion": "1.0", "id": "e", "source": "/s", "type": format!("google.cloud.storage.object.v1.{kind}"),
            "data": {"bucket": "c", "name": change.name(), "generation": generation(change).to_string(), "size": change.after},
        })
    };
    Value::from(changes.iter().map(event).collect::<Vec<_>>()).to_string().into_bytes()
}

fn pub_sub(changes: &[Change]) -> Vec<u8> {
    let change = &changes[0];
    let kind = if change.deletes { "OBJECT_DELETE" } else { "OBJECT_FINALIZE" };
    let generation = generation(change).to_string();
    let resource =
        json!({"bucket": "c", "name": change.name(), "generation": generation, "size": change.after.to_string()});
    let attributes =
        json!({"eventType": kind, "bucketId": "c", "objectId": change.name(), "objectGeneration": generation});
    json!({
        "message": {"attributes": attributes, "data": STANDARD.encode(resource.to_string()), "messageId": "1"},
        "subscription": "projects/p/subscriptions/s",
    })
    .to_string()
    .into_bytes()
}

/// All that happens, object by object in its order.
fn history(random: &mut fastrand::Rng) -> Vec<Change> {
    let mut last = [0; OBJECTS];
    let mut exists = [false; OBJECTS];
    let happen = |now: u64| {
        let object = random.usize(..OBJECTS);
        let deletes = exists[object] && random.u8(..100) < 30;
        let change = Change { object, before: last[object], after: now, deletes };
        exists[object] = !deletes;
        if !deletes {
            last[object] = now;
        }
        change
    };
    (1..=NOTIFICATIONS as u64).map(happen).collect()
}

/// In batches, over several connections at once, each answer a success.
fn deliver(daemon: &Daemon, dialect: &Dialect, changes: &[Change]) {
    let batches: Vec<&[Change]> = changes.chunks(dialect.batch).collect();
    thread::scope(|scope| {
        for share in batches.chunks(batches.len().div_ceil(CONNECTIONS)) {
            scope.spawn(move || {
                let mut wire = daemon.wire();
                for batch in share {
                    let headers = [("content-type", dialect.content_type)];
                    assert!(wire.send(&request("POST", "/sources/s", &headers, &(dialect.body)(batch))));
                    let answer = wire.answer();
                    assert_eq!(answer.status, 200, "{}", answer.text());
                }
            });
        }
    });
}

/// Delivers [`NOTIFICATIONS`] changes of [`OBJECTS`] objects, and looks at what there is then; `held` gives the value of a key.
pub fn check(daemon: &Daemon, held: impl Fn(&str) -> Option<Vec<u8>>, dialect: &Dialect, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let history = history(&mut random);
    let mut delivered = history.clone();
    delivered.extend(history.iter().filter(|_| u64::from(random.u8(..100)) < TWICE));
    random.shuffle(&mut delivered);
    deliver(daemon, dialect, &delivered);
    let last: HashMap<usize, Change> = history.iter().map(|change| (change.object, *change)).collect();
    for change in last.values() {
        let stored = held(&change.name());
        let size = stored.map(|stored| serde_json::from_slice::<Value>(&stored).expect("JSON")["size"].clone());
        let expected = (!change.deletes).then(|| json!(change.after));
        assert_eq!(size, expected, "{} with seed {seed}: {change:?}", dialect.format);
    }
}

/// Seeds of one run: `SOURCE_SEEDS=10` for more than a few.
pub fn seeds() -> u64 {
    env::var("SOURCE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(1)
}
