//! The service's own death: killed on the spot, and told to end.

use std::thread;
use std::time::{Duration, Instant};

use super::Extent;
use super::load::{Plan, under_load};
use super::site::{SECOND, UNDER_WAY, service};
use super::support::{BlobServer, Random, Redis, free_port, signal};
use super::tally::Row;

/// `kill -9` under load, and a new one in its place.
pub fn kill(extent: &Extent) -> Row {
    let rounds = extent.pick(5, 200);
    let (redis, blobs, port) = (Redis::start(), BlobServer::start(), free_port());
    let mut daemon = service(port, redis.port()).start();
    let mut random = Random::seeded(extent.seed);
    let plan = Plan::of(extent.seed, port, redis.port());
    let tally = under_load(plan, Some(&blobs), |load| {
        for _ in 0..rounds {
            load.wait_acknowledged(UNDER_WAY, 10 * SECOND);
            thread::sleep(Duration::from_millis(random.below(150)));
            signal(daemon.pid(), "KILL");
            daemon.wait_exit(5 * SECOND);
            daemon = service(port, redis.port()).start();
        }
        load.wait_acknowledged(UNDER_WAY, 10 * SECOND);
    });
    tally.into_row("kill", rounds)
}

/// SIGTERM under load: everybody is answered, and it exits with 0.
pub fn term(extent: &Extent) -> Row {
    let rounds = extent.pick(3, 100);
    let (redis, blobs, port) = (Redis::start(), BlobServer::start(), free_port());
    let mut daemon = service(port, redis.port()).start();
    let mut random = Random::seeded(extent.seed);
    let plan = Plan::of(extent.seed, port, redis.port());
    let mut slowest = Duration::ZERO;
    let tally = under_load(plan, Some(&blobs), |load| {
        for round in 0..rounds {
            load.wait_acknowledged(UNDER_WAY, 10 * SECOND);
            thread::sleep(Duration::from_millis(random.below(150)));
            let begin = Instant::now();
            daemon.sigterm();
            let status = daemon.wait_exit(26 * SECOND);
            slowest = slowest.max(begin.elapsed());
            if status.code() != Some(0) {
                load.tally.complain(|| format!("round {round} ended with {status}"));
            }
            daemon = service(port, redis.port()).start();
        }
        load.wait_acknowledged(UNDER_WAY, 10 * SECOND);
    });
    let mut row = tally.into_row("term", rounds).all_answered();
    row.note(format!("the slowest exit took {} ms", slowest.as_millis()));
    row
}
