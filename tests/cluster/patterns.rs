//! Scans over several nodes: complete, and about as cheap a key as over one.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use redis_cache_sync::cache::{Cache, CacheError, Cursor, DeleteGroup, Progress, Scan, Session};
use redis_cache_sync::event::pattern::{Pattern, Wider};
use serde_json::{Value, json};

use crate::harness::{Daemon, closed_port, delete_pattern, results, set};
use crate::routing::{WITHIN, cache};
use crate::servers::*;

/// Deletes what matches as the scanner does; how many there were.
pub async fn sweep(session: &mut Box<dyn Session>, pattern: &str) -> Result<u64, CacheError> {
    sweep_with(session, pattern, |_| ()).await
}

/// The same; `between` is called after each step with its number.
pub async fn sweep_with(
    session: &mut Box<dyn Session>,
    pattern: &str,
    mut between: impl FnMut(usize),
) -> Result<u64, CacheError> {
    let pattern = Pattern::parse(pattern, false).expect("a pattern");
    let wider = Wider::of([&pattern]);
    let (mut from, mut groups, mut deleted): (Option<Cursor>, Vec<DeleteGroup>, u64) = (None, Vec::new(), 0);
    for number in 0.. {
        let scan = Scan { from, only: wider.as_ref(), versioned: false, with_expired: true };
        let progress = session.unlink_and_scan(&groups, Some(scan), Duration::from_secs(5)).await;
        deleted += progress.unlinked.iter().map(|unlinked| unlinked.deleted).sum::<u64>();
        if let Some(error) = progress.failure {
            return Err(error);
        }
        let mut step = progress.step.expect("a step");
        step.keys.retain(|key| pattern.matches(key));
        groups = if step.keys.is_empty() { Vec::new() } else { vec![DeleteGroup { keys: step.keys, version: None }] };
        from = step.next;
        between(number);
        if from.is_none() {
            let progress = session.unlink_and_scan(&groups, None, Duration::from_secs(5)).await;
            deleted += progress.unlinked.iter().map(|unlinked| unlinked.deleted).sum::<u64>();
            return progress.failure.map_or(Ok(deleted), Err);
        }
    }
    unreachable!("a scan ends")
}

async fn step(session: &mut Box<dyn Session>, from: Option<Cursor>) -> Progress {
    session.unlink_and_scan(&[], Some(Scan { from, with_expired: true, ..Scan::default() }), WITHIN).await
}

/// What the steps from there on find, to the end.
async fn rest(session: &mut Box<dyn Session>, mut from: Option<Cursor>) -> HashSet<Bytes> {
    let mut found = HashSet::new();
    while from.is_some() {
        let progress = step(session, from).await;
        assert_eq!(progress.failure, None);
        let step = progress.step.expect("a step");
        found.extend(step.keys);
        from = step.next;
    }
    found
}

/// As after a deadline: what a step or two found was not deleted, and the pattern is sent again.
#[tokio::test]
async fn a_scan_that_goes_on_at_an_earlier_cursor_finds_again_what_came_after_it() {
    let cluster = Cluster::start(3, 0);
    let mut session = cache(&cluster).session();
    let keys: Vec<String> = (0..30_000).map(|n| format!("sess:{n}")).collect();
    for keys in keys.chunks(1000) {
        let batch: Vec<_> = keys.iter().map(|key| crate::routing::set(key, "v", None)).collect();
        assert!(session.apply(&batch, WITHIN).await.iter().all(Result::is_ok));
    }
    for back in 0..3 {
        let (mut found, mut cursors) = (Vec::new(), vec![None]);
        for _ in 0..3 {
            let step = step(&mut session, *cursors.last().expect("one")).await.step.expect("a step");
            found.push(step.keys);
            assert!(step.next.is_some(), "more keys are needed");
            cursors.push(step.next);
        }
        let mut all: HashSet<Bytes> = found.into_iter().take(3 - back).flatten().collect();
        all.extend(rest(&mut session, cursors[3 - back]).await);
        assert_eq!(all.len(), keys.len(), "{back} steps back");
    }
    // What lies further back is forgotten, and the caller is told.
    let mut cursors = vec![None];
    for _ in 0..4 {
        let from = *cursors.last().expect("one");
        cursors.push(step(&mut session, from).await.step.expect("a step").next);
    }
    assert!(step(&mut session, cursors[1]).await.is_lost);
    // Those that go on at different places are in nobody's way.
    for from in [3, 2, 4] {
        assert!(!step(&mut session, cursors[from]).await.is_lost, "{from}");
    }
}

/// While a slot is on its way, the nodes are scanned one after the other.
#[tokio::test]
async fn a_primary_without_slots_is_no_hindrance_while_slots_move() {
    let cluster = Cluster::start(3, 0);
    let _empty = cluster.add_empty(0);
    let [a, b, ..] = &cluster.servers[..] else { panic!("three") };
    let mut session = cache(&cluster).session();
    let keys: Vec<_> = (0..1000).map(|n| crate::routing::set(&format!("sess:{n}"), "v", None)).collect();
    assert!(session.apply(&keys, WITHIN).await.iter().all(Result::is_ok));
    let (a_id, b_id): (String, String) = (a.ask(&["CLUSTER", "MYID"]), b.ask(&["CLUSTER", "MYID"]));
    let _: () = b.ask(&["CLUSTER", "SETSLOT", "7", "IMPORTING", &a_id]);
    let _: () = a.ask(&["CLUSTER", "SETSLOT", "7", "MIGRATING", &b_id]);
    assert_eq!(sweep(&mut session, "sess:*").await, Ok(1000));
}

/// One refuses connections, one takes them and is silent.
#[test]
fn primaries_without_slots_that_cannot_be_reached_are_no_hindrance() {
    let cluster = Cluster::start(3, 0);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().map(|address| (address.port(), silent)).expect("an address");
    let _empty = [cluster.add_empty(closed_port()), cluster.add_empty(silent.0)];
    let daemon = Daemon::builder().set("redis.mode", "cluster").set("redis.nodes", cluster.nodes()).start();
    let entries: Vec<Value> = (0..1000).map(|n| json!({"key": format!("sess:{n}"), "value": "v"})).collect();
    results(&daemon.post(&set(json!(entries))), 200, "ok");
    let result = results(&daemon.post(&delete_pattern(json!("sess:*"))), 200, "ok").remove(0);
    assert_eq!(result["deleted"], 1000, "{result}");
}

/// Seconds of processor time that a deletion of so many keys costs the service and all primaries.
fn cost(primaries: usize, keys: usize) -> f64 {
    let cluster = Cluster::start(primaries, 0);
    let daemon = Daemon::builder().set("redis.mode", "cluster").set("redis.nodes", cluster.nodes()).start();
    let names: Vec<usize> = (0..keys).collect();
    for names in names.chunks(10_000) {
        let events: Vec<Value> = names
            .chunks(500)
            .map(|names| {
                let entries: Vec<Value> =
                    names.iter().map(|n| json!({"key": format!("sess:{n}"), "value": "v"})).collect();
                set(json!(entries))
            })
            .collect();
        let answer = daemon.post_with(&[("prefer", "return=minimal")], json!(events).to_string().as_bytes());
        assert_eq!(answer.status, 200);
    }
    let spent = || (service_cpu(daemon.pid()), cluster.servers.iter().map(Server::cpu).sum::<f64>());
    let before = spent();
    let result = results(&daemon.post(&delete_pattern(json!("sess:*"))), 200, "ok").remove(0);
    let after = spent();
    assert_eq!(result["deleted"], keys);
    let (service, servers) = (after.0 - before.0, after.1 - before.1);
    println!("{primaries} primaries, {keys} keys: service {service:.2} s, redis {servers:.2} s");
    service + servers
}

fn service_cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    // In ticks of a hundredth of a second (proc(5): utime and stime).
    [fields[11], fields[12]].iter().map(|ticks| ticks.parse::<f64>().expect("ticks")).sum::<f64>() / 100.0
}

/// How often the server has been asked for a step of a scan.
pub fn steps(server: &Server) -> u64 {
    let line = server.info("commandstats", "cmdstat_scan").unwrap_or_default();
    let calls = line.split(',').find_map(|pair| pair.strip_prefix("calls="));
    calls.map_or(0, |calls| calls.parse().expect("a number"))
}

#[test]
fn a_pattern_with_a_whole_hash_tag_is_looked_for_on_the_owner_of_its_slot_alone() {
    let cluster = Cluster::start(3, 0);
    let daemon = Daemon::builder().set("redis.mode", "cluster").set("redis.nodes", cluster.nodes()).start();
    let entry = |key: String| json!({"key": key, "value": "v"});
    let entries: Vec<Value> =
        (0..300).flat_map(|n| [entry(format!("{{user}}:{n}")), entry(format!("{{other}}:{n}"))]).collect();
    results(&daemon.post(&set(json!(entries))), 200, "ok");
    let owner = cluster.servers.iter().find(|server| server.owns(server.ask(&["CLUSTER", "KEYSLOT", "user"])));
    let owner = owner.expect("an owner").port;
    let count = || cluster.servers.iter().filter(|server| server.port != owner).map(steps).sum::<u64>();
    // As a preview, and with a version.
    let preview = delete_pattern(json!({"pattern": "{user}:1*", "dry_run": true}));
    let versioned = json!({"key": "DELETE_PATTERN", "version": 1, "value": {"data": "{user}:none*"}});
    for (event, matched) in [(&preview, 111), (&versioned, 0)] {
        let before = count();
        let result = results(&daemon.post(event), 200, "ok").remove(0);
        assert_eq!((&result["matched"], count() - before), (&json!(matched), 0), "{event}");
    }
    for (pattern, deleted) in [("{user}:1*", 111), ("{user}*", 189), ("{user}:none", 0)] {
        let before = count();
        let result = results(&daemon.post(&delete_pattern(json!(pattern))), 200, "ok").remove(0);
        assert_eq!((&result["deleted"], count() - before), (&json!(deleted), 0), "{pattern}");
    }
    // These may be anywhere.
    for pattern in ["{us*}*", "{}other*", "{other*", "x{*}"] {
        let before = count();
        results(&daemon.post(&delete_pattern(json!(pattern))), 200, "ok");
        assert!(count() > before, "{pattern}");
    }
    assert!(cluster.keys().is_empty());
}

/// `CLUSTER_KEYS` says of how many keys.
#[test]
fn to_delete_a_key_by_pattern_costs_on_three_primaries_what_it_costs_on_one() {
    let keys = std::env::var("CLUSTER_KEYS").ok().and_then(|keys| keys.parse().ok()).unwrap_or(40_000);
    // Processor time, which other work on the machine makes dearer: the cheapest of a few tries tells.
    let ratios = (0..3).map(|_| {
        let (one, three) = (cost(1, keys), cost(3, keys));
        println!("three primaries cost {:.2} times what one costs: {three} s, {one} s", three / one);
        three / one
    });
    assert!({ ratios }.any(|ratio| ratio < 1.3), "each time 1.3 times as much, or more");
}
