//! The patterns that are not done, for all threads: an operation learns here which of them it is behind, on the thread on
//! which it came. One whose key no pattern matches goes its way as ever.
//!
//! The order of barriers is that of their ids, and that in which the router hears of them. An operation may reach the
//! router before the barrier that it is behind: [`Barriers::stands`] tells that from one that is done.
//!
//! What writes behind a barrier is noted: a pattern delete that stopped before its end keeps [them](WritesBehind), and goes on with
//! the keys that came in between.

mod written;

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use self::written::WrittenKeys;
use crate::event::pattern::{Pattern, PatternIndex};
use crate::event::{CacheKey, Few};

/// A place in the order of barriers.
pub type BarrierId = NonZeroU64;

/// The patterns that are not done, behind one lock: many readers, and a writer for each pattern that comes or goes.
pub struct Barriers {
    /// Barriers and interrupted pattern deletes; spares a lock while there are none.
    count: AtomicUsize,
    standing: RwLock<StandingBarriers>,
    last: Mutex<BarrierId>,
}

/// The barriers in force, the pattern deletes that were interrupted, and the keys written behind either.
#[derive(Default)]
pub struct StandingBarriers {
    patterns: PatternIndex<BarrierId>,
    ids: BTreeSet<BarrierId>,
    /// The patterns of those that were interrupted, and which those are.
    interrupted_patterns: PatternIndex<BarrierId>,
    interrupted: BTreeSet<BarrierId>,
    written: Mutex<WrittenKeys>,
}

impl StandingBarriers {
    /// The last barrier that is before an operation on this key.
    pub fn before(&self, key: &CacheKey) -> Option<BarrierId> {
        self.patterns.greatest(key.as_bytes())
    }

    /// Notes an operation that may write this key, if it is behind a barrier or an interrupted pattern delete matches the key.
    pub fn note_write(&self, key: &CacheKey, behind: Option<BarrierId>) {
        if let Some(behind) = behind.max(self.interrupted_patterns.greatest(key.as_bytes())) {
            self.written().note(key.as_bytes(), behind);
        }
    }

    fn written(&self) -> MutexGuard<'_, WrittenKeys> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Barriers {
    pub(super) fn new() -> Self {
        Barriers { count: AtomicUsize::new(0), standing: RwLock::default(), last: Mutex::new(BarrierId::MIN) }
    }

    /// Whether a pattern delete is unfinished, or was interrupted and may go on. Read without a lock, so it may be a moment old.
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

    /// One of those that are counted is gone.
    fn discount(&self, standing: &mut StandingBarriers) {
        self.count.fetch_sub(1, SeqCst);
        let first = standing.ids.first().into_iter().chain(standing.interrupted.first()).min().copied();
        standing.written.get_mut().unwrap_or_else(PoisonError::into_inner).forget_before(first);
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

    /// Keeps the keys that are written behind this barrier, from its beginning on, after the barrier is gone.
    pub fn keep_writes(&self) -> WritesBehind {
        let Barrier { barriers, id, ref patterns, .. } = *self;
        let mut standing = barriers.write();
        patterns.iter().for_each(|pattern| standing.interrupted_patterns.insert(id, pattern));
        standing.interrupted.insert(id);
        barriers.count.fetch_add(1, SeqCst);
        WritesBehind { barriers, id, patterns: patterns.clone() }
    }
}

/// Keys written behind a barrier, for a pattern delete that was interrupted and may go on.
pub struct WritesBehind {
    barriers: &'static Barriers,
    id: BarrierId,
    patterns: Few<Pattern>,
}

impl WritesBehind {
    /// The keys that operations since the barrier may have written: those that its patterns match, and others. None: they were too
    /// many to keep.
    pub fn keys(&self) -> Option<Vec<Bytes>> {
        let standing = self.barriers.standing()?;
        standing.written().since(self.id)
    }

    /// Adds keys that are still to be looked at.
    pub fn add(&self, keys: &[Bytes]) {
        if let Some(standing) = self.barriers.standing() {
            let mut written = standing.written();
            keys.iter().for_each(|key| written.note(key, self.id));
        }
    }
}

impl Drop for WritesBehind {
    fn drop(&mut self) {
        let mut standing = self.barriers.write();
        standing.interrupted_patterns.remove(self.id, &self.patterns);
        standing.interrupted.remove(&self.id);
        self.barriers.discount(&mut standing);
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        if self.holds {
            let mut standing = self.barriers.write();
            standing.patterns.remove(self.id, &self.patterns);
            standing.ids.remove(&self.id);
            self.barriers.discount(&mut standing);
        }
    }
}
