//! What is known of a writer's line to the cache, as a value: whether it works, since when it has not, and why.
//!
//! While it fails, operations are tried again, each for `redis.retry_ms`. Once it has failed for that long without a break the
//! cache is known to be down, and what waits and what comes is answered at once, until a ping is answered. A server may
//! answer pings and no writes (READONLY); so after that ping the line is suspected, and a batch that fails then is not tried
//! again. What the server itself has said against a batch only a batch can show to be over; after anything else two pings do.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use crate::pipeline::write::queue::{Hindrance, SAID};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_millis(250);

pub struct Line {
    state: State,
    /// The last failure, and since when there has been nothing else.
    trouble: Option<(Cow<'static, str>, Instant)>,
    /// In a row.
    failures: u32,
    /// How long it is tried.
    retry: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Well,
    Failing,
    Down,
    Suspect { has_failed: bool },
}

impl Line {
    pub fn new(retry: Duration) -> Self {
        Line { state: State::Well, trouble: None, failures: 0, retry }
    }

    /// Known to be down: nothing is to wait for it.
    pub fn is_down(&self) -> bool {
        self.state == State::Down
    }

    /// Only just back, if that: what fails is not tried again.
    pub fn is_suspect(&self) -> bool {
        matches!(self.state, State::Suspect { .. })
    }

    /// Whether a ping is to come before anything else.
    pub fn wants_ping(&self) -> bool {
        matches!(self.state, State::Down | State::Suspect { has_failed: true })
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
        self.state = match self.state {
            _ if some_done => State::Failing,
            State::Well | State::Failing => State::Failing,
            State::Suspect { .. } if !is_ping => State::Suspect { has_failed: true },
            State::Suspect { .. } | State::Down => State::Down,
        };
    }

    /// Whether it has become known just now that the cache is down.
    pub fn has_gone_down(&mut self, now: Instant) -> bool {
        let is_over = |(_, since): &(_, Instant)| now.saturating_duration_since(*since) >= self.retry;
        let has_gone_down = self.state == State::Failing && self.trouble.as_ref().is_some_and(is_over);
        if has_gone_down {
            self.state = State::Down;
        }
        has_gone_down
    }

    /// A batch was answered.
    pub fn done(&mut self) {
        (self.state, self.trouble, self.failures) = (State::Well, None, 0);
    }

    /// A ping was answered.
    pub fn pinged(&mut self) {
        match self.state {
            State::Down | State::Suspect { has_failed: true } => self.state = State::Suspect { has_failed: false },
            State::Suspect { has_failed: false } if self.was_said() => {}
            State::Well | State::Failing | State::Suspect { has_failed: false } => self.done(),
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

    fn fail(line: &mut Line, begun: Instant, is_ping: bool) {
        line.failed("connection refused".into(), begun, false, is_ping);
    }

    #[test]
    fn a_line_is_down_once_it_has_failed_for_a_whole_retry_and_suspected_after_a_ping() {
        let (mut line, begun) = (Line::new(RETRY), Instant::now());
        fail(&mut line, begun, false);
        fail(&mut line, begun + RETRY / 2, false);
        assert!(!line.has_gone_down(begun + RETRY / 2) && !line.wants_ping());
        assert!(line.has_gone_down(begun + RETRY) && line.is_down() && line.wants_ping());
        assert!(!line.has_gone_down(begun + RETRY * 2), "it is known already");
        line.pinged();
        assert!(line.is_suspect() && !line.wants_ping());
        fail(&mut line, begun + RETRY * 2, false);
        assert!(line.is_suspect() && line.wants_ping(), "it may answer pings and nothing else");
        fail(&mut line, begun + RETRY * 2, true);
        assert!(line.is_down());
        assert_eq!(line.hindrance().map(|(_, since)| since), Some(begun));
        line.pinged();
        line.done();
        assert!(!line.is_suspect() && line.hindrance().is_none());
    }

    #[test]
    fn what_is_answered_in_between_begins_the_time_anew() {
        let (mut line, begun) = (Line::new(RETRY), Instant::now());
        fail(&mut line, begun, false);
        line.failed("connection reset".into(), begun, true, false);
        assert!(!line.has_gone_down(begun + RETRY), "a part of the batch was answered later");
        fail(&mut line, begun, true);
        line.pinged();
        fail(&mut line, begun + RETRY, false);
        assert!(!line.has_gone_down(begun + RETRY) && line.is_failing());
    }

    #[test]
    fn what_the_server_said_against_a_batch_is_not_over_because_it_answers_pings() {
        let (mut line, begun) = (Line::new(RETRY), Instant::now());
        line.failed("redis answered READONLY".into(), begun, false, false);
        assert!(line.has_gone_down(begun + RETRY));
        (0..9).for_each(|_| line.pinged());
        assert!(line.is_suspect() && !line.wants_ping(), "one batch may try, and is not repeated");
        line.failed("redis answered READONLY".into(), begun + RETRY * 9, false, false);
        assert!(line.is_suspect());
        line.pinged();
        line.done();
        assert!(!line.is_suspect());
        fail(&mut line, begun, false);
        assert!(line.has_gone_down(begun + RETRY));
        (0..2).for_each(|_| line.pinged());
        assert!(!line.is_suspect(), "a lost connection is another matter");
    }

    #[test]
    fn pauses_grow_up_to_a_quarter_of_a_second() {
        let mut line = Line::new(RETRY);
        let pauses = [10, 20, 40, 80, 160, 250, 250].map(Duration::from_millis);
        for pause in pauses {
            fail(&mut line, Instant::now(), false);
            assert_eq!(line.pause(), pause);
        }
        line.done();
        assert!(!line.is_failing());
    }
}
