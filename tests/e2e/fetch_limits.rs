//! Many fetches at once: limits for a host and altogether, slow and hung hosts, and the budget of bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::blobs::{assert_fetch, fetch};
use crate::support::{Blob, BlobServer, Gate, HungHosts, Random, Stage, eventually, ndjson, set_blob};

const SECOND: Duration = Duration::from_secs(1);

/// Events that each set a key of its own from `path`, numbered.
fn many(blobs: &BlobServer, count: usize, path: &str) -> Vec<Value> {
    (0..count).map(|n| set_blob(&format!("{path}{n}"), &blobs.url(path))).collect()
}

#[test]
fn fetches_at_once_are_limited_for_each_host_and_altogether() {
    let limits: [(&str, u32, &str, u32, usize); 2] =
        [("fetch.per_host", 3, "fetch.concurrency", 64, 3), ("fetch.per_host", 64, "fetch.concurrency", 2, 4)];
    for (first, value, second, other, limit) in limits {
        let stage = Stage::with(|daemon| daemon.set(first, value).set(second, other).set("fetch.pool_size", 2));
        let gate = Gate::closed();
        stage.blobs.put("/b", Blob::bytes("x").gate(&gate));
        let events = many(&stage.blobs, 30, "/b");
        thread::scope(|scope| {
            let posted = scope.spawn(|| stage.daemon.post_ndjson(&ndjson(&events)));
            let reached = eventually(5 * SECOND, || stage.blobs.running() >= limit.min(2));
            assert!(reached, "no fetch began");
            gate.open();
            assert_eq!(posted.join().expect("no panic").status, 200);
        });
        let most = stage.blobs.high_water();
        assert!(most >= 2 && most <= limit, "{most} at once, allowed are {limit}");
    }
}

#[test]
fn a_dripping_host_does_not_starve_the_others() {
    let stage = Stage::with(|daemon| {
        daemon
            .set("fetch.pool_size", 1)
            .set("fetch.concurrency", 4)
            .set("fetch.per_host", 2)
            .set("fetch.timeout_ms", 20_000)
    });
    let slow = BlobServer::start();
    let gate = Gate::closed();
    slow.put("/s", Blob::bytes("slow").gate(&gate));
    stage.blobs.put("/quick", Blob::bytes("quick"));
    let events = many(&slow, 20, "/s");
    thread::scope(|scope| {
        let posted = scope.spawn(|| stage.daemon.post_ndjson(&ndjson(&events)));
        slow.wait_hits("/s", 2);
        for _ in 0..3 {
            let took = assert_fetch(&stage, "/quick", "stored");
            assert!(took < SECOND, "the other host took {took:?}");
        }
        gate.open();
        assert_eq!(posted.join().expect("no panic").status, 200);
    });
    assert_eq!(slow.hits("/s"), 20);
}

#[test]
fn a_hung_host_is_taken_for_down_until_it_answers_again() {
    let stage = Stage::with(|daemon| {
        daemon
            .set("fetch.timeout_ms", 600)
            .set("fetch.attempts", 1)
            .set("fetch.per_host", 2)
            .set("fetch.deadline_ms", 20_000)
    });
    let hung = BlobServer::start();
    hung.put("/h", Blob::hang());
    stage.blobs.put("/quick", Blob::bytes("quick"));
    let events = many(&hung, 40, "/h");
    thread::scope(|scope| {
        let posted = scope.spawn(|| {
            let begin = Instant::now();
            (stage.daemon.post_ndjson(&ndjson(&events)), begin.elapsed())
        });
        hung.wait_hits("/h", 2);
        assert_fetch(&stage, "/quick", "stored");
        let (answer, took) = posted.join().expect("no panic");
        assert_eq!(answer.json()["counts"]["unavailable"], 40);
        // One by one behind the limit it would have been twenty attempts in a row.
        assert!(took < 5 * SECOND, "{took:?}");
    });
    assert!(hung.hits("/h") < 20, "a host that is down was asked {} times", hung.hits("/h"));
    hung.put("/h", Blob::bytes("back"));
    let back = eventually(10 * SECOND, || fetch(&stage.daemon, &hung.url("/h")).0 == "stored");
    assert!(back, "the host answers again and is not asked");
}

#[test]
fn a_host_that_is_back_is_asked_again_although_what_it_was_asked_before_still_hangs() {
    let stage = Stage::with(|daemon| {
        daemon
            .set("fetch.timeout_ms", 4000)
            .set("fetch.attempts", 2)
            .set("fetch.per_host", 2)
            .set("fetch.deadline_ms", 20_000)
    });
    let (hung, hangs) = (BlobServer::start(), Arc::new(AtomicBool::new(true)));
    let state = hangs.clone();
    hung.fallback(move |_| Some(if state.load(Relaxed) { Blob::hang() } else { Blob::bytes("back") }));
    let events = many(&hung, 10, "/h");
    let ask = |number: u32| {
        let begin = Instant::now();
        let answer = stage.daemon.post(&set_blob(&format!("k{number}"), &hung.url("/again")));
        (answer.status, begin.elapsed())
    };
    let answer = stage.daemon.post_ndjson(&ndjson(&events));
    assert_eq!(answer.json()["counts"]["unavailable"], 10);
    thread::scope(|scope| {
        let probe = scope.spawn(|| ask(0));
        hung.wait_hits("/again", 1);
        assert!(matches!(ask(1), (503, took) if took < SECOND), "it is not known to hang");
        hangs.store(false, Relaxed);
        assert!(eventually(2 * SECOND, || ask(1).0 == 200), "it is back, and is not asked");
        assert!(!probe.is_finished());
        for number in 2..20 {
            let (status, took) = ask(number);
            assert!(status == 200 && took < SECOND, "{status} after {took:?}");
        }
    });
}

#[test]
fn more_blobs_than_the_budget_holds_wait_their_turn_without_deadlock() {
    const MIB: usize = 1 << 20;
    let stage = Stage::with(|daemon| {
        daemon
            .set("http.max_body_bytes", MIB)
            .set("fetch.max_blob_bytes", 4 * MIB)
            .set("intake.max_in_flight_bytes", 9 * MIB)
            .set("event.deadline_ms", 60_000)
    });
    let body = Random::seeded(5).bytes(2 * MIB);
    stage.blobs.put("/known", Blob::bytes(&body));
    stage.blobs.put("/unknown", Blob::bytes(&body).chunked());
    let events: Vec<_> = (0..60)
        .map(|n| set_blob(&format!("k{}", n % 4), &stage.blobs.url(if n % 3 == 0 { "/known" } else { "/unknown" })))
        .collect();
    thread::scope(|scope| {
        let clients: Vec<_> =
            events.chunks(15).map(|part| scope.spawn(|| stage.daemon.post_ndjson(&ndjson(part)))).collect();
        for client in clients {
            let answer = client.join().expect("no panic");
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    });
    for n in 0..4 {
        assert!(stage.redis.value(&format!("k{n}")).as_deref() == Some(&body));
    }
    assert!(eventually(5 * SECOND, || stage.daemon.metric("cache_sync_admission_bytes", &[]) == 0.0));
}

#[test]
fn a_slow_host_is_not_taken_for_down_by_an_attempt_that_had_no_time() {
    let stage = Stage::with(|daemon| {
        daemon.set("fetch.per_host", 1).set("fetch.timeout_ms", 3000).set("event.deadline_ms", 3500)
    });
    stage.blobs.put("/slow", Blob::bytes("slow").delay(SECOND));
    let event = |n: u32| set_blob(&format!("k{n}"), &stage.blobs.url("/slow"));
    thread::scope(|scope| {
        // The fourth begins half a second before its time is up.
        scope.spawn(|| stage.daemon.post_ndjson(&ndjson(&[event(1), event(2), event(3), event(4)])));
        assert!(eventually(5 * SECOND, || stage.blobs.hits("/slow") == 3), "no third fetch");
        stage.ok(&event(5));
    });
}

#[test]
fn hosts_that_answer_nothing_leave_the_others_unharmed_however_many_they_are() {
    let hung = HungHosts::start(2000);
    let stage = Stage::with(|daemon| {
        daemon.set("fetch.allowed_hosts", hung.allowed()).set("fetch.timeout_ms", 6000).set("event.deadline_ms", 12_000)
    });
    stage.blobs.put("/quick", Blob::bytes("quick"));
    assert_fetch(&stage, "/quick", "stored");
    thread::scope(|scope| {
        let posted = scope.spawn(|| stage.daemon.post_ndjson(&hung.events(0..2000)));
        assert!(eventually(5 * SECOND, || hung.connections() >= 8), "the hung hosts were not asked");
        for _ in 0..50 {
            let took = assert_fetch(&stage, "/quick", "stored");
            assert!(took < SECOND, "a host that is well took {took:?}");
        }
        for _ in 0..5 {
            let new = BlobServer::start();
            new.put("/new", Blob::bytes("new"));
            let (said, took) = fetch(&stage.daemon, &new.url("/new"));
            assert!(said == "stored" && took < 3 * SECOND, "a host that was never asked: {said} after {took:?}");
        }
        assert!(!posted.is_finished());
        let answer = posted.join().expect("no panic");
        assert_eq!(answer.json()["counts"]["unavailable"], 2000);
    });
    assert!(eventually(5 * SECOND, || stage.daemon.metric("cache_sync_admission_events", &[]) == 0.0));
}
