//! Actors of one kind by their number, and which of them are near to a thread.
//!
//! There is a place for as many as may ever be wanted, so a number means the same actor for as long as the process lives:
//! what was meant for it reaches it, however the size of its pool changes meanwhile.

use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

use super::mailbox::Mailbox;
use super::stage::Stage;

/// Places of a pool: no size may be greater.
pub const MAX_POOL: usize = 64;

/// Each starts on the thread it is to live on, so they come one by one; none ever leaves its place.
pub struct Pool<S: Stage>([OnceLock<Mailbox<S>>; MAX_POOL]);

impl<S: Stage> Pool<S> {
    /// A pool of [`MAX_POOL`] places, all empty.
    pub fn new() -> Arc<Self> {
        Arc::new(Pool(std::array::from_fn(|_| OnceLock::new())))
    }

    /// The numbers of the members that are there.
    pub fn started(&self) -> Vec<usize> {
        (0..MAX_POOL).filter(|number| self.is_started(*number)).collect()
    }

    /// Whether the actor with this number runs.
    pub fn is_started(&self, number: usize) -> bool {
        self.0.get(number).is_some_and(|place| place.get().is_some())
    }

    /// Starts one that is not there yet.
    pub fn start(&self, number: usize, make: impl FnOnce() -> Mailbox<S>) {
        if let Some(place) = self.0.get(number) {
            place.get_or_init(make);
        }
    }

    /// Does what [`Mailbox::post`] does; before its start the actor counts as gone.
    pub fn post(&self, number: usize, message: S::Message) {
        if let Some(actor) = self.0.get(number).and_then(OnceLock::get) {
            actor.post(message);
        }
    }
}

/// Which of a pool are given new work: a bit for each.
pub struct ActiveSet(AtomicU64);

impl ActiveSet {
    /// The first `count`.
    pub fn of(count: usize) -> Arc<Self> {
        Arc::new(ActiveSet(AtomicU64::new((0..count.min(MAX_POOL)).fold(0, |all, number| all | bit(number)))))
    }

    /// Adds an actor: it may be chosen from now on. Its place in the pool must be taken before.
    pub fn open(&self, number: usize) {
        self.0.fetch_or(bit(number), SeqCst);
    }

    /// Takes an actor out: it is not chosen any more, but finishes what it has.
    pub fn close(&self, number: usize) {
        self.0.fetch_and(!bit(number), SeqCst);
    }

    /// Whether the actor with this number may be chosen.
    pub fn has(&self, number: usize) -> bool {
        self.bits() & bit(number) != 0
    }

    /// All of it, for [`WorkerThread::nearest`]. Who sees a bit sees its actor in the pool.
    pub fn bits(&self) -> u64 {
        self.0.load(Acquire)
    }
}

fn bit(number: usize) -> u64 {
    1 << (number % MAX_POOL)
}

/// A thread, of those over which pools are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerThread {
    number: usize,
    threads: usize,
}

impl WorkerThread {
    /// `turn` counts the threads, and begins anew when all have been counted.
    pub fn new(turn: usize, threads: usize) -> Self {
        let threads = threads.max(1);
        WorkerThread { number: turn % threads, threads }
    }

    /// Among the threads.
    pub fn number(self) -> usize {
        self.number
    }

    /// Whether the actor with this number lives on this thread.
    pub fn is_of(self, number: usize) -> bool {
        number % self.threads == self.number
    }

    /// Which of `count` are this thread's share, or the nearest if there are fewer than threads.
    pub fn share(self, count: usize) -> impl Iterator<Item = usize> {
        let count = count.max(1);
        (self.number % count..count).step_by(self.threads)
    }

    /// The same of those on a [`ActiveSet`].
    pub fn nearest(self, bits: u64) -> Vec<usize> {
        let all: Vec<usize> = (0..MAX_POOL).filter(|number| bits & bit(*number) != 0).collect();
        let own: Vec<usize> = all.iter().copied().filter(|number| self.is_of(*number)).collect();
        if own.is_empty() { all.get(self.number % all.len().max(1)).copied().into_iter().collect() } else { own }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_is_near_to_some_thread_and_every_thread_has_one_near() {
        for threads in 1..6 {
            for count in 1..9 {
                let mut near: Vec<usize> = Vec::new();
                for turn in 0..threads {
                    let home = WorkerThread::new(turn, threads);
                    let share: Vec<usize> = home.share(count).collect();
                    assert!(!share.is_empty());
                    assert_eq!(share, home.nearest(ActiveSet::of(count).bits()), "{count} on {threads}");
                    near.extend(share);
                }
                assert!((0..count).all(|number| near.contains(&number)), "{count} on {threads}: {near:?}");
            }
        }
    }

    #[test]
    fn only_those_on_the_active_are_near() {
        let active = ActiveSet::of(4);
        active.close(1);
        active.close(3);
        assert_eq!(WorkerThread::new(0, 2).nearest(active.bits()), [0, 2]);
        assert_eq!(WorkerThread::new(1, 2).nearest(active.bits()), [2], "its own are closed");
        active.open(MAX_POOL - 1);
        assert_eq!(WorkerThread::new(1, 2).nearest(active.bits()), [MAX_POOL - 1]);
        assert!(active.has(MAX_POOL - 1) && !active.has(1));
    }
}
