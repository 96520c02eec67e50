//! Panics inside every actor, under load: each request is answered, retries in order end in the last value, and the
//! actor concerned was restarted. Needs the cargo feature `failpoints`.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::faulty_way::{Fault, Proxy, Way};
use crate::journal::{assert_accepted, assert_empty, keep};
use crate::support::{Blob, BlobServer, Daemon, Gate, PATIENCE, Redis, eventually, get, ndjson, set_blob, set_inline};

const CLIENTS: u64 = 6;
const ROUNDS: u64 = 120;
const KEYS: u64 = 4;

fn key(client: u64, number: u64) -> String {
    format!("{client}:{}", number % KEYS)
}

/// A client's batch of events `from..to` on its own keys, in ascending order of their values.
fn batch(blobs: &BlobServer, client: u64, from: u64, to: u64, blobs_only: bool) -> Vec<Value> {
    let event = |number: u64| {
        if blobs_only || number.is_multiple_of(7) {
            set_blob(&key(client, number), &blobs.url(&format!("/{number}")))
        } else {
            set_inline(&key(client, number), &number.to_string())
        }
    };
    (from..to).map(event).collect()
}

/// Posts until every event is ok or made needless by a later one; only what is unavailable goes again, in its order.
fn settle(daemon: &Daemon, mut events: Vec<Value>) {
    let begin = Instant::now();
    while !events.is_empty() {
        assert!(begin.elapsed() < PATIENCE, "not settled after {:?}: {events:?}", begin.elapsed());
        let posted = Instant::now();
        let answer = daemon.post_with(&[("content-type", "application/x-ndjson")], ndjson(&events).as_bytes());
        assert!(posted.elapsed() < PATIENCE, "an answer took {:?}", posted.elapsed());
        assert!([200, 503].contains(&answer.status), "{}", answer.text());
        let json = answer.json();
        // A problem document instead of a batch's answer: nothing is known to be done, so all of it goes again.
        let Some(found) = json["events"].as_array() else {
            continue;
        };
        assert_eq!(found.len(), events.len(), "{json}");
        let mut statuses = found.iter().map(|event| event["status"].clone());
        events.retain(|_| statuses.next().is_some_and(|status| status != "ok"));
    }
}

fn panics_in(point: &str, actor: &str) {
    let redis = Redis::start();
    let blobs = BlobServer::start();
    blobs.fallback(|target| Some(Blob::bytes(target.trim_start_matches('/'))));
    let daemon = Daemon::builder().redis(&redis).env("FAILPOINTS", &format!("{point}=2%panic")).start();
    let last = ROUNDS * 5;
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (daemon, blobs) = (&daemon, &blobs);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    settle(daemon, batch(blobs, client, round * 5, round * 5 + 5, point == "fetch"));
                }
            });
        }
    });
    for client in 0..CLIENTS {
        for number in last - KEYS..last {
            let found = redis.value(&key(client, number)).map(|value| String::from_utf8_lossy(&value).into_owned());
            assert_eq!(found, Some(number.to_string()), "client {client}");
        }
    }
    let label = format!("actor=\"{actor}\"");
    let restarts = daemon.metric("cache_sync_actor_restarts_total", &[&label]);
    assert!(restarts > 0.0, "{:#?}", daemon.metrics());
    assert_eq!(daemon.get("/live").status, 200);
    let home = || daemon.metric("cache_sync_admission_events", &[]) == 0.0;
    assert!(eventually(Duration::from_secs(5), home), "admission was not given back");
    let running = |actor: &str| daemon.metric("cache_sync_actors", &[&format!("actor=\"{actor}\"")]) > 0.0;
    for actor in ["intake", "validation", "router", "fetcher", "writer"] {
        assert!(eventually(Duration::from_secs(5), || running(actor)), "no {actor} is running");
    }
}

#[test]
fn panics_in_intake_lose_nothing() {
    panics_in("intake", "intake");
}

#[test]
fn panics_in_validation_lose_nothing() {
    panics_in("validation", "validation");
}

#[test]
fn panics_in_the_router_lose_nothing() {
    panics_in("router", "router");
}

#[test]
fn panics_in_the_fetchers_lose_nothing() {
    panics_in("fetch", "fetcher");
}

#[test]
fn panics_in_the_writers_lose_nothing() {
    panics_in("write", "writer");
}

#[test]
fn a_single_panic_is_answered_as_interrupted_or_made_good() {
    for point in ["intake", "validation", "router", "fetch", "write"] {
        let redis = Redis::start();
        let blobs = BlobServer::start();
        blobs.put("/b", Blob::bytes("blob"));
        let daemon = Daemon::builder().redis(&redis).env("FAILPOINTS", &format!("{point}=1*panic")).start();
        let answer = daemon.post(&set_blob("k", &blobs.url("/b")));
        if answer.status != 200 {
            assert_eq!(answer.status, 503, "{point}: {}", answer.text());
            assert!(answer.text().contains("urn:redis-cache-sync:interrupted"), "{point}: {}", answer.text());
            answer.retry_after();
        }
        assert_eq!(daemon.post(&set_inline("k", "after")).status, 200, "{point}");
        assert_eq!(redis.value("k").as_deref(), Some(b"after".as_slice()), "{point}");
    }
}

#[test]
fn a_stuck_actor_turns_live_until_it_moves_again() {
    for point in ["router", "write"] {
        let builder = Daemon::builder().embedded().set("live.stall_seconds", 1);
        let daemon = builder.env("FAILPOINTS", &format!("{point}=1*sleep(6000)")).start();
        thread::scope(|scope| {
            let stuck = scope.spawn(|| daemon.post(&set_inline("k", "v")));
            let dead = || {
                let mut wire = daemon.wire();
                wire.writer().set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout can be set");
                wire.send_request("GET", "/live", &[], b"");
                wire.try_answer(false).map_or(true, |answer| answer.status == 503)
            };
            assert!(eventually(Duration::from_secs(5), dead), "{point} is stuck and /live says nothing");
            assert!([200, 503].contains(&stuck.join().expect("an answer").status));
        });
        assert!(eventually(Duration::from_secs(5), || daemon.get("/live").status == 200), "{point}");
        assert_eq!(daemon.post(&get(json!("k"))).status, 200);
    }
}

#[test]
fn a_holder_of_the_journal_with_an_actor_that_hangs_leaves_its_lease_to_another() {
    let redis = Redis::start();
    let start = |points: &str| Daemon::builder().redis(&redis).env("FAILPOINTS", points).start();
    let stuck = start("write=1*sleep(40000)");
    assert_accepted(&keep(&stuck, &set_inline("k", "1")), 1);
    assert!(eventually(PATIENCE, || redis.exists("{rcs:journal}:lease")), "it has the lease");
    let began = Instant::now();
    let other = start("write=off");
    assert_accepted(&keep(&other, &json!([set_inline("k", "2"), set_inline("other", "1")])), 2);
    let applied = || redis.value("k").as_deref() == Some(b"2") && redis.exists("other");
    assert!(eventually(Duration::from_secs(10), applied), "nobody went on within {:?}", began.elapsed());
    assert_empty(&redis);
    assert!(!redis.exists("{rcs:journal}:dead"), "no event is given up");
    stuck.log_line(|line| line.contains("an actor of the pipeline hangs"));
    assert_eq!(other.metric("cache_sync_journal_lease", &[]), 1.0);
}

/// A batch was carried out, its answer is on a long way, and its writer is restarted: it repeats the batch, but not the read
/// that would see what a later write of the batch has done.
#[test]
fn a_restarted_writer_repeats_no_read_that_a_later_write_of_its_batch_has_overtaken() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    // The first message is that of the batch, the second one brings the writer down.
    let daemon = Daemon::builder().set("redis.host", "127.0.0.1").set("redis.port", proxy.port());
    let daemon = daemon.set("redis.pool_size", 1).set("redis.response_timeout_ms", 5000);
    let daemon = daemon.set("redis.retry_ms", 15_000).env("FAILPOINTS", "write=1*off->1*panic->off").start();
    redis.put("k", b"old");
    proxy.set(Way::ToService, Fault::Delay(Duration::from_millis(1500)));
    let batch = ndjson(&[get(json!("k")), set_inline("k", "new")]);
    let (first, _) = thread::scope(|scope| {
        let first = scope.spawn(|| daemon.post_ndjson(&batch));
        assert!(eventually(PATIENCE, || redis.value("k").as_deref() == Some(b"new")), "the write was not sent");
        let second = scope.spawn(|| daemon.post(&get(json!("other"))).status);
        let restarts = || daemon.metric("cache_sync_actor_restarts_total", &["actor=\"writer\""]);
        assert!(eventually(PATIENCE, || restarts() > 0.0), "the writer was not restarted");
        proxy.set(Way::ToService, Fault::None);
        (first.join().expect("an answer"), second.join().expect("an answer"))
    });
    let json = first.json();
    let read = &json["events"][0]["results"][0];
    assert!(read["value"] == "old" || read["status"] == "unavailable", "{json}");
    assert_eq!(json["events"][1]["results"][0]["status"], "stored", "{json}");
}

/// Of a blob that is passed on the last is on a long way to Redis when the router is restarted.
#[test]
fn a_write_after_a_restart_of_the_router_is_not_undone_by_a_blob_that_was_passed_on_before() {
    let (redis, blobs, gate) = (Redis::start(), BlobServer::start(), Gate::closed());
    let proxy = Proxy::start(redis.port());
    let daemon = Daemon::builder().set("redis.host", "127.0.0.1").set("redis.port", proxy.port());
    let daemon = daemon.set("redis.response_timeout_ms", 10_000).set("http.workers", 1).set("fetch.stream_bytes", 10);
    // Two messages come before the blob's, one is its own, two are those of the first read, and one is the second read's.
    let daemon = daemon.env("FAILPOINTS", "router=6*off->1*panic->off").start();
    blobs.put("/first", Blob::bytes(vec![b'f'; 1000]));
    blobs.put("/old", Blob::bytes(vec![b'o'; 1000]).gate(&gate));
    // A connection for blobs stands, and one for the rest.
    for event in [set_blob("first", &blobs.url("/first")), set_inline("inline", "v")] {
        assert_eq!(daemon.post(&event).status, 200);
    }
    let before = redis.calls("set");
    thread::scope(|scope| {
        let old = scope.spawn(|| daemon.post(&set_blob("k", &blobs.url("/old"))));
        blobs.wait_hits("/old", 1);
        proxy.set(Way::ToRedis, Fault::Delay(Duration::from_millis(2500)));
        gate.open();
        assert!(eventually(PATIENCE, || blobs.answered("/old") == 1));
        // All that is done on the one thread of requests and fetches: by then the blob has been passed on.
        (0..50).for_each(|_| assert_eq!(daemon.get("/live").status, 200));
        proxy.set(Way::ToRedis, Fault::None);
        let reads: Vec<_> = (0..2).map(|_| scope.spawn(|| daemon.post(&get(json!("k"))).status)).collect();
        let old = old.join().expect("an answer");
        assert!(old.status == 503 && old.text().contains("interrupted"), "{}", old.text());
        assert_eq!(daemon.post(&set_inline("k", "new")).status, 200);
        reads.into_iter().for_each(|read| assert!([200, 503].contains(&read.join().expect("an answer"))));
    });
    assert!(eventually(PATIENCE, || redis.calls("set") == before + 2), "both were to come to Redis");
    assert_eq!(redis.value("k").as_deref(), Some(b"new".as_slice()));
}

#[test]
fn a_blob_that_is_passed_on_while_the_router_is_restarted_is_stored() {
    let (redis, blobs, gate) = (Redis::start(), BlobServer::start(), Gate::closed());
    let daemon = Daemon::builder().redis(&redis).set("fetch.stream_bytes", 10);
    // One message is the blob's own, and the read is one to each of the two parts of the router.
    let daemon = daemon.env("FAILPOINTS", "router=2*off->1*panic->off").start();
    blobs.put("/b", Blob::bytes(vec![b'b'; 1000]).gate(&gate));
    thread::scope(|scope| {
        let blob = scope.spawn(|| daemon.post(&set_blob("k", &blobs.url("/b"))));
        blobs.wait_hits("/b", 1);
        let read = daemon.post(&get(json!("k")));
        assert!(read.status == 503 && read.text().contains("interrupted"), "{}", read.text());
        gate.open();
        let blob = blob.join().expect("an answer");
        assert_eq!(blob.status, 200, "{}", blob.text());
    });
    assert_eq!(redis.value("k"), Some(vec![b'b'; 1000]));
}
