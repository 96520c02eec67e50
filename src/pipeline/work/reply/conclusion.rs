//! From the outcomes of a request's entries to its verdict.

use std::collections::HashSet;
use std::time::Instant;

use bytestring::ByteString;
use smallvec::smallvec;

use super::Verdict;
use super::values::within_answer;
use crate::event::outcome::{Class, Outcome, ProblemKind};
use crate::event::rejection::Rejection;
use crate::event::wire::EventResult;
use crate::event::{EventType, Few};
use crate::pipeline::work::timing::Stopwatch;

/// What is known of a request's events while some are in progress.
pub(super) struct Work {
    is_batch: bool,
    /// When the events were accepted: stopwatches count from then on.
    pub(super) accepted: Instant,
    /// One for each event; the outcomes in them stay empty until the end.
    results: Vec<EventResult>,
    /// One for each entry of all valid events, in the order sent; None: in progress.
    pub(super) outcomes: Few<Option<Outcome>>,
    /// One for each entry too.
    pub(super) watches: Few<Stopwatch>,
    /// Entries in progress.
    pub(super) left: usize,
}

impl Work {
    /// Work of which nothing is done.
    pub(super) fn new(is_batch: bool, results: Vec<EventResult>, accepted: Instant) -> Self {
        let entries = |result: &EventResult| match result {
            EventResult::Answered(answered) => answered.targets.len(),
            EventResult::Invalid(_) => 0,
        };
        let left = results.iter().map(entries).sum();
        let (outcomes, watches) = (smallvec![None; left], smallvec![Stopwatch::default(); left]);
        Work { is_batch, accepted, results, outcomes, watches, left }
    }

    /// The verdict over the outcomes so far; entries in progress end with the problem `missing`. `now` is in microseconds
    /// after the acceptance.
    pub(super) fn conclude(&mut self, missing: ProblemKind, max_answer_bytes: usize, now: u32) -> Verdict {
        let (mut results, has_unavailable) = self.take_results(missing, max_answer_bytes, now);
        if has_unavailable {
            supersede(&mut results);
        }
        if self.is_batch {
            return Verdict::Batch(results);
        }
        match results.pop() {
            Some(EventResult::Answered(answered)) => Verdict::One(answered),
            Some(EventResult::Invalid(invalid)) => Verdict::Rejected(Rejection::Invalid(invalid)),
            None => Verdict::Batch(Vec::new()),
        }
    }

    /// Deals the outcomes and times out to their events; and whether an entry ended unavailable.
    fn take_results(&mut self, missing: ProblemKind, mut answer_bytes: usize, now: u32) -> (Vec<EventResult>, bool) {
        let mut outcomes = std::mem::take(&mut self.outcomes).into_iter();
        let mut watches = std::mem::take(&mut self.watches).into_iter();
        let mut ended = |outcome: Option<Outcome>| match outcome {
            Some(outcome) => within_answer(outcome, &mut answer_bytes),
            None => Outcome::failed(missing, missing_detail(missing)),
        };
        let spent = |mut watch: Stopwatch| {
            watch.stop(now);
            watch.spent()
        };
        let (mut results, mut has_unavailable) = (std::mem::take(&mut self.results), false);
        for result in &mut results {
            let EventResult::Answered(answered) = result else { continue };
            let entries = answered.targets.len();
            (answered.outcomes, answered.spent) = (Few::with_capacity(entries), Few::with_capacity(entries));
            for (outcome, watch) in outcomes.by_ref().zip(&mut watches).take(entries) {
                let outcome = ended(outcome);
                has_unavailable |= outcome.class() == Class::Unavailable;
                answered.outcomes.push(outcome);
                answered.spent.push(spent(watch));
            }
        }
        (results, has_unavailable)
    }
}

/// Why an entry has no outcome of its own.
pub(super) fn missing_detail(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Timeout => "the work did not end within event.deadline_ms; it may still take effect",
        ProblemKind::ShuttingDown => "the service stopped before the work ended; it may have taken effect",
        _ => "a part of the service failed; the work may have taken effect",
    }
}

/// A SET or DELETE that ended unavailable is superseded if a later one of the same key took effect: a sender that repeated
/// it would undo the newer one. An event with a version may be repeated.
fn supersede(results: &mut [EventResult]) {
    let mut settled: HashSet<ByteString> = HashSet::new();
    for result in results.iter_mut().rev() {
        let EventResult::Answered(answered) = result else { continue };
        if !matches!(answered.event, EventType::Set | EventType::Delete) {
            continue;
        }
        for (key, outcome) in answered.targets.iter().zip(&mut answered.outcomes).rev() {
            match outcome {
                Outcome::Stored { .. } | Outcome::Unchanged { .. } | Outcome::Deleted | Outcome::Absent => {
                    settled.insert(key.clone());
                }
                _ if answered.has_version || outcome.class() != Class::Unavailable => {}
                _ if settled.contains(key) => *outcome = Outcome::Superseded,
                _ => {}
            }
        }
    }
}
