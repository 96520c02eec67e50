//! Notifications that come shuffled, twice and late: in the end each object is what its last change made of it.

use crate::support::notices::{DIALECTS, check, seeds};
use crate::support::{Daemon, Redis};

#[test]
fn whatever_the_order_of_delivery_the_storage_s_own_order_holds() {
    for dialect in &DIALECTS {
        for seed in 0..seeds() {
            let redis = Redis::start();
            let daemon =
                Daemon::builder().redis(&redis).set("sources.s.format", dialect.format).set("log_level", "warn");
            let daemon = daemon.set("sources.s.value", "facts").start();
            check(&daemon, |key| redis.value(key), dialect, seed);
        }
    }
}
