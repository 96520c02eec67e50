//! The settings of the journal and of its dead letters.

use serde::{Deserialize, Deserializer};

use super::RedisConfig;
use crate::config::redis_url::{self, RedisUrl};

/// Where accepted events are kept until they are applied (`[journal]`).
#[derive(Debug, Clone, Deserialize)]
pub struct JournalConfig {
    /// A Redis of the journal's own (`journal.url`); None: the one of `redis.*`.
    #[serde(default, deserialize_with = "url")]
    pub url: Option<RedisUrl>,
    /// The stream's name (`journal.name`), without braces.
    pub name: String,
    /// Events that the journal holds at most (`journal.max_events`); beyond them the answer is 503.
    pub max_events: u64,
    /// Attempts at an event that ends unavailable (`journal.max_attempts`); then it is a dead letter.
    pub max_attempts: u32,
    /// Replicas that must acknowledge an event before the 202 (`journal.wait_replicas`, 0 to 100); 0: none.
    pub wait_replicas: u32,
    /// Whether an event must be on disk before the 202 (`journal.wait_aof`): `WAITAOF`, Redis 7.2 or later.
    pub wait_aof: bool,
}

/// How many dead letters are kept (`[dead_letters]`).
#[derive(Debug, Clone, Deserialize)]
pub struct DeadLettersConfig {
    /// Dead letters at most (`dead_letters.max_events`); beyond them the oldest go.
    pub max_events: u64,
}

impl JournalConfig {
    /// How the journal's Redis is reached. One of its own has the login of its URL alone, and the times and the TLS files of
    /// `redis.*`.
    pub fn redis(&self, cache: &RedisConfig) -> RedisConfig {
        let Some(url) = &self.url else { return cache.clone() };
        RedisConfig {
            host: url.host.clone(),
            port: url.port.unwrap_or(6379),
            username: url.username.clone(),
            password: url.password.clone(),
            password_file: None,
            db: url.db.unwrap_or(0),
            tls: url.tls,
            mode: super::RedisMode::Standalone,
            nodes: Vec::new(),
            sentinel_master: None,
            ..cache.clone()
        }
    }
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RedisUrl>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.and_then(|url| redis_url::parse(&url).ok()))
}
