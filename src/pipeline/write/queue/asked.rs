//! Questions among the operations of a queue.

use std::time::Instant;

use super::Ready;
use crate::cache::Command;
use crate::event::outcome::Origin;
use crate::pipeline::work::key_order::KeyTicket;
use crate::pipeline::work::question::{CommandEnd, Question};

impl Ready {
    /// Puts a question beside the operations for its key's writer. `ticket` is its own place in the order of the key.
    pub fn ask(
        command: Command,
        question: Question,
        ticket: KeyTicket,
        deadline: Instant,
        outbox: &mut Vec<Vec<Ready>>,
    ) {
        let end = CommandEnd::Question(question);
        Ready::new(command, Origin::Blob, end, ticket, deadline, None).put(outbox);
    }

    /// Into the vector of its writer.
    #[inline]
    pub(super) fn put(self, outbox: &mut Vec<Vec<Ready>>) {
        let writer = self.pending.ticket.writer();
        if outbox.len() <= writer {
            outbox.resize_with(writer + 1, Vec::new);
        }
        if let Some(ready) = outbox.get_mut(writer) {
            ready.push(self);
        }
    }
}
