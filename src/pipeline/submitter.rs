//! Where requests enter the pipeline.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::intake::{Ingest, Route};
use super::validation::{Offered, Validate};
use crate::event::Event;
use crate::event::invalid::Invalid;
use crate::event::rights::Rights;
use crate::event::trace::Trace;
use crate::event::wire::BodyForm;
use crate::pipeline::work::admission::Permit;
use crate::pipeline::work::reply::{self, PendingReply, RequestReply};
use crate::pipeline::work::validity::Validity;

/// The way in for one HTTP worker. Cheap to clone.
#[derive(Clone)]
pub struct Submitter {
    pub(super) route: Arc<ArcSwap<Route>>,
    /// Bytes (`http.max_answer_bytes`).
    pub(super) max_answer_bytes: usize,
}

impl Submitter {
    /// Hands a body over; its verdict comes through the waiter. `permit` holds the body's bytes. Events that `rights` do not
    /// permit are refused; None: everything is permitted.
    pub fn submit(
        &self,
        (body, form): (Bytes, BodyForm),
        permit: Permit,
        rights: Option<Arc<Rights>>,
        trace: Option<Arc<Trace>>,
    ) -> PendingReply {
        let (reply, pending): (RequestReply, PendingReply) = reply::reply(permit, self.max_answer_bytes, trace);
        let route = self.route.load_full();
        route.intake.post(Ingest { body, form, rights, reply, route: route.clone() });
        pending
    }

    /// Hands over events that are known already, as a batch or as the one event of a request. `permit` holds the bytes of its body.
    pub fn submit_events(
        &self,
        events: Vec<Result<Event, Invalid>>,
        is_batch: bool,
        permit: Permit,
        trace: Option<Arc<Trace>>,
    ) -> PendingReply {
        let (reply, pending): (RequestReply, PendingReply) = reply::reply(permit, self.max_answer_bytes, trace);
        let next = self.route.load().next.clone();
        next.validation.post(Validate { events: Offered::Made { events, is_batch }, reply, next: next.clone() });
        pending
    }

    /// Hands over events whose work may begin only while `validity` lasts, as a batch.
    pub fn submit_within(&self, events: Vec<Event>, permit: Permit, validity: Validity) -> PendingReply {
        let (reply, pending) = reply::reply_within(permit, self.max_answer_bytes, None, Some(validity));
        let next = self.route.load().next.clone();
        let events = Offered::Made { events: events.into_iter().map(Ok).collect(), is_batch: true };
        next.validation.post(Validate { events, reply, next: next.clone() });
        pending
    }
}
