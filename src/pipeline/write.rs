//! How operations reach the cache: a [`writer`] sends what its [`queue`] holds in batches, at the [`pace`] that the cache
//! keeps; the [`scanner`] deletes and previews by pattern.

pub mod pace;
pub mod queue;
pub mod scanner;
pub mod writer;
