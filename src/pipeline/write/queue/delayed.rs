//! What the cache refused for now, and what came after it on its key: a lane for each key, each lane with the time of its
//! next attempt.
//!
//! Other keys go on meanwhile. A lane is tried with its first operation alone; once that is done the rest follows at
//! once. While nothing of what is tried succeeds, one lane is tried at a time, so that a cache that is full is not asked
//! over and over; with each success twice as many are.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use ahash::RandomState;

use super::{Packing, Pending};
use crate::cache::Command;
use crate::pipeline::work::key_order::{KeyPlace, Noted, Turn};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Between two attempts on a key, at most.
const MAX_PAUSE: Duration = Duration::from_millis(250);

#[derive(Default)]
pub struct Delayed {
    lanes: HashMap<KeyPlace, Lane, RandomState>,
    noted: Noted,
    /// The lanes that wait for their time. An entry that does not agree with its lane is of the past.
    due: BinaryHeap<Reverse<(Instant, KeyPlace)>>,
    /// The lanes of which the batch under way has something.
    tried: Vec<KeyPlace>,
    tries: Tries,
    operations: usize,
}

/// How many lanes are tried in a batch, and from when on.
struct Tries {
    most: usize,
    from: Option<Instant>,
    failures: u32,
}

struct Lane {
    waiting: VecDeque<(Command, Pending)>,
    state: State,
    due: Instant,
    /// Refusals in a row.
    refusals: u32,
    /// Why it was refused last, and since when it has been.
    cause: Cow<'static, str>,
    since: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    /// The batch under way has some of it.
    Tried,
    /// And the first of that was refused again.
    Refused,
}

impl Default for Tries {
    fn default() -> Self {
        Tries { most: usize::MAX, from: None, failures: 0 }
    }
}

impl Tries {
    /// Of what was tried in a batch some was done, and some was refused.
    fn ended(&mut self, some_done: bool, some_refused: bool, now: Instant) {
        match (some_done, some_refused) {
            (true, false) => *self = Tries { most: self.most.saturating_mul(2), from: None, failures: 0 },
            (true, true) => (self.from, self.failures) = (None, 0),
            (false, true) => {
                let from = Some(now + pause(self.failures));
                *self = Tries { most: 1, from, failures: self.failures.saturating_add(1) };
            }
            (false, false) => {}
        }
    }
}

fn pause(failures: u32) -> Duration {
    (FIRST_PAUSE * 2u32.saturating_pow(failures.min(10))).min(MAX_PAUSE)
}

impl Delayed {
    pub fn len(&self) -> usize {
        self.operations
    }

    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Whether what comes on this key has to wait behind others.
    pub fn has(&self, turn: &Turn) -> bool {
        !self.lanes.is_empty() && self.noted.has(turn)
    }

    /// It waits behind the others of its key.
    pub fn push(&mut self, command: Command, pending: Pending) {
        if let Some(lane) = self.lanes.get_mut(&pending.turn.key_place()) {
            lane.waiting.push_back((command, pending));
            self.operations += 1;
        }
    }

    /// It was refused, or has to come after such a one: it goes before the others of its key.
    pub fn put_back(&mut self, command: Command, pending: Pending, now: Instant) {
        let place = pending.turn.key_place();
        self.noted.add(&pending.turn);
        let lane = self.lanes.entry(place).or_insert_with(|| {
            let (waiting, cause) = (VecDeque::new(), Cow::Borrowed("it was not tried"));
            Lane { waiting, state: State::Waiting, due: now, refusals: 0, cause, since: now }
        });
        lane.waiting.push_front((command, pending));
        self.operations += 1;
    }

    /// The first that waits for this key was refused.
    pub fn refuse(&mut self, place: KeyPlace, cause: Cow<'static, str>, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&place) else { return };
        if lane.refusals == 0 {
            lane.since = now;
        }
        (lane.due, lane.cause) = (now + pause(lane.refusals), cause);
        lane.refusals = lane.refusals.saturating_add(1);
        match lane.state {
            State::Waiting => self.due.push(Reverse((lane.due, place))),
            State::Tried | State::Refused => lane.state = State::Refused,
        }
    }

    /// Adds to the batch what is due, of so many lanes at most.
    pub(super) fn take_due(&mut self, most: usize, packing: &mut Packing, mixed: &mut Noted, now: Instant) {
        let most = most.min(self.tries.most);
        if self.tries.from.is_some_and(|from| from > now) {
            return;
        }
        let mut is_full = false;
        while self.tried.len() < most
            && !is_full
            && let Some(Reverse((due, place))) = self.due.pop()
        {
            if due > now {
                self.due.push(Reverse((due, place)));
                return;
            }
            let Some(lane) = self.lanes.get_mut(&place) else { continue };
            if lane.due != due || lane.state != State::Waiting {
                continue;
            }
            let at_once = if lane.refusals > 0 { 1 } else { usize::MAX };
            let mut taken = 0;
            while taken < at_once
                && !is_full
                && let Some((command, pending)) = lane.waiting.pop_front()
            {
                self.operations -= 1;
                if pending.expires <= now {
                    pending.give_up(Some((&lane.cause, lane.since)), now);
                } else if packing.has_room_for(&command) {
                    packing.add(command, pending, mixed);
                    taken += 1;
                } else {
                    lane.waiting.push_front((command, pending));
                    self.operations += 1;
                    is_full = true;
                }
            }
            if taken > 0 {
                lane.state = State::Tried;
                self.tried.push(place);
            } else if is_full {
                self.due.push(Reverse((due, place)));
            } else {
                self.remove(place);
            }
        }
    }

    /// The batch is over, and what is to be repeated of it was put back. `is_line_well`: what was not refused is done.
    pub fn landed(&mut self, is_line_well: bool, now: Instant) {
        let (mut some_done, mut some_refused) = (false, false);
        for place in std::mem::take(&mut self.tried) {
            let Some(lane) = self.lanes.get_mut(&place) else { continue };
            if std::mem::replace(&mut lane.state, State::Waiting) == State::Refused {
                some_refused = true;
            } else {
                if is_line_well {
                    (lane.refusals, some_done) = (0, true);
                }
                lane.due = now;
            }
            if lane.waiting.is_empty() {
                self.remove(place);
            } else {
                self.due.push(Reverse((lane.due, place)));
            }
        }
        self.tries.ended(some_done, some_refused, now);
    }

    /// Nothing on the key is delayed any more.
    fn remove(&mut self, place: KeyPlace) {
        self.lanes.remove(&place);
        self.noted.remove(place);
        if self.lanes.is_empty() {
            self.due.clear();
            self.tries = Tries::default();
        }
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<Instant> {
        let Reverse((due, _)) = self.due.peek()?;
        Some(self.tries.from.map_or(*due, |from| from.max(*due)))
    }

    /// A lane in which something waits that came before this, starting the search with `known`.
    pub fn before(&self, number: u64, known: Option<KeyPlace>) -> Option<KeyPlace> {
        let is_before = |lane: &Lane| lane.waiting.front().is_some_and(|(_, pending)| pending.number < number);
        let known = known.filter(|place| self.lanes.get(place).is_some_and(is_before));
        known.or_else(|| self.lanes.iter().find(|(_, lane)| is_before(lane)).map(|(place, _)| *place))
    }

    /// Gives up what this is true of.
    pub fn give_up(&mut self, now: Instant, is_over: impl Fn(&Pending) -> bool) {
        let mut empty = Vec::new();
        for (place, lane) in &mut self.lanes {
            if !lane.waiting.iter().any(|(_, pending)| is_over(pending)) {
                continue;
            }
            for (command, pending) in std::mem::take(&mut lane.waiting) {
                if is_over(&pending) {
                    self.operations -= 1;
                    pending.give_up(Some((&lane.cause, lane.since)), now);
                } else {
                    lane.waiting.push_back((command, pending));
                }
            }
            if lane.waiting.is_empty() && lane.state == State::Waiting {
                empty.push(*place);
            }
        }
        empty.into_iter().for_each(|place| self.remove(place));
    }
}
