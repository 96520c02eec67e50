//! Deleting by pattern: 100,000 of 1,000,000 keys.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::commands::{Cache, pipe, scan_and_unlink};
use crate::report::Bound::AtMost;
use crate::report::{Figure, Row, Sample};
use crate::requests::Piped;
use crate::service::Service;

const PAIRS: usize = 5;
const ALL: usize = 1_000_000;
const MATCHING: usize = 100_000;
const PATTERN: &str = "sess:*";

pub const DELETE: &[Figure] = &[Figure {
    name: "delete-pattern",
    unit: "ms",
    reference: "redis-cli --scan | xargs",
    must: AtMost(0.15),
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
        let event = json!({"key": "DELETE_PATTERN", "value": {"data": PATTERN}}).to_string();
        let begun = Instant::now();
        let answer = service.post("application/json", event.as_bytes());
        let took = begun.elapsed();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["results"][0]["deleted"], MATCHING, "{}", answer.text());
        took
    }
}
