//! Notifications that name what the key has already: the store is not asked again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{Answer, Blob, BlobServer, Builder, Daemon, Gate, PATIENCE, Redis, eventually};

const OBJECT: &str = "a/b.txt";

/// A notification of this object at this place in its storage's order.
fn s3(name: &str, place: u64, etag: &str) -> Value {
    json!({"eventName": "ObjectCreated:Put", "eventTime": "2026-11-28T22:10:23.403Z", "s3": {"bucket": {"name": "b"},
        "object": {"key": name, "size": 5, "eTag": etag, "sequencer": format!("{place:X}")}}})
}

fn records(records: Vec<Value>) -> String {
    json!({"Records": records}).to_string()
}

/// LocalStack's: the same place in every notification.
fn without_order(place: u64, etag: &str) -> String {
    let mut record = s3(OBJECT, place, etag);
    record["s3"]["object"]["sequencer"] = "0055AED6DCD90281E5".into();
    records(vec![record])
}

fn event_grid(place: u64, etag: &str) -> String {
    let data = json!({"url": format!("https://a.blob.core.windows.net/b/{OBJECT}"), "eTag": etag, "sequencer": format!("{place:X}")});
    json!([{"id": "e", "eventType": "Microsoft.Storage.BlobCreated", "eventTime": "2026-11-28T22:44:51Z",
        "subject": format!("/blobServices/default/containers/b/blobs/{OBJECT}"), "data": data, "dataVersion": ""}])
    .to_string()
}

fn gcs(place: u64, etag: &str) -> String {
    let generation = place.to_string();
    let data = json!({"bucket": "b", "name": OBJECT, "generation": generation, "etag": etag}).to_string();
    let attributes =
        json!({"eventType": "OBJECT_FINALIZE", "bucketId": "b", "objectId": OBJECT, "objectGeneration": generation});
    json!({"message": {"attributes": attributes, "data": STANDARD.encode(data)}}).to_string()
}

fn seaweedfs(place: u64, etag: &str) -> String {
    let entry = json!({"chunks": [{"size": 5, "modified_ts_ns": place, "fid": {"volume_id": 1}}],
        "attributes": {"file_size": 5}, "extended": {"Seaweed-X-Amz-ETag": STANDARD.encode(etag)}, "name": "b.txt"});
    let message = json!({"new_entry": entry, "new_parent_path": "/buckets/b/a"});
    json!({"event_type": "create", "key": format!("/buckets/b/{OBJECT}"), "message": message}).to_string()
}

type Told = fn(u64, &str) -> String;
const FORMATS: [(&str, Told); 4] = [
    ("s3", |place, etag| records(vec![s3(OBJECT, place, etag)])),
    ("event-grid", event_grid),
    ("gcs", gcs),
    ("seaweedfs", seaweedfs),
];

/// Follows a store of these objects, in this format.
fn following(blobs: &BlobServer, format: &str) -> Builder {
    let endpoint = blobs.url("");
    let daemon = Daemon::builder().set("stores.main.kind", "http").set("stores.main.endpoint", &endpoint);
    daemon.set("sources.s.format", format).set("sources.s.store", "main").set("sources.s.ttl", 1000)
}

fn post(daemon: &Daemon, body: &str) -> Answer {
    let answer = daemon.post_to("/sources/s", &[("Content-Type", "application/json")], body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

/// What each change of a notification came to.
fn outcomes(daemon: &Daemon, body: &str) -> Vec<String> {
    let answer = post(daemon, body).json();
    let events = answer["events"].as_array().expect("events").iter();
    events.map(|event| event["results"][0]["status"].as_str().expect("a status").to_owned()).collect()
}

/// Requests for this object.
fn asked(blobs: &BlobServer, path: &str) -> usize {
    blobs.targets().iter().filter(|target| *target == path).count()
}

#[test]
fn what_a_notification_repeats_is_not_asked_for_again() {
    for (format, told) in FORMATS {
        let redis = Redis::start();
        let blobs = BlobServer::start();
        let path = format!("/b/{OBJECT}");
        for daemon in [following(&blobs, format).redis(&redis), following(&blobs, format).embedded()] {
            let (daemon, before) = (daemon.start(), asked(&blobs, &path));
            let asked = || asked(&blobs, &path) - before;
            blobs.put(&path, Blob::bytes("first").etag("\"e1\""));
            assert_eq!(outcomes(&daemon, &told(7, "e1")), ["stored"], "{format}");
            for _ in 0..3 {
                assert_eq!(outcomes(&daemon, &told(7, "e1")), ["unchanged"], "{format}");
            }
            assert_eq!(outcomes(&daemon, &told(8, "e1")), ["unchanged"], "{format}: the same bytes were written again");
            assert_eq!(asked(), 1, "{format}");
            assert_eq!(outcomes(&daemon, &told(7, "e1")), ["superseded"], "{format}: that counts as applied");
            blobs.put(&path, Blob::bytes("second").etag("\"e2\""));
            assert_eq!(outcomes(&daemon, &told(9, "e2")), ["stored"], "{format}");
            assert_eq!(outcomes(&daemon, &told(9, "e1")), ["unchanged"], "{format}: another tag is asked about");
            assert_eq!(asked(), 3, "{format}");
        }
        assert_eq!(redis.value(OBJECT).as_deref(), Some(&b"second"[..]), "{format}");
    }
}

#[test]
fn unchanged_is_true_whatever_others_did_to_the_key_and_the_time_to_live_runs_anew() {
    let (redis, blobs) = (Redis::start(), BlobServer::start());
    let daemon = following(&blobs, "s3").redis(&redis).start();
    let long = vec![b'x'; 3_500_000];
    for (name, body) in [("short", &b"short"[..]), ("empty", b""), ("long", &long)] {
        let path = format!("/b/{name}");
        blobs.put(&path, Blob::bytes(body).etag("\"e1\""));
        let publish = || outcomes(&daemon, &records(vec![s3(name, 7, "e1")])).remove(0);
        assert_eq!((publish().as_str(), publish().as_str(), blobs.hits(&path)), ("stored", "unchanged", 1), "{name}");
        redis::cmd("EXPIRE").arg(name).arg(10).exec(&mut redis.conn()).expect("EXPIRE");
        assert_eq!(publish(), "unchanged", "{name}");
        assert!(redis.ttl(name) > 900, "{name}: {}", redis.ttl(name));
        redis.put(name, b"of somebody else");
        assert_eq!((publish().as_str(), blobs.hits(&path)), ("stored", 2), "{name}");
        redis::cmd("DEL").arg(name).exec(&mut redis.conn()).expect("DEL");
        assert_eq!((publish().as_str(), blobs.hits(&path)), ("stored", 3), "{name}");
        assert!(redis.value(name).is_some_and(|value| value == body), "{name}");
    }
}

#[test]
fn where_places_say_nothing_another_state_is_never_taken_for_old() {
    let (redis, blobs) = (Redis::start(), BlobServer::start());
    let daemon = following(&blobs, "s3").redis(&redis).start();
    let path = format!("/b/{OBJECT}");
    for (etag, body) in [("e1", "first"), ("e2", "second"), ("e1", "first")] {
        blobs.put(&path, Blob::bytes(body).etag(&format!("\"{etag}\"")));
        assert_eq!(outcomes(&daemon, &without_order(0, etag)), ["stored"]);
        assert_eq!(outcomes(&daemon, &without_order(0, etag)), ["unchanged"]);
        assert_eq!(redis.value(OBJECT).as_deref(), Some(body.as_bytes()));
    }
    assert_eq!(asked(&blobs, &path), 3);
}

#[test]
fn a_tag_of_another_place_says_nothing() {
    let (redis, blobs) = (Redis::start(), BlobServer::start());
    let daemon = following(&blobs, "s3").redis(&redis).set("sources.s.key", "{stem}").start();
    for (path, body) in [("/b/a.txt", "text"), ("/b/a.jpg", "image")] {
        blobs.put(path, Blob::bytes(body).etag("\"e1\""));
    }
    assert_eq!(outcomes(&daemon, &records(vec![s3("a.txt", 7, "e1")])), ["stored"]);
    assert_eq!(outcomes(&daemon, &records(vec![s3("a.jpg", 7, "e1")])), ["stored"]);
    assert_eq!(redis.value("a").as_deref(), Some(&b"image"[..]));
}

#[test]
fn a_store_that_fails_holds_up_nothing_that_is_stored() {
    let (redis, blobs) = (Redis::start(), BlobServer::start());
    let daemon = following(&blobs, "s3").redis(&redis).set("fetch.attempts", 1).start();
    blobs.put(&format!("/b/{OBJECT}"), Blob::bytes("first").etag("\"e1\""));
    assert_eq!(outcomes(&daemon, &records(vec![s3(OBJECT, 7, "e1")])), ["stored"]);
    blobs.put(&format!("/b/{OBJECT}"), Blob::status(500));
    blobs.put("/b/other", Blob::status(500));
    let absent = daemon.post_to("/sources/s", &[], records(vec![s3("other", 7, "e1")]).as_bytes());
    assert_eq!(absent.status, 503, "{}", absent.text());
    assert_eq!(outcomes(&daemon, &records(vec![s3(OBJECT, 7, "e1")])), ["unchanged"]);
}

#[test]
fn repeats_that_come_while_the_first_is_fetched_wait_for_it() {
    let (redis, blobs, gate) = (Redis::start(), BlobServer::start(), Gate::closed());
    let daemon = following(&blobs, "s3").redis(&redis).start();
    blobs.put("/b/n0", Blob::bytes("value 0").etag("\"e0\"").gate(&gate));
    for number in 1..10 {
        blobs.put(&format!("/b/n{number}"), Blob::bytes(format!("value {number}")).etag(&format!("\"e{number}\"")));
    }
    let told = |number: usize| s3(&format!("n{number}"), 7, &format!("e{number}"));
    let first = records(vec![told(0); 10]);
    let repeated = std::thread::scope(|scope| {
        let posting = scope.spawn(|| outcomes(&daemon, &first));
        blobs.wait_hits("/b/n0", 1);
        let others = outcomes(&daemon, &records((0..90).map(|number| told(1 + number % 9)).collect()));
        assert_eq!(
            (&others[..9], &others[9..]),
            (&["stored"; 9].map(String::from)[..], &vec!["unchanged".to_owned(); 81][..])
        );
        gate.open();
        posting.join().expect("it answers")
    });
    assert_eq!((repeated[0].as_str(), &repeated[1..]), ("stored", &vec!["unchanged".to_owned(); 9][..]));
    let hits: usize = (0..10).map(|number| blobs.hits(&format!("/b/n{number}"))).sum();
    assert_eq!(hits, 10);
    // Where the first comes to nothing the next is fetched itself.
    blobs.put_sequence("/b/m", vec![Blob::status(404), Blob::bytes("late").etag("\"e1\"")]);
    let two = records(vec![s3("m", 7, "e1"), s3("m", 7, "e1")]);
    assert_eq!(outcomes(&daemon, &two), ["superseded", "stored"]);
}

#[test]
fn of_ten_thousand_notifications_that_tell_of_a_thousand_states_a_thousand_are_asked_for() {
    let (redis, blobs) = (Redis::start(), BlobServer::start());
    let daemon = following(&blobs, "s3").redis(&redis).set("log_level", "warn").start();
    blobs.fallback(|path| Some(Blob::bytes(path).etag(&format!("\"{}\"", path.replace('/', "-")))));
    let told = |number: usize| s3(&format!("n{number}"), 7, &format!("-b-n{number}"));
    for _ in 0..10 {
        for first in (0..1000).step_by(100) {
            post(&daemon, &records((first..first + 100).map(told).collect()));
        }
    }
    let outcome = |name: &str| daemon.metric("cache_sync_entries_total", &[&format!("outcome=\"{name}\"")]);
    assert_eq!((outcome("stored"), outcome("unchanged")), (1000.0, 9000.0));
    assert_eq!(blobs.targets().len(), 1000);
}

#[test]
fn a_notification_that_went_through_the_journal_repeats_as_well() {
    let (redis, blobs) = (Redis::start(), BlobServer::start());
    let daemon = following(&blobs, "s3").redis(&redis).set("sources.s.accept", "journal").start();
    let path = format!("/b/{OBJECT}");
    blobs.put(&path, Blob::bytes("first").etag("\"e1\""));
    let publish = |place: u64| {
        let body = records(vec![s3(OBJECT, place, "e1")]);
        let answer = daemon.post_to("/sources/s", &[("Content-Type", "application/json")], body.as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
    };
    publish(7);
    assert!(eventually(PATIENCE, || redis.value(OBJECT).is_some_and(|value| value == b"first")), "it is stored");
    for place in [7, 7, 8, 9] {
        redis::cmd("EXPIRE").arg(OBJECT).arg(500).exec(&mut redis.conn()).expect("EXPIRE");
        publish(place);
        assert!(eventually(PATIENCE, || redis.ttl(OBJECT) > 900), "the time to live runs anew");
    }
    assert_eq!(blobs.hits(&path), 1);
}
