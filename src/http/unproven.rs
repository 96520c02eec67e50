//! Bodies whose signature is not proven yet. Anybody can send one, so they share a budget of their own; and when it is full, the
//! largest has to go: whoever sends less is let in, however many hold their bodies back.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// What they hold together.
pub struct UnprovenBodies {
    max_bytes: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    bytes: usize,
    bodies: HashMap<u64, (usize, CancellationToken)>,
    next: u64,
}

/// The place of one body. Dropped when its signature is proven, or it is given up.
pub struct Share<'a> {
    of: &'a UnprovenBodies,
    number: u64,
    evicted: CancellationToken,
}

impl UnprovenBodies {
    pub fn new(max_bytes: usize) -> Self {
        UnprovenBodies { max_bytes, held: Mutex::default() }
    }

    pub fn share(&self) -> Share<'_> {
        let evicted = CancellationToken::new();
        let mut held = self.lock();
        let number = held.next;
        held.next += 1;
        held.bodies.insert(number, (0, evicted.clone()));
        Share { of: self, number, evicted }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share<'_> {
    /// Takes on `more` bytes. False: this body itself has to go, now or since before.
    pub fn grow(&self, more: usize) -> bool {
        let mut held = self.of.lock();
        let Some(bytes) = held.bodies.get(&self.number).map(|(bytes, _)| bytes + more) else { return false };
        while held.bytes + more > self.of.max_bytes {
            let largest =
                held.bodies.iter().max_by_key(|(_, (bytes, _))| *bytes).map(|(number, (bytes, _))| (*number, *bytes));
            match largest {
                Some((number, largest)) if number != self.number && largest > bytes => held.evict(number),
                _ => return false,
            }
        }
        held.bytes += more;
        if let Some((held, _)) = held.bodies.get_mut(&self.number) {
            *held = bytes;
        }
        true
    }

    /// Returns when it has to go for others.
    pub async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Held {
    fn evict(&mut self, number: u64) {
        if let Some((bytes, evicted)) = self.bodies.remove(&number) {
            self.bytes -= bytes;
            evicted.cancel();
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.of.lock().evict(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_goes_for_one_that_is_smaller_and_nobody_for_one_that_is_not() {
        let all = UnprovenBodies::new(100);
        let (large, middle, small) = (all.share(), all.share(), all.share());
        assert!(large.grow(60) && middle.grow(40));
        assert!(small.grow(10), "the largest goes");
        assert!(large.evicted.is_cancelled() && !middle.evicted.is_cancelled() && !large.grow(1));
        assert!(small.grow(30) && small.grow(20));
        assert!(!small.grow(1), "nobody is larger");
        assert!(!middle.grow(61));
        drop(small);
        assert!(middle.grow(60));
        drop(middle);
        let held = all.lock();
        assert_eq!((held.bytes, held.bodies.len()), (0, 0));
    }
}
