//! What the cache refused for now, and what came after it on its key: a lane for each key, each lane with the time of its
//! next attempt.
//!
//! Other keys go on meanwhile. A lane is tried with its first operation alone; once that is done the rest follows at
//! once. Lanes that wait for the same cause are a group. While nothing of what is tried of a group succeeds, one of its lanes is
//! tried at a time, so that a cache that is full is not asked over and over; with each success twice as many are. Other groups
//! have nothing to do with that.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use ahash::RandomState;

use super::{Hindrance, Packing, Pending};
use crate::cache::Command;
use crate::pipeline::work::key_order::{KeyPlace, KeyTicket, TicketSet};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Between two attempts on a key, at most.
const MAX_PAUSE: Duration = Duration::from_millis(250);
/// Causes that are told apart, at most: nodes of a cluster, and what Redis answers.
const MAX_GROUPS: usize = 256;

#[derive(Default)]
pub struct Delayed {
    lanes: HashMap<KeyPlace, Lane, RandomState>,
    noted: TicketSet,
    /// All that there were since the last time that nothing was delayed.
    groups: Vec<Group>,
    /// With which group the next batch begins.
    first_group: usize,
    /// The lanes of which the batch under way has something, and the groups in which they were.
    tried: Vec<(KeyPlace, usize)>,
    operations: usize,
}

/// The lanes that wait for the same cause.
struct Group {
    cause: Cow<'static, str>,
    /// Lanes that wait for their time. An entry that does not agree with its lane is of the past.
    due: BinaryHeap<Reverse<(Instant, KeyPlace)>>,
    tries: Tries,
}

/// How many lanes are tried in a batch, and from when on.
struct Tries {
    most: usize,
    from: Option<Instant>,
    failures: u32,
}

struct Lane {
    waiting: VecDeque<(Command, Pending)>,
    state: Delay,
    due: Instant,
    /// Refusals in a row.
    refusals: u32,
    /// Why it was refused last, and since when it has been.
    group: usize,
    since: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Delay {
    Waiting,
    /// The batch under way has some of it.
    Tried,
    /// The first of the lane was refused again.
    Refused,
}

impl Default for Tries {
    fn default() -> Self {
        Tries { most: usize::MAX, from: None, failures: 0 }
    }
}

impl Tries {
    /// Notes whether a batch had commands that were done, and commands that were refused.
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
    pub fn has(&self, ticket: &KeyTicket) -> bool {
        !self.lanes.is_empty() && self.noted.has(ticket)
    }

    /// It waits behind the others of its key.
    pub fn push(&mut self, command: Command, pending: Pending) {
        if let Some(lane) = self.lanes.get_mut(&pending.ticket.key_place()) {
            lane.waiting.push_back((command, pending));
            self.operations += 1;
        }
    }

    /// It was refused, or has to come after such a one: it goes before the others of its key.
    pub fn put_back(&mut self, command: Command, pending: Pending, now: Instant) {
        let place = pending.ticket.key_place();
        self.noted.add(&pending.ticket);
        let groups = &mut self.groups;
        let lane = self.lanes.entry(place).or_insert_with(|| {
            let group = group_of(groups, Cow::Borrowed("it was not tried"));
            Lane { waiting: VecDeque::new(), state: Delay::Waiting, due: now, refusals: 0, group, since: now }
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
        (lane.due, lane.group) = (now + pause(lane.refusals), group_of(&mut self.groups, cause));
        lane.refusals = lane.refusals.saturating_add(1);
        match lane.state {
            Delay::Waiting => wait(&mut self.groups, lane, place),
            Delay::Tried | Delay::Refused => lane.state = Delay::Refused,
        }
    }

    /// Adds to the batch what is due, of at most this number of lanes.
    pub(super) fn take_due(&mut self, most: usize, packing: &mut Packing<'_>, now: Instant) {
        let groups = self.groups.len();
        self.first_group = (self.first_group + 1).checked_rem(groups).unwrap_or(0);
        for number in 0..groups {
            self.take_due_of((self.first_group + number) % groups, most, packing, now);
        }
    }

    fn take_due_of(&mut self, number: usize, most: usize, packing: &mut Packing<'_>, now: Instant) {
        let (before, mut is_full) = (self.tried.len(), false);
        while !is_full && let Some(group) = self.groups.get_mut(number) {
            let is_early = group.tries.from.is_some_and(|from| from > now);
            let has_enough = self.tried.len() - before >= group.tries.most || self.tried.len() >= most;
            if is_early || has_enough || group.due.peek().is_none_or(|Reverse((due, _))| *due > now) {
                return;
            }
            let Some(Reverse((due, place))) = group.due.pop() else { return };
            let Some(lane) = self.lanes.get_mut(&place) else { continue };
            if lane.due != due || lane.state != Delay::Waiting || lane.group != number {
                continue;
            }
            let before = lane.waiting.len();
            let taken = lane.take((&group.cause, lane.since), packing, now);
            self.operations -= before - lane.waiting.len();
            is_full = !lane.waiting.is_empty() && taken < lane.at_once();
            if taken > 0 {
                lane.state = Delay::Tried;
                self.tried.push((place, number));
            } else if is_full {
                group.due.push(Reverse((due, place)));
            } else {
                self.remove(place);
            }
        }
    }

    /// The batch is over, and what is to be repeated of it was put back. `is_line_well`: what was not refused is done.
    pub fn landed(&mut self, is_line_well: bool, now: Instant) {
        let mut ended = vec![(false, false); self.groups.len()];
        for (place, group) in std::mem::take(&mut self.tried) {
            let Some(lane) = self.lanes.get_mut(&place) else { continue };
            let was_refused = std::mem::replace(&mut lane.state, Delay::Waiting) == Delay::Refused;
            if !was_refused {
                if is_line_well {
                    lane.refusals = 0;
                }
                lane.due = now;
            }
            if let Some((some_done, some_refused)) = ended.get_mut(group) {
                *some_refused |= was_refused;
                *some_done |= !was_refused && is_line_well;
            }
            if lane.waiting.is_empty() {
                self.remove(place);
            } else {
                wait(&mut self.groups, lane, place);
            }
        }
        for (group, (some_done, some_refused)) in self.groups.iter_mut().zip(ended) {
            group.tries.ended(some_done, some_refused, now);
        }
    }

    /// Nothing on the key is delayed any more.
    fn remove(&mut self, place: KeyPlace) {
        self.lanes.remove(&place);
        self.noted.remove(place);
        if self.lanes.is_empty() {
            self.groups.clear();
        }
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<Instant> {
        let dues = self.groups.iter().filter_map(|group| {
            let Reverse((due, _)) = group.due.peek()?;
            Some(group.tries.from.map_or(*due, |from| from.max(*due)))
        });
        dues.min()
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
                    let cause = self.groups.get(lane.group).map(|group| &group.cause);
                    pending.give_up(cause.map(|cause| (cause, lane.since)), now);
                } else {
                    lane.waiting.push_back((command, pending));
                }
            }
            if lane.waiting.is_empty() && lane.state == Delay::Waiting {
                empty.push(*place);
            }
        }
        empty.into_iter().for_each(|place| self.remove(place));
    }
}

impl Lane {
    /// How many of its operations are tried together.
    fn at_once(&self) -> usize {
        if self.refusals > 0 { 1 } else { usize::MAX }
    }

    /// Adds its first operations to a batch, and answers what has expired; how many were added.
    fn take(&mut self, hindrance: Hindrance<'_>, packing: &mut Packing<'_>, now: Instant) -> usize {
        let mut taken = 0;
        while taken < self.at_once()
            && let Some((command, pending)) = self.waiting.pop_front()
        {
            if pending.is_expired(now) {
                pending.give_up(Some(hindrance), now);
            } else if packing.has_room_for(&command) {
                packing.add(command, pending);
                taken += 1;
            } else {
                self.waiting.push_front((command, pending));
                break;
            }
        }
        taken
    }
}

/// The group of those that wait for this cause.
fn group_of(groups: &mut Vec<Group>, cause: Cow<'static, str>) -> usize {
    match groups.iter().position(|group| group.cause == cause) {
        Some(known) => known,
        None if groups.len() < MAX_GROUPS => {
            groups.push(Group { cause, due: BinaryHeap::new(), tries: Tries::default() });
            groups.len() - 1
        }
        None => 0,
    }
}

/// The lane waits for its time.
fn wait(groups: &mut [Group], lane: &Lane, place: KeyPlace) {
    if let Some(group) = groups.get_mut(lane.group) {
        group.due.push(Reverse((lane.due, place)));
    }
}
