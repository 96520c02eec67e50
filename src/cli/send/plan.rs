//! Which events may go together, and which must wait: the order of `send`, pure.
//!
//! Promises: while an event is unsettled, no later event on one of its keys is in another batch; within a batch events
//! stand in their order. An event that deletes by pattern is alone but for others of its kind: it waits for all before
//! it, and all after it waits for it.
//!
//! A later event joins an earlier one on its key in the same batch only if repeating the earlier alone could not undo the
//! later. The service sees to that for an event of one key (it answers `superseded` if the later has taken effect), so one
//! of several keys is not followed on any of them, and neither does an event with a version follow one without, or the
//! other way round. What is repeated stays in its batch and keeps its keys.

use std::collections::{HashMap, VecDeque};

use super::event::{Item, Touches};

/// The limits of one request; one event alone may be larger.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    pub events: usize,
    pub bytes: usize,
}

/// Events that go in one request, in their order.
#[derive(Debug, Default)]
pub struct EventBatch {
    pub id: u64,
    pub items: Vec<Item>,
    bytes: usize,
}

#[derive(Debug)]
pub struct Planner {
    bounds: RequestLimits,
    /// Being filled.
    open: EventBatch,
    /// Full, or not to be filled further.
    closed: VecDeque<EventBatch>,
    lanes: HashMap<u64, Lane, ahash::RandomState>,
    /// Events that wait in lanes, by number.
    waiting: HashMap<u64, Item, ahash::RandomState>,
    /// A pattern that waits, and what is behind it; or what is behind one that is not settled.
    behind: VecDeque<Item>,
    /// Neither settled nor in `behind`.
    active: usize,
    /// How many of these are patterns.
    patterns: usize,
    /// Bytes of everything that is not settled.
    bytes: usize,
}

/// A key that has something unfinished.
#[derive(Debug, Default)]
struct Lane {
    /// The batch that has its events.
    batch: u64,
    /// How many.
    inside: usize,
    /// Whether the last of them may be followed in that batch, and by which kind.
    may_follow: bool,
    guarded: bool,
    /// Numbers of those that wait, in order.
    waiting: VecDeque<u64>,
}

impl Planner {
    pub fn new(bounds: RequestLimits) -> Self {
        Planner {
            bounds,
            open: EventBatch::default(),
            closed: VecDeque::new(),
            lanes: HashMap::default(),
            waiting: HashMap::default(),
            behind: VecDeque::new(),
            active: 0,
            patterns: 0,
            bytes: 0,
        }
    }

    /// Takes on the next event of the input.
    pub fn add(&mut self, item: Item) {
        self.bytes += item.text.len();
        self.behind.push_back(item);
        self.pump();
    }

    /// The next batch, if one is full; with `even_if_small` whatever has been gathered.
    pub fn next(&mut self, even_if_small: bool) -> Option<EventBatch> {
        if even_if_small && self.closed.is_empty() {
            self.close();
        }
        self.closed.pop_front()
    }

    /// Whether a full batch waits to be taken.
    pub fn has_full(&self) -> bool {
        !self.closed.is_empty()
    }

    /// Whether something is gathered that is not full.
    pub fn has_small(&self) -> bool {
        !self.open.items.is_empty()
    }

    /// An event of this batch is done with, however it ended.
    pub fn settle(&mut self, batch: u64, item: &Item) {
        self.bytes -= item.text.len();
        self.active -= 1;
        match &item.touches {
            Touches::Nothing => {}
            Touches::Everything => self.patterns -= 1,
            Touches::Keys { keys, .. } => {
                let leave = |lanes: &mut HashMap<u64, Lane, ahash::RandomState>, key: &u64| {
                    let lane = lanes.get_mut(key)?;
                    debug_assert_eq!(lane.batch, batch);
                    lane.inside = lane.inside.saturating_sub(1);
                    (lane.inside == 0 && lane.waiting.is_empty()).then(|| lanes.remove(key))
                };
                keys.iter().for_each(|key| drop(leave(&mut self.lanes, key)));
                self.advance(keys.to_vec());
            }
        }
        self.pump();
    }

    /// Larger batches are refused.
    pub fn limit_events(&mut self, events: usize) {
        self.bounds.events = self.bounds.events.min(events).max(1);
    }

    /// How many events are not settled, and their bytes.
    pub fn unsettled(&self) -> (usize, usize) {
        (self.active + self.behind.len(), self.bytes)
    }

    /// Everything that has not been handed out.
    pub fn into_rest(self) -> impl Iterator<Item = Item> {
        let batches = self.closed.into_iter().chain([self.open]).flat_map(|batch| batch.items);
        batches.chain(self.waiting.into_values()).chain(self.behind)
    }

    /// The same, looked at.
    pub fn rest(&self) -> impl Iterator<Item = &Item> {
        let batches = self.closed.iter().chain([&self.open]).flat_map(|batch| &batch.items);
        batches.chain(self.waiting.values()).chain(&self.behind)
    }

    /// Lets in from the input what no pattern holds back.
    fn pump(&mut self) {
        while let Some(front) = self.behind.front() {
            let is_pattern = front.touches == Touches::Everything;
            let may_enter = match is_pattern {
                false => self.patterns == 0,
                true => self.active == self.patterns && self.open.items.len() == self.patterns,
            };
            let Some(item) = (if may_enter { self.behind.pop_front() } else { None }) else {
                return self.close();
            };
            self.active += 1;
            match is_pattern {
                true => {
                    self.patterns += 1;
                    self.make_room(&item);
                    self.push(item);
                }
                false => self.place(item),
            }
        }
    }

    /// Into the open batch, or into the lanes of its keys.
    fn place(&mut self, item: Item) {
        self.make_room(&item);
        if self.may_enter(&item) {
            return self.enter(item);
        }
        if let Touches::Keys { keys, .. } = &item.touches {
            keys.iter().for_each(|key| self.lanes.entry(*key).or_default().waiting.push_back(item.number));
        }
        self.waiting.insert(item.number, item);
    }

    fn may_enter(&self, item: &Item) -> bool {
        let Touches::Keys { keys, guarded } = &item.touches else { return true };
        keys.iter().all(|key| {
            let Some(lane) = self.lanes.get(key) else { return true };
            let is_next = lane.waiting.front().is_none_or(|first| *first == item.number);
            let may_join = lane.batch == self.open.id && lane.may_follow && lane.guarded == *guarded;
            is_next && (lane.inside == 0 || may_join)
        })
    }

    fn enter(&mut self, item: Item) {
        if let Touches::Keys { keys, guarded } = &item.touches {
            for key in keys {
                let lane = self.lanes.entry(*key).or_default();
                if lane.waiting.front() == Some(&item.number) {
                    lane.waiting.pop_front();
                }
                lane.batch = self.open.id;
                lane.inside += 1;
                (lane.may_follow, lane.guarded) = (keys.len() == 1, *guarded);
            }
        }
        self.push(item);
    }

    /// Lets in those that wait for these keys, as far as they may, and those that wait behind them.
    fn advance(&mut self, mut keys: Vec<u64>) {
        while let Some(key) = keys.pop() {
            let first = self.lanes.get(&key).and_then(|lane| lane.waiting.front());
            let Some(item) = first.copied().and_then(|number| self.waiting.remove(&number)) else { continue };
            self.make_room(&item);
            if !self.may_enter(&item) {
                self.waiting.insert(item.number, item);
                continue;
            }
            if let Touches::Keys { keys: touched, .. } = &item.touches {
                keys.extend(touched);
            }
            self.enter(item);
        }
    }

    fn push(&mut self, item: Item) {
        self.open.bytes += item.text.len() + 1;
        self.open.items.push(item);
        if self.open.items.len() >= self.bounds.events || self.open.bytes >= self.bounds.bytes {
            self.close();
        }
    }

    fn make_room(&mut self, item: &Item) {
        if self.open.bytes + item.text.len() >= self.bounds.bytes {
            self.close();
        }
    }

    fn close(&mut self) {
        if !self.open.items.is_empty() {
            let next = EventBatch { id: self.open.id + 1, ..EventBatch::default() };
            self.closed.push_back(std::mem::replace(&mut self.open, next));
        }
    }
}

#[cfg(test)]
mod tests;
