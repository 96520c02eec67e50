//! Slots on their way from one node to another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use redis_cache_sync::cache::{Cache, Reply};
use serde_json::json;

use crate::harness::{Daemon, delete_pattern, ndjson, results, set_inline};
use crate::load::Load;
use crate::routing::{WITHIN, cache, get, set};
use crate::servers::*;

pub fn daemon(cluster: &Cluster) -> Arc<Daemon> {
    Arc::new(Daemon::builder().set("redis.mode", "cluster").set("redis.nodes", cluster.nodes()).start())
}

#[test]
fn order_is_kept_while_a_thousand_slots_move_three_times() {
    let cluster = Cluster::start(3, 0);
    let daemon = daemon(&cluster);
    let load = Load::start(&daemon, "load", 4);
    let [a, b, c] = &cluster.servers[..] else { panic!("three") };
    for (from, to) in [(a, b), (b, c), (c, a)] {
        let before = load.good.load(Ordering::Relaxed);
        cluster.reshard(from, to, 0..1000);
        assert!(load.good.load(Ordering::Relaxed) > before, "nothing was written meanwhile");
    }
    let (written, lost) = load.end();
    assert!(written > 40 && lost.is_empty(), "{written} keys, lost: {lost:?}");
}

/// Halves of a slot on either side, for as long as a call takes: `ASK`, `TRYAGAIN`, and back again.
#[tokio::test]
async fn what_is_on_its_way_is_done_where_it_is() {
    let cluster = Cluster::start(3, 0);
    let [a, b, ..] = &cluster.servers[..] else { panic!("three") };
    // In one slot, of the first node.
    let keys: Vec<String> = (0..20).map(|n| format!("{{x{}}}:{n}", tag_of(a))).collect();
    let slot = a.ask::<u16>(&["CLUSTER", "KEYSLOT", &keys[0]]).to_string();
    let mut session = cache(&cluster).session();
    let batch: Vec<_> = keys.iter().map(|key| set(key, "old", None)).collect();
    assert!(session.apply(&batch, WITHIN).await.iter().all(Result::is_ok));

    let (a_id, b_id): (String, String) = (a.ask(&["CLUSTER", "MYID"]), b.ask(&["CLUSTER", "MYID"]));
    let _: () = b.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &a_id]);
    let _: () = a.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &b_id]);
    let mut migrate = redis::cmd("MIGRATE");
    migrate.arg(&["127.0.0.1", &b.port.to_string(), "", "0", "5000", "KEYS"]).arg(&keys[..10]);
    migrate.exec(&mut a.conn()).unwrap();

    let mut batch = Vec::new();
    for key in &keys {
        batch.extend([get(key), set(key, "new", None), get(key), set(key, "newer", None), get(key)]);
    }
    let fresh = format!("{{x{}}}:fresh", tag_of(a));
    batch.extend([set(&fresh, "v", None), get(&fresh)]);
    let hit = |value: &str| Ok(Reply::Hit(value.to_owned().into()));
    let results = session.apply(&batch, WITHIN).await;
    for results in results[..100].chunks(5) {
        assert_eq!(results, [hit("old"), Ok(Reply::Stored), hit("new"), Ok(Reply::Stored), hit("newer")]);
    }
    assert_eq!(results[100..], [Ok(Reply::Stored), hit("v")]);
    assert_eq!(b.ask::<usize>(&["CLUSTER", "COUNTKEYSINSLOT", &slot]), 11);

    // A pattern delete finds them on both sides.
    let found = crate::patterns::sweep(&mut session, "{x*").await;
    assert_eq!(found, Ok(21));
    let _: () = b.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &b_id]);
    let _: () = a.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &b_id]);
    let batch: Vec<_> = keys.iter().map(|key| set(key, "v", Some(1))).collect();
    // The first may meet MOVED.
    session.apply(&batch, WITHIN).await;
    let results = session.apply(&batch, WITHIN).await;
    assert!(results.iter().all(|result| matches!(result, Ok(Reply::Stored | Reply::Superseded))), "{results:?}");
}

/// A number that, behind an `x`, is in a slot of the server.
fn tag_of(server: &Server) -> u32 {
    (0..).find(|tag| server.ask::<u16>(&["CLUSTER", "KEYSLOT", &format!("x{tag}")]) < 5000).expect("one")
}

#[test]
fn a_pattern_delete_misses_no_key_while_slots_move() {
    let cluster = Cluster::start(3, 0);
    let daemon = daemon(&cluster);
    let [a, b, c] = &cluster.servers[..] else { panic!("three") };
    let stop = AtomicBool::new(false);
    for round in 0..3 {
        let events: Vec<_> = (0..10_000).map(|n| set_inline(&format!("sess:{round}:{n}"), "v")).collect();
        assert_eq!(daemon.post_ndjson(&ndjson(&events)).status, 200);
        thread::scope(|scope| {
            stop.store(false, Ordering::Relaxed);
            let mover = scope.spawn(|| {
                for (from, to, first) in [(a, b, 0), (b, c, 5461), (c, a, 10923)].into_iter().cycle() {
                    // Whatever is left to move back next time round.
                    cluster.reshard(from, to, (first..first + 400).take_while(|_| !stop.load(Ordering::Relaxed)));
                    if stop.load(Ordering::Relaxed) {
                        return first;
                    }
                    cluster.reshard(to, from, first..first + 400);
                }
                0
            });
            let answer = daemon.post(&delete_pattern(json!(format!("sess:{round}:*"))));
            stop.store(true, Ordering::Relaxed);
            let result = results(&answer, 200, "ok").remove(0);
            let first = mover.join().expect("the mover");
            assert_eq!(result["deleted"], 10_000, "{result}");
            let left = cluster.keys();
            assert!(left.is_empty(), "{} keys were missed", left.len());
            put_back(&cluster, first);
        });
    }
}

/// Gives slots that were moved when it was stopped back to their owner of old.
fn put_back(cluster: &Cluster, first: u16) {
    let home = usize::from(first / 5461);
    let (home, away) = (&cluster.servers[home], &cluster.servers[(home + 1) % 3]);
    let own = |slot: u16| {
        let mut conn = away.conn();
        redis::cmd("CLUSTER").arg(&["COUNTKEYSINSLOT", &slot.to_string()]).exec(&mut conn).is_ok() && away.owns(slot)
    };
    cluster.reshard(away, home, (first..first + 400).filter(|slot| own(*slot)));
}
