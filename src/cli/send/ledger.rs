//! What became of the events: counts, and the file of those that were not stored.
//!
//! That file is written in the order of the input: an event goes there once all before it are settled. Until then it is
//! kept, and how much is kept is told, so that no more is read meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bytes::Bytes;

use super::event::Item;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendCounts {
    pub ok: u64,
    pub rejected: u64,
    pub unavailable: u64,
}

impl SendCounts {
    pub fn total(&self) -> u64 {
        self.ok + self.rejected + self.unavailable
    }
}

/// How an event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Ok,
    Rejected,
    Unavailable,
}

pub struct Ledger {
    pub counts: SendCounts,
    /// The number of the first event that is not settled.
    first: u64,
    /// From `first` on, which are: what of the input was read up to there.
    settled: VecDeque<Option<u64>>,
    /// Bytes of the input of which all is settled.
    pub done_bytes: u64,
    /// Not stored, with some before them not settled.
    kept: BTreeMap<u64, Bytes>,
    kept_bytes: usize,
    file: Option<BufWriter<File>>,
}

impl Ledger {
    /// For events from the number `first` on.
    pub fn new(first: u64, file: Option<File>) -> Self {
        let file = file.map(BufWriter::new);
        let (settled, kept) = (VecDeque::new(), BTreeMap::new());
        Ledger { counts: SendCounts::default(), first, settled, done_bytes: 0, kept, kept_bytes: 0, file }
    }

    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// # Errors
    /// The file cannot be written.
    pub fn settle(&mut self, item: &Item, fate: Fate) -> io::Result<()> {
        match fate {
            Fate::Ok => self.counts.ok += 1,
            Fate::Rejected => self.counts.rejected += 1,
            Fate::Unavailable => self.counts.unavailable += 1,
        }
        if fate != Fate::Ok && self.file.is_some() {
            self.kept_bytes += item.text.len();
            self.kept.insert(item.number, item.text.clone());
        }
        let at = usize::try_from(item.number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        if self.settled.len() <= at {
            self.settled.resize(at + 1, None);
        }
        if let Some(settled) = self.settled.get_mut(at) {
            *settled = Some(item.read_to);
        }
        if at == 0 { self.advance() } else { Ok(()) }
    }

    /// Events from the first that is not settled to the last that is, and the bytes that are kept.
    pub fn open(&self) -> (usize, usize) {
        (self.settled.len(), self.kept_bytes)
    }

    /// The number of the first event that is not settled.
    pub fn first_unsettled(&self) -> u64 {
        self.first
    }

    /// # Errors
    /// The file cannot be written.
    pub fn finish(&mut self) -> io::Result<()> {
        match &mut self.file {
            Some(file) => file.flush(),
            None => Ok(()),
        }
    }

    fn advance(&mut self) -> io::Result<()> {
        while let Some(Some(read_to)) = self.settled.front() {
            self.done_bytes = *read_to;
            self.settled.pop_front();
            if let (Some(text), Some(file)) = (self.kept.remove(&self.first), &mut self.file) {
                self.kept_bytes -= text.len();
                file.write_all(&text)?;
                file.write_all(b"\n")?;
            }
            self.first += 1;
        }
        Ok(())
    }
}

/// Makes the file, which must not hold anything yet: that may be what was not stored before.
///
/// # Errors
/// Why it cannot be used, for a person.
pub fn create(path: &Path) -> Result<File, String> {
    // For its owner alone: it holds values.
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    let length = file.and_then(|file| Ok((file.metadata()?.len(), file)));
    match length {
        Ok((0, file)) => Ok(file),
        Ok(_) => Err(format!("{}: the file is not empty; send its events first, or name another file", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::send::event::{InputPlace, Touches};

    #[test]
    fn what_was_not_stored_is_written_in_order_once_all_before_it_is_settled() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("failed");
        let mut ledger = Ledger::new(5, Some(create(&path).unwrap()));
        let mut settle = |number: u64, fate| {
            let text = Bytes::from(number.to_string());
            let place = InputPlace { file: "f".into(), line: 1 };
            ledger.settle(&Item { number, place, text, touches: Touches::Nothing, read_to: number }, fate).unwrap();
            ledger.finish().unwrap();
            (std::fs::read_to_string(&path).unwrap(), ledger.first_unsettled())
        };
        assert_eq!(settle(7, Fate::Unavailable), (String::new(), 5));
        assert_eq!(settle(5, Fate::Ok), (String::new(), 6));
        assert_eq!(settle(8, Fate::Ok), (String::new(), 6));
        assert_eq!(settle(6, Fate::Rejected), ("6\n7\n".to_owned(), 9));
        assert_eq!((ledger.open(), ledger.done_bytes), ((0, 0), 8));
        assert_eq!(ledger.counts, SendCounts { ok: 2, rejected: 1, unavailable: 1 });
        assert!(create(&path).unwrap_err().contains("not empty"));
    }
}
