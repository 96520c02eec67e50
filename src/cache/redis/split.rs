//! Which commands of a batch go in one pipeline.
//!
//! A read is done in two steps where its value turns out to be large (`batch`), and the second must not see a later write.
//! So a write behind a read of its key goes in a later pipeline, with all that follows on that key; other keys go on. Where
//! the size is known beforehand, from a write in the same pipeline or from what an earlier one brought, the read asks for that
//! much at once, and needs no second step. A value that may be longer than Redis takes goes alone, for Redis closes the
//! connection over it.

use std::collections::{HashMap, HashSet};

use crate::cache::{CacheError, Command, Reply};
use crate::event::CacheKey;
use crate::redis::MAX_SURE_BYTES;

/// Commands of one pipeline, at most.
const MAX_COMMANDS: usize = 1024;
/// What the reads of one pipeline may bring, at most: Redis holds it until it is sent.
const MAX_READ_BYTES: usize = 64 * 1024 * 1024;

type Keys<'a, T> = HashMap<&'a CacheKey, T, ahash::RandomState>;

/// How a GET is asked for in its pipeline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    /// Bytes of the value that are asked for.
    pub(super) bytes: usize,
    /// Whether an `EXISTS` goes with it, to tell no value from an empty one.
    pub(super) with_exists: bool,
    /// A write of its key follows in the same pipeline: nothing can be asked once more.
    pub(super) is_followed: bool,
}

/// Commands of one pipeline: their places in the batch, and how its GETs are asked for, in order.
#[derive(Debug, Default)]
pub(super) struct PipelinePart {
    pub(super) places: Vec<usize>,
    pub(super) windows: Vec<Window>,
}

/// The start of a value that is read within the pipeline. 512 GETs of it are 32 MiB, once.
pub(super) const WINDOW_BYTES: usize = 64 * 1024;
/// A pipeline's reads come before room is taken for them: they bring this part of what is free, at most.
const FREE_SHARE: usize = 8;
/// The start of a value that is asked for at least.
const LEAST_WINDOW_BYTES: usize = 4 * 1024;

/// What the reads of one pipeline may bring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Of a value of unknown size.
    pub(super) window_bytes: usize,
    /// Of all values whose size is known.
    read_bytes: usize,
}

impl Bounds {
    /// Of a batch with so many reads, while so many bytes of memory are free.
    pub(super) fn new(reads: usize, free_bytes: usize) -> Self {
        let read_bytes = (free_bytes / FREE_SHARE).min(MAX_READ_BYTES);
        let share = read_bytes / reads.clamp(1, MAX_COMMANDS);
        Bounds { window_bytes: share.clamp(LEAST_WINDOW_BYTES, WINDOW_BYTES), read_bytes }
    }
}

/// What commands are, taken together: they are looked through once for all that is asked of them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Survey {
    /// What they put on the wire, about.
    pub(super) bytes: usize,
    /// How many of them read a value.
    pub(super) reads: usize,
    /// The place of the last whose answer is for replicas to bear out.
    pub(super) last_for_replicas: Option<usize>,
    /// Whether a write stands behind a read.
    is_written_after_reads: bool,
    pub(super) has_versions: bool,
    /// The length of the first value that Redis may refuse for it.
    pub(super) long_value: Option<usize>,
}

impl Survey {
    pub(super) fn of(commands: &[Command]) -> Self {
        let mut survey = Survey::default();
        for (place, command) in commands.iter().enumerate() {
            survey.bytes += command.weight();
            if command.is_read() {
                survey.reads += 1;
            } else if command.is_for_replicas() {
                survey.last_for_replicas = Some(place);
                survey.is_written_after_reads |= survey.reads > 0 && command.is_write();
            }
            survey.has_versions |= command.version().is_some();
            survey.long_value = survey.long_value.or_else(|| long_value(command));
        }
        survey
    }
}

/// Whether a batch is one pipeline, in which each read may be asked for once more.
pub(super) fn fits_one_pipeline(batch: &[Command], survey: &Survey) -> bool {
    if batch.len() > MAX_COMMANDS || batch.len() > 1 && survey.long_value.is_some() {
        return false;
    }
    if !survey.is_written_after_reads {
        return true;
    }
    let mut read = HashSet::with_capacity_and_hasher(survey.reads, ahash::RandomState::new());
    batch.iter().all(|command| match command {
        Command::Get { key, .. } => {
            read.insert(key);
            true
        }
        Command::Look { .. } | Command::Expiry { .. } => true,
        Command::Set { key, .. } | Command::Delete { key, .. } | Command::Refresh { key, .. } => !read.contains(key),
    })
}

/// The length of a value that Redis may refuse for it.
fn long_value(command: &Command) -> Option<usize> {
    match command {
        Command::Set { value, .. } => Some(value.len()).filter(|bytes| *bytes > MAX_SURE_BYTES),
        Command::Get { .. } | Command::Delete { .. } | Command::Look { .. } => None,
        Command::Refresh { .. } | Command::Expiry { .. } => None,
    }
}

/// The pipelines of a batch, one after the other.
pub(super) struct PipelineSplit<'a> {
    batch: &'a [Command],
    bounds: Bounds,
    left: Vec<usize>,
    /// Bytes that a key's value has at most.
    known: Keys<'a, usize>,
    /// Something on the key has to be repeated, and all that follows on it with that.
    held: HashSet<&'a CacheKey, ahash::RandomState>,
}

/// What the pipeline being made holds of a key.
#[derive(Default)]
struct KeyProgress {
    bound: Option<usize>,
    /// It is read, and that may take a second step.
    is_open: bool,
    /// The rest is for later.
    is_full: bool,
    /// Its last write stored a value that is not empty.
    is_filled: bool,
}

impl<'a> PipelineSplit<'a> {
    pub(super) fn new(batch: &'a [Command], bounds: Bounds) -> Self {
        PipelineSplit {
            batch,
            bounds,
            left: (0..batch.len()).collect(),
            known: Keys::default(),
            held: HashSet::default(),
        }
    }

    /// What goes next; None: nothing is left.
    pub(super) fn next(&mut self) -> Option<PipelinePart> {
        let mut keys: Keys<'a, KeyProgress> = Keys::default();
        let (mut part, mut later, mut fills, mut bytes) = (PipelinePart::default(), Vec::new(), Vec::new(), 0);
        let mut has_long = false;
        for place in std::mem::take(&mut self.left) {
            let Some(command) = self.batch.get(place) else { continue };
            let key = command.key();
            if self.held.contains(key) {
                continue;
            }
            let known = self.known.get(key).copied();
            let here = keys.entry(key).or_insert_with(|| KeyProgress { bound: known, ..KeyProgress::default() });
            let is_long = long_value(command).is_some();
            here.is_full |= part.places.len() >= MAX_COMMANDS || command.is_write() && here.is_open;
            here.is_full |= has_long || is_long && !part.places.is_empty();
            if let Command::Get { max_bytes, .. } = command
                && !here.is_full
            {
                let Bounds { window_bytes, read_bytes } = self.bounds;
                let sure = here.bound.filter(|bound| bound <= max_bytes && *bound < read_bytes);
                let asked = sure.unwrap_or(0).saturating_add(1).max(window(*max_bytes, window_bytes));
                let brings = sure.map_or(asked, |bound| bound + 1);
                here.is_full |= bytes + brings > read_bytes && !part.places.is_empty();
                if !here.is_full {
                    here.is_open |= sure.is_none();
                    bytes += brings;
                    part.windows.push(Window { bytes: asked, with_exists: false, is_followed: false });
                    fills.push(here.is_filled);
                }
            }
            if here.is_full {
                later.push(place);
                continue;
            }
            has_long = is_long;
            (here.bound, here.is_filled) = written(command, here.bound, here.is_filled);
            part.places.push(place);
        }
        self.left = later;
        self.mark_followed(&mut part, &fills);
        Some(part).filter(|part| !part.places.is_empty())
    }

    /// Notes which reads have a write behind them.
    fn mark_followed(&self, part: &mut PipelinePart, fills: &[bool]) {
        let mut overwritten = HashSet::<&CacheKey, ahash::RandomState>::default();
        let mut reads = part.windows.iter_mut().zip(fills).rev();
        for command in part.places.iter().rev().filter_map(|place| self.batch.get(*place)) {
            if command.is_write() {
                overwritten.insert(command.key());
            } else if command.is_read()
                && let Some((window, is_filled)) = reads.next()
            {
                window.is_followed = overwritten.contains(command.key());
                window.with_exists = window.is_followed && !is_filled;
            }
        }
    }

    /// Learns from how a part ended. `elsewhere`: the commands, by their place in the part, that belong to another node of a
    /// Cluster. What follows on their keys goes on, to be sent on there with them.
    pub(super) fn note(
        &mut self,
        part: &PipelinePart,
        results: &[Result<Reply, CacheError>],
        elsewhere: &HashSet<usize>,
    ) {
        for (index, (place, result)) in part.places.iter().zip(results).enumerate() {
            let Some(command) = self.batch.get(*place) else { continue };
            let key = command.key();
            let known = self.known.get(key).copied();
            let bound = match result {
                Ok(Reply::Hit(value)) => Some(value.len()),
                Ok(Reply::Miss) => Some(0),
                Ok(_) => written(command, known, false).0,
                Err(CacheError::ValueTooLarge { bytes, .. }) => usize::try_from(*bytes).ok(),
                Err(error) => {
                    if error.is_worth_retrying() && !elsewhere.contains(&index) {
                        self.held.insert(key);
                    }
                    None
                }
            };
            match bound {
                Some(bound) => drop(self.known.insert(key, bound)),
                None => drop(self.known.remove(key)),
            }
        }
    }
}

/// How large a value may be after a command, and whether it is known not to be empty.
fn written(command: &Command, bound: Option<usize>, is_filled: bool) -> (Option<usize>, bool) {
    match command {
        // A refresh lets what there is stand.
        Command::Get { .. } | Command::Look { .. } | Command::Refresh { .. } | Command::Expiry { .. } => {
            (bound, is_filled)
        }
        Command::Set { value, version: None, .. } => (Some(value.len()), !value.is_empty()),
        Command::Delete { version: None, .. } => (Some(0), false),
        // It may be superseded.
        Command::Set { value, .. } => (bound.map(|bound| bound.max(value.len())), false),
        Command::Delete { .. } => (bound, false),
    }
}

/// One byte more than is allowed shows that there is too much.
pub(super) fn window(max_bytes: usize, window_bytes: usize) -> usize {
    max_bytes.saturating_add(1).min(window_bytes)
}

#[cfg(test)]
mod tests;
