//! Where requests enter the pipeline.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::intake::{Ingest, Route};
use crate::event::trace::Trace;
use crate::event::wire::Form;
use crate::pipeline::work::admission::Permit;
use crate::pipeline::work::job::{self, Reply, Waiter};

/// The way in for one HTTP worker. Cheap to clone.
#[derive(Clone)]
pub struct Submitter {
    pub(super) route: Arc<ArcSwap<Route>>,
    /// Bytes (`http.max_answer_bytes`).
    pub(super) max_answer_bytes: usize,
}

impl Submitter {
    /// Hands a body over; its verdict comes through the waiter. `permit` holds the body's bytes.
    pub fn submit(&self, body: Bytes, form: Form, permit: Permit, trace: Option<Arc<Trace>>) -> Waiter {
        let (reply, waiter): (Reply, Waiter) = job::reply(permit, self.max_answer_bytes, trace);
        let route = self.route.load_full();
        route.intake.post(Ingest { body, form, reply, route: route.clone() });
        waiter
    }
}
