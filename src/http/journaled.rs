//! Events that are answered once the journal has them: `Prefer: respond-async`, and sources with `accept = "journal"`.

use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;

use super::answer::with_text;
use super::answering::{AnsweredRequest, JSON, PREFER, PREFERENCE_APPLIED, RETURN_MINIMAL, wants_minimal};
use super::request::{RequestContext, Summary};
use super::verdict_log::log_invalid;
use super::worker::{TimedWait, WaitEnd, Worker};
use crate::event::invalid::Invalid;
use crate::event::outcome::{Class, Outcome, ProblemKind};
use crate::event::rejection::Rejection;
use crate::event::validate::{FaultBudget, MAX_FAULTS, validate};
use crate::event::wire::{AcceptedEvent, BodyForm, EventResult, RawEvent, Split, Text, split, write_accepted};
use crate::event::{Action, Event};
use crate::journal::dead::DeadLetter;
use crate::journal::entry::{Entry, Record};
use crate::journal::{AppendError, Appender, unix_millis};
use crate::pipeline::work::admission::Permit;
use crate::pipeline::work::reply::Verdict;

const RESPOND_ASYNC: &str = "respond-async";
/// What such a request is called in the log.
const ASKED: &str = "journal";

/// The events of a request that are to go to the journal, in the order sent.
pub(super) struct Offer {
    events: Vec<Result<(AcceptedEvent, Record), Invalid>>,
    /// The patterns of the event that has most.
    patterns: usize,
    /// Whether it is a notification: its producer looks at the status alone, and what can never succeed is done with.
    is_notification: bool,
}

/// What came of looking at a body.
pub(super) enum Looked {
    /// Events to be kept.
    Offer(Offer),
    /// It asks for nothing but answers, or for nothing: it is carried out at once as if the preference were not there.
    NotForJournal,
    /// It became no work.
    Rejected(Rejection),
}

/// RFC 7240: whether the sender would rather have its events kept than wait for their end.
pub(super) fn wants_async(headers: &HeaderMap) -> bool {
    let preferences =
        headers.get_all(PREFER).filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let mut names = preferences.filter_map(|preference| preference.split([';', '=']).next());
    names.any(|name| name.trim().eq_ignore_ascii_case(RESPOND_ASYNC))
}

/// Takes a body apart and checks its events.
pub(super) fn look_at(body: &Bytes, form: BodyForm, worker: &Worker) -> Looked {
    let limits = worker.shared.pipeline.limits();
    match split(body, form, worker.shared.max_events) {
        Err(error) => Looked::Rejected(error.into()),
        Ok(Split::One(raw)) => match validate(&raw, limits, MAX_FAULTS) {
            Err(invalid) => Looked::Rejected(Rejection::Invalid(invalid)),
            Ok(event) if asks_for_answer(&event) => Looked::NotForJournal,
            Ok(event) => {
                let (patterns, events) = (event.action.patterns(), vec![Ok(accepted(&event, &raw))]);
                Looked::Offer(Offer { events, patterns, is_notification: false })
            }
        },
        Ok(Split::Batch(raw)) => {
            let mut faults = FaultBudget::default();
            let (mut events, mut are_reads, mut patterns) = (Vec::with_capacity(raw.len()), true, 0);
            for raw in &raw {
                let event = faults.validate(raw, limits).and_then(|event| match asks_for_answer(&event) {
                    true => Err(Invalid::at(
                        event.id.clone(),
                        event.action.name(),
                        "/key",
                        "needs an answer with values, which the journal does not give: send it without \
                         Prefer: respond-async",
                    )),
                    false => {
                        are_reads = false;
                        patterns = patterns.max(event.action.patterns());
                        Ok(accepted(&event, raw))
                    }
                });
                events.push(event);
            }
            if are_reads && faults.is_whole() {
                Looked::NotForJournal
            } else {
                Looked::Offer(Offer { events, patterns, is_notification: false })
            }
        }
    }
}

/// A read, or a preview.
fn asks_for_answer(event: &Event) -> bool {
    matches!(event.action, Action::Get(_) | Action::DeletePattern { dry_run: true, .. })
}

fn accepted(event: &Event, raw: &RawEvent) -> (AcceptedEvent, Record) {
    let json = raw.json().map(|json| json.clone().into_bytes()).unwrap_or_default();
    (AcceptedEvent { event: event.action.name(), id: event.id.clone() }, Record::of_json(json))
}

impl Offer {
    /// What a notification comes to.
    pub fn of_events(events: Vec<Result<Event, Invalid>>) -> Self {
        let event = |event: Result<Event, Invalid>| {
            let event = event?;
            let record = Record::of_event(&event);
            Ok((AcceptedEvent { event: event.action.name(), id: event.id }, record))
        };
        // What storage tells of makes no patterns.
        Offer { events: events.into_iter().map(event).collect(), patterns: 0, is_notification: true }
    }
}

/// What of a notification can never succeed becomes a dead letter. `events` are those that it came to, if they were handed to the
/// pipeline with this verdict.
pub(super) fn bury(
    appender: &Appender,
    source: &str,
    request: &HttpRequest,
    events: &[Result<Event, Invalid>],
    results: &[EventResult],
) {
    let context = RequestContext::of(request);
    let request_id = context.as_ref().map(|context| context.ids.id.as_str()).unwrap_or_default();
    for (place, event) in events.iter().enumerate() {
        let letter = match (event, results.get(place)) {
            (Err(invalid), _) => {
                let problem = invalid.problem();
                DeadLetter::of_notification(None, (problem.slug, &problem.detail), source, request_id)
            }
            (Ok(event), Some(EventResult::Answered(answered))) if answered.class() == Class::Rejected => {
                let problem = answered.outcomes.iter().find_map(Outcome::problem);
                let told = problem.map_or(("", ""), |problem| (problem.kind.slug(), problem.detail.as_ref()));
                DeadLetter::of_notification(Some(Record::of_event(event)), told, source, request_id)
            }
            _ => continue,
        };
        appender.bury(letter);
    }
}

/// Appends what is valid and answers once it is there. `source`: whose notification it is; empty: it came to `/events`.
pub(super) async fn keep(
    request: &HttpRequest,
    worker: &Rc<Worker>,
    appender: &Appender,
    timed_wait: &mut TimedWait<'_>,
    (offer, source, mut permit): (Offer, &str, Permit),
    bytes_in: usize,
) -> Result<Result<HttpResponse, AnsweredRequest>, Rejection> {
    let (shared, context) = (&worker.shared, RequestContext::of(request));
    let records: Vec<Record> = offer.events.iter().flatten().map(|(_, record)| record.clone()).collect();
    let events = records.len();
    if events > 0 {
        let bytes: usize = records.iter().map(Record::bytes).sum();
        if let Err(why) = admit(&mut permit, &offer, events, bytes) {
            return Ok(Err(rejected(why, bytes_in)));
        }
        let request_id = context.as_ref().map(|context| context.ids.id.as_str().to_owned()).unwrap_or_default();
        let entry = Entry { accepted_ms: unix_millis(), source: source.to_owned(), request_id, records }.write();
        let begun = Instant::now();
        let appended = appender.append(entry, events as u64, permit).map_err(rejection)?;
        match timed_wait.wait(pin!(appended), Some(begun), begun + shared.pipeline.deadline()).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => return Err(rejection(error)),
            Ok(Err(_)) => return Ok(Err(rejected(Rejection::Unavailable(ProblemKind::Interrupted), bytes_in))),
            Err(WaitEnd::CutOff) => {
                return Ok(Err(rejected(Rejection::Unavailable(ProblemKind::ShuttingDown), bytes_in)));
            }
            Err(WaitEnd::Late) => return Ok(Err(rejected(Rejection::Unavailable(ProblemKind::Timeout), bytes_in))),
        }
        shared.metrics.journal_accepted(events as u64);
    }
    let faults = offer.events.len() - events;
    if let Some(context) = &context {
        for invalid in offer.events.iter().filter_map(|event| event.as_ref().err()) {
            shared.metrics.event_rejected(invalid.event);
            shared.metrics.event_failed(invalid.event);
            log_invalid(invalid, &context.ids, shared);
        }
        let outcome = if faults == 0 { "accepted" } else { "rejected" };
        context.sum_up(Summary { asked: ASKED, events: offer.events.len(), outcome, bytes_in, ..Summary::default() });
    }
    Ok(Ok(answer(request, &offer, events, faults)))
}

/// Takes events and bytes from admission, beside the body's that are held already. Each event is carried out by itself: what the
/// patterns of one alone come to must fit.
fn admit(permit: &mut Permit, offer: &Offer, events: usize, bytes: usize) -> Result<(), Rejection> {
    permit.fits(events, 0, offer.patterns)?;
    if permit.try_grow_to_limit(events, bytes) { Ok(()) } else { Err(Rejection::Overloaded) }
}

fn answer(request: &HttpRequest, offer: &Offer, events: usize, faults: usize) -> HttpResponse {
    let faults = if offer.is_notification { 0 } else { faults };
    let is_minimal = faults > 0 && wants_minimal(request.headers());
    let status = if faults == 0 { StatusCode::ACCEPTED } else { StatusCode::MULTI_STATUS };
    let mut response = HttpResponse::build(status);
    response.insert_header((CONTENT_TYPE, JSON));
    if wants_async(request.headers()) {
        let applied = if is_minimal { format!("{RESPOND_ASYNC}, {RETURN_MINIMAL}") } else { RESPOND_ASYNC.to_owned() };
        response.insert_header((PREFERENCE_APPLIED, applied));
    }
    if faults == 0 {
        return with_text(response, format!("{{\"status\":\"accepted\",\"events\":{events}}}").into_bytes().into());
    }
    let mut text = Text::with_capacity(64 + offer.events.len() * 64);
    write_accepted(
        &mut text,
        offer.events.iter().map(|event| event.as_ref().map(|(accepted, _)| accepted)),
        is_minimal,
    );
    with_text(response, text)
}

fn rejected(why: Rejection, bytes_in: usize) -> AnsweredRequest {
    AnsweredRequest { verdict: Verdict::Rejected(why), pending: None, bytes_in }
}

fn rejection(error: AppendError) -> Rejection {
    match error {
        AppendError::Full => Rejection::JournalFull,
        AppendError::Unreachable(detail) => Rejection::JournalUnavailable { detail },
    }
}
