//! Which keys the patterns of barriers match: work that may take long, so that it can be done on any thread.

use crate::event::pattern::{Pattern, PatternIndex};
use crate::event::{CacheKey, Few};
use crate::pipeline::work::barriers::BarrierId;

/// For each barrier the keys that it matches.
pub type MatchedKeys = Vec<(BarrierId, Vec<CacheKey>)>;

/// Pairs of a barrier and a key that it matches, in one round at most, unless one barrier alone makes more: each holds a
/// copy of the key, and the router puts them up at one go.
const MAX_PAIRS: usize = 1 << 18;

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
    /// Takes the first of the barriers, as many as may go in one round with these keys, and one at least. They come in
    /// ascending order of their ids.
    pub fn next(waiting: &mut Vec<(BarrierId, Few<Pattern>)>, keys: Vec<CacheKey>) -> Self {
        let most = (MAX_PAIRS / keys.len().max(1)).max(1);
        let barriers: Vec<_> = waiting.drain(..most.min(waiting.len())).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_makes_a_bounded_number_of_pairs_and_leaves_the_rest_to_the_next() {
        let keys: Vec<CacheKey> = (0..MAX_PAIRS / 15).map(|key| CacheKey::new_unchecked(key.to_string())).collect();
        let pattern = Pattern::parse("*", true).unwrap();
        let ids = || (1..=40).filter_map(BarrierId::new);
        let mut waiting: Vec<_> = ids().map(|id| (id, Few::from_iter([pattern.clone()]))).collect();
        let mut rounds = Vec::new();
        while !waiting.is_empty() {
            let found = Matching::next(&mut waiting, keys.clone()).run();
            assert!(found.iter().all(|(_, matched)| matched.len() == keys.len()));
            rounds.push(found.into_iter().map(|(id, _)| id).collect::<Vec<_>>());
        }
        assert_eq!(rounds.iter().map(Vec::len).collect::<Vec<_>>(), [15, 15, 10]);
        assert!(rounds.into_iter().flatten().eq(ids()), "in their order");
    }

    #[test]
    fn a_round_takes_one_barrier_at_least() {
        let keys = vec![CacheKey::new_unchecked("a"); MAX_PAIRS + 1];
        let mut waiting = vec![(BarrierId::MIN, Few::new()), (BarrierId::MAX, Few::new())];
        assert_eq!(Matching::next(&mut waiting, keys).ids, [BarrierId::MIN]);
        assert_eq!(Matching::next(&mut waiting, Vec::new()).ids, [BarrierId::MAX]);
    }
}
