//! The health of a writer's cache as the writer sees it, as a value: whether it answers, since when it does not, and why.
//!
//! While it fails, operations are tried again, each for `redis.retry_ms`. Once it has failed for that long without a break the
//! cache is known to be down, and what waits and what comes is answered at once, until a ping is answered. A server may
//! answer pings and no writes (READONLY); so after that ping the cache is suspect, and a batch that fails then is not tried
//! again. What the server itself has said against a batch only a batch can show to be over; after anything else two pings do.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use crate::pipeline::write::queue::{Hindrance, SAID};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_millis(250);

pub struct CacheHealth {
    condition: Condition,
    /// The last failure, and since when there has been nothing else.
    trouble: Option<(Cow<'static, str>, Instant)>,
    /// In a row.
    failures: u32,
    /// How long it is tried.
    retry: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Well,
    Failing,
    Down,
    Suspect { has_failed: bool },
}

impl CacheHealth {
    pub fn new(retry: Duration) -> Self {
        CacheHealth { condition: Condition::Well, trouble: None, failures: 0, retry }
    }

    /// Known to be down: nothing is to wait for it.
    pub fn is_down(&self) -> bool {
        self.condition == Condition::Down
    }

    /// Only just back, if that: what fails is not tried again.
    pub fn is_suspect(&self) -> bool {
        matches!(self.condition, Condition::Suspect { .. })
    }

    /// Whether a ping is to come before anything else.
    pub fn wants_ping(&self) -> bool {
        matches!(self.condition, Condition::Down | Condition::Suspect { has_failed: true })
    }

    pub fn hindrance(&self) -> Option<Hindrance<'_>> {
        self.trouble.as_ref().map(|(cause, since)| (cause, *since))
    }

    /// Whether the last attempt failed.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// How long to wait after the last failure.
    pub fn pause(&self) -> Duration {
        (FIRST_PAUSE * 2u32.saturating_pow(self.failures.saturating_sub(1).min(10))).min(MAX_PAUSE)
    }

    /// An attempt that was begun then failed. `some_done`: the cache answered a part of it.
    pub fn failed(&mut self, cause: Cow<'static, str>, begun: Instant, some_done: bool, is_ping: bool) {
        self.failures = self.failures.saturating_add(1);
        let since = match &self.trouble {
            _ if some_done => Instant::now(),
            Some((_, since)) => *since,
            None => begun,
        };
        self.trouble = Some((cause, since));
        self.condition = match self.condition {
            _ if some_done => Condition::Failing,
            Condition::Well | Condition::Failing => Condition::Failing,
            Condition::Suspect { .. } if !is_ping => Condition::Suspect { has_failed: true },
            Condition::Suspect { .. } | Condition::Down => Condition::Down,
        };
    }

    /// Whether it has become known just now that the cache is down.
    pub fn has_gone_down(&mut self, now: Instant) -> bool {
        let is_over = |(_, since): &(_, Instant)| now.saturating_duration_since(*since) >= self.retry;
        let has_gone_down = self.condition == Condition::Failing && self.trouble.as_ref().is_some_and(is_over);
        if has_gone_down {
            self.condition = Condition::Down;
        }
        has_gone_down
    }

    /// A batch was answered.
    pub fn done(&mut self) {
        (self.condition, self.trouble, self.failures) = (Condition::Well, None, 0);
    }

    /// A ping was answered.
    pub fn pinged(&mut self) {
        match self.condition {
            Condition::Down | Condition::Suspect { has_failed: true } => {
                self.condition = Condition::Suspect { has_failed: false }
            }
            Condition::Suspect { has_failed: false } if self.was_said() => {}
            Condition::Well | Condition::Failing | Condition::Suspect { has_failed: false } => self.done(),
        }
    }

    /// Whether the last failure was what the server said, as READONLY is.
    fn was_said(&self) -> bool {
        self.trouble.as_ref().is_some_and(|(cause, _)| cause.starts_with(SAID))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Duration = Duration::from_secs(5);

    fn fail(health: &mut CacheHealth, begun: Instant, is_ping: bool) {
        health.failed("connection refused".into(), begun, false, is_ping);
    }

    #[test]
    fn a_line_is_down_once_it_has_failed_for_a_whole_retry_and_suspected_after_a_ping() {
        let (mut health, begun) = (CacheHealth::new(RETRY), Instant::now());
        fail(&mut health, begun, false);
        fail(&mut health, begun + RETRY / 2, false);
        assert!(!health.has_gone_down(begun + RETRY / 2) && !health.wants_ping());
        assert!(health.has_gone_down(begun + RETRY) && health.is_down() && health.wants_ping());
        assert!(!health.has_gone_down(begun + RETRY * 2), "it is known already");
        health.pinged();
        assert!(health.is_suspect() && !health.wants_ping());
        fail(&mut health, begun + RETRY * 2, false);
        assert!(health.is_suspect() && health.wants_ping(), "it may answer pings and nothing else");
        fail(&mut health, begun + RETRY * 2, true);
        assert!(health.is_down());
        assert_eq!(health.hindrance().map(|(_, since)| since), Some(begun));
        health.pinged();
        health.done();
        assert!(!health.is_suspect() && health.hindrance().is_none());
    }

    #[test]
    fn what_is_answered_in_between_begins_the_time_anew() {
        let (mut health, begun) = (CacheHealth::new(RETRY), Instant::now());
        fail(&mut health, begun, false);
        health.failed("connection reset".into(), begun, true, false);
        assert!(!health.has_gone_down(begun + RETRY), "a part of the batch was answered later");
        fail(&mut health, begun, true);
        health.pinged();
        fail(&mut health, begun + RETRY, false);
        assert!(!health.has_gone_down(begun + RETRY) && health.is_failing());
    }

    #[test]
    fn what_the_server_said_against_a_batch_is_not_over_because_it_answers_pings() {
        let (mut health, begun) = (CacheHealth::new(RETRY), Instant::now());
        health.failed("redis answered READONLY".into(), begun, false, false);
        assert!(health.has_gone_down(begun + RETRY));
        (0..9).for_each(|_| health.pinged());
        assert!(health.is_suspect() && !health.wants_ping(), "one batch may try, and is not repeated");
        health.failed("redis answered READONLY".into(), begun + RETRY * 9, false, false);
        assert!(health.is_suspect());
        health.pinged();
        health.done();
        assert!(!health.is_suspect());
        fail(&mut health, begun, false);
        assert!(health.has_gone_down(begun + RETRY));
        (0..2).for_each(|_| health.pinged());
        assert!(!health.is_suspect(), "a lost connection is another matter");
    }

    #[test]
    fn pauses_grow_up_to_a_quarter_of_a_second() {
        let mut health = CacheHealth::new(RETRY);
        let pauses = [10, 20, 40, 80, 160, 250, 250].map(Duration::from_millis);
        for pause in pauses {
            fail(&mut health, Instant::now(), false);
            assert_eq!(health.pause(), pause);
        }
        health.done();
        assert!(!health.is_failing());
    }
}
