//! The replies to a pipeline, command by command.

use std::time::Duration;
use std::vec;

use bytes::Bytes;

use super::EncodeOptions;
use crate::cache::redis::sharing::{Refusal, RefusedTogether};
use crate::cache::redis::split::Window;
use crate::cache::redis::{unexpected, versioned};
use crate::cache::{CacheError, Command, Reply, Seen};
use crate::event::version::Version;
use crate::redis::{Code, Frame, Hint, Redirect};

/// What became of a command after its pipeline.
pub(in crate::cache::redis) enum Step {
    Done(Result<Reply, CacheError>),
    /// Not done: another node of the Cluster is to be asked.
    Elsewhere(Redirect),
    /// Nothing, or an empty value: `EXISTS` is to tell.
    Empty,
    /// A value that fills the window: to be read on its own.
    ReadOn,
}

/// The replies to a segment, command by command, as far as they arrived.
pub(in crate::cache::redis) struct ReplyReader<'a> {
    rest: &'a [Command],
    /// GETs before those.
    reads: usize,
    options: EncodeOptions<'a>,
    frames: vec::IntoIter<Frame>,
    /// Of the call under way: commands that are still to be told what became of them, and why it failed as a whole.
    shared: usize,
    /// Of the reads under way, what is empty does not exist.
    empty_is_none: bool,
    failure: Option<CacheError>,
    redirect: Option<Redirect>,
    /// What several commands share was refused: for want of a permission for the key of one of them, say.
    pub(in crate::cache::redis) refused_together: RefusedTogether,
}

impl<'a> ReplyReader<'a> {
    /// `frames` are those after what stands before the commands.
    pub(in crate::cache::redis) fn new(
        segment: &'a [Command],
        options: EncodeOptions<'a>,
        frames: vec::IntoIter<Frame>,
    ) -> Self {
        ReplyReader {
            rest: segment,
            reads: 0,
            options,
            frames,
            shared: 0,
            empty_is_none: false,
            failure: None,
            redirect: None,
            refused_together: RefusedTogether::default(),
        }
    }

    /// What comes after the commands.
    pub(in crate::cache::redis) fn into_frames(self) -> vec::IntoIter<Frame> {
        self.frames
    }

    /// The next reply, which is no array: one would put its elements in the place of the replies behind it.
    fn reply(&mut self) -> Option<Frame> {
        let frame = self.frames.next()?;
        if matches!(frame, Frame::Array(_)) {
            self.stop();
        }
        Some(frame)
    }

    /// Nothing is known of what follows.
    fn stop(&mut self) {
        self.frames = Vec::new().into_iter();
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
                        Some(Hint::ForbiddenCommand) if expires && !has_version => Refusal::Unknown,
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
                Frame::Array(_) => {
                    self.stop();
                    Some(unexpected())
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
            None if has_version => versioned::written(&self.reply()?),
            None => Ok(Reply::Stored),
        };
        self.shared -= 1;
        Some(self.redirect.clone().map_or(Step::Done(result), Step::Elsewhere))
    }

    fn single_call(&mut self, command: &Command) -> Option<Step> {
        let first = self.reply()?;
        let name = match command {
            Command::Get { max_bytes, .. } => {
                let window = self.next_window(*max_bytes);
                let exists = if window.with_exists { Some(self.reply()?) } else { None };
                return Some(read_step(window, first, exists));
            }
            Command::Look { version, .. } => return Some(looked(version.as_ref(), first, self.reply()?)),
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

    /// One of the reads that share an `EXISTS`; if it is the first, of so many.
    fn shared_read(&mut self, max_bytes: usize, length: usize) -> Option<Step> {
        if self.shared == 0 {
            let there = self.reply()?;
            if matches!(&there, Frame::Error(code) if code.redirect().is_none()) {
                self.refused_together.reads = Some(Refusal::Together);
            }
            let found = self.frames.as_slice().get(..length).and_then(values_found);
            self.empty_is_none =
                matches!((there, found), (Frame::Number(there), Some(found)) if usize::try_from(there) == Ok(found));
            self.shared = length;
        }
        self.shared -= 1;
        let window = self.next_window(max_bytes);
        Some(read_step(window, self.reply()?, self.empty_is_none.then_some(Frame::Number(0))))
    }

    fn next_window(&mut self, max_bytes: usize) -> Window {
        let window = self.options.window(self.reads, max_bytes);
        self.reads += 1;
        window
    }
}

/// How many of these keys exist for sure, by the replies to their `GETRANGE`s; None: a failure that says nothing of its key.
fn values_found(replies: &[Frame]) -> Option<usize> {
    replies.iter().try_fold(0, |found, reply| match reply {
        Frame::Text(value) => Some(found + usize::from(!value.is_empty())),
        Frame::Error(code) if code.as_str() == "WRONGTYPE" => Some(found + 1),
        _ => None,
    })
}

/// What the reply to a `GETRANGE` says, and that to an `EXISTS` if there is one.
fn read_step(window: Window, first: Frame, exists: Option<Frame>) -> Step {
    let step = match first {
        Frame::Error(code) => return failed(&code, "GETRANGE"),
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
    if is_late { Step::Done(Err(CacheError::Overtaken)) } else { step }
}

/// What the two replies to a look say: the key's version, and whether there is a value.
pub(in crate::cache::redis) fn looked(version: Option<&Version>, stored: Frame, exists: Frame) -> Step {
    let (stored, holds) = match (stored, exists) {
        // Somebody has put a list there, say: for the scripts that is no version either.
        (Frame::Error(code), exists) if code.as_str() == "WRONGTYPE" => return looked(version, Frame::Nil, exists),
        (Frame::Error(code), _) => return failed(&code, "GET"),
        (_, Frame::Error(code)) => return failed(&code, "EXISTS"),
        (Frame::Text(stored), Frame::Number(count)) => (stored, count > 0),
        (Frame::Nil, Frame::Number(count)) => {
            return Step::Done(Ok(Reply::Seen(Box::new(Seen { holds: count > 0, ..Seen::default() }))));
        }
        _ => return Step::Done(Err(unexpected())),
    };
    let version = version.map(Version::stored);
    Step::Done(Ok(Reply::Seen(Box::new(Seen::of(&stored, version.as_deref(), holds)))))
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
        let step = match command {
            _ if is_alone => self.single_call(command),
            Command::Get { max_bytes, .. } => self.shared_read(*max_bytes, length),
            _ => self.shared_call(command, length),
        };
        self.rest = behind;
        step
    }
}

/// The answer to `EXISTS` for a key whose value was empty or none. If the key exists it may also have come about in
/// between, with another value: only a GET of its own can tell.
pub(in crate::cache::redis) fn decode_exists(frame: Frame) -> Step {
    match frame {
        Frame::Number(0) => Step::Done(Ok(Reply::Miss)),
        Frame::Number(_) => Step::ReadOn,
        Frame::Error(code) => Step::Done(Err(code.to_error("EXISTS").into())),
        _ => Step::Done(Err(unexpected())),
    }
}
