//! The settings as the program uses them: plain typed values, grouped as in the file. Sizes are bytes, durations are
//! [`Duration`]s; every value is within the bounds of the table and was read from the layers.

mod auth;
mod cache;
mod fetch;
mod http;
mod journal;
mod read;
mod source;
mod store;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;
use serde::Deserialize;

pub use self::auth::AuthConfig;
pub use self::cache::{CacheBackend, CacheConfig, RedisConfig, RedisMode};
pub use self::fetch::FetchConfig;
pub use self::http::{HttpConfig, ListenerTls};
pub use self::journal::{DeadLettersConfig, JournalConfig};
use self::read::{millis, parsed, seconds};
pub use self::source::{Accept, SourceConfig};
pub use self::store::StoreConfig;
use super::effective::Effective;
use super::fault::SettingFault;
use super::files::Files;
use super::redis_url;
use super::tls::TlsFiles;

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
    /// Of the requests of one HTTP worker that went well, one in this many has its line in the log
    /// (`log_requests_one_in`, 1 to 1,000,000). Live.
    pub log_requests_one_in: u32,
    /// `[cache]`: which cache holds the values. `cli::serve` builds it.
    pub cache: CacheConfig,
    /// `[auth]`: who may post events. The HTTP server reads it.
    #[serde(default)]
    pub auth: AuthConfig,
    /// `[redis]`: where Redis is, how to log in, and how large a pipeline gets. Without effect for the embedded cache,
    /// except for `redis.pool_size` and the batches of the writers.
    pub redis: RedisConfig,
    /// `[journal]`: where accepted events are kept until they are applied.
    pub journal: JournalConfig,
    /// `[dead_letters]`: how many events that could not be applied are kept.
    pub dead_letters: DeadLettersConfig,
    /// `[http]`: the listeners, their limits and their timeouts.
    pub http: HttpConfig,
    /// `[traces]`: where spans go.
    #[serde(default)]
    pub traces: TracesConfig,
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
    /// By name.
    #[serde(default)]
    pub stores: BTreeMap<String, StoreConfig>,
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

/// Where the spans of sampled requests go (`[traces]`).
#[derive(Debug, Clone, Default, Deserialize)]
pub struct TracesConfig {
    /// The URL of an OpenTelemetry collector (`traces.endpoint`); None: no spans are made.
    pub endpoint: Option<String>,
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

/// Brings together what came out of the layers, the parts of `redis.url` and what the files held.
pub(super) fn build(settings: Effective, files: Files) -> Result<Config, SettingFault> {
    let url = settings.text("redis.url").and_then(|url| redis_url::parse(url).ok());
    let tls_files = tls_files(&settings);
    let tree = settings.into_tree();
    let mut config: Config = tree.try_deserialize().map_err(|error| SettingFault::Usage(error.to_string()))?;

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
    for (name, store) in &mut config.stores {
        *store = store.with_files().map_err(|reason| SettingFault::Usage(format!("stores.{name}.{reason}")))?;
    }
    Ok(config)
}

fn tls_files(settings: &Effective) -> Option<TlsFiles> {
    let path = |setting| settings.text(setting).map(PathBuf::from);
    let (cert, key) = path("http.tls_cert").zip(path("http.tls_key"))?;
    Some(TlsFiles { cert, key, client_ca: path("http.tls_client_ca") })
}
