//! What is wrong with an event of which no work starts.

use std::borrow::Cow;

use bytestring::ByteString;

use super::EventType;

/// Bytes of a fault's texts; a longer one counts as several.
pub(in crate::event) const FAULT_TEXT_BYTES: usize = 128;

/// An event that breaks the contract, or that its sender has no right to: none of its work starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Invalid {
    /// If that was valid.
    pub id: Option<ByteString>,
    /// If `key` was valid.
    pub event: Option<EventType>,
    /// What is wrong with it.
    pub kind: InvalidKind,
}

/// How an event fails validation: its syntax, its members, or its sender's rights.
#[derive(Debug, Clone, PartialEq)]
pub enum InvalidKind {
    /// An NDJSON line that is not JSON; what and where.
    Malformed(String),
    /// Every fault found, in the order of the checks; at least one.
    Faults(Vec<Fault>),
    /// The sender has no right to it; what is missing.
    Forbidden(String),
}

/// One fault of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// RFC 6901: the member at fault, or where a missing one belongs.
    pub pointer: String,
    /// What is allowed there. Never holds a value or a URL.
    pub detail: Cow<'static, str>,
}

impl Invalid {
    /// An event of this type with a single fault.
    pub fn at(id: Option<ByteString>, event: EventType, pointer: &str, detail: &'static str) -> Self {
        let faults = vec![Fault { pointer: pointer.to_owned(), detail: Cow::Borrowed(detail) }];
        Invalid { id, event: Some(event), kind: InvalidKind::Faults(faults) }
    }

    /// How many faults it lists; long ones count as several.
    pub fn listed(&self) -> usize {
        match &self.kind {
            InvalidKind::Malformed(_) => 1,
            InvalidKind::Forbidden(detail) => (detail.len() / FAULT_TEXT_BYTES).max(1),
            InvalidKind::Faults(faults) => faults.len().max(self.text_bytes() / FAULT_TEXT_BYTES),
        }
    }

    /// Bytes of its faults' texts.
    pub fn text_bytes(&self) -> usize {
        match &self.kind {
            InvalidKind::Malformed(detail) | InvalidKind::Forbidden(detail) => detail.len(),
            InvalidKind::Faults(faults) => faults.iter().map(Fault::text_bytes).sum(),
        }
    }
}

impl Fault {
    pub(in crate::event) fn text_bytes(&self) -> usize {
        self.pointer.len() + self.detail.len()
    }
}
