//! The journal as the settings say.

use super::StartError;
use super::caches::connection;
use crate::cache;
use crate::config::{Accept, CacheBackend, Config, RedisConfig, RedisMode};
use crate::journal::{Connector, Journal, JournalSettings, Letters};
use crate::redis::{Address, Redis, SetupError};
use crate::telemetry::metrics::Metrics;

/// The journal; None: the embedded cache has none unless `journal.url` names one.
pub fn journal(config: &Config, holder: &str, metrics: &Metrics) -> Result<Option<Journal>, SetupError> {
    if config.cache.backend == CacheBackend::Embedded && config.journal.url.is_none() {
        return Ok(None);
    }
    let from = &config.journal;
    let is_named = config.sources.values().any(|source| source.accept == Accept::Journal);
    let settings = JournalSettings {
        name: from.name.clone(),
        max_events: from.max_events,
        max_attempts: from.max_attempts,
        wait_replicas: from.wait_replicas,
        wait_aof: from.wait_aof,
        max_dead_letters: config.dead_letters.max_events,
        version_window: config.redis.version_window,
        is_asked_for: from.url.is_some() || is_named,
    };
    let from = config.journal.redis(&config.redis);
    let connector = Connector::new(redis(&from)?, &config.journal.name, from.response_timeout);
    let cache = (config.cache.backend == CacheBackend::Redis).then(|| redis(&config.redis)).transpose()?;
    Ok(Some(Journal::new(settings, holder, connector, cache, metrics.clone())))
}

/// A Redis as these settings say.
fn redis(from: &RedisConfig) -> Result<Redis, SetupError> {
    let settings = connection(from);
    let nodes = from.nodes.iter().map(|(host, port)| Address::new(host, *port)).collect();
    match from.mode {
        RedisMode::Standalone => Redis::standalone(settings),
        RedisMode::Cluster => Redis::cluster(settings, nodes),
        RedisMode::Sentinel => Redis::sentinel(settings, nodes, from.sentinel_master.clone().unwrap_or_default()),
    }
}

/// The name of this process in the journal's Redis.
pub fn holder() -> String {
    format!("{:016x}", ahash::RandomState::new().hash_one(std::process::id()))
}

/// The journal for a command that feeds nothing; None: there is no journal.
pub fn journal_alone(config: &Config) -> Result<Option<Journal>, cache::redis::SetupError> {
    // Its figures are nobody's.
    let Ok(metrics) = Metrics::new("") else { return Ok(None) };
    journal(config, &holder(), &metrics).map_err(cache::redis::SetupError::from)
}

/// The dead letters of the journal; None: there is no journal.
pub fn letters(config: &Config) -> Result<Option<Letters>, StartError> {
    Ok(journal_alone(config)?.map(Letters::new))
}
