//! `serve`: the daemon. Here the settings become the parts of the pipeline, and signals its end.

mod caches;
mod daemon;
mod journal;
mod priority;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use log::{error, info, warn};
use tokio::sync::mpsc::channel;

use self::caches::cache;
pub use self::caches::redis_cache;
pub use self::daemon::Daemon;
pub use self::journal::{journal_alone, letters};
use super::auth_reload::AuthReload;
use super::keys::KeyClient;
use super::reload::Reloader;
use super::reload::settings::SettingsOrigin;
use super::signals::{HangUp, Signals};
use super::stores::{self, blob_settings};
use super::{on_stderr, peers, refuse, traces};
use crate::blob::retry::Policy;
use crate::cache::redis::SetupError;
use crate::cache::{Cache, CacheError};
use crate::config::{self, Args, Config, FileSnapshot, LogFormat, Pem, Secret, TlsPems, WebhookSecret};
use crate::event::{Limits, OwnKeys, Ttl};
use crate::http::{self, Auth, HttpServer, HttpSettings, IssuerSettings, Pems, Proxies, ServerTls, SourceSettings};
use crate::journal::feed;
use crate::pipeline::{PipelineSettings, Sizes};
use crate::telemetry::logging::{self, LogSettings};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::spans::Tracer;
use crate::{blob, pipeline};

/// The setting of the listener's certificate.
const LISTENER_CERT: &str = "http.tls_cert";
/// How long the start waits for Redis to tell its version.
const MAX_LOOK: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT, and drains. SIGHUP, and a change of the files of settings, have them read again.
pub fn run(args: Args) -> ExitCode {
    let system = actix_rt::System::new();
    let hang_up = match system.block_on(async { HangUp::listen() }) {
        Ok(hang_up) => hang_up,
        Err(error) => return fail(&StartError::Signals(error)),
    };
    // Before the settings are: what changes in between is found by the first look.
    let texts = FileSnapshot::read(&args);
    let loaded = match Config::load(args.clone()) {
        Ok(loaded) => loaded,
        Err(faults) => return refuse(&faults),
    };
    let config = loaded.config.clone();
    // Before there are other threads: each takes it over from the one that starts it.
    let nice = priority::yield_to_local_redis(&config);
    let format = match config.log_format {
        LogFormat::Text => logging::LineFormat::Text,
        LogFormat::Json => logging::LineFormat::Json,
    };
    let settings = LogSettings { level: config.log_level, format, cluster: config.cluster.clone() };
    let _guard = match logging::init(&settings) {
        Ok(guard) => guard,
        Err(error) => return fail(&error),
    };
    logging::install_panic_hook();
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    if let Some(nice) = nice {
        info!(nice; "redis is at a local address: running at a lower priority");
    }
    let origin = SettingsOrigin::new(args, texts, loaded);
    system.block_on(async {
        match serve(&config, origin, hang_up).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                error!(cause:% = error; "cannot start");
                ExitCode::FAILURE
            }
        }
    })
}

/// There is no log yet.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    on_stderr(format_args!("redis-cache-sync: cannot start: {error}"));
    ExitCode::FAILURE
}

async fn serve(config: &Config, origin: SettingsOrigin, hang_up: HangUp) -> Result<(), StartError> {
    let signals = Signals::listen(Some(hang_up)).map_err(StartError::Signals)?;
    start(config, Some(origin)).await?.run(signals).await;
    Ok(())
}

/// Why the daemon does not start. `Display` says what to change; the exit code is 1.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The `redis.*` settings build no cache.
    #[error(transparent)]
    Redis(#[from] SetupError),
    /// The server answered, and is too old or of a kind that cannot be worked with.
    #[error("{0}")]
    Unsupported(String),
    /// The `fetch.*` settings build no HTTP client.
    #[error(transparent)]
    Blobs(#[from] blob::SetupError),
    /// A listener cannot be opened.
    #[error(transparent)]
    Http(#[from] http::StartError),
    /// The listener's certificate, key or authorities are of no use.
    #[error(transparent)]
    ServerTls(#[from] http::TlsError),
    /// A metric cannot be registered: a name or `cluster` that Prometheus does not accept.
    #[error("the metrics cannot be set up: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The exporter of spans cannot be set up, or its thread not be started.
    #[error("spans cannot be exported: {0}")]
    Traces(Box<dyn std::error::Error>),
    /// The thread that follows files of settings and secrets cannot be started.
    #[error("files cannot be watched: {0}")]
    Reloader(std::io::Error),
    /// The handlers of SIGTERM, SIGINT and SIGHUP cannot be installed.
    #[error("signals cannot be handled: {0}")]
    Signals(std::io::Error),
}

/// Starts the daemon; it listens when this returns. Its settings are followed if their origin is given. Must be called
/// within an actix system.
pub async fn start(config: &Config, origin: Option<SettingsOrigin>) -> Result<Daemon, StartError> {
    if lets_everybody_in(config) {
        let bind = config.bind;
        warn!(bind:% = bind; "everybody who reaches the port may post events: no tokens, webhook secrets or client certificates are set");
    }
    let metrics = Metrics::new(&config.cluster)?;
    let holder = journal::holder();
    let cache = cache(config, &holder)?;
    refuse_unsupported(cache.as_ref(), config.redis.connect_timeout).await?;
    let name = cache.describe();
    let settings = pipeline_settings(config);
    let stores = settings.blob.stores.clone();
    let pipeline = pipeline::build(settings, cache, &metrics)?;
    let auth_reload = AuthReload::new(config.auth.clone(), metrics.clone());
    for short in auth_reload.auth.short_tokens() {
        warn!(token:% = short; "a token of fewer than 16 characters can be guessed");
    }
    let tls = config.http.tls.as_ref().map(|tls| ServerTls::new(pems(&tls.held)).map(Arc::new)).transpose()?;
    let tracer = traces::start(config, &metrics).map_err(StartError::Traces)?;
    let keys = Arc::new(KeyClient::new(blob_settings(config)));
    let settings = http_settings(config, auth_reload.auth.clone(), tls.clone(), (tracer.clone(), keys.clone()));
    let journal = journal::journal(config, &holder, &metrics).map_err(SetupError::from)?;
    metrics.set_journal_up(journal.is_none());
    show_certificates(config, &metrics);
    let mut reloader = reloader(config, &auth_reload, tls, &metrics);
    let parts = (metrics, journal.clone());
    let server = HttpServer::start(settings, pipeline.clone(), parts, name.clone(), config.event.max_events)?;
    let feeding = journal.map(|journal| feed(journal, pipeline.clone(), config.http.shutdown));
    stores::follow(config, &stores, &mut reloader);
    let (sender, changes) = channel(1);
    if let Some(origin) = origin {
        reloader.follow_settings(origin, sender);
    }
    let following = reloader.start().map_err(StartError::Reloader)?;
    let address = server.address;
    let version = env!("CARGO_PKG_VERSION");
    info!(target: logging::LISTENING, address:% = address, cache = name.as_str(), version; "listening");
    if let Some(address) = server.admin_address {
        info!(target: logging::LISTENING, address:% = address; "listening for probes and metrics");
    }
    let (level, shutdown) = (config.log_level, config.http.shutdown);
    Ok(Daemon { address, server, pipeline, feeding, tracer, auth_reload, keys, shutdown, level, following, changes })
}

/// Follows the files that open auth_reload. What is set itself stays in force beside them.
fn reloader(
    config: &Config,
    auth_reload: &Arc<AuthReload>,
    tls: Option<Arc<ServerTls>>,
    metrics: &Metrics,
) -> Reloader {
    let mut reloader = Reloader::new(metrics.clone());
    let from = &config.auth;
    if let Some(path) = from.tokens_file.clone() {
        let (auth_reload, current) = (auth_reload.clone(), from.tokens_of_file.clone());
        let adopt = move |of_file: &Vec<Secret>| {
            auth_reload.adopt_tokens_of_file(of_file);
            Ok(())
        };
        reloader.follow("auth.tokens_file", current, move || config::tokens_in(&path), adopt);
    }
    if let Some(path) = from.webhook_secrets_file.clone() {
        let (auth_reload, current) = (auth_reload.clone(), from.webhook_secrets_of_file.clone());
        let adopt = move |of_file: &Vec<WebhookSecret>| {
            auth_reload.adopt_webhook_secrets_of_file(of_file);
            Ok(())
        };
        let read = move || config::webhook_secrets_in(&path);
        reloader.follow("auth.webhook_secrets_file", current, read, adopt);
    }
    if let (Some(tls), Some(from)) = (tls, config.http.tls.clone()) {
        let metrics = metrics.clone();
        let adopt = move |held: &TlsPems| {
            tls.replace(pems(held)).map_err(|error| error.to_string())?;
            metrics.set_certificate_expiry(LISTENER_CERT, held.cert.expires());
            Ok(())
        };
        reloader.follow(LISTENER_CERT, from.held, move || config::tls_in(&from.files), adopt);
    }
    reloader
}

/// When the certificates of the service run out. That of `redis.tls_cert` is read at the start alone.
fn show_certificates(config: &Config, metrics: &Metrics) {
    let listener = config.http.tls.as_ref().map(|tls| &tls.held.cert);
    for (setting, pem) in [(LISTENER_CERT, listener), ("redis.tls_cert", config.redis.tls_cert.as_ref())] {
        metrics.set_certificate_expiry(setting, pem.and_then(Pem::expires));
    }
}

fn pems(held: &TlsPems) -> Pems<'_> {
    let client_ca = held.client_ca.as_ref().map(Pem::expose);
    Pems { cert: held.cert.expose(), key: held.key.expose(), client_ca }
}

/// Whether somebody beyond this machine may post events without showing anything.
fn lets_everybody_in(config: &Config) -> bool {
    let auth = &config.auth;
    let asks = asks_for_certificates(config) || !auth.all_tokens().is_empty() || !auth.all_webhook_secrets().is_empty();
    !asks && !config.bind.to_canonical().is_loopback()
}

/// A cache that cannot be reached now is no reason: whether it is supported shows with the first connection.
async fn refuse_unsupported(cache: &dyn Cache, connect_timeout: Duration) -> Result<(), StartError> {
    match cache.session().ping(connect_timeout.min(MAX_LOOK)).await {
        Err(CacheError::Unsupported(cause)) => Err(StartError::Unsupported(cause.into_owned())),
        _ => Ok(()),
    }
}

fn asks_for_certificates(config: &Config) -> bool {
    config.http.tls.as_ref().is_some_and(|tls| tls.held.client_ca.is_some())
}

/// What the pipeline is built of, as the settings say.
pub fn pipeline_settings(config: &Config) -> PipelineSettings {
    let (event, fetch, redis) = (&config.event, &config.fetch, &config.redis);
    PipelineSettings {
        sizes: Sizes {
            intake: config.intake.pool_size,
            validation: config.validation.pool_size,
            fetchers: fetch.pool_size,
            fetches_each: fetch.concurrency,
            fetches_per_host: fetch.per_host,
            writers: redis.pool_size,
        },
        max_in_flight: config.intake.max_in_flight,
        max_in_flight_bytes: config.intake.max_in_flight_bytes,
        max_patterns: config.event.max_patterns,
        deadline: event.deadline,
        max_answer_bytes: config.http.max_answer_bytes,
        limits: Arc::new(Limits {
            max_events: event.max_events,
            max_keys: event.max_keys,
            max_key_bytes: event.max_key_bytes,
            default_ttl: event.default_ttl_seconds.and_then(Ttl::from_seconds),
            max_ttl_seconds: event.max_ttl_seconds,
            allow_match_all: event.allow_match_all,
            own_keys: OwnKeys::new(&redis.version_prefix, &config.journal.name),
            stores: Some(config.stores.keys().cloned().collect()),
        }),
        stream_bytes: config.fetch.stream_bytes,
        blob: Arc::new(blob_settings(config)),
        retry: Policy { attempts: fetch.attempts, deadline: fetch.deadline },
        writer: pipeline::write::writer::WriterLimits {
            batch_max: redis.batch_max,
            batch_max_bytes: redis.batch_max_bytes,
            retry: redis.retry,
        },
        workers: config.http.workers,
    }
}

/// Bodies whose signature is not proven yet may hold this part of admission, and at least one body.
const UNPROVEN_SHARE: usize = 10;

fn http_settings(
    config: &Config,
    auth: Arc<Auth>,
    tls: Option<Arc<ServerTls>>,
    (tracer, keys): (Option<Tracer>, Arc<KeyClient>),
) -> HttpSettings {
    HttpSettings {
        bind: config.bind,
        port: config.port,
        admin_port: config.admin_port,
        workers: config.http.workers,
        max_body_bytes: config.http.max_body_bytes,
        max_connections: config.http.max_connections,
        keep_alive: config.http.keep_alive,
        hosts: config.http.hosts.iter().map(|host| host.to_ascii_lowercase()).chain(peers::names(config)).collect(),
        proxies: Proxies(config.http.trusted_proxies.clone()),
        asks_for_certificates: asks_for_certificates(config),
        max_unproven_bytes: (config.intake.max_in_flight_bytes / UNPROVEN_SHARE).max(config.http.max_body_bytes),
        head_timeout: config.http.head_timeout,
        body_timeout: config.http.body_timeout,
        cluster: config.cluster.clone(),
        page: config.http.page,
        peers: peers::peers(config),
        shutdown: config.http.shutdown,
        slow: config.log_slow,
        lines_one_in: config.log_requests_one_in,
        tracer,
        stall: config.live.stall,
        auth,
        sources: sources(config),
        keys,
        tls,
    }
}

fn issuer(source: &config::SourceConfig) -> Option<IssuerSettings> {
    let (name, audience) = (source.oidc_issuer.clone()?, source.oidc_audience.clone()?);
    Some(IssuerSettings { name, audience, subjects: source.oidc_subjects.clone() })
}

fn sources(config: &Config) -> Vec<SourceSettings> {
    let source = |(name, source): (&String, &config::SourceConfig)| SourceSettings {
        mapping: source.mapping(name),
        tokens: source.all_tokens().iter().map(|token| token.expose().to_owned()).collect(),
        webhook_secrets: source.webhook_secrets.iter().map(|secret| secret.expose().to_owned()).collect(),
        issuer: issuer(source),
        topics: source.topics.clone(),
        is_journaled: source.accept == config::Accept::Journal,
    };
    config.sources.iter().map(source).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pool_has_room_for_the_largest_size_that_is_allowed() {
        let pools = config::SETTINGS.iter().filter(|setting| setting.leaf() == "pool_size");
        let sizes: Vec<u64> = pools
            .map(|setting| match setting.kind {
                config::SettingKind::Integer { max, .. } => max,
                _ => panic!("{} is no number", setting.path),
            })
            .collect();
        assert!(sizes.len() == 4 && sizes.iter().all(|max| *max <= pipeline::runtime::MAX_POOL as u64), "{sizes:?}");
    }

    #[test]
    fn everybody_is_let_in_if_nothing_is_asked_for_and_the_port_is_no_loopback() {
        let open = |pairs: &[(&str, &str)]| lets_everybody_in(&Config::from_pairs(pairs).expect("good settings"));
        for bind in ["0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1"] {
            assert!(open(&[("bind", bind)]), "{bind}");
            assert!(!open(&[("bind", bind), ("auth.tokens", "t")]), "{bind}");
            let secret = ("auth.webhook_secrets", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
            assert!(!open(&[("bind", bind), secret]), "{bind}");
        }
        for bind in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(!open(&[("bind", bind)]), "{bind}");
        }
    }
}
