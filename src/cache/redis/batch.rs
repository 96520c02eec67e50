//! A batch of commands as pipelines, and the replies as results.
//!
//! A GET must not bring over more than was asked for, and values may have 512 MB. So the pipeline asks for the start of
//! a value only (`GETRANGE`), which is all of it for small ones, and for those whose size is known ([`super::split`]). What
//! fills that window is read after the pipeline: `STRLEN`, then `GET` if it fits. What is empty may be an empty value or none,
//! which `EXISTS` tells: in the pipeline where many misses are expected or a write follows, else after it.
//!
//! Writes that stand side by side share a call where one can carry them: those with a version a script (`versioned`), those
//! with neither version nor expiry an `MSET`, those with one expiry an `MSETEX`. What Redis refuses for several it is asked for
//! one by one.

use std::time::Duration;
use std::vec;

use bytes::Bytes;

use super::sharing::{Refusal, RefusedTogether, Singly};
use super::split::{Window, window};
use super::unexpected;
use super::versioned::{self, MAX_BYTES, MAX_KEYS, VersionKeys};
use super::wait::{Wait, add_wait};
use crate::cache::{CacheError, Command, Reply, Seen};
use crate::event::Ttl;
use crate::event::version::Version;
use crate::redis::{Code, Encoder, Frame, Hint, Redirect};

/// Of a pipeline's size, what is set aside for it beforehand, at most: large values are not copied into it.
const MAX_RESERVED_BYTES: usize = 256 * 1024;

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

    /// How many commands from the first on are one call; `commands` is not empty.
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
            Command::Get { key, max_bytes } => {
                let (key, window) = (key.as_bytes(), options.window(reads, *max_bytes));
                reads += 1;
                let last = window.bytes - 1;
                encoder.pack(&[b"GETRANGE", key, b"0", itoa::Buffer::new().format(last).as_bytes()]);
                if window.with_exists {
                    encoder.pack(&[b"EXISTS", key]);
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

/// Adds `EX seconds`.
fn expire(encoder: &mut Encoder, ttl: Option<Ttl>) {
    if let Some(ttl) = ttl {
        encoder.argument(b"EX");
        encoder.number(ttl.seconds());
    }
}

/// What became of a command after its pipeline.
pub(super) enum Step {
    Done(Result<Reply, CacheError>),
    /// Not done: another node of the Cluster is to be asked.
    Elsewhere(Redirect),
    /// Nothing, or an empty value: `EXISTS` is to tell.
    Empty,
    /// A value that fills the window: to be read on its own.
    ReadOn,
}

/// The replies to a segment, command by command, as far as they arrived.
pub(super) struct ReplyReader<'a> {
    rest: &'a [Command],
    /// GETs before those.
    reads: usize,
    options: EncodeOptions<'a>,
    frames: vec::IntoIter<Frame>,
    /// Of the call under way: commands that are still to be told what became of them, and why it failed as a whole.
    shared: usize,
    failure: Option<CacheError>,
    redirect: Option<Redirect>,
    /// What several commands share was refused: for want of a permission for the key of one of them, say.
    pub(super) refused_together: RefusedTogether,
}

impl<'a> ReplyReader<'a> {
    /// `frames` are those after what stands before the commands.
    pub(super) fn new(segment: &'a [Command], options: EncodeOptions<'a>, frames: vec::IntoIter<Frame>) -> Self {
        ReplyReader {
            rest: segment,
            reads: 0,
            options,
            frames,
            shared: 0,
            failure: None,
            redirect: None,
            refused_together: RefusedTogether::default(),
        }
    }

    /// What comes after the commands.
    pub(super) fn into_frames(self) -> vec::IntoIter<Frame> {
        self.frames
    }

    /// One of those that share a call; if it is the first, of so many.
    fn shared_call(&mut self, command: &Command, length: usize) -> Option<Step> {
        let has_version = command.version().is_some();
        let expires = matches!(command, Command::Set { ttl: Some(_), .. });
        if self.shared == 0 {
            let (mut is_split, mut refusal) = (false, Refusal::Together);
            self.redirect = None;
            self.failure = match self.frames.next()? {
                Frame::Array(elements) if has_version && elements == length => None,
                Frame::Status if !has_version => None,
                Frame::Number(1) if !has_version && expires => None,
                Frame::Error(code) => {
                    self.redirect = code.redirect().cloned();
                    // Some of its keys are on their way to another node.
                    is_split = code.as_str() == "TRYAGAIN";
                    refusal = match code.hint() {
                        Some(Hint::UnknownCommand) => Refusal::Unknown,
                        // Who gave the rights need not know of so new a command.
                        Some(Hint::ForbiddenCommand) if expires => Refusal::Unknown,
                        _ => Refusal::Together,
                    };
                    let call = match has_version {
                        true => "EVALSHA",
                        false if length > 1 && expires => "MSETEX",
                        false if length > 1 => "MSET",
                        false => "SET",
                    };
                    Some(code.to_error(call).into())
                }
                _ => Some(unexpected()),
            };
            if length > 1 && (is_split || matches!(self.failure, Some(CacheError::Refused(_)))) {
                let refused = &mut self.refused_together;
                let kind = match (has_version, expires) {
                    (true, _) => &mut refused.versions,
                    (false, true) => &mut refused.expiring,
                    (false, false) => &mut refused.sets,
                };
                *kind = Some(refusal);
                self.failure = Some(CacheError::RefusedTogether);
            }
            self.shared = length;
        }
        let result = match &self.failure {
            Some(error) => Err(error.clone()),
            None if has_version => versioned::written(&self.frames.next()?),
            None => Ok(Reply::Stored),
        };
        self.shared -= 1;
        Some(self.redirect.clone().map_or(Step::Done(result), Step::Elsewhere))
    }

    fn single_call(&mut self, command: &Command) -> Option<Step> {
        let first = self.frames.next()?;
        let name = match command {
            Command::Get { max_bytes, .. } => return self.read(*max_bytes, first),
            Command::Look { version, .. } => return Some(looked(version, first, self.frames.next()?)),
            Command::Set { .. } | Command::Refresh { .. } => "SET",
            Command::Delete { .. } => "UNLINK",
            Command::Expiry { .. } => "PTTL",
        };
        let step = match (command, first) {
            (_, Frame::Error(code)) => failed(&code, name),
            (Command::Set { .. }, Frame::Status) => Step::Done(Ok(Reply::Stored)),
            (Command::Delete { .. }, Frame::Number(0)) => Step::Done(Ok(Reply::Absent)),
            (Command::Delete { .. }, Frame::Number(_)) => Step::Done(Ok(Reply::Deleted)),
            (Command::Expiry { .. }, Frame::Number(ms)) => Step::Done(Ok(expires(ms))),
            _ => Step::Done(Err(unexpected())),
        };
        Some(step)
    }

    fn read(&mut self, max_bytes: usize, first: Frame) -> Option<Step> {
        let window = self.options.window(self.reads, max_bytes);
        self.reads += 1;
        let exists = if window.with_exists { Some(self.frames.next()?) } else { None };
        let step = match first {
            Frame::Error(code) => return Some(failed(&code, "GETRANGE")),
            Frame::Text(start) if start.len() >= window.bytes => Step::ReadOn,
            Frame::Text(start) if !start.is_empty() => Step::Done(Ok(Reply::Hit(start))),
            Frame::Text(_) => match exists {
                // It has not come about in between with another value, or the write behind would see that.
                Some(Frame::Number(1)) if window.is_followed => Step::Done(Ok(Reply::Hit(Bytes::new()))),
                Some(exists) => decode_exists(exists),
                None => Step::Empty,
            },
            _ => Step::Done(Err(unexpected())),
        };
        // Somebody else has written it meanwhile, and asking once more would see what we wrote behind it.
        let is_late = window.is_followed && matches!(step, Step::ReadOn | Step::Empty);
        Some(if is_late { Step::Done(Err(CacheError::Overtaken)) } else { step })
    }
}

/// What the two replies to a look say: the key's version, and whether there is a value.
pub(super) fn looked(version: &Version, stored: Frame, exists: Frame) -> Step {
    let (stored, holds) = match (stored, exists) {
        (Frame::Error(code), _) => return failed(&code, "GET"),
        (_, Frame::Error(code)) => return failed(&code, "EXISTS"),
        (Frame::Text(stored), Frame::Number(count)) => (stored, count > 0),
        (Frame::Nil, Frame::Number(count)) => {
            return Step::Done(Ok(Reply::Seen(Box::new(Seen { holds: count > 0, ..Seen::default() }))));
        }
        _ => return Step::Done(Err(unexpected())),
    };
    Step::Done(Ok(Reply::Seen(Box::new(Seen::of(&stored, &version.stored(), holds)))))
}

/// What the answer to `PTTL` says.
fn expires(ms: i64) -> Reply {
    match ms {
        -2 => Reply::Miss,
        ms => Reply::Expires(u64::try_from(ms).ok().map(Duration::from_millis)),
    }
}

fn failed(code: &Code, command: &'static str) -> Step {
    match code.redirect() {
        Some(redirect) => Step::Elsewhere(redirect.clone()),
        None => Step::Done(Err(code.to_error(command).into())),
    }
}

impl Iterator for ReplyReader<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let (command, behind) = self.rest.split_first()?;
        let length = if self.shared > 0 { self.shared } else { self.options.run_length(self.rest) };
        let is_alone = self.shared == 0 && length == 1 && command.version().is_none();
        let step = if is_alone { self.single_call(command) } else { self.shared_call(command, length) };
        self.rest = behind;
        step
    }
}

/// The answer to `EXISTS` for a key whose value was empty or none. If the key exists it may also have come about in
/// between, with another value: only a GET of its own can tell.
pub(super) fn decode_exists(frame: Frame) -> Step {
    match frame {
        Frame::Number(0) => Step::Done(Ok(Reply::Miss)),
        Frame::Number(_) => Step::ReadOn,
        Frame::Error(code) => Step::Done(Err(code.to_error("EXISTS").into())),
        _ => Step::Done(Err(unexpected())),
    }
}

#[cfg(test)]
mod tests;
