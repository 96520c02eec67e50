//! What the cache's reply to a command means for the entry that asked for it.

use crate::cache::{CacheError, Command, Reply};
use crate::event::outcome::{Origin, Outcome, ProblemKind};

pub(super) fn outcome(command: &Command, origin: Origin, result: Result<Reply, CacheError>) -> Outcome {
    match (command, result) {
        (Command::Set { value, ttl, .. }, Ok(Reply::Stored)) => {
            Outcome::Stored { bytes: value.len(), ttl: *ttl, source: origin }
        }
        (_, Ok(Reply::Hit(value))) => Outcome::Hit(value),
        (_, Ok(Reply::Miss)) => Outcome::Miss,
        (_, Ok(Reply::Deleted)) => Outcome::Deleted,
        (_, Ok(Reply::Absent)) => Outcome::Absent,
        (_, Ok(Reply::Superseded)) => Outcome::Superseded,
        (_, Ok(Reply::Stored | Reply::Seen(_) | Reply::Expires(_) | Reply::Unchanged | Reply::Changed)) => {
            Outcome::failed(ProblemKind::CacheUnavailable, "Redis sent a reply that does not fit the command")
        }
        (_, Err(CacheError::Down(cause))) => Outcome::failed(
            ProblemKind::CacheUnavailable,
            format!("Redis is down, so the command was not sent: {cause}"),
        ),
        (_, Err(error)) => Outcome::failed(problem_kind(command, &error), error.to_string()),
    }
}

fn problem_kind(command: &Command, error: &CacheError) -> ProblemKind {
    match (error, command) {
        (CacheError::WrongType, _) => ProblemKind::WrongType,
        (CacheError::ValueTooLarge { .. }, Command::Set { .. }) => ProblemKind::BlobTooLarge,
        (CacheError::ValueTooLarge { .. }, _) => ProblemKind::AnswerTooLarge,
        (CacheError::Refused(_), _) => ProblemKind::CacheRefused,
        (CacheError::Unavailable(_) | CacheError::Unsupported(_), _)
        | (CacheError::RefusedForNow(_) | CacheError::Down(_) | CacheError::RefusedTogether, _)
        | (CacheError::Postponed | CacheError::Overtaken, _) => ProblemKind::CacheUnavailable,
    }
}
