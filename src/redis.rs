//! A client for Redis: connections, pipelines and their replies, for one server, a Redis Cluster, and Redis Sentinel.
//!
//! It knows nothing of what the commands are for. What is tried again, and when, is for those who use it.
//!
//! # Why a connection of our own
//!
//! The `redis` crate packs the commands; sockets and replies are handled here, because
//! - its multiplexed connection copies a value three times on its way out and reads without a bound on size. Here a
//!   large value goes from where it lies to the socket, and comes back in the one buffer it was read to;
//! - taking back what was sent needs to know for sure what was sent and what was answered, a call dropped half-way
//!   included. One pipeline in flight, on a stream that one session alone holds, makes that one flag;
//! - its parser gives up on an error text that is not UTF-8, which Redis makes by cutting a long key in the middle.
//!
//! # No ghost writes
//!
//! A pipeline without its answers may still lie in a socket, and run after something newer. So when a connection is
//! given up while it owes replies, by a call that is dropped half-way too, its identity goes on a list that all
//! sessions to the server share, and none of them sends anything more before `CLIENT KILL` has been answered for
//! everything on the list. The list outlives sessions: one that takes the place of a lost one inherits what that left
//! behind. The limits: a user without the permission for `CLIENT ID`, `CLIENT INFO` or `CLIENT KILL` (warned about on
//! connecting), and an address behind which another server has taken over; the old one's writes are then its own affair.

mod address;
mod budget;
mod cause;
pub(crate) mod cluster;
mod connection;
mod encode;
mod error;
mod facts;
mod greeting;
mod lengths;
mod reply;
mod role;
pub(crate) mod sentinel;
mod server;
mod session;
mod settings;
pub mod slot;

pub use self::address::Address;
pub(crate) use self::budget::{Budget, extra};
pub(crate) use self::encode::Outbox;
pub use self::error::Error;
pub(crate) use self::error::unexpected;
pub(crate) use self::lengths::MAX_SURE_BYTES;
pub(crate) use self::reply::{CLUSTER_DOWN, Code, Frame, Hint, Redirect, too_long};
pub(crate) use self::server::{Server, Warning};
pub(crate) use self::session::Session;
pub use self::settings::{Access, Reread, Settings, SetupError, Tls};

/// A string in the answers to a connection's own commands, at most.
pub(crate) const MAX_OWN_BYTES: usize = 64 * 1024;
