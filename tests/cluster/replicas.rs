//! Many replicas before one cluster.

use crate::harness::{Daemon, replicas};
use crate::servers::Cluster;

#[test]
fn the_highest_version_remains_whatever_happens_to_the_replicas() {
    let cluster = Cluster::start(3, 0);
    replicas::converge(|| Daemon::builder().set("redis.mode", "cluster").set("redis.nodes", cluster.nodes()));
}
