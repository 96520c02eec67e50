//! Order per key, as values: no actor, no clock, no I/O.
//!
//! Most operations never enter: a key with nothing unfinished in front lets them [through](Lanes::is_clear). A key gets a
//! lane only when a blob is awaited on it or a pattern stands over it, and loses it when the lane has run empty. A lane
//! runs from its head: what is ready leaves in order, an awaited blob holds what is behind it.
//!
//! A pattern is a barrier: a marker in every lane whose key it matches. Operations say themselves which barrier they are
//! [behind](crate::pipeline::work::barriers). Which of the lanes that were there before it a barrier has to wait for is [looked](Lanes::put_up)
//! for elsewhere and told [afterwards](Lanes::looked); it starts when it has come to the head of those. A preview is a barrier
//! that nobody is behind.
//!
//! Barriers with nothing between them in a lane share one marker, so that a lane is never longer than what waits in it.
//! The marker stays until the last is lifted. That will do for those between, because all of them match the key: barriers
//! that may overlap start in their order. Each therefore counts the earlier ones that it waits for; nothing is compared
//! once it is put up.

mod awaited;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use ahash::RandomState;
use smallvec::SmallVec;

use crate::event::pattern::Pattern;
use crate::event::{CacheKey, Few};
use crate::pipeline::work::Seq;
use crate::pipeline::work::barriers::BarrierId;

/// Patterns that run in one scan together, at most.
const MAX_TOGETHER: usize = 1024;

/// `T` is an operation that is ready, `B` one whose blob has yet to come, `S` the work of a barrier.
pub struct Lanes<T, B, S> {
    lanes: HashMap<CacheKey, Lane<T, B>, RandomState>,
    barriers: BTreeMap<BarrierId, Barrier<S>>,
    /// Barriers that can start.
    ready: BTreeSet<BarrierId>,
    /// Keys to whose heads awaited blobs have come since anybody asked.
    heads: Vec<CacheKey>,
    next: Seq,
}

struct Lane<T, B> {
    items: VecDeque<Item<T, B>>,
    /// The last barrier that has held up what came on this key.
    last: Option<BarrierId>,
}

enum Item<T, B> {
    Ready(Seq, T),
    Awaited(Seq, B),
    /// Only while an operation whose blob has ended is taken out.
    Gone(Seq),
    Marker(Marker),
}

struct Marker {
    seq: Seq,
    /// The barriers that wait for what is before it, but for those that wait for one of these anyway; none any more, once
    /// it has come to the head.
    tells: SmallVec<[BarrierId; 1]>,
    /// It stays until this barrier is lifted. None: previews hold nobody up.
    until: Option<BarrierId>,
}

impl<T, B> Item<T, B> {
    fn seq(&self) -> Seq {
        match self {
            Item::Ready(seq, _) | Item::Awaited(seq, _) | Item::Gone(seq) | Item::Marker(Marker { seq, .. }) => *seq,
        }
    }
}

impl<T, B> Lane<T, B> {
    /// Where the first marker stands that holds things up at least until this barrier is lifted.
    fn place_of(&self, id: BarrierId) -> Option<usize> {
        let holds = |item: &Item<T, B>| matches!(item, Item::Marker(marker) if marker.until >= Some(id));
        if self.last >= Some(id) { self.items.iter().position(holds) } else { None }
    }
}

struct Barrier<S> {
    patterns: Few<Pattern>,
    /// Others may be behind it: it is no preview.
    holds: bool,
    /// Which lanes it waits for is not known yet.
    is_looking: bool,
    /// Lanes in which something is still before it, as far as their markers tell it.
    lanes_before: usize,
    /// Earlier barriers that it waits for.
    barriers_before: usize,
    /// Later ones that wait until it can start, and previews that wait until it is lifted.
    starts: Vec<BarrierId>,
    shows: Vec<BarrierId>,
    /// Lanes that it holds up: its marker is at their head, or was when they were noted.
    held: Vec<CacheKey>,
    /// None: it runs, or has not come yet.
    work: Option<S>,
}

impl<S> Barrier<S> {
    /// One that some operation is behind, and that has not come yet itself.
    fn to_come() -> Self {
        Barrier {
            patterns: Few::new(),
            holds: true,
            is_looking: true,
            lanes_before: 0,
            barriers_before: 0,
            starts: Vec::new(),
            shows: Vec::new(),
            held: Vec::new(),
            work: None,
        }
    }

    fn can_start(&self) -> bool {
        !self.is_looking && self.lanes_before == 0 && self.barriers_before == 0
    }

    /// Whether the later barrier is noted here. Nearly always they come in ascending order; where they do not, one may be
    /// missed.
    fn is_before(&self, later: BarrierId) -> bool {
        self.starts.binary_search(&later).is_ok() || self.shows.binary_search(&later).is_ok()
    }
}

impl<T, B, S> Default for Lanes<T, B, S> {
    fn default() -> Self {
        Lanes {
            lanes: HashMap::default(),
            barriers: BTreeMap::new(),
            ready: BTreeSet::new(),
            heads: Vec::new(),
            next: 0,
        }
    }
}

impl<T, B, S> Lanes<T, B, S> {
    /// Whether nothing on the key is before what comes now, behind that barrier: then it need not enter.
    pub fn is_clear(&self, key: &CacheKey, behind: Option<BarrierId>) -> bool {
        behind.is_none() && (self.lanes.is_empty() || !self.lanes.contains_key(key))
    }

    /// Whether this barrier has come here and is not done.
    pub fn knows(&self, id: BarrierId) -> bool {
        self.barriers.contains_key(&id)
    }

    /// Takes a place for an operation that has to wait.
    pub fn wait(&mut self, key: &CacheKey, behind: Option<BarrierId>, operation: T) {
        self.enter(key, behind, |seq| Item::Ready(seq, operation));
    }

    /// Takes a place for an operation whose blob has yet to come.
    pub fn wait_for_blob(&mut self, key: &CacheKey, behind: Option<BarrierId>, operation: B) -> Seq {
        self.enter(key, behind, |seq| Item::Awaited(seq, operation))
    }

    /// The blob has come, or not: `turn` makes of the operation what is to be done now, if anything. What may go on
    /// because of it is added to `out`, in order.
    pub fn blob_ended(&mut self, key: &CacheKey, seq: Seq, ticket: impl FnOnce(B) -> Option<T>, out: &mut Vec<T>) {
        let Some(Lane { items, .. }) = self.lanes.get_mut(key) else { return };
        let Ok(index) = items.binary_search_by_key(&seq, Item::seq) else { return };
        let Some(item) = items.get_mut(index) else { return };
        match std::mem::replace(item, Item::Gone(seq)) {
            Item::Awaited(seq, operation) => {
                if let Some(operation) = ticket(operation) {
                    *item = Item::Ready(seq, operation);
                }
            }
            other => *item = other,
        }
        // What has ended without an effect holds no memory behind a head that waits for long.
        let is_gone = matches!(item, Item::Gone(_));
        if index == 0 {
            self.run(key, out);
        } else if is_gone {
            items.remove(index);
        }
    }

    /// The operation that stands there and whose blob has yet to come.
    pub fn awaited(&self, key: &CacheKey, seq: Seq) -> Option<&B> {
        let Lane { items, .. } = self.lanes.get(key)?;
        match items.get(items.binary_search_by_key(&seq, Item::seq).ok()?)? {
            Item::Awaited(_, operation) => Some(operation),
            Item::Ready(..) | Item::Gone(_) | Item::Marker(_) => None,
        }
    }

    /// Puts up a barrier. It starts after [`looked`](Lanes::looked) has been told of the lanes that were there before
    /// it.
    pub fn put_up(&mut self, id: BarrierId, patterns: Few<Pattern>, holds: bool, work: S) {
        let mut before = 0;
        for (_, other) in self.barriers.range_mut(..id).filter(|(_, other)| other.holds) {
            let waits = if holds { !other.can_start() } else { true };
            if waits && patterns.iter().any(|own| other.patterns.iter().any(|other| own.may_overlap(other))) {
                if holds { &mut other.starts } else { &mut other.shows }.push(id);
                before += 1;
            }
        }
        let barrier = self.barriers.entry(id).or_insert_with(Barrier::to_come);
        (barrier.patterns, barrier.holds, barrier.barriers_before, barrier.work) =
            (patterns, holds, before, Some(work));
    }

    /// The keys with unfinished operations here, in no order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &CacheKey> {
        self.lanes.keys()
    }

    /// The barrier matches these keys, and none of the others that had a lane when it was put up.
    pub fn looked(&mut self, id: BarrierId, keys: &[CacheKey]) {
        let Some(holds) = self.barriers.get(&id).map(|barrier| barrier.holds) else { return };
        for key in keys {
            self.mark(key, id, holds);
        }
        if let Some(barrier) = self.barriers.get_mut(&id) {
            barrier.is_looking = false;
        }
        self.check(id);
    }

    /// Puts the barrier behind what is before it in the key's lane.
    fn mark(&mut self, key: &CacheKey, id: BarrierId, holds: bool) {
        let seq = self.number();
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let place = match lane.place_of(id) {
            Some(place) => place,
            None => {
                if !matches!(lane.items.back(), Some(Item::Marker(_))) {
                    lane.items.push_back(Item::Marker(Marker { seq, tells: SmallVec::new(), until: None }));
                }
                lane.items.len() - 1
            }
        };
        let Some(Item::Marker(marker)) = lane.items.get_mut(place) else { return };
        if holds {
            marker.until = marker.until.max(Some(id));
            lane.last = lane.last.max(Some(id));
        }
        // The last that is told cannot start before this marker is at the head, nor can what waits for it.
        let last = marker.tells.last().and_then(|last| self.barriers.get(last));
        if place > 0 && !last.is_some_and(|last| last.is_before(id)) {
            marker.tells.push(id);
            if let Some(barrier) = self.barriers.get_mut(&id) {
                barrier.lanes_before += 1;
            }
        }
    }

    /// The barriers that can start now, together, in their order; from here on they run. With `only_previews` those
    /// alone; otherwise there is one at least that is none.
    pub fn start(&mut self, only_previews: bool) -> Vec<(BarrierId, S)> {
        let holds = |id: &BarrierId| self.barriers.get(id).is_some_and(|barrier| barrier.holds);
        if !only_previews && !self.ready.iter().any(holds) {
            return Vec::new();
        }
        let (mut together, mut starting) = (0, Vec::new());
        for id in self.ready.iter().copied().filter(|id| !only_previews || !holds(id)) {
            together += self.barriers.get(&id).map_or(0, |barrier| barrier.patterns.len());
            if together > MAX_TOGETHER && !starting.is_empty() {
                break;
            }
            starting.push(id);
        }
        let take = |id: BarrierId| {
            self.ready.remove(&id);
            Some((id, self.barriers.get_mut(&id)?.work.take()?))
        };
        starting.into_iter().filter_map(take).collect()
    }

    /// These barriers are done: what waited for them goes on.
    pub fn lift(&mut self, done: &[BarrierId], out: &mut Vec<T>) {
        let mut freed = Vec::new();
        let lifted: Vec<Barrier<S>> = done.iter().filter_map(|id| self.barriers.remove(id)).collect();
        for barrier in lifted {
            freed.extend(barrier.held);
            for preview in barrier.shows {
                self.passes(preview);
            }
        }
        for key in &freed {
            self.run(key, out);
        }
    }

    fn number(&mut self) -> Seq {
        self.next += 1;
        self.next
    }

    /// One of the earlier barriers that it waits for is no longer before it.
    fn passes(&mut self, id: BarrierId) {
        if let Some(barrier) = self.barriers.get_mut(&id) {
            barrier.barriers_before -= 1;
        }
        self.check(id);
    }

    /// Notes a barrier that can start, and with it those that wait for no more than that.
    fn check(&mut self, id: BarrierId) {
        let mut to_check = vec![id];
        while let Some(id) = to_check.pop() {
            let Some(barrier) = self.barriers.get_mut(&id) else { continue };
            if !(barrier.can_start() && barrier.work.is_some() && self.ready.insert(id)) {
                continue;
            }
            for later in std::mem::take(&mut barrier.starts) {
                if let Some(later) = self.barriers.get_mut(&later) {
                    later.barriers_before -= 1;
                }
                to_check.push(later);
            }
        }
    }

    /// Puts it at the end of the key's lane, after a marker of the barrier if it is the first behind that.
    fn enter(&mut self, key: &CacheKey, behind: Option<BarrierId>, item: impl FnOnce(Seq) -> Item<T, B>) -> Seq {
        let (before, seq) = (self.number(), self.number());
        // A copy: the lane may outlive the request in whose body the key is.
        let lane = self.lanes.entry(key.copied()).or_insert_with(|| Lane { items: VecDeque::new(), last: None });
        if let Some(id) = behind.filter(|_| behind > lane.last) {
            lane.last = behind;
            if let Some(Item::Marker(marker)) = lane.items.back_mut() {
                marker.until = behind;
            } else {
                lane.items.push_back(Item::Marker(Marker { seq: before, tells: SmallVec::new(), until: behind }));
            }
            let barrier = self.barriers.entry(id).or_insert_with(Barrier::to_come);
            if lane.items.len() == 1 {
                barrier.held.push(key.copied());
            }
        }
        lane.items.push_back(item(seq));
        seq
    }

    fn run(&mut self, key: &CacheKey, out: &mut Vec<T>) {
        let mut arrived: SmallVec<[BarrierId; 4]> = SmallVec::new();
        let is_empty = self.run_lane(key, &mut arrived, out);
        if is_empty {
            self.lanes.remove(key);
        }
        for id in arrived {
            if let Some(barrier) = self.barriers.get_mut(&id) {
                barrier.lanes_before -= 1;
            }
            self.check(id);
        }
    }

    /// Whether nothing is left in the lane. Those that come to its head are added to `arrived`.
    fn run_lane(&mut self, key: &CacheKey, arrived: &mut SmallVec<[BarrierId; 4]>, out: &mut Vec<T>) -> bool {
        let Some(lane) = self.lanes.get_mut(key) else { return false };
        while let Some(item) = lane.items.pop_front() {
            match item {
                Item::Ready(_, operation) => out.push(operation),
                Item::Gone(_) => {}
                Item::Marker(mut marker) => {
                    arrived.extend(marker.tells.drain(..));
                    if let Some(barrier) = marker.until.and_then(|id| self.barriers.get_mut(&id)) {
                        barrier.held.push(key.clone());
                        lane.items.push_front(Item::Marker(marker));
                        return false;
                    }
                }
                Item::Awaited(..) => {
                    self.heads.push(key.clone());
                    lane.items.push_front(item);
                    return false;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
