//! How often something may be done for whoever asks.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many times at once, and as many again over a minute.
pub(super) struct MinuteLimit {
    per_minute: u32,
    /// What is left, and when that was counted.
    left: Mutex<(f64, Instant)>,
}

impl MinuteLimit {
    pub fn new(per_minute: u32) -> Self {
        MinuteLimit { per_minute, left: Mutex::new((f64::from(per_minute), Instant::now())) }
    }

    /// Whether it may be done now; if so, that is counted.
    pub fn take(&self, now: Instant) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, counted) = *left;
        let gained =
            now.saturating_duration_since(counted).as_secs_f64() * f64::from(self.per_minute) / MINUTE.as_secs_f64();
        let has = (before + gained).min(f64::from(self.per_minute));
        let may = has >= 1.0;
        *left = (if may { has - 1.0 } else { has }, now.max(counted));
        may
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_up_comes_back_over_a_minute() {
        let (pace, begun) = (MinuteLimit::new(6), Instant::now());
        let taken = |at: u64, times: usize| (0..times).filter(|_| pace.take(begun + Duration::from_secs(at))).count();
        assert_eq!((taken(0, 10), taken(9, 10), taken(30, 10), taken(300, 10)), (6, 0, 3, 6));
    }
}
