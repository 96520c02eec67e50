//! The keys that an event has named so far.

use std::collections::HashSet;

use crate::event::CacheKey;

/// Most events name one.
#[derive(Default)]
pub(super) struct NamedKeys {
    first: Option<CacheKey>,
    others: HashSet<CacheKey>,
}

impl NamedKeys {
    /// Whether the key is new.
    pub fn add(&mut self, key: &CacheKey) -> bool {
        match &self.first {
            None => {
                self.first = Some(key.clone());
                true
            }
            Some(first) => first != key && self.others.insert(key.clone()),
        }
    }
}
