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
use crate::blob::Proxy;
use crate::blob::guard::AllowedHosts;

/// Everything that can be set. `Debug` shows no secret.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// 0: a free one.
    pub port: u16,
    /// The same; None: probes and metrics are on `port`.
    pub admin_port: Option<u16>,
    pub bind: IpAddr,
    /// Empty: not in any cluster.
    pub cluster: String,
    #[serde(deserialize_with = "parsed")]
    pub log_level: LevelFilter,
    pub log_format: LogFormat,
    #[serde(rename = "log_slow_ms", deserialize_with = "millis")]
    pub log_slow: Duration,
    pub cache: CacheConfig,
    #[serde(default)]
    pub auth: AuthConfig,
    pub redis: RedisConfig,
    pub http: HttpConfig,
    pub live: LiveConfig,
    pub event: EventConfig,
    pub intake: IntakeConfig,
    pub validation: ValidationConfig,
    pub fetch: FetchConfig,
    /// By name.
    #[serde(default)]
    pub sources: BTreeMap<String, SourceConfig>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheBackend {
    Redis,
    Embedded,
}

#[derive(Debug, Clone, Deserialize)]
pub struct CacheConfig {
    pub backend: CacheBackend,
    pub max_bytes: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub struct AuthConfig {
    /// The start is refused while nothing is asked for.
    #[serde(default)]
    pub required: bool,
    /// Those of `auth.tokens`.
    #[serde(default)]
    pub tokens: Vec<Secret>,
    pub tokens_file: Option<PathBuf>,
    /// What that file held at the start; it may hold others since.
    #[serde(skip)]
    pub tokens_of_file: Vec<Secret>,
    /// The same for signatures.
    #[serde(default)]
    pub webhook_secrets: Vec<WebhookSecret>,
    pub webhook_secrets_file: Option<PathBuf>,
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
    pub port: u16,
    pub username: Option<String>,
    /// From the URL, the setting or the file.
    pub password: Option<Secret>,
    pub db: u32,
    pub tls: bool,
    pub pool_size: usize,
    pub batch_max: usize,
    pub batch_max_bytes: usize,
    #[serde(rename = "connect_timeout_ms", deserialize_with = "millis")]
    pub connect_timeout: Duration,
    #[serde(rename = "response_timeout_ms", deserialize_with = "millis")]
    pub response_timeout: Duration,
    #[serde(rename = "retry_ms", deserialize_with = "millis")]
    pub retry: Duration,
    pub mode: RedisMode,
    /// Hosts and ports.
    #[serde(default, deserialize_with = "nodes")]
    pub nodes: Vec<(String, u16)>,
    pub sentinel_master: Option<String>,
    /// Where `password` is read anew, if that is what it came from.
    pub password_file: Option<PathBuf>,
    pub sentinel_username: Option<String>,
    /// From the setting or the file.
    pub sentinel_password: Option<Secret>,
    pub sentinel_password_file: Option<PathBuf>,
    /// None: as `tls`.
    pub sentinel_tls: Option<bool>,
    #[serde(skip)]
    pub tls_ca: Option<Pem>,
    #[serde(skip)]
    pub tls_cert: Option<Pem>,
    /// There is one exactly if there is a certificate.
    #[serde(skip)]
    pub tls_key: Option<Pem>,
    pub wait_replicas: u32,
    pub version_prefix: String,
    #[serde(rename = "version_window_seconds", deserialize_with = "seconds")]
    pub version_window: Duration,
}

/// The kinds of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RedisMode {
    Standalone,
    Cluster,
    Sentinel,
}

/// The files of the listener's TLS, and what they held at the start.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    pub files: TlsFiles,
    pub held: TlsPems,
}

/// Where they are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub client_ca: Option<PathBuf>,
}

/// What they hold: the key is that of the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPems {
    pub cert: Pem,
    pub key: Pem,
    pub client_ca: Option<Pem>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct HttpConfig {
    /// None: plain HTTP.
    #[serde(skip)]
    pub tls: Option<ListenerTls>,
    pub workers: usize,
    pub max_body_bytes: usize,
    pub max_answer_bytes: usize,
    #[serde(rename = "head_timeout_ms", deserialize_with = "millis")]
    pub head_timeout: Duration,
    #[serde(rename = "body_timeout_ms", deserialize_with = "millis")]
    pub body_timeout: Duration,
    /// Names by which an open service may be called.
    #[serde(default)]
    pub hosts: Vec<String>,
    #[serde(default, deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    pub max_connections: usize,
    #[serde(rename = "keep_alive_seconds", deserialize_with = "seconds")]
    pub keep_alive: Duration,
    /// Whether there are pages for a person.
    pub page: bool,
    #[serde(rename = "shutdown_seconds", deserialize_with = "seconds")]
    pub shutdown: Duration,
}

#[derive(Debug, Clone, Deserialize)]
pub struct LiveConfig {
    #[serde(rename = "stall_seconds", deserialize_with = "seconds")]
    pub stall: Duration,
}

#[derive(Debug, Clone, Deserialize)]
pub struct EventConfig {
    pub max_events: usize,
    pub max_keys: usize,
    pub max_key_bytes: usize,
    /// At least 1 and at most `max_ttl_seconds`.
    pub default_ttl_seconds: Option<u32>,
    pub max_ttl_seconds: u32,
    pub allow_match_all: bool,
    pub max_patterns: usize,
    #[serde(rename = "deadline_ms", deserialize_with = "millis")]
    pub deadline: Duration,
}

#[derive(Debug, Clone, Deserialize)]
pub struct IntakeConfig {
    /// 0: one on each HTTP worker's thread.
    pub pool_size: usize,
    pub max_in_flight: usize,
    pub max_in_flight_bytes: usize,
}

#[derive(Debug, Clone, Deserialize)]
pub struct ValidationConfig {
    /// 0: one on each HTTP worker's thread.
    pub pool_size: usize,
}

#[derive(Debug, Clone, Deserialize)]
pub struct FetchConfig {
    pub pool_size: usize,
    /// In each actor of the pool.
    pub concurrency: usize,
    pub per_host: usize,
    #[serde(rename = "connect_timeout_ms", deserialize_with = "millis")]
    pub connect_timeout: Duration,
    /// One attempt, up to its last byte.
    #[serde(rename = "timeout_ms", deserialize_with = "millis")]
    pub timeout: Duration,
    pub attempts: u32,
    /// All attempts together.
    #[serde(rename = "deadline_ms", deserialize_with = "millis")]
    pub deadline: Duration,
    pub max_blob_bytes: usize,
    #[serde(default, deserialize_with = "listed")]
    pub allowed_hosts: AllowedHosts,
    /// None: blobs' hosts are called directly.
    #[serde(default, deserialize_with = "optional")]
    pub proxy: Option<Proxy>,
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
