//! What the log and the page say of a verdict.

use log::{Level, log_enabled};

use super::request_ids::{RequestIds, log_request};
use super::slow::SlowTimes;
use super::state::HttpState;
use crate::event::EventType;
use crate::event::invalid::{Invalid, InvalidKind};
use crate::event::outcome::Class;
use crate::event::rejection::Rejection;
use crate::event::wire::{Answered, EventResult};
use crate::pipeline::work::reply::Verdict;
use crate::telemetry::history::Failed;

/// A line an event at debug, and one at warn for each that was not carried out. `source` is the name of the source whose
/// notification it was; empty: it came to `/events`.
pub fn log_verdict(verdict: &Verdict, problem: &'static str, source: &str, ids: &RequestIds, shared: &HttpState) {
    match verdict {
        Verdict::Rejected(Rejection::Invalid(invalid)) => log_invalid(invalid, source, ids, shared),
        Verdict::Rejected(why) => {
            let detail = why.cause();
            log_request!(warn of ids; problem, detail; "body rejected");
            shared.failed(&Failed { problem, detail, source, request_id: ids.id.as_str(), ..Failed::default() });
        }
        Verdict::One(answered) => log_answered(answered, source, ids, shared),
        Verdict::Batch(elements) => {
            for element in elements {
                match element {
                    EventResult::Answered(answered) => log_answered(answered, source, ids, shared),
                    EventResult::Invalid(invalid) => log_invalid(invalid, source, ids, shared),
                }
            }
        }
    }
}

pub(super) fn log_invalid(invalid: &Invalid, source: &str, ids: &RequestIds, shared: &HttpState) {
    let event_id = invalid.id.as_deref().unwrap_or_default();
    let problem = invalid.problem();
    let (slug, cause) = (problem.slug, problem.detail.as_ref());
    let at = match &invalid.kind {
        InvalidKind::Faults(faults) => faults.first().map_or("", |fault| fault.pointer.as_str()),
        InvalidKind::Malformed(_) | InvalidKind::Forbidden(_) => "",
    };
    log_request!(warn of ids; event_id, problem = slug, at, cause; "event rejected");
    let event = invalid.event.map_or("", EventType::as_str);
    let (request_id, detail) = (ids.id.as_str(), cause);
    shared.failed(&Failed { event, id: event_id, problem: slug, detail, request_id, source, ..Failed::default() });
}

fn log_answered(answered: &Answered, source: &str, ids: &RequestIds, shared: &HttpState) {
    let class = answered.class();
    if shared.slow.concerns(answered) {
        shared.slow.tell(answered, ids);
    }
    if class == Class::Ok && !log_enabled!(Level::Debug) {
        return;
    }
    let (event, event_id) = (answered.event.as_str(), answered.id.as_deref().unwrap_or_default());
    let (keys, outcome) = (answered.targets.len(), class.as_str());
    log_request!(debug of ids; event, event_id, keys, outcome; "event");
    if let Some((at, problem)) = answered.failure() {
        let key = answered.targets.get(at).map_or("", |key| key);
        let spent = answered.spent.get(at).copied().unwrap_or_default();
        let (slug, cause) = (problem.kind.slug(), problem.detail.as_ref());
        match shared.slow.parts(spent) {
            Some(SlowTimes { ms, waiting_ms, fetching_ms, redis_ms }) => log_request!(warn of ids;
                event, event_id, key:% = key, keys, problem = slug, cause, ms, waiting_ms, fetching_ms, redis_ms;
                "event not carried out"
            ),
            None => {
                log_request!(warn of ids; event, event_id, key:% = key, keys, problem = slug, cause; "event not carried out")
            }
        }
        shared.failed(&Failed {
            event,
            id: event_id,
            problem: slug,
            detail: cause,
            request_id: ids.id.as_str(),
            key,
            source,
            class: Some(class),
            fetch: problem.fetch.as_deref(),
        });
    }
}
