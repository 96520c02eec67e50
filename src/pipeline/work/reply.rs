//! A request's reply, and the slot of each operation in it.
//!
//! A request is answered once, by the stage that ends its last operation. Everything that carries work holds a handle whose
//! drop is an answer: a lost [`RequestReply`] rejects the request as `interrupted`, a lost [`Slot`] ends its entry as
//! `interrupted`. A crash anywhere can cost time, but no event stays without an answer.

mod conclusion;
mod slot;
mod values;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use futures::task::AtomicWaker;

use self::conclusion::Work;
pub use self::slot::{Slot, Slots, enter_all, settle_all};
use self::values::{Values, counted};
use super::admission::Permit;
use super::timing::{Phase, micros};
use super::validity::Validity;
use super::weight;
use crate::event::outcome::{Outcome, ProblemKind};
use crate::event::rejection::Rejection;
use crate::event::trace::Trace;
use crate::event::wire::{Answered, EventResult};

/// How a request ended.
#[derive(Debug)]
pub enum Verdict {
    /// No event became work; the answer is a single problem document.
    Rejected(Rejection),
    /// The body was one event, and this became of it.
    One(Answered),
    /// The body was an array or NDJSON: one result for each event, in the order sent.
    Batch(Vec<EventResult>),
}

/// Makes the two ends of a request's answer. `permit` is held until the last slot is gone, however early the answer.
pub fn reply(permit: Permit, max_answer_bytes: usize, trace: Option<Arc<Trace>>) -> (RequestReply, PendingReply) {
    reply_within(permit, max_answer_bytes, trace, None)
}

/// The same for work that may begin only while this is valid.
pub fn reply_within(
    permit: Permit,
    max_answer_bytes: usize,
    trace: Option<Arc<Trace>>,
    validity: Option<Validity>,
) -> (RequestReply, PendingReply) {
    let shared = Arc::new(ReplyCell {
        state: Mutex::new(ReplyState {
            accepted: None,
            progress: Progress::Unread,
            permit,
            values: Values::new(max_answer_bytes),
        }),
        waker: AtomicWaker::new(),
        trace,
        validity,
    });
    (RequestReply { shared: Some(shared.clone()) }, PendingReply { shared })
}

struct ReplyCell {
    state: Mutex<ReplyState>,
    waker: AtomicWaker,
    /// For what is done elsewhere on behalf of the request.
    trace: Option<Arc<Trace>>,
    /// Nothing of it is sent to the cache once this is over.
    validity: Option<Validity>,
}

struct ReplyState {
    /// When its events were accepted, if they were.
    accepted: Option<Instant>,
    progress: Progress,
    permit: Permit,
    values: Values,
}

enum Progress {
    /// The events of the request are not known yet.
    Unread,
    Working(Work),
    Done(Verdict),
    Taken,
}

impl ReplyCell {
    fn lock(&self) -> MutexGuard<'_, ReplyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, state: &mut ReplyState, verdict: Verdict) {
        state.progress = Progress::Done(verdict);
        self.waker.wake();
    }

    /// `now` is in microseconds after the acceptance.
    fn settle(&self, state: &mut ReplyState, index: u32, outcome: Outcome, now: u32) {
        let index = index as usize;
        let ReplyState { progress, values, permit, .. } = state;
        let Progress::Working(work) = progress else { return };
        let Some(place @ None) = work.outcomes.get_mut(index) else { return };
        if let Some(watch) = work.watches.get_mut(index) {
            watch.stop(now);
        }
        let outcome = counted(outcome, permit);
        values.add(index, &outcome);
        *place = Some(outcome);
        work.left -= 1;
        values.let_go(&mut work.outcomes);
        if work.left == 0 {
            let verdict = work.conclude(ProblemKind::Interrupted, values.max_bytes, now);
            self.finish(state, verdict);
        }
    }
}

impl ReplyState {
    fn enter(&mut self, index: u32, phase: Phase, now: u32) {
        let Progress::Working(work) = &mut self.progress else { return };
        if let Some(watch) = work.watches.get_mut(index as usize) {
            watch.enter(phase, now);
        }
    }

    /// Microseconds after the acceptance; 0 before it.
    fn after_acceptance(&self, now: Instant) -> u32 {
        match &self.progress {
            Progress::Working(work) => micros(work.accepted, now),
            Progress::Unread | Progress::Done(_) | Progress::Taken => 0,
        }
    }
}

/// The request's reply before its events are known. Dropped unused, it rejects the request as `interrupted`.
pub struct RequestReply {
    shared: Option<Arc<ReplyCell>>,
}

impl RequestReply {
    /// Answers the request with this problem. An answer that is there already stays; faults that admission has no room
    /// for become [`Rejection::Overloaded`].
    pub fn reject(mut self, why: Rejection) {
        if let Some(shared) = self.shared.take() {
            let mut state = shared.lock();
            if matches!(state.progress, Progress::Unread) {
                let has_room = match &why {
                    Rejection::Invalid(invalid) => state.permit.try_grow(0, weight::of_invalid(invalid)),
                    _ => true,
                };
                let why = if has_room { why } else { Rejection::Overloaded };
                shared.finish(&mut state, Verdict::Rejected(why));
            }
        }
    }

    /// Takes events and bytes from admission, beside the body's bytes that are held already. A request that could never
    /// fit otherwise takes what is left when nothing else is in progress. A request that needs more than that even at
    /// `least` bytes is rejected for good, and so is one with more patterns than may be in progress.
    pub fn admit(&self, events: usize, least: usize, bytes: usize, patterns: usize) -> Result<(), Rejection> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let permit = &mut shared.lock().permit;
        permit.fits(events, least, patterns)?;
        let has_room = permit.try_patterns(patterns) && permit.try_grow_to_limit(events, bytes);
        if has_room { Ok(()) } else { Err(Rejection::Overloaded) }
    }

    /// The events are known and accepted: from here on every entry of a valid one has a slot, in the order sent.
    pub fn begin(mut self, is_batch: bool, results: Vec<EventResult>, accepted: Instant) -> Slots {
        let mut work = Work::new(is_batch, results, accepted);
        let total = work.left;
        let shared = self.shared.take();
        if let Some(shared) = &shared {
            let mut state = shared.lock();
            state.accepted = Some(accepted);
            if matches!(state.progress, Progress::Unread) {
                if total == 0 {
                    let verdict = work.conclude(ProblemKind::Interrupted, 0, 0);
                    shared.finish(&mut state, verdict);
                } else {
                    state.progress = Progress::Working(work);
                }
            }
        }
        Slots::new(shared, total)
    }
}

impl Drop for RequestReply {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            let lost = RequestReply { shared: Some(shared) };
            lost.reject(Rejection::Unavailable(ProblemKind::Interrupted));
        }
    }
}

/// The end that waits for the verdict.
pub struct PendingReply {
    shared: Arc<ReplyCell>,
}

impl PendingReply {
    /// After the verdict: keeps room for this many bytes of the answer, beside the values, which have room of their own.
    /// The room of the body and its events is given back, unless some of the work is still in progress.
    pub fn keep_for_answer(self, bytes: usize) -> Unwritten {
        if Arc::strong_count(&self.shared) == 1 {
            self.shared.lock().permit.become_bytes(bytes);
        }
        Unwritten { _shared: Some(self.shared), _permit: None }
    }

    /// When its events were accepted, if they were.
    pub fn accepted(&self) -> Option<Instant> {
        self.shared.lock().accepted
    }

    /// Ends the wait: what is not settled is answered with this problem.
    pub fn expire(&self, kind: ProblemKind) -> Verdict {
        let mut state = self.shared.lock();
        let now = state.after_acceptance(Instant::now());
        match std::mem::replace(&mut state.progress, Progress::Taken) {
            Progress::Working(mut work) => work.conclude(kind, state.values.max_bytes, now),
            Progress::Done(verdict) => verdict,
            Progress::Unread | Progress::Taken => Verdict::Rejected(Rejection::Unavailable(kind)),
        }
    }
}

/// Room for an answer until it is written, given back on drop. Work of the request that is still in progress keeps its own.
pub struct Unwritten {
    _shared: Option<Arc<ReplyCell>>,
    /// Of an answer that no events were asked for.
    _permit: Option<Permit>,
}

impl From<Permit> for Unwritten {
    fn from(permit: Permit) -> Self {
        Unwritten { _shared: None, _permit: Some(permit) }
    }
}

impl Future for PendingReply {
    type Output = Verdict;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Verdict> {
        self.shared.waker.register(context.waker());
        let mut state = self.shared.lock();
        if !matches!(state.progress, Progress::Done(_)) {
            return Poll::Pending;
        }
        match std::mem::replace(&mut state.progress, Progress::Taken) {
            Progress::Done(verdict) => Poll::Ready(verdict),
            other => {
                state.progress = other;
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests;
