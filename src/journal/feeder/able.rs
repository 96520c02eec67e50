//! Whether this replica's work reaches the cache. If it does not, the replica leaves the lease to others.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::Parts;

/// A holder that cannot reach the cache for so long lets others try: it may be alone in that.
const CACHE_LOST_AFTER: Duration = Duration::from_secs(2);
/// The same for one with an actor that gives no sign of life for so long.
const STALL: Duration = Duration::from_secs(4);
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why this replica cannot feed the journal.
pub enum Unable {
    /// The cache cannot be reached from here.
    CutOff,
    /// An actor of the pipeline hangs.
    Stuck,
}

/// Whether this replica may ask for the lease.
pub fn is_able(parts: &Parts) -> bool {
    parts.pipeline.readiness.is_cache_up() && !is_stuck(parts)
}

/// Ends once the cache has not been reached from here for [`CACHE_LOST_AFTER`], or an actor hangs.
pub async fn unable(parts: &Parts) -> Unable {
    let mut reached = Instant::now();
    while reached.elapsed() < CACHE_LOST_AFTER {
        sleep(LOOK_EVERY).await;
        if is_stuck(parts) {
            return Unable::Stuck;
        }
        if parts.pipeline.readiness.is_cache_up() {
            reached = Instant::now();
        }
    }
    Unable::CutOff
}

fn is_stuck(parts: &Parts) -> bool {
    !parts.pipeline.registry.stuck(STALL).is_empty()
}
