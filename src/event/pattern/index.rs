//! Many patterns at once: which of them match a key, without asking each.

use std::collections::HashMap;

use ahash::RandomState;

use super::{ByteSet, Pattern};

/// Bytes of a literal prefix by which patterns are told apart.
const PREFIX: usize = 8;

/// Patterns, each under a number of the caller's. Those with a literal prefix are found by it; of the others a look at
/// length and bytes rules out most.
pub struct PatternIndex<T> {
    by_prefix: HashMap<Prefix, Vec<IndexedPattern<T>>, RandomState>,
    /// How many prefixes there are of each length.
    lengths: [usize; PREFIX + 1],
    /// Patterns that begin with a wildcard.
    others: Vec<IndexedPattern<T>>,
}

type Prefix = (u8, [u8; PREFIX]);

struct IndexedPattern<T> {
    number: T,
    min_len: usize,
    requires: ByteSet,
    pattern: Pattern,
}

impl<T> Default for PatternIndex<T> {
    fn default() -> Self {
        PatternIndex { by_prefix: HashMap::default(), lengths: [0; PREFIX + 1], others: Vec::new() }
    }
}

impl<T: Copy + Ord> PatternIndex<T> {
    /// Adds a pattern under a number, which [`PatternIndex::all`] gives for keys that match. One number may have
    /// several patterns.
    pub fn insert(&mut self, number: T, pattern: &Pattern) {
        let compiled = &pattern.compiled;
        let (min_len, requires) = (compiled.min_len(), *compiled.requires());
        let entry = IndexedPattern { number, min_len, requires, pattern: pattern.clone() };
        match pattern.prefix() {
            [] => self.others.push(entry),
            prefix => {
                let prefix = head(prefix, prefix.len().min(PREFIX));
                let entries = self.by_prefix.entry(prefix).or_default();
                self.lengths[usize::from(prefix.0)] += usize::from(entries.is_empty());
                entries.push(entry);
            }
        }
    }

    /// Takes out what is under this number. `patterns` are those, or more.
    pub fn remove(&mut self, number: T, patterns: &[Pattern]) {
        for pattern in patterns {
            let prefix = head(pattern.prefix(), pattern.prefix().len().min(PREFIX));
            let Some(entries) = self.by_prefix.get_mut(&prefix) else { continue };
            entries.retain(|entry| entry.number != number);
            if entries.is_empty() {
                self.by_prefix.remove(&prefix);
                self.lengths[usize::from(prefix.0)] -= 1;
            }
        }
        if patterns.iter().any(|pattern| pattern.prefix().is_empty()) {
            self.others.retain(|entry| entry.number != number);
        }
    }

    /// The greatest number under which a pattern matches the key.
    pub fn greatest(&self, key: &[u8]) -> Option<T> {
        let mut greatest = None;
        for entry in self.candidates(key) {
            if Some(entry.number) > greatest && entry.pattern.matches(key) {
                greatest = Some(entry.number);
            }
        }
        greatest
    }

    /// The numbers under which a pattern matches the key, in their order.
    pub fn all(&self, key: &[u8], numbers: &mut Vec<T>) {
        numbers.clear();
        let matching = self.candidates(key).filter(|entry| entry.pattern.matches(key));
        numbers.extend(matching.map(|entry| entry.number));
        numbers.sort_unstable();
        numbers.dedup();
    }

    fn candidates<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a IndexedPattern<T>> {
        let lengths = (1..=PREFIX.min(key.len())).filter(|len| self.lengths[*len] > 0);
        let by_prefix = lengths.filter_map(|len| self.by_prefix.get(&head(key, len))).flatten();
        let bytes = ByteSet::of(key);
        let is_candidate =
            move |entry: &&IndexedPattern<T>| entry.min_len <= key.len() && entry.requires.is_within(&bytes);
        by_prefix.chain(&self.others).filter(is_candidate)
    }
}

fn head(bytes: &[u8], len: usize) -> Prefix {
    let mut head = [0; PREFIX];
    head[..len].copy_from_slice(&bytes[..len]);
    (len as u8, head)
}
