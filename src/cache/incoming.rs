//! A value that a cache stores while it is still arriving.

use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;

use super::{CacheError, Remembered};
use crate::event::version::Version;
use crate::event::{CacheKey, Ttl};

/// A value that comes in while it is stored.
pub struct Incoming<'a> {
    /// The key to write.
    pub key: &'a CacheKey,
    /// The value's length.
    pub bytes: usize,
    /// The seconds to live, from the write; None: the key does not expire.
    pub ttl: Option<Ttl>,
    /// The version, as in a [SET](super::Command::Set).
    pub version: Option<&'a Version>,
    /// What is to be remembered beside the version; asked for once the value is whole.
    pub remembered: &'a dyn Fn() -> Option<Remembered>,
    /// The value's pieces in order; `None` in place of one: it has broken off.
    pub pieces: Pin<&'a mut dyn Stream<Item = Option<Bytes>>>,
}

/// Why a value that came in was not stored.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StreamError {
    /// It broke off, or was longer or shorter than announced.
    #[error("the value ended early")]
    BrokeOff,
    /// The cache did not take it.
    #[error(transparent)]
    Cache(#[from] CacheError),
}
