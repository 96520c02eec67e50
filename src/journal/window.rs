//! What of the journal is in progress, as values: which event may go ahead, and how far the stream can be trimmed.
//!
//! The events of the window stand in the order of the stream. One may go ahead of others as long as no earlier event that is
//! not settled touches one of its keys; a pattern touches every key that it matches. Plain SETs and DELETEs that may go
//! together are a [`Round`]: one request to the pipeline, which keeps the order inside of it. What takes longer (blobs,
//! patterns, dead letters that are run again) is a round of its own, so that nobody waits for it but its keys.
//!
//! An entry is done when all its events are settled, and the stream is trimmed up to the first entry that is not: what stands
//! behind that and is settled already would be run again by the next holder, in the order of the stream, so it ends in the
//! same state.

mod order;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::{AHashMap as HashMap, AHashSet as HashSet};

use self::order::Order;
use super::entry::{Digest, Record};
use crate::event::pattern::Pattern;
use crate::event::{Action, CacheKey, Event, Source};

/// A place in the order of the window.
pub type TaskId = u64;

/// The first pause after an attempt; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Bounds of the window.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Events that are not settled.
    pub tasks: usize,
    /// Bytes of these; one that is larger stands alone.
    pub bytes: usize,
    /// Entries that are not trimmed.
    pub entries: usize,
    /// Events of one round.
    pub round: usize,
    /// Rounds in progress.
    pub rounds: usize,
}

/// What is known of a request whose events were accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// The entry's id in the stream.
    pub id: String,
    /// The source's name; empty: it came to `POST /events`.
    pub source: String,
    /// Of the request.
    pub request_id: String,
    /// When the request was accepted, in milliseconds since 1970.
    pub accepted_ms: u64,
}

/// An event of the window.
#[derive(Debug, Clone)]
pub struct Task {
    /// The number of the entry that it stands in; the window gives it.
    pub entry: u64,
    /// The request that it came with.
    pub meta: Arc<Meta>,
    /// Its place in the entry.
    pub place: usize,
    /// As it stands in the entry.
    pub record: Record,
    /// What is left to do of it.
    pub event: Event,
    /// How many entries the whole event has.
    pub entries: usize,
    /// Of a letter that is run again unless its keys were written: what each of them held. One may stand for all of them.
    pub held: Vec<Digest>,
    /// Attempts that counted (`round::counts`).
    pub attempts: u32,
}

impl Task {
    fn is_plain(&self) -> bool {
        let is_inline = match &self.event.action {
            Action::Set(entries) => entries.iter().all(|entry| matches!(entry.source, Source::Inline(_))),
            Action::Delete(_) => true,
            Action::Get(_) | Action::DeletePattern { .. } => false,
        };
        is_inline && self.record.unless_changed.is_none()
    }

    /// Bytes that it is counted with.
    fn bytes(&self) -> usize {
        self.record.bytes() + 256 * self.event.action.entries()
    }

    fn keys(&self) -> Vec<&CacheKey> {
        match &self.event.action {
            Action::Set(entries) => entries.iter().map(|entry| &entry.key).collect(),
            Action::Get(keys) | Action::Delete(keys) => keys.iter().collect(),
            Action::DeletePattern { .. } => Vec::new(),
        }
    }

    fn patterns(&self) -> &[Pattern] {
        match &self.event.action {
            Action::DeletePattern { patterns, .. } => patterns,
            _ => &[],
        }
    }
}

/// Events that go to the pipeline together, in this order.
#[derive(Debug)]
pub struct Round {
    /// Their places in the window.
    pub tasks: Vec<TaskId>,
}

/// An entry that is not trimmed.
struct Held {
    /// Its id in the stream.
    id: String,
    events: u64,
    left: usize,
}

/// What may be trimmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The id of the last entry.
    pub last: String,
    /// Events of all entries up to it.
    pub events: u64,
}

/// The window of a holder of the lease.
pub struct Window {
    bounds: Bounds,
    entries: VecDeque<Held>,
    /// The number of the first entry.
    first: u64,
    tasks: HashMap<TaskId, Task>,
    /// What the tasks touch.
    order: Order,
    /// Those that may begin as far as is known, in order; with the time before which one must not.
    ready: BTreeMap<TaskId, Option<Instant>>,
    /// Those that wait for an earlier one, by that: they are looked at again when it is settled.
    blocked: HashMap<TaskId, Vec<(TaskId, Option<Instant>)>>,
    rounds: usize,
    next: TaskId,
    bytes: usize,
}

impl Window {
    /// An empty window.
    pub fn new(bounds: Bounds) -> Self {
        Window {
            bounds,
            entries: VecDeque::new(),
            first: 0,
            tasks: HashMap::new(),
            order: Order::default(),
            ready: BTreeMap::new(),
            blocked: HashMap::new(),
            rounds: 0,
            next: 0,
            bytes: 0,
        }
    }

    /// Whether another entry may be added.
    pub fn has_room(&self) -> bool {
        let Bounds { tasks, bytes, entries, .. } = self.bounds;
        self.tasks.len() < tasks && self.bytes < bytes && self.entries.len() < entries
    }

    /// Adds the next entry of the stream. `events` is how many events it was counted with; those of `tasks` have still to be
    /// done, the others are settled. Returns the places of the tasks.
    pub fn add(&mut self, id: String, events: u64, tasks: Vec<Task>) -> Range<TaskId> {
        let (entry, begin) = (self.first + self.entries.len() as u64, self.next);
        self.entries.push_back(Held { id, events, left: tasks.len() });
        for task in tasks {
            self.bytes += task.bytes();
            self.order.add(self.next, &task);
            self.tasks.insert(self.next, Task { entry, ..task });
            self.ready.insert(self.next, None);
            self.next += 1;
        }
        begin..self.next
    }

    /// A task that is not settled.
    pub fn task(&self, id: TaskId) -> Option<&Task> {
        self.tasks.get(&id)
    }

    /// Marks a task as in progress though it is in no round.
    pub fn hold(&mut self, id: TaskId) {
        self.ready.remove(&id);
    }

    /// What may begin now. It counts as in progress until [`settle`](Window::settle) or [`put_off`](Window::put_off).
    pub fn begin(&mut self, now: Instant) -> Vec<Round> {
        let (mut begun, mut together, mut later) = (Vec::new(), Vec::new(), Vec::new());
        let mut in_round = HashSet::new();
        let mut room = self.bounds.rounds.saturating_sub(self.rounds);
        while room > 0
            && together.len() < self.bounds.round
            && let Some((id, due)) = self.ready.pop_first()
        {
            let Some(task) = self.tasks.get(&id) else { continue };
            if due.is_some_and(|due| due > now) {
                later.push((id, due));
                continue;
            }
            let is_plain = task.is_plain();
            let stopper = self.order.stopper(id, task, |other| is_plain && in_round.contains(&other));
            if let Some(stopper) = stopper {
                self.blocked.entry(stopper).or_default().push((id, due));
            } else if is_plain {
                together.push(id);
                in_round.insert(id);
                // Those behind it on its keys may go with it.
                self.release(id);
            } else if room > usize::from(!together.is_empty()) {
                begun.push(Round { tasks: vec![id] });
                room -= 1;
            } else {
                later.push((id, due));
            }
        }
        self.ready.extend(later);
        if !together.is_empty() {
            begun.push(Round { tasks: together });
        }
        self.rounds += begun.len();
        begun
    }

    /// Has those looked at again that wait for this one.
    fn release(&mut self, id: TaskId) {
        self.ready.extend(self.blocked.remove(&id).unwrap_or_default());
    }

    /// A round has ended; its tasks were settled or put off before or will be now.
    pub fn round_ended(&mut self) {
        self.rounds = self.rounds.saturating_sub(1);
    }

    /// A task is done with: applied, made needless, or a dead letter.
    pub fn settle(&mut self, id: TaskId) {
        self.ready.remove(&id);
        let Some(task) = self.tasks.remove(&id) else { return };
        self.order.remove(id, &task);
        self.release(id);
        self.bytes = self.bytes.saturating_sub(task.bytes());
        let place = task.entry.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        if let Some(held) = place.and_then(|place| self.entries.get_mut(place)) {
            held.left = held.left.saturating_sub(1);
        }
    }

    /// From now on a round has half as many events at most.
    pub fn halve_rounds(&mut self) {
        self.bounds.round = (self.bounds.round / 2).max(1);
    }

    /// Only this is left of a task.
    pub fn reduce(&mut self, id: TaskId, left: Action) {
        if let Some(task) = self.tasks.get_mut(&id) {
            self.bytes = self.bytes.saturating_sub(task.bytes());
            self.order.remove(id, task);
            task.event.action = left;
            self.order.add(id, task);
            self.bytes += task.bytes();
            self.release(id);
        }
    }

    /// Sets the digest of each key of a replayed letter, once the keys have been read.
    pub fn set_held(&mut self, id: TaskId, held: Vec<Digest>) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.held = held;
        }
    }

    /// Tries again what is left of a task: after a pause that grows with the attempts, or a short one if this attempt does not count.
    pub fn put_off(&mut self, id: TaskId, left: Option<Action>, counts: bool, now: Instant) {
        if let Some(action) = left {
            self.reduce(id, action);
        }
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let due = now + if counts { pause(task.attempts) } else { FIRST_PAUSE / 5 };
        task.attempts += u32::from(counts);
        self.ready.insert(id, Some(due));
    }

    /// What may be trimmed now; it is told of once.
    pub fn take_done(&mut self) -> Option<Done> {
        let mut done: Option<Done> = None;
        while self.entries.front().is_some_and(|held| held.left == 0)
            && let Some(held) = self.entries.pop_front()
        {
            self.first += 1;
            let before = done.map_or(0, |done| done.events);
            done = Some(Done { last: held.id, events: before + held.events });
        }
        done
    }
}

/// After so many attempts.
fn pause(attempts: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1_u32.checked_shl(attempts.min(16)).unwrap_or(u32::MAX)).min(MAX_PAUSE)
}

#[cfg(test)]
mod tests;
