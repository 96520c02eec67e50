//! Faults as they are found: where each is, and the faults that any object can have: members that do not belong there or
//! stand there twice.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;

use crate::event::invalid::{FAULT_TEXT_BYTES, Fault};
use crate::event::json::Node;

/// A place in an event, kept as a chain on the stack: it becomes text only if there is a fault.
#[derive(Clone, Copy)]
pub(super) enum At<'a> {
    Root,
    Name(&'a At<'a>, &'a str),
    Index(&'a At<'a>, usize),
}

/// The event itself.
pub(super) static ROOT: At<'static> = At::Root;

impl<'a> At<'a> {
    pub fn name(&'a self, name: &'a str) -> At<'a> {
        At::Name(self, name)
    }

    pub fn index(&'a self, index: usize) -> At<'a> {
        At::Index(self, index)
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Root => Ok(()),
            At::Name(parent, name) if name.contains(['~', '/']) => {
                write!(f, "{parent}/{}", name.replace('~', "~0").replace('/', "~1"))
            }
            At::Name(parent, name) => write!(f, "{parent}/{name}"),
            At::Index(parent, index) => write!(f, "{parent}/{index}"),
        }
    }
}

/// A fault has been added, so there is nothing to go on with.
pub(super) struct Reported;

/// A member that the contract knows.
#[derive(Clone, Copy)]
pub(super) enum EventMember<'a> {
    Absent,
    Given(Node<'a>),
    /// Reported already; which of them was meant is not guessed.
    Twice,
}

impl<'a> EventMember<'a> {
    pub fn given(self) -> Option<Node<'a>> {
        match self {
            EventMember::Given(node) => Some(node),
            EventMember::Absent | EventMember::Twice => None,
        }
    }

    pub fn is_absent(self) -> bool {
        matches!(self, EventMember::Absent)
    }
}

/// What members mean that the contract does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    /// Envelopes carry extras. These names are none.
    Ignored(&'static [&'static str]),
    /// A misspelt name must not be lost.
    Refused,
}

/// The faults of one event, bounded.
pub(super) struct FoundFaults {
    list: Vec<Fault>,
    at_most: usize,
    /// Bytes that are left for the texts of faults.
    bytes_left: usize,
}

impl FoundFaults {
    /// At least one is kept.
    pub fn new(at_most: usize) -> Self {
        let at_most = at_most.max(1);
        FoundFaults { list: Vec::new(), at_most, bytes_left: at_most.saturating_mul(FAULT_TEXT_BYTES) }
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn into_list(self) -> Vec<Fault> {
        self.list
    }

    pub fn add(&mut self, at: &At<'_>, detail: impl Into<Cow<'static, str>>) {
        let is_full = match self.at_most.cmp(&self.list.len()) {
            Ordering::Less => return,
            Ordering::Equal => true,
            Ordering::Greater => false,
        };
        let fault = Fault { pointer: at.to_string(), detail: detail.into() };
        match self.bytes_left.checked_sub(fault.text_bytes()).filter(|_| !is_full) {
            // The first is kept whatever its length.
            left if left.is_some() || self.list.is_empty() => {
                self.bytes_left = left.unwrap_or_default();
                self.list.push(fault);
            }
            _ => {
                self.at_most = self.list.len();
                self.list.push(Fault { pointer: String::new(), detail: "has more faults than are listed".into() });
            }
        }
    }

    /// Adds a fault where something valid was asked for.
    pub fn refuse<T>(&mut self, at: &At<'_>, detail: impl Into<Cow<'static, str>>) -> Option<T> {
        self.add(at, detail);
        None
    }

    /// The members `names` of an object, in that order. Members given twice are faults, and so are others if refused.
    pub fn members<'n, const N: usize>(
        &mut self,
        object: Node<'n>,
        names: [&'static str; N],
        others: Others,
        at: &At<'_>,
    ) -> [EventMember<'n>; N] {
        let mut slots = [EventMember::Absent; N];
        let mut seen = HashSet::new();
        for (name, node) in object.members() {
            let name = name.name();
            let known =
                names.iter().position(|known| known.as_bytes() == &*name).and_then(|place| slots.get_mut(place));
            match known {
                Some(slot @ EventMember::Absent) => *slot = EventMember::Given(node),
                Some(slot @ EventMember::Given(_)) => {
                    *slot = EventMember::Twice;
                    self.add_twice(&name, at);
                }
                Some(EventMember::Twice) => {}
                None if seen.contains(&name) => self.add_twice(&name, at),
                None => {
                    let shown = || String::from_utf8_lossy(&name);
                    match others {
                        Others::Refused => {
                            self.add(&at.name(&shown()), format!("is not known here: known are {}", listed(&names)));
                        }
                        Others::Ignored(misplaced) if misplaced.iter().any(|other| other.as_bytes() == &*name) => {
                            self.add(&at.name(&shown()), "has no meaning here: it belongs inside `value`");
                        }
                        Others::Ignored(_) => {}
                    }
                    seen.insert(name);
                }
            }
        }
        slots
    }

    fn add_twice(&mut self, name: &[u8], at: &At<'_>) {
        self.add(&at.name(&String::from_utf8_lossy(name)), "is given more than once");
    }
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
