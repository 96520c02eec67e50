//! Downloading blobs. Owns the HTTP client, the guard on addresses, the size cap and the decision whether to try again;
//! knows nothing of Redis or actors. When to fetch what is decided in the pipeline.

pub mod address;
mod answer;
mod aside;
mod caller;
pub mod client;
mod connector;
mod decode;
mod decoding;
mod dial;
mod download;
mod framing;
pub mod guard;
pub mod lookups;
pub mod own_thread;
mod proxy;
mod resource;
pub mod retry;
mod signs;
pub mod store;

pub use self::client::{BlobClient, BlobRequest, Opened, Unless};
pub use self::download::Download;
pub use self::proxy::Proxy;

use std::time::Duration;

use rustls::pki_types::CertificateDer;

use self::guard::AllowedHosts;
use self::store::{Refusal, Stores};
use crate::event::expected::Difference;

/// The `fetch.*` settings that a single attempt needs.
#[derive(Debug, Clone, PartialEq)]
pub struct BlobSettings {
    /// The only hosts that blobs may come from (`fetch.allowed_hosts`); empty: any public host, on ports 80 and 443.
    pub allowed_hosts: AllowedHosts,
    /// PEM roots beside the usual ones (`fetch.ca_file`), already read.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// The time to connect to a host (`fetch.connect_timeout_ms`).
    pub connect_timeout: Duration,
    /// One attempt, from its start up to the last byte of the body.
    pub attempt_timeout: Duration,
    /// Decoded bytes of one blob, at most.
    pub max_blob_bytes: usize,
    /// Connections one client keeps open, at most.
    pub max_connections: usize,
    /// Between us and the hosts (`fetch.proxy`).
    pub proxy: Option<Proxy>,
    /// Where objects of stores are, and how they are asked for (`stores.NAME`).
    pub stores: Stores,
    /// Whether hosts are told of the trace that a fetch belongs to (`fetch.propagate_trace`).
    pub propagate_trace: bool,
}

/// Why an attempt brought no blob. `detail` never holds a query string.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct FetchError {
    /// What went wrong; it decides whether another attempt is made and which problem the sender sees.
    pub kind: FetchErrorKind,
    /// What happened, for the log and the answer.
    pub detail: String,
    /// Why a store refused it, where the store says.
    pub refusal: Option<Refusal>,
    /// What the server asked for in `Retry-After`, counted from now.
    pub retry_after: Option<Duration>,
    /// The host gave no sign of life for the whole attempt: no connection and no byte of a response.
    pub silent: bool,
    /// The host was not called: what comes before that took the attempt's time, or could not be had.
    pub unasked: bool,
    /// It was another host that failed, to which the first one had sent us.
    pub elsewhere: bool,
}

/// The ways in which an attempt at a blob can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchErrorKind {
    /// The guard refused the URL or an address it resolves to; nothing was sent there.
    Forbidden,
    /// The host answered 404 or 410.
    NotFound,
    /// It is not any more what was asked for: 409 and 412.
    Changed,
    /// The host refused for good: another 4xx, or a response that cannot be used.
    Denied,
    /// The blob has more than [`BlobSettings::max_blob_bytes`].
    TooLarge,
    /// The only kind that is worth another attempt.
    Unavailable,
}

impl FetchError {
    pub(in crate::blob) fn new(kind: FetchErrorKind, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        FetchError { kind, detail, refusal: None, retry_after: None, silent: false, unasked: false, elsewhere: false }
    }

    /// Others are passed on to the cache, and none of them has ended in time.
    pub fn no_place() -> Self {
        FetchError::unavailable("too many large blobs are passed on to the cache at once")
    }

    /// The time for it had run out before its last byte was passed on.
    pub fn too_late() -> Self {
        FetchError::unavailable("the body did not arrive in time")
    }

    /// The cache did not take the blob in.
    pub fn not_passed_on(cause: impl Into<String>) -> Self {
        FetchError::unavailable(cause)
    }

    /// The blob is not what it must be. A mirror may lag behind, so another attempt may bring it.
    pub fn differs(difference: Difference) -> Self {
        FetchError::unavailable(difference.to_string())
    }

    pub(in crate::blob) fn unavailable(detail: impl Into<String>) -> Self {
        FetchError::new(FetchErrorKind::Unavailable, detail)
    }
}

impl From<guard::Forbidden> for FetchError {
    fn from(forbidden: guard::Forbidden) -> Self {
        FetchError::new(FetchErrorKind::Forbidden, forbidden.to_string())
    }
}

/// Why no client could be made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SetupError {
    /// `number` counts from 1.
    #[error("certificate {number} of `fetch.ca_file` is not a usable root: {reason}")]
    Root {
        /// The place of the certificate in the file, counted from 1.
        number: usize,
        /// What the TLS library says of it.
        reason: String,
    },
    /// The TLS library cannot be set up at all; the text is its own.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

#[cfg(test)]
mod tests;
