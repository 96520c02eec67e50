//! The usual set: a Redis, a blob server and a daemon between them.

use serde_json::Value;

use super::{Answer, BlobServer, Builder, Daemon, Redis};

pub struct Stage {
    pub daemon: Daemon,
    pub redis: Redis,
    pub blobs: BlobServer,
}

impl Stage {
    pub fn new() -> Self {
        Self::with(|builder| builder)
    }

    /// With settings of the test's own.
    pub fn with(settings: impl FnOnce(Builder) -> Builder) -> Self {
        let redis = Redis::start();
        let daemon = settings(Daemon::builder().redis(&redis)).start();
        Stage { daemon, redis, blobs: BlobServer::start() }
    }

    /// Posts an event that must succeed; its results.
    #[track_caller]
    pub fn ok(&self, event: &Value) -> Vec<Value> {
        results(&self.daemon.post(event), 200, "ok")
    }
}

/// The results of a single event's answer, whose status and class must be these.
#[track_caller]
pub fn results(answer: &Answer, status: u16, class: &str) -> Vec<Value> {
    assert_eq!(answer.status, status, "{}", answer.text());
    let json = answer.json();
    assert_eq!(json["status"], class, "{json}");
    json["results"].as_array().unwrap_or_else(|| panic!("no results: {json}")).clone()
}
