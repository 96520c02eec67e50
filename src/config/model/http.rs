//! The listeners (`[http]`).

use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::read::{millis, networks, seconds};
use crate::config::tls::{TlsFiles, TlsPems};

/// The files of the listener's TLS, and what they held at the start.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    /// The paths, for the reload that looks at them again.
    pub files: TlsFiles,
    /// The contents at the start, for the first handshakes.
    pub held: TlsPems,
}

/// The listeners, their limits and their timeouts (`[http]`).
#[derive(Debug, Clone, Deserialize)]
pub struct HttpConfig {
    /// None: plain HTTP.
    #[serde(skip)]
    pub tls: Option<ListenerTls>,
    /// Threads that serve HTTP (`http.workers`, 1 to 1,024); one for each core by default.
    pub workers: usize,
    /// Bytes of one request's body at most, decompressed (`http.max_body_bytes`); a larger one is answered 413.
    pub max_body_bytes: usize,
    /// Bytes of all values of one answer at most (`http.max_answer_bytes`); a GET beyond it ends as
    /// `answer-too-large`.
    pub max_answer_bytes: usize,
    /// The time for a request's head to arrive (`http.head_timeout_ms`).
    #[serde(rename = "head_timeout_ms", deserialize_with = "millis")]
    pub head_timeout: Duration,
    /// The time for a request's body to arrive, and for the sender to read its answer (`http.body_timeout_ms`); a
    /// large answer gets more.
    #[serde(rename = "body_timeout_ms", deserialize_with = "millis")]
    pub body_timeout: Duration,
    /// Names by which an open service may be called.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Proxies whose `Forwarded` or `X-Forwarded-For` is believed (`http.trusted_proxies`). The log then names the
    /// client behind them.
    #[serde(default, deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// Connections at once at most, divided among the workers (`http.max_connections`); further ones wait in the
    /// kernel.
    pub max_connections: usize,
    /// How long an idle connection is kept (`http.keep_alive_seconds`): longer than load balancers keep theirs, or a
    /// request can meet a closed connection.
    #[serde(rename = "keep_alive_seconds", deserialize_with = "seconds")]
    pub keep_alive: Duration,
    /// Whether there are pages for a person.
    pub page: bool,
    /// URLs at which the page finds the other replicas (`http.peers`): each address of their hosts is one.
    #[serde(default)]
    pub peers: Vec<String>,
    /// The time to drain after SIGTERM (`http.shutdown_seconds`); what is unfinished then is answered `shutting-down`.
    #[serde(rename = "shutdown_seconds", deserialize_with = "seconds")]
    pub shutdown: Duration,
}
