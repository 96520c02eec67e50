//! Why Redis did not do what it was asked for.

use std::borrow::Cow;

/// Why a command, or a pipeline as a whole, was not carried out. Its text is for a person and quotes neither keys nor values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The connection is no good for now, for whatever command: lost, timed out, LOADING, READONLY.
    #[error("{0}")]
    Unavailable(Cow<'static, str>),
    /// The server is too old to be worked with. It may be another one day.
    #[error("{0}")]
    Unsupported(Cow<'static, str>),
    /// Redis refused this one command for now (OOM, MISCONF, TRYAGAIN, NOREPLICAS, a key on the move): another attempt may
    /// succeed, and others on the connection go on.
    #[error("{0}")]
    RefusedForNow(Cow<'static, str>),
    /// The node of a cluster that is responsible has not answered for [`Settings::down_after`](super::Settings::down_after).
    #[error("{0}")]
    Down(Cow<'static, str>),
    /// Redis refused the command itself (NOPERM, syntax): another attempt will end the same.
    #[error("{0}")]
    Refused(Cow<'static, str>),
    /// The key holds a value of another type than the command is for.
    #[error("the key holds a value of another type (WRONGTYPE)")]
    WrongType,
}

/// The connection is no good for now, with the reason for a person.
pub(crate) fn unavailable(reason: impl Into<Cow<'static, str>>) -> Error {
    Error::Unavailable(reason.into())
}

/// A reply that the command cannot have.
pub(crate) fn unexpected() -> Error {
    unavailable("redis sent an unexpected reply")
}
