//! Whether what this replica hands to its pipeline gets to the cache: one where it does not leaves the lease to others.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::Parts;
use super::hold::{Stop, TICK};

/// A holder that cannot reach the cache for so long lets others try: it may be alone in that.
const CUT_OFF: Duration = Duration::from_secs(2);
/// The same for one with an actor that gives no sign of life for so long.
const STALL: Duration = Duration::from_secs(4);

/// Whether this replica may ask for the lease.
pub fn is_able(parts: &Parts) -> bool {
    parts.pipeline.readiness.is_cache_up() && !is_stuck(parts)
}

/// Ends once the cache has not been reached from here for [`CUT_OFF`], or an actor hangs.
pub async fn unable(parts: &Parts) -> Stop {
    let mut reached = Instant::now();
    while reached.elapsed() < CUT_OFF {
        sleep(TICK).await;
        if is_stuck(parts) {
            return Stop::Stuck;
        }
        if parts.pipeline.readiness.is_cache_up() {
            reached = Instant::now();
        }
    }
    Stop::CutOff
}

fn is_stuck(parts: &Parts) -> bool {
    !parts.pipeline.registry.stuck(STALL).is_empty()
}
