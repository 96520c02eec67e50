//! Senders who prove themselves with keys of others: tokens that an issuer signed (Google, Azure), and messages that SNS
//! signed.
//!
//! Owns what is proven and with which keys, and how often keys are fetched; all of it is bounded, since anybody can name a
//! key that nobody has. How they are fetched is [`FetchDocument`]'s: `http` knows no client of its own.

mod certificate;
mod crypto;
mod issuer;
mod pace;
mod sns;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

pub use self::issuer::{Issuer, IssuerSettings};
pub use self::sns::Sns;

/// Bytes of a key set, a certificate, or what names them, at most.
pub const MAX_DOCUMENT_BYTES: usize = 256 * 1024;

/// What a fetch brings: the body of a 200, or why there is none, for the log.
pub type Fetched = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>>;

/// Fetches a document of at most [`MAX_DOCUMENT_BYTES`], within a time of its own, from hosts that may be called.
pub trait FetchDocument: Send + Sync {
    /// `named` is a URL that the operator named: its host may be called wherever it is. Empty: there is none.
    fn fetch(&self, url: &str, named: &str) -> Fetched;
}

impl fmt::Debug for dyn FetchDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a client")
    }
}

/// Why a sender has proven nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unproven {
    /// It never will, with this message; the text is for the answer.
    Refused(&'static str),
    /// The keys cannot be had now. For the answer.
    Unavailable(&'static str),
}

#[cfg(test)]
mod tests;
