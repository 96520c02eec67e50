//! What is counted of the journal's events and said of them, as of those whose senders wait: an event once it is done or given up, an
//! entry once it has ended.

use std::time::Duration;

use log::{debug, warn};

use super::round::Failure;
use crate::event::outcome::Class;
use crate::journal::dead::DeadLetter;
use crate::journal::unix_millis;
use crate::journal::window::Task;
use crate::telemetry::metrics::Metrics;

/// It is applied, or made needless, so long after its own time, if it has one.
pub fn done(task: &Task, age: Option<Duration>, metrics: &Metrics) {
    let source = task.meta.source.as_str();
    metrics.event_done(task.event.action.name(), Class::Ok);
    metrics.settled().took(Duration::from_millis(unix_millis().saturating_sub(task.meta.accepted_ms)), age);
    if let Some(lag) = age.filter(|_| !source.is_empty()) {
        metrics.kept_change_done(source, lag);
    }
    log_ended(task, Class::Ok);
}

/// Something is left of it, and is tried again. `attempts` are those that count, this one among them.
pub fn left(task: &Task, failure: &Failure, attempts: u32) {
    let Failure { key, problem, .. } = failure;
    let (event, event_id) = (task.event.action.name().as_str(), task.event.id.as_deref().unwrap_or_default());
    let (key, problem, cause) = (&**key, problem.kind.slug(), &*problem.detail);
    let attempts = task.record.attempts.saturating_add(attempts);
    let (source, request_id) = (task.meta.source.as_str(), task.meta.request_id.as_str());
    warn!(event, event_id, key, problem, cause, attempts, source, request_id; "event not carried out");
}

/// What is left of it is given up.
pub fn given_up(task: &Task, failure: &Failure, metrics: &Metrics) {
    let (event, class) = (task.event.action.name(), failure.problem.kind.class());
    metrics.event_done(event, class);
    for problem in &failure.entries {
        metrics.settled().entry(event, problem.class().as_str());
        metrics.entry_failed(event, *problem);
    }
    log_ended(task, class);
}

/// It is given up as a whole, for what is no problem of an entry.
pub fn refused(task: &Task, metrics: &Metrics) {
    // What is no valid event has no entries.
    let event = Some(task.event.action.name()).filter(|_| task.entries > 0);
    metrics.event_rejected(event);
    if let Some(event) = event {
        (0..task.event.action.entries()).for_each(|_| metrics.settled().entry(event, Class::Rejected.as_str()));
    }
    log_ended(task, Class::Rejected);
}

/// It becomes this dead letter. `key` is the first that failed.
pub fn dead(task: &Task, key: &str, letter: &DeadLetter) {
    let (event, event_id) = (task.event.action.name().as_str(), task.event.id.as_deref().unwrap_or_default());
    let (problem, cause, attempts) = (letter.problem.as_str(), letter.detail.as_str(), letter.attempts);
    let (source, request_id) = (task.meta.source.as_str(), task.meta.request_id.as_str());
    warn!(event, event_id, key, problem, cause, attempts, source, request_id; "event is a dead letter");
}

fn log_ended(task: &Task, class: Class) {
    let (event, event_id) = (task.event.action.name().as_str(), task.event.id.as_deref().unwrap_or_default());
    let (keys, outcome) = (task.entries, class.as_str());
    let (source, request_id) = (task.meta.source.as_str(), task.meta.request_id.as_str());
    debug!(event, event_id, keys, outcome, source, request_id; "event");
}
