//! Which keys the patterns of barriers match: work that may take long, so that it can be done on any thread.

use crate::event::pattern::{Pattern, PatternIndex};
use crate::event::{CacheKey, Few};
use crate::pipeline::work::barriers::BarrierId;

/// For each barrier the keys that it matches.
pub type MatchedKeys = Vec<(BarrierId, Vec<CacheKey>)>;

/// Keys that are to be held against patterns.
pub struct Matching {
    /// In ascending order.
    pub ids: Vec<BarrierId>,
    patterns: PatternIndex<BarrierId>,
    keys: Vec<CacheKey>,
}

/// The keys were held against the patterns.
pub struct KeysMatched {
    /// The epoch of the router that asked for it.
    pub epoch: u64,
    /// None: it was lost.
    pub found: Option<MatchedKeys>,
}

impl Matching {
    /// Takes copies, so that the work can go to another thread. `barriers` come in ascending order of their ids.
    pub fn new(barriers: Vec<(BarrierId, Few<Pattern>)>, keys: Vec<CacheKey>) -> Self {
        let mut patterns = PatternIndex::default();
        barriers.iter().for_each(|(id, own)| own.iter().for_each(|pattern| patterns.insert(*id, pattern)));
        Matching { ids: barriers.into_iter().map(|(id, _)| id).collect(), patterns, keys }
    }

    /// Tries every key against every pattern; may take long.
    pub fn run(self) -> MatchedKeys {
        let mut found: MatchedKeys = self.ids.into_iter().map(|id| (id, Vec::new())).collect();
        let mut matching = Vec::new();
        for key in self.keys {
            self.patterns.all(key.as_bytes(), &mut matching);
            for id in &matching {
                if let Ok(place) = found.binary_search_by_key(id, |(id, _)| *id)
                    && let Some((_, keys)) = found.get_mut(place)
                {
                    keys.push(key.clone());
                }
            }
        }
        found
    }
}
