//! What the service shows of itself: [`logging`] with [`outage`]s, [`metrics`], [`spans`], and [`history`] of the last minutes. Owns the names of every
//! metric and the shape of a log line; what is worth counting or saying is decided where it happens.

pub mod history;
mod line;
pub mod logging;
pub mod metrics;
pub mod outage;
mod series;
pub mod spans;

pub use self::metrics::{ActorKind, Metrics};
