//! Redis: the cache as the service is made for. Standalone here; [`cluster`] and [`sentinel`] are made of the same sessions.
//!
//! Owns connections, pipelines, the bounds on what is read, and the classes of errors. What is tried again, and when, is
//! for the caller.
//!
//! # Why a connection of our own
//!
//! The `redis` crate packs the commands; sockets and replies are handled here, because
//! - its multiplexed connection copies a value three times on its way out and reads without a bound on size. Here a
//!   large value goes from where it lies to the socket, and comes back in the one buffer it was read to;
//! - taking back what was sent needs to know for sure what was sent and what was answered, a call dropped half-way
//!   included. One pipeline in flight, on a stream that this session alone holds, makes that one flag;
//! - its parser gives up on an error text that is not UTF-8, which Redis makes by cutting a long key in the middle.
//!
//! # No ghost writes
//!
//! A pipeline without its answers may still lie in a socket, and run after something newer. So when a connection is
//! given up while it owes replies, by a call that is dropped half-way too, its identity goes on a list that all
//! sessions of the cache share, and none of them sends anything more before `CLIENT KILL` has been answered for
//! everything on the list. The list outlives sessions: one that takes the place of a lost one inherits what that left
//! behind, and a scan does not overtake what a writer left behind. The limits: a user without the
//! permission for `CLIENT ID`, `CLIENT INFO` or `CLIENT KILL` (warned about on connecting), and an address behind which another server
//! has taken over; the old one's writes are then its own affair.
//!
//! # What the Redis user must be permitted
//!
//! `set`, `unlink`, `getrange`, `exists`, `strlen`, `get`, `scan`, `ping`, `client` (with its subcommands) and `info`; for
//! versions `evalsha` and `script|load`; `wait` if `wait_replicas` is set. With the keys under the version prefix. Logical
//! databases need `select`, a Redis Cluster `asking` and `cluster` (`slots`, `nodes`, `info`), Sentinel `role`.

mod address;
mod batch;
mod budget;
mod cause;
mod cluster;
mod connection;
mod encode;
pub mod export;
mod facts;
mod greeting;
mod guarded;
mod lengths;
mod parts;
mod reply;
mod scan;
mod sentinel;
mod session;
mod settings;
mod sharing;
mod wait;

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use self::address::Address;
pub use self::cluster::ClusterCache;
use self::connection::Connection;
use self::encode::Outbox;
use self::facts::Identity;
use self::guarded::Guard;
use self::lengths::Lengths;
use self::reply::Frame;
pub use self::sentinel::SentinelCache;
pub use self::session::RedisSession;
use self::settings::TlsClient;
pub use self::settings::{Access, Reread, Settings, SetupError, Tls};
use super::{Cache, CacheError, Room, Session};

/// A string in the answers to a connection's own commands, at most.
const MAX_OWN_BYTES: usize = 64 * 1024;

/// A Redis server. Cheap to clone; clones share what lost connections left behind.
#[derive(Clone)]
pub struct RedisCache {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    tls: Option<TlsClient>,
    guard: Guard,
    part: Part,
    /// The node of the cluster that gave the address; None: the settings did.
    told_by: Option<Address>,
    /// Batches that sessions have begun: tells a scan that others are served.
    batches: AtomicU64,
    warned_of_ghosts: AtomicBool,
    warned_of_eviction: AtomicBool,
    warned_of_version: AtomicBool,
    /// How long a value it takes.
    lengths: Mutex<Lengths>,
    /// Connections that were given up with something unanswered. At most one for every connection there was.
    debts: Mutex<Vec<Identity>>,
}

impl RedisCache {
    /// Checks the settings; connects to nothing.
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        let tls = checked(&settings)?;
        Ok(RedisCache { shared: Arc::new(Shared::new(settings, tls, Part::Alone)) })
    }
}

/// What kind of Redis a server is a part of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Alone,
    OfCluster,
    /// What sentinels call the master.
    Master,
    Sentinel,
}

/// Checks settings; with what TLS needs towards their host.
fn checked(settings: &Settings) -> Result<Option<TlsClient>, SetupError> {
    if settings.version_prefix.is_empty() {
        return Err(SetupError::NoPrefix);
    }
    settings.tls.as_ref().map(|tls| TlsClient::new(tls, &settings.host)).transpose()
}

impl Cache for RedisCache {
    fn session(&self) -> Box<dyn Session> {
        Box::new(RedisSession::new(self.shared.clone()))
    }

    fn room(&self) -> &Room {
        &self.shared.settings.room
    }

    fn describe(&self) -> String {
        self.shared.settings.describe()
    }
}

impl Shared {
    fn new(settings: Settings, tls: Option<TlsClient>, part: Part) -> Self {
        let (prefix, window) = (settings.version_prefix.clone(), settings.version_window);
        Shared {
            settings,
            tls,
            guard: Guard { prefix, window, is_cluster: part == Part::OfCluster },
            part,
            told_by: None,
            batches: AtomicU64::new(0),
            warned_of_ghosts: AtomicBool::new(false),
            warned_of_eviction: AtomicBool::new(false),
            warned_of_version: AtomicBool::new(false),
            lengths: Mutex::default(),
            debts: Mutex::default(),
        }
    }

    /// The same settings towards one address of several.
    fn at(settings: &Settings, tls: Option<&TlsClient>, address: &Address, part: Part) -> Result<Self, SetupError> {
        let tls = tls.map(|tls| tls.towards(&address.host)).transpose()?;
        let host = address.host.as_ref().to_owned();
        Ok(Self::new(Settings { host, port: address.port, ..settings.clone() }, tls, part))
    }

    /// The server and who gave its address, for a message.
    fn name(&self) -> String {
        let Settings { host, port, .. } = &self.settings;
        let address = Address::new(host, *port);
        match self.part {
            Part::Alone => format!("redis at {address}"),
            Part::OfCluster => match &self.told_by {
                Some(node) => format!("the node of the cluster at {address} (as the node at {node} says)"),
                None => format!("the node of the cluster at {address} (as the settings say)"),
            },
            Part::Master => format!("the master at {address} (as the sentinels say)"),
            Part::Sentinel => format!("the sentinel at {address} (of redis.nodes)"),
        }
    }

    fn debts(&self) -> MutexGuard<'_, Vec<Identity>> {
        self.debts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lengths(&self) -> MutexGuard<'_, Lengths> {
        self.lengths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes back what lost connections left behind. Fails if the server did not answer that: then all of it is owed
    /// still. The list is not locked meanwhile, so two sessions may both kill the same connection: no harm.
    async fn pay(&self, connection: &mut Connection, within: Duration) -> Result<(), CacheError> {
        let owed = match self.debts() {
            debts if debts.is_empty() => return Ok(()),
            debts => debts.clone(),
        };
        let mut outbox = Outbox::new();
        for Identity { id, address } in &owed {
            outbox.command(|cmd| cmd.arg("CLIENT").arg("KILL").arg("ID").arg(*id).arg("ADDR").arg(&address[..]));
        }
        let mut frames = Vec::new();
        let within = within.min(self.settings.response_timeout);
        connection.exchange(outbox, MAX_OWN_BYTES, within, &mut frames).await?;
        for frame in frames {
            if let Frame::Error(code) = frame
                && code.is_passing()
            {
                return Err(code.to_error("CLIENT KILL"));
            }
        }
        self.debts().retain(|debt| !owed.contains(debt));
        Ok(())
    }
}
