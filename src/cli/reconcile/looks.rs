//! Looking at keys in Redis, many at a time, and what their state says of an object.

use std::time::Duration;

use crate::blob::store::Listed;
use crate::cache::{Command, Reply, Seen, Session};
use crate::cli::retry_window::RetryWindow;
use crate::event::CacheKey;
use crate::event::sources::Place;
use crate::event::version::{Rank, Version};

/// Keys of one round trip.
const BATCH: usize = 500;

/// Where an object stands against its key.
pub enum KeyState {
    /// The key holds what the object is.
    InStep,
    /// It does not, or nobody can say. What is written now has this version.
    Differs(Version),
}

impl KeyState {
    /// `resource` is what the object is remembered by.
    pub fn of(seen: &Seen, listed: &Listed, resource: Option<u64>) -> Self {
        let remembered = seen.remembered.as_ref().filter(|remembered| Some(remembered.resource) == resource);
        let is_same_tag =
            remembered.zip(listed.etag.as_ref()).is_some_and(|(remembered, etag)| remembered.etag.matches(etag));
        let generation = listed.generation.and_then(|number| Version::from_place(&Place::Number(number), Rank::Set));
        // A generation is of one state of the object, whatever the tag says.
        let is_same_generation = seen.holds
            && generation.is_some()
            && generation.as_ref().map(Version::as_seen) == seen.version.as_ref().map(Version::as_seen);
        if is_same_tag || is_same_generation {
            return KeyState::InStep;
        }
        KeyState::Differs(match generation {
            // Written by a release that held it to be later than a deletion.
            Some(generation) if seen.version.as_ref() == Some(&generation.as_seen()) => generation.as_seen(),
            // It is of one state of the object alone: once deleted, it does not come back.
            Some(generation) => generation,
            None => not_before(seen.version.as_ref()),
        })
    }
}

/// A version for what is written now, over this one and nothing later: a write at a storage's place is applied once more at the
/// same one, and a deletion at that place, which may still come, wins over it.
fn not_before(last: Option<&Version>) -> Version {
    match last {
        Some(write) if write.is_place_of_a_write() => write.clone(),
        last => after(last),
    }
}

/// A version for what is deleted now, over this one and nothing later.
pub fn after(last: Option<&Version>) -> Version {
    last.map_or_else(Version::before_any_place, Version::as_seen)
}

/// A line to Redis for looks alone.
pub struct Looks {
    session: Box<dyn Session>,
    /// How long keys are asked for (`redis.retry_ms`).
    retry: Duration,
}

impl Looks {
    pub fn new(session: Box<dyn Session>, retry: Duration) -> Self {
        Looks { session, retry }
    }

    pub fn session(&mut self) -> &mut dyn Session {
        self.session.as_mut()
    }

    /// The time for one step of a scan over the same line.
    pub fn window(&self) -> RetryWindow {
        RetryWindow::new(self.retry)
    }

    /// What each key is.
    ///
    /// # Errors
    ///
    /// Why Redis did not say within `redis.retry_ms`.
    pub async fn at(&mut self, keys: Vec<CacheKey>) -> Result<Vec<Seen>, String> {
        let mut seen = Vec::with_capacity(keys.len());
        for batch in keys.chunks(BATCH) {
            let look = |key: &CacheKey| Command::Look { key: key.clone(), version: None };
            let batch: Vec<Command> = batch.iter().map(look).collect();
            seen.append(&mut self.batch(&batch).await?);
        }
        Ok(seen)
    }

    async fn batch(&mut self, batch: &[Command]) -> Result<Vec<Seen>, String> {
        let window = self.window();
        loop {
            let replies: Result<Vec<Reply>, _> = self.session.apply(batch, window.left()).await.into_iter().collect();
            match replies {
                Ok(replies) => {
                    let seen = |reply| if let Reply::Seen(seen) = reply { *seen } else { Seen::default() };
                    return Ok(replies.into_iter().map(seen).collect());
                }
                Err(error) if !window.pause(Some(&error)).await => {
                    return Err(format!("Redis did not answer what it holds: {}", error.cause()));
                }
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u128, rank: Rank) -> Version {
        Version::from_place(&Place::Number(number), rank).expect("a version")
    }

    fn differs(seen: &Seen, generation: Option<u128>) -> Version {
        let listed = Listed { name: "a".to_owned(), etag: None, generation };
        match KeyState::of(seen, &listed, None) {
            KeyState::Differs(version) => version,
            KeyState::InStep => panic!("in step"),
        }
    }

    /// Google and SeaweedFS tell of a deletion at the place of the write that it undoes.
    #[test]
    fn a_deletion_of_what_is_written_now_still_wins() {
        let deletion = at(7, Rank::Delete);
        assert!(differs(&Seen::default(), Some(7)) < deletion, "a generation");
        let last = |version| Seen { version: Some(version), ..Seen::default() };
        assert!(differs(&last(at(7, Rank::Set)), None) < deletion, "a value that has expired");
        let earlier = at(7, Rank::Set).as_seen();
        assert_eq!(differs(&last(earlier.clone()), Some(7)), earlier, "it would be superseded");
        assert!(differs(&Seen::default(), None) < at(0, Rank::Set), "nothing is known of the key");
        let again = differs(&last(deletion.clone()), None);
        assert!(deletion < again && again < at(8, Rank::Set), "there is an object again");
    }
}
