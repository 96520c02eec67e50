//! Where the unfinished work on a key is, for all threads: what lets an operation go straight to a writer, past the
//! router, and keeps the order of its key all the same.
//!
//! Every operation holds a [`Turn`] from its acceptance until it is done or given up. Operations on one key that are
//! under way together share a writer: the first chooses it, those that come while it is unfinished follow it there, and
//! a writer takes things in the order in which they come. Once an operation on a key has to wait, for a blob or for a
//! pattern, all that comes after it goes through the router too, until nothing on the key is unfinished any more.
//!
//! Keys are told apart by a keyed hash only. Two that share a place in the table follow each other about, which may cost
//! a hop between threads and breaks nothing.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

use ahash::RandomState;

use crate::event::CacheKey;

/// With a few thousand operations under way few keys meet.
const PLACES: usize = 1 << 14;

/// What a place holds: how many turns are out, whether they go through the router, and which writer they are with.
const ONE: u64 = 1 << 17;
const ROUTED: u64 = 1 << 16;
const WRITER: u64 = ROUTED - 1;

pub struct Turns {
    places: Box<[AtomicU64]>,
    /// Patterns that are not done.
    barriers: AtomicUsize,
    hasher: RandomState,
}

/// Where an operation is to go next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Writer,
    Router,
    /// To the router, were it not that nothing else is unfinished: it need only wait for itself.
    Alone,
}

impl Turns {
    /// For the rest of the process: to count who holds it, thread by thread and turn by turn, would cost more than all
    /// else here.
    pub fn new() -> &'static Self {
        let places = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Box::leak(Box::new(Turns { places, barriers: AtomicUsize::new(0), hasher: RandomState::new() }))
    }

    /// The next turn on the key. If nothing on it is unfinished, `choose` picks the writer, given a hash of the key.
    /// `must_wait`: the operation cannot be written yet.
    pub fn take(&'static self, key: &CacheKey, must_wait: bool, choose: impl Fn(usize) -> usize) -> (Turn, Way) {
        let hash = self.hasher.hash_one(key) as usize;
        let (index, chosen) = (hash % PLACES, choose(hash / PLACES) as u64 & WRITER);
        let routed = if must_wait || self.barriers.load(SeqCst) > 0 { ROUTED } else { 0 };
        let next = |before: u64| {
            let holder = if before < ONE { chosen } else { before };
            (holder + ONE) | routed
        };
        let mut before = self.places[index].load(SeqCst);
        while let Err(now) = self.places[index].compare_exchange_weak(before, next(before), SeqCst, SeqCst) {
            before = now;
        }
        let now = next(before);
        let way = match now & ROUTED {
            0 => Way::Writer,
            _ if before < ONE && self.barriers.load(SeqCst) == 0 => Way::Alone,
            _ => Way::Router,
        };
        let turn = Turn { turns: self, index: index as u32, writer: (now & WRITER) as u32 };
        (turn, way)
    }

    /// Held until a pattern is done: meanwhile everything goes through the router.
    pub fn put_up_barrier(&'static self) -> Barrier {
        self.barriers.fetch_add(1, SeqCst);
        Barrier(self)
    }
}

/// An operation's place in the order of its key; given back on drop.
pub struct Turn {
    turns: &'static Turns,
    index: u32,
    writer: u32,
}

impl Turn {
    /// The writer that all unfinished operations on the key are with.
    pub fn writer(&self) -> usize {
        self.writer as usize
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.places[self.index as usize].fetch_sub(ONE, SeqCst);
    }
}

pub struct Barrier(&'static Turns);

impl Drop for Barrier {
    fn drop(&mut self) {
        self.0.barriers.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::thread;

    use super::*;

    fn key() -> CacheKey {
        CacheKey::new_unchecked("k")
    }

    #[test]
    fn unfinished_operations_on_a_key_share_the_writer_that_the_first_has_chosen() {
        let turns = Turns::new();
        let (first, way) = turns.take(&key(), false, |_| 3);
        assert_eq!((first.writer(), way), (3, Way::Writer));
        let (second, way) = turns.take(&key(), false, |_| 5);
        assert_eq!((second.writer(), way), (3, Way::Writer));
        drop(first);
        let (third, _) = turns.take(&key(), false, |_| 5);
        assert_eq!(third.writer(), 3, "the second is still there");
        drop((second, third));
        assert_eq!(turns.take(&key(), false, |_| 5).0.writer(), 5);
    }

    #[test]
    fn however_many_threads_take_turns_those_that_are_out_together_share_a_writer() {
        let turns = Turns::new();
        let out: Mutex<Vec<usize>> = Mutex::default();
        thread::scope(|scope| {
            for own in 0..4 {
                let out = &out;
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        let (turn, _) = turns.take(&key(), false, |_| own);
                        let mut held = out.lock().unwrap();
                        assert!(held.iter().all(|writer| *writer == turn.writer()), "{held:?}");
                        held.push(turn.writer());
                        drop(held);
                        thread::yield_now();
                        out.lock().unwrap().pop();
                    }
                });
            }
        });
        assert_eq!(turns.take(&key(), false, |_| 9).0.writer(), 9, "all turns are given back");
    }

    #[test]
    fn behind_one_that_waits_all_go_through_the_router_until_the_key_is_done() {
        let turns = Turns::new();
        let (first, _) = turns.take(&key(), false, |_| 1);
        let (blob, way) = turns.take(&key(), true, |_| 2);
        assert_eq!((blob.writer(), way), (1, Way::Router));
        drop(blob);
        let (behind, way) = turns.take(&key(), false, |_| 2);
        assert_eq!((behind.writer(), way), (1, Way::Router));
        drop((first, behind));
        let (next, way) = turns.take(&key(), false, |_| 2);
        assert_eq!((next.writer(), way), (2, Way::Writer));
    }

    #[test]
    fn while_a_pattern_is_not_done_everything_goes_through_the_router() {
        let turns = Turns::new();
        let barrier = turns.put_up_barrier();
        let (turn, way) = turns.take(&key(), false, |_| 1);
        assert_eq!(way, Way::Router);
        drop((barrier, turn));
        assert_eq!(turns.take(&key(), false, |_| 1).1, Way::Writer);
    }
}
