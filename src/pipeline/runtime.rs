//! What keeps actors running: mailboxes, supervision with the panic guard, heartbeats, and pools of actors of one kind.
//! Nothing here knows what the actors do, and nothing outside of here knows actix's actors.

mod heartbeat;
mod mailbox;
mod notice;
mod pool;
mod registry;
mod stage;
mod tasks;
mod timer;

pub use actix_rt::{Arbiter as Thread, ArbiterHandle as ThreadHandle};

pub use self::heartbeat::Heartbeat;
pub use self::mailbox::Mailbox;
pub use self::notice::{DropNotice, Notifier};
pub use self::pool::{ActiveSet, MAX_POOL, Pool, WorkerThread};
pub use self::registry::ActorRegistry;
pub use self::stage::{Stage, StageContext};
pub use self::tasks::TaskSet;
