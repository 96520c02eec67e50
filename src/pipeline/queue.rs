//! Queue: what waits for a writer, as a value: what goes next and together, what is held back, and what has run out of time.
//!
//! Operations on one key leave in the order in which they came. Between keys there is none, so in a batch what the cache can
//! take together stands together. What has failed goes again before all else; it takes no more
//! than half of a batch, so that a cache that refuses some commands (writes, when it is full) goes on with the others.

use std::collections::VecDeque;
use std::time::Instant;

use super::gate::Permit;
use super::job::{Operation, Slot, Verb};
use super::supervision::Notice;
use super::turns::{Noted, Turn};
use crate::cache::Command;
use crate::event::outcome::{Origin, Outcome, ProblemKind};

/// An operation that can be written.
pub struct Ready {
    command: Command,
    origin: Origin,
    pub slot: Slot,
    turn: Turn,
    deadline: Instant,
    /// What the value's bytes hold of admission.
    held: Option<Permit>,
}

impl Ready {
    /// Puts it beside the others for its writer. A blob that is not there cannot be written.
    pub fn send(operation: Operation, max_answer_bytes: usize, outbox: &mut Vec<Vec<Ready>>) {
        let Operation { key, verb, version, slot, turn, deadline } = operation;
        let (command, origin, held) = match verb {
            Verb::Set { value, origin, ttl, held } => (Command::Set { key, value, ttl, version }, origin, held),
            Verb::Get => (Command::Get { key, max_bytes: max_answer_bytes }, Origin::Inline, None),
            Verb::Delete => (Command::Delete { key, version }, Origin::Inline, None),
            Verb::SetBlob { .. } => return debug_assert!(false, "its blob is not there"),
        };
        if outbox.len() <= turn.writer() {
            outbox.resize_with(turn.writer() + 1, Vec::new);
        }
        if let Some(ready) = outbox.get_mut(turn.writer()) {
            ready.push(Ready { command, origin, slot, turn, deadline, held });
        }
    }
}

/// A writer has passed a fence, or lost it.
pub struct Fenced {
    pub epoch: u64,
    pub round: u64,
    pub writer: usize,
    pub passed: bool,
}

enum Entry {
    Write(Command, Pending),
    Fence(Notice<Fenced>),
}

/// What is to be done when its command has ended.
pub struct Pending {
    pub origin: Origin,
    pub slot: Slot,
    pub deadline: Instant,
    /// When it is given up.
    pub expires: Instant,
    pub crashes: u8,
    /// It has failed before, or comes after one of its key that has.
    pub is_repeated: bool,
    /// Given back when it is done.
    turn: Turn,
    _held: Option<Permit>,
}

/// Commands, and what is to be done when each has ended.
pub type Batch = (Vec<Command>, Vec<Pending>);

/// How much of the queue goes together.
pub struct Bounds {
    pub commands: usize,
    /// Or a single larger command.
    pub bytes: usize,
    /// Of what has failed before.
    pub repeats: usize,
}

/// One writer's.
#[derive(Default)]
pub struct Queue {
    entries: VecDeque<Entry>,
    /// For the batch being made: the keys that are read in it, those on which something was passed over, and those on which
    /// more is done than to set them.
    read: Noted,
    held: Noted,
    mixed: Noted,
    is_behind: bool,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the last batch left something behind that has failed before.
    pub fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// What is not done when it `expires`, or at its own deadline, is given up.
    pub fn add(&mut self, ready: Vec<Ready>, expires: Instant) {
        self.entries.extend(ready.into_iter().map(|Ready { command, origin, slot, turn, deadline, held }| {
            let expires = expires.min(deadline);
            let (crashes, is_repeated) = (0, false);
            let pending = Pending { origin, slot, deadline, expires, crashes, is_repeated, turn, _held: held };
            Entry::Write(command, pending)
        }));
    }

    pub fn add_fence(&mut self, notice: Notice<Fenced>) {
        self.entries.push_back(Entry::Fence(notice));
    }

    /// In this order before all else.
    pub fn put_back(&mut self, entries: impl DoubleEndedIterator<Item = (Command, Pending)>) {
        for (command, pending) in entries.rev() {
            self.entries.push_front(Entry::Write(command, pending));
        }
    }

    /// Those at the head: nothing is before them any more.
    pub fn pass_fences(&mut self) {
        while let Some(Entry::Fence(_)) = self.entries.front() {
            if let Some(Entry::Fence(mut notice)) = self.entries.pop_front()
                && let Some(message) = notice.letter_mut()
            {
                message.passed = true;
            }
        }
    }

    /// What is next up to the bounds; what has expired is answered and not sent. What has no place among the repeated is
    /// passed over, and so is a write to a key that is read in the same batch, which the session would have to cut there;
    /// and all that comes after them on their keys. Plain SETs come first, but for those that follow something else on their
    /// keys.
    pub fn next_batch(&mut self, bounds: Bounds, now: Instant) -> Batch {
        let Bounds { commands: most, bytes: most_bytes, repeats: mut repeats_left } = bounds;
        let room = self.entries.len().min(most);
        let (mut sets, mut others) = (Batch::default(), Batch::default());
        let mut passed_over = Vec::new();
        self.is_behind = false;
        self.read.clear();
        self.held.clear();
        self.mixed.clear();
        let mut bytes = 0;
        while sets.0.len() + others.0.len() < most {
            let (command, entry) = match self.entries.pop_front() {
                Some(Entry::Write(command, entry)) => (command, entry),
                Some(fence) => {
                    self.entries.push_front(fence);
                    break;
                }
                None => break,
            };
            if entry.expires <= now {
                let outcome = entry.given_up(now);
                entry.slot.settle(outcome, now);
                continue;
            }
            let has_no_place = entry.is_repeated && repeats_left == 0;
            self.is_behind |= has_no_place;
            if self.held.has(&entry.turn) || has_no_place || command.is_write() && self.read.has(&entry.turn) {
                self.held.add(&entry.turn);
                passed_over.push((command, entry));
                continue;
            }
            bytes += command.weight();
            if bytes > most_bytes && !(sets.0.is_empty() && others.0.is_empty()) {
                self.entries.push_front(Entry::Write(command, entry));
                break;
            }
            repeats_left -= usize::from(entry.is_repeated);
            if !command.is_write() {
                self.read.add(&entry.turn);
            }
            let part = if command.is_plain_set() && !self.mixed.has(&entry.turn) {
                &mut sets
            } else {
                self.mixed.add(&entry.turn);
                &mut others
            };
            if part.0.is_empty() {
                part.0.reserve(room);
                part.1.reserve(room);
            }
            part.0.push(command);
            part.1.push(entry);
        }
        self.put_back(passed_over.into_iter());
        if sets.0.is_empty() {
            return others;
        }
        sets.0.append(&mut others.0);
        sets.1.append(&mut others.1);
        sets
    }

    /// Answers what has expired; whether there was any.
    pub fn expire(&mut self, now: Instant) -> bool {
        let is_expired = |entry: &Entry| matches!(entry, Entry::Write(_, pending) if pending.expires <= now);
        if !self.entries.iter().any(is_expired) {
            return false;
        }
        let (gone, left): (VecDeque<Entry>, VecDeque<Entry>) = self.entries.drain(..).partition(is_expired);
        self.entries = left;
        for entry in gone {
            if let Entry::Write(_, pending) = entry {
                let outcome = pending.given_up(now);
                pending.slot.settle(outcome, now);
            }
        }
        true
    }
}

impl Pending {
    /// How it ends that has expired.
    pub fn given_up(&self, now: Instant) -> Outcome {
        if self.deadline <= now {
            Outcome::failed(ProblemKind::Timeout, "it was not done within event.deadline_ms")
        } else {
            Outcome::failed(ProblemKind::CacheUnavailable, "the cache did not take it within redis.retry_ms")
        }
    }
}

#[cfg(test)]
mod tests;
