//! What stands first on its key, or side by side, and waits for its blob.

use super::{Item, Lane, Lanes};
use crate::event::CacheKey;
use crate::pipeline::work::Seq;

impl<T, B, S> Lanes<T, B, S> {
    /// The operations that stand next to it, before it and behind it, if their blobs are awaited too. Those that are awaited
    /// and `passed_over` do not count.
    pub fn awaited_beside(&self, key: &CacheKey, seq: Seq, passed_over: impl Fn(Seq) -> bool) -> [Option<Seq>; 2] {
        let Some(Lane { items, .. }) = self.lanes.get(key) else { return [None, None] };
        let Ok(index) = items.binary_search_by_key(&seq, Item::seq) else { return [None, None] };
        let awaited = |item: Option<&Item<T, B>>| match item {
            Some(Item::Awaited(seq, _)) => Some(*seq),
            Some(Item::Ready(..) | Item::Gone(_) | Item::Marker(_)) | None => None,
        };
        let is_left = |item: &&Item<T, B>| match item {
            Item::Awaited(seq, _) => !passed_over(*seq),
            Item::Ready(..) | Item::Gone(_) | Item::Marker(_) => true,
        };
        [awaited(items.range(..index).rev().find(is_left)), awaited(items.range(index + 1..).find(is_left))]
    }

    /// The first operation of the key, if its blob is awaited. Those that are awaited and `passed_over` do not count.
    pub fn first_awaited(&self, key: &CacheKey, passed_over: impl Fn(Seq) -> bool) -> Option<Seq> {
        let is_left = |item: &&Item<T, B>| match item {
            Item::Awaited(seq, _) => !passed_over(*seq),
            Item::Ready(..) | Item::Gone(_) | Item::Marker(_) => true,
        };
        match self.lanes.get(key)?.items.iter().find(is_left)? {
            Item::Awaited(seq, _) => Some(*seq),
            Item::Ready(..) | Item::Gone(_) | Item::Marker(_) => None,
        }
    }

    /// Something else may count as the first operation of the key from now on.
    pub fn note_head(&mut self, key: &CacheKey) {
        self.heads.push(key.clone());
    }

    /// Whether there are keys to whose heads awaited blobs have come.
    pub fn has_heads(&self) -> bool {
        !self.heads.is_empty()
    }

    /// The keys to whose heads awaited blobs have come since the last call.
    pub fn take_heads(&mut self) -> Vec<CacheKey> {
        std::mem::take(&mut self.heads)
    }
}
