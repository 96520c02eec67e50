//! A storage's own order, where keys and their versions are spread over several servers.

use crate::harness::Daemon;
use crate::harness::notices::{DIALECTS, check, seeds};
use crate::servers::*;

#[test]
fn whatever_the_order_of_delivery_the_storage_s_own_order_holds_in_a_cluster() {
    let cluster = Cluster::start(3, 0);
    // Some of them will do, unless more is asked for: it takes a while.
    let every = if seeds() > 1 { 1 } else { 4 };
    for dialect in DIALECTS.iter().step_by(every) {
        for seed in 0..seeds() {
            cluster.flush();
            let port = cluster.servers[0].port;
            let daemon = Daemon::builder().set("redis.mode", "cluster").set("redis.host", "127.0.0.1");
            let daemon = daemon.set("redis.port", port).set("log_level", "warn");
            let daemon = daemon.set("sources.s.format", dialect.format).set("sources.s.value", "facts").start();
            // A server that has not got the key answers MOVED.
            let held = |key: &str| {
                cluster.servers.iter().find_map(|server| server.try_ask::<Option<Vec<u8>>>(&["GET", key])).flatten()
            };
            check(&daemon, held, dialect, seed);
        }
    }
}
