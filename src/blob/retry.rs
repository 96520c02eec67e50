//! Whether to try again, and when, as values: no sleeping and no I/O; time and chance are passed in.

use std::time::Duration;

use super::{FetchError, FetchErrorKind};

/// The most a first wait can be; each further one may be twice as long.
pub const BASE_DELAY: Duration = Duration::from_millis(100);
/// The most any wait can be, unless the server asks for more.
pub const MAX_DELAY: Duration = Duration::from_secs(5);

/// `fetch.attempts` and `fetch.deadline_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// From the start of the first attempt to the end of the last.
    pub deadline: Duration,
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Try again once this long has passed.
    RetryAfter(Duration),
    /// Make no further attempt: the error is final, or attempts or time are used up.
    GiveUp,
}

impl Policy {
    /// What to do after an attempt failed. `attempts_made` counts it, `elapsed` runs from the start of the first, and
    /// `random` is even between 0 and 1.
    pub fn decide(&self, attempts_made: u32, error: &FetchError, elapsed: Duration, random: f64) -> Decision {
        if error.kind != FetchErrorKind::Unavailable || attempts_made >= self.attempts {
            return Decision::GiveUp;
        }
        let delay = backoff(attempts_made, random).max(error.retry_after.unwrap_or_default());
        if elapsed.saturating_add(delay) >= self.deadline {
            return Decision::GiveUp;
        }
        Decision::RetryAfter(delay)
    }
}

/// Exponential, with full jitter: callers that failed together do not come back together.
pub fn backoff(attempts_made: u32, random: f64) -> Duration {
    let doublings = attempts_made.saturating_sub(1).min(16);
    let most = BASE_DELAY.saturating_mul(1 << doublings).min(MAX_DELAY);
    let share = if random.is_finite() { random.clamp(0.0, 1.0) } else { 1.0 };
    most.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: Policy = Policy { attempts: 4, deadline: Duration::from_secs(25) };

    fn unavailable(retry_after: Option<Duration>) -> FetchError {
        FetchError { retry_after, ..FetchError::new(FetchErrorKind::Unavailable, "the server answered 503") }
    }

    fn at_once(attempts_made: u32, random: f64) -> Decision {
        POLICY.decide(attempts_made, &unavailable(None), Duration::ZERO, random)
    }

    #[test]
    fn waits_double_and_are_spread_over_their_whole_length() {
        assert_eq!(at_once(1, 1.0), Decision::RetryAfter(Duration::from_millis(100)));
        assert_eq!(at_once(2, 1.0), Decision::RetryAfter(Duration::from_millis(200)));
        assert_eq!(at_once(3, 1.0), Decision::RetryAfter(Duration::from_millis(400)));
        assert_eq!(at_once(3, 0.5), Decision::RetryAfter(Duration::from_millis(200)));
        assert_eq!(at_once(3, 0.0), Decision::RetryAfter(Duration::ZERO));
    }

    #[test]
    fn a_wait_is_never_longer_than_the_most() {
        let patient = Policy { attempts: u32::MAX, deadline: Duration::MAX };
        for made in [7, 30, 64, u32::MAX - 1] {
            let decision = patient.decide(made, &unavailable(None), Duration::ZERO, 1.0);
            assert_eq!(decision, Decision::RetryAfter(MAX_DELAY), "{made}");
        }
    }

    #[test]
    fn attempts_run_out() {
        assert_eq!(at_once(4, 0.0), Decision::GiveUp);
        assert_eq!(at_once(u32::MAX, 0.0), Decision::GiveUp);
    }

    #[test]
    fn only_what_is_unavailable_is_tried_again() {
        use FetchErrorKind::*;
        for kind in [Forbidden, NotFound, Changed, Denied, TooLarge] {
            assert_eq!(POLICY.decide(1, &FetchError::new(kind, ""), Duration::ZERO, 0.0), Decision::GiveUp);
        }
    }

    #[test]
    fn a_wait_that_ends_past_the_deadline_is_not_begun() {
        let late = Duration::from_millis(24_950);
        assert_eq!(POLICY.decide(1, &unavailable(None), late, 1.0), Decision::GiveUp);
        assert_eq!(POLICY.decide(1, &unavailable(None), late, 0.1), Decision::RetryAfter(Duration::from_millis(10)));
    }

    #[test]
    fn the_server_may_ask_for_a_longer_wait_but_not_beyond_the_deadline() {
        let asked =
            |seconds| POLICY.decide(1, &unavailable(Some(Duration::from_secs(seconds))), Duration::from_secs(5), 1.0);
        assert_eq!(asked(0), Decision::RetryAfter(Duration::from_millis(100)));
        assert_eq!(asked(3), Decision::RetryAfter(Duration::from_secs(3)));
        assert_eq!(asked(20), Decision::GiveUp);
        assert_eq!(asked(u64::MAX), Decision::GiveUp);
    }

    proptest! {
        #[test]
        fn any_wait_fits_the_deadline_and_honours_the_server(
            attempts: u32, made: u32, deadline: u64, elapsed: u64, asked: Option<u64>, random: f64,
        ) {
            let policy = Policy { attempts, deadline: Duration::from_millis(deadline) };
            let (elapsed, asked) = (Duration::from_millis(elapsed), asked.map(Duration::from_millis));
            if let Decision::RetryAfter(delay) = policy.decide(made, &unavailable(asked), elapsed, random) {
                prop_assert!(elapsed + delay < policy.deadline);
                prop_assert!(delay >= asked.unwrap_or_default());
                prop_assert!(made < attempts);
            }
        }
    }
}
