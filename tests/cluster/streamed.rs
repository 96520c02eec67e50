//! Blobs that go to a node of a Cluster as they come in.

use std::thread::{scope, sleep};
use std::time::Duration;

use serde_json::json;

use crate::harness::{Blob, BlobServer, Daemon, Gate, set_blob, signal};
use crate::servers::*;

#[test]
fn a_node_that_is_busy_when_a_stream_begins_is_waited_for() {
    let (cluster, blobs, gate) = (Cluster::start(1, 0), BlobServer::start(), Gate::closed());
    let daemon = Daemon::builder().set("redis.mode", "cluster").set("redis.nodes", cluster.nodes());
    let daemon = daemon.set("fetch.allowed_hosts", format!("127.0.0.1:{}", blobs.port())).set("fetch.attempts", 1);
    let daemon = daemon.set("fetch.stream_bytes", 10).set("redis.response_timeout_ms", 10_000).start();
    blobs.put("/b", Blob::bytes(vec![b'x'; 50_000]).gate(&gate));
    let node = &cluster.servers[0];
    let answer = scope(|scope| {
        let posting = scope.spawn(|| daemon.post(&set_blob("k", &blobs.url("/b"))));
        blobs.wait_hits("/b", 1);
        signal(node.pid(), "STOP");
        gate.open();
        // For longer than a call waits for a node where others do without it.
        sleep(Duration::from_millis(600));
        signal(node.pid(), "CONT");
        posting.join().expect("it answers")
    });
    assert_eq!((answer.status, &answer.json()["results"][0]["status"]), (200, &json!("stored")));
    assert_eq!(node.ask::<u64>(&["STRLEN", "k"]), 50_000);
}
