//! Problems as RFC 9457 has them: documents of their own, and members of results.

use std::borrow::Cow;
use std::fmt;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::event::invalid::{Fault, Invalid, InvalidKind};
use crate::event::outcome::Problem;

/// What every problem's `type` begins with; the slug follows.
pub const PROBLEM_TYPE_PREFIX: &str = "urn:redis-cache-sync:";

/// A problem as RFC 9457 has it: a document of its own, or a member of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct ProblemDocument<'a> {
    /// The last part of `type`, after [`PROBLEM_TYPE_PREFIX`].
    pub slug: &'static str,
    /// The same sentence for each problem of that type.
    pub title: &'static str,
    /// The HTTP status; left out inside a result.
    pub status: Option<u16>,
    /// What is the matter this time, for a person. It holds no value, token or URL query.
    pub detail: Cow<'a, str>,
    /// Left out when empty.
    pub errors: &'a [Fault],
}

/// A kind of problem by which an event is refused.
pub struct Refusing {
    /// The last part of `type`.
    pub slug: &'static str,
    /// The same sentence for each such event.
    pub title: &'static str,
    /// The HTTP status if the event came alone; inside a batch it stands in the result.
    pub status: u16,
}

/// An event, or a line of NDJSON, that is not JSON.
pub const MALFORMED: Refusing = Refusing { slug: "malformed-json", title: "The event is not JSON", status: 400 };
/// An event that is JSON but breaks the contract; `errors` lists its faults.
pub const INVALID: Refusing = Refusing { slug: "invalid-event", title: "The event is not valid", status: 422 };

/// An event that the sender's token does not permit.
pub const FORBIDDEN: Refusing = Refusing { slug: "forbidden", title: "The token does not permit this", status: 403 };

impl Refusing {
    fn document<'a>(&self, detail: Cow<'a, str>, errors: &'a [Fault]) -> ProblemDocument<'a> {
        ProblemDocument { slug: self.slug, title: self.title, status: Some(self.status), detail, errors }
    }
}

impl Invalid {
    /// The event's fault as a problem: `invalid-event`, `malformed-json` for a line that is not JSON, or `forbidden`.
    pub fn problem(&self) -> ProblemDocument<'_> {
        match &self.kind {
            InvalidKind::Malformed(detail) => MALFORMED.document(Cow::Borrowed(detail), &[]),
            InvalidKind::Forbidden(detail) => FORBIDDEN.document(Cow::Borrowed(detail), &[]),
            InvalidKind::Faults(faults) => INVALID.document(summary(faults), faults),
        }
    }
}

/// A problem that stands inside a result.
pub(super) fn in_result(problem: &Problem) -> ProblemDocument<'_> {
    ProblemDocument {
        slug: problem.kind.slug(),
        title: problem.kind.title(),
        status: None,
        detail: Cow::Borrowed(&problem.detail),
        errors: &[],
    }
}

fn summary(faults: &[Fault]) -> Cow<'_, str> {
    match faults {
        [] => Cow::Borrowed("the event is not valid"),
        [Fault { pointer, detail }] if pointer.is_empty() => Cow::Owned(format!("the event {detail}")),
        [Fault { pointer, detail }] => Cow::Owned(format!("{pointer} {detail}")),
        [first, ..] => Cow::Owned(format!("{} faults, the first: {} {}", faults.len(), first.pointer, first.detail)),
    }
}

impl Serialize for ProblemDocument<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &Shown(format_args!("{PROBLEM_TYPE_PREFIX}{}", self.slug)))?;
        map.serialize_entry("title", self.title)?;
        if let Some(status) = self.status {
            map.serialize_entry("status", &status)?;
        }
        map.serialize_entry("detail", &self.detail)?;
        if !self.errors.is_empty() {
            map.serialize_entry("errors", self.errors)?;
        }
        map.end()
    }
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("pointer", &self.pointer)?;
        map.serialize_entry("detail", &self.detail)?;
        map.end()
    }
}

/// A JSON string written as it is displayed, without a string in between.
struct Shown<D>(D);

impl<D: fmt::Display> Serialize for Shown<D> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
