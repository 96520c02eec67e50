//! Primaries of a cluster that die, hang, and give way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redis_cache_sync::cache::redis::ClusterCache;
use redis_cache_sync::cache::{Cache, CacheError, Incoming, Reply, StreamError};
use redis_cache_sync::event::CacheKey;
use redis_cache_sync::redis::{Address, Settings};
use serde_json::json;

use crate::harness::{Daemon, delete_pattern, eventually, get as get_event, ndjson, set_inline, signal};
use crate::load::{Load, full_service, rounds};
use crate::routing::{WITHIN, get, set};
use crate::servers::*;

/// From the end of an election on.
pub const SERVED_AGAIN: Duration = Duration::from_secs(3);

pub fn daemon(cluster: &Cluster, replicas: usize) -> Arc<Daemon> {
    let builder = Daemon::builder().set("redis.mode", "cluster").set("redis.nodes", cluster.nodes());
    Arc::new(builder.set("redis.wait_replicas", replicas).start())
}

/// Kills a primary under load, again and again; what was lost.
fn kill_primaries(rounds: usize, wait_replicas: usize) -> Vec<String> {
    let mut cluster = Cluster::start(3, 2);
    let daemon = daemon(&cluster, wait_replicas);
    // One that goes on all the time, and one that ends with the primary, so that nothing covers what it has lost.
    let always = Load::start(&daemon, "always", 2);
    let mut lost = Vec::new();
    for round in 0..rounds {
        let load = Load::start(&daemon, "load", 4);
        assert!(eventually(Duration::from_secs(20), || load.good.load(Ordering::Relaxed) > 50), "no load");
        // Not always of the same slots.
        let primaries: Vec<usize> = (0..9).filter(|n| cluster.servers[*n].is_master()).collect();
        let victim = primaries[round % primaries.len()];
        kill_cut_off(&mut cluster.servers, victim, || {
            load.go_on_a_moment();
            load.stop();
        });
        wait_for("the election", || cluster.masters().len() == 3);
        if wait_replicas > 0 {
            // The one that was elected has fewer replicas than must acknowledge, until the dead one is back.
            cluster.servers[victim].restart(&[]);
            cluster.settle();
        }
        let took = full_service(&daemon, SERVED_AGAIN);
        println!("round {round}: full service {took:?} after the election");
        if wait_replicas == 0 {
            cluster.servers[victim].restart(&[]);
            cluster.settle();
        }
        let (written, missing) = load.end();
        assert!(written > 40, "only {written} keys were written");
        lost.extend(missing);
    }
    lost.extend(always.end().1);
    lost
}

#[test]
fn a_killed_primary_costs_no_acknowledged_write_if_its_replicas_had_it() {
    let lost = kill_primaries(rounds(), 2);
    assert!(lost.is_empty(), "lost: {lost:?}");
}

#[test]
fn a_killed_primary_gives_way_within_three_seconds_and_what_was_lost_is_counted() {
    let lost = kill_primaries(1, 0);
    println!("without redis.wait_replicas {} keys of 100 hold less than was acknowledged", lost.len());
}

/// It hangs with writes in its sockets, comes to as what it was, and learns only then that it is no primary any more.
#[test]
fn a_hung_primary_gives_way_too_and_what_it_does_late_counts_for_nothing() {
    let cluster = Cluster::start(3, 1);
    let daemon = daemon(&cluster, 1);
    let load = Load::start(&daemon, "load", 4);
    assert!(eventually(Duration::from_secs(20), || load.good.load(Ordering::Relaxed) > 50), "no load");
    let victim = &cluster.servers[1];
    signal(victim.pid(), "STOP");
    let is_other = |server: &&Server| server.port != victim.port && server.is_master();
    wait_for("the election", || cluster.servers.iter().filter(is_other).count() == 3);
    let elected = Instant::now();
    // Its place is known by now; it has no replica that could acknowledge a write, but reads and other nodes do.
    let events: Vec<_> = (0..60).map(|n| get_event(json!(format!("probe:{n}")))).collect();
    while daemon.post_ndjson(&ndjson(&events)).status != 200 {
        assert!(elected.elapsed() < SERVED_AGAIN, "no reads after {:?}", elected.elapsed());
    }
    println!("reads {:?} after the election", elected.elapsed());
    signal(victim.pid(), "CONT");
    cluster.settle();
    full_service(&daemon, SERVED_AGAIN);
    let (written, lost) = load.end();
    assert!(written > 40 && lost.is_empty(), "{written} keys, lost: {lost:?}");
}

#[tokio::test]
async fn a_call_to_a_hung_primary_ends_when_another_has_taken_its_place() {
    let cluster = Cluster::start(3, 1);
    let hung = &cluster.servers[0];
    let settings = Settings { response_timeout: Duration::from_secs(60), ..Settings::new("127.0.0.1", hung.port) };
    let mut session = ClusterCache::new(settings, Vec::new()).unwrap().session();
    let mut keys = (0..).map(|n| format!("k:{n}"));
    let key = keys.find(|key| hung.try_ask::<Option<String>>(&["GET", key]).is_some()).expect("a key");
    assert_eq!(session.apply(&[set(&key, "before", None)], WITHIN).await, [Ok(Reply::Stored)]);
    signal(hung.pid(), "STOP");
    let begun = Instant::now();
    let results = session.apply(&[set(&key, "late", None)], Duration::from_secs(60)).await;
    assert!(matches!(results[..], [Err(CacheError::RefusedForNow(_))]), "{results:?}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(session.apply(&[set(&key, "new", None)], WITHIN).await, [Ok(Reply::Stored)]);
    signal(hung.pid(), "CONT");
    cluster.settle();
    assert_eq!(session.apply(&[get(&key)], WITHIN).await, [Ok(Reply::Hit("new".into()))]);
}

/// A key of the server.
fn key_of(server: &Server) -> String {
    let mut keys = (0..).map(|n| format!("k:{n}"));
    keys.find(|key| server.try_ask::<Option<String>>(&["GET", key]).is_some()).expect("a key")
}

/// There is nobody to take the place of a node, and the others go on.
fn without_replicas() -> Cluster {
    let cluster = Cluster::start(3, 0);
    for server in &cluster.servers {
        let _: () = server.ask(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    }
    cluster
}

#[tokio::test]
async fn a_node_that_hangs_before_it_is_connected_holds_up_no_others() {
    let cluster = without_replicas();
    let (hung, other) = (&cluster.servers[1], &cluster.servers[0]);
    let batch = [set(&key_of(hung), "v", None), set(&key_of(other), "v", None)];
    let timeout = Duration::from_secs(10);
    let settings =
        Settings { connect_timeout: timeout, response_timeout: timeout, ..Settings::new("127.0.0.1", other.port) };
    let mut session = ClusterCache::new(settings, Vec::new()).unwrap().session();
    signal(hung.pid(), "STOP");
    for _ in 0..3 {
        let begun = Instant::now();
        let results = session.apply(&batch, Duration::from_secs(30)).await;
        assert!(matches!(results[..], [Err(CacheError::RefusedForNow(_)), Ok(Reply::Stored)]), "{results:?}");
        assert!(begun.elapsed() < timeout / 2, "{:?}", begun.elapsed());
    }
    signal(hung.pid(), "CONT");
    let begun = Instant::now();
    while !session.apply(&batch, WITHIN).await.iter().all(Result::is_ok) {
        assert!(begun.elapsed() < SERVED_AGAIN, "not served again");
    }
}

/// Nodes that hang are no reason to wait for what others can tell.
#[tokio::test]
async fn seeds_that_hang_hold_up_nobody_while_another_answers() {
    let cluster = Cluster::start(3, 0);
    let hung: Vec<std::net::TcpListener> =
        (0..5).map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let mut seeds: Vec<Address> =
        hung.iter().map(|seed| Address::new("127.0.0.1", seed.local_addr().expect("an address").port())).collect();
    seeds.push(Address::new("127.0.0.1", cluster.servers[0].port));
    let timeout = Duration::from_secs(10);
    let settings = Settings { connect_timeout: timeout, ..Settings::new("127.0.0.1", 1) };
    let mut session = ClusterCache::new(settings, seeds).unwrap().session();
    let begun = Instant::now();
    assert_eq!(session.apply(&[set("k", "v", None)], Duration::from_secs(30)).await, [Ok(Reply::Stored)]);
    assert!(begun.elapsed() < timeout / 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_node_that_hung_and_was_started_again_is_served_soon() {
    let mut cluster = without_replicas();
    let key = key_of(&cluster.servers[1]);
    let timeout = Duration::from_millis(500);
    let settings = Settings { response_timeout: timeout, ..Settings::new("127.0.0.1", cluster.servers[0].port) };
    let mut session = ClusterCache::new(settings, Vec::new()).unwrap().session();
    assert_eq!(session.apply(&[set(&key, "before", Some(1))], WITHIN).await, [Ok(Reply::Stored)]);
    signal(cluster.servers[1].pid(), "STOP");
    // What it leaves behind is to be killed at a server that knows nothing of it any more.
    let lost = session.apply(&[set(&key, "lost", Some(2))], WITHIN).await;
    assert!(matches!(lost[..], [Err(CacheError::RefusedForNow(_))]), "{lost:?}");
    let others = [set(&key, "lost", Some(2)), set(&key_of(&cluster.servers[0]), "v", Some(2))];
    let beside = session.apply(&others, WITHIN).await;
    assert!(matches!(beside[..], [Err(_), Ok(Reply::Stored)]), "{beside:?}");
    cluster.servers[1].kill();
    cluster.servers[1].restart(&[]);
    let begun = Instant::now();
    while session.apply(&[set(&key, "after", Some(3))], WITHIN).await != [Ok(Reply::Stored)] {
        assert!(begun.elapsed() < SERVED_AGAIN, "not served again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("served again after {:?}", begun.elapsed());
    assert_eq!(session.apply(&[get(&key)], WITHIN).await, [Ok(Reply::Hit("after".into()))]);
}

#[test]
fn a_hung_primary_holds_the_keys_of_others_no_longer_than_an_answer_may_take() {
    let cluster = Cluster::start(3, 0);
    // There is nobody to take its place, and the others go on.
    for server in &cluster.servers {
        let _: () = server.ask(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    }
    let builder = Daemon::builder().set("redis.mode", "cluster").set("redis.nodes", cluster.nodes());
    let daemon = builder.set("redis.response_timeout_ms", 500).set("redis.retry_ms", 2000);
    let daemon = daemon.set("redis.pool_size", 1).start();
    let hung = &cluster.servers[1];
    let key_on = |server: &Server, n: usize| {
        let mut names = (0..).map(|step| format!("k:{n}:{step}"));
        names.find(|name| server.try_ask::<Option<String>>(&["GET", name]).is_some()).expect("a key")
    };
    let (there, elsewhere) = (key_on(hung, 0), key_on(&cluster.servers[0], 1));
    signal(hung.pid(), "STOP");
    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| daemon.post(&set_inline(&there, "v")).status);
        let start = Instant::now();
        // Beside it all the while, in the same batches.
        while start.elapsed() < Duration::from_secs(3) {
            let begun = Instant::now();
            let answer = daemon.post_ndjson(&ndjson(&[set_inline(&elsewhere, "v")]));
            assert_eq!(answer.status, 200, "{}", answer.text());
            if begun - start > Duration::from_secs(1) {
                slowest = slowest.max(begun.elapsed());
            }
        }
        assert_eq!(stuck.join().expect("a client"), 503);
    });
    signal(hung.pid(), "CONT");
    assert!(slowest < Duration::from_millis(400), "keys elsewhere were held up for {slowest:?}");
    assert!(eventually(Duration::from_secs(20), || daemon.post(&set_inline(&there, "w")).status == 200));
    assert_eq!(hung.ask::<String>(&["GET", &there]), "w");
}

/// The first request costs the time for which it is tried, those after it none.
#[test]
fn keys_of_a_dead_primary_are_answered_at_once_when_it_is_known_to_be_down() {
    let mut cluster = Cluster::start(3, 0);
    for server in &cluster.servers {
        let _: () = server.ask(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    }
    let builder = Daemon::builder().set("redis.mode", "cluster").set("redis.nodes", cluster.nodes());
    let daemon = builder.set("redis.retry_ms", 1500).set("redis.pool_size", 1).start();
    let key_on = |server: &Server| {
        let mut names = (0..).map(|n| format!("k:{n}"));
        names.find(|name| server.try_ask::<Option<String>>(&["GET", name]).is_some()).expect("a key")
    };
    let (there, elsewhere) = (key_on(&cluster.servers[1]), key_on(&cluster.servers[0]));
    cluster.servers[1].kill();
    let timed = |key: &str, status: u16| {
        let begun = Instant::now();
        let answer = daemon.post(&set_inline(key, "v"));
        assert_eq!(answer.status, status, "{}", answer.text());
        begun.elapsed()
    };
    assert!(timed(&there, 503) > Duration::from_secs(1), "it was not tried");
    let quickest = (0..5).map(|_| timed(&there, 503)).min().expect("five");
    assert!(quickest < Duration::from_millis(300), "{quickest:?}, though it is known to be down");
    assert!(timed(&elsewhere, 200) < Duration::from_millis(500));
    let begun = Instant::now();
    assert_eq!(daemon.post(&delete_pattern(json!("none:*"))).status, 503);
    println!("a pattern is answered after {:?}", begun.elapsed());
    cluster.servers[1].restart(&[]);
    assert!(eventually(Duration::from_secs(20), || daemon.post(&set_inline(&there, "w")).status == 200));
    assert!(eventually(Duration::from_secs(20), || daemon.get("/ready").status == 200));
}

#[test]
fn a_cluster_that_is_dead_as_a_whole_or_serves_nobody_is_known_to_be_down() {
    let mut cluster = Cluster::start(3, 0);
    let builder = Daemon::builder().set("redis.mode", "cluster").set("redis.nodes", cluster.nodes());
    let daemon = builder.set("redis.retry_ms", 1500).set("redis.pool_size", 1).start();
    let events: Vec<_> = (0..30).map(|n| set_inline(&format!("k:{n}"), "v")).collect();
    let is_quick = || {
        let begun = Instant::now();
        let answer = daemon.post_ndjson(&ndjson(&events));
        assert_eq!(answer.status, 503, "{}", answer.text());
        begun.elapsed() < Duration::from_millis(300)
    };
    // Without one of its primaries the others refuse everything, once they have noticed.
    cluster.servers[1].kill();
    let down = |server: &Server| server.info_of_cluster("cluster_state").as_deref() == Some("fail");
    wait_for("the others to notice", || down(&cluster.servers[0]) && down(&cluster.servers[2]));
    assert!(eventually(Duration::from_secs(10), is_quick), "CLUSTERDOWN is tried again and again");
    assert!((0..5).filter(|_| is_quick()).count() >= 3, "some are still tried");
    cluster.servers[0].kill();
    cluster.servers[2].kill();
    assert!(eventually(Duration::from_secs(10), is_quick), "dead nodes are tried again and again");
    for server in &mut cluster.servers {
        server.restart(&[]);
    }
    assert!(eventually(Duration::from_secs(30), || daemon.post_ndjson(&ndjson(&events)).status == 200));
}

/// A large value goes to one node, and what it answers is known to hold for all, as with a batch.
#[tokio::test]
async fn a_large_value_is_not_tried_again_while_the_cluster_is_down_as_a_whole() {
    let mut cluster = Cluster::start(3, 0);
    let name = CacheKey::new_unchecked(key_of(&cluster.servers[0]));
    let settings =
        Settings { down_after: Duration::from_millis(500), ..Settings::new("127.0.0.1", cluster.servers[0].port) };
    let mut session = ClusterCache::new(settings, Vec::new()).unwrap().session();
    let mut store = async || {
        let pieces = std::pin::pin!(futures::stream::iter([Some("large".into())]));
        let value = Incoming { key: &name, bytes: 5, ttl: None, version: None, remembered: &|| None, pieces };
        session.store_incoming(value, WITHIN).await
    };
    assert_eq!(store().await, Ok(Reply::Stored));
    cluster.servers[1].kill();
    let begun = Instant::now();
    loop {
        match store().await {
            Err(StreamError::Cache(CacheError::Down(_))) => return,
            other => assert!(begun.elapsed() < Duration::from_secs(20), "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_primary_without_its_replica_holds_the_keys_of_others_for_a_part_of_the_time_only() {
    let mut cluster = Cluster::start(3, 1);
    let builder = Daemon::builder().set("redis.mode", "cluster").set("redis.nodes", cluster.nodes());
    let daemon = builder.set("redis.wait_replicas", 1).set("redis.pool_size", 1).start();
    cluster.servers[4].kill();
    let key_on = |server: &Server| {
        let mut names = (0..).map(|n| format!("k:{n}"));
        names.find(|name| server.try_ask::<Option<String>>(&["GET", name]).is_some()).expect("a key")
    };
    let (there, elsewhere) = (key_on(&cluster.servers[1]), key_on(&cluster.servers[0]));
    let (start, mut slowest) = (Instant::now(), Duration::ZERO);
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| daemon.post(&set_inline(&there, "v")).status);
        while !stuck.is_finished() {
            let begun = Instant::now();
            assert_eq!(daemon.post(&set_inline(&elsewhere, "v")).status, 200);
            if begun - start > Duration::from_secs(2) {
                slowest = slowest.max(begun.elapsed());
            }
        }
        assert_eq!(stuck.join().expect("a client"), 503);
    });
    assert!(slowest < Duration::from_millis(1500), "keys elsewhere were held up for {slowest:?}");
}

#[test]
fn a_switch_of_primaries_is_noticed_without_traffic() {
    let mut cluster = Cluster::start(3, 1);
    let daemon = daemon(&cluster, 0);
    // Asked of the replica: its primary gives way in order.
    let _: () = cluster.servers[3].ask(&["CLUSTER", "FAILOVER"]);
    wait_for("the replica to take over", || cluster.servers[3].is_master() && !cluster.servers[0].is_master());
    assert!(eventually(Duration::from_secs(10), || {
        let clients: String = cluster.servers[3].ask(&["CLIENT", "LIST"]);
        clients.contains("name=redis-cache-sync") && daemon.get("/ready").status == 200
    }));
    // Nobody is left for its slots.
    cluster.servers[0].kill();
    cluster.servers[3].kill();
    assert!(eventually(Duration::from_secs(10), || daemon.get("/ready").status == 503));
    cluster.servers[3].restart(&[]);
    assert!(eventually(Duration::from_secs(20), || daemon.get("/ready").status == 200));
}
