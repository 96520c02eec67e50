//! The slots of a request's entries in its answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ReplyCell;
use super::conclusion::missing_detail;
use crate::event::outcome::{Outcome, ProblemKind};
use crate::event::trace::Trace;
use crate::pipeline::work::timing::Phase;
use crate::pipeline::work::validity::Validity;

/// The slots of a request, handed out in order. Those not handed out end as `interrupted`.
pub struct Slots {
    shared: Option<Arc<ReplyCell>>,
    next: usize,
    total: usize,
    is_leased: bool,
}

impl Slots {
    pub(super) fn new(shared: Option<Arc<ReplyCell>>, total: usize) -> Self {
        let is_leased = shared.as_ref().is_some_and(|shared| shared.validity.is_some());
        Slots { shared, next: 0, total, is_leased }
    }

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
        Some(Slot { shared: Some(shared), index: self.next as u32 - 1, is_leased: self.is_leased })
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        while self.next().is_some() {}
    }
}

/// These operations enter this phase. Neighbours of one request share one lock.
pub fn enter_all<'s>(slots: impl IntoIterator<Item = &'s Slot>, phase: Phase, now: Instant) {
    let mut slots = slots.into_iter().peekable();
    while let Some(slot) = slots.next() {
        let Some(shared) = &slot.shared else { continue };
        let mut state = shared.lock();
        let now = state.after_acceptance(now);
        state.enter(slot.index, phase, now);
        let is_beside = |slot: &&Slot| slot.shared.as_ref().is_some_and(|own| Arc::ptr_eq(own, shared));
        while let Some(slot) = slots.next_if(is_beside) {
            state.enter(slot.index, phase, now);
        }
    }
}

/// Settles these. Neighbours of one request share one lock.
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
    shared: Option<Arc<ReplyCell>>,
    /// Entries are far fewer than this can count.
    index: u32,
    /// Whether its work may begin only while something is valid: spares others the look.
    is_leased: bool,
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

    /// While what its work may begin; None: up to its deadline.
    pub fn validity(&self) -> Option<&Validity> {
        self.shared.as_ref().filter(|_| self.is_leased)?.validity.as_ref()
    }

    /// How much longer its work may begin; None: until its deadline.
    pub fn validity_left(&self, now: Instant) -> Option<Duration> {
        Some(self.validity()?.left(now))
    }

    /// Whether its work must not begin any more.
    pub fn is_void(&self, now: Instant) -> bool {
        self.validity_left(now).is_some_and(|left| left.is_zero())
    }

    /// Answers the entry while its work may still be in progress. Later outcomes are ignored; the permit is held until the
    /// drop.
    pub fn settle_early(&self, outcome: Outcome, now: Instant) {
        if let Some(shared) = &self.shared {
            let mut state = shared.lock();
            let now = state.after_acceptance(now);
            shared.settle(&mut state, self.index, outcome, now);
        }
    }

    /// The operation enters this phase.
    pub fn enter(&self, phase: Phase, now: Instant) {
        enter_all([self], phase, now);
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
