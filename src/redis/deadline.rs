//! How long a call may take.

use std::time::Duration;

use tokio::time::Instant;

/// A call gets one second more for each this many bytes.
const BYTES_A_SECOND: u64 = 4 * 1024 * 1024;
/// The longest time of a call.
const MAX_CALL: Duration = Duration::from_secs(3600);

/// The time that a call has.
pub(crate) struct Deadline {
    until: Instant,
}

impl Deadline {
    pub(crate) fn new(within: Duration) -> Self {
        Deadline { until: Instant::now() + within.min(MAX_CALL) }
    }

    pub(crate) fn extend(&mut self, bytes: usize) {
        self.until += time_for_bytes(bytes);
    }

    pub(crate) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// The time that moving these bytes adds.
pub(crate) fn time_for_bytes(bytes: usize) -> Duration {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    Duration::from_millis(bytes.saturating_mul(1000) / BYTES_A_SECOND)
}
