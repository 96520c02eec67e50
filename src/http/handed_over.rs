//! A notification whose events were handed to the pipeline.

use std::sync::Arc;

use actix_web::http::header::HeaderMap;
use bytes::Bytes;

use super::journaled::bury;
use super::request::RequestContext;
use super::sources::ActiveSource;
use super::worker::Worker;
use crate::event::Event;
use crate::event::invalid::Invalid;
use crate::event::outcome::Class;
use crate::event::rights::Rights;
use crate::event::sources::{Format, Headers, Mapped, Message, Parsed, parse};
use crate::pipeline::work::reply::Verdict;

/// The headers of a request, for the formats.
pub(super) struct Given<'a>(pub &'a HeaderMap);

impl Headers for Given<'_> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(|value| value.as_bytes())
    }
}

/// A notification whose events have gone their way.
pub(super) struct HandedOver {
    pub source: Arc<ActiveSource>,
    /// As which it was read.
    pub format: Format,
    /// What the sender may do; None: everything.
    pub rights: Option<Arc<Rights>>,
    pub body: Bytes,
}

impl HandedOver {
    /// The name of its source.
    pub fn source(&self) -> &str {
        &self.source.mapping.name
    }

    /// The verdict as the source sees it, counted for it. What can never succeed becomes a dead letter.
    pub fn settled(
        &self,
        verdict: Verdict,
        headers: &HeaderMap,
        context: Option<&RequestContext>,
        worker: &Worker,
    ) -> Verdict {
        let verdict = self.source.settled(verdict);
        if let (Some(appender), Verdict::Batch(results)) = (&worker.appender, &verdict)
            && results.iter().any(|result| result.class() == Class::Rejected)
        {
            bury(appender, self.source(), context, &self.events_again(headers, worker), results);
        }
        verdict
    }

    /// Its events once more: that some are rejected is rare, and a copy of all would be made for each.
    fn events_again(&self, headers: &HeaderMap, worker: &Worker) -> Vec<Result<Event, Invalid>> {
        let message = Message { headers: &Given(headers), body: &self.body, max_elements: worker.shared.max_events };
        let Ok(Parsed::Elements(elements)) = parse(self.format, &message) else { return Vec::new() };
        let Mapped { events, .. } = self.source.mapping.events(elements, worker.shared.pipeline.limits());
        permitted(events, self.rights.as_deref())
    }
}

/// The events, less those that the sender has no right to.
pub(super) fn permitted(events: Vec<Result<Event, Invalid>>, rights: Option<&Rights>) -> Vec<Result<Event, Invalid>> {
    let Some(rights) = rights else { return events };
    let permitted = |event: Event| rights.refusal(&event).map_or(Ok(event), Err);
    events.into_iter().map(|event| event.and_then(permitted)).collect()
}
