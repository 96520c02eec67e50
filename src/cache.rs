//! Every command to the cache. Knows nothing of HTTP, the wire or actors.
//!
//! A [`Cache`] opens [`Session`]s. A session is one ordered line: what goes through it takes effect in the order of the
//! calls, and a call does one attempt. Whether to try again is for the caller; the session promises that nothing of a
//! failed call takes effect after a later call has begun (no ghost writes).

pub mod embedded;
mod incoming;
mod portion;
pub mod redis;
pub mod remembered;
pub mod room;
mod standing;
mod version_key;

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use futures::future::LocalBoxFuture;

pub use self::incoming::{Incoming, StreamError};
pub use self::portion::{LONG_CALL, Portion};
pub use self::remembered::{Fingerprint, Remembered};
pub use self::room::{Room, Usage};
pub use self::standing::{Seen, Standing};
use crate::event::pattern::Wider;
use crate::event::version::Version;
use crate::event::{CacheKey, Ttl};

/// What a writer asks of the cache. A write with a version takes effect only if that is greater than the last one applied to
/// the key: the check and the write are one step.
///
/// Its alignment is for who moves it from one place to the next: in pieces that lie alike in both.
#[derive(Debug, Clone, PartialEq)]
#[repr(align(16))]
pub enum Command {
    /// Writes a value and sets its expiry; an expiry that the key had before is gone.
    Set {
        /// The key to write.
        key: CacheKey,
        /// The bytes to store as they are.
        value: Bytes,
        /// The seconds to live, from the write; None: the key does not expire.
        ttl: Option<Ttl>,
        /// The place in the source's order that decides against the key's last version; None: it is written anyway.
        version: Option<Version>,
        /// What is to be remembered beside the version; None, or without a version: nothing.
        remembered: Option<Box<Remembered>>,
    },
    /// Looks at the version of a key, as a rule before a value for it is fetched. Changes nothing.
    Look {
        /// The key.
        key: CacheKey,
        /// The version that it is to be written with; None: no write depends on it, and [`Standing::Open`] is the answer.
        version: Option<Version>,
    },
    /// Lets a value stand that is what a SET would write: its time to live runs anew, and the key has the SET's version from
    /// then on. If the key holds anything else, nothing happens.
    Refresh {
        /// The key that holds the value.
        key: CacheKey,
        /// The seconds to live from now on; None: the key does not expire.
        ttl: Option<Ttl>,
        /// The place in the source's order that decides against the key's last version.
        version: Version,
        /// What the value must look like, and what stays remembered. In a batch at most
        /// [`MAX_REFRESHED_BYTES`]; see [`Session::refresh_long`].
        remembered: Box<Remembered>,
    },
    /// Asks when a key expires. Changes nothing.
    Expiry {
        /// The key.
        key: CacheKey,
    },
    /// A value larger than `max_bytes` is not brought over: [`CacheError::ValueTooLarge`].
    Get {
        /// The key to read.
        key: CacheKey,
        /// The longest value that is read, in bytes.
        max_bytes: usize,
    },
    /// Leaves its version behind, if it has one.
    Delete {
        /// The key to delete.
        key: CacheKey,
        /// The place in the source's order that decides against the key's last version; None: it is deleted whatever
        /// came before.
        version: Option<Version>,
    },
}

impl Command {
    /// The one key that the command touches.
    pub fn key(&self) -> &CacheKey {
        match self {
            Command::Set { key, .. } | Command::Get { key, .. } | Command::Delete { key, .. } => key,
            Command::Look { key, .. } | Command::Refresh { key, .. } | Command::Expiry { key } => key,
        }
    }

    /// The version of a write, if the source's own order is to decide.
    pub fn version(&self) -> Option<&Version> {
        match self {
            Command::Set { version, .. } | Command::Delete { version, .. } => version.as_ref(),
            Command::Refresh { version, .. } => Some(version),
            Command::Get { .. } | Command::Look { .. } | Command::Expiry { .. } => None,
        }
    }

    /// Whether the command may change the key.
    pub fn is_write(&self) -> bool {
        !matches!(self, Command::Get { .. } | Command::Look { .. } | Command::Expiry { .. })
    }

    /// Whether its answer may say that the cache has what the sender wants: replicas must have it too then
    /// (`redis.wait_replicas`). A write says so, and a look that makes one needless.
    pub fn is_for_replicas(&self) -> bool {
        self.is_write() || matches!(self, Command::Look { version: Some(_), .. })
    }

    /// Whether the command reads a value. Batches treat such apart, for a value may be large.
    pub fn is_read(&self) -> bool {
        matches!(self, Command::Get { .. })
    }

    /// Whether it writes a value and nothing else, neither expiry nor version: a cache may take several such at once.
    pub fn is_plain_set(&self) -> bool {
        matches!(self, Command::Set { ttl: None, version: None, .. })
    }

    /// Bytes it puts on the wire, about.
    pub fn weight(&self) -> usize {
        let value = match self {
            Command::Set { value, .. } => value.len(),
            Command::Get { .. } | Command::Delete { .. } | Command::Look { .. } => 0,
            Command::Refresh { .. } | Command::Expiry { .. } => 0,
        };
        self.key().as_bytes().len() + value + 48
    }
}

/// How a command ended that the cache carried out.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// A SET is done.
    Stored,
    /// A GET found this value.
    Hit(Bytes),
    /// A GET found no such key.
    Miss,
    /// A DELETE removed a key that was there.
    Deleted,
    /// A DELETE found no such key.
    Absent,
    /// Nothing was done: the key has a version that is not less.
    Superseded,
    /// After so long the key expires; None: it does not.
    Expires(Option<Duration>),
    /// What a look found.
    Seen(Box<Seen>),
    /// A refresh is done.
    Unchanged,
    /// A refresh found another value, or none: nothing was done.
    Changed,
}

/// The longest value that a refresh compares, in bytes: it is done in one step, in which the cache does nothing else.
pub const MAX_REFRESHED_BYTES: u64 = remembered::PIECE_BYTES as u64;

/// Why a command was not carried out. [`CacheError::is_worth_retrying`] tells the writer whether to try again.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CacheError {
    /// The line to the cache is no good for now, for whatever command: connection lost, timed out, LOADING, READONLY.
    #[error("{0}")]
    Unavailable(Cow<'static, str>),
    /// The server is too old to be worked with. It may be another one day.
    #[error("{0}")]
    Unsupported(Cow<'static, str>),
    /// Redis refused this one command for now (OOM, MISCONF, TRYAGAIN, NOREPLICAS, a key on the move), or the one node of a
    /// cluster that has the key does not answer: another attempt may succeed, and others of the session go on.
    #[error("{0}")]
    RefusedForNow(Cow<'static, str>),
    /// The one node of a cluster that has the key, or the cluster as a whole, is known to be down: it has not answered for as long
    /// as operations are tried. Not to be tried again now; others of the session go on.
    #[error("{0}")]
    Down(Cow<'static, str>),
    /// Refused for several commands that shared a call, and nothing of it was done: the next attempt asks one by one.
    #[error("the cache refused a call that several writes share")]
    RefusedTogether,
    /// Not done in this call, and nothing is wrong with the cache: the values that were read are all that one call may hold,
    /// or something before it on its key is to be repeated. The next attempt does it.
    #[error("left for the next attempt")]
    Postponed,
    /// A read that failed, while a later write on its key may have been done: read once more, it might see that.
    #[error("it could not be read before a later write on its key")]
    Overtaken,
    /// Redis refused the command itself (NOPERM, syntax): another attempt will end the same.
    #[error("{0}")]
    Refused(Cow<'static, str>),
    /// GET of a key that holds no string.
    #[error("the key holds a value that is not a string")]
    WrongType,
    /// The value to be read is larger than was asked for, or the value to be stored larger than the cache may ever hold.
    #[error("the value has {bytes} bytes, allowed are {max_bytes}")]
    ValueTooLarge {
        /// Bytes that the value has.
        bytes: u64,
        /// Bytes that are allowed.
        max_bytes: u64,
    },
}

impl CacheError {
    /// In words.
    pub fn cause(&self) -> Cow<'static, str> {
        match self {
            CacheError::Unavailable(cause)
            | CacheError::RefusedForNow(cause)
            | CacheError::Down(cause)
            | CacheError::Refused(cause) => cause.clone(),
            other => other.to_string().into(),
        }
    }

    /// Whether the writer keeps the command and sends it again, up to `redis.retry_ms`.
    pub fn is_worth_retrying(&self) -> bool {
        use CacheError::{Postponed, RefusedForNow, RefusedTogether, Unavailable, Unsupported};
        matches!(self, Unavailable(_) | Unsupported(_) | RefusedForNow(_) | RefusedTogether | Postponed)
    }
}

/// A place in a scan over all keys, told by [`ScanStep::next`]. It is good as long as the server that gave it lives,
/// over any number of connections; where it is not any more, [`Progress::is_lost`] says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The number that the next `SCAN` continues from; 0: the beginning.
    pub at: u64,
    /// The server that gave the cursor, as the session knows it.
    pub server: u64,
}

/// What one step of a scan brought.
#[derive(Debug, Default)]
pub struct ScanStep {
    /// Keys, perhaps some of them twice over a whole scan; never those of the service's own prefix.
    pub keys: Vec<Bytes>,
    /// Keys that have a version, whether they hold a value or not; if they were asked for.
    pub versioned: Vec<Bytes>,
    /// None: the scan is complete.
    pub next: Option<Cursor>,
}

/// Which step of a scan to take.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scan<'a> {
    /// None: the first.
    pub from: Option<Cursor>,
    /// What the keys that are looked for have in common; others may be found too. None: all keys.
    pub only: Option<&'a Wider>,
    /// Whether to find the keys that have a version too.
    pub versioned: bool,
    /// Whether keys may be among them that have just expired: it does no harm to delete those, but they must not be counted.
    pub with_expired: bool,
}

/// Keys to be deleted together, whatever they hold.
#[derive(Debug, Clone, Default)]
pub struct DeleteGroup {
    /// The keys, each by its full name.
    pub keys: Vec<Bytes>,
    /// If there is one: only what has no greater version goes, and what goes, or has a version, has this one from then on.
    pub version: Option<Version>,
}

/// What became of [`DeleteGroup`] keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Unlinked {
    /// How many keys there were, and are no more.
    pub deleted: u64,
    /// Keys that are left because they are newer.
    pub newer: Vec<Bytes>,
    /// Keys that are left because the cache refuses to delete them, and why.
    pub refused: Vec<Bytes>,
    /// Why the first of `refused` was refused; None if that list is empty.
    pub refusal: Option<CacheError>,
}

impl Unlinked {
    /// Counts what became of further keys of the group.
    pub fn add(&mut self, other: Unlinked) {
        self.deleted += other.deleted;
        self.newer.extend(other.newer);
        self.refused.extend(other.refused);
        self.refusal = self.refusal.take().or(other.refusal);
    }

    fn refuse(&mut self, keys: &[Bytes], why: &CacheError) {
        self.refused.extend_from_slice(keys);
        self.refusal.get_or_insert_with(|| why.clone());
    }
}

/// What came of [`Session::unlink_and_scan`].
#[derive(Debug, Default)]
pub struct Progress {
    /// One for each group. They count even if the call failed after that; a group without an answer has nothing.
    pub unlinked: Vec<Unlinked>,
    /// None: not asked for, or not answered.
    pub step: Option<ScanStep>,
    /// Why some of it was not done, or not acknowledged as it must be. All groups are then to be deleted once more.
    pub failure: Option<CacheError>,
    /// The place at which the scan was to go on is no more: it must begin anew.
    pub is_lost: bool,
    /// How long the cache was busy with it, about.
    pub took: Duration,
}

/// A cache that sessions can be opened on. Shared between threads.
pub trait Cache: Send + Sync + 'static {
    /// Opens nothing yet: the first call of the session connects.
    fn session(&self) -> Box<dyn Session>;

    /// The same for values that come in while they are stored: beside many of these, the cache may take its time to accept a
    /// connection, and is well all the same.
    fn streaming_session(&self) -> Box<dyn Session> {
        self.session()
    }

    /// Where its sessions take the room for large values that they read.
    fn room(&self) -> &Room;

    /// Whether its sessions take values that come in while they are stored ([`Session::store_incoming`]).
    fn takes_streams(&self) -> bool {
        true
    }

    /// What it holds, if that is in this process.
    fn usage(&self) -> Option<Usage> {
        None
    }

    /// What to call it in a message, without secrets: `redis://localhost:6379/0`, `embedded`.
    fn describe(&self) -> String;
}

/// One ordered line to the cache. Calls are made one at a time, on one thread. A dropped call counts as failed.
pub trait Session: 'static {
    /// Carries out the commands in order; one result a command, in the same order. When the connection breaks or
    /// `within` (for connecting and answering; the session adds what the size of the batch calls for) runs out, every
    /// command without a reply is [`CacheError::Unavailable`], and may or may not have taken effect.
    ///
    /// A command that failed with an error worth retrying does not hold back later ones of the batch: the caller
    /// repeats those of the same key too.
    fn apply<'a>(
        &'a mut self,
        batch: &'a [Command],
        within: Duration,
    ) -> LocalBoxFuture<'a, Vec<Result<Reply, CacheError>>>;

    /// Deletes keys, group by group (none is empty), and then takes one step of a scan: all in one
    /// round trip. How far a step goes is the cache's affair: such that others are not held up.
    fn unlink_and_scan<'a>(
        &'a mut self,
        groups: &'a [DeleteGroup],
        scan: Option<Scan<'a>>,
        within: Duration,
    ) -> LocalBoxFuture<'a, Progress>;

    /// Stores one value while it comes in. It is written in one step once it is whole; if it breaks off, or the call is
    /// dropped, nothing happens. `within` is for the value to come; the session adds what the cache needs. A version decides
    /// as that of a SET does; if another write of the key came in between, the reply is [`Reply::Changed`].
    fn store_incoming<'a>(
        &'a mut self,
        value: Incoming<'a>,
        within: Duration,
    ) -> LocalBoxFuture<'a, Result<Reply, StreamError>>;

    /// As a [`Command::Refresh`], of a value of any length: it is compared in several steps, and the cache does something else
    /// in between.
    fn refresh_long<'a>(
        &'a mut self,
        refresh: &'a Command,
        within: Duration,
    ) -> LocalBoxFuture<'a, Result<Reply, CacheError>>;

    /// Asks for a sign of life, connecting if need be.
    fn ping(&mut self, within: Duration) -> LocalBoxFuture<'_, Result<(), CacheError>>;

    /// Whether it can send without connecting first, as far as is known without asking. A Cluster's session, which has a connection
    /// for each node, does not say.
    fn is_connected(&mut self) -> bool {
        true
    }

    /// Connections made after the first: how often it had to reconnect.
    fn reconnects(&self) -> u64;
}
