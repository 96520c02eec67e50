//! A client for Redis: connections, pipelines and their replies, for one server, a Redis Cluster, and Redis Sentinel.
//!
//! It knows nothing of what the commands are for. What is tried again, and when, is for those who use it.
//!
//! # Calls to the keys of one slot
//!
//! [`Redis`] is one server, a cluster, or a master by Sentinel. A [`Client`] of it is one ordered line to whoever has the keys
//! of one slot now, on a connection of its own. [`Client::call`] sends a [`CommandPipeline`] and has a [`Value`] for each command.
//! It is one attempt, within [`PipelineLimits`]. After a failure the next call looks for the server anew, and first puts an end to what
//! may still be carried out of the failed one.
//!
//! [`Redis::kill_clients`] does that for another process, by the name of its connections ([`Settings::client_name`]):
//! whoever takes over from it begins when nothing of it is under way any more.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use redis_cache_sync::redis::{PipelineLimits, CommandPipeline, Redis, Settings, Value};
//!
//! let redis = Redis::standalone(Settings::new("localhost", 6379))?;
//! // All keys of the client have the same hash tag: in a cluster they are in one slot.
//! let mut appending = redis.client(b"{journal}");
//! let mut pipeline = CommandPipeline::new();
//! pipeline.command(&[b"XADD", b"{journal}:events", b"*", b"event", b"..."]);
//! // The server itself waits up to 100 ms for one replica.
//! pipeline.command(&[b"WAIT", b"1", b"100"]);
//! let limits = PipelineLimits { block: Duration::from_millis(100), ..PipelineLimits::within(Duration::from_secs(2)) };
//! match appending.call(&pipeline, limits).await {
//!     Ok(replies) => match &replies[..] {
//!         [Value::Bulk(id), Value::Integer(1..)] => println!("{} is safe", String::from_utf8_lossy(id)),
//!         [Value::Error(code), ..] => println!("{}", code.to_error("XADD")),
//!         _ => println!("too few replicas"),
//!     },
//!     Err(error) => println!("{error}: it was carried out, or will not be once the next call has been"),
//! }
//!
//! // A blocking read has a client of its own, for a call holds up whatever else the client is to do.
//! let mut reading = redis.client(b"{journal}");
//! let mut read = CommandPipeline::new();
//! read.command(&[b"XREAD", b"COUNT", b"100", b"BLOCK", b"5000", b"STREAMS", b"{journal}:events", b"$"]);
//! let limits = PipelineLimits { block: Duration::from_secs(5), ..PipelineLimits::within(Duration::from_secs(10)) };
//! let entries = reading.call(&read, limits).await?;
//! # Ok(()) }
//! ```
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
mod cause;
mod client;
pub(crate) mod cluster;
mod connection;
mod deadline;
mod encode;
mod error;
mod error_code;
mod greeting;
mod length_limit;
mod named;
mod pipeline;
mod reply;
mod role;
pub(crate) mod sentinel;
mod server;
mod server_info;
mod session;
mod settings;
pub mod slot;
mod value;

pub use self::address::Address;
pub use self::client::{Client, Redis};
pub(crate) use self::connection::Streamed;
pub(crate) use self::deadline::{Deadline, time_for_bytes};
pub(crate) use self::encode::Encoder;
pub use self::error::Error;
pub(crate) use self::error::unexpected;
pub use self::error_code::Code;
pub(crate) use self::error_code::{CLUSTER_DOWN, Hint, Redirect, too_long};
pub(crate) use self::length_limit::MAX_SURE_BYTES;
pub use self::pipeline::{CommandPipeline, PipelineLimits};
pub(crate) use self::reply::Frame;
pub(crate) use self::server::{Server, Warning};
pub(crate) use self::server_info::Product;
pub(crate) use self::session::{NotStreamed, ServerSession};
pub use self::settings::{PasswordReader, SentinelAccess, Settings, SetupError, TlsSettings};
pub use self::value::Value;

/// A string in the answers to a connection's own commands, at most.
pub(crate) const MAX_OWN_BYTES: usize = 64 * 1024;
