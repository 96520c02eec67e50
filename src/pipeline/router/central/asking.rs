//! What the central router asks the cache before and after it has a blob fetched.
//!
//! Before: whether the SET would be superseded, and what is remembered of the value that the key has. After a host has said
//! that the blob is still what is remembered: that the value may stand. That is a write, so it is done in the turn of its
//! operation, and not before.

use std::time::Instant;

use super::CentralRouter;
use crate::cache::{Command, Standing};
use crate::event::CacheKey;
use crate::event::outcome::{Outcome, ProblemKind};
use crate::pipeline::fetch::request::{FetchRequest, QuestionEnded};
use crate::pipeline::work::Seq;
use crate::pipeline::work::operation::{AwaitedBlob, Operation};
use crate::pipeline::work::question::{CacheAnswer, Question};
use crate::pipeline::work::timing::Phase;
use crate::pipeline::write::queue::Ready;

impl CentralRouter {
    /// Asks how the write stands, if the source's own order decides; otherwise there is nothing to ask.
    pub(super) fn look_or_submit(&mut self, mut request: FetchRequest) {
        match self.lanes.awaited(&request.key, request.seq).and_then(Operation::look) {
            Some(look) => {
                request.is_repeat = self.repeats(&request);
                self.ask(look, request);
            }
            None => self.submit(request),
        }
    }

    /// The blob is what is remembered. Its turn may be to come.
    pub(super) fn not_modified(&mut self, request: FetchRequest) {
        if !self.is_first(&request.key, request.seq) {
            self.waiting_turn.insert(request.seq, request);
            return;
        }
        let operation = self.lanes.awaited(&request.key, request.seq);
        match operation.and_then(|operation| operation.refresh(request.known.as_deref()?)) {
            Some(refresh) => self.ask(refresh, request),
            None => self.fetch_anew(request),
        }
    }

    /// What has come to the head of its key goes on.
    pub(super) fn take_turns(&mut self) {
        for key in self.lanes.take_heads() {
            let first = self.first(&key);
            match first.and_then(|seq| self.waiting_turn.remove(&seq)) {
                Some(request) if request.wants_turn => self.needs_turn(request),
                Some(request) => self.not_modified(request),
                None => {}
            }
        }
    }

    /// The first operation of the key, if its blob is awaited; those that a newer one makes needless do not count.
    fn first(&self, key: &CacheKey) -> Option<Seq> {
        self.lanes.first_awaited(key, |seq| self.outdone.is_held(seq))
    }

    /// Whether nothing that counts is before it on its key.
    pub(super) fn is_first(&self, key: &CacheKey, seq: Seq) -> bool {
        self.first(key) == Some(seq)
    }

    pub(super) fn ask(&mut self, command: Command, request: FetchRequest) {
        // What is before it on its key goes first.
        self.send_freed();
        let Some(operation) = self.lanes.awaited(&request.key, request.seq) else { return };
        operation.slot.enter(Phase::Cache, Instant::now());
        let (ticket, deadline) = (operation.ticket.twin(), request.deadline);
        let (tell, epoch) = (self.notify.question_ended.clone(), self.epoch);
        let tell = move |answer| tell.send(QuestionEnded { epoch, direct: None, request, answer });
        Ready::ask(command, Question::new(tell), ticket, deadline, &mut self.outbox);
    }

    pub(super) fn question_ended(&mut self, ended: QuestionEnded) {
        let QuestionEnded { epoch, direct, mut request, answer } = ended;
        let place = self.place(epoch, direct, &request.key, request.seq);
        fail_point!("router");
        if let Some(seq) = place {
            self.take_place(&mut request, seq, direct);
            self.note(&request, Phase::Waiting, Instant::now());
            self.on_answer(request, answer, direct.is_some());
        }
        self.advance();
    }

    /// `was_alone`: nothing on its key was before it when it asked.
    pub(super) fn on_answer(&mut self, mut request: FetchRequest, answer: CacheAnswer, was_alone: bool) {
        if std::mem::take(&mut request.wants_turn) && matches!(answer, CacheAnswer::Seen(_) | CacheAnswer::Refused) {
            let operation = self.lanes.awaited(&request.key, request.seq);
            request.turn = operation.map(|operation| operation.ticket.twin());
            request.generation = self.deps.scheduler.generation();
            if request.version.is_none() {
                return self.submit(request);
            }
        }
        match answer {
            CacheAnswer::Seen(seen) => match seen.standing {
                Standing::Superseded => self.done(&request, |_| Outcome::Superseded),
                Standing::Present if was_alone => self.done(&request, |_| Outcome::Superseded),
                Standing::Present | Standing::Open => {
                    request.known = seen.remembered.map(Box::new);
                    self.fetch_or_let_stand(request);
                }
            },
            CacheAnswer::Unchanged => {
                let bytes = request.known_bytes();
                self.done(&request, |operation| Outcome::Unchanged { bytes, ttl: operation.action.ttl });
            }
            CacheAnswer::Superseded => self.done(&request, |_| Outcome::Superseded),
            CacheAnswer::Changed | CacheAnswer::Refused => self.fetch_anew(request),
            CacheAnswer::Lost => {
                let outcome =
                    Outcome::failed(ProblemKind::Interrupted, "a part of the service failed while it asked Redis");
                self.fail(&request, outcome);
            }
            CacheAnswer::Failed(outcome) => self.fail(&request, outcome),
        }
    }

    /// The blob is fetched, unless the event shows that the key has it, or may have it once its turn has come.
    fn fetch_or_let_stand(&mut self, mut request: FetchRequest) {
        request.is_same = request.is_named(&self.deps.stores);
        if request.is_same && !request.is_long() {
            return self.not_modified(request);
        }
        // What it repeats may have ended before the answer came, which does not know of it then.
        let is_repeat = std::mem::take(&mut request.is_repeat) || self.repeats(&request);
        match request.is_same || !is_repeat {
            true => self.submit(request),
            false => self.needs_turn(request),
        }
    }

    /// Whether what stands next to it, before it, waits for the very same state of the blob.
    fn repeats(&self, request: &FetchRequest) -> bool {
        let [before, _] = self.lanes.awaited_beside(&request.key, request.seq, |seq| self.outdone.is_held(seq));
        let before = before.and_then(|seq| self.lanes.awaited(&request.key, seq));
        let own = self.lanes.awaited(&request.key, request.seq);
        own.zip(before).is_some_and(|(own, before)| own.action.is_same_state(&before.action))
    }

    /// Without a condition: what is remembered is not what the key holds.
    pub(super) fn fetch_anew(&mut self, mut request: FetchRequest) {
        (request.known, request.is_same) = (None, false);
        request.attempts = request.attempts.saturating_sub(1);
        self.submit(request);
    }

    /// It has ended well without a write of its own.
    pub(super) fn done(&mut self, request: &FetchRequest, outcome: impl FnOnce(&Operation<AwaitedBlob>) -> Outcome) {
        let now = Instant::now();
        let mut outdone = Vec::new();
        self.take_outdone(request.seq, &mut outdone);
        outdone.into_iter().for_each(|slot| slot.settle(Outcome::Superseded, now));
        let settle = |operation: Operation<AwaitedBlob>| {
            let outcome = outcome(&operation);
            operation.slot.settle(outcome, now);
            None
        };
        self.lanes.blob_ended(&request.key, request.seq, settle, &mut self.freed);
        self.look_at_parked();
    }
}
