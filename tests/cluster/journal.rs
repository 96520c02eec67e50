//! The journal in a Cluster and behind Sentinel: all of its keys are in one slot, and what was accepted is applied in its order though
//! the server that has it dies, or gives its slot away.

use crate::harness::journaled::{Accepted, State, differences, while_accepting};
use crate::harness::{Builder, Daemon, free_port};
use crate::load::rounds;
use crate::servers::*;

const STREAM: &str = "rcs:journal";

fn in_cluster(cluster: &Cluster) -> Builder {
    Daemon::builder().set("redis.mode", "cluster").set("redis.nodes", cluster.nodes())
}

/// Two replicas, on ports of their own.
fn start(builder: impl Fn() -> Builder) -> (Vec<Daemon>, [u16; 2]) {
    let ports = [free_port(), free_port()];
    (ports.iter().map(|port| builder().set("port", port).set("log_level", "warn").start()).collect(), ports)
}

/// What the keys of all senders hold on these servers.
fn stored<'a>(servers: impl IntoIterator<Item = &'a Server>) -> State {
    let mut state = State::new();
    for server in servers {
        let keys: Vec<String> = server.ask(&["KEYS", "g*"]);
        state.extend(keys.into_iter().filter_map(|key| {
            let value: Option<String> = server.ask(&["GET", &key]);
            Some((key, value?))
        }));
    }
    state
}

#[track_caller]
fn assert_applied<'a>(accepted: &Accepted, masters: impl Fn() -> Vec<&'a Server>) {
    let left = || masters().iter().find_map(|server| server.try_ask::<u64>(&["XLEN", STREAM]));
    wait_for("the journal to be empty", || left() == Some(0));
    let wrong = differences(&accepted.state, &stored(masters()));
    println!("{} events accepted, {} requests repeated", accepted.events, accepted.repeated);
    assert!(wrong.is_empty(), "{} keys: {wrong:?}", wrong.len());
}

/// The primary that has the stream's slot.
fn owner(cluster: &Cluster) -> usize {
    let has_it =
        |server: &Server| server.is_up() && server.is_master() && server.try_ask::<u64>(&["XLEN", STREAM]).is_some();
    cluster.servers.iter().position(has_it).expect("a node has the slot")
}

#[test]
fn all_keys_of_the_journal_are_in_one_slot_and_it_goes_on_while_that_moves() {
    let cluster = Cluster::start(3, 0);
    let (_daemons, ports) = start(|| in_cluster(&cluster));
    let slot: u16 = cluster.servers[0].ask(&["CLUSTER", "KEYSLOT", STREAM]);
    let accepted = while_accepting(&ports, 2, 5, |sending| {
        for _ in 0..3 {
            sending.go_on(20);
            let from = owner(&cluster);
            cluster.reshard(&cluster.servers[from], &cluster.servers[(from + 1) % 3], slot..slot + 1);
        }
        sending.go_on(20);
    });
    let names: Vec<String> = cluster.keys().into_iter().filter(|key| key.contains(STREAM)).collect();
    assert!(names.len() > 3, "{names:?}");
    for name in &names {
        assert_eq!(cluster.servers[0].ask::<u16>(&["CLUSTER", "KEYSLOT", name]), slot, "{name}");
    }
    assert_applied(&accepted, || cluster.masters());
}

#[test]
fn the_journal_of_a_cluster_survives_the_primary_that_has_it() {
    let mut cluster = Cluster::start(3, 1);
    let waiting = |cluster: &Cluster| in_cluster(cluster).set("redis.wait_replicas", 1).set("journal.wait_replicas", 1);
    let (_daemons, ports) = start(|| waiting(&cluster));
    let accepted = while_accepting(&ports, 2, 6, |sending| {
        for _ in 0..rounds() {
            sending.go_on(20);
            let victim = owner(&cluster);
            cluster.servers[victim].kill();
            wait_for("the election", || cluster.masters().len() == 3);
            // One replica is asked for, so there is no service before there is one.
            cluster.servers[victim].restart(&[]);
            cluster.settle();
        }
        sending.go_on(20);
    });
    assert_applied(&accepted, || cluster.masters());
}

#[test]
fn the_journal_behind_sentinel_survives_its_master() {
    let mut watched = Watched::start(None, None);
    let (_daemons, ports) = start(|| {
        let builder = Daemon::builder().set("redis.mode", "sentinel").set("redis.nodes", watched.nodes());
        let builder = builder.set("redis.sentinel_master", MASTER);
        builder.set("redis.wait_replicas", 2).set("journal.wait_replicas", 2)
    });
    let accepted = while_accepting(&ports, 2, 7, |sending| {
        for _ in 0..rounds() {
            sending.go_on(20);
            let victim = watched.servers.iter().position(Server::is_master).expect("a master");
            watched.servers[victim].kill();
            wait_for("the election", || watched.master().is_some());
            let master = watched.master().expect("a master").port.to_string();
            watched.servers[victim].restart(&["--replicaof", "127.0.0.1", &master]);
            watched.settle();
        }
        sending.go_on(20);
    });
    assert_applied(&accepted, || watched.master().into_iter().collect());
}
