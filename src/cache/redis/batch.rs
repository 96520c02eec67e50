//! A batch of commands as pipelines, and the replies as results.
//!
//! A GET must not bring over more than was asked for, and values may have 512 MB. So the pipeline asks for the start of
//! a value only (`GETRANGE`), which is all of it for small ones, and for those whose size is known ([`super::split`]). What
//! fills that window is read after the pipeline: `STRLEN`, then `GET` if it fits. What is empty may be an empty value or none,
//! which `EXISTS` tells: in the pipeline where many misses are expected or a write follows, else after it. One `EXISTS` serves
//! [several reads](READS_TOGETHER): if it counts as many keys as there are values, the others do not exist; else each is asked for after
//! the pipeline. It stands before them, so that a key that expires in between makes it count more, never as many. (If another client
//! writes one of these keys in between, an empty value beside it can be answered as a miss.)
//!
//! Writes that stand side by side share a call where one can carry them: those with a version a script (`versioned`), those
//! with neither version nor expiry an `MSET`, those with one expiry an `MSETEX`. What Redis refuses for several it is asked for
//! one by one.

mod replies;

use bytes::Bytes;

pub(super) use self::replies::{ReplyReader, Step, decode_exists, looked};
use super::sharing::Singly;
use super::split::{Window, window};
use super::versioned::{self, MAX_BYTES, MAX_KEYS, VersionKeys};
use super::wait::{Wait, add_wait};
use crate::cache::Command;
use crate::event::Ttl;
use crate::redis::Encoder;

/// Of a pipeline's size, what is set aside for it beforehand, at most: large values are not copied into it.
const MAX_RESERVED_BYTES: usize = 256 * 1024;

/// Reads that share an `EXISTS`, at most: a command of its own for each takes Redis longer than the read. Redis does nothing else
/// meanwhile.
const READS_TOGETHER: usize = 16;

/// How a segment is asked for.
#[derive(Clone, Copy)]
pub(super) struct EncodeOptions<'a> {
    pub(super) version_keys: &'a VersionKeys,
    /// With an `EXISTS` for every GET.
    pub(super) with_exists: bool,
    /// How each GET is asked for, in order; empty: each for `window_bytes`, and once more if need be.
    pub(super) windows: &'a [Window],
    /// At most [`WINDOW_BYTES`](super::split::WINDOW_BYTES).
    pub(super) window_bytes: usize,
    /// With the scripts before all else.
    pub(super) with_scripts: bool,
    /// What goes in calls of its own.
    pub(super) singly: Singly,
    /// Each command with an `ASKING` before it.
    pub(super) asking: bool,
    /// A large value only after the server has had a chance to speak against its length.
    pub(super) probes_length: bool,
}

impl EncodeOptions<'_> {
    /// How the GET is asked for that has so many before it.
    fn window(&self, reads: usize, max_bytes: usize) -> Window {
        let default = Window { bytes: window(max_bytes, self.window_bytes), with_exists: false, is_followed: false };
        let window = self.windows.get(reads).copied().unwrap_or(default);
        Window { with_exists: window.with_exists || self.with_exists, ..window }
    }

    /// Whether reads side by side share an `EXISTS`. Who refuses several keys to an `MSET` would here too, and those of a Cluster
    /// would have to be in one slot.
    fn reads_share_exists(&self) -> bool {
        let Singly { sets, reads, .. } = self.singly;
        self.with_exists && self.windows.is_empty() && !sets && !reads && !self.version_keys.is_cluster
    }

    /// How many commands from the first on are one call, or reads behind one; `commands` is not empty.
    fn run_length(&self, commands: &[Command]) -> usize {
        match commands.first() {
            Some(command) if command.version().is_some() => {
                versioned::run_length(commands, self.version_keys, self.singly.versions)
            }
            // The keys of an `MSET` would have to be in one slot.
            Some(Command::Set { ttl, .. }) if !self.version_keys.is_cluster => {
                let is_single = if ttl.is_some() { self.singly.expiring } else { self.singly.sets };
                if is_single { 1 } else { sets_alike(commands, *ttl).max(1) }
            }
            Some(Command::Get { .. }) if self.reads_share_exists() => {
                let reads = commands.iter().take(READS_TOGETHER);
                reads.take_while(|command| matches!(command, Command::Get { .. })).count()
            }
            _ => 1,
        }
    }
}

/// How many commands from the first on may share an `MSET`, or an `MSETEX`, which know one expiry and no version. Redis does
/// nothing else meanwhile, so it has the bounds of a script's call.
fn sets_alike(commands: &[Command], of_all: Option<Ttl>) -> usize {
    let mut bytes = 0;
    let is_one = |command: &&Command| {
        bytes += command.weight();
        matches!(command, Command::Set { ttl, version: None, .. } if *ttl == of_all) && bytes <= MAX_BYTES
    };
    commands.iter().take(MAX_KEYS).take_while(is_one).count()
}

/// The pipeline for a segment of about so many `bytes`, packed into memory that was used before.
pub(super) fn encode(
    segment: &[Command],
    bytes: usize,
    options: EncodeOptions<'_>,
    wait: Option<&Wait>,
    room: Vec<u8>,
) -> Encoder {
    let mut encoder = Encoder::within(room, bytes.min(MAX_RESERVED_BYTES));
    encoder.ask(options.asking);
    if options.probes_length {
        encoder.probe_length();
    }
    if options.with_scripts {
        versioned::load(&mut encoder);
    }
    let (mut rest, mut reads) = (segment, 0);
    while let Some(command) = rest.first() {
        let length = options.run_length(rest);
        let (run, behind) = rest.split_at(length);
        match command {
            Command::Set { version: Some(_), .. }
            | Command::Delete { version: Some(_), .. }
            | Command::Refresh { .. } => options.version_keys.write(&mut encoder, run),
            Command::Expiry { key } => encoder.pack(&[b"PTTL", key.as_bytes()]),
            Command::Look { key, .. } => options.version_keys.look(&mut encoder, key.as_bytes()),
            Command::Set { ttl, version: None, .. } if length > 1 => set_all(&mut encoder, run, *ttl),
            Command::Set { key, value, ttl, version: None, .. } => set(&mut encoder, key.as_bytes(), value, *ttl),
            Command::Delete { key, version: None } => encoder.pack(&[b"UNLINK", key.as_bytes()]),
            Command::Get { .. } => {
                if length > 1 {
                    add_exists(&mut encoder, run.iter().map(|command| command.key().as_bytes()));
                }
                for command in run {
                    let Command::Get { key, max_bytes } = command else { continue };
                    let (key, window) = (key.as_bytes(), options.window(reads, *max_bytes));
                    reads += 1;
                    let last = window.bytes - 1;
                    encoder.pack(&[b"GETRANGE", key, b"0", itoa::Buffer::new().format(last).as_bytes()]);
                    if length == 1 && window.with_exists {
                        encoder.pack(&[b"EXISTS", key]);
                    }
                }
            }
        }
        rest = behind;
    }
    if let Some(wait) = wait {
        add_wait(&mut encoder, wait);
    }
    encoder
}

/// Adds `SET key value [EX seconds]`.
fn set(encoder: &mut Encoder, key: &[u8], value: &Bytes, ttl: Option<Ttl>) {
    encoder.begin(if ttl.is_some() { 5 } else { 3 });
    encoder.argument(b"SET");
    encoder.argument(key);
    encoder.value(value);
    expire(encoder, ttl);
}

/// Adds `MSET key value …`, or `MSETEX COUNT key value … EX seconds`.
fn set_all(encoder: &mut Encoder, sets: &[Command], ttl: Option<Ttl>) {
    encoder.begin(2 * sets.len() + if ttl.is_some() { 4 } else { 1 });
    encoder.argument(if ttl.is_some() { b"MSETEX".as_slice() } else { b"MSET" });
    if ttl.is_some() {
        encoder.number(sets.len());
    }
    for command in sets {
        if let Command::Set { key, value, .. } = command {
            encoder.argument(key.as_bytes());
            encoder.value(value);
        }
    }
    expire(encoder, ttl);
}

/// Adds `EXISTS key …`, whose answer counts a key as often as it is named.
pub(super) fn add_exists<'a>(encoder: &mut Encoder, keys: impl ExactSizeIterator<Item = &'a [u8]>) {
    encoder.begin(1 + keys.len());
    encoder.argument(b"EXISTS");
    keys.for_each(|key| encoder.argument(key));
}

/// Adds `EX seconds`.
fn expire(encoder: &mut Encoder, ttl: Option<Ttl>) {
    if let Some(ttl) = ttl {
        encoder.argument(b"EX");
        encoder.number(ttl.seconds());
    }
}

#[cfg(test)]
mod tests;
