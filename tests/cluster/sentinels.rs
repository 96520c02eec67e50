//! A master by Sentinel: found, followed when it changes, and told from a replica.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis_cache_sync::cache::redis::SentinelCache;
use redis_cache_sync::cache::{Cache, CacheError};
use redis_cache_sync::redis::{Address, Settings};

use crate::failover::SERVED_AGAIN;
use crate::harness::{Daemon, eventually, set_inline, signal};
use crate::load::{Load, full_service, rounds};
use crate::routing::{WITHIN, get, set};
use crate::servers::*;

fn daemon(watched: &Watched, replicas: usize) -> Arc<Daemon> {
    let builder = Daemon::builder().set("redis.mode", "sentinel").set("redis.nodes", watched.nodes());
    let builder = builder.set("redis.sentinel_master", MASTER).set("redis.db", 3);
    Arc::new(builder.set("redis.wait_replicas", replicas).start())
}

#[test]
fn a_killed_master_costs_no_acknowledged_write_if_its_replicas_had_it() {
    let mut watched = Watched::start(None, None);
    let daemon = daemon(&watched, 2);
    let always = Load::start(&daemon, "always", 2);
    for round in 0..rounds() {
        let load = Load::start(&daemon, "load", 4);
        assert!(eventually(Duration::from_secs(20), || load.good.load(Ordering::Relaxed) > 50), "no load");
        let victim = watched.servers.iter().position(Server::is_master).expect("a master");
        kill_cut_off(&mut watched.servers, victim, || {
            load.go_on_a_moment();
            load.stop();
        });
        wait_for("the election", || watched.master().is_some());
        // Two replicas are asked for, so there is no service before there are two.
        let master = watched.master().expect("a master").port.to_string();
        watched.servers[victim].restart(&["--replicaof", "127.0.0.1", &master.to_string()]);
        wait_for("replicas", || watched.master().is_some_and(|master| master.followers() == 2));
        let took = full_service(&daemon, SERVED_AGAIN);
        println!("round {round}: full service {took:?} after the election");
        watched.settle();
        let (written, lost) = load.end();
        assert!(written > 40 && lost.is_empty(), "{written} keys, lost: {lost:?}");
    }
    let (_, lost) = always.end();
    assert!(lost.is_empty(), "lost: {lost:?}");
}

#[test]
fn a_killed_master_gives_way_within_three_seconds() {
    let mut watched = Watched::start(None, None);
    let daemon = daemon(&watched, 0);
    let load = Load::start(&daemon, "load", 4);
    assert!(eventually(Duration::from_secs(20), || load.good.load(Ordering::Relaxed) > 50), "no load");
    let victim = watched.servers.iter().position(Server::is_master).expect("a master");
    kill_cut_off(&mut watched.servers, victim, || {
        load.go_on_a_moment();
        load.stop();
    });
    wait_for("the election", || watched.master().is_some());
    let took = full_service(&daemon, SERVED_AGAIN);
    println!("full service {took:?} after the election");
    let (_, lost) = load.end();
    println!("without redis.wait_replicas {} keys of 100 hold less than was acknowledged", lost.len());
}

#[test]
fn what_a_master_that_hung_does_late_is_not_kept() {
    let watched = Watched::start(None, None);
    let daemon = daemon(&watched, 0);
    assert_eq!(daemon.post(&set_inline("k", "old")).status, 200);
    let old = watched.master().expect("a master");
    // It hangs with its sockets open, and comes to later with what is in them.
    signal(old.pid(), "STOP");
    let stuck = std::thread::scope(|scope| {
        let stuck = scope.spawn(|| daemon.post(&set_inline("k", "while it hung")).status);
        let next = || watched.servers.iter().find(|server| server.port != old.port && server.is_master());
        wait_for("the election", || next().is_some());
        stuck.join().expect("a client")
    });
    assert!(stuck == 200 || stuck == 503, "{stuck}");
    assert!(eventually(Duration::from_secs(10), || daemon.get("/ready").status == 200));
    assert_eq!(daemon.post(&set_inline("k", "new")).status, 200);
    signal(old.pid(), "CONT");
    watched.settle();
    let held: Vec<String> = watched
        .servers
        .iter()
        .map(|server| {
            let mut conn = server.conn();
            redis::cmd("SELECT").arg(3).exec(&mut conn).expect("SELECT");
            redis::cmd("GET").arg("k").query(&mut conn).expect("GET")
        })
        .collect();
    assert_eq!(held, ["new", "new", "new"]);
}

#[test]
fn a_switch_of_masters_is_noticed_without_traffic() {
    let watched = Watched::start(None, None);
    let daemon = daemon(&watched, 0);
    let before = watched.master().expect("a master").port;
    let _: () = watched.sentinels[0].ask(&["SENTINEL", "FAILOVER", MASTER]);
    // The new one is a master before the sentinels say so, and then is the old one's equal.
    let named = |sentinel: &Server| -> u16 {
        let address: Vec<String> = sentinel.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
        address[1].parse().expect("a port")
    };
    wait_for("the sentinels to name another", || watched.sentinels.iter().all(|sentinel| named(sentinel) != before));
    let next = named(&watched.sentinels[0]);
    let master = watched.servers.iter().find(|server| server.port == next).expect("one of ours");
    assert!(eventually(SERVED_AGAIN, || {
        let clients: String = master.ask(&["CLIENT", "LIST"]);
        clients.contains("name=redis-cache-sync") && daemon.get("/ready").status == 200
    }));
    assert_eq!(daemon.post(&set_inline("k", "newest")).status, 200);
}

#[tokio::test]
async fn what_is_no_master_is_not_spoken_to() {
    let watched = Watched::start(None, None);
    let sentinels = |name: &str| {
        let sentinels = watched.sentinels.iter().map(|sentinel| Address::new("127.0.0.1", sentinel.port));
        SentinelCache::new(Settings::new("", 0), sentinels.collect(), name.to_owned()).unwrap()
    };
    assert_eq!(sentinels(MASTER).session().ping(WITHIN).await, Ok(()));
    let unknown = CacheError::Unavailable("the sentinels do not know a master of that name".into());
    assert_eq!(sentinels("other").session().apply(&[get("k")], WITHIN).await, [Err(unknown)]);
    // Sentinels that were told wrong.
    for sentinel in &watched.sentinels {
        let replica = watched.servers.iter().find(|server| !server.is_master()).expect("a replica");
        let port = replica.port.to_string();
        let _: () = sentinel.ask(&["SENTINEL", "MONITOR", "wrong", "127.0.0.1", &port, "2"]);
    }
    let wrong = CacheError::Unavailable("the server that the sentinels name is not a master".into());
    assert_eq!(sentinels("wrong").session().apply(&[get("k")], WITHIN).await, [Err(wrong)]);
}

fn told_by(sentinels: &[&Scripted]) -> SentinelCache {
    let mut settings = Settings::new("", 0);
    (settings.connect_timeout, settings.response_timeout) = (Duration::from_secs(1), Duration::from_millis(200));
    let sentinels = sentinels.iter().map(|sentinel| Address::new("127.0.0.1", sentinel.port));
    SentinelCache::new(settings, sentinels.collect(), MASTER.to_owned()).unwrap()
}

fn has_key(server: &Server) -> bool {
    server.ask(&["EXISTS", "k"])
}

#[tokio::test]
async fn an_older_master_is_not_written_to_while_the_newer_one_refuses() {
    let (old, mut new) = (Server::alone(), Server::alone());
    let (ahead, behind) = (Scripted::start(Some((new.port, 5))), Scripted::start(Some((old.port, 4))));
    let cache = told_by(&[&behind, &ahead]);
    let mut session = cache.session();
    new.kill();
    assert!(session.apply(&[set("k", "v", None)], WITHIN).await[0].is_err());
    assert!(!has_key(&old), "the old master was written to");
    // Not even if the one that knows better is gone, whoever asks.
    ahead.say(None);
    for session in [&mut session, &mut cache.session()] {
        assert!(session.apply(&[set("k", "v", None)], WITHIN).await[0].is_err());
        assert!(session.ping(WITHIN).await.is_err());
    }
    assert!(!has_key(&old), "the old master was written to");
    ahead.say(Some((new.port, 5)));
    new.restart(&[]);
    // On a busy machine it may take longer than the others are waited for.
    let begun = std::time::Instant::now();
    while session.apply(&[set("k", "v", None)], WITHIN).await[0].is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the new master is not served");
    }
    assert!(has_key(&new) && !has_key(&old));
}

#[tokio::test]
async fn what_one_session_hears_of_an_election_counts_for_all() {
    let (old, new) = (Server::alone(), Server::alone());
    let (ahead, behind) = (Scripted::start(None), Scripted::start(Some((old.port, 4))));
    let cache = told_by(&[&behind, &ahead]);
    let (mut first, mut second) = (cache.session(), cache.session());
    assert!(first.apply(&[set("other", "v", None)], WITHIN).await[0].is_ok());
    ahead.say(Some((new.port, 5)));
    assert!(second.apply(&[get("k")], WITHIN).await[0].is_ok());
    ahead.say(None);
    assert!(first.apply(&[set("k", "v", None)], WITHIN).await[0].is_err());
    assert!(!has_key(&old) && !has_key(&new));
}

#[tokio::test]
async fn any_number_of_masters_may_die_owing_replies() {
    let server = Server::alone();
    let sentinel = Scripted::start(None);
    let cache = told_by(&[&sentinel]);
    for epoch in 1..=70 {
        let way = Way::to(server.port);
        sentinel.say(Some((way.port, epoch)));
        let mut session = cache.session();
        session.apply(&[get("k")], WITHIN).await.remove(0).unwrap_or_else(|error| panic!("master {epoch}: {error}"));
        way.swallow();
        assert!(session.apply(&[set("k", "v", None)], WITHIN).await[0].is_err());
    }
}
