//! Intake: splits a request's body into events. What is not JSON, or too many events, ends here.

use std::sync::Arc;

use bytes::Bytes;

use super::validation::{NextStages, Offered, Validate};
use crate::event::rights::Rights;
use crate::event::wire::{BodyForm, split};
use crate::pipeline::runtime::{Mailbox, Stage, StageContext};
use crate::pipeline::work::reply::RequestReply;

/// The only message to intake: a request's body, whole. Its bytes are admitted already.
pub struct Ingest {
    /// The whole body, decompressed.
    pub body: Bytes,
    /// How the body is written: JSON or NDJSON.
    pub form: BodyForm,
    /// What the sender may do; None: everything.
    pub rights: Option<Arc<Rights>>,
    /// The sending end of the answer; dropped unused it answers `interrupted`.
    pub reply: RequestReply,
    /// The actors that the request passes.
    pub route: Arc<Route>,
}

/// The actors through which a request goes. It holds the addresses of the actors in whose mailboxes it waits, so these are
/// there as long as it does, whatever route the next one takes.
pub struct Route {
    /// The first stage.
    pub intake: Mailbox<Intake>,
    /// The stages after intake.
    pub next: Arc<NextStages>,
}

/// The actor. It has no state between messages.
pub struct Intake {
    /// Events of one request at most (`event.max_events`); a request beyond it is refused as a whole.
    pub max_events: usize,
}

impl Intake {
    fn split(&mut self, Ingest { body, form, rights, reply, route }: Ingest) {
        fail_point!("intake");
        match split(&body, form, self.max_events) {
            Ok(events) => {
                let next = route.next.clone();
                route.next.validation.post(Validate { events: Offered::Sent { events, rights }, reply, next })
            }
            Err(error) => reply.reject(error.into()),
        }
    }
}

impl Stage for Intake {
    type Message = Ingest;

    fn handle(&mut self, body: Ingest, _: &mut StageContext<'_, Self>) {
        self.split(body);
    }
}
