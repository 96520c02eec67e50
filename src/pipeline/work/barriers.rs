//! The patterns that are not done, for all threads: an operation learns here which of them it is behind, on the thread on
//! which it came. One whose key no pattern matches goes its way as ever.
//!
//! The order of barriers is that of their ids, and that in which the router hears of them. An operation may reach the
//! router before the barrier that it is behind: [`Barriers::stands`] tells that from one that is done.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ahash::HashSet;

use crate::event::pattern::{Pattern, PatternIndex};
use crate::event::{CacheKey, Few};

/// A place in the order of barriers.
pub type BarrierId = NonZeroU64;

/// The patterns that are not done, behind one lock: many readers, and a writer for each pattern that comes or goes.
pub struct Barriers {
    /// Spares a lock while there are none.
    count: AtomicUsize,
    standing: RwLock<StandingBarriers>,
    last: Mutex<BarrierId>,
}

/// Barriers that hold somebody up, as they are while this is held.
#[derive(Default)]
pub struct StandingBarriers {
    patterns: PatternIndex<BarrierId>,
    ids: HashSet<BarrierId>,
}

impl StandingBarriers {
    /// The last barrier that is before an operation on this key.
    pub fn before(&self, key: &CacheKey) -> Option<BarrierId> {
        self.patterns.greatest(key.as_bytes())
    }
}

impl Barriers {
    pub(super) fn new() -> Self {
        Barriers { count: AtomicUsize::new(0), standing: RwLock::default(), last: Mutex::new(BarrierId::MIN) }
    }

    /// Whether any pattern holds somebody up; without a lock, so it may be a moment old.
    pub fn are_there(&self) -> bool {
        self.count.load(SeqCst) > 0
    }

    pub(super) fn standing(&self) -> Option<RwLockReadGuard<'_, StandingBarriers>> {
        self.are_there().then(|| self.standing.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether it is not done yet.
    pub fn stands(&self, id: BarrierId) -> bool {
        self.standing().is_some_and(|standing| standing.ids.contains(&id))
    }

    /// Puts up a barrier for these patterns; one that only looks (`holds` is false) keeps its place in the order and holds
    /// nobody up. `tell` tells the router, in the order of barriers.
    pub fn put_up(&'static self, patterns: Few<Pattern>, holds: bool, tell: impl FnOnce(Barrier)) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = last.saturating_add(1);
        let id = *last;
        if holds {
            let mut standing = self.write();
            patterns.iter().for_each(|pattern| standing.patterns.insert(id, pattern));
            standing.ids.insert(id);
            self.count.fetch_add(1, SeqCst);
        }
        tell(Barrier { barriers: self, id, patterns: if holds { patterns } else { Few::new() }, holds });
    }

    fn write(&self) -> RwLockWriteGuard<'_, StandingBarriers> {
        self.standing.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held until its patterns are done.
pub struct Barrier {
    barriers: &'static Barriers,
    id: BarrierId,
    patterns: Few<Pattern>,
    holds: bool,
}

impl Barrier {
    /// The place in the order of barriers: a greater one came later.
    pub fn id(&self) -> BarrierId {
        self.id
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        if self.holds {
            let mut standing = self.barriers.write();
            standing.patterns.remove(self.id, &self.patterns);
            standing.ids.remove(&self.id);
            self.barriers.count.fetch_sub(1, SeqCst);
        }
    }
}
