//! Validation: raw events → valid ones, or every fault they have. What is valid is admitted here, as a whole request or
//! not at all, and handed to the local router: from then on it is accepted.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::event::invalid::Invalid;
use crate::event::rejection::Rejection;
use crate::event::rights::Rights;
use crate::event::validate::{FaultBudget, MAX_FAULTS, validate};
use crate::event::version::Version;
use crate::event::wire::{Answered, EventResult, Split};
use crate::event::{Action, Event, Limits};
use crate::pipeline::router::local::{AcceptedWork, LocalRouter};
use crate::pipeline::runtime::{Mailbox, Stage, StageContext};
use crate::pipeline::work::reply::RequestReply;
use crate::pipeline::work::weight;
use crate::pipeline::write::pace::Lateness;

/// The only message to validation: a request's events.
pub struct Validate {
    /// What the request holds.
    pub events: Offered,
    /// The sending end of the answer; it is refused here, or becomes one slot for each entry.
    pub reply: RequestReply,
    /// The route of the request; the router in it gets what is valid.
    pub next: Arc<NextStages>,
}

/// Events before they are accepted.
pub enum Offered {
    /// Events as they were sent.
    Sent {
        /// In their order.
        events: Split,
        /// What the sender may do; None: everything.
        rights: Option<Arc<Rights>>,
    },
    /// Known already: made of a notification, one for each change that it tells of, or checked before.
    Made {
        /// In their order.
        events: Vec<Result<Event, Invalid>>,
        /// Whether they are answered as a batch. Otherwise it is one, and it is valid.
        is_batch: bool,
    },
}

/// Where a request's events go from here: beside the caller, or to one of a pool; and then back beside the caller. As
/// long as one waits in a mailbox it holds the address of it.
pub struct NextStages {
    /// The actor that checks the events.
    pub validation: Mailbox<Validation>,
    /// The local router of the thread that the request came in on.
    pub router: Mailbox<LocalRouter>,
}

/// How long before the end of `event.deadline_ms` a pattern delete stops: the 16th part, this at most.
const MAX_PATTERN_MARGIN: Duration = Duration::from_millis(500);

/// The actor. It has no state between messages.
pub struct Validation {
    /// What a request and its events may hold.
    pub limits: Arc<Limits>,
    /// From acceptance to the answer (`event.deadline_ms`).
    pub deadline: Duration,
    /// Says whether the writers could carry out new events in time.
    pub lateness: Lateness,
}

impl Validation {
    fn validate(&mut self, Validate { events, reply, next }: Validate) {
        fail_point!("validation");
        let mut checked = Checked::default();
        let is_batch = match events {
            Offered::Sent { events: Split::One(raw), rights } => match validate(&raw, &self.limits, MAX_FAULTS) {
                Err(invalid) => return reply.reject(Rejection::Invalid(invalid)),
                Ok(event) => {
                    if let Some(invalid) = rights.and_then(|rights| rights.refusal(&event)) {
                        return reply.reject(Rejection::Invalid(invalid));
                    }
                    checked.add(Ok(event), |event| weight::of_event(event, &raw));
                    false
                }
            },
            Offered::Sent { events: Split::Batch(raw), rights } => {
                checked.reserve(raw.len());
                let mut faults = FaultBudget::default();
                for raw in &raw {
                    let event = faults.validate(raw, &self.limits, rights.as_deref());
                    checked.add(event, |event| weight::of_event(event, raw));
                }
                true
            }
            Offered::Made { events, is_batch } => {
                checked.reserve(events.len());
                events.into_iter().for_each(|event| checked.add(event, weight::of_made));
                is_batch
            }
        };
        let Checked { elements, actions, entries, bytes, patterns, .. } = checked;
        let accepted = Instant::now();
        if !self.lateness.allows(&actions, accepted) {
            return reply.reject(Rejection::Overloaded);
        }
        if let Err(why) = reply.admit(actions.len(), entries * weight::LEAST_BYTES, bytes, patterns) {
            return reply.reject(why);
        }
        let slots = reply.begin(is_batch, elements, accepted);
        if !actions.is_empty() {
            let deadline = accepted + self.deadline;
            let pattern_deadline = deadline - (self.deadline / 16).min(MAX_PATTERN_MARGIN);
            next.router.post(AcceptedWork { actions, slots, deadline, pattern_deadline, unsent: None });
        }
    }
}

/// The events of a request as they are checked, one by one.
#[derive(Default)]
struct Checked {
    elements: Vec<EventResult>,
    actions: Vec<(Action, Option<Version>)>,
    entries: usize,
    bytes: usize,
    patterns: usize,
    /// Milliseconds since 1970, once somebody has asked.
    now: Option<i64>,
}

impl Checked {
    fn reserve(&mut self, events: usize) {
        self.elements.reserve(events);
        self.actions.reserve(events);
    }

    fn add(&mut self, event: Result<Event, Invalid>, weigh: impl FnOnce(&Event) -> usize) {
        match event {
            Ok(event) => {
                self.entries += event.action.entries();
                self.patterns += event.action.patterns();
                self.bytes += weigh(&event);
                let age = event.time.map(|time| self.now.get_or_insert_with(unix_millis).saturating_sub(time));
                self.elements.push(EventResult::Answered(to_be_answered(&event, age)));
                self.actions.push((event.action, event.version));
            }
            Err(invalid) => {
                self.bytes += weight::of_invalid(&invalid);
                self.elements.push(EventResult::Invalid(invalid));
            }
        }
    }
}

/// Milliseconds since 1970, by the clock on the wall.
fn unix_millis() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

fn to_be_answered(event: &Event, age_when_accepted_ms: Option<i64>) -> Answered {
    Answered {
        id: event.id.clone(),
        has_version: event.version.is_some(),
        age_when_accepted_ms,
        ..Answered::begun(event.action.name(), event.action.targets())
    }
}

impl Stage for Validation {
    type Message = Validate;

    fn handle(&mut self, events: Validate, _: &mut StageContext<'_, Self>) {
        self.validate(events);
    }
}
