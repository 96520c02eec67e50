//! Deleting by pattern: 100,000 of 1,000,000 keys; and in a Cluster, those of one hash tag.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::commands::{Cache, pipe, scan_and_unlink};
use crate::guard;
use crate::report::Bound::AtMost;
use crate::report::{Figure, Row, Sample};
use crate::requests::{Command, Piped, lines};
use crate::servers::{Cluster, Server};
use crate::service::Service;

const PAIRS: usize = 5;
const ALL: usize = 1_000_000;
const MATCHING: usize = 100_000;
const PATTERN: &str = "sess:*";
/// Keys in a Cluster of three, and how many there are of the tag.
const CLUSTERED: usize = 300_000;
const TAGGED: usize = 1_000;
/// Both match the same keys. Of the second it cannot be told in which slot these are.
const OF_TAG: [&str; 2] = ["{user:1}:*", "?user:1}:*"];

pub const DELETE: &[Figure] = &[Figure {
    name: "delete-pattern",
    unit: "ms",
    reference: "redis-cli --scan | xargs",
    must: AtMost(0.1),
    aim: AtMost(0.08),
}];

pub fn delete(figures: &[&'static Figure]) -> Vec<Row> {
    let (redis, keys) = (Cache::start(), Keys::new());
    keys.fill(&redis);
    let service = Service::ours(&redis);
    keys.sweep(&service);
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    let milliseconds = |took: Duration| Sample::plain(took.as_secs_f64() * 1e3);
    for _ in 0..PAIRS {
        keys.refill(&redis);
        ours.push(milliseconds(keys.sweep(&service)));
        keys.refill(&redis);
        reference.push(milliseconds(scan_and_unlink(&redis, PATTERN)));
        assert_eq!(redis.key_count() as usize, ALL - MATCHING, "xargs did not delete them all");
    }
    vec![Row { figure: figures[0], ours, reference }]
}

pub const TAG: &[Figure] = &[Figure {
    name: "delete-pattern-tag",
    unit: "ms",
    reference: "a pattern without a whole tag",
    must: AtMost(0.4),
    aim: AtMost(0.05),
}];

pub fn tag(figures: &[&'static Figure]) -> Vec<Row> {
    let cluster = Cluster::start(3, 0);
    let pids: Vec<u32> = cluster.servers.iter().map(Server::pid).collect();
    pids.iter().for_each(|pid| guard::started(*pid));
    let service = Service::of_cluster(cluster.nodes());
    let set = |keys: &dyn Fn(usize) -> String, count: usize| {
        let commands: Vec<Command> = (0..count).map(|number| Command::Set(keys(number), "v".to_owned())).collect();
        for body in lines(&commands, 10_000) {
            assert_eq!(service.post("application/x-ndjson", body.as_bytes()).status, 200);
        }
    };
    set(&|number| format!("{{other:{number}}}"), CLUSTERED - TAGGED);
    let sweep = |pattern: &str| {
        set(&|number| format!("{{user:1}}:{number}"), TAGGED);
        Sample::plain(deleted(&service, pattern, TAGGED).as_secs_f64() * 1e3)
    };
    // To warm up.
    let _ = OF_TAG.map(sweep);
    let (ours, reference) = (0..PAIRS).map(|_| OF_TAG.map(sweep).into()).unzip();
    drop((service, cluster));
    pids.into_iter().for_each(guard::ended);
    vec![Row { figure: figures[0], ours, reference }]
}

/// How long until a pattern delete is answered that finds so many keys.
fn deleted(service: &Service, pattern: &str, keys: usize) -> Duration {
    let event = json!({"key": "DELETE_PATTERN", "value": {"data": pattern}}).to_string();
    let begun = Instant::now();
    let answer = service.post("application/json", event.as_bytes());
    let took = begun.elapsed();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["results"][0]["deleted"], keys, "{}", answer.text());
    took
}

/// The keys that stay, and those that are deleted again and again.
pub struct Keys {
    matching: Piped,
}

impl Keys {
    pub fn new() -> Self {
        Keys { matching: Piped::fill(MATCHING, |number| format!("sess:{number:06}")) }
    }

    /// A key that no pattern of ours matches.
    pub fn other(number: usize) -> String {
        format!("other:{number:06}")
    }

    pub fn fill(&self, redis: &Cache) {
        pipe(redis, &Piped::fill(ALL - MATCHING, Self::other));
        self.refill(redis);
    }

    pub fn refill(&self, redis: &Cache) {
        pipe(redis, &self.matching);
        assert_eq!(redis.key_count() as usize, ALL, "the keys are not those that were meant");
    }

    /// Deletes them through the service: how long until the answer.
    pub fn sweep(&self, service: &Service) -> Duration {
        deleted(service, PATTERN, MATCHING)
    }
}
