//! What all sessions to one Redis server share: how it is reached, what is known of it, and which connections were given up
//! while they owed replies.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::warn;

use super::MAX_OWN_BYTES;
use super::address::Address;
use super::connection::Connection;
use super::encode::Encoder;
use super::error::Error;
use super::length_limit::LengthLimit;
use super::reply::Frame;
use super::server_info::{ConnectionId, ServerInfo};
use super::settings::{Settings, SetupError, TlsClient};

/// What part a server plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The one server of a standalone Redis.
    Standalone,
    /// A node of a Redis Cluster.
    ClusterNode,
    /// What sentinels call the master.
    Master,
    /// A sentinel.
    Sentinel,
}

/// Something about a server that a person is told once in the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Warning {
    /// Connections cannot be killed: lost writes cannot be taken back.
    GhostWrites = 1,
    /// The server is too old, or does not say how old it is.
    Release = 2,
    /// Memory may be freed by deleting keys that nobody deleted.
    Eviction = 4,
}

/// One server, by its address. Sessions share it; it outlives them.
pub(crate) struct Server {
    pub(super) settings: Settings,
    pub(super) tls: Option<TlsClient>,
    pub(super) role: Role,
    /// The node of the cluster that gave the address; None: the settings did.
    pub(super) address_source: Option<Address>,
    /// Requests that sessions have begun, as they count them.
    requests: AtomicU64,
    /// The warnings that were given, as bits.
    warned: AtomicU8,
    /// How long a value it takes.
    length_limit: Mutex<LengthLimit>,
    /// Whether the last connection could have been killed.
    may_kill: AtomicBool,
    /// Connections that were given up with something unanswered. At most one for every connection there was.
    abandoned: Mutex<Vec<ConnectionId>>,
}

impl Server {
    pub(super) fn new(settings: Settings, tls: Option<TlsClient>, role: Role) -> Self {
        Server {
            settings,
            tls,
            role,
            address_source: None,
            requests: AtomicU64::new(0),
            warned: AtomicU8::new(0),
            length_limit: Mutex::default(),
            may_kill: AtomicBool::new(true),
            abandoned: Mutex::default(),
        }
    }

    /// The one server of a standalone Redis. Connects to nothing.
    ///
    /// # Errors
    /// What TLS cannot use of the settings.
    pub(crate) fn standalone(settings: Settings) -> Result<Arc<Self>, SetupError> {
        let tls = settings.tls_client()?;
        Ok(Arc::new(Server::new(settings, tls, Role::Standalone)))
    }

    /// The same settings towards one address of several.
    pub(super) fn at(
        settings: &Settings,
        tls: Option<&TlsClient>,
        address: &Address,
        role: Role,
    ) -> Result<Self, SetupError> {
        let tls = tls.map(|tls| tls.towards(&address.host)).transpose()?;
        let host = address.host.as_ref().to_owned();
        Ok(Self::new(Settings { host, port: address.port, ..settings.clone() }, tls, role))
    }

    /// The same server, with the node of the cluster that gave its address.
    pub(super) fn address_source(self, node: Option<Address>) -> Self {
        Server { address_source: node, ..self }
    }

    /// How it is reached.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The server and who gave its address, for a message.
    pub(super) fn name(&self) -> String {
        let Settings { host, port, .. } = &self.settings;
        let address = Address::new(host, *port);
        match self.role {
            Role::Standalone => format!("redis at {address}"),
            Role::ClusterNode => match &self.address_source {
                Some(node) => format!("the node of the cluster at {address} (as the node at {node} says)"),
                None => format!("the node of the cluster at {address} (as the settings say)"),
            },
            Role::Master => format!("the master at {address} (as the sentinels say)"),
            Role::Sentinel => format!("the sentinel at {address} (of redis.nodes)"),
        }
    }

    /// A session begins a request: work in the background makes way for those.
    pub(crate) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests were counted since the server was first known.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Whether the warning has not been given yet; from now on it has.
    pub(crate) fn is_first(&self, warning: Warning) -> bool {
        let bit = warning as u8;
        self.warned.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    /// What is known of the longest value that it takes.
    pub(crate) fn length_limit(&self) -> MutexGuard<'_, LengthLimit> {
        self.length_limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a connection that was given up while it owed replies.
    pub(super) fn abandon(&self, identity: ConnectionId) {
        self.abandoned().push(identity);
    }

    /// Whether there are connections still to be killed.
    pub(super) fn has_abandoned(&self) -> bool {
        !self.abandoned().is_empty()
    }

    /// Whether lost connections can be killed, by what is known.
    pub(super) fn may_kill(&self) -> bool {
        self.may_kill.load(Ordering::Relaxed)
    }

    fn abandoned(&self) -> MutexGuard<'_, Vec<ConnectionId>> {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes back what lost connections left behind. Fails if the server did not answer that: then all of it is still to be
    /// done. The list is not locked meanwhile, so two sessions may both kill the same connection: no harm.
    pub(super) async fn kill_abandoned(&self, connection: &mut Connection, within: Duration) -> Result<(), Error> {
        let owed = match self.abandoned() {
            abandoned if abandoned.is_empty() => return Ok(()),
            abandoned => abandoned.clone(),
        };
        let mut encoder = Encoder::new();
        owed.iter().for_each(|identity| identity.kill(&mut encoder));
        let mut frames = Vec::new();
        connection.exchange(encoder, MAX_OWN_BYTES, within.min(self.settings.response_timeout), &mut frames).await?;
        for frame in frames {
            if let Frame::Error(code) = frame
                && code.is_passing()
            {
                return Err(code.to_error("CLIENT KILL"));
            }
        }
        self.abandoned().retain(|identity| !owed.contains(identity));
        Ok(())
    }

    /// Takes note of what the server has said of itself, and says once what it does not let be safe.
    pub(super) fn take_note(&self, info: &ServerInfo) {
        self.may_kill.store(info.identity.is_some() && info.may_kill, Ordering::Relaxed);
        if self.role == Role::Sentinel {
            return;
        }
        let redis = self.settings.describe();
        let redis = redis.as_str();
        if info.is_minimal {
            if self.is_first(Warning::GhostWrites) {
                warn!(redis; "redis, or a proxy in front of it, closes connections that send HELLO, CLIENT or INFO: its version is unknown, and after a lost connection an old write may overwrite a newer one");
            }
            return;
        }
        if !self.may_kill() && self.is_first(Warning::GhostWrites) {
            warn!(redis; "redis forbids CLIENT ID, CLIENT INFO or CLIENT KILL: after a lost connection an old write may overwrite a newer one");
        }
        if info.make.is_none() && self.is_first(Warning::Release) {
            warn!(redis; "the version of redis is unknown: the service needs Redis 6.2, Valkey 7.2 or later");
        }
    }
}
