//! Intake: splits a request's body into events. What is not JSON, or too many events, ends here.

use std::sync::Arc;

use actix::{Actor, Context, Handler, Supervised};
use bytes::Bytes;

use super::validation::{Onward, Validate};
use crate::event::wire::{Form, SplitError, split};
use crate::pipeline::runtime::supervision::{Mail, Post, Stage, Vitals, guarded};
use crate::pipeline::work::job::{Refusal, Reply};

/// A request's body, whole. Its bytes are admitted already.
pub struct Ingest {
    pub body: Bytes,
    pub form: Form,
    pub reply: Reply,
    pub way: Arc<Way>,
}

/// By whom a request goes. It holds the addresses of the actors in whose mailboxes it waits, so these are there as long as it
/// does, whatever way the next one takes.
pub struct Way {
    pub intake: Post<Intake>,
    pub onward: Arc<Onward>,
}

pub struct Intake {
    pub vitals: Arc<Vitals>,
    pub max_events: usize,
}

impl Intake {
    fn take(&mut self, Ingest { body, form, reply, way }: Ingest) {
        fail_point!("intake");
        match split(&body, form, self.max_events) {
            Ok(events) => {
                let onward = way.onward.clone();
                way.onward.validation.post(Validate { events, reply, onward })
            }
            Err(SplitError::Malformed { detail }) => reply.refuse(Refusal::Malformed { detail }),
            Err(SplitError::TooManyEvents { .. }) => reply.refuse(Refusal::TooManyEvents),
        }
    }
}

impl Actor for Intake {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.vitals.clone().on_start(context);
    }
}

impl Supervised for Intake {}

impl Stage for Intake {
    fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }
}

impl Handler<Mail<Ingest>> for Intake {
    type Result = ();

    fn handle(&mut self, mail: Mail<Ingest>, context: &mut Self::Context) {
        guarded(self, context, |intake, _| intake.take(mail.open()));
    }
}
