//! Writes that have a version: scripts that compare and write in one step, several keys in one call.
//!
//! A call costs Redis about as much as what it does for three keys, so writes of a kind that stand side by side share one. It
//! is kept short, for Redis does nothing else meanwhile; and in a Cluster all keys of one are in one slot.
//!
//! Redis undoes nothing of a script that breaks off, so a script does nothing before it knows that it will get to its end:
//! what it reads comes first, then whatever of its writes may be refused, for want of a right or of memory.
//!
//! Scripts are known by their digest. They are sent along with the first call on a connection; a server that has lost them
//! since (`SCRIPT FLUSH`) answers `NOSCRIPT`, and the repetition of the call sends them again.

use std::collections::HashSet;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use redis::Script;

use super::unexpected;
use crate::cache::version_key::{WRITTEN, version_key};
use crate::cache::{CacheError, Command, Remembered, Reply, Unlinked};
use crate::event::version::Version;
use crate::event::{OwnKeys, Ttl};
use crate::redis::slot::slot;
use crate::redis::{Encoder, Frame};

/// Keys of one call, at most: a fraction of a millisecond.
pub(super) const MAX_KEYS: usize = 64;
/// Bytes of the values in one call, at most, or a single larger one: Redis copies each.
pub(super) const MAX_BYTES: usize = 64 * 1024;

/// How version keys are named and kept, and what may share a call.
#[derive(Debug, Clone)]
pub(super) struct VersionKeys {
    /// All keys of the service's own.
    pub(super) own: OwnKeys,
    pub(super) window: Duration,
    pub(super) is_cluster: bool,
}

pub(super) struct Source {
    pub(super) text: String,
    pub(super) digest: String,
}

impl Source {
    fn new(body: &str) -> Self {
        Self::alone([include_str!("scripts/head.lua"), body].concat())
    }

    fn alone(text: String) -> Self {
        let digest = Script::new(&text).get_hash().to_owned();
        Source { text, digest }
    }
}

static WRITE: LazyLock<Source> = LazyLock::new(|| Source::new(include_str!("scripts/write.lua")));
static DELETE: LazyLock<Source> = LazyLock::new(|| Source::new(include_str!("scripts/delete.lua")));
static SWEEP: LazyLock<Source> = LazyLock::new(|| Source::new(include_str!("scripts/sweep.lua")));
static KEEP: LazyLock<Source> = LazyLock::new(|| Source::new(include_str!("scripts/keep.lua")));
static REFRESH: LazyLock<Source> = LazyLock::new(|| Source::new(include_str!("scripts/refresh.lua")));

/// Digests a piece of a value; not loaded with the others.
pub(super) static DIGEST: LazyLock<Source> = LazyLock::new(|| {
    Source::alone("return redis.sha1hex(redis.call('GETRANGE', KEYS[1], ARGV[1], ARGV[2]))".to_owned())
});

/// Commands that `load` adds.
pub(super) const LOADED: usize = 5;

/// Makes the scripts known to the server.
pub(super) fn load(encoder: &mut Encoder) {
    for source in [&WRITE, &DELETE, &SWEEP, &KEEP, &REFRESH] {
        encoder.pack(&[b"SCRIPT", b"LOAD", source.text.as_bytes()]);
    }
}

/// How many commands from the first on, SETs or DELETEs, share a call; 0 if that has no version.
pub(super) fn run_length(commands: &[Command], version_keys: &VersionKeys, is_single: bool) -> usize {
    let at_most = if is_single { 1 } else { MAX_KEYS };
    let mut keys = HashSet::with_capacity_and_hasher(at_most, ahash::RandomState::new());
    let (mut bytes, mut first_slot) = (0, None);
    for (index, command) in commands.iter().enumerate() {
        let key = command.key().as_bytes();
        bytes += command.weight();
        let is_full = index > 0 && (index == at_most || bytes > MAX_BYTES || goes_alone(command));
        let mut is_beside = || !version_keys.is_cluster || *first_slot.get_or_insert_with(|| slot(key)) == slot(key);
        let is_other = index > 0 && commands.first().is_some_and(|first| is_set(first) != is_set(command));
        if command.version().is_none() || is_full || is_other || !keys.insert(key) || !is_beside() {
            return index;
        }
        if goes_alone(command) {
            return 1;
        }
    }
    commands.len()
}

impl VersionKeys {
    /// A key of the service's own in this slot.
    pub(super) fn own_key(&self, slot: u16) -> Vec<u8> {
        version_key(self.own.version_prefix(), slot, b"").concat()
    }

    /// The first arguments of a call, for these keys.
    fn begin<'a>(
        &self,
        encoder: &mut Encoder,
        source: &Source,
        keys: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
        arguments: usize,
    ) {
        encoder.begin(3 + 2 * keys.len() + 1 + arguments);
        encoder.argument(b"EVALSHA");
        encoder.argument(source.digest.as_bytes());
        encoder.number(2 * keys.len());
        keys.clone().for_each(|key| encoder.argument(key));
        keys.for_each(|key| encoder.joined(&version_key(self.own.version_prefix(), slot(key), key)));
        encoder.number(self.window.as_secs());
    }

    /// Where the version of a key is.
    pub(super) fn version_key(&self, key: &[u8]) -> Vec<u8> {
        version_key(self.own.version_prefix(), slot(key), key).concat()
    }

    /// Adds what gives a key that is written this version, whatever it has.
    pub(super) fn keep_version(
        &self,
        encoder: &mut Encoder,
        key: &[u8],
        version: &Version,
        remembered: Option<&Remembered>,
    ) {
        encoder.begin(5);
        encoder.argument(b"SET");
        encoder.joined(&version_key(self.own.version_prefix(), slot(key), key));
        let remembered = remembered.map(Remembered::stored).unwrap_or_default();
        encoder.joined(&[&version.stored(), WRITTEN, &remembered]);
        encoder.argument(b"EX");
        encoder.number(self.window.as_secs());
    }

    /// Adds what tells the version of a key, and whether the key has a value.
    pub(super) fn look(&self, encoder: &mut Encoder, key: &[u8]) {
        encoder.begin(2);
        encoder.argument(b"GET");
        encoder.joined(&version_key(self.own.version_prefix(), slot(key), key));
        encoder.pack(&[b"EXISTS", key]);
    }

    /// Adds one call for SETs, or for DELETEs, that all have a version; or for one command that goes alone.
    pub(super) fn write(&self, encoder: &mut Encoder, run: &[Command]) {
        let keys = run.iter().map(|command| command.key().as_str().as_bytes());
        match run.first() {
            Some(Command::Set { value, ttl, version: Some(version), remembered: Some(remembered), .. }) => {
                self.begin(encoder, &KEEP, keys, 4);
                argument_of(encoder, *ttl);
                encoder.argument(&version.stored());
                encoder.value(value);
                return encoder.argument(&remembered.stored());
            }
            Some(Command::Refresh { ttl, version, remembered, .. }) => {
                self.begin(encoder, &REFRESH, keys, 5);
                argument_of(encoder, *ttl);
                encoder.argument(&version.stored());
                encoder.number(remembered.print.bytes());
                encoder.argument(remembered.print.hex().as_bytes());
                return encoder.argument(&remembered.stored());
            }
            _ => {}
        }
        let version = |command: &Command| command.version().map(Version::stored).unwrap_or_default();
        if !run.first().is_some_and(is_set) {
            self.begin(encoder, &DELETE, keys, run.len());
            return run.iter().for_each(|command| encoder.argument(&version(command)));
        }
        self.begin(encoder, &WRITE, keys, 1 + 2 * run.len());
        encoder.argument(ttls(run).as_bytes());
        for command in run {
            encoder.argument(&version(command));
            if let Command::Set { value, .. } = command {
                encoder.value(value);
            }
        }
    }

    /// Adds calls that delete keys, whatever their versions.
    pub(super) fn unlink(&self, encoder: &mut Encoder, keys: &[Bytes], one_each: bool) {
        for keys in self.shares(keys, false, one_each) {
            encoder.begin(1 + keys.len());
            encoder.argument(b"UNLINK");
            keys.iter().for_each(|key| encoder.argument(key));
        }
    }

    /// Adds calls that delete keys as a pattern with this version does.
    pub(super) fn sweep(&self, encoder: &mut Encoder, keys: &[Bytes], version: &Version, one_each: bool) {
        for keys in self.shares(keys, true, one_each) {
            self.begin(encoder, &SWEEP, keys.iter().map(|key| &key[..]), 1);
            encoder.argument(&version.stored());
        }
    }

    /// Keys that share a call.
    pub(super) fn shares<'a>(
        &self,
        keys: &'a [Bytes],
        has_version: bool,
        one_each: bool,
    ) -> impl Iterator<Item = &'a [Bytes]> {
        let is_cluster = self.is_cluster;
        let beside = move |a: &Bytes, b: &Bytes| !is_cluster || slot(a) == slot(b);
        let at_most = match (one_each, has_version) {
            (true, _) => 1,
            (false, true) => MAX_KEYS,
            (false, false) => usize::MAX,
        };
        keys.chunk_by(beside).flat_map(move |keys| keys.chunks(at_most))
    }
}

/// Whether it is one of the few that share no call: they are about blobs, beside which a call costs nothing.
fn goes_alone(command: &Command) -> bool {
    matches!(command, Command::Set { remembered: Some(_), .. } | Command::Refresh { .. })
}

fn argument_of(encoder: &mut Encoder, ttl: Option<Ttl>) {
    match ttl {
        Some(ttl) => encoder.number(ttl.seconds()),
        None => encoder.argument(b""),
    }
}

fn is_set(command: &Command) -> bool {
    matches!(command, Command::Set { .. })
}

/// How long each is to live, or all alike.
fn ttls(run: &[Command]) -> String {
    let ttl = |command: &Command| match command {
        Command::Set { ttl: Some(ttl), .. } => Some(ttl.seconds()),
        _ => None,
    };
    let text = |ttl: Option<u32>| ttl.map(|seconds| seconds.to_string()).unwrap_or_default();
    match run {
        [first, others @ ..] if others.iter().all(|other| ttl(other) == ttl(first)) => text(ttl(first)),
        _ => run.iter().map(|command| text(ttl(command)) + ",").collect(),
    }
}

/// What a write came to, by the script's answer.
pub(super) fn written(frame: &Frame) -> Result<Reply, CacheError> {
    match frame {
        Frame::Number(0) => Ok(Reply::Superseded),
        Frame::Number(1) => Ok(Reply::Stored),
        Frame::Number(2) => Ok(Reply::Deleted),
        Frame::Number(3) => Ok(Reply::Absent),
        Frame::Number(4) => Ok(Reply::Unchanged),
        Frame::Number(5) => Ok(Reply::Changed),
        _ => Err(unexpected()),
    }
}

/// Counts what a sweep did to a key, by the script's answer.
pub(super) fn swept(key: &Bytes, frame: &Frame, unlinked: &mut Unlinked) -> Result<(), CacheError> {
    match frame {
        Frame::Number(0) => {}
        Frame::Number(1) => unlinked.deleted += 1,
        Frame::Number(2) => unlinked.newer.push(key.clone()),
        _ => return Err(unexpected()),
    }
    Ok(())
}
