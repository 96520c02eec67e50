//! The shapes that arrive and leave. [`split`] takes a request's body apart into [`RawEvent`]s, checking syntax, nesting
//! and number, and nothing else: whether an event is valid is for [`super::validate`]. The other half writes answers and
//! problem documents as JSON.

mod arriving;
mod leaving;
mod made;
mod plain;
mod problem;
mod text;

pub(in crate::event) use self::arriving::Document;
pub use self::arriving::{BodyForm, RawEvent, Split, SplitError, split};
pub use self::leaving::{
    AcceptedEvent, Answered, BatchCounts, EventResult, retry_after_seconds, write_accepted, write_answer, write_batch,
};
pub use self::made::event_text;
pub(in crate::event) use self::plain::{PlainEvent, PlainSource};
pub use self::problem::{FORBIDDEN, INVALID, MALFORMED, PROBLEM_TYPE_PREFIX, ProblemDocument};
pub use self::text::{MAX_PIECE_BYTES, Text, TextPieces};
