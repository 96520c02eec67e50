//! A batch being made.
//!
//! Plain SETs stand first, so that they share a call, and reads last, so that what is no write behind a read is seen to be none
//! without a look at keys. A write behind a read of its key would cost the batch a second round trip, and the keys beside it
//! with it. So it is left for the next batch with all that follows on its key: once, and only where that is little of the
//! whole, so that a key which is read and written in turn is not held up by others.

use super::{Batch, BatchLimits, Pending};
use crate::cache::Command;
use crate::pipeline::work::key_order::TicketSet;

/// What is left for the next batch is at most this part of the one that goes.
const LITTLE: usize = 4;

/// What is noted of the keys of a batch. It is kept from batch to batch for its memory.
#[derive(Default)]
pub struct Notes {
    /// More is done on them than to set them.
    mixed: TicketSet,
    read: TicketSet,
    /// They are written behind a read.
    behind: TicketSet,
    /// What comes on them is left.
    left: TicketSet,
}

impl Notes {
    fn clear(&mut self) {
        self.mixed.clear();
        self.read.clear();
        self.behind.clear();
        self.left.clear();
    }
}

pub struct Packing<'a> {
    bounds: BatchLimits,
    /// The most operations for which the batch will have room.
    room: usize,
    bytes: usize,
    notes: &'a mut Notes,
    sets: Batch,
    others: Batch,
    reads: Batch,
    /// Writes behind a read, and all that follows on their keys.
    behind: Batch,
    left: Batch,
}

impl<'a> Packing<'a> {
    pub fn new(bounds: BatchLimits, room: usize, notes: &'a mut Notes) -> Self {
        notes.clear();
        let [sets, others, reads, behind, left] = Default::default();
        Packing { bounds, room, bytes: 0, notes, sets, others, reads, behind, left }
    }

    fn len(&self) -> usize {
        [&self.sets, &self.others, &self.reads, &self.behind, &self.left].map(|part| part.0.len()).into_iter().sum()
    }

    pub fn is_full(&self) -> bool {
        self.len() >= self.bounds.commands
    }

    pub fn has_room_for(&self, command: &Command) -> bool {
        let fits = self.bytes + command.weight() <= self.bounds.bytes;
        !self.is_full() && (fits || self.len() == 0)
    }

    /// Takes it, for this batch or the next.
    pub fn add_or_leave(&mut self, command: Command, mut pending: Pending) {
        let is_behind_read = command.is_write() && self.notes.read.has(&pending.ticket);
        if !self.notes.left.has(&pending.ticket) && (!is_behind_read || pending.was_left) {
            return self.add(command, pending);
        }
        self.bytes += command.weight();
        self.notes.left.add(&pending.ticket);
        pending.was_left = true;
        self.left.0.push(command);
        self.left.1.push(pending);
    }

    pub fn add(&mut self, command: Command, pending: Pending) {
        self.bytes += command.weight();
        self.put(command, pending);
    }

    #[inline]
    fn put(&mut self, command: Command, pending: Pending) {
        let Packing { room, notes, sets, others, reads, behind, .. } = self;
        let ticket = &pending.ticket;
        let part = if command.is_plain_set() && !notes.mixed.has(ticket) {
            sets
        } else {
            notes.mixed.add(ticket);
            if command.is_read() && !notes.behind.has(ticket) {
                notes.read.add(ticket);
                reads
            } else if notes.read.has(ticket) {
                notes.behind.add(ticket);
                behind
            } else {
                others
            }
        };
        if part.0.is_empty() {
            part.0.reserve(*room);
            part.1.reserve(*room);
        }
        part.0.push(command);
        part.1.push(pending);
    }

    /// The number of what came first.
    pub fn first(&self) -> Option<u64> {
        let all = [&self.sets.1, &self.others.1, &self.reads.1, &self.behind.1, &self.left.1];
        all.into_iter().flatten().map(|pending| pending.number).min()
    }

    /// The batch, and what is left for the next.
    pub fn finish(mut self) -> (Batch, Batch) {
        let mut left = std::mem::take(&mut self.left);
        if left.0.len() * LITTLE > self.len() {
            let (commands, pending) = std::mem::take(&mut left);
            commands.into_iter().zip(pending).for_each(|(command, pending)| self.put(command, pending));
        }
        let Packing { sets, others, reads, behind, .. } = self;
        let mut parts = [sets, others, reads, behind].into_iter().filter(|part| !part.0.is_empty());
        let mut batch = parts.next().unwrap_or_default();
        for mut part in parts {
            batch.0.append(&mut part.0);
            batch.1.append(&mut part.1);
        }
        (batch, left)
    }
}
