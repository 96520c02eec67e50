//! The cache as the settings say, and how a Redis is reached.

use std::path::PathBuf;
use std::sync::Arc;

use super::StartError;
use crate::cache::embedded::EmbeddedCache;
use crate::cache::redis::{CacheSettings, ClusterCache, RedisCache, SentinelCache, SetupError};
use crate::cache::{Cache, Room};
use crate::config::{self, CacheBackend, Config, RedisMode};
use crate::event::OwnKeys;
use crate::journal::connection_name;
use crate::redis::{self, Address};

/// The cache of `cache.backend`. `holder`: by what this process is known in the journal; its connections have that in their name.
pub fn cache(config: &Config, holder: &str) -> Result<Arc<dyn Cache>, StartError> {
    if config.cache.backend == CacheBackend::Embedded {
        let prefix = config.redis.version_prefix.clone();
        return Ok(Arc::new(EmbeddedCache::new(config.cache.max_bytes, prefix, config.redis.version_window)));
    }
    Ok(named_cache(config, connection_name(holder))?)
}

/// Redis as the settings say, whatever the backend.
pub fn redis_cache(config: &Config) -> Result<Arc<dyn Cache>, SetupError> {
    named_cache(config, redis::Settings::CLIENT_NAME.to_owned())
}

/// The same with this name for its connections.
fn named_cache(config: &Config, client_name: String) -> Result<Arc<dyn Cache>, SetupError> {
    let from = &config.redis;
    let settings = CacheSettings {
        connection: redis::Settings { client_name, ..connection(from) },
        wait_replicas: from.wait_replicas,
        own_keys: OwnKeys::new(&from.version_prefix, &config.journal.name),
        version_window: from.version_window,
        room: Room::default(),
    };
    let nodes = from.nodes.iter().map(|(host, port)| Address::new(host, *port)).collect();
    Ok(match from.mode {
        RedisMode::Standalone => Arc::new(RedisCache::new(settings)?),
        RedisMode::Cluster => Arc::new(ClusterCache::new(settings, nodes)?),
        RedisMode::Sentinel => {
            let name = from.sentinel_master.clone().unwrap_or_default();
            Arc::new(SentinelCache::new(settings, nodes, name)?)
        }
    })
}

/// How a Redis is reached.
pub fn connection(from: &config::RedisConfig) -> redis::Settings {
    let with_tls =
        || redis::TlsSettings { ca: from.tls_ca.clone(), cert: from.tls_cert.clone(), key: from.tls_key.clone() };
    let reread = |path: &Option<PathBuf>| {
        let path = path.clone()?;
        Some(redis::PasswordReader::new(move || config::password_in(&path)))
    };
    let sentinels = redis::SentinelAccess {
        username: from.sentinel_username.clone(),
        password: from.sentinel_password.clone(),
        reread: reread(&from.sentinel_password_file),
        tls: from.sentinel_tls.unwrap_or(from.tls).then(with_tls),
    };
    redis::Settings {
        host: from.host.clone(),
        port: from.port,
        tls: from.tls.then(with_tls),
        username: from.username.clone(),
        client_name: redis::Settings::CLIENT_NAME.to_owned(),
        password: from.password.clone(),
        reread: reread(&from.password_file),
        sentinels: Some(sentinels),
        db: from.db,
        connect_timeout: from.connect_timeout,
        response_timeout: from.response_timeout,
        down_after: from.retry,
    }
}
