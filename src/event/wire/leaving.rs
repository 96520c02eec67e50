//! From outcomes and faults to JSON, in the order of members that the contract shows.

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use bytestring::ByteString;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::problem::{Shown, in_result};
use crate::event::EventType;
use crate::event::outcome::{Class, Outcome};
use crate::event::validate::Invalid;

/// An event that became work, with what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    pub id: Option<ByteString>,
    pub event: EventType,
    /// The key or pattern of each entry.
    pub targets: Vec<ByteString>,
    /// One for each target, in the same order.
    pub outcomes: Vec<Outcome>,
}

impl Answered {
    /// The worst class of its entries.
    pub fn class(&self) -> Class {
        self.outcomes.iter().map(Outcome::class).max().unwrap_or(Class::Ok)
    }
}

/// One event of a batch as it is answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Element {
    Answered(Answered),
    Invalid(Invalid),
}

impl Element {
    pub fn class(&self) -> Class {
        match self {
            Element::Answered(answered) => answered.class(),
            Element::Invalid(_) => Class::Rejected,
        }
    }
}

/// How many events of a batch ended in each class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub ok: usize,
    pub rejected: usize,
    pub unavailable: usize,
}

impl Counts {
    pub fn of(elements: &[Element]) -> Counts {
        let mut counts = Counts::default();
        for element in elements {
            match element.class() {
                Class::Ok => counts.ok += 1,
                Class::Rejected => counts.rejected += 1,
                Class::Unavailable => counts.unavailable += 1,
            }
        }
        counts
    }

    /// The class of the batch as a whole: the worst that occurs.
    pub fn class(&self) -> Class {
        match self {
            Counts { unavailable: 1.., .. } => Class::Unavailable,
            Counts { rejected: 1.., .. } => Class::Rejected,
            _ => Class::Ok,
        }
    }
}

/// Appends the answer to a single event.
pub fn write_answer(out: &mut Vec<u8>, answered: &Answered) {
    write(out, &AnswerJson { index: None, answered });
}

/// Appends the answer to a batch; with `minimal` only the events that are not ok are listed, though all are counted.
pub fn write_batch(out: &mut Vec<u8>, elements: &[Element], minimal: bool) {
    write(out, &BatchJson { elements, minimal });
}

fn write(out: &mut Vec<u8>, value: &impl Serialize) {
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok(), "a vector takes everything and every key is a string");
}

struct BatchJson<'a> {
    elements: &'a [Element],
    minimal: bool,
}

impl Serialize for BatchJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counts = Counts::of(self.elements);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("status", counts.class().as_str())?;
        map.serialize_entry("counts", &counts)?;
        map.serialize_entry("events", &ElementsJson(self))?;
        map.end()
    }
}

struct ElementsJson<'a>(&'a BatchJson<'a>);

impl Serialize for ElementsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let BatchJson { elements, minimal } = self.0;
        let mut list = serializer.serialize_seq(None)?;
        for (index, element) in elements.iter().enumerate() {
            match element {
                _ if *minimal && element.class() == Class::Ok => {}
                Element::Answered(answered) => list.serialize_element(&AnswerJson { index: Some(index), answered })?,
                Element::Invalid(invalid) => list.serialize_element(&InvalidJson { index, invalid })?,
            }
        }
        list.end()
    }
}

struct InvalidJson<'a> {
    index: usize,
    invalid: &'a Invalid,
}

impl Serialize for InvalidJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("index", &self.index)?;
        if let Some(id) = &self.invalid.id {
            map.serialize_entry("id", &**id)?;
        }
        map.serialize_entry("status", Class::Rejected.as_str())?;
        map.serialize_entry("problem", &self.invalid.problem())?;
        map.end()
    }
}

struct AnswerJson<'a> {
    index: Option<usize>,
    answered: &'a Answered,
}

impl Serialize for AnswerJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(index) = self.index {
            map.serialize_entry("index", &index)?;
        }
        map.serialize_entry("status", self.answered.class().as_str())?;
        map.serialize_entry("event", self.answered.event.as_str())?;
        if let Some(id) = &self.answered.id {
            map.serialize_entry("id", &**id)?;
        }
        map.serialize_entry("results", &ResultsJson(self.answered))?;
        map.end()
    }
}

struct ResultsJson<'a>(&'a Answered);

impl Serialize for ResultsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Answered { event, targets, outcomes, .. } = self.0;
        let named = if *event == EventType::DeletePattern { "pattern" } else { "key" };
        let results = targets.iter().zip(outcomes);
        serializer.collect_seq(results.map(|(target, outcome)| ResultJson { named, target, outcome }))
    }
}

struct ResultJson<'a> {
    named: &'static str,
    target: &'a str,
    outcome: &'a Outcome,
}

impl Serialize for ResultJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.named, self.target)?;
        map.serialize_entry("status", self.outcome.status())?;
        match self.outcome {
            Outcome::Miss | Outcome::Deleted | Outcome::Absent | Outcome::Superseded => {}
            Outcome::Stored { bytes, ttl, source } => {
                map.serialize_entry("bytes", bytes)?;
                map.serialize_entry("ttl", &ttl.map(|ttl| ttl.seconds()))?;
                map.serialize_entry("source", source.as_str())?;
            }
            Outcome::Hit(value) => serialize_bytes(&mut map, "value", value)?,
            Outcome::Swept { matched, deleted } => {
                map.serialize_entry("matched", matched)?;
                map.serialize_entry("deleted", deleted)?;
            }
            Outcome::Preview { matched, sample } => {
                map.serialize_entry("matched", matched)?;
                map.serialize_entry("sample", &SampleJson(sample))?;
            }
            Outcome::Failed(problem) => map.serialize_entry("problem", &in_result(problem))?,
            Outcome::SweepFailed { matched, deleted, problem } => {
                map.serialize_entry("matched", matched)?;
                map.serialize_entry("deleted", deleted)?;
                map.serialize_entry("problem", &in_result(problem))?;
            }
        }
        map.end()
    }
}

/// As text if it is UTF-8, else as base64 that says so.
fn serialize_bytes<M: SerializeMap>(map: &mut M, name: &str, bytes: &[u8]) -> Result<(), M::Error> {
    match str::from_utf8(bytes) {
        Ok(text) => map.serialize_entry(name, text),
        Err(_) => {
            map.serialize_entry(name, &Shown(Base64Display::new(bytes, &STANDARD)))?;
            map.serialize_entry("encoding", "base64")
        }
    }
}

struct SampleJson<'a>(&'a [bytes::Bytes]);

impl Serialize for SampleJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|key| SampleKeyJson(key)))
    }
}

struct SampleKeyJson<'a>(&'a [u8]);

impl Serialize for SampleKeyJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = str::from_utf8(self.0) {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(None)?;
        serialize_bytes(&mut map, "key", self.0)?;
        map.end()
    }
}

#[cfg(test)]
mod tests;
