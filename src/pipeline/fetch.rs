//! How blobs come in: the [`scheduler`] says which download runs when, a [`fetcher`] makes one attempt at it, and
//! [`direct`] is the way of a blob that waits for nothing else on its key.

pub mod direct;
pub mod fetcher;
pub mod request;
pub mod scheduler;
pub mod shared;
pub mod streaming;
