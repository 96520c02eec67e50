//! Order per key, as values: no actor, no clock, no I/O.
//!
//! Most operations never enter: a key with nothing unfinished in front lets them [through](Lanes::is_clear). A key gets a
//! lane only when a blob is awaited on it or a pattern stands over it, and loses it when the lane has run empty. A lane
//! runs from its head: what is ready leaves in order, an awaited blob holds what is behind it.
//!
//! A pattern is a barrier: a marker in every lane whose key it matches. It starts when it has come to the head of all
//! lanes that were there before it, and what comes later on a matching key queues behind its marker until it is lifted.
//!
//! Barriers with nothing between them in a lane share one marker, so that a lane is never longer than what waits in it.
//! The marker tells the first of them when it has come to the head, and stays until the last is lifted. That will do for
//! those between, because all of them match the key: patterns that may overlap start in the order of acceptance.

use std::collections::{BTreeMap, HashMap, VecDeque};

use ahash::RandomState;

use crate::event::CacheKey;
use crate::event::pattern::Pattern;

/// A place in the order of acceptance.
pub type Seq = u64;

/// More live patterns than this, and keys are no longer compared with each: a key then waits for all of them. Waiting
/// too long is allowed, comparing every key with a hostile number of patterns is not.
const MAX_COMPARED: usize = 2048;
/// Patterns that run in one scan together, at most.
const MAX_TOGETHER: usize = 1024;
/// Patterns that wait, against which a later one is compared; beyond them it waits unseen.
const MAX_BLOCKED: usize = 256;

pub struct Lanes<T, S> {
    lanes: HashMap<CacheKey, VecDeque<Item<T>>, RandomState>,
    barriers: BTreeMap<Seq, Barrier<S>>,
    live_patterns: usize,
    next: Seq,
}

enum Item<T> {
    Ready(Seq, T),
    Awaited(Seq, T),
    /// Ended without an effect while something was before it.
    Gone(Seq),
    Marker(Marker),
}

struct Marker {
    seq: Seq,
    /// The barrier that waits for what is before it; none any more, once it has come to the head.
    report_to: Option<Seq>,
    /// It stays until this barrier is lifted.
    last: Seq,
    /// And all before that one, whether they match the key or not.
    all_up_to: bool,
}

impl<T> Item<T> {
    fn seq(&self) -> Seq {
        match self {
            Item::Ready(seq, _) | Item::Awaited(seq, _) | Item::Gone(seq) | Item::Marker(Marker { seq, .. }) => *seq,
        }
    }
}

struct Barrier<S> {
    patterns: Vec<Pattern>,
    /// Lanes in which something is still before it.
    waiting_for: usize,
    /// Starts only when no earlier one waits, whether they overlap or not: it shares a marker with some that it was not
    /// compared with.
    after_all: bool,
    /// None: it runs.
    work: Option<S>,
}

impl<T, S> Default for Lanes<T, S> {
    fn default() -> Self {
        Lanes { lanes: HashMap::default(), barriers: BTreeMap::new(), live_patterns: 0, next: 0 }
    }
}

impl<T, S> Lanes<T, S> {
    /// Whether nothing on the key is before what comes now: then it need not enter.
    pub fn is_clear(&self, key: &CacheKey) -> bool {
        (self.lanes.is_empty() && self.barriers.is_empty()) || (!self.lanes.contains_key(key) && !self.stands_over(key))
    }

    /// Takes a place for an operation that has to wait.
    pub fn wait(&mut self, key: &CacheKey, operation: T) {
        let seq = self.number();
        self.lane(key).push_back(Item::Ready(seq, operation));
    }

    /// Takes a place for an operation whose blob has yet to come.
    pub fn wait_for_blob(&mut self, key: &CacheKey, operation: T) -> Seq {
        let seq = self.number();
        self.lane(key).push_back(Item::Awaited(seq, operation));
        seq
    }

    /// The blob has come, or not: `turn` makes of the operation what is to be done now, if anything. What may go on
    /// because of it is added to `out`, in order.
    pub fn blob_ended(&mut self, key: &CacheKey, seq: Seq, turn: impl FnOnce(T) -> Option<T>, out: &mut Vec<T>) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let Ok(index) = lane.binary_search_by_key(&seq, Item::seq) else { return };
        let Some(item) = lane.get_mut(index) else { return };
        match std::mem::replace(item, Item::Gone(seq)) {
            Item::Awaited(seq, operation) => {
                if let Some(operation) = turn(operation) {
                    *item = Item::Ready(seq, operation);
                }
            }
            other => *item = other,
        }
        self.run(key, out);
    }

    /// The operation that stands there and whose blob has yet to come.
    pub fn awaited(&self, key: &CacheKey, seq: Seq) -> Option<&T> {
        let lane = self.lanes.get(key)?;
        match lane.get(lane.binary_search_by_key(&seq, Item::seq).ok()?)? {
            Item::Awaited(_, operation) => Some(operation),
            Item::Ready(..) | Item::Gone(_) | Item::Marker(_) => None,
        }
    }

    /// Whether nothing on the key is before it.
    pub fn is_head(&self, key: &CacheKey, seq: Seq) -> bool {
        self.lanes.get(key).and_then(|lane| lane.front()).is_some_and(|item| item.seq() == seq)
    }

    /// Puts up a barrier behind all that is there now on matching keys.
    pub fn put_up(&mut self, patterns: Vec<Pattern>, work: S) {
        let seq = self.number();
        let blind = self.live_patterns > MAX_COMPARED;
        let (mut waiting_for, mut after_all) = (0, blind);
        for (_, lane) in self.lanes.iter_mut().filter(|(key, _)| blind || matches(&patterns, key)) {
            if let Some(Item::Marker(marker)) = lane.back_mut() {
                after_all |= marker.all_up_to;
                marker.all_up_to |= blind;
                marker.last = seq;
            } else {
                lane.push_back(Item::Marker(Marker { seq, report_to: Some(seq), last: seq, all_up_to: blind }));
                waiting_for += 1;
            }
        }
        self.live_patterns += patterns.len();
        self.barriers.insert(seq, Barrier { patterns, waiting_for, after_all, work: Some(work) });
    }

    /// The barriers that can start now, together, in the order of acceptance; from here on they run. Called while none
    /// runs. One that may concern a key of an earlier one that waits, waits too.
    pub fn start(&mut self) -> Vec<(Seq, S)> {
        let mut together = 0;
        let mut blocked: Vec<&Pattern> = Vec::new();
        let mut starting = Vec::new();
        for (seq, barrier) in &self.barriers {
            if blocked.len() > MAX_BLOCKED {
                break;
            }
            let overlaps = barrier.after_all && !blocked.is_empty()
                || barrier.patterns.iter().any(|own| blocked.iter().any(|other| own.may_overlap(other)));
            if barrier.waiting_for > 0 || overlaps {
                blocked.extend(&barrier.patterns);
                continue;
            }
            together += barrier.patterns.len();
            if together > MAX_TOGETHER && !starting.is_empty() {
                break;
            }
            starting.push(*seq);
        }
        let mut take = |seq: Seq| Some((seq, self.barriers.get_mut(&seq)?.work.take()?));
        starting.into_iter().filter_map(&mut take).collect()
    }

    /// These barriers are done: what waited for them goes on.
    pub fn lift(&mut self, done: &[Seq], out: &mut Vec<T>) {
        for seq in done {
            if let Some(barrier) = self.barriers.remove(seq) {
                self.live_patterns -= barrier.patterns.len();
            }
        }
        let is_free = |lane: &VecDeque<Item<T>>| match lane.front() {
            Some(Item::Marker(marker)) => marker.is_lifted(&self.barriers),
            _ => false,
        };
        let freed: Vec<CacheKey> =
            self.lanes.iter().filter(|(_, lane)| is_free(lane)).map(|(key, _)| key.clone()).collect();
        for key in &freed {
            self.run(key, out);
        }
    }

    pub fn has_barriers(&self) -> bool {
        !self.barriers.is_empty()
    }

    fn number(&mut self) -> Seq {
        self.next += 1;
        self.next
    }

    fn stands_over(&self, key: &CacheKey) -> bool {
        self.live_patterns > MAX_COMPARED || self.barriers.values().any(|barrier| matches(&barrier.patterns, key))
    }

    /// The key's lane. A new one begins with a marker of the barriers that stand over it.
    fn lane(&mut self, key: &CacheKey) -> &mut VecDeque<Item<T>> {
        let Lanes { lanes, barriers, live_patterns, .. } = self;
        lanes.entry(key.clone()).or_insert_with(|| {
            let blind = *live_patterns > MAX_COMPARED;
            let last = barriers.iter().rfind(|(_, barrier)| blind || matches(&barrier.patterns, key));
            let marker = |seq: Seq| Item::Marker(Marker { seq, report_to: None, last: seq, all_up_to: blind });
            last.map(|(seq, _)| marker(*seq)).into_iter().collect()
        })
    }

    fn run(&mut self, key: &CacheKey, out: &mut Vec<T>) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        while let Some(item) = lane.pop_front() {
            match item {
                Item::Ready(_, operation) => out.push(operation),
                Item::Gone(_) => {}
                Item::Marker(marker) if marker.is_lifted(&self.barriers) => {}
                Item::Marker(mut marker) => {
                    if let Some(barrier) = marker.report_to.take().and_then(|seq| self.barriers.get_mut(&seq)) {
                        barrier.waiting_for -= 1;
                    }
                    lane.push_front(Item::Marker(marker));
                    return;
                }
                Item::Awaited(..) => {
                    lane.push_front(item);
                    return;
                }
            }
        }
        self.lanes.remove(key);
    }
}

impl Marker {
    fn is_lifted<S>(&self, barriers: &BTreeMap<Seq, Barrier<S>>) -> bool {
        match self.all_up_to {
            true => barriers.range(..=self.last).next().is_none(),
            false => !barriers.contains_key(&self.last),
        }
    }
}

fn matches(patterns: &[Pattern], key: &CacheKey) -> bool {
    patterns.iter().any(|pattern| pattern.matches(key.as_bytes()))
}

#[cfg(test)]
mod tests;
