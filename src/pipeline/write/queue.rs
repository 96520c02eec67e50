//! The writer's queue as a value: what goes next and together, what is held back, and what has run out of time.
//!
//! Operations on one key leave in the order in which they came. Between keys there is none, so in a batch what the cache can
//! take together stands together. What the cache refuses for now waits aside ([`delayed`]) and all that comes after it on
//! its key with it, so that a cache that refuses some commands (writes, when it is full) goes on with the others. Nothing
//! is looked at more often than it is moved.

mod again;
mod asked;
mod delayed;
mod given_up;
mod packing;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use self::again::Again;
use self::delayed::Delayed;
pub use self::given_up::{not_tried, seconds};
use self::packing::{Notes, Packing};
use super::pace::Pace;
use crate::cache::{CacheError, Command};
use crate::event::outcome::Origin;
use crate::pipeline::runtime::DropNotice;
use crate::pipeline::work::key_order::{KeyPlace, KeyTicket, TicketSet};
use crate::pipeline::work::operation::{Carried, Operation, Verb};
use crate::pipeline::work::question::CommandEnd;
use crate::pipeline::work::reply::Slot;

/// A command that can be sent, and what is to be done when it has ended. It is whole from the beginning and moved as it is: a
/// copy of what was put together just before has to wait for it.
pub struct Ready {
    command: Command,
    pending: Pending,
}

impl Ready {
    /// Puts it beside the others for its writer.
    #[inline]
    pub fn send(operation: Operation, max_answer_bytes: usize, outbox: &mut Vec<Vec<Ready>>) {
        let Operation { key, action, version, slot, ticket, deadline } = operation;
        let (command, origin, carried) = match action {
            Verb::Set { value, origin, ttl, mut carried } => {
                let remembered = carried.as_mut().and_then(|carried| carried.remembered.take());
                (Command::Set { key, value, ttl, version, remembered }, origin, carried)
            }
            Verb::Get => (Command::Get { key, max_bytes: max_answer_bytes }, Origin::Inline, None),
            Verb::Delete => (Command::Delete { key, version }, Origin::Inline, None),
        };
        Ready::new(command, origin, CommandEnd::Entry(slot), ticket, deadline, carried).put(outbox);
    }

    fn new(
        command: Command,
        origin: Origin,
        end: CommandEnd,
        ticket: KeyTicket,
        deadline: Instant,
        carried: Option<Box<Carried>>,
    ) -> Self {
        let (crashes, is_delayed, was_left) = (0, false, false);
        let (expires, number) = (deadline, 0);
        let pending =
            Pending { origin, end, deadline, expires, crashes, is_delayed, was_left, number, ticket, carried };
        Ready { command, pending }
    }

    /// The entry that it belongs to, if it does not answer a question.
    pub fn entry(&self) -> Option<&Slot> {
        self.pending.end.entry()
    }
}

/// A writer has passed a fence, or lost it.
pub struct FenceReached {
    /// The epoch of the router that put the fence; a later router ignores it.
    pub epoch: u64,
    /// The number of the router's round of fences, one fence to each writer.
    pub round: u64,
    /// The writer's number in its pool.
    pub writer: usize,
    /// Whether everything before the fence is done or given up. If not, the writer died under it, and the router asks
    /// again.
    pub passed: bool,
}

enum QueueItem {
    Write(Ready),
    Fence(u64, DropNotice<FenceReached>),
}

/// What is to be done when its command has ended.
#[repr(align(16))]
pub struct Pending {
    /// Whether a SET's value came with the event or from a blob.
    pub origin: Origin,
    /// Who is told of its end.
    pub end: CommandEnd,
    /// When its request is answered whatever has become of it.
    pub deadline: Instant,
    /// When it is given up; known once it is queued.
    pub expires: Instant,
    /// How often the writer panicked with it in hand. One that does it again and again is given up.
    pub crashes: u8,
    /// It was refused before, or comes after one of its key that was.
    is_delayed: bool,
    /// It was left for the next batch before.
    was_left: bool,
    /// In the order of coming.
    number: u64,
    /// Given back when it is done.
    ticket: KeyTicket,
    /// What a blob brought along.
    pub carried: Option<Box<Carried>>,
}

impl Pending {
    /// The operation's place in the order of its key.
    pub fn ticket(&self) -> &KeyTicket {
        &self.ticket
    }
}

/// A cause begins so that is an answer of Redis; its code word follows.
pub const SAID: &str = "redis answered ";

/// What kept an operation from being done, and since when it has.
pub type Hindrance<'a> = (&'a Cow<'static, str>, Instant);

/// Commands, and what is to be done when each has ended.
pub type Batch = (Vec<Command>, Vec<Pending>);

/// How much of the queue goes together.
#[derive(Clone, Copy)]
pub struct BatchLimits {
    /// Commands of one batch at most (`redis.batch_max`).
    pub commands: usize,
    /// Bytes of one batch at most, or a single larger command.
    pub bytes: usize,
    /// Keys of which something was refused before.
    pub repeats: usize,
}

/// One writer's.
pub struct Queue {
    /// In the order of coming.
    entries: VecDeque<QueueItem>,
    delayed: Delayed,
    /// Fences that wait for something that is delayed, and for which key.
    fences: VecDeque<(u64, DropNotice<FenceReached>, Option<KeyPlace>)>,
    /// For the batch being made.
    notes: Notes,
    /// For a batch that has landed: keys that go back to the front, and keys that were refused.
    to_front: TicketSet,
    refused: TicketSet,
    number: u64,
    /// How long an operation is tried (`redis.retry_ms`).
    retry: Duration,
    pace: Pace,
}

impl Queue {
    /// An empty queue. `retry` is how long an operation is tried after it came in (`redis.retry_ms`).
    pub fn new(retry: Duration, pace: Pace) -> Self {
        Queue {
            entries: VecDeque::new(),
            delayed: Delayed::default(),
            fences: VecDeque::new(),
            notes: Notes::default(),
            to_front: TicketSet::default(),
            refused: TicketSet::default(),
            number: 0,
            retry,
            pace,
        }
    }

    /// What can be sent at once.
    pub fn ready(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits: no operation, nothing refused that is to be tried again, and no fence.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.delayed.is_empty() && self.fences.is_empty()
    }

    /// When what was refused is to be tried again.
    pub fn next_due(&self) -> Option<Instant> {
        self.delayed.next_due()
    }

    /// The pace at which the queue is emptied, for the writer to report batches to.
    pub fn pace(&mut self) -> &mut Pace {
        &mut self.pace
    }

    /// Takes operations at the end, in the order in which they are to take effect. From `now` on each has
    /// `redis.retry_ms`.
    pub fn add(&mut self, mut ready: Vec<Ready>, now: Instant) {
        let expires = now + self.retry;
        for Ready { pending, .. } in &mut ready {
            self.number += 1;
            (pending.number, pending.expires) = (self.number, expires.min(pending.deadline));
        }
        self.entries.extend(ready.into_iter().map(QueueItem::Write));
        self.publish();
    }

    /// Takes a fence at the end: its notice is sent once everything before it is done or given up.
    pub fn add_fence(&mut self, notice: DropNotice<FenceReached>) {
        self.number += 1;
        self.entries.push_back(QueueItem::Fence(self.number, notice));
    }

    /// Whether an operation of the batch that has landed is done with; otherwise it is to be repeated. To be asked in the order of the
    /// batch: the first of a key that is to be repeated decides for all after it.
    pub fn is_done<T>(&mut self, again: &mut Again, pending: &Pending, result: &Result<T, CacheError>) -> bool {
        let error = result.as_ref().err().filter(|error| error.is_worth_retrying());
        let is_behind = self.to_front.has(&pending.ticket) || self.refused.has(&pending.ticket);
        if error.is_none() && !is_behind {
            return true;
        }
        if let Some(CacheError::Unavailable(cause) | CacheError::Unsupported(cause)) = error {
            again.failure.get_or_insert_with(|| cause.clone());
        }
        if is_behind {
            return false;
        }
        if let Some(CacheError::RefusedForNow(cause)) = error {
            again.refused.push((pending.ticket.key_place(), cause.clone()));
            self.refused.add(&pending.ticket);
        } else if pending.is_delayed {
            self.refused.add(&pending.ticket);
        } else {
            self.to_front.add(&pending.ticket);
        }
        false
    }

    /// The batch is over. `again` goes before all that waits for the same keys.
    pub fn landed(&mut self, again: Again, now: Instant) {
        let is_line_well = again.failure.is_none();
        for (command, mut pending) in again.entries.into_iter().rev() {
            pending.is_delayed |= self.refused.has(&pending.ticket);
            if pending.is_delayed {
                self.delayed.put_back(command, pending, now);
            } else {
                self.entries.push_front(QueueItem::Write(Ready { command, pending }));
            }
        }
        for (place, cause) in again.refused {
            self.delayed.refuse(place, cause, now);
        }
        self.delayed.landed(is_line_well, now);
        self.to_front.clear();
        self.refused.clear();
        self.publish();
    }

    /// The batch under way was lost; this is to be repeated.
    pub fn lost(&mut self, entries: Vec<(Command, Pending)>, now: Instant) {
        let failure = Some(Cow::Borrowed("the writer failed"));
        self.landed(Again { entries, refused: Vec::new(), failure }, now);
    }

    /// What is next up to the bounds; what has expired is answered and not sent. No batch is under way. Plain SETs come
    /// first and reads last, but for what follows something else on its key. An empty batch: nothing can be sent now.
    pub fn next_batch(&mut self, bounds: BatchLimits, hindrance: Option<Hindrance<'_>>, now: Instant) -> Batch {
        let room = (self.entries.len() + self.delayed.len()).min(bounds.commands);
        let mut packing = Packing::new(bounds, room, &mut self.notes);
        self.delayed.take_due(bounds.repeats, &mut packing, now);
        let mut is_begun = false;
        while !packing.is_full() {
            let (command, pending) = match self.entries.pop_front() {
                Some(QueueItem::Write(Ready { command, pending })) => (command, pending),
                // What stands before it may come back, and is to be before it then.
                Some(fence) if is_begun => {
                    self.entries.push_front(fence);
                    break;
                }
                Some(QueueItem::Fence(number, notice)) => {
                    self.fences.push_back((number, notice, None));
                    continue;
                }
                None => break,
            };
            if pending.is_expired(now) {
                pending.give_up(hindrance, now);
            } else if self.delayed.has(&pending.ticket) {
                self.delayed.push(command, Pending { is_delayed: true, ..pending });
            } else if packing.has_room_for(&command) {
                packing.add_or_leave(command, pending);
                is_begun = true;
            } else {
                self.entries.push_front(QueueItem::Write(Ready { command, pending }));
                break;
            }
        }
        let first = if self.fences.is_empty() { None } else { packing.first() };
        let (batch, (commands, pending)) = packing.finish();
        let left = commands.into_iter().zip(pending).rev();
        left.for_each(|(command, pending)| self.entries.push_front(QueueItem::Write(Ready { command, pending })));
        self.pass_fences(|number| first.is_some_and(|first| first < number));
        self.publish();
        batch
    }

    /// Lets fences pass that nothing is before any more, while no batch is under way and none can be made: the cache does not
    /// answer.
    pub fn release_fences(&mut self) {
        while let Some(QueueItem::Fence(..)) = self.entries.front() {
            if let Some(QueueItem::Fence(number, notice)) = self.entries.pop_front() {
                self.fences.push_back((number, notice, None));
            }
        }
        // What a failed batch brought back stands first.
        let first = match self.entries.front() {
            Some(QueueItem::Write(ready)) => Some(ready.pending.number),
            Some(QueueItem::Fence(..)) | None => None,
        };
        self.pass_fences(|number| first.is_some_and(|first| first < number));
    }

    /// Tells the fences before which nothing is left: neither delayed nor in the batch that is about to go.
    fn pass_fences(&mut self, is_before: impl Fn(u64) -> bool) {
        while let Some((number, _, known)) = self.fences.front_mut() {
            if is_before(*number) {
                return;
            }
            *known = self.delayed.before(*number, *known);
            if known.is_some() {
                return;
            }
            if let Some((_, mut notice, _)) = self.fences.pop_front()
                && let Some(message) = notice.letter_mut()
            {
                message.passed = true;
            }
        }
    }

    /// Answers what has expired; whether there was any.
    pub fn expire(&mut self, hindrance: Option<Hindrance<'_>>, now: Instant) -> bool {
        self.give_up(hindrance, now, |pending| pending.is_expired(now))
    }

    /// Answers all that waits.
    pub fn give_up_all(&mut self, hindrance: Option<Hindrance<'_>>, now: Instant) {
        self.give_up(hindrance, now, |_| true);
    }

    fn give_up(
        &mut self,
        hindrance: Option<Hindrance<'_>>,
        now: Instant,
        is_over: impl Fn(&Pending) -> bool + Copy,
    ) -> bool {
        let before = self.entries.len() + self.delayed.len();
        self.delayed.give_up(now, is_over);
        let is_over = |entry: &QueueItem| matches!(entry, QueueItem::Write(ready) if is_over(&ready.pending));
        if self.entries.iter().any(is_over) {
            let (gone, left): (VecDeque<QueueItem>, VecDeque<QueueItem>) = self.entries.drain(..).partition(is_over);
            self.entries = left;
            for entry in gone {
                if let QueueItem::Write(ready) = entry {
                    ready.pending.give_up(hindrance, now);
                }
            }
        }
        self.publish();
        self.entries.len() + self.delayed.len() < before
    }

    /// Whatever changes the queue ends with this: what is known of it at the door is what it is.
    fn publish(&self) {
        let oldest = self.entries.iter().find_map(|entry| match entry {
            QueueItem::Write(ready) => Some(ready.pending.expires),
            QueueItem::Fence(..) => None,
        });
        self.pace.publish(self.entries.len(), oldest.and_then(|expires| expires.checked_sub(self.retry)));
    }
}

#[cfg(test)]
mod tests;
