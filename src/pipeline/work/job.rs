//! What rides through the pipeline: a request's reply, and one operation's place in it.
//!
//! A request is answered once, by whoever ends its last operation. Everything that carries work holds a handle whose
//! drop is an answer: a [`Reply`] that is lost before the events are known refuses the request as `interrupted`, a lost
//! [`Slot`] ends its entry as `interrupted`. So a crash anywhere can lose time, but not an event.

use std::collections::{BinaryHeap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use bytestring::ByteString;
use futures::task::AtomicWaker;
use smallvec::smallvec;

use super::admission::Permit;
use super::barriers::Barrier;
use super::key_order::KeyTicket;
use super::timing::{Phase, Stopwatch, micros};
use super::weight;
use crate::cache::room::{COUNTED_FROM_BYTES, NO_ROOM};
use crate::event::invalid::Invalid;
use crate::event::outcome::{Class, Origin, Outcome, ProblemKind};
use crate::event::pattern::Pattern;
use crate::event::trace::Trace;
use crate::event::version::Version;
use crate::event::wire::{Answered, Element};
use crate::event::{CacheKey, EntityTag, EventType, FetchTarget, Few, Ttl};

/// Why a request as a whole became no work.
#[derive(Debug)]
pub enum Refusal {
    /// The body is not JSON, or is nested too deep.
    Malformed {
        /// What the parser met and where, without quoting the body.
        detail: String,
    },
    /// More events than `event.max_events`.
    TooManyEvents,
    /// More events or bytes than admission could ever hold.
    TooLargeToAdmit,
    /// More patterns than may ever be under way.
    TooManyPatterns,
    /// A request of one event, and that is invalid.
    Invalid(Invalid),
    /// Admission is full.
    Overloaded,
    /// The work was lost or out of time before its events were known.
    Unavailable(ProblemKind),
}

/// How a request ended.
#[derive(Debug)]
pub enum Verdict {
    /// No event became work; the answer is a single problem document.
    Refused(Refusal),
    /// The body was one event, and this became of it.
    One(Answered),
    /// The body was an array or NDJSON: one result for each event, in the order sent.
    Batch(Vec<Element>),
}

/// Makes the two ends of a request's answer. `permit` is held until the last slot is gone, however early the answer.
pub fn reply(permit: Permit, max_answer_bytes: usize, trace: Option<Arc<Trace>>) -> (Reply, PendingReply) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            phase: Progress::Unread,
            permit,
            values: Values { max_bytes: max_answer_bytes, held: 0, hits: None },
        }),
        waker: AtomicWaker::new(),
        trace,
    });
    (Reply { shared: Some(shared.clone()) }, PendingReply { shared })
}

struct Shared {
    state: Mutex<State>,
    waker: AtomicWaker,
    /// For what is done elsewhere on behalf of the request.
    trace: Option<Arc<Trace>>,
}

struct State {
    phase: Progress,
    permit: Permit,
    values: Values,
}

/// Bytes of the values in an answer.
struct Values {
    /// `http.max_answer_bytes`.
    max_bytes: usize,
    held: usize,
    /// Where they are, once there are too many bytes: so that the last is found at once however many entries there are.
    hits: Option<BinaryHeap<usize>>,
}

enum Progress {
    /// Its events are not known yet.
    Unread,
    Working(Work),
    Done(Verdict),
    Taken,
}

struct Work {
    batch: bool,
    accepted: Instant,
    /// Answered ones have their outcomes still empty.
    elements: Vec<Element>,
    /// Of all entries of all valid events, in the order sent.
    outcomes: Few<Option<Outcome>>,
    /// Of the same.
    watches: Few<Stopwatch>,
    left: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, state: &mut State, verdict: Verdict) {
        state.phase = Progress::Done(verdict);
        self.waker.wake();
    }

    /// `now` is in microseconds after the acceptance.
    fn settle(&self, state: &mut State, index: usize, outcome: Outcome, now: u32) {
        let State { phase, values, permit } = state;
        let Progress::Working(work) = phase else { return };
        let Some(place @ None) = work.outcomes.get_mut(index) else { return };
        if let Some(watch) = work.watches.get_mut(index) {
            watch.stop(now);
        }
        let outcome = counted(outcome, permit);
        if let Outcome::Hit(value) = &outcome {
            values.held += value.len();
            if let Some(hits) = &mut values.hits {
                hits.push(index);
            }
        }
        *place = Some(outcome);
        work.left -= 1;
        values.let_go(&mut work.outcomes);
        if work.left == 0 {
            let verdict = conclude(work, ProblemKind::Interrupted, values.max_bytes, now);
            self.finish(state, verdict);
        }
    }
}

impl State {
    fn enter(&mut self, index: usize, leg: Phase, now: u32) {
        let Progress::Working(work) = &mut self.phase else { return };
        if let Some(watch) = work.watches.get_mut(index) {
            watch.enter(leg, now);
        }
    }

    /// Microseconds after the acceptance, if that was.
    fn after_acceptance(&self, now: Instant) -> u32 {
        match &self.phase {
            Progress::Working(work) => micros(work.accepted, now),
            Progress::Unread | Progress::Done(_) | Progress::Taken => 0,
        }
    }
}

impl Values {
    /// While values still come in, twice the answer's bytes are held at most; the last in the order sent go first.
    fn let_go(&mut self, outcomes: &mut [Option<Outcome>]) {
        while self.held > self.max_bytes.saturating_mul(2) {
            let hits = self.hits.get_or_insert_with(|| places_of_hits(outcomes));
            let Some(outcome) = hits.pop().and_then(|index| outcomes.get_mut(index)) else { return };
            if let Some(Outcome::Hit(value)) = outcome {
                self.held -= value.len();
                *outcome = Some(answer_too_large(value.len()));
            }
        }
    }
}

/// Values of so many bytes are among what an entry weighs; from [`COUNTED_FROM_BYTES`] on they bring their own room along.
const SMALL_VALUE_BYTES: usize = 256;

/// Takes room for a value that has none yet; without room it is let go.
fn counted(outcome: Outcome, permit: &mut Permit) -> Outcome {
    match &outcome {
        Outcome::Hit(value)
            if (SMALL_VALUE_BYTES + 1..=COUNTED_FROM_BYTES).contains(&value.len())
                && !permit.try_grow(0, value.len()) =>
        {
            Outcome::failed(ProblemKind::CacheUnavailable, NO_ROOM)
        }
        _ => outcome,
    }
}

fn places_of_hits(outcomes: &[Option<Outcome>]) -> BinaryHeap<usize> {
    let is_hit = |(_, outcome): &(usize, &Option<Outcome>)| matches!(outcome, Some(Outcome::Hit(_)));
    outcomes.iter().enumerate().filter(is_hit).map(|(index, _)| index).collect()
}

fn answer_too_large(bytes: usize) -> Outcome {
    let detail = format!("the value's {bytes} bytes go beyond what is left of http.max_answer_bytes");
    Outcome::failed(ProblemKind::AnswerTooLarge, detail)
}

/// In the order sent, each value that still has room in the answer stays in it.
fn within_answer(outcome: Outcome, bytes_left: &mut usize) -> Outcome {
    match outcome {
        Outcome::Hit(value) if value.len() > *bytes_left => answer_too_large(value.len()),
        Outcome::Hit(value) => {
            *bytes_left -= value.len();
            Outcome::Hit(value)
        }
        other => other,
    }
}

/// The verdict of what is settled; entries that are not get `missing`.
fn conclude(work: &mut Work, missing: ProblemKind, mut answer_bytes: usize, now: u32) -> Verdict {
    let mut outcomes = std::mem::take(&mut work.outcomes).into_iter();
    let mut watches = std::mem::take(&mut work.watches).into_iter();
    let mut elements = std::mem::take(&mut work.elements);
    let mut failed = false;
    for element in &mut elements {
        let Element::Answered(answered) = element else { continue };
        answered.outcomes = outcomes
            .by_ref()
            .take(answered.targets.len())
            .map(|outcome| match outcome {
                Some(outcome) => within_answer(outcome, &mut answer_bytes),
                None => Outcome::failed(missing, missing_detail(missing)),
            })
            .collect();
        let ended = |mut watch: Stopwatch| {
            watch.stop(now);
            watch.spent()
        };
        answered.spent = watches.by_ref().take(answered.targets.len()).map(ended).collect();
        failed |= answered.class() == Class::Unavailable;
    }
    if failed {
        supersede(&mut elements);
    }
    if work.batch {
        return Verdict::Batch(elements);
    }
    match elements.pop() {
        Some(Element::Answered(answered)) => Verdict::One(answered),
        Some(Element::Invalid(invalid)) => Verdict::Refused(Refusal::Invalid(invalid)),
        None => Verdict::Batch(Vec::new()),
    }
}

fn missing_detail(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Timeout => "it was not done within event.deadline_ms; whether it takes effect is not known",
        ProblemKind::ShuttingDown => "the service stopped before it was done; whether it took effect is not known",
        _ => "a part of the service failed under it; whether it took effect is not known",
    }
}

/// A SET or DELETE that ended unavailable has nothing left to do if a later one of the same key took effect: a sender that
/// repeated it would undo the newer one. One with a version may be repeated.
fn supersede(elements: &mut [Element]) {
    let mut settled: HashSet<ByteString> = HashSet::new();
    for element in elements.iter_mut().rev() {
        let Element::Answered(answered) = element else { continue };
        if !matches!(answered.event, EventType::Set | EventType::Delete) {
            continue;
        }
        for (key, outcome) in answered.targets.iter().zip(&mut answered.outcomes).rev() {
            match outcome {
                Outcome::Stored { .. } | Outcome::Deleted | Outcome::Absent => {
                    settled.insert(key.clone());
                }
                _ if answered.has_version || outcome.class() != Class::Unavailable => {}
                _ if settled.contains(key) => *outcome = Outcome::Superseded,
                _ => {}
            }
        }
    }
}

/// The request's reply before its events are known. Dropped unused, it refuses the request as `interrupted`.
pub struct Reply {
    shared: Option<Arc<Shared>>,
}

impl Reply {
    /// Answers the request with a refusal. An answer that is there already stays; faults that admission has no room
    /// for become [`Refusal::Overloaded`].
    pub fn refuse(mut self, refusal: Refusal) {
        if let Some(shared) = self.shared.take() {
            let mut state = shared.lock();
            if matches!(state.phase, Progress::Unread) {
                let has_room = match &refusal {
                    Refusal::Invalid(invalid) => state.permit.try_grow(0, weight::of_invalid(invalid)),
                    _ => true,
                };
                let refusal = if has_room { refusal } else { Refusal::Overloaded };
                shared.finish(&mut state, Verdict::Refused(refusal));
            }
        }
    }

    /// Takes so much more from admission, beside the body that is already held: these bytes, or, of a request that would
    /// never fit otherwise, what is left when nothing else is inside. One that needs more than that even at the `least`
    /// is refused for good, and so is one of more patterns than may be under way.
    pub fn admit(&self, events: usize, least: usize, bytes: usize, patterns: usize) -> Result<(), Refusal> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let mut state = shared.lock();
        let (admission, held) = (state.permit.admission(), state.permit.bytes());
        if !admission.could_hold(events, held + least) {
            return Err(Refusal::TooLargeToAdmit);
        }
        if !admission.could_hold_patterns(patterns) {
            return Err(Refusal::TooManyPatterns);
        }
        let bytes = bytes.min(admission.limits().1.saturating_sub(held));
        let has_room = state.permit.try_patterns(patterns) && state.permit.try_grow(events, bytes);
        if has_room { Ok(()) } else { Err(Refusal::Overloaded) }
    }

    /// The events are known and accepted: from here on every entry of a valid one has a slot of its own, in the order sent.
    pub fn begin(mut self, batch: bool, elements: Vec<Element>, accepted: Instant) -> Slots {
        let total = elements
            .iter()
            .map(|element| match element {
                Element::Answered(answered) => answered.targets.len(),
                Element::Invalid(_) => 0,
            })
            .sum();
        let shared = self.shared.take();
        if let Some(shared) = &shared {
            let mut state = shared.lock();
            if matches!(state.phase, Progress::Unread) {
                let (outcomes, watches) = (smallvec![None; total], smallvec![Stopwatch::default(); total]);
                let mut work = Work { batch, accepted, elements, outcomes, watches, left: total };
                if total == 0 {
                    let verdict = conclude(&mut work, ProblemKind::Interrupted, 0, 0);
                    shared.finish(&mut state, verdict);
                } else {
                    state.phase = Progress::Working(work);
                }
            }
        }
        Slots { shared, next: 0, total }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            let lost = Reply { shared: Some(shared) };
            lost.refuse(Refusal::Unavailable(ProblemKind::Interrupted));
        }
    }
}

/// The slots of a request, handed out in order. Those not handed out end as `interrupted`.
pub struct Slots {
    shared: Option<Arc<Shared>>,
    next: usize,
    total: usize,
}

impl Slots {
    /// Slots that were not handed out yet. Those that are dropped with this answer `interrupted`.
    pub fn left(&self) -> usize {
        self.total - self.next
    }
}

impl Iterator for Slots {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        let shared = self.shared.as_ref().filter(|_| self.next < self.total)?.clone();
        self.next += 1;
        Some(Slot { shared: Some(shared), index: self.next - 1 })
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        while self.next().is_some() {}
    }
}

/// These begin this part of their way, with one look at the request for all of its own that stand side by side.
pub fn enter_all<'s>(slots: impl IntoIterator<Item = &'s Slot>, leg: Phase, now: Instant) {
    let mut slots = slots.into_iter().peekable();
    while let Some(slot) = slots.next() {
        let Some(shared) = &slot.shared else { continue };
        let mut state = shared.lock();
        let now = state.after_acceptance(now);
        state.enter(slot.index, leg, now);
        let is_beside = |slot: &&Slot| slot.shared.as_ref().is_some_and(|own| Arc::ptr_eq(own, shared));
        while let Some(slot) = slots.next_if(is_beside) {
            state.enter(slot.index, leg, now);
        }
    }
}

/// Settles these, with one look at the request for all of its own that stand side by side.
pub fn settle_all(settled: impl IntoIterator<Item = (Slot, Outcome)>, now: Instant) {
    let mut settled = settled.into_iter().peekable();
    while let Some((mut slot, outcome)) = settled.next() {
        let Some(shared) = slot.shared.take() else { continue };
        let mut state = shared.lock();
        let now = state.after_acceptance(now);
        shared.settle(&mut state, slot.index, outcome, now);
        let is_beside = |(slot, _): &(Slot, Outcome)| slot.shared.as_ref().is_some_and(|own| Arc::ptr_eq(own, &shared));
        while let Some((mut slot, outcome)) = settled.next_if(is_beside) {
            slot.shared = None;
            shared.settle(&mut state, slot.index, outcome, now);
        }
    }
}

/// One entry's place in its request's answer. Dropped unsettled, the entry is `interrupted`.
pub struct Slot {
    shared: Option<Arc<Shared>>,
    index: usize,
}

impl Slot {
    /// Ends the entry with this outcome, unless it was answered before. The last slot of a request sends the answer.
    pub fn settle(mut self, outcome: Outcome, now: Instant) {
        self.settle_early(outcome, now);
        self.shared = None;
    }

    /// The trace that its request belongs to.
    pub fn trace(&self) -> Option<Arc<Trace>> {
        self.shared.as_ref()?.trace.clone()
    }

    /// Answers now what may still be under way; later answers are ignored, and the permit is held until the drop.
    pub fn settle_early(&self, outcome: Outcome, now: Instant) {
        if let Some(shared) = &self.shared {
            let mut state = shared.lock();
            let now = state.after_acceptance(now);
            shared.settle(&mut state, self.index, outcome, now);
        }
    }

    /// It begins this part of its way.
    pub fn enter(&self, leg: Phase, now: Instant) {
        enter_all([self], leg, now);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.shared.is_some() {
            let kind = ProblemKind::Interrupted;
            self.settle_early(Outcome::failed(kind, missing_detail(kind)), Instant::now());
        }
    }
}

/// The end that waits for the verdict.
pub struct PendingReply {
    shared: Arc<Shared>,
}

impl PendingReply {
    /// After the verdict: keeps room for so many bytes of the answer, beside the values that have their own. The body and its
    /// events are not held any longer, unless some of the work is still under way.
    pub fn keep_for_answer(self, bytes: usize) -> Unwritten {
        if Arc::strong_count(&self.shared) == 1 {
            self.shared.lock().permit.become_bytes(bytes);
        }
        Unwritten { _shared: self.shared }
    }

    /// Ends the wait: what is not settled is answered with this problem.
    pub fn expire(&self, kind: ProblemKind) -> Verdict {
        let mut state = self.shared.lock();
        let now = state.after_acceptance(Instant::now());
        match std::mem::replace(&mut state.phase, Progress::Taken) {
            Progress::Working(mut work) => conclude(&mut work, kind, state.values.max_bytes, now),
            Progress::Done(verdict) => verdict,
            Progress::Unread | Progress::Taken => Verdict::Refused(Refusal::Unavailable(kind)),
        }
    }
}

/// Room for an answer until it is written, given back on drop. What of the request is still under way keeps its own.
pub struct Unwritten {
    _shared: Arc<Shared>,
}

impl Future for PendingReply {
    type Output = Verdict;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Verdict> {
        self.shared.waker.register(context.waker());
        let mut state = self.shared.lock();
        if !matches!(state.phase, Progress::Done(_)) {
            return Poll::Pending;
        }
        match std::mem::replace(&mut state.phase, Progress::Taken) {
            Progress::Done(verdict) => Poll::Ready(verdict),
            other => {
                state.phase = other;
                Poll::Pending
            }
        }
    }
}

/// One key's share of an event, on its way to the cache: ready to be written, or ([`AwaitedBlob`]) not yet.
pub struct Operation<A = Verb> {
    /// The one key that it touches.
    pub key: CacheKey,
    /// What is to be done to the key.
    pub action: A,
    /// If the source's own order is to decide.
    pub version: Option<Version>,
    /// Its place in the answer; dropped unsettled it answers `interrupted`.
    pub slot: Slot,
    /// Its place in the order of its key.
    pub ticket: KeyTicket,
    /// When its request is answered whatever has become of it; what is not begun by then is dropped.
    pub deadline: Instant,
}

/// What the cache can do at once.
pub enum Verb {
    /// Writes a value that is at hand.
    Set {
        /// The bytes to store.
        value: Bytes,
        /// Whether they came with the event or from a blob: for the answer and the metrics.
        origin: Origin,
        /// Seconds to live; None: the key does not expire.
        ttl: Option<Ttl>,
        /// What the value's bytes hold of admission, if it is a blob.
        held: Option<Permit>,
    },
    /// Reads a value.
    Get,
    /// Deletes the key.
    Delete,
}

/// A SET whose value has yet to be fetched.
pub struct AwaitedBlob {
    /// Where the blob is.
    pub target: FetchTarget,
    /// Seconds to live, from the write and not from the fetch; None: the key does not expire.
    pub ttl: Option<Ttl>,
}

/// A blob that is there.
pub struct FetchedBlob {
    /// Its bytes, content codings undone.
    pub value: Bytes,
    /// What the bytes hold of admission.
    pub permit: Permit,
    /// What the server calls this state of it.
    pub etag: Option<EntityTag>,
}

impl Operation<AwaitedBlob> {
    /// The operation now that its blob is there.
    pub fn with_blob(self, FetchedBlob { value, permit, .. }: FetchedBlob, now: Instant) -> Operation {
        let Operation { key, action: AwaitedBlob { ttl, .. }, version, slot, ticket, deadline } = self;
        slot.enter(Phase::Waiting, now);
        let action = Verb::Set { value, origin: Origin::Blob, ttl, held: Some(permit) };
        Operation { key, action, version, slot, ticket, deadline }
    }
}

/// A pattern delete, or its preview.
pub struct PatternDelete {
    /// The globs, carried out in one scan.
    pub patterns: Few<Pattern>,
    /// If the source's own order is to decide: keys with a greater version stay.
    pub version: Option<Version>,
    /// One a pattern.
    pub slots: Vec<Slot>,
    /// Whether it only counts and shows a sample.
    pub dry_run: bool,
    /// Holds up the keys that it matches; a preview holds up nobody.
    pub barrier: Barrier,
    /// A little before its request is answered, come what may: how far it came is to stand in that answer.
    pub deadline: Instant,
}

#[cfg(test)]
mod tests;
