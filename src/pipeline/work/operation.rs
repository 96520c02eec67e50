//! An operation: one key's share of an event, on its way to the cache.

use std::time::Instant;

use bytes::Bytes;

use super::admission::Permit;
use super::barriers::Barrier;
use super::key_order::KeyTicket;
use super::reply::Slot;
use super::timing::Phase;
use crate::event::outcome::Origin;
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
    /// Its place in the answer; dropped unsettled it answers `interrupted`.
    pub slot: Slot,
    /// Its place in the order of its key.
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
        /// The value's bytes in admission, if it is a blob.
        held: Option<Permit>,
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
}

/// A blob that is there.
pub struct FetchedBlob {
    /// Its bytes, content codings undone.
    pub value: Bytes,
    /// Holds the bytes in admission.
    pub permit: Permit,
    /// The server's name for this state of the blob.
    pub etag: Option<EntityTag>,
}

impl Operation<AwaitedBlob> {
    /// The operation, ready now that its blob is here.
    pub fn with_blob(self, FetchedBlob { value, permit, .. }: FetchedBlob, now: Instant) -> Operation {
        let Operation { key, action: AwaitedBlob { ttl, .. }, version, slot, ticket, deadline } = self;
        slot.enter(Phase::Waiting, now);
        let action = Verb::Set { value, origin: Origin::Blob, ttl, held: Some(permit) };
        Operation { key, action, version, slot, ticket, deadline }
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
