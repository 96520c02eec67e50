//! Which cache holds the values (`[cache]`), and where Redis is (`[redis]`).

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::read::{millis, nodes, seconds};
use crate::config::secret::{Pem, Secret};

/// The caches that can hold the values (`cache.backend`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheBackend {
    /// A Redis server, Cluster or Sentinel group, as `redis.*` says.
    Redis,
    /// A cache within this process: nothing outlives a restart, and `redis.url` is not called.
    Embedded,
}

/// Which cache holds the values (`[cache]`).
#[derive(Debug, Clone, Deserialize)]
pub struct CacheConfig {
    /// The kind of cache (`cache.backend`).
    pub backend: CacheBackend,
    /// Bytes that the embedded cache holds at most (`cache.max_bytes`); beyond them it evicts the least recently used
    /// key. Redis has a limit of its own.
    pub max_bytes: u64,
}

/// `host` to `tls` are what `redis.url` says, where it says something.
#[derive(Debug, Clone, Deserialize)]
pub struct RedisConfig {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// The port of Redis (`redis.port`, 1 to 65535).
    pub port: u16,
    /// The ACL user to log in as (`redis.username`); None: the default user.
    pub username: Option<String>,
    /// From the URL, the setting or the file.
    pub password: Option<Secret>,
    /// The number of the database (`redis.db`); a Cluster has 0 only.
    pub db: u32,
    /// Whether connections to Redis use TLS (`redis.tls`, or a `rediss://` URL).
    pub tls: bool,
    /// Writer actors, each with one connection (`redis.pool_size`, 1 to 64). Live.
    pub pool_size: usize,
    /// Commands of one pipeline at most (`redis.batch_max`).
    pub batch_max: usize,
    /// Bytes of one pipeline at most (`redis.batch_max_bytes`); a larger value goes alone.
    pub batch_max_bytes: usize,
    /// The time for a connection to be ready, login included (`redis.connect_timeout_ms`).
    #[serde(rename = "connect_timeout_ms", deserialize_with = "millis")]
    pub connect_timeout: Duration,
    /// The time for the reply to a pipeline (`redis.response_timeout_ms`), and 1 s more for every 4 MiB sent. A
    /// connection that exceeds it is dropped.
    #[serde(rename = "response_timeout_ms", deserialize_with = "millis")]
    pub response_timeout: Duration,
    /// How long an operation is tried, from its entry into the writer's queue, before it ends as `cache-unavailable`
    /// (`redis.retry_ms`).
    #[serde(rename = "retry_ms", deserialize_with = "millis")]
    pub retry: Duration,
    /// The kind of Redis (`redis.mode`).
    pub mode: RedisMode,
    /// Hosts and ports.
    #[serde(default, deserialize_with = "nodes")]
    pub nodes: Vec<(String, u16)>,
    /// The name by which the sentinels know the master (`redis.sentinel_master`); required in sentinel mode, unused
    /// elsewhere.
    pub sentinel_master: Option<String>,
    /// Where `password` is read anew, if that is what it came from.
    pub password_file: Option<PathBuf>,
    /// The user to log in to the sentinels as (`redis.sentinel_username`).
    pub sentinel_username: Option<String>,
    /// From the setting or the file.
    pub sentinel_password: Option<Secret>,
    /// The file with that password (`redis.sentinel_password_file`); each login reads it anew.
    pub sentinel_password_file: Option<PathBuf>,
    /// None: as `tls`.
    pub sentinel_tls: Option<bool>,
    /// The authorities to trust for Redis (`redis.tls_ca`, as it was read); None: the usual public ones.
    #[serde(skip)]
    pub tls_ca: Option<Pem>,
    /// The certificate that the service shows to Redis (`redis.tls_cert`, as it was read).
    #[serde(skip)]
    pub tls_cert: Option<Pem>,
    /// There is one exactly if there is a certificate.
    #[serde(skip)]
    pub tls_key: Option<Pem>,
    /// Replicas that must acknowledge a write before it is answered ok (`redis.wait_replicas`, 0 to 100); 0: none, and
    /// no `WAIT` is sent.
    pub wait_replicas: u32,
    /// The prefix of the keys that hold versions (`redis.version_prefix`). Events that name such a key are rejected.
    pub version_prefix: String,
    /// How long a version is kept after the last write that had one (`redis.version_window_seconds`). An older event
    /// that arrives later than that is applied.
    #[serde(rename = "version_window_seconds", deserialize_with = "seconds")]
    pub version_window: Duration,
}

/// The kinds of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RedisMode {
    /// One server, or a proxy that looks like one.
    Standalone,
    /// A Redis Cluster: keys are spread over 16,384 slots, `redis.nodes` names some of its nodes.
    Cluster,
    /// A master that sentinels watch: `redis.nodes` names the sentinels, and the service follows a failover.
    Sentinel,
}
