//! How an operation ends that Redis did not carry out in time, and what is known of why.

use std::time::{Duration, Instant};

use super::{Hindrance, Pending, Ready, SAID};
use crate::event::outcome::{Outcome, ProblemKind};
use crate::pipeline::work::operation::Carried;
use crate::pipeline::work::question::CommandEnd;

impl Pending {
    /// Whether it is not sent any more.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.expires <= now || self.end.is_void(now)
    }

    /// How it ends that has expired, or is not tried any more.
    pub fn given_up(&self, hindrance: Option<Hindrance<'_>>, now: Instant) -> Outcome {
        let why = hindrance.map(|hindrance| why(hindrance, now)).unwrap_or_default();
        if self.end.is_void(now) {
            Outcome::failed(ProblemKind::Interrupted, "the lease of the journal ended before the work began")
        } else if self.deadline <= now {
            let detail = format!("the work did not end within event.deadline_ms{why}");
            Outcome::failed(ProblemKind::Timeout, detail)
        } else {
            let detail = format!("Redis did not carry out the command within `redis.retry_ms`{why}");
            Outcome::failed(ProblemKind::CacheUnavailable, detail)
        }
    }

    /// Answers it while it may still be in progress. It keeps its place, and is not sent again: whoever was answered may have
    /// gone on without it.
    pub fn give_up_early(&mut self, hindrance: Option<Hindrance<'_>>, now: Instant) {
        let Some(slot) = self.end.entry() else { return };
        let outcome = self.given_up(hindrance, now);
        if let Some(carried) = &self.carried {
            carried.settle_outdone_early(&outcome, now);
        }
        slot.settle_early(outcome, now);
        self.expires = self.expires.min(now);
    }

    pub(super) fn give_up(self, hindrance: Option<Hindrance<'_>>, now: Instant) {
        let outcome = self.given_up(hindrance, now);
        fail(self.end, self.carried, outcome, now);
    }
}

impl Ready {
    /// It was not queued, because of this.
    pub fn fail(self, outcome: Outcome, now: Instant) {
        fail(self.pending.end, self.pending.carried, outcome, now);
    }
}

/// It was not done. Entries that it would have made needless end as it does.
fn fail(end: CommandEnd, carried: Option<Box<Carried>>, outcome: Outcome, now: Instant) {
    if let Some(carried) = carried {
        carried.settle_outdone(&outcome, now);
    }
    end.fail(outcome, now);
}

/// How it ends that comes while the cache is known to be down.
pub fn not_tried(hindrance: Option<Hindrance<'_>>, now: Instant) -> Outcome {
    let why = hindrance.map(|hindrance| why(hindrance, now)).unwrap_or_default();
    Outcome::failed(ProblemKind::CacheUnavailable, format!("Redis is down, so the command was not sent{why}"))
}

/// What is known of why it failed, to follow a sentence: ends without a full stop.
fn why((cause, since): Hindrance<'_>, now: Instant) -> String {
    let ago = seconds(now.saturating_duration_since(since));
    match cause.strip_prefix(SAID) {
        Some(reply) => format!("; its last reply was {reply}; it has refused commands for {ago}"),
        None => format!("; it has failed for {ago}; the last error: {cause}"),
    }
}

/// `0.4 s`, `12 s`.
pub fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} s", time.as_secs())
    }
}
