//! Many replicas before one Redis.

use crate::support::{Daemon, Redis, replicas};

#[test]
fn the_highest_version_remains_whatever_happens_to_the_replicas() {
    let redis = Redis::start();
    replicas::converge(|| Daemon::builder().redis(&redis));
}
