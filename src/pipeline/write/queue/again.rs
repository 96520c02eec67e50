//! The operations of a batch that are tried again.

use std::borrow::Cow;
use std::time::Instant;

use super::{Hindrance, Pending};
use crate::cache::Command;
use crate::pipeline::work::key_order::KeyPlace;

/// The operations of a batch that are tried again, in order.
#[derive(Default)]
pub struct Again {
    pub(super) entries: Vec<(Command, Pending)>,
    pub(super) refused: Vec<(KeyPlace, Cow<'static, str>)>,
    /// Why the cache cannot be reached, if it cannot.
    pub failure: Option<Cow<'static, str>>,
}

impl Again {
    /// How many operations are tried again.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Adds an operation behind those that are there; called in the order of the batch.
    pub fn add(&mut self, command: Command, pending: Pending) {
        self.entries.push((command, pending));
    }

    /// Answers the operations that would be tried again, because the cache cannot be reached.
    pub fn give_up(&mut self, hindrance: Option<Hindrance<'_>>, now: Instant) {
        if self.refused.is_empty() {
            for (_, pending) in std::mem::take(&mut self.entries) {
                pending.give_up(hindrance, now);
            }
        }
    }

    /// The cause of the last refusal, if the cache refused something.
    pub fn refusal(&self) -> Option<&Cow<'static, str>> {
        self.refused.last().map(|(_, cause)| cause)
    }
}
