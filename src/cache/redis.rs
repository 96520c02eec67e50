//! Redis as the cache. Standalone here; [`cluster`] and [`sentinel`] use the same sessions.
//!
//! Owns what the service asks of Redis: batches, writes with a version, scans, and how much they may bring. Connections,
//! pipelines and replies are the business of [`crate::redis`], and what is tried again, and when, of the caller.
//!
//! What a lost connection left behind is killed before any session to that server sends again ([`crate::redis`]): a scan
//! does not overtake what a writer left behind.
//!
//! # What the Redis user must be permitted
//!
//! `set`, `unlink`, `getrange`, `exists`, `strlen`, `get`, `scan`, `ping`, `client` (with its subcommands) and `info`; for
//! versions `evalsha` and `script|load`; `wait` if `wait_replicas` is set. With the keys under the version prefix. Logical
//! databases need `select`, a Redis Cluster `asking` and `cluster` (`slots`, `nodes`, `info`; for the list of a slot's keys
//! `countkeysinslot` and `getkeysinslot`, without which its node is scanned), Sentinel `role`.

mod batch;
mod cluster;
pub mod export;
mod scan;
mod sentinel;
mod session;
mod settings;
mod sharing;
mod split;
mod versioned;
mod wait;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use self::cluster::ClusterCache;
pub use self::sentinel::SentinelCache;
pub use self::session::RedisSession;
pub use self::settings::{CacheSettings, SetupError};
use self::versioned::VersionKeys;
use super::{Cache, CacheError, Room, Session, StreamError};
use crate::redis::{Error, NotStreamed, Server};

/// A Redis server. Cheap to clone; clones share what lost connections left behind.
#[derive(Clone)]
pub struct RedisCache {
    server: Arc<Server>,
    shared: Arc<CacheState>,
}

/// What all sessions of a cache share.
struct CacheState {
    version_keys: VersionKeys,
    wait_replicas: u32,
    room: Room,
    /// It was logged that Redis does not list the keys of a slot.
    told_not_listed: AtomicBool,
}

impl CacheState {
    fn new(settings: &CacheSettings, is_cluster: bool) -> Result<Arc<Self>, SetupError> {
        if settings.own_keys.version_prefix().is_empty() {
            return Err(SetupError::NoPrefix);
        }
        let (own, window) = (settings.own_keys.clone(), settings.version_window);
        Ok(Arc::new(CacheState {
            version_keys: VersionKeys { own, window, is_cluster },
            wait_replicas: settings.wait_replicas,
            room: settings.room.clone(),
            told_not_listed: AtomicBool::new(false),
        }))
    }
}

impl RedisCache {
    /// Connects to nothing.
    ///
    /// # Errors
    /// Settings that no cache can be built from.
    pub fn new(settings: impl Into<CacheSettings>) -> Result<Self, SetupError> {
        let settings = settings.into();
        let shared = CacheState::new(&settings, false)?;
        Ok(RedisCache { server: Server::standalone(settings.connection)?, shared })
    }
}

impl Cache for RedisCache {
    fn session(&self) -> Box<dyn Session> {
        let session = crate::redis::ServerSession::new(self.server.clone());
        Box::new(RedisSession::new(session, self.shared.clone()))
    }

    fn streaming_session(&self) -> Box<dyn Session> {
        let session = crate::redis::ServerSession::new(self.server.clone()).patient();
        Box::new(RedisSession::new(session, self.shared.clone()))
    }

    fn room(&self) -> &Room {
        &self.shared.room
    }

    fn describe(&self) -> String {
        self.server.settings().describe()
    }
}

impl From<NotStreamed> for StreamError {
    fn from(error: NotStreamed) -> Self {
        match error {
            NotStreamed::BrokeOff => StreamError::BrokeOff,
            NotStreamed::Failed(error) => StreamError::Cache(error.into()),
        }
    }
}

impl From<Error> for CacheError {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(cause) => CacheError::Unavailable(cause),
            Error::Unsupported(cause) => CacheError::Unsupported(cause),
            Error::RefusedForNow(cause) => CacheError::RefusedForNow(cause),
            Error::Down(cause) => CacheError::Down(cause),
            Error::Refused(cause) => CacheError::Refused(cause),
            Error::WrongType => CacheError::WrongType,
        }
    }
}

fn unavailable(reason: impl Into<std::borrow::Cow<'static, str>>) -> CacheError {
    CacheError::Unavailable(reason.into())
}

/// A reply that the command cannot have.
fn unexpected() -> CacheError {
    crate::redis::unexpected().into()
}
