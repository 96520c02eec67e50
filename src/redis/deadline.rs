//! How long a call may take.

use std::time::Duration;

use tokio::time::Instant;

/// A call is given a second more for each of these.
const BYTES_A_SECOND: u64 = 4 * 1024 * 1024;
/// No call is given longer, whatever it asks for.
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

/// What moving so many bytes adds to the time for a reply.
pub(crate) fn time_for_bytes(bytes: usize) -> Duration {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    Duration::from_millis(bytes.saturating_mul(1000) / BYTES_A_SECOND)
}
