//! From outcomes and faults to JSON, in the order of members that the contract shows. The frame is written as it stands;
//! texts and problems, which may need escapes, are left to serde_json.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use serde::Serialize;

use super::problem::in_result;
use super::text::{Text, write_string};
use crate::event::invalid::Invalid;
use crate::event::outcome::{Class, Origin, Outcome, Problem, ProblemKind, Spent};
use crate::event::{EventType, Few, Ttl};

/// An event that became work, with what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The event's own `id`, as it was sent.
    pub id: Option<ByteString>,
    /// The event's type: the member `event` of the result.
    pub event: EventType,
    /// Whether it has a place in the source's own order.
    pub has_version: bool,
    /// The key or pattern of each entry.
    pub targets: Few<ByteString>,
    /// One for each target, in the same order.
    pub outcomes: Few<Outcome>,
    /// The same; not on the wire.
    pub spent: Few<Spent>,
    /// Milliseconds from its own time, if it carries one, to its acceptance; negative if it was ahead. Not on the wire.
    pub age_when_accepted_ms: Option<i64>,
}

impl Answered {
    /// An event of this type whose entries have yet to be carried out. It has no id, version or time of its own.
    pub fn begun(event: EventType, targets: Few<ByteString>) -> Self {
        Answered {
            id: None,
            event,
            has_version: false,
            targets,
            outcomes: Few::new(),
            spent: Few::new(),
            age_when_accepted_ms: None,
        }
    }

    /// The worst class of its entries.
    pub fn class(&self) -> Class {
        self.outcomes.iter().map(Outcome::class).max().unwrap_or(Class::Ok)
    }

    /// The place of the first entry that ended as the event as a whole did, and why; None: all are ok.
    pub fn failure(&self) -> Option<(usize, &Problem)> {
        let class = self.class();
        let mut problems = self.outcomes.iter().enumerate().filter_map(|(at, outcome)| Some((at, outcome.problem()?)));
        problems.find(|(_, problem)| problem.kind.class() == class)
    }

    /// For notifications: entries whose object was gone, or had changed, when it was fetched become superseded. That change has its own
    /// notification.
    pub fn supersede_changed_objects(&mut self) {
        let is_overtaken = |outcome: &Outcome| outcome.problem().is_some_and(|problem| problem.is_overtaken);
        self.outcomes
            .iter_mut()
            .filter(|outcome| is_overtaken(outcome))
            .for_each(|outcome| *outcome = Outcome::Superseded);
    }

    /// How long a sender is to wait before it tries again, at least, in seconds; 0: nobody says so.
    pub fn retry_after_seconds(&self) -> u16 {
        self.outcomes.iter().filter_map(Outcome::problem).map(|problem| problem.retry_after_seconds).max().unwrap_or(0)
    }

    /// From its acceptance to the end of its last entry.
    pub fn delay(&self) -> Duration {
        Duration::from_micros(self.spent.iter().map(|spent| spent.total).max().unwrap_or_default().into())
    }

    /// From its own time to the end of its last entry, if it carries one; what was ahead is as old as nothing.
    pub fn age(&self) -> Option<Duration> {
        let before = self.age_when_accepted_ms?.saturating_mul(1_000);
        let micros = before.saturating_add_unsigned(self.delay().as_micros() as u64);
        Some(Duration::from_micros(u64::try_from(micros).unwrap_or_default()))
    }
}

/// One event of a batch as it is answered.
#[derive(Debug, Clone, PartialEq)]
pub enum EventResult {
    /// A valid event, with the outcome of each of its entries.
    Answered(Answered),
    /// An event that validation refused, with its faults; the other events of the batch are not affected.
    Invalid(Invalid),
}

impl EventResult {
    /// The worst class among the outcomes of its entries; an invalid event is rejected.
    pub fn class(&self) -> Class {
        match self {
            EventResult::Answered(answered) => answered.class(),
            EventResult::Invalid(_) => Class::Rejected,
        }
    }
}

/// The longest that an event of the batch asks for ([`Answered::retry_after_seconds`]).
pub fn retry_after_seconds(elements: &[EventResult]) -> u16 {
    let asked = |element: &EventResult| match element {
        EventResult::Answered(answered) => answered.retry_after_seconds(),
        EventResult::Invalid(_) => 0,
    };
    elements.iter().map(asked).max().unwrap_or(0)
}

/// How many events of a batch ended in each class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchCounts {
    /// Events all of whose entries are ok.
    pub ok: usize,
    /// Events whose worst entry is rejected.
    pub rejected: usize,
    /// Events with an entry that is unavailable: these may be sent again.
    pub unavailable: usize,
}

impl BatchCounts {
    /// Counts each event once, by its class.
    pub fn of(elements: &[EventResult]) -> BatchCounts {
        let mut counts = BatchCounts::default();
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
            BatchCounts { unavailable: 1.., .. } => Class::Unavailable,
            BatchCounts { rejected: 1.., .. } => Class::Rejected,
            _ => Class::Ok,
        }
    }
}

/// Appends the answer to a single event.
pub fn write_answer(out: &mut Text, answered: &Answered) {
    raw(out, "{");
    write_event(out, answered, answered.class());
}

/// Appends the answer to a batch; with `minimal` only the events that are not ok are listed, though all are counted.
pub fn write_batch(out: &mut Text, elements: &[EventResult], minimal: bool) -> BatchCounts {
    let counts = BatchCounts::of(elements);
    // Nearly always: then nobody looks at each once more.
    let all_ok = counts.class() == Class::Ok;
    raw(out, "{\"status\":\"");
    raw(out, counts.class().as_str());
    raw(out, "\",\"counts\":{");
    number(out, "\"ok\":", counts.ok as u64);
    number(out, ",\"rejected\":", counts.rejected as u64);
    number(out, ",\"unavailable\":", counts.unavailable as u64);
    raw(out, "},\"events\":[");
    let listed = elements.iter().enumerate().filter(|(_, element)| !minimal || element.class() != Class::Ok);
    for (place, (index, element)) in listed.enumerate() {
        raw(out, if place > 0 { "," } else { "" });
        number(out, "{\"index\":", index as u64);
        raw(out, ",");
        match element {
            EventResult::Answered(answered) => {
                write_event(out, answered, if all_ok { Class::Ok } else { element.class() })
            }
            EventResult::Invalid(invalid) => write_invalid(out, invalid),
        }
    }
    raw(out, "]}");
    counts
}

/// A valid event that is kept to be carried out later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedEvent {
    /// The event's type.
    pub event: EventType,
    /// The event's own `id`, as it was sent.
    pub id: Option<ByteString>,
}

/// Appends the answer to a batch of which some events are kept and others are invalid; with `minimal` only these are listed.
pub fn write_accepted<'a>(
    out: &mut Text,
    events: impl ExactSizeIterator<Item = Result<&'a AcceptedEvent, &'a Invalid>> + Clone,
    minimal: bool,
) {
    let rejected = events.clone().filter(Result::is_err).count();
    raw(out, "{\"status\":\"rejected\",\"counts\":{");
    number(out, "\"ok\":", (events.len() - rejected) as u64);
    number(out, ",\"rejected\":", rejected as u64);
    raw(out, ",\"unavailable\":0},\"events\":[");
    let listed = events.enumerate().filter(|(_, event)| !minimal || event.is_err());
    for (place, (index, event)) in listed.enumerate() {
        raw(out, if place > 0 { "," } else { "" });
        number(out, "{\"index\":", index as u64);
        raw(out, ",");
        match event {
            Ok(AcceptedEvent { event, id }) => {
                raw(out, "\"status\":\"accepted\",\"event\":\"");
                raw(out, event.as_str());
                raw(out, "\"");
                write_id(out, ",", id.as_ref());
                raw(out, "}");
            }
            Err(invalid) => write_invalid(out, invalid),
        }
    }
    raw(out, "]}");
}

/// The members of an event that became work, and the end of its object.
fn write_event(out: &mut Text, answered: &Answered, class: Class) {
    let Answered { id, event, targets, outcomes, .. } = answered;
    raw(out, "\"status\":\"");
    raw(out, class.as_str());
    raw(out, "\",\"event\":\"");
    raw(out, event.as_str());
    raw(out, "\"");
    write_id(out, ",", id.as_ref());
    raw(out, ",\"results\":[");
    let named = if *event == EventType::DeletePattern { "{\"pattern\":" } else { "{\"key\":" };
    for (place, (target, outcome)) in targets.iter().zip(outcomes).enumerate() {
        raw(out, if place > 0 { "," } else { "" });
        raw(out, named);
        write_string(&mut out.bytes, target);
        write_outcome(out, *event, outcome);
    }
    raw(out, "]}");
}

fn write_invalid(out: &mut Text, invalid: &Invalid) {
    if let Some(id) = &invalid.id {
        write_id(out, "", Some(id));
        raw(out, ",");
    }
    raw(out, "\"status\":\"");
    raw(out, Class::Rejected.as_str());
    raw(out, "\",\"problem\":");
    json(out, &invalid.problem());
    raw(out, "}");
}

fn write_id(out: &mut Text, before: &str, id: Option<&ByteString>) {
    if let Some(id) = id {
        raw(out, before);
        raw(out, "\"id\":");
        write_string(&mut out.bytes, id);
    }
}

/// What follows an entry's key, and the end of its object.
fn write_outcome(out: &mut Text, event: EventType, outcome: &Outcome) {
    raw(out, ",\"status\":\"");
    raw(out, outcome.status());
    raw(out, "\"");
    match outcome {
        Outcome::Miss | Outcome::Deleted | Outcome::Absent | Outcome::Superseded => {}
        Outcome::Stored { bytes, ttl, source } => write_value(out, *bytes, *ttl, *source),
        Outcome::Unchanged { bytes, ttl } => write_value(out, *bytes, *ttl, Origin::Blob),
        Outcome::Hit(value) => {
            raw(out, ",\"value\":");
            out.value(value);
        }
        Outcome::PatternDeleted { matched, deleted } => write_pattern_deleted(out, *matched, *deleted),
        Outcome::Preview { matched, sample, is_estimated } => {
            number(out, ",\"matched\":", *matched);
            raw(out, if *is_estimated { ",\"estimated\":true" } else { "" });
            raw(out, ",\"sample\":[");
            for (place, key) in sample.iter().enumerate() {
                raw(out, if place > 0 { "," } else { "" });
                write_sample(out, key);
            }
            raw(out, "]");
        }
        Outcome::Failed(problem) => {
            // Its time was over before the scan began.
            if event == EventType::DeletePattern && problem.kind == ProblemKind::Timeout {
                write_pattern_deleted(out, 0, 0);
            }
            write_problem(out, problem);
        }
        Outcome::PatternDeleteFailed { matched, deleted, problem, .. } => {
            write_pattern_deleted(out, *matched, *deleted);
            write_problem(out, problem);
        }
    }
    raw(out, "}");
}

fn write_value(out: &mut Text, bytes: usize, ttl: Option<Ttl>, source: Origin) {
    number(out, ",\"bytes\":", bytes as u64);
    match ttl {
        Some(ttl) => number(out, ",\"ttl\":", ttl.seconds().into()),
        None => raw(out, ",\"ttl\":null"),
    }
    raw(out, ",\"source\":\"");
    raw(out, source.as_str());
    raw(out, "\"");
}

fn write_pattern_deleted(out: &mut Text, matched: u64, deleted: u64) {
    number(out, ",\"matched\":", matched);
    number(out, ",\"deleted\":", deleted);
}

fn write_problem(out: &mut Text, problem: &Problem) {
    raw(out, ",\"problem\":");
    json(out, &in_result(problem));
}

fn write_sample(out: &mut Text, key: &Bytes) {
    match str::from_utf8(key) {
        Ok(text) => write_string(&mut out.bytes, text),
        Err(_) => {
            raw(out, "{\"key\":");
            out.key(key);
            raw(out, "}");
        }
    }
}

fn raw(out: &mut Text, text: &str) {
    out.bytes.extend_from_slice(text.as_bytes());
}

fn number(out: &mut Text, name: &str, value: u64) {
    raw(out, name);
    raw(out, itoa::Buffer::new().format(value));
}

fn json(out: &mut Text, value: &(impl Serialize + ?Sized)) {
    let written = serde_json::to_writer(&mut out.bytes, value);
    debug_assert!(written.is_ok(), "a vector takes everything and every key is a string");
}

#[cfg(test)]
mod tests;
