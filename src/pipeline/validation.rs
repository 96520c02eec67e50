//! Validation: raw events → valid ones, or every fault they have. What is valid is admitted here, as a whole request or
//! not at all, and handed to the router as operations: from then on it is accepted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, Context, Handler, Supervised};

use super::gate::ENTRY_BYTES;
use super::job::{Operation, Refusal, Reply, Slots, Sweep, Verb};
use super::router::{Accepted, Router, Task};
use super::supervision::{Mail, Post, Stage, Vitals, guarded};
use crate::event::outcome::Origin;
use crate::event::validate::{MAX_FAULTS, validate};
use crate::event::wire::{Answered, Element, Split};
use crate::event::{Action, Event, Limits, Source};

/// A request's events, as they were sent.
pub struct Validate {
    pub events: Split,
    pub reply: Reply,
}

/// How long before the end of `event.deadline_ms` a pattern delete stops: the 16th part, this at most.
const MAX_SWEEP_MARGIN: Duration = Duration::from_millis(500);

pub struct Validation {
    pub vitals: Arc<Vitals>,
    pub limits: Arc<Limits>,
    /// From acceptance to the answer (`event.deadline_ms`).
    pub deadline: Duration,
    pub router: Post<Router>,
}

impl Validation {
    fn take(&mut self, Validate { events, reply }: Validate) {
        fail::fail_point!("validation");
        let (batch, raw) = match events {
            Split::One(raw) => (false, vec![raw]),
            Split::Batch(raw) => (true, raw),
        };
        let mut elements = Vec::with_capacity(raw.len());
        let mut actions = Vec::with_capacity(raw.len());
        let mut entries = 0;
        let mut faults_left = MAX_FAULTS;
        for raw in &raw {
            match validate(raw, &self.limits, faults_left) {
                Ok(event) => {
                    entries += event.action.entries();
                    elements.push(Element::Answered(to_be_answered(&event)));
                    actions.push(event.action);
                }
                Err(invalid) if !batch => return reply.refuse(Refusal::Invalid(invalid)),
                Err(invalid) => {
                    faults_left = faults_left.saturating_sub(invalid.listed());
                    elements.push(Element::Invalid(invalid));
                }
            }
        }
        if let Err(refusal) = reply.admit(actions.len(), entries * ENTRY_BYTES) {
            return reply.refuse(refusal);
        }
        let slots = reply.begin(batch, elements);
        if !actions.is_empty() {
            self.router.post(Accepted { tasks: tasks(actions, slots, self.deadline, entries) });
        }
    }
}

fn to_be_answered(event: &Event) -> Answered {
    let targets = match &event.action {
        Action::Set(entries) => entries.iter().map(|entry| entry.key.text().clone()).collect(),
        Action::Get(keys) | Action::Delete(keys) => keys.iter().map(|key| key.text().clone()).collect(),
        Action::DeletePattern { patterns, .. } => patterns.iter().map(|pattern| pattern.text().clone()).collect(),
    };
    Answered { id: event.id.clone(), event: event.action.name(), targets, outcomes: Vec::new() }
}

/// One operation a key, one sweep an event of patterns.
fn tasks(actions: Vec<Action>, mut slots: Slots, within: Duration, entries: usize) -> Vec<Task> {
    let deadline = Instant::now() + within;
    let mut tasks = Vec::with_capacity(entries);
    for action in actions {
        let mut key_task = |key, verb| {
            if let Some(slot) = slots.next() {
                tasks.push(Task::Key(Operation { key, verb, slot, deadline }));
            }
        };
        match action {
            Action::Set(entries) => {
                for entry in entries {
                    let ttl = entry.ttl;
                    let verb = match entry.source {
                        Source::Inline(value) => Verb::Set { value, origin: Origin::Inline, ttl, held: None },
                        Source::Blob(url) => Verb::SetBlob { url, ttl },
                    };
                    key_task(entry.key, verb);
                }
            }
            Action::Get(keys) => keys.into_iter().for_each(|key| key_task(key, Verb::Get)),
            Action::Delete(keys) => keys.into_iter().for_each(|key| key_task(key, Verb::Delete)),
            Action::DeletePattern { patterns, dry_run } => {
                let slots = slots.by_ref().take(patterns.len()).collect();
                let deadline = deadline - (within / 16).min(MAX_SWEEP_MARGIN);
                tasks.push(Task::Pattern(Sweep { patterns, slots, dry_run, deadline }));
            }
        }
    }
    tasks
}

impl Actor for Validation {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.vitals.clone().on_start(context);
    }
}

impl Supervised for Validation {}

impl Stage for Validation {
    fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }
}

impl Handler<Mail<Validate>> for Validation {
    type Result = ();

    fn handle(&mut self, mail: Mail<Validate>, context: &mut Self::Context) {
        guarded(self, context, |validation, _| validation.take(mail.open()));
    }
}
