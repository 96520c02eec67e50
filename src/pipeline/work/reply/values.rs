//! The values in an answer: how many bytes of them are held, and which have to go.

use crate::cache::room::NO_ROOM;
use crate::event::outcome::{COUNTED_FROM_BYTES, Outcome, ProblemKind};
use crate::pipeline::work::admission::Permit;

/// Bytes of the values in an answer.
pub(super) struct Values {
    /// `http.max_answer_bytes`.
    pub(super) max_bytes: usize,
    held_bytes: usize,
    /// The entries with values, once there were too many bytes: a look at every entry is then needed no more.
    hits: Option<Vec<usize>>,
}

impl Values {
    /// No values yet.
    pub(super) fn new(max_bytes: usize) -> Self {
        Values { max_bytes, held_bytes: 0, hits: None }
    }

    /// The entry at `index` has this outcome.
    pub(super) fn add(&mut self, index: usize, outcome: &Outcome) {
        if let Outcome::Hit(value) = outcome {
            self.held_bytes += value.len();
            if let Some(hits) = &mut self.hits {
                hits.push(index);
            }
        }
    }

    /// While values still come in, twice the answer's bytes are held at most. Of those that are here, the ones stay that would be
    /// the answer if no more came.
    pub(super) fn let_go(&mut self, outcomes: &mut [Option<Outcome>]) {
        if self.held_bytes <= self.max_bytes.saturating_mul(2) {
            return;
        }
        let hits = self.hits.get_or_insert_with(|| places_of_hits(outcomes));
        hits.sort_unstable();
        let mut left = self.max_bytes;
        hits.retain(|index| {
            let Some(place) = outcomes.get_mut(*index) else { return false };
            *place = place.take().map(|outcome| within_answer(outcome, &mut left));
            matches!(place, Some(Outcome::Hit(_)))
        });
        self.held_bytes = self.max_bytes - left;
    }
}

/// Values up to this size are part of an entry's weight; those above [`COUNTED_FROM_BYTES`] bring room of their own.
const SMALL_VALUE_BYTES: usize = 256;

/// Takes room for a value that has none yet; without room the value is dropped.
pub(super) fn counted(outcome: Outcome, permit: &mut Permit) -> Outcome {
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

fn places_of_hits(outcomes: &[Option<Outcome>]) -> Vec<usize> {
    let is_hit = |(_, outcome): &(usize, &Option<Outcome>)| matches!(outcome, Some(Outcome::Hit(_)));
    outcomes.iter().enumerate().filter(is_hit).map(|(index, _)| index).collect()
}

fn answer_too_large(bytes: usize) -> Outcome {
    let detail =
        format!("the value has {bytes} bytes, more than is left of http.max_answer_bytes; read fewer keys at once");
    Outcome::failed(ProblemKind::AnswerTooLarge, detail)
}

/// The outcome if its value still has room in the answer, else `answer-too-large`; called in the order sent.
pub(super) fn within_answer(outcome: Outcome, bytes_left: &mut usize) -> Outcome {
    match outcome {
        Outcome::Hit(value) if value.len() > *bytes_left => answer_too_large(value.len()),
        Outcome::Hit(value) => {
            *bytes_left -= value.len();
            Outcome::Hit(value)
        }
        other => other,
    }
}
