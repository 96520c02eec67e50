//! Several replicas share one journal: one of them feeds, and another takes over when it dies or hangs. What was accepted is
//! applied in its order all the same.

use std::time::{Duration, Instant};

use crate::faulty_way::{Fault, Proxy as Network, Way};
use crate::journal::{assert_accepted, assert_empty, keep, length};
use crate::support::journaled::{differences, stored, while_accepting};
use crate::support::{
    Blob, BlobServer, Daemon, Gate, PATIENCE, Redis, eventually, free_port, set_blob, set_inline, signal,
};

/// The one that has the lease.
fn holder(daemons: &[Daemon]) -> Option<usize> {
    daemons.iter().position(|daemon| daemon.metric("cache_sync_journal_lease", &[]) == 1.0)
}

#[track_caller]
fn wait_for_holder(daemons: &[Daemon]) -> usize {
    assert!(eventually(PATIENCE, || holder(daemons).is_some()), "nobody has the lease");
    holder(daemons).expect("a holder")
}

#[test]
fn the_holder_is_killed_again_and_again_and_the_state_is_that_of_the_accepted_order() {
    let rounds = std::env::var("JOURNAL_KILLS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2_u64);
    let (cache, journal, ports) = (Redis::start(), Redis::start(), [free_port(), free_port(), free_port()]);
    let start = |port: u16| {
        let url = format!("redis://127.0.0.1:{}/0", journal.port());
        Daemon::builder().redis(&cache).set("port", port).set("journal.url", url).set("log_level", "warn").start()
    };
    let mut daemons: Vec<Daemon> = ports.iter().map(|port| start(*port)).collect();
    let accepted = while_accepting(&ports, 2, 7, |sending| {
        for round in 0..rounds {
            sending.go_on(10 + round % 20);
            let victim = wait_for_holder(&daemons);
            signal(daemons[victim].pid(), "KILL");
            daemons[victim].wait_exit(PATIENCE);
            daemons[victim] = start(ports[victim]);
        }
        sending.go_on(20);
    });
    println!("{} entries wait at the end", length(&journal));
    assert_empty(&journal);
    let wrong = differences(&accepted.state, &stored(&mut cache.conn()));
    println!("{rounds} kills, {} events accepted, {} requests repeated", accepted.events, accepted.repeated);
    assert!(wrong.is_empty(), "{} keys: {wrong:?}", wrong.len());
}

#[test]
fn an_append_that_is_answered_503_does_not_land_behind_what_is_accepted_later() {
    let (cache, journal) = (Redis::start(), Redis::start());
    let network = Network::start(journal.port());
    let start = |port: u16| {
        let daemon = Daemon::builder().redis(&cache).set("journal.url", format!("redis://127.0.0.1:{port}/0"));
        daemon.set("redis.response_timeout_ms", 300).set("http.workers", 1).start()
    };
    let connections = || {
        let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut journal.conn()).expect("CLIENT LIST");
        let ours = list.lines().filter(|line| line.contains("name=redis-cache-sync"));
        ours.filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect::<Vec<String>>()
    };
    let cut_off = start(network.port());
    assert_accepted(&keep(&cut_off, &set_inline("k", "0")), 1);
    assert_empty(&journal);
    let before = connections();
    let other = start(journal.port());
    network.set(Way::ToRedis, Fault::BlackHole);
    keep(&cut_off, &set_inline("k", "lost")).problem(503, "journal-unavailable");
    assert_accepted(&keep(&other, &set_inline("k", "newer")), 1);
    // Nobody is there to take back what the network still has.
    signal(cut_off.pid(), "KILL");
    network.set(Way::ToRedis, Fault::None);
    let has_come = || connections().iter().all(|connection| !before.contains(connection));
    assert!(!before.is_empty() && eventually(PATIENCE, has_come), "the network has brought all that it had");
    assert_empty(&journal);
    assert_eq!(cache.value("k").as_deref(), Some(&b"newer"[..]));
}

#[test]
fn a_holder_that_hangs_is_replaced_and_writes_nothing_when_it_comes_back() {
    hang_with_a_blob_under_way(1 << 20);
}

#[test]
fn a_holder_that_hangs_passes_no_blob_on_when_it_comes_back() {
    hang_with_a_blob_under_way(1);
}

/// `stream_bytes`: the blob has three.
fn hang_with_a_blob_under_way(stream_bytes: u64) {
    let (cache, blobs, gate) = (Redis::start(), BlobServer::start(), Gate::closed());
    blobs.put_sequence("/b", vec![Blob::bytes("old").gate(&gate), Blob::bytes("new")]);
    let start = || {
        let allowed = format!("127.0.0.1:{}", blobs.port());
        let daemon = Daemon::builder().redis(&cache).set("fetch.allowed_hosts", allowed);
        let daemon = daemon.set("fetch.stream_bytes", stream_bytes).set("redis.retry_ms", 60_000);
        daemon.set("event.deadline_ms", 120_000).set("fetch.timeout_ms", 100_000).start()
    };
    let daemons = [start(), start()];
    assert_accepted(&keep(&daemons[0], &set_blob("k", &blobs.url("/b"))), 1);
    blobs.wait_hits("/b", 1);
    let first = wait_for_holder(&daemons);
    signal(daemons[first].pid(), "STOP");
    let stopped = Instant::now();
    let second = &daemons[1 - first];
    // Its bytes are in the socket of the one that hangs.
    gate.open();
    let took_over = || second.metric("cache_sync_journal_lease", &[]) == 1.0;
    assert!(eventually(Duration::from_secs(10), took_over), "nobody took over within {:?}", stopped.elapsed());
    assert_empty(&cache);
    assert_eq!(cache.value("k").as_deref(), Some(&b"new"[..]));
    assert_accepted(&keep(second, &set_inline("k", "newest")), 1);
    assert_empty(&cache);
    signal(daemons[first].pid(), "CONT");
    daemons[first].log_line(|line| line.contains("journal's lease was lost"));
    assert_accepted(&keep(&daemons[first], &set_inline("other", "1")), 1);
    assert_empty(&cache);
    let idle = || daemons[first].metric("cache_sync_admission_events", &[]) == 0.0;
    assert!(eventually(PATIENCE, idle), "what it had in hand has ended");
    assert_eq!(cache.value("k").as_deref(), Some(&b"newest"[..]));
    assert!(!took_over() || holder(&daemons) == Some(1 - first));
}

#[test]
fn a_holder_that_alone_cannot_reach_the_cache_leaves_the_lease_to_another() {
    let (cache, journal) = (Redis::start(), Redis::start());
    let networks = [Network::start(cache.port()), Network::start(cache.port())];
    let start = |network: &Network| {
        let daemon = Daemon::builder().set("redis.host", "127.0.0.1").set("redis.port", network.port());
        let daemon = daemon.set("journal.url", format!("redis://127.0.0.1:{}/0", journal.port()));
        daemon.set("redis.response_timeout_ms", 500).start()
    };
    let daemons = networks.each_ref().map(start);
    assert_accepted(&keep(&daemons[0], &set_inline("k", "1")), 1);
    let first = wait_for_holder(&daemons);
    networks[first].set(Way::ToRedis, Fault::BlackHole);
    let cut_off = Instant::now();
    for n in 2..=5 {
        assert_accepted(&keep(&daemons[first], &set_inline("k", &n.to_string())), 1);
    }
    let applied = || cache.value("k").as_deref() == Some(&b"5"[..]);
    assert!(eventually(Duration::from_secs(10), applied), "nobody went on within {:?}", cut_off.elapsed());
    assert_empty(&journal);
    assert_eq!(holder(&daemons), Some(1 - first));
    daemons[first].log_line(|line| line.contains("the cache cannot be reached from here"));
    networks[first].set(Way::ToRedis, Fault::None);
    assert!(eventually(PATIENCE, || daemons[first].metric("cache_sync_redis_up", &[]) == 1.0), "it is back");
    assert_accepted(&keep(&daemons[first], &set_inline("k", "6")), 1);
    assert_empty(&journal);
    assert_eq!(cache.value("k").as_deref(), Some(&b"6"[..]));
}
