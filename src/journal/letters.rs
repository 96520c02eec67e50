//! The stream of dead letters: reads it, and takes letters away or runs them again.

use std::collections::VecDeque;

use bytes::Bytes;

use super::dead::DeadLetter;
use super::entry::{Digest, Entry};
use super::filter::LetterFilter;
use super::letter_id::LetterId;
use super::link::{Link, LinkError, Value, args};
use super::{Journal, READ, unix_millis};

const UNBURY: &str = include_str!("scripts/unbury.lua");

/// Letters that are read at a time, and their bytes; one that is larger is read alone.
const PAGE: usize = 200;
const PAGE_BYTES: usize = 1 << 20;

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

    /// How many there are.
    ///
    /// # Errors
    /// The journal's Redis does not answer or refuses.
    pub async fn count(&mut self) -> Result<usize, LinkError> {
        let reply = self.link.one(args!["XLEN", &self.journal.shared.keys.dead]).await?;
        Ok(reply.number().and_then(|letters| usize::try_from(letters).ok()).unwrap_or(0))
    }

    /// The next letters behind this one, the oldest first, and whether these are all; None: from the first on.
    async fn behind(&mut self, id: Option<LetterId>) -> Result<(Vec<(LetterId, DeadLetter)>, bool), LinkError> {
        let after = id.map_or_else(|| "0-0".to_owned(), |id| id.to_string());
        let command = args!["EVAL", READ, 1_u64, &self.journal.shared.keys.dead, after, PAGE as u64, PAGE_BYTES as u64];
        let page = self.link.one(command).await?;
        let has_all = page.list().len() < PAGE && bytes_of(&page) < PAGE_BYTES;
        Ok((read(&page), has_all))
    }

    /// The letter with this ID.
    ///
    /// # Errors
    /// The journal's Redis does not answer or refuses.
    pub async fn find(&mut self, id: LetterId) -> Result<Option<DeadLetter>, LinkError> {
        let command = args!["XRANGE", &self.journal.shared.keys.dead, id.to_string(), id.to_string()];
        Ok(read(&self.link.one(command).await?).pop().map(|(_, letter)| letter))
    }

    /// Takes a letter away for good. Whether it was there.
    ///
    /// # Errors
    /// The journal's Redis does not answer or refuses.
    pub async fn drop(&mut self, id: LetterId) -> Result<bool, LinkError> {
        self.unbury(id, Bytes::new(), Bytes::new()).await
    }

    /// As [`DeadLetter::guard`], for as long as the settings say that versions are kept.
    ///
    /// # Errors
    /// Why it must not be run again, for a person.
    pub fn guard<'a>(&self, letter: &'a DeadLetter, force: bool) -> Result<&'a [Digest], &'static str> {
        letter.guard(force, self.journal.settings().version_window)
    }

    /// Puts a letter's event at the end of the journal. It is applied only if its keys hold what these are the digests of; none:
    /// whatever they hold. Whether it was there.
    ///
    /// # Errors
    /// The journal is full, or its Redis does not answer or refuses.
    pub async fn replay(&mut self, id: LetterId, letter: &DeadLetter, held: &[Digest]) -> Result<bool, LinkError> {
        let entry = Entry {
            accepted_ms: unix_millis(),
            source: letter.meta.source.clone(),
            request_id: letter.meta.request_id.clone(),
            records: vec![letter.record(held)],
        };
        let digests = if held.len() > 1 { held.concat().into() } else { Bytes::new() };
        self.unbury(id, entry.write().into(), digests).await
    }

    async fn unbury(&mut self, id: LetterId, entry: Bytes, digests: Bytes) -> Result<bool, LinkError> {
        let (keys, id, most) = (&self.journal.shared.keys, id.to_string(), self.journal.max_events());
        let command = args![
            "EVAL",
            UNBURY,
            4_u64,
            &keys.dead,
            &keys.buried,
            &keys.stream,
            &keys.events,
            id,
            entry,
            most,
            digests
        ];
        match self.link.one(command).await?.number() {
            Some(..0) => Err(LinkError::Full),
            done => Ok(done == Some(1)),
        }
    }
}

/// Of the fields of a range, as the script counts them.
fn bytes_of(range: &Value) -> usize {
    let fields = range.list().iter().filter_map(|entry| entry.list().get(1)).flat_map(Value::list);
    fields.filter_map(Value::text).map(Bytes::len).sum()
}

/// The letters of a range.
fn read(range: &Value) -> Vec<(LetterId, DeadLetter)> {
    let letter = |entry: &Value| {
        let [id, fields] = entry.list() else { return None };
        let id = std::str::from_utf8(id.text()?).ok()?.parse().ok()?;
        Some((id, DeadLetter::read(fields.list())))
    };
    range.list().iter().filter_map(letter).collect()
}

/// A walk through the letters that a filter lets through, the oldest first.
pub struct LetterWalk {
    filter: LetterFilter,
    /// The last letter that was looked at.
    behind: Option<LetterId>,
    /// Letters that are read and not looked at.
    page: VecDeque<(LetterId, DeadLetter)>,
    /// Letters that are still looked at, at most.
    left: usize,
    has_all: bool,
}

impl LetterWalk {
    /// From the letter behind this one on, or the first; it looks at so many letters at most.
    pub fn new(filter: LetterFilter, behind: Option<LetterId>, most: usize) -> Self {
        LetterWalk { filter, behind, page: VecDeque::new(), left: most, has_all: false }
    }

    /// The next letter that the filter lets through.
    ///
    /// # Errors
    /// The journal's Redis does not answer or refuses.
    pub async fn next(&mut self, letters: &mut Letters) -> Result<Option<(LetterId, DeadLetter)>, LinkError> {
        while self.left > 0 {
            if self.page.is_empty() && !self.has_all {
                let (page, has_all) = letters.behind(self.behind).await?;
                (self.page, self.has_all) = (page.into(), has_all);
            }
            let Some((id, letter)) = self.page.pop_front() else { return Ok(None) };
            self.left -= 1;
            self.behind = Some(id);
            if self.filter.passes(&letter) {
                return Ok(Some((id, letter)));
            }
        }
        Ok(None)
    }

    /// Behind which letter another walk goes on; None: there are no more.
    pub fn rest(&self) -> Option<LetterId> {
        self.behind.filter(|_| !self.has_all || !self.page.is_empty())
    }
}
