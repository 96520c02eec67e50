//! The stream of dead letters: reads it, and takes letters away or runs them again.

use bytes::Bytes;

use super::dead::DeadLetter;
use super::entry::Entry;
use super::link::{Link, LinkError, args};
use super::{Journal, unix_millis};

const UNBURY: &str = include_str!("scripts/unbury.lua");

/// Letters that are read at a time.
const PAGE: u64 = 200;

/// The dead letters of a journal.
pub struct Letters {
    journal: Journal,
    link: Link,
}

impl Letters {
    /// Over a line of its own, which connects with the first call.
    pub fn new(journal: Journal) -> Self {
        let link = journal.shared.connector.link();
        Letters { journal, link }
    }

    /// The next letters behind this id, the oldest first, with their ids; `-` begins. None at all: there are no more.
    ///
    /// # Errors
    /// The journal's Redis does not answer or refuses.
    pub async fn behind(&mut self, id: &str) -> Result<Vec<(String, DeadLetter)>, LinkError> {
        let from = if id == "-" { id.to_owned() } else { format!("({id}") };
        let command = args!["XRANGE", &self.journal.shared.keys.dead, &from, "+", "COUNT", PAGE];
        let reply = self.link.one(command).await?;
        let letter = |entry: &crate::redis::Value| {
            let [id, fields] = entry.list() else { return None };
            Some((String::from_utf8_lossy(id.text()?).into_owned(), DeadLetter::read(fields.list())))
        };
        Ok(reply.list().iter().filter_map(letter).collect())
    }

    /// The letter with this id.
    ///
    /// # Errors
    /// The journal's Redis does not answer, or that is no id.
    pub async fn find(&mut self, id: &str) -> Result<Option<DeadLetter>, LinkError> {
        let command = args!["XRANGE", &self.journal.shared.keys.dead, id.to_owned(), id.to_owned()];
        let reply = self.link.one(command).await?;
        Ok(reply.list().first().and_then(|entry| Some(DeadLetter::read(entry.list().get(1)?.list()))))
    }

    /// Takes a letter away for good. Whether it was there.
    ///
    /// # Errors
    /// The journal's Redis does not answer or refuses.
    pub async fn drop(&mut self, id: &str) -> Result<bool, LinkError> {
        self.unbury(id, Bytes::new()).await
    }

    /// Puts a letter's event at the end of the journal. `is_guarded`: it is applied only if its keys are as they were when it
    /// died. Whether it was there.
    ///
    /// # Errors
    /// The journal's Redis does not answer or refuses.
    pub async fn replay(&mut self, id: &str, letter: &DeadLetter, is_guarded: bool) -> Result<bool, LinkError> {
        let entry = Entry {
            accepted_ms: unix_millis(),
            source: letter.meta.source.clone(),
            request_id: letter.meta.request_id.clone(),
            records: vec![letter.record(is_guarded)],
        };
        self.unbury(id, entry.write().into()).await
    }

    async fn unbury(&mut self, id: &str, entry: Bytes) -> Result<bool, LinkError> {
        let keys = &self.journal.shared.keys;
        let command =
            args!["EVAL", UNBURY, 4_u64, &keys.dead, &keys.buried, &keys.stream, &keys.events, id.to_owned(), entry];
        Ok(self.link.one(command).await?.number() == Some(1))
    }
}
