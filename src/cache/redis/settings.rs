//! The settings of a cache on Redis, besides how Redis is reached.

use std::time::Duration;

use crate::cache::Room;
use crate::event::OwnKeys;
use crate::redis::{self, Settings};

/// Everything that a cache on Redis needs to know. From [`Settings`] alone it has the defaults of the `redis.*` settings.
#[derive(Debug, Clone)]
pub struct CacheSettings {
    /// How Redis is reached. [`Settings::down_after`] is how long the caller tries an operation.
    pub connection: Settings,
    /// Replicas that must acknowledge a write before it counts; 0: none.
    pub wait_replicas: u32,
    /// Keys that belong to the service and are left out of scans. What those of versions begin with is not empty and has no braces.
    pub own_keys: OwnKeys,
    /// How long a version is kept after the last write that had one; whole seconds.
    pub version_window: Duration,
    /// For large values that are read.
    pub room: Room,
}

impl From<Settings> for CacheSettings {
    fn from(connection: Settings) -> Self {
        CacheSettings {
            connection,
            wait_replicas: 0,
            own_keys: OwnKeys::new("rcs:v:", "rcs:journal"),
            version_window: Duration::from_secs(86_400),
            room: Room::default(),
        }
    }
}

/// Why no cache can be built from these settings. Never repeats a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Redis cannot be reached by these settings.
    #[error(transparent)]
    Connection(#[from] redis::SetupError),
    /// `redis.version_prefix` is empty: the service's keys could not be told from others.
    #[error("the service needs a `version_prefix` for keys of its own")]
    NoPrefix,
}
