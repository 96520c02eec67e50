//! An operation: one key's share of an event, on its way to the cache.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::admission::Permit;
use super::barriers::Barrier;
use super::key_order::KeyTicket;
use super::reply::Slot;
use super::timing::Phase;
use crate::cache::{Command, Remembered};
use crate::event::expected::Expected;
use crate::event::outcome::{Origin, Outcome};
use crate::event::pattern::Pattern;
use crate::event::version::Version;
use crate::event::{CacheKey, EntityTag, FetchTarget, Few, Ttl};

/// One key's share of an event: ready for the cache, or not yet ([`AwaitedBlob`]).
pub struct Operation<A = Verb> {
    /// The one key that it touches.
    pub key: CacheKey,
    /// What is to be done to the key.
    pub action: A,
    /// The version to compare, if the source's order decides.
    pub version: Option<Version>,
    /// The entry's place in the answer; dropped unsettled it answers `interrupted`.
    pub slot: Slot,
    /// The operation's place in the order of its key.
    pub ticket: KeyTicket,
    /// When its request is answered at the latest; an operation that was not begun by then is dropped.
    pub deadline: Instant,
}

/// What the cache can do at once.
pub enum Verb {
    /// Writes a value that is at hand.
    Set {
        /// The bytes to store.
        value: Bytes,
        /// Whether they came with the event or from a blob: for the answer and the metrics.
        origin: Origin,
        /// Seconds to live; None: the key does not expire.
        ttl: Option<Ttl>,
        /// What it brings along if it is a blob.
        carried: Option<Box<Carried>>,
    },
    /// Reads a value.
    Get,
    /// Deletes the key.
    Delete,
}

/// A SET whose value has yet to be fetched.
pub struct AwaitedBlob {
    /// Where the blob is.
    pub target: FetchTarget,
    /// Seconds to live, from the write and not from the fetch; None: the key does not expire.
    pub ttl: Option<Ttl>,
    /// What the blob must be; None: anything.
    pub expected: Option<Arc<Expected>>,
}

impl AwaitedBlob {
    /// Whether both name one state of one blob.
    pub fn is_same_state(&self, other: &AwaitedBlob) -> bool {
        let named = |blob: &AwaitedBlob| blob.expected.as_ref()?.named().filter(|named| !named.is_weak()).cloned();
        named(self).is_some_and(|own| Some(own) == named(other)) && self.target == other.target
    }
}

/// A blob that is there.
pub struct FetchedBlob {
    /// The bytes of the blob, content codings undone.
    pub value: Bytes,
    /// Holds the bytes in admission.
    pub permit: Permit,
    /// The server's name for this state of the blob.
    pub etag: Option<EntityTag>,
    /// What is to be remembered of it.
    pub remembered: Option<Box<Remembered>>,
}

/// What a blob brings along to its writer.
pub struct Carried {
    /// Holds its bytes in admission.
    pub permit: Permit,
    /// What is to be remembered of it.
    pub remembered: Option<Box<Remembered>>,
    /// The entries that it makes needless: its outcome answers them too.
    pub outdone: Vec<Slot>,
}

impl Carried {
    /// Answers the entries that are made needless, now that this has become of it.
    pub fn settle_outdone(self, outcome: &Outcome, now: Instant) {
        let outcome = Self::of_outdone(outcome);
        self.outdone.into_iter().for_each(|slot| slot.settle(outcome.clone(), now));
    }

    /// The same while it may still be in progress, as [`Slot::settle_early`].
    pub fn settle_outdone_early(&self, outcome: &Outcome, now: Instant) {
        let outcome = Self::of_outdone(outcome);
        self.outdone.iter().for_each(|slot| slot.settle_early(outcome.clone(), now));
    }

    fn of_outdone(outcome: &Outcome) -> Outcome {
        match outcome {
            Outcome::Failed(problem) => Outcome::Failed(problem.clone()),
            _ => Outcome::Superseded,
        }
    }
}

impl Operation<AwaitedBlob> {
    /// The operation, ready now that its blob is here; `outdone` are the entries that it makes needless.
    pub fn with_blob(self, blob: FetchedBlob, outdone: Vec<Slot>, now: Instant) -> Operation {
        let Operation { key, action: AwaitedBlob { ttl, .. }, version, slot, ticket, deadline } = self;
        slot.enter(Phase::Waiting, now);
        let FetchedBlob { value, permit, remembered, .. } = blob;
        let carried = Some(Box::new(Carried { permit, remembered, outdone }));
        let action = Verb::Set { value, origin: Origin::Blob, ttl, carried };
        Operation { key, action, version, slot, ticket, deadline }
    }

    /// The question how its write stands; None without a version, which takes effect whatever there is.
    pub fn look(&self) -> Option<Command> {
        self.version.is_some().then(|| self.look_in_turn())
    }

    /// The question that is answered when its writer is done with all that was before it on its key.
    pub fn look_in_turn(&self) -> Command {
        Command::Look { key: self.key.clone(), version: self.version.clone() }
    }

    /// The command that lets the value stand that the key has, because it is what the write would store.
    pub fn refresh(&self, remembered: &Remembered) -> Option<Command> {
        let (key, version) = (self.key.clone(), self.version.clone()?);
        let remembered = Box::new(remembered.clone());
        Some(Command::Refresh { key, ttl: self.action.ttl, version, remembered })
    }
}

/// A pattern delete, or its preview.
pub struct PatternDelete {
    /// The globs, carried out in one scan.
    pub patterns: Few<Pattern>,
    /// The version to compare, if the source's order decides: keys with a greater version stay.
    pub version: Option<Version>,
    /// One a pattern.
    pub slots: Vec<Slot>,
    /// Whether it only counts and shows a sample.
    pub dry_run: bool,
    /// Holds back operations on the keys that it matches; a preview holds back nothing.
    pub barrier: Barrier,
    /// A little before its request must be answered, so that the answer can say how far it came.
    pub deadline: Instant,
}
