//! Questions to the cache on behalf of an operation whose value is not there yet. The operation stays where it is in the
//! order of its key; the question goes through the key's writer as a command does, behind what was ready before it.

use std::time::Instant;

use super::reply::Slot;
use crate::cache::{CacheError, Reply, Seen};
use crate::event::outcome::Outcome;

/// What the cache says.
#[derive(Debug)]
pub enum CacheAnswer {
    /// The question was lost.
    Lost,
    /// How the write stands that is to come.
    Seen(Box<Seen>),
    /// The value that there is stands, as if it had been written.
    Unchanged,
    /// The key holds something else than was thought.
    Changed,
    /// Something newer was applied to the key.
    Superseded,
    /// The cache refuses the question for good.
    Refused,
    /// The cache could not be asked in time: how the operation ends that asked.
    Failed(Outcome),
}

/// A question, with who wants to know. Dropped unanswered it answers [`CacheAnswer::Lost`].
pub struct Question {
    tell: Option<Box<dyn FnOnce(CacheAnswer) + Send>>,
}

impl Question {
    /// `tell` is called once. It may be called while a panic unwinds, so it must not panic itself.
    pub fn new(tell: impl FnOnce(CacheAnswer) + Send + 'static) -> Self {
        Question { tell: Some(Box::new(tell)) }
    }

    /// Tells what became of it; `outcome` says it for an operation.
    pub fn answer(mut self, result: Result<Reply, CacheError>, outcome: impl FnOnce(CacheError) -> Outcome) {
        self.tell(match result {
            Ok(Reply::Seen(seen)) => CacheAnswer::Seen(seen),
            Ok(Reply::Unchanged) => CacheAnswer::Unchanged,
            Ok(Reply::Superseded) => CacheAnswer::Superseded,
            Ok(_) => CacheAnswer::Changed,
            Err(CacheError::Refused(_)) => CacheAnswer::Refused,
            Err(error) => CacheAnswer::Failed(outcome(error)),
        });
    }

    fn tell(&mut self, answer: CacheAnswer) {
        if let Some(tell) = self.tell.take() {
            tell(answer);
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.tell(CacheAnswer::Lost);
    }
}

/// Who is told of the end of a command.
pub enum CommandEnd {
    /// An entry, which ends with it.
    Entry(Slot),
    /// Who asked.
    Question(Question),
}

impl CommandEnd {
    /// The entry, if it is one.
    pub fn entry(&self) -> Option<&Slot> {
        match self {
            CommandEnd::Entry(slot) => Some(slot),
            CommandEnd::Question(_) => None,
        }
    }

    /// Whether its work must not begin any more.
    pub fn is_void(&self, now: Instant) -> bool {
        self.entry().is_some_and(|slot| slot.is_void(now))
    }

    /// It was not done.
    pub fn fail(self, outcome: Outcome, now: Instant) {
        match self {
            CommandEnd::Entry(slot) => slot.settle(outcome, now),
            CommandEnd::Question(mut question) => question.tell(CacheAnswer::Failed(outcome)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_question_is_answered_once_whatever_becomes_of_it() {
        let (told, answers) = mpsc::channel();
        let question = || {
            let told = told.clone();
            Question::new(move |answer| told.send(answer).expect("somebody listens"))
        };
        let failed = |error: CacheError| {
            Outcome::failed(crate::event::outcome::ProblemKind::CacheUnavailable, error.to_string())
        };
        drop(question());
        question().answer(Ok(Reply::Unchanged), failed);
        question().answer(Err(CacheError::Refused("NOPERM".into())), failed);
        question().answer(Err(CacheError::Down("no".into())), failed);
        CommandEnd::Question(question()).fail(Outcome::Absent, Instant::now());
        drop(told);
        let answers: Vec<CacheAnswer> = answers.iter().collect();
        use CacheAnswer::{Failed, Lost, Refused, Unchanged};
        assert!(matches!(answers[..], [Lost, Unchanged, Refused, Failed(_), Failed(Outcome::Absent)]), "{answers:?}");
    }
}
