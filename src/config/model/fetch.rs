//! How blobs are downloaded, and from which hosts (`[fetch]`).

use std::time::Duration;

use rustls::pki_types::CertificateDer;
use serde::Deserialize;

use super::read::{listed, millis, optional};
use crate::blob::Proxy;
use crate::blob::guard::AllowedHosts;

/// How blobs are downloaded, and from which hosts (`[fetch]`).
#[derive(Debug, Clone, Deserialize)]
pub struct FetchConfig {
    /// Fetch actors, each with an HTTP client of its own (`fetch.pool_size`, 1 to 64). Live.
    pub pool_size: usize,
    /// In each actor of the pool.
    pub concurrency: usize,
    /// Fetches at once to one host, over all fetch actors (`fetch.per_host`). Live.
    pub per_host: usize,
    /// The time to connect to a blob's host (`fetch.connect_timeout_ms`).
    #[serde(rename = "connect_timeout_ms", deserialize_with = "millis")]
    pub connect_timeout: Duration,
    /// One attempt, up to its last byte.
    #[serde(rename = "timeout_ms", deserialize_with = "millis")]
    pub timeout: Duration,
    /// Attempts at most, the first one included (`fetch.attempts`, 1 to 100).
    pub attempts: u32,
    /// All attempts together.
    #[serde(rename = "deadline_ms", deserialize_with = "millis")]
    pub deadline: Duration,
    /// Bytes of one blob at most, decoded (`fetch.max_blob_bytes`); a larger one ends as `blob-too-large`.
    pub max_blob_bytes: usize,
    /// Longer blobs of known length go to Redis as they come in (`fetch.stream_bytes`); up to this they are held whole.
    pub stream_bytes: usize,
    /// The only hosts that blobs may come from (`fetch.allowed_hosts`); empty: any public host, on ports 80 and 443.
    /// Live.
    #[serde(default, deserialize_with = "listed")]
    pub allowed_hosts: AllowedHosts,
    /// None: blobs' hosts are called directly.
    #[serde(default, deserialize_with = "optional")]
    pub proxy: Option<Proxy>,
    /// Whether the hosts of blobs receive `traceparent` and `tracestate` (`fetch.propagate_trace`).
    pub propagate_trace: bool,
    /// The authorities of `fetch.ca_file`, trusted besides the usual ones.
    #[serde(skip)]
    pub extra_roots: Vec<CertificateDer<'static>>,
}
