//! Panics in actors that are to go, because sizes change. Needs the cargo feature `failpoints`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use serde_json::json;

use super::{FILE, How, actors, change, wait_actors};
use crate::support::{Blob, Daemon, PATIENCE, Stage, eventually, get, set_blob, set_inline};

/// Each panic costs the request that it meets, and no other: what waits behind it in a mailbox that is to go is done.
#[test]
fn panics_while_sizes_change_cost_no_more_than_their_own_requests() {
    let points = "intake=5%panic;validation=5%panic";
    let sizes = |own: usize| format!("[intake]\npool_size = {own}\n[validation]\npool_size = {own}\n");
    let builder = Daemon::builder().embedded().env("FAILPOINTS", points).file(FILE, &sizes(0));
    let daemon = builder.start();
    let (over, lost) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    let status = daemon.post(&get(json!("k"))).status;
                    if status != 200 {
                        assert_eq!(status, 503);
                        lost.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        let changed = catch_unwind(AssertUnwindSafe(|| {
            for (turn, own) in [3, 0, 1, 4, 0, 2, 1, 0].into_iter().cycle().take(24).enumerate() {
                change(&daemon, How::HangUp, &format!("# {turn}\n{}", sizes(own)));
            }
        }));
        over.store(true, Relaxed);
        assert!(changed.is_ok());
    });
    let restarts = daemon.metric("cache_sync_actor_restarts_total", &[]);
    let lost = lost.into_inner();
    assert!(lost > 10 && restarts == lost as f64, "{lost} requests were lost to {restarts} panics");
    for actor in ["intake", "validation"] {
        let workers = actors(&daemon, "router") - 1.0;
        wait_actors(&daemon, actor, workers as usize);
    }
    assert_eq!(daemon.get("/live").status, 200);
}

/// A writer or fetcher that falls while it is to go, or to come back, is put on its feet with what it had.
#[test]
fn panics_in_what_is_to_go_and_to_come_lose_nothing() {
    let stage = Stage::new();
    stage.blobs.fallback(|target| Some(Blob::bytes(target.trim_start_matches('/'))));
    let sizes = |size: usize| {
        format!("[redis]\npool_size = {size}\n[fetch]\nallowed_hosts = \"127.0.0.1\"\npool_size = {size}\n")
    };
    let builder = Daemon::builder().redis(&stage.redis).unset("fetch.allowed_hosts").file(FILE, &sizes(2));
    let daemon = builder.env("FAILPOINTS", "write=2%panic;fetch=2%panic;router=1%panic").start();
    let over = AtomicBool::new(false);
    let last = thread::scope(|scope| {
        let clients: Vec<_> = (0..6)
            .map(|client| {
                let (daemon, blobs, over) = (&daemon, &stage.blobs, &over);
                scope.spawn(move || {
                    let key = format!("own{client}");
                    let mut number = 0;
                    while !over.load(Relaxed) {
                        number += 1;
                        let event = match number % 3 {
                            0 => set_blob(&key, &blobs.url(&format!("/{number}"))),
                            _ => set_inline(&key, &number.to_string()),
                        };
                        let done = || daemon.post(&event).status == 200;
                        assert!(eventually(PATIENCE, done), "{event} is never done");
                    }
                    (key, number)
                })
            })
            .collect();
        let changed = catch_unwind(AssertUnwindSafe(|| {
            for (turn, size) in [4, 1, 8, 2, 3, 1].into_iter().cycle().take(18).enumerate() {
                change(&daemon, How::HangUp, &format!("# {turn}\n{}", sizes(size)));
            }
        }));
        over.store(true, Relaxed);
        assert!(changed.is_ok());
        clients.into_iter().map(|client| client.join().expect("a client was not content")).collect::<Vec<_>>()
    });
    for (key, number) in last {
        assert_eq!(stage.redis.value(&key), Some(number.to_string().into_bytes()), "{key}");
    }
    for actor in ["writer", "fetcher"] {
        assert!(daemon.metric("cache_sync_actor_restarts_total", &[&format!("actor=\"{actor}\"")]) > 0.0, "{actor}");
        wait_actors(&daemon, actor, 1);
    }
    assert_eq!(daemon.metric("cache_sync_admission_events", &[]), 0.0);
    assert_eq!([daemon.get("/live").status, daemon.get("/ready").status], [200, 200]);
}
