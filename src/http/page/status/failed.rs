//! A failure as it is shown: what failed, from where, why, and whether it may be done once more from here.

use serde::Serialize;
use serde_json::Value;

use crate::event::outcome::Class;
use crate::telemetry::history::KeptFailure;

#[derive(Serialize)]
pub struct FailedEvent {
    at_ms: u64,
    event: &'static str,
    id: String,
    problem: &'static str,
    detail: String,
    request_id: String,
    key: String,
    /// Without a query; an object of a store by its name.
    url: String,
    source: String,
    /// Empty: it never became work.
    class: &'static str,
    attempts: u32,
    /// An event that does the same once more and can undo nothing newer.
    repeat: Option<Value>,
    /// Why there is none.
    no_repeat: Option<&'static str>,
}

impl From<KeptFailure> for FailedEvent {
    fn from(failure: KeptFailure) -> Self {
        let (no_repeat, repeat) = (failure.repeat.as_ref().err().copied(), failure.repeat.ok());
        FailedEvent {
            at_ms: failure.at_ms,
            event: failure.event,
            id: failure.id,
            problem: failure.problem,
            detail: failure.detail,
            request_id: failure.request_id,
            key: failure.key,
            url: failure.url,
            source: failure.source,
            class: failure.class.map_or("", Class::as_str),
            attempts: failure.attempts,
            repeat,
            no_repeat,
        }
    }
}
