//! The table of every setting. Parsing, names of variables and flags, `check-config`, `config/default.toml` and the
//! table of docs/settings.md all follow from it; a setting that is not here does not exist.

use config::{Value, ValueKind};

use super::checks::*;
use super::kind::SettingKind;
use DefaultValue::{Cores, Number, Switch, Text, Unset};

/// One setting.
#[derive(Clone)]
pub struct Setting {
    /// `fetch.pool_size`: its name in the file and in messages.
    pub path: &'static str,
    /// The form of its value and the bounds.
    pub kind: SettingKind,
    /// The value when no layer gives one.
    pub default: DefaultValue,
    /// How much of its value may be shown.
    pub privacy: Privacy,
    /// Whether a change takes effect while the daemon runs. The docs and the reload have no other list.
    pub is_live: bool,
    /// One line for the docs.
    pub doc: &'static str,
}

/// What a setting is when no layer says.
#[derive(Clone, Copy)]
pub enum DefaultValue {
    /// A whole number, in the unit of the setting's [`SettingKind`].
    Number(u64),
    /// A switch that is on or off.
    Switch(bool),
    /// A text or one of the choices.
    Text(&'static str),
    /// One for each processor core.
    Cores,
    /// Unset; the example, as TOML, is for the docs.
    Unset(&'static str),
}

/// How much of a setting's value `check-config`, messages and the log may show.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Privacy {
    /// All of it.
    Open,
    /// Shown as `***`.
    Secret,
    /// A URL whose password is shown as `***`.
    Url,
}

impl Setting {
    const fn new(path: &'static str, default: DefaultValue, kind: SettingKind, doc: &'static str) -> Self {
        Setting { path, kind, default, privacy: Privacy::Open, is_live: false, doc }
    }

    const fn private(mut self, privacy: Privacy) -> Self {
        self.privacy = privacy;
        self
    }

    const fn live(mut self) -> Self {
        self.is_live = true;
        self
    }

    /// `FETCH_POOL_SIZE`
    pub fn variable(&self) -> String {
        self.path.replace('.', "_").to_ascii_uppercase()
    }

    /// `fetch-pool-size`, without the dashes in front.
    pub fn flag(&self) -> String {
        self.path.replace(['.', '_'], "-")
    }

    /// `fetch` of `fetch.pool_size`, `sources.minio` of `sources.minio.format`; empty for a setting outside any group.
    pub fn group(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(group, _)| group)
    }

    /// `pool_size` of `fetch.pool_size`.
    pub fn leaf(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, leaf)| leaf)
    }

    /// The same setting below this name; its own path has `NAME` there. The new path lives as long as the process.
    pub(super) fn under(&self, name: &str) -> Setting {
        Setting { path: self.path.replacen("NAME", name, 1).leak(), ..self.clone() }
    }

    /// Whether it may be unset.
    pub fn is_optional(&self) -> bool {
        matches!(self.default, DefaultValue::Unset(_))
    }

    /// The default in its normal form; `Nil` if it is unset.
    pub fn default_value(&self) -> ValueKind {
        match self.default {
            DefaultValue::Number(number) => ValueKind::I64(i64::try_from(number).unwrap_or(i64::MAX)),
            DefaultValue::Switch(on) => ValueKind::Boolean(on),
            DefaultValue::Text(text) => ValueKind::String(text.to_owned()),
            DefaultValue::Cores => {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                ValueKind::I64(i64::try_from(cores).unwrap_or(1).min(MAX_WORKERS as i64))
            }
            DefaultValue::Unset(_) => match self.kind {
                SettingKind::List { .. } => ValueKind::Array(Vec::<Value>::new()),
                _ => ValueKind::Nil,
            },
        }
    }
}

const MAX_WORKERS: u64 = 1024;
const MAX_TTL: u64 = i32::MAX as u64;
const TOKENS: &str = "[NAME:]TOKEN of visible ASCII characters, comma- or line-separated; after NAME:TOKEN, with blanks between, its rights: read, write, prefix=TEXT";
const MAX_FILE: &str = "the path of a readable file of at most 1 MiB";

const fn count(min: u64, max: u64) -> SettingKind {
    SettingKind::Integer { min, max, unit: "" }
}

const fn millis() -> SettingKind {
    SettingKind::Integer { min: 1, max: 3_600_000, unit: "milliseconds" }
}

const fn seconds(max: u64) -> SettingKind {
    SettingKind::Integer { min: 1, max, unit: "seconds" }
}

const fn bytes() -> SettingKind {
    SettingKind::Bytes { min: 1, max: 1 << 40 }
}

const fn one_of(allowed: &'static [&'static str]) -> SettingKind {
    SettingKind::Choice { allowed }
}

const fn text(check: fn(&str) -> Result<(), String>, allowed: &'static str) -> SettingKind {
    SettingKind::Text { check, allowed }
}

const fn file() -> SettingKind {
    SettingKind::Text { check: path, allowed: MAX_FILE }
}

/// Every setting, in the order in which the docs list them.
#[rustfmt::skip]
pub static SETTINGS: &[Setting] = &[
    Setting::new("port", Number(8080), count(0, 65_535), "Port to listen on; 0: a free port, which the log names"),
    Setting::new("admin_port", Unset("9090"), count(0, 65_535),
        "Port for /live, /ready, /metrics and the pages instead of the main port, always plain HTTP; 0: a free port, which the log names"),
    Setting::new("bind", Text("0.0.0.0"), text(address, "an IPv4 or IPv6 address"), "Address to listen on"),
    Setting::new("cluster", Text(""), text(label, "a text of at most 253 bytes without control characters"),
        "Name of the Kubernetes cluster: on every log line and as a metric label"),
    Setting::new("log_level", Text("info"), one_of(&["debug", "info", "warn", "error"]), "Level of the log: lines of this level and above").live(),
    Setting::new("log_format", Text("text"), one_of(&["text", "json"]), "Form of a log line"),
    Setting::new("log_slow_ms", Number(1000), millis(), "Operations that take longer, from acceptance to the end, are logged with where their time went"),
    Setting::new("log_requests_one_in", Number(1), count(1, 1_000_000),
        "Of the requests that went well, one in this many has its line in the log (for each HTTP worker); of the others each has").live(),

    Setting::new("cache.backend", Text("redis"), one_of(&["redis", "embedded"]),
        "Where values are stored; embedded keeps them in this process and evicts the least recently used"),
    Setting::new("cache.max_bytes", Number(256 << 20), bytes(), "Most bytes that the embedded cache holds"),

    Setting::new("auth.tokens", Unset("[\"a-long-random-text\"]"),
        SettingKind::List { check: token, allowed: TOKENS },
        "Bearer tokens that POST /events accepts; without tokens and webhook secrets it accepts everybody").private(Privacy::Secret).live(),
    Setting::new("auth.tokens_file", Unset("\"/run/secrets/tokens\""), file(), "File of bearer tokens, accepted besides auth.tokens; read again when it changes"),
    Setting::new("auth.webhook_secrets", Unset("[\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]"),
        SettingKind::List { check: webhook_secret, allowed: "whsec_ and the base64 of 24 to 64 bytes, comma- or line-separated" },
        "Secrets with which senders may sign a request to POST /events (Standard Webhooks) instead of a token").private(Privacy::Secret).live(),
    Setting::new("auth.webhook_secrets_file", Unset("\"/run/secrets/webhooks\""), file(),
        "File of webhook secrets, accepted besides auth.webhook_secrets; read again when it changes"),

    Setting::new("auth.required", Switch(false), SettingKind::Switch,
        "true: the daemon does not start without tokens, webhook secrets or client certificates"),

    Setting::new("redis.url", Unset("\"redis://localhost:6379/0\""), text(super::redis_url::check, super::redis_url::ALLOWED),
        "URL of Redis; its parts override redis.host to redis.tls, which supply the parts that it lacks").private(Privacy::Url),
    Setting::new("redis.host", Text("localhost"), text(host, "a host name or an IP address"), "Host of Redis"),
    Setting::new("redis.port", Number(6379), count(1, 65_535), "Port of Redis"),
    Setting::new("redis.username", Unset("\"sync\""), text(label, "a text of at most 253 bytes without control characters"), "User to log in as"),
    Setting::new("redis.password", Unset("\"***\""), text(password, "a text of at most 4096 bytes"), "Password to log in with").private(Privacy::Secret),
    Setting::new("redis.password_file", Unset("\"/run/secrets/redis-password\""), file(), "File with the password, instead of redis.password; read again for each login"),
    Setting::new("redis.db", Number(0), count(0, 65_535), "Number of the database"),
    Setting::new("redis.tls", Switch(false), SettingKind::Switch, "Whether to speak TLS with Redis"),
    Setting::new("redis.pool_size", Number(2), count(1, 64), "Writer actors, one connection each").live(),
    Setting::new("redis.batch_max", Number(512), count(1, 100_000), "Most commands in one pipeline"),
    Setting::new("redis.batch_max_bytes", Number(1 << 20), bytes(), "Most bytes in one pipeline; a larger value goes alone"),
    Setting::new("redis.connect_timeout_ms", Number(1000), millis(), "Time to connect to Redis"),
    Setting::new("redis.response_timeout_ms", Number(2000), millis(), "Time for a reply; grows by 1 s for every 4 MiB sent"),
    Setting::new("redis.retry_ms", Number(5000), millis(),
        "How long an operation is tried before it is unavailable, from its entry into the writer's queue"),
    Setting::new("redis.mode", Text("standalone"), one_of(&["standalone", "cluster", "sentinel"]), "Kind of Redis"),
    Setting::new("redis.nodes", Unset("[\"redis-0:6379\", \"redis-1:6379\"]"),
        SettingKind::List { check: node, allowed: "host:port entries, comma- or line-separated" }, "Some nodes of a Cluster (unset: redis.host), or all sentinels; no effect while standalone"),
    Setting::new("redis.sentinel_master", Unset("\"mymaster\""), text(label, "a text of at most 253 bytes without control characters"),
        "Name by which the sentinels know the master; no effect without sentinels"),
    Setting::new("redis.sentinel_username", Unset("\"watch\""), text(label, "a text of at most 253 bytes without control characters"), "User to log in as at the sentinels"),
    Setting::new("redis.sentinel_password", Unset("\"***\""), text(password, "a text of at most 4096 bytes"),
        "Password of the sentinels; without their own user and password, a sentinel that asks for a login gets those of Redis").private(Privacy::Secret),
    Setting::new("redis.sentinel_password_file", Unset("\"/run/secrets/sentinel-password\""), file(),
        "File with that password, instead of redis.sentinel_password; read again for each login"),
    Setting::new("redis.sentinel_tls", Unset("true"), SettingKind::Switch, "Whether to speak TLS with the sentinels, using redis.tls_ca to redis.tls_key; unset: as with Redis"),
    Setting::new("redis.tls_ca", Unset("\"/etc/redis-tls/ca.crt\""), file(), "PEM file of the authorities to trust for Redis"),
    Setting::new("redis.tls_cert", Unset("\"/etc/redis-tls/tls.crt\""), file(), "PEM file of the service's certificate for Redis"),
    Setting::new("redis.tls_key", Unset("\"/etc/redis-tls/tls.key\""), file(), "PEM file with the key of redis.tls_cert"),
    Setting::new("redis.wait_replicas", Number(0), count(0, 100), "Replicas that must acknowledge a write before it is answered ok"),
    Setting::new("redis.version_prefix", Text("rcs:v:"), text(prefix, "a text of 1 to 64 bytes without braces or control characters"),
        "Prefix of the keys that hold versions; events must not touch such keys"),
    Setting::new("redis.version_window_seconds", Number(86_400), seconds(MAX_TTL), "How long a version is kept after the last write"),

    Setting::new("journal.url", Unset("\"redis://journal:6379/0\""), text(super::redis_url::check, super::redis_url::ALLOWED),
        "Redis of the journal; one of its own keeps accepting while the cache is down. Unset: the Redis of redis.*").private(Privacy::Url),
    Setting::new("journal.name", Text("rcs:journal"), text(prefix, "a text of 1 to 64 bytes without braces or control characters"),
        "Name of the journal's stream; its other keys begin with {NAME}:, and events must not touch any of them"),
    Setting::new("journal.max_events", Number(1_000_000), count(1, 1_000_000_000), "Most events that the journal holds; beyond it the answer is 503"),
    Setting::new("journal.max_attempts", Number(10), count(1, 1_000_000), "Attempts before an event that ends unavailable becomes a dead letter; attempts while Redis is down do not count"),
    Setting::new("journal.wait_replicas", Number(0), count(0, 100), "Replicas of the journal's Redis that must acknowledge an event before it is answered 202"),
    Setting::new("journal.wait_aof", Switch(false), SettingKind::Switch,
        "Whether the journal's Redis must have an event on disk (WAITAOF, Redis 7.2 or later with appendonly) before it is answered 202"),
    Setting::new("dead_letters.max_events", Number(100_000), count(1, 100_000_000), "Most dead letters that are kept; the oldest are deleted first"),

    Setting::new("http.tls_cert", Unset("\"/etc/tls/tls.crt\""), file(), "PEM file of the service's certificate; unset: plain HTTP. Read again when it changes"),
    Setting::new("http.tls_key", Unset("\"/etc/tls/tls.key\""), file(), "PEM file with the key of http.tls_cert. Read again when it changes"),
    Setting::new("http.tls_client_ca", Unset("\"/etc/tls/clients.crt\""), file(),
        "PEM file of the authorities of client certificates; unset: clients need none. Read again when it changes"),
    Setting::new("http.workers", Cores, count(1, MAX_WORKERS), "Threads that serve HTTP; by default one for each core"),
    Setting::new("http.hosts", Unset("[\"redis-cache-sync\"]"), SettingKind::List { check: host, allowed: "host names without ports, comma- or line-separated" },
        "Host names by which clients may call a service that requires no token, besides localhost and IP addresses; others are refused (DNS rebinding)"),
    Setting::new("http.trusted_proxies", Unset("[\"10.0.0.0/8\"]"), SettingKind::List { check: network, allowed: "IP addresses and networks such as 10.0.0.0/8, comma- or line-separated" },
        "Proxies whose Forwarded or X-Forwarded-For is trusted: the log then names the client behind them"),
    Setting::new("http.max_connections", Number(10_000), count(1, 1_000_000), "Most connections at once, an equal share for each of http.workers (rounded down, at least one); further ones wait in the kernel"),
    Setting::new("http.keep_alive_seconds", Number(620), seconds(86_400), "How long an idle connection is kept; keep it longer than the load balancer does"),
    Setting::new("http.max_body_bytes", Number(16 << 20), bytes(), "Most bytes of a request's body, decompressed"),
    Setting::new("http.max_answer_bytes", Number(64 << 20), bytes(), "Most bytes of all values in one answer"),
    Setting::new("http.head_timeout_ms", Number(5000), millis(), "Time for a request's head to arrive"),
    Setting::new("http.body_timeout_ms", Number(30_000), millis(), "Time for a request's body to arrive, a third of it for one whose signature is still to be proven; and for the sender to read its answer, more for a large answer"),
    Setting::new("http.page", Switch(true), SettingKind::Switch, "Whether to serve the pages / and /docs, on admin_port if that is set"),
    Setting::new("http.peers", Unset("[\"http://redis-cache-sync-replicas:8080\"]"),
        SettingKind::List { check: endpoint, allowed: "http or https URLs without a query, comma- or line-separated" },
        "URLs at which the page finds the other replicas: each address of a host is one. They receive the token of whoever looks"),
    Setting::new("http.shutdown_seconds", Number(25), seconds(3600), "Time to drain after SIGTERM"),

    Setting::new("traces.endpoint", Unset("\"http://collector:4318\""), text(endpoint, "an http or https URL without a query"),
        "OpenTelemetry collector that receives the spans of sampled requests (OTLP, protobuf over HTTP, at /v1/traces below it); unset: none are made"),

    Setting::new("live.stall_seconds", Number(10), seconds(3600), "How long an actor may be stuck before /live answers 503"),

    Setting::new("event.max_events", Number(10_000), count(1, 10_000_000), "Most events of one request"),
    Setting::new("event.max_keys", Number(1000), count(1, 10_000_000), "Most entries of one event"),
    Setting::new("event.max_key_bytes", Number(1024), SettingKind::Bytes { min: 1, max: 1 << 20 }, "Most bytes of a key or pattern"),
    Setting::new("event.default_ttl_seconds", Unset("3600"), seconds(MAX_TTL), "Time to live if an event names none; unset: such a key does not expire"),
    Setting::new("event.max_ttl_seconds", Number(315_360_000), seconds(MAX_TTL), "Longest time to live an event may name"),
    Setting::new("event.allow_match_all", Switch(false), SettingKind::Switch, "Whether a pattern of wildcards only is accepted"),
    Setting::new("event.max_patterns", Number(1024), count(1, 1_000_000), "Most patterns in progress, over all requests; beyond it the answer is overloaded"),
    Setting::new("event.deadline_ms", Number(28_000), millis(), "Longest time from acceptance to the answer"),

    Setting::new("intake.pool_size", Number(0), count(0, 64), "Intake actors on threads of their own; 0: one on each HTTP worker's thread").live(),
    Setting::new("validation.pool_size", Number(0), count(0, 64), "Validation actors on threads of their own; 0: one on each HTTP worker's thread").live(),
    Setting::new("intake.max_in_flight", Number(20_000), count(1, 100_000_000), "Most events in progress; beyond it the answer is overloaded"),
    Setting::new("intake.max_in_flight_bytes", Number(256 << 20), bytes(),
        "Most bytes held at once (admission): bodies, entries, compiled patterns, blobs, and values that are read"),

    Setting::new("fetch.pool_size", Number(2), count(1, 64), "Fetch actors").live(),
    Setting::new("fetch.concurrency", Number(64), count(1, 65_536), "Fetches at once in each fetch actor").live(),
    Setting::new("fetch.per_host", Number(64), count(1, 65_536), "Fetches at once to one host").live(),
    Setting::new("fetch.connect_timeout_ms", Number(2000), millis(), "Time to connect to a blob's host"),
    Setting::new("fetch.timeout_ms", Number(10_000), millis(), "Time for one attempt, up to its last byte"),
    Setting::new("fetch.attempts", Number(4), count(1, 100), "Most attempts"),
    Setting::new("fetch.deadline_ms", Number(25_000), millis(), "Time for all attempts together"),
    Setting::new("fetch.max_blob_bytes", Number(64 << 20), bytes(), "Most bytes of a blob, decoded"),
    Setting::new("fetch.stream_bytes", Number(1 << 20), bytes(),
        "Blobs of known length above this are passed to Redis while they arrive, and take little memory"),
    Setting::new("fetch.allowed_hosts", Unset("[\"blobs.example.com\", \"*.cdn.example.com\"]"),
        SettingKind::List { check: allowed_host, allowed: "host, host:port or *.suffix entries, comma- or line-separated" },
        "The only hosts blobs may come from; unset: any public host, on ports 80 and 443").live(),
    Setting::new("fetch.proxy", Unset("\"http://user:***@proxy.example.com:3128\""), text(proxy, "http://[user:password@]host:port"),
        "HTTP proxy for blobs; the service asks it to CONNECT to the address that it resolved and checked. Unset: none; HTTPS_PROXY is ignored").private(Privacy::Url),
    Setting::new("fetch.propagate_trace", Switch(false), SettingKind::Switch,
        "Whether the hosts of blobs receive traceparent (with the service's own span) and tracestate"),
    Setting::new("fetch.ca_file", Unset("\"/etc/ssl/private-ca.pem\""), file(), "PEM file of authorities to trust besides the usual ones"),
];

/// Every setting of a source, with `NAME` in place of its name.
#[rustfmt::skip]
pub static SOURCE_SETTINGS: &[Setting] = &[
    Setting::new("sources.NAME.format", Text("auto"),
        one_of(&["auto", "s3", "eventbridge", "sns", "event-grid", "gcs", "cloudevents", "seaweedfs"]),
        "Format of the producer's notifications; auto recognizes it by headers and body").live(),
    Setting::new("sources.NAME.key", Text("{object}"), text(key_template, "a text with any of {object}, {bucket}, {source}, {dir}, {stem} and {ext} in it"),
        "Key of an object, made of its name ({object}), the bucket, the source's name, the folder ({dir}), and the name before and after the last dot ({stem}, {ext})").live(),
    Setting::new("sources.NAME.ttl", Unset("3600"), seconds(MAX_TTL), "Time to live of what is stored; unset: event.default_ttl_seconds").live(),
    Setting::new("sources.NAME.include", Unset("[\"photos/*\"]"), SettingKind::List { check: glob, allowed: "Redis globs on bucket/object, comma- or line-separated" },
        "The only objects that are followed; unset: all").live(),
    Setting::new("sources.NAME.exclude", Unset("[\"*/tmp/*\"]"), SettingKind::List { check: glob, allowed: "Redis globs on bucket/object, comma- or line-separated" },
        "Objects that are not followed").live(),
    Setting::new("sources.NAME.value", Text("object"), one_of(&["object", "facts", "none"]),
        "What is stored. object: the object's bytes; facts: what the notification says, as JSON; none: nothing, each change deletes the key (for caches that readers fill)").live(),
    Setting::new("sources.NAME.store", Unset("\"main\""), text(label, "the name of a store"), "Where objects are fetched from; unset: the URL in the notification").live(),
    Setting::new("sources.NAME.tokens", Unset("[\"a-long-random-text\"]"),
        SettingKind::List { check: token, allowed: TOKENS },
        "Bearer tokens that the producer may show, also as ?token= or ?access_token=; a source without tokens, secrets and issuer takes those of auth.*").private(Privacy::Secret).live(),
    Setting::new("sources.NAME.tokens_file", Unset("\"/run/secrets/minio-tokens\""), file(), "File of bearer tokens, accepted beside sources.NAME.tokens; read again when it changes").live(),
    Setting::new("sources.NAME.webhook_secrets", Unset("[\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]"),
        SettingKind::List { check: webhook_secret, allowed: "whsec_ and the base64 of 24 to 64 bytes, comma- or line-separated" },
        "Secrets with which the producer may sign (Standard Webhooks)").private(Privacy::Secret).live(),
    Setting::new("sources.NAME.oidc_issuer", Unset("\"https://accounts.google.com\""), text(issuer, "an https (or http) URL without a query"),
        "Issuer of the JSON Web Tokens that the producer shows, as Pub/Sub and Event Grid do").live(),
    Setting::new("sources.NAME.oidc_audience", Unset("\"https://sync.example.com\""), text(label, "a text of at most 253 bytes without control characters"),
        "Audience that such a token must have").live(),
    Setting::new("sources.NAME.oidc_subjects", Unset("[\"push@project.iam.gserviceaccount.com\"]"),
        SettingKind::List { check: label, allowed: "accounts, comma- or line-separated" },
        "Accounts that such a token may be for, by sub, verified email, azp or appid; unset: any. Google signs tokens for any audience for all of its accounts").live(),
    Setting::new("sources.NAME.topics", Unset("[\"arn:aws:sns:eu-central-1:123456789012:photos\"]"),
        SettingKind::List { check: topic, allowed: "ARNs of SNS topics, comma- or line-separated" }, "SNS topics that may subscribe and publish").live(),
    Setting::new("sources.NAME.accept", Text("done"), one_of(&["done", "journal"]), "When a notification is answered: done, when Redis has it; journal, when the journal has it").live(),
];

/// Every setting of a store, with `NAME` in place of its name.
#[rustfmt::skip]
pub static STORE_SETTINGS: &[Setting] = &[
    Setting::new("stores.NAME.kind", Unset("\"s3\""), one_of(&["s3", "azure", "gcs", "http"]), "Protocol of the store; required"),
    Setting::new("stores.NAME.endpoint", Unset("\"http://minio:9000\""), text(endpoint, "an http or https URL without a query"),
        "URL of the store, private addresses included; unset: the cloud's own URL, by region or account"),
    Setting::new("stores.NAME.region", Unset("\"eu-central-1\""), text(region, "lower-case letters, digits and dashes"),
        "Region that S3 requests are signed for; unset, beside an endpoint: us-east-1"),
    Setting::new("stores.NAME.path_style", Unset("true"), SettingKind::Switch,
        "Whether the bucket is in the path instead of the host name (S3); unset: yes with an endpoint, otherwise no"),
    Setting::new("stores.NAME.access_key_id", Unset("\"AKIAIOSFODNN7EXAMPLE\""), text(visible, "1 to 4096 visible ASCII characters"), "Access key of S3").private(Privacy::Secret),
    Setting::new("stores.NAME.access_key_id_file", Unset("\"/run/secrets/access-key-id\""), file(), "The same, from a file; read again when the file changes"),
    Setting::new("stores.NAME.secret_access_key", Unset("\"wJalrXUtnFEMI\""), text(one_line, "one line of at most 4096 bytes"), "Secret of the access key").private(Privacy::Secret),
    Setting::new("stores.NAME.secret_access_key_file", Unset("\"/run/secrets/secret-access-key\""), file(), "The same, from a file; read again when the file changes"),
    Setting::new("stores.NAME.session_token", Unset("\"FwoGZXIvYXdz\""), text(visible, "1 to 4096 visible ASCII characters"), "Session token of a temporary access key").private(Privacy::Secret),
    Setting::new("stores.NAME.session_token_file", Unset("\"/run/secrets/session-token\""), file(), "The same, from a file; read again when the file changes"),
    Setting::new("stores.NAME.account", Unset("\"myaccount\""), text(account, "3 to 24 lower-case letters and digits"), "Storage account of Azure"),
    Setting::new("stores.NAME.account_key", Unset("\"bXlrZXk=\""), text(account_key, "base64"), "Key of the account (Shared Key)").private(Privacy::Secret),
    Setting::new("stores.NAME.account_key_file", Unset("\"/run/secrets/account-key\""), file(), "The same, from a file; read again when the file changes"),
    Setting::new("stores.NAME.sas_token", Unset("\"sv=2021-12-02&sig=abc\""), text(sas_token, "the query of a shared access signature"), "Shared access signature, in place of an account's key").private(Privacy::Secret),
    Setting::new("stores.NAME.sas_token_file", Unset("\"/run/secrets/sas-token\""), file(), "The same, from a file; read again when the file changes"),
    Setting::new("stores.NAME.service_account_file", Unset("\"/run/secrets/service-account.json\""), file(),
        "JSON key file of a service account of Google Cloud; read again when the file changes"),
    Setting::new("stores.NAME.header", Unset("\"Authorization: Bearer abc\""), text(header, "Name: value"), "Header that each request to an http store carries").private(Privacy::Secret),
    Setting::new("stores.NAME.header_file", Unset("\"/run/secrets/store-header\""), file(), "The same, from a file; read again when the file changes"),
    Setting::new("stores.NAME.anonymous", Switch(false), SettingKind::Switch,
        "Whether requests have no credential, for public buckets. If false and no credential is set, the platform's own is used"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_of_settings_variables_and_flags_are_unique() {
        let names = |name: fn(&Setting) -> String| SETTINGS.iter().map(name).collect::<HashSet<_>>().len();
        assert_eq!(names(|setting| setting.path.to_owned()), SETTINGS.len());
        assert_eq!(names(Setting::variable), SETTINGS.len());
        assert_eq!(names(Setting::flag), SETTINGS.len());
    }

    #[test]
    fn the_variable_and_the_flag_follow_from_the_path() {
        let setting = crate::config::find("fetch.pool_size").expect("a setting");
        assert_eq!(setting.variable(), "FETCH_POOL_SIZE");
        assert_eq!(setting.flag(), "fetch-pool-size");
        assert_eq!((setting.group(), setting.leaf()), ("fetch", "pool_size"));
    }

    #[test]
    fn every_default_is_itself_allowed() {
        for setting in
            SETTINGS.iter().chain(SOURCE_SETTINGS).chain(STORE_SETTINGS).filter(|setting| !setting.is_optional())
        {
            let default = setting.default_value();
            assert_eq!(setting.kind.from_toml(&default, false).as_ref(), Ok(&default), "{}", setting.path);
        }
    }
}
