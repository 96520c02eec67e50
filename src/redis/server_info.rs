//! What a server says of itself in the greeting.

use bytes::Bytes;

use super::encode::Encoder;

/// The oldest Redis that is supported: it brought CLIENT INFO, which identifies a connection.
pub(crate) const MIN_RELEASE: (u32, u32) = (6, 2);

/// What a server says of itself, as far as it does.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerInfo {
    pub(crate) identity: Option<ConnectionId>,
    /// Whether this user may kill connections, its own of old among them.
    pub(crate) may_kill: bool,
    /// The `maxmemory-policy`; None: it evicts no keys, or does not say.
    pub(crate) eviction_policy: Option<String>,
    pub(crate) make: Option<Product>,
    /// `standalone`, `cluster` or `sentinel`.
    pub(crate) mode: Option<String>,
    /// The connection was closed over the questions, and has been made without them.
    pub(crate) is_minimal: bool,
}

/// The name of a server, and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Product {
    pub(crate) name: String,
    pub(crate) version: String,
}

impl Product {
    /// Whether it is Redis and too old. Others have versions of their own, and all began later.
    pub(crate) fn is_too_old(&self) -> bool {
        self.name == "redis" && self.release().is_some_and(|release| release < MIN_RELEASE)
    }

    /// Whether it is known to be of this release, major and minor, or a later one.
    pub(crate) fn is_at_least(&self, release: (u32, u32)) -> bool {
        self.release().is_some_and(|own| own >= release)
    }

    fn release(&self) -> Option<(u32, u32)> {
        let mut parts = self.version.split('.').map(|part| part.parse::<u32>().ok());
        Some((parts.next()??, parts.next()??))
    }
}

/// How the server knows a connection. The address (as the server sees it, so right behind a proxy too) makes it
/// exact: a restarted server counts its ids from the start, and another client may have got the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConnectionId {
    pub(crate) id: i64,
    pub(crate) address: Bytes,
}

impl ConnectionId {
    /// Adds the command that kills it, and nobody else.
    pub(super) fn kill(&self, encoder: &mut Encoder) {
        let ConnectionId { id, address } = self;
        encoder.pack(&[b"CLIENT", b"KILL", b"ID", itoa::Buffer::new().format(*id).as_bytes(), b"ADDR", address]);
    }
}
