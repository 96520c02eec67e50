//! Validation: raw events → valid ones, or every fault they have. What is valid is admitted here, as a whole request or
//! not at all, and handed to the local router: from then on it is accepted.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::event::validate::{MAX_FAULTS, validate};
use crate::event::wire::{Answered, Element, Split};
use crate::event::{Action, Event, Few, Limits};
use crate::pipeline::router::local::{Accepted, LocalRouter};
use crate::pipeline::runtime::{Mailbox, Stage, StageContext};
use crate::pipeline::work::job::{Refusal, Reply};
use crate::pipeline::work::weight;
use crate::pipeline::write::pace::Lateness;

/// The only message to validation: a request's events, as they were sent.
pub struct Validate {
    pub events: Split,
    pub reply: Reply,
    pub next: Arc<NextStages>,
}

/// Where a request's events go from here: beside the caller, or to one of a pool; and then back beside the caller. As
/// long as one waits in a mailbox it holds the address of it.
pub struct NextStages {
    pub validation: Mailbox<Validation>,
    pub router: Mailbox<LocalRouter>,
}

/// How long before the end of `event.deadline_ms` a pattern delete stops: the 16th part, this at most.
const MAX_SWEEP_MARGIN: Duration = Duration::from_millis(500);

pub struct Validation {
    pub limits: Arc<Limits>,
    /// From acceptance to the answer (`event.deadline_ms`).
    pub deadline: Duration,
    pub lateness: Lateness,
}

impl Validation {
    fn validate(&mut self, Validate { events, reply, next }: Validate) {
        fail_point!("validation");
        let (batch, raw) = match &events {
            Split::One(raw) => (false, std::slice::from_ref(raw)),
            Split::Batch(raw) => (true, raw.as_slice()),
        };
        let mut elements = Vec::with_capacity(raw.len());
        let mut actions = Vec::with_capacity(raw.len());
        let (mut entries, mut bytes, mut patterns) = (0, 0, 0);
        let mut faults_left = MAX_FAULTS;
        let mut today = None;
        for raw in raw {
            match validate(raw, &self.limits, faults_left) {
                Ok(event) => {
                    entries += event.action.entries();
                    patterns += event.action.patterns();
                    bytes += weight::of_event(&event, raw);
                    let age = event.time.map(|time| *today.get_or_insert_with(unix_millis) - time);
                    elements.push(Element::Answered(to_be_answered(&event, age)));
                    actions.push((event.action, event.version));
                }
                Err(invalid) if !batch => return reply.refuse(Refusal::Invalid(invalid)),
                Err(invalid) => {
                    faults_left = faults_left.saturating_sub(invalid.listed());
                    bytes += weight::of_invalid(&invalid);
                    elements.push(Element::Invalid(invalid));
                }
            }
        }
        let accepted = Instant::now();
        if !self.lateness.allows(&actions, accepted) {
            return reply.refuse(Refusal::Overloaded);
        }
        if let Err(refusal) = reply.admit(actions.len(), entries * weight::LEAST_BYTES, bytes, patterns) {
            return reply.refuse(refusal);
        }
        let slots = reply.begin(batch, elements, accepted);
        if !actions.is_empty() {
            let deadline = accepted + self.deadline;
            let sweep_deadline = deadline - (self.deadline / 16).min(MAX_SWEEP_MARGIN);
            next.router.post(Accepted { actions, slots, deadline, sweep_deadline });
        }
    }
}

/// Milliseconds since 1970, by the clock on the wall.
fn unix_millis() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

fn to_be_answered(event: &Event, age_when_accepted_ms: Option<i64>) -> Answered {
    let targets = match &event.action {
        Action::Set(entries) => entries.iter().map(|entry| entry.key.text().clone()).collect(),
        Action::Get(keys) | Action::Delete(keys) => keys.iter().map(|key| key.text().clone()).collect(),
        Action::DeletePattern { patterns, .. } => patterns.iter().map(|pattern| pattern.text().clone()).collect(),
    };
    Answered {
        id: event.id.clone(),
        event: event.action.name(),
        has_version: event.version.is_some(),
        targets,
        outcomes: Few::new(),
        spent: Few::new(),
        age_when_accepted_ms,
    }
}

impl Stage for Validation {
    type Message = Validate;

    fn handle(&mut self, events: Validate, _: &mut StageContext<'_, Self>) {
        self.validate(events);
    }
}
