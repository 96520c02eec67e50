//! How long one step of a command over Redis is tried (`redis.retry_ms`), and the pauses in between.

use std::time::{Duration, Instant};

use crate::cache::CacheError;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// The time for one step, from its first attempt on.
#[derive(Debug, Clone, Copy)]
pub struct RetryWindow {
    ends: Instant,
}

impl RetryWindow {
    /// It begins now.
    pub fn new(retry: Duration) -> Self {
        RetryWindow { ends: Instant::now() + retry }
    }

    /// The time that is left of it.
    pub fn left(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now())
    }

    /// Pauses before the next attempt. False: none is to be made, because of this failure or because the time is over.
    pub async fn pause(&self, failure: Option<&CacheError>) -> bool {
        let is_over = self.left() <= PAUSE || failure.is_some_and(|error| !error.is_worth_retrying());
        if !is_over {
            actix_rt::time::sleep(PAUSE).await;
        }
        !is_over
    }
}
