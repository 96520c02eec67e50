//! Where the unfinished work on a key is, for all threads: what lets an operation go straight to a writer, past the
//! router, and keeps the order of its key all the same.
//!
//! Every operation holds a [`KeyTicket`] from its acceptance until it is done or given up. Operations on one key that are
//! under way together share a writer: the first chooses it, those that come while it is unfinished follow it there, and
//! a writer takes things in the order in which they come. Once an operation on a key has to wait, for a blob or for a
//! pattern that matches it, all that comes after it goes through the router too, until nothing on the key is unfinished any more.
//!
//! Keys are told apart by a keyed hash only. Two with the same hash, or that find no place of their own in the table, follow
//! each other about, which may cost a hop between threads and breaks nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::RandomState;

use super::barriers::{BarrierId, Barriers, StandingBarriers};
use crate::event::CacheKey;

/// A few thousand operations under way fill it by half.
const BUCKETS: usize = 1 << 12;
/// Places of a bucket: as many as fit beside a lock into a line of the processor's cache. The last is shared by all that find
/// no other.
const PLACES: usize = 7;

/// The unfinished work by the hash of its key, in a table of fixed size. Two keys with one hash share a place, which
/// costs them speed and never order.
pub struct KeyOrder {
    buckets: Box<[Bucket]>,
    barriers: Barriers,
    hasher: RandomState,
}

#[repr(align(64))]
#[derive(Default)]
struct Bucket(Mutex<[KeyRecord; PLACES]>);

/// The tickets that are out on the keys with one hash.
#[derive(Clone, Copy, Default)]
struct KeyRecord {
    /// What the hash has beyond the number of its bucket.
    tag: u16,
    writer: u8,
    is_routed: bool,
    /// None: the place is free.
    out: u32,
}

/// What an operation does to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// It leaves the key as it is.
    Read,
    /// It writes.
    Write,
    /// It writes what is not there yet.
    WriteLater,
}

/// Where an operation is to go next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// To the writer that the ticket names, at once.
    Write,
    /// To the central router: it has to wait, or what is before it on its key does.
    Route,
    /// To the direct fetch: nothing else on its key is unfinished, so it waits for its own blob only.
    Direct,
}

impl Bucket {
    /// Has the processor bring the bucket from where it was written last, without waiting for it: a write that changes nothing.
    fn fetch(&self) {
        self.0.clear_poison();
    }

    fn lock(&self) -> MutexGuard<'_, [KeyRecord; PLACES]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of the place for a tag: that which has it, else a free one. While the last is taken all that have no place
/// share it, or a key could have two.
fn find(places: &[KeyRecord; PLACES], tag: u16) -> usize {
    let own = places.iter().position(|place| place.out > 0 && place.tag == tag);
    own.unwrap_or_else(|| match places {
        [.., KeyRecord { out: 1.., .. }] => PLACES - 1,
        _ => places.iter().position(|place| place.out == 0).unwrap_or(PLACES - 1),
    })
}

impl KeyOrder {
    /// For the rest of the process: to count who holds it, thread by thread and ticket by ticket, would cost more than all
    /// else here.
    pub fn new() -> &'static Self {
        let buckets = (0..BUCKETS).map(|_| Bucket::default()).collect();
        Box::leak(Box::new(KeyOrder { buckets, barriers: Barriers::new(), hasher: RandomState::new() }))
    }

    /// The patterns that are not done.
    pub fn barriers(&'static self) -> &'static Barriers {
        &self.barriers
    }

    /// Tickets on these keys are to be taken soon. Their buckets may lie with another thread's processor: to bring in many at once
    /// takes hardly longer than to wait for one, which each lock does.
    pub fn fetch<'k>(&self, keys: impl IntoIterator<Item = &'k CacheKey>) {
        for key in keys {
            self.buckets[self.hasher.hash_one(key) as usize % BUCKETS].fetch();
        }
    }

    /// The next ticket on the key. If nothing on it is unfinished, `choose` picks the writer, given a hash of the key.
    pub fn take(
        &'static self,
        key: &CacheKey,
        key_use: KeyUse,
        choose: impl Fn(usize) -> usize,
    ) -> (KeyTicket, NextStep) {
        loop {
            // Held until the ticket is taken: a barrier that is put up later finds it in the table.
            let standing = self.barriers.standing();
            if let Some(taken) = self.take_behind(key, key_use, standing.as_deref(), &choose) {
                return taken;
            }
        }
    }

    /// None: a barrier was put up meanwhile, and none was known of.
    fn take_behind(
        &'static self,
        key: &CacheKey,
        key_use: KeyUse,
        standing: Option<&StandingBarriers>,
        choose: impl Fn(usize) -> usize,
    ) -> Option<(KeyTicket, NextStep)> {
        let hash = self.hasher.hash_one(key);
        let of_bucket = hash as usize % BUCKETS;
        let bucket = &self.buckets[of_bucket];
        let tag = (hash >> 48) as u16;
        let behind = standing.and_then(|standing| standing.before(key));
        if let Some(standing) = standing.filter(|_| key_use != KeyUse::Read) {
            standing.note_write(key, behind);
        }
        let mut places = bucket.lock();
        if standing.is_none() && self.barriers.are_there() {
            return None;
        }
        let number = find(&places, tag);
        let place = &mut places[number];
        let is_first = place.out == 0;
        if is_first {
            *place = KeyRecord { tag, writer: choose((hash >> 16) as usize) as u8, is_routed: false, out: 0 };
        }
        place.out += 1;
        place.is_routed |= key_use == KeyUse::WriteLater || behind.is_some();
        let way = match place.is_routed {
            false => NextStep::Write,
            true if is_first && behind.is_none() => NextStep::Direct,
            true => NextStep::Route,
        };
        Some((
            KeyTicket { bucket, of_bucket: of_bucket as u16, place: number as u8, writer: place.writer, behind },
            way,
        ))
    }

    /// The writer that has unfinished operations on the key, or on one that shares its place.
    pub fn writer_of(&self, key: &CacheKey) -> Option<usize> {
        let hash = self.hasher.hash_one(key);
        let places = self.buckets[hash as usize % BUCKETS].lock();
        let place = places[find(&places, (hash >> 48) as u16)];
        (place.out > 0).then_some(place.writer.into())
    }
}

/// An operation's place in the order of its key; given back on drop.
pub struct KeyTicket {
    bucket: &'static Bucket,
    of_bucket: u16,
    place: u8,
    writer: u8,
    behind: Option<BarrierId>,
}

impl KeyTicket {
    /// The last barrier that it has to wait for.
    pub fn behind(&self) -> Option<BarrierId> {
        self.behind
    }

    /// The writer that all unfinished operations on the key are with.
    pub fn writer(&self) -> usize {
        self.writer.into()
    }

    /// Tickets are to be given back soon: as [`KeyOrder::fetch`].
    pub fn fetch<'t>(tickets: impl IntoIterator<Item = &'t KeyTicket>) {
        tickets.into_iter().for_each(|ticket| ticket.bucket.fetch());
    }

    /// A ticket of its own for something more that is done for the same operation.
    pub fn twin(&self) -> KeyTicket {
        self.bucket.lock()[usize::from(self.place)].out += 1;
        KeyTicket { ..*self }
    }
}

impl KeyTicket {
    /// Where the key is in the table. It stays there while a ticket for it is out.
    pub fn key_place(&self) -> KeyPlace {
        KeyPlace { of_bucket: self.of_bucket, place: self.place }
    }
}

/// Stands for a key with tickets that are out, and for those few others that share its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPlace {
    of_bucket: u16,
    place: u8,
}

impl Drop for KeyTicket {
    fn drop(&mut self) {
        self.bucket.lock()[usize::from(self.place)].out -= 1;
    }
}

/// The keys that have tickets out, noted by place. It may name a key as noted when only another key with the same place is.
pub struct TicketSet {
    /// A bit for each place of each bucket.
    places: Box<[u8; BUCKETS]>,
    is_empty: bool,
}

impl Default for TicketSet {
    fn default() -> Self {
        TicketSet { places: Box::new([0; BUCKETS]), is_empty: true }
    }
}

impl TicketSet {
    /// Puts the ticket's key, and whichever share its place, into the set.
    pub fn add(&mut self, ticket: &KeyTicket) {
        self.places[usize::from(ticket.of_bucket)] |= 1 << ticket.place;
        self.is_empty = false;
    }

    /// Takes a place out of the set.
    pub fn remove(&mut self, KeyPlace { of_bucket, place }: KeyPlace) {
        self.places[usize::from(of_bucket)] &= !(1 << place);
    }

    /// Whether the ticket's key, or one that shares its place, is in the set.
    pub fn has(&self, ticket: &KeyTicket) -> bool {
        !self.is_empty && self.places[usize::from(ticket.of_bucket)] & 1 << ticket.place != 0
    }

    /// Empties the set and keeps its memory; costs nothing if it is empty.
    pub fn clear(&mut self) {
        if !self.is_empty {
            self.places.fill(0);
            self.is_empty = true;
        }
    }
}

#[cfg(test)]
mod tests;
