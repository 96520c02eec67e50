//! HTTP: routes, what an outcome is as a status and a problem document, bearer tokens and
//! signatures, drain. Knows the pipeline by its
//! submitter and its health only.

mod answer;
mod answering;
mod auth;
mod body;
mod client;
mod events;
mod handed_over;
mod handshake;
mod host;
mod idle;
mod incoming;
mod journaled;
mod linger;
mod load;
mod notifications;
mod openapi;
mod page;
mod posters;
mod prefer;
mod probes;
mod problem;
mod progress;
mod read_ahead;
mod receive;
mod request;
mod request_ids;
mod routes;
mod sampled;
mod server;
mod slow;
mod sources;
mod state;
mod stream;
mod tls;
mod traced;
pub mod trust;
mod under_way;
mod unproven;
mod verdict_log;
mod webhook;
mod worker;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use self::auth::Auth;
pub use self::client::Proxies;
pub use self::page::peers::{AllPeers, AskPeers, PeerAnswer, PeerAnswers};
pub use self::server::{HttpServer, StartError};
pub use self::sources::SourceSettings;
pub use self::tls::{Pems, ServerTls, TlsError};
pub use self::trust::IssuerSettings;

use self::trust::FetchDocument;
use crate::telemetry::spans::Tracer;

/// The `http.*` settings and their neighbours.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// The address of the listeners (`bind`).
    pub bind: IpAddr,
    /// 0: a free one.
    pub port: u16,
    /// The port of probes and metrics, if they are not on `port`. 0: a free one.
    pub admin_port: Option<u16>,
    /// Threads that serve HTTP (`http.workers`).
    pub workers: usize,
    /// At once, divided among the workers.
    pub max_connections: usize,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// The names that `Host` may have, in lower case, while no authentication is configured (`http.hosts`).
    pub hosts: Vec<String>,
    /// The proxies that are trusted to name the client.
    pub proxies: Proxies,
    /// Whether clients of `port` must show a certificate.
    pub asks_for_certificates: bool,
    /// Bytes of all bodies together whose signature is not verified yet.
    pub max_unproven_bytes: usize,
    /// Bytes of one request's body, decompressed (`http.max_body_bytes`).
    pub max_body_bytes: usize,
    /// The time for a request's head to arrive (`http.head_timeout_ms`).
    pub head_timeout: Duration,
    /// The time for a request's body to arrive, and for an answer to be read (`http.body_timeout_ms`).
    pub body_timeout: Duration,
    /// The name of the Kubernetes cluster, or nothing.
    pub cluster: String,
    /// Whether there are pages for a person.
    pub page: bool,
    /// Who asks the other replicas, for the page; None: they are not known.
    pub peers: Option<Arc<dyn AskPeers>>,
    /// From SIGTERM to the end, at most.
    pub shutdown: Duration,
    /// An operation that took longer is told of (`log_slow_ms`).
    pub slow: Duration,
    /// Of the requests of one worker that went well, one in this many has its line in the log.
    pub lines_one_in: u32,
    /// Where the spans of sampled requests go; None: none are made.
    pub tracer: Option<Tracer>,
    /// So long without a sign of life, and an actor is stuck (`live.stall_seconds`).
    pub stall: Duration,
    /// Who may post to `/events`; its tokens and secrets may change while the server runs.
    pub auth: Arc<Auth>,
    /// Producers of notifications, at the start.
    pub sources: Vec<SourceSettings>,
    /// Who fetches the keys of others, for sources that accept what they signed.
    pub keys: Arc<dyn FetchDocument>,
    /// None: plain HTTP.
    pub tls: Option<Arc<ServerTls>>,
}
