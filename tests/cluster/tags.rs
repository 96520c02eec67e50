//! Patterns with a whole hash tag: the keys of their slot are listed where that can be done, and scanned where not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use redis_cache_sync::cache::Cache;
use serde_json::{Value, json};

use crate::harness::{Daemon, delete_pattern, get, ndjson, results, set_inline};
use crate::patterns::{steps, sweep};
use crate::routing::cache;
use crate::servers::*;
use crate::slots::daemon;

/// What is in one slot: the keys of two tags would be found by the list if it were not for the pattern.
const TAG: &str = "user";

/// Writes `count` keys of the tag that begin with `name`, straight on the node that owns them.
fn fill(cluster: &Cluster, name: &str, count: usize) {
    let mut conn = owner(cluster).conn();
    let keys: Vec<String> = (0..count).map(|n| format!("{{{TAG}}}:{name}{n}")).collect();
    for keys in keys.chunks(1000) {
        let mut pipe = redis::pipe();
        for key in keys {
            pipe.set(key, "v").ignore();
        }
        pipe.exec(&mut conn).expect("SET");
    }
}

fn owner(cluster: &Cluster) -> &Server {
    let slot: u16 = cluster.servers[0].ask(&["CLUSTER", "KEYSLOT", TAG]);
    cluster.servers.iter().find(|server| server.owns(slot)).expect("an owner")
}

fn scans(cluster: &Cluster) -> u64 {
    cluster.servers.iter().map(steps).sum()
}

/// The result of a pattern delete that is to succeed.
fn swept(daemon: &Daemon, data: Value) -> Value {
    results(&daemon.post(&delete_pattern(data)), 200, "ok").remove(0)
}

fn preview(pattern: &str) -> Value {
    json!({"pattern": pattern, "dry_run": true})
}

#[test]
fn the_keys_of_a_slot_are_listed_and_nothing_is_scanned() {
    let cluster = Cluster::start(3, 0);
    let daemon = daemon(&cluster);
    // So few that one call names them all, and more.
    for count in [0, 10, 249, 250, 2000] {
        fill(&cluster, "mine:", count);
        fill(&cluster, "yours:", 7);
        let found = swept(&daemon, preview("{user}:mine:*"));
        assert_eq!(
            (&found["matched"], found["sample"].as_array().map(Vec::len)),
            (&json!(count), Some(count.min(100)))
        );
        let deleted = swept(&daemon, json!("{user}:mine:*"));
        assert_eq!((&deleted["matched"], &deleted["deleted"]), (&json!(count), &json!(count)));
        assert_eq!(cluster.keys().len(), 7);
    }
    assert_eq!(scans(&cluster), 0);
    assert_eq!(daemon.metric("cache_sync_scan_keys_total", &["outcome=\"deleted\""]), 2509.0);
}

/// Those that hold a value, and those that have been deleted.
#[test]
fn a_version_reaches_the_keys_of_a_listed_slot_that_have_one() {
    let cluster = Cluster::start(3, 0);
    let daemon = daemon(&cluster);
    let at = |version: u64, kind: &str, data: Value| json!({"key": kind, "version": version, "value": {"data": data}});
    let set = |version: u64, key: &str| at(version, "SET", json!({"key": key, "value": "v"}));
    results(&daemon.post(&set(5, "{user}:held")), 200, "ok");
    results(&daemon.post(&set(5, "{user}:gone")), 200, "ok");
    results(&daemon.post(&at(6, "DELETE", json!("{user}:gone"))), 200, "ok");
    results(&daemon.post(&set(20, "{user}:newer")), 200, "ok");
    results(&daemon.post(&set_inline("{user}:bare", "v")), 200, "ok");
    let swept = results(&daemon.post(&at(10, "DELETE_PATTERN", json!("{user}:*"))), 200, "ok").remove(0);
    assert_eq!((&swept["matched"], &swept["deleted"]), (&json!(3), &json!(2)), "{swept}");
    for (key, status) in [("held", "superseded"), ("gone", "superseded"), ("bare", "superseded"), ("new", "stored")] {
        let late = results(&daemon.post(&set(9, &format!("{{user}}:{key}"))), 200, "ok").remove(0);
        assert_eq!(late["status"], status, "{key}");
    }
    assert_eq!(results(&daemon.post(&get(json!("{user}:newer"))), 200, "ok")[0]["status"], "hit");
    assert_eq!(scans(&cluster), 0);
}

#[test]
fn keys_that_have_expired_are_listed_by_redis_and_counted_by_nobody() {
    let cluster = Cluster::start(3, 0);
    let daemon = daemon(&cluster);
    fill(&cluster, "", 700);
    let owner = owner(&cluster);
    let slot = owner.ask::<u16>(&["CLUSTER", "KEYSLOT", TAG]).to_string();
    let mut conn = owner.conn();
    let mut pipe = redis::pipe();
    for n in 0..3 {
        pipe.cmd("SET").arg(&[&format!("{{user}}:{n}"), "v", "PX", "300"]).ignore();
    }
    // Meanwhile Redis removes no key that has expired.
    pipe.cmd("CLIENT").arg(&["PAUSE", "60000", "WRITE"]).ignore();
    pipe.exec(&mut conn).expect("keys that expire");
    wait_for("the keys to expire", || owner.ask::<u32>(&["EXISTS", "{user}:0", "{user}:1", "{user}:2"]) == 0);
    assert_eq!(
        owner.ask::<Vec<String>>(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]).len(),
        700,
        "there is nothing to test"
    );
    let found = swept(&daemon, preview("{user}:*"));
    assert_eq!((&found["matched"], scans(&cluster)), (&json!(697), 0), "{found}");
    redis::cmd("CLIENT").arg("UNPAUSE").exec(&mut conn).expect("UNPAUSE");
    let deleted = swept(&daemon, json!("{user}:*"));
    assert_eq!((&deleted["matched"], &deleted["deleted"]), (&json!(697), &json!(697)), "{deleted}");
}

#[test]
fn a_slot_with_many_keys_or_long_ones_is_scanned() {
    let cluster = Cluster::start(3, 0);
    let daemon = daemon(&cluster);
    for (name, count) in [("", 5001), (&*"long".repeat(2000), 300)] {
        fill(&cluster, name, count);
        for data in [preview("{user}:*"), json!("{user}:*")] {
            let before = scans(&cluster);
            assert_eq!(swept(&daemon, data)["matched"], count);
            assert!(scans(&cluster) > before, "{count} keys were listed");
        }
        assert!(cluster.keys().is_empty());
    }
}

/// Pattern deletes with a tag by a user that lacks these rights; what the daemon logs of that.
fn without(rights: &[&str]) {
    let cluster = Cluster::start(3, 0);
    for server in &cluster.servers {
        let mut user = redis::cmd("ACL");
        user.arg(&["SETUSER", "sync", "on", ">pw", "~*", "+@all"]).arg(rights);
        user.exec(&mut server.conn()).expect("ACL SETUSER");
    }
    let builder = Daemon::builder().set("redis.mode", "cluster").set("redis.nodes", cluster.nodes());
    let daemon = builder.set("redis.username", "sync").set("redis.password", "pw").start();
    for tag in ["user", "other", "third", "4"] {
        let events: Vec<Value> = (0..300).map(|n| set_inline(&format!("{{{tag}}}:{n}"), "v")).collect();
        assert_eq!(daemon.post_ndjson(&ndjson(&events)).status, 200);
        for data in [preview(&format!("{{{tag}}}:*")), json!(format!("{{{tag}}}:*"))] {
            let before = scans(&cluster);
            assert_eq!(swept(&daemon, data)["matched"], 300);
            assert!(scans(&cluster) > before, "it was not scanned");
        }
    }
    assert!(cluster.keys().is_empty());
    let mut log = Vec::new();
    wait_for("all requests to be logged", || {
        log = daemon.logs();
        log.iter().filter(|line| line.contains(" method=POST ")).count() == 12
    });
    let told = log.iter().filter(|line| line.contains("redis does not list the keys of a slot")).count();
    assert_eq!(told, 1, "{log:?}");
}

#[test]
fn where_the_list_is_forbidden_the_slot_is_scanned_and_that_is_told_once() {
    // Redis 6 cannot take one subcommand away, only give the others.
    let others = ["-cluster", "+cluster|slots", "+cluster|info", "+cluster|nodes"];
    without(&others);
    without(&[&others[..], &["+cluster|countkeysinslot"]].concat());
}

/// Half of the slot is on its way, and marked so by both nodes.
#[tokio::test]
async fn a_slot_is_listed_on_both_nodes_while_it_moves() {
    let cluster = Cluster::start(3, 0);
    let mut session = cache(&cluster).session();
    let from = owner(&cluster);
    let to = cluster.servers.iter().rfind(|server| server.port != from.port).expect("another");
    let slot = from.ask::<u16>(&["CLUSTER", "KEYSLOT", TAG]).to_string();
    fill(&cluster, "", 600);
    let (from_id, to_id): (String, String) = (from.ask(&["CLUSTER", "MYID"]), to.ask(&["CLUSTER", "MYID"]));
    let _: () = to.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
    let _: () = from.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
    let half: Vec<String> = from.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "300"]);
    let mut migrate = redis::cmd("MIGRATE");
    migrate.arg(&["127.0.0.1", &to.port.to_string(), "", "0", "5000", "KEYS"]).arg(half);
    migrate.exec(&mut from.conn()).expect("MIGRATE");
    assert_eq!(sweep(&mut session, "{user}:*").await, Ok(600));
    assert!(cluster.keys().is_empty() && scans(&cluster) == 0);
}

#[test]
fn no_key_of_a_tag_is_missed_while_its_slot_goes_round() {
    let cluster = Cluster::start(3, 0);
    let daemon = daemon(&cluster);
    let slot: u16 = cluster.servers[0].ask(&["CLUSTER", "KEYSLOT", TAG]);
    let first = cluster.servers.iter().position(|server| server.owns(slot)).expect("an owner");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let mover = scope.spawn(|| {
            let mut moves = 0;
            while !stop.load(Ordering::Relaxed) {
                let [from, to] = [moves, moves + 1].map(|n| &cluster.servers[(first + n) % 3]);
                // At once where the servers can, and key by key.
                match moves % 2 {
                    0 => cluster.hand_over(from, to, slot, slot),
                    _ => cluster.reshard(from, to, slot..=slot),
                }
                // The next node must not be asked to give what it does not know to be its own.
                wait_for("the nodes to agree", || cluster.agrees_on(to, slot));
                moves += 1;
            }
            moves
        });
        for round in 0..12 {
            let events: Vec<Value> = (0..900).map(|n| set_inline(&format!("{{user}}:{round}:{n}"), "v")).collect();
            assert_eq!(daemon.post_ndjson(&ndjson(&events)).status, 200);
            let result = swept(&daemon, json!(format!("{{user}}:{round}:*")));
            let left: Vec<String> = cluster.keys();
            assert!(left.is_empty(), "round {round}: {} keys were missed, {result}", left.len());
        }
        stop.store(true, Ordering::Relaxed);
        println!("{} moves", mover.join().expect("the mover"));
    });
}
