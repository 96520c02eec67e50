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
        (_, Err(error)) => Outcome::failed(problem_kind(command, origin, &error), error.to_string()),
    }
}

fn problem_kind(command: &Command, origin: Origin, error: &CacheError) -> ProblemKind {
    match (error, command) {
        (CacheError::WrongType, _) => ProblemKind::WrongType,
        (CacheError::ValueTooLarge { .. }, Command::Set { .. }) => match origin {
            Origin::Blob => ProblemKind::BlobTooLarge,
            Origin::Inline => ProblemKind::CacheRefused,
        },
        (CacheError::ValueTooLarge { .. }, _) => ProblemKind::AnswerTooLarge,
        (CacheError::Refused(_), _) => ProblemKind::CacheRefused,
        (CacheError::Unavailable(_) | CacheError::Unsupported(_), _)
        | (CacheError::RefusedForNow(_) | CacheError::Down(_) | CacheError::RefusedTogether, _)
        | (CacheError::Postponed | CacheError::Overtaken, _) => ProblemKind::CacheUnavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::CacheKey;

    #[test]
    fn a_value_that_the_cache_could_never_hold_is_called_a_blob_only_if_it_is_one() {
        let key = CacheKey::new_unchecked("k");
        let set = Command::Set { key, value: "long".into(), ttl: None, version: None, remembered: None };
        let kind = |origin| {
            let too_large = CacheError::ValueTooLarge { bytes: 2, max_bytes: 1 };
            outcome(&set, origin, Err(too_large)).problem().map(|problem| problem.kind)
        };
        assert_eq!(kind(Origin::Inline), Some(ProblemKind::CacheRefused));
        assert_eq!(kind(Origin::Blob), Some(ProblemKind::BlobTooLarge));
    }
}
