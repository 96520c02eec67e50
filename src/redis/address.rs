//! Where a Redis node is, as it was set or as another node tells.

use std::fmt;
use std::sync::Arc;

/// Bytes of a host name or address, at most.
const MAX_HOST_BYTES: usize = 253;

/// A host, IPv6 without brackets, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// A name or an address.
    pub host: Arc<str>,
    /// The TCP port.
    pub port: u16,
}

impl Address {
    /// An address as the settings have it; nothing is resolved here.
    pub fn new(host: &str, port: u16) -> Self {
        Address { host: host.into(), port }
    }

    /// A host that a node tells. `Some(None)`: it leaves that out, and means itself; None: it makes no sense.
    pub(crate) fn read_host(host: &[u8]) -> Option<Option<String>> {
        if host.is_empty() || host == b"?" {
            return Some(None);
        }
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:%".contains(byte);
        let is_host = host.len() <= MAX_HOST_BYTES && host.iter().all(is_part);
        is_host.then(|| String::from_utf8_lossy(host).into_owned()).map(Some)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(out, "{open}{}{close}:{}", self.host, self.port)
    }
}
