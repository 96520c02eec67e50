//! What the service shows of itself: [`logging`] and [`metrics`]. Owns the names of every metric and the shape of a log
//! line; what is worth counting or saying is decided where it happens.

mod line;
pub mod logging;
pub mod metrics;
mod series;

pub use self::metrics::{ActorKind, Metrics};
