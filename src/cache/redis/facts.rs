//! What a server says of itself in the greeting.

use bytes::Bytes;

/// The oldest Redis that is worked with: CLIENT INFO, by which a lost connection is told apart, came with it.
pub(super) const OLDEST: (u32, u32) = (6, 2);

/// What a server says of itself, as far as it does.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) identity: Option<Identity>,
    /// Whether this user may kill connections, its own of old among them.
    pub(super) may_kill: bool,
    /// The policy by which it evicts keys that it was not told to delete.
    pub(super) evicts: Option<String>,
    pub(super) make: Option<Make>,
    /// `standalone`, `cluster` or `sentinel`.
    pub(super) mode: Option<String>,
    /// The connection was closed over the questions, and has been made without them.
    pub(super) is_bare: bool,
}

/// The name of a server, and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Make {
    pub(super) name: String,
    pub(super) version: String,
}

impl Make {
    /// Whether it is Redis and too old. Others have versions of their own, and all began later.
    pub(super) fn is_too_old(&self) -> bool {
        let mut parts = self.version.split('.').map(|part| part.parse::<u32>().ok());
        match (parts.next().flatten(), parts.next().flatten()) {
            (Some(major), Some(minor)) => self.name == "redis" && (major, minor) < OLDEST,
            _ => false,
        }
    }
}

/// By what the server knows a connection. The address (as the server sees it, so right behind a proxy too) makes it
/// exact: a restarted server counts its ids from the start, and another client may have got the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: i64,
    pub(super) address: Bytes,
}
