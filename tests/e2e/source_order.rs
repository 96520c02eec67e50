//! Notifications that come shuffled, twice and late: in the end each object is what its last change made of it.
//!
//! One harness for all formats: a [`Dialect`] says how a format tells of changes, and in which it tells of several.

use std::collections::HashMap;
use std::env;
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{Daemon, Redis};

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
struct Dialect {
    format: &'static str,
    /// In one request, at most.
    batch: usize,
    body: fn(&[Change]) -> Vec<u8>,
    content_type: &'static str,
}

const DIALECTS: [Dialect; 4] = [
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

fn check(daemon: &Daemon, redis: &Redis, dialect: &Dialect, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let history = history(&mut random);
    let mut delivered = history.clone();
    delivered.extend(history.iter().filter(|_| u64::from(random.u8(..100)) < TWICE));
    random.shuffle(&mut delivered);
    deliver(daemon, dialect, &delivered);
    let last: HashMap<usize, Change> = history.iter().map(|change| (change.object, *change)).collect();
    for change in last.values() {
        let stored = redis.value(&change.name());
        let size = stored.map(|stored| serde_json::from_slice::<Value>(&stored).expect("JSON")["size"].clone());
        let expected = (!change.deletes).then(|| json!(change.after));
        assert_eq!(size, expected, "{} with seed {seed}: {change:?}", dialect.format);
    }
}

/// Seeds of one run: `SOURCE_SEEDS=10` for more than a few.
fn seeds() -> u64 {
    env::var("SOURCE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(1)
}

#[test]
fn whatever_the_order_of_delivery_the_storage_s_own_order_holds() {
    for dialect in &DIALECTS {
        for seed in 0..seeds() {
            let redis = Redis::start();
            let daemon =
                Daemon::builder().redis(&redis).set("sources.s.format", dialect.format).set("log_level", "warn");
            let daemon = daemon.set("sources.s.value", "facts").start();
            check(&daemon, &redis, dialect, seed);
        }
    }
}
