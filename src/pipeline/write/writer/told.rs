//! Who is told of a batch that has landed, beside the entries: those who asked, and entries that others answer too.

use std::time::Instant;

use super::outcome::outcome;
use crate::cache::{CacheError, Command, Reply};
use crate::event::outcome::Outcome;
use crate::pipeline::work::operation::Carried;
use crate::pipeline::work::question::{CommandEnd, Question};
use crate::pipeline::work::reply::Slot;
use crate::pipeline::write::queue::Pending;

/// What is told once the batch's own entries are settled: it may settle others of the same request.
#[derive(Default)]
pub(super) struct Told {
    answers: Vec<(Question, Command, Result<Reply, CacheError>)>,
    outdone: Vec<(Carried, Outcome)>,
}

impl Told {
    /// The entry with its outcome, if the command was that of an entry.
    pub(super) fn add(
        &mut self,
        command: Command,
        pending: Pending,
        result: Result<Reply, CacheError>,
    ) -> Option<(Slot, Outcome)> {
        match pending.end {
            CommandEnd::Entry(slot) => {
                let outcome = outcome(&command, pending.origin, result);
                let carried = pending.carried.filter(|carried| !carried.outdone.is_empty());
                self.outdone.extend(carried.map(|carried| (*carried, outcome.clone())));
                Some((slot, outcome))
            }
            CommandEnd::Question(question) => {
                self.answers.push((question, command, result));
                None
            }
        }
    }

    pub(super) fn tell(self, now: Instant) {
        for (carried, outcome) in self.outdone {
            carried.settle_outdone(&outcome, now);
        }
        for (question, command, result) in self.answers {
            let origin = crate::event::outcome::Origin::Blob;
            question.answer(result, |error| outcome(&command, origin, Err(error)));
        }
    }
}
