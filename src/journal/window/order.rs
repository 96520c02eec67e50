//! Which events of the window stand in each other's way: those of one key, and a pattern delete and the keys that it matches.

use std::collections::{BTreeMap, BTreeSet};

use ahash::AHashMap as HashMap;

use super::{Task, TaskId};
use crate::event::CacheKey;
use crate::event::pattern::Pattern;

/// The events that are not settled, by what they touch.
#[derive(Default)]
pub(super) struct Order {
    by_key: HashMap<CacheKey, BTreeSet<TaskId>>,
    /// Pattern deletes.
    sweeps: BTreeMap<TaskId, Vec<Pattern>>,
}

impl Order {
    /// Adds an event; later ones have greater places.
    pub fn add(&mut self, id: TaskId, task: &Task) {
        for key in task.keys() {
            match self.by_key.get_mut(key) {
                Some(places) => drop(places.insert(id)),
                None => drop(self.by_key.insert(key.clone(), BTreeSet::from([id]))),
            }
        }
        if !task.patterns().is_empty() {
            self.sweeps.insert(id, task.patterns().to_vec());
        }
    }

    /// Removes an event with what it was added with.
    pub fn remove(&mut self, id: TaskId, task: &Task) {
        for key in task.keys() {
            let Some(places) = self.by_key.get_mut(key) else { continue };
            places.remove(&id);
            if places.is_empty() {
                self.by_key.remove(key);
            }
        }
        self.sweeps.remove(&id);
    }

    /// An earlier event that this one must not pass; None: it may begin. `is_passed` says of the last event of a key whether it begins
    /// together with this one, and so all before that on the key. Two pattern deletes do not stand in each other's way.
    pub fn stopper(&self, id: TaskId, task: &Task, is_passed: impl Fn(TaskId) -> bool) -> Option<TaskId> {
        let last = |places: &BTreeSet<TaskId>| places.range(..id).next_back().copied();
        let keys = task.keys();
        let of_key = |key: &&CacheKey| self.by_key.get(*key).and_then(last).filter(|other| !is_passed(*other));
        let sweep = || {
            let mut earlier = self.sweeps.range(..id).rev();
            let matches =
                |patterns: &[Pattern], key: &CacheKey| patterns.iter().any(|pattern| pattern.matches(key.as_bytes()));
            let found = earlier.find(|(_, patterns)| keys.iter().any(|key| matches(patterns, key)));
            found.map(|(other, _)| *other)
        };
        let matched = |pattern: &Pattern| {
            let keys = self.by_key.iter().filter(|(key, _)| pattern.matches(key.as_bytes()));
            keys.filter_map(|(_, places)| last(places)).max()
        };
        keys.iter().find_map(of_key).or_else(sweep).or_else(|| task.patterns().iter().find_map(matched))
    }
}
