//! The settings as the program uses them: plain typed values, grouped as in the file. Sizes are bytes, durations are
//! [`Duration`]s; every value is within the bounds of the table and was read from the layers.

mod source;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;
use std::hash::Hash;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use log::LevelFilter;
use rustls::pki_types::CertificateDer;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

pub use self::source::SourceConfig;
use super::checks::{host_and_port, parse_network};
use super::effective::Effective;
use super::fault::Fault;
use super::files::Files;
use super::redis_url;
use super::secret::{Pem, Secret, WebhookSecret};
use super::tls::{TlsFiles, TlsPems};
use crate::blob::Proxy;
use crate::blob::guard::AllowedHosts;

/// Everything that can be set. `Debug` shows no secret.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// 0: a free one.
    pub port: u16,
    /// The same; None: probes and metrics are on `port`.
    pub admin_port: Option<u16>,
    /// The address that the listeners of `port` and `admin_port` bind to (`bind`); `0.0.0.0` is every IPv4 interface.
    pub bind: IpAddr,
    /// Empty: not in any cluster.
    pub cluster: String,
    /// The level of the log: lines of this level and above are written (`log_level`). Live.
    #[serde(deserialize_with = "parsed")]
    pub log_level: LevelFilter,
    /// The form of a log line (`log_format`); a change needs a restart.
    pub log_format: LogFormat,
    /// An operation that takes longer than this, from acceptance to its end, gets a log line with where its time went
    /// (`log_slow_ms`, 1 to 3,600,000 ms).
    #[serde(rename = "log_slow_ms", deserialize_with = "millis")]
    pub log_slow: Duration,
    /// `[cache]`: which cache holds the values. `cli::serve` builds it.
    pub cache: CacheConfig,
    /// `[auth]`: who may post events. The HTTP server reads it.
    #[serde(default)]
    pub auth: AuthConfig,
    /// `[redis]`: where Redis is, how to log in, and how large a pipeline gets. Without effect for the embedded cache,
    /// except for `redis.pool_size` and the batches of the writers.
    pub redis: RedisConfig,
    /// `[http]`: the listeners, their limits and their timeouts.
    pub http: HttpConfig,
    /// `[live]`: when `/live` gives the process up.
    pub live: LiveConfig,
    /// `[event]`: what a request and each of its events may hold. Validation reads it.
    pub event: EventConfig,
    /// `[intake]`: the intake actors and the admission limits.
    pub intake: IntakeConfig,
    /// `[validation]`: the validation actors.
    pub validation: ValidationConfig,
    /// `[fetch]`: how blobs are downloaded, and from which hosts.
    pub fetch: FetchConfig,
    /// By name.
    #[serde(default)]
    pub sources: BTreeMap<String, SourceConfig>,
}

/// The forms of a log line (`log_format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `key=value` text, for a person at a terminal.
    Text,
    /// One JSON object a line, for log collectors.
    Json,
}

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

/// Who may post events (`[auth]`). Without any token, secret or client certificate, everybody may.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct AuthConfig {
    /// The start is refused while nothing is asked for.
    #[serde(default)]
    pub required: bool,
    /// Those of `auth.tokens`.
    #[serde(default)]
    pub tokens: Vec<Secret>,
    /// The file of further tokens (`auth.tokens_file`); a change of the file takes effect without a restart.
    pub tokens_file: Option<PathBuf>,
    /// What that file held at the start; it may hold others since.
    #[serde(skip)]
    pub tokens_of_file: Vec<Secret>,
    /// The same for signatures.
    #[serde(default)]
    pub webhook_secrets: Vec<WebhookSecret>,
    /// The file of further webhook secrets (`auth.webhook_secrets_file`); a change of the file takes effect without a
    /// restart.
    pub webhook_secrets_file: Option<PathBuf>,
    /// What that file held at the start.
    #[serde(skip)]
    pub webhook_secrets_of_file: Vec<WebhookSecret>,
}

impl AuthConfig {
    /// Those of the start, and none twice.
    pub fn all_tokens(&self) -> Vec<Secret> {
        each_once(&self.tokens, &self.tokens_of_file)
    }

    /// Those of the start, and none twice.
    pub fn all_webhook_secrets(&self) -> Vec<WebhookSecret> {
        each_once(&self.webhook_secrets, &self.webhook_secrets_of_file)
    }
}

fn each_once<T: Clone + Eq + Hash>(own: &[T], of_file: &[T]) -> Vec<T> {
    let mut seen = HashSet::new();
    own.iter().chain(of_file).filter(|secret| seen.insert(*secret)).cloned().collect()
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

/// The files of the listener's TLS, and what they held at the start.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    /// The paths, for the reload that looks at them again.
    pub files: TlsFiles,
    /// The contents at the start, for the first handshakes.
    pub held: TlsPems,
}

/// The listeners, their limits and their timeouts (`[http]`).
#[derive(Debug, Clone, Deserialize)]
pub struct HttpConfig {
    /// None: plain HTTP.
    #[serde(skip)]
    pub tls: Option<ListenerTls>,
    /// Threads that serve HTTP (`http.workers`, 1 to 1,024); one for each core by default.
    pub workers: usize,
    /// Bytes of one request's body at most, decompressed (`http.max_body_bytes`); a larger one is answered 413.
    pub max_body_bytes: usize,
    /// Bytes of all values of one answer at most (`http.max_answer_bytes`); a GET beyond it ends as
    /// `answer-too-large`.
    pub max_answer_bytes: usize,
    /// The time for a request's head to arrive (`http.head_timeout_ms`).
    #[serde(rename = "head_timeout_ms", deserialize_with = "millis")]
    pub head_timeout: Duration,
    /// The time for a request's body to arrive, and for the sender to read its answer (`http.body_timeout_ms`); a
    /// large answer gets more.
    #[serde(rename = "body_timeout_ms", deserialize_with = "millis")]
    pub body_timeout: Duration,
    /// Names by which an open service may be called.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Proxies whose `Forwarded` or `X-Forwarded-For` is believed (`http.trusted_proxies`). The log then names the
    /// client behind them.
    #[serde(default, deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// Connections at once at most, divided among the workers (`http.max_connections`); further ones wait in the
    /// kernel.
    pub max_connections: usize,
    /// How long an idle connection is kept (`http.keep_alive_seconds`): longer than load balancers keep theirs, or a
    /// request can meet a closed connection.
    #[serde(rename = "keep_alive_seconds", deserialize_with = "seconds")]
    pub keep_alive: Duration,
    /// Whether there are pages for a person.
    pub page: bool,
    /// The time to drain after SIGTERM (`http.shutdown_seconds`); what is unfinished then is answered `shutting-down`.
    #[serde(rename = "shutdown_seconds", deserialize_with = "seconds")]
    pub shutdown: Duration,
}

/// When `/live` gives the process up (`[live]`).
#[derive(Debug, Clone, Deserialize)]
pub struct LiveConfig {
    /// How long an actor may go without a sign of life before `/live` answers 503 (`live.stall_seconds`).
    #[serde(rename = "stall_seconds", deserialize_with = "seconds")]
    pub stall: Duration,
}

/// What a request and each of its events may hold (`[event]`). What exceeds it is rejected as `invalid-event`.
#[derive(Debug, Clone, Deserialize)]
pub struct EventConfig {
    /// Events of one request at most (`event.max_events`); a request beyond it is refused as a whole.
    pub max_events: usize,
    /// Entries of one event at most (`event.max_keys`).
    pub max_keys: usize,
    /// Bytes of a key or pattern at most (`event.max_key_bytes`).
    pub max_key_bytes: usize,
    /// At least 1 and at most `max_ttl_seconds`.
    pub default_ttl_seconds: Option<u32>,
    /// The longest time to live that an event may name, in seconds (`event.max_ttl_seconds`).
    pub max_ttl_seconds: u32,
    /// Whether a pattern of wildcards only, such as `*`, is accepted (`event.allow_match_all`).
    pub allow_match_all: bool,
    /// Patterns in progress at most, over all requests (`event.max_patterns`); beyond it the answer is `overloaded`.
    pub max_patterns: usize,
    /// The longest time from acceptance to the answer (`event.deadline_ms`); what is unfinished then is answered
    /// `timeout`.
    #[serde(rename = "deadline_ms", deserialize_with = "millis")]
    pub deadline: Duration,
}

/// The intake actors and the admission limits (`[intake]`).
#[derive(Debug, Clone, Deserialize)]
pub struct IntakeConfig {
    /// 0: one on each HTTP worker's thread.
    pub pool_size: usize,
    /// Events in progress at most, over all requests (`intake.max_in_flight`); beyond it the answer is `overloaded`.
    pub max_in_flight: usize,
    /// Bytes held at once at most: bodies, entries, compiled patterns, blobs and values that are read
    /// (`intake.max_in_flight_bytes`).
    pub max_in_flight_bytes: usize,
}

/// The validation actors (`[validation]`).
#[derive(Debug, Clone, Deserialize)]
pub struct ValidationConfig {
    /// 0: one on each HTTP worker's thread.
    pub pool_size: usize,
}

/// How blobs are downloaded, and from which hosts (`[fetch]`).
#[derive(Debug, Clone, Deserialize)]
pub struct FetchConfig {
    /// Fetch actors, each with an HTTP client of its own (`fetch.pool_size`, 1 to 64). Live.
    pub pool_size: usize,
    /// In each actor of the pool.
    pub concurrency: usize,
    /// Fetches at once to one host, over all fetch actors (`fetch.per_host`). Live.
    pub per_host: usize,
    /// The time to connect to a blob's host (`fetch.connect_timeout_ms`).
    #[serde(rename = "connect_timeout_ms", deserialize_with = "millis")]
    pub connect_timeout: Duration,
    /// One attempt, up to its last byte.
    #[serde(rename = "timeout_ms", deserialize_with = "millis")]
    pub timeout: Duration,
    /// Attempts at most, the first one included (`fetch.attempts`, 1 to 100).
    pub attempts: u32,
    /// All attempts together.
    #[serde(rename = "deadline_ms", deserialize_with = "millis")]
    pub deadline: Duration,
    /// Bytes of one blob at most, decoded (`fetch.max_blob_bytes`); a larger one ends as `blob-too-large`.
    pub max_blob_bytes: usize,
    /// The only hosts that blobs may come from (`fetch.allowed_hosts`); empty: any public host, on ports 80 and 443.
    /// Live.
    #[serde(default, deserialize_with = "listed")]
    pub allowed_hosts: AllowedHosts,
    /// None: blobs' hosts are called directly.
    #[serde(default, deserialize_with = "optional")]
    pub proxy: Option<Proxy>,
    /// Whether the hosts of blobs receive `traceparent` and `tracestate` (`fetch.propagate_trace`).
    pub propagate_trace: bool,
    /// Of `fetch.ca_file`, beside the usual ones.
    #[serde(skip)]
    pub extra_roots: Vec<CertificateDer<'static>>,
}

/// Brings together what came out of the layers, the parts of `redis.url` and what the files held.
pub(super) fn build(settings: Effective, files: Files) -> Result<Config, Fault> {
    let url = settings.text("redis.url").and_then(|url| redis_url::parse(url).ok());
    let tls_files = tls_files(&settings);
    let tree = settings.into_tree();
    let mut config: Config = tree.try_deserialize().map_err(|error| Fault::Usage(error.to_string()))?;

    config.auth.tokens_of_file = files.tokens;
    config.auth.webhook_secrets_of_file = files.webhook_secrets;

    let redis = &mut config.redis;
    redis.password = redis.password.take().or(files.redis_password);
    redis.sentinel_password = redis.sentinel_password.take().or(files.sentinel_password);
    redis.tls_ca = files.tls_ca;
    redis.tls_cert = files.tls_cert;
    redis.tls_key = files.tls_key;
    if let Some(url) = url {
        redis.tls = url.tls;
        redis.host = url.host;
        redis.port = url.port.unwrap_or(redis.port);
        redis.username = url.username.or(redis.username.take());
        if url.password.is_some() {
            (redis.password, redis.password_file) = (url.password, None);
        }
        redis.db = url.db.unwrap_or(redis.db);
    }

    config.http.tls = tls_files.zip(files.listener).map(|(files, held)| ListenerTls { files, held });
    config.fetch.extra_roots = files.fetch_roots;
    for (name, tokens) in files.tokens_of_sources {
        if let Some(source) = config.sources.get_mut(&name) {
            source.tokens_of_file = tokens;
        }
    }
    Ok(config)
}

fn tls_files(settings: &Effective) -> Option<TlsFiles> {
    let path = |setting| settings.text(setting).map(PathBuf::from);
    let (cert, key) = path("http.tls_cert").zip(path("http.tls_key"))?;
    Some(TlsFiles { cert, key, client_ca: path("http.tls_client_ca") })
}

fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

fn optional<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::<String>::deserialize(deserializer)?.map(|text| text.parse().map_err(D::Error::custom)).transpose()
}

fn nodes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, u16)>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| host_and_port(text).map_err(D::Error::custom)).collect()
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| parse_network(text).map_err(D::Error::custom)).collect()
}

fn listed<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(deserializer: D) -> Result<T, D::Error> {
    Vec::<String>::deserialize(deserializer)?.join(",").parse().map_err(D::Error::custom)
}
