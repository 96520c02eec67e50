//! Events that are answered once the journal has them: `Prefer: respond-async`, and sources with `accept = "journal"`.

use std::mem;
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::answer::with_text;
use super::answering::{AnsweredRequest, JSON, told};
use super::prefer::Preferences;
use super::request::{RequestContext, Summary};
use super::state::HttpState;
use super::verdict_log::log_invalid;
use super::worker::{TimedWait, WaitEnd, Worker};
use crate::event::invalid::Invalid;
use crate::event::outcome::{Class, Outcome, ProblemKind};
use crate::event::rejection::Rejection;
use crate::event::rights::Rights;
use crate::event::validate::FaultBudget;
use crate::event::wire::{AcceptedEvent, BodyForm, EventResult, RawEvent, Split, Text, split, write_accepted};
use crate::event::{Action, Event};
use crate::journal::dead::DeadLetter;
use crate::journal::entry::{Entry, Record};
use crate::journal::{AppendError, AppendResult, Appender, unix_millis};
use crate::pipeline::work::admission::Permit;
use crate::pipeline::work::reply::Verdict;

/// What such a request is called in the log.
const ASKED: &str = "journal";

/// The events of a request that are to go to the journal, in the order sent.
pub(super) struct Offer {
    events: Vec<Result<(AcceptedEvent, Record), Invalid>>,
    /// Keys and patterns of all valid events.
    keys: usize,
    /// The patterns of the event that has most.
    patterns: usize,
    /// The name of the source whose notification it is; empty: it came to `/events`.
    source: String,
}

/// What came of looking at a body.
pub(super) enum Looked {
    /// Events to be kept.
    Offer(Offer),
    /// They ask for nothing but answers: they are carried out at once as if the preference were not there.
    AtOnce { events: Vec<Result<Event, Invalid>>, is_batch: bool },
    /// It became no work.
    Rejected(Rejection),
}

/// Takes a body apart and checks its events, and whether the sender may do that.
pub(super) fn look_at(body: &Bytes, form: BodyForm, rights: Option<&Rights>, worker: &Worker) -> Looked {
    let limits = worker.shared.pipeline.limits();
    let (raw, is_batch) = match split(body, form, worker.shared.max_events) {
        Err(error) => return Looked::Rejected(error.into()),
        Ok(Split::One(raw)) => (vec![raw], false),
        Ok(Split::Batch(raw)) => (raw, true),
    };
    let mut faults = FaultBudget::default();
    let mut events: Vec<_> = raw.iter().map(|raw| faults.validate(raw, limits, rights)).collect();
    if let ([Err(_)], false) = (&events[..], is_batch)
        && let Some(Err(invalid)) = events.pop()
    {
        return Looked::Rejected(Rejection::Invalid(invalid));
    }
    if events.iter().all(|event| event.as_ref().is_ok_and(asks_for_answer)) {
        return Looked::AtOnce { events, is_batch };
    }
    Looked::Offer(Offer::of_raw(events, &raw))
}

/// A read, or a preview.
fn asks_for_answer(event: &Event) -> bool {
    matches!(event.action, Action::Get(_) | Action::DeletePattern { dry_run: true, .. })
}

fn without_answer(event: &Event) -> Invalid {
    let why = "needs an answer with values, which the journal does not give: send it without \
               Prefer: respond-async";
    Invalid::at(event.id.clone(), event.action.name(), "/key", why)
}

impl Offer {
    /// As the sender wrote them.
    fn of_raw(events: Vec<Result<Event, Invalid>>, raw: &[RawEvent]) -> Self {
        let (mut keys, mut patterns) = (0, 0);
        let offered = |(event, raw): (Result<Event, Invalid>, &RawEvent)| {
            let event = event?;
            if asks_for_answer(&event) {
                return Err(without_answer(&event));
            }
            keys += event.action.entries();
            patterns = patterns.max(event.action.patterns());
            let json = raw.json().map(|json| json.clone().into_bytes()).unwrap_or_default();
            Ok((AcceptedEvent { event: event.action.name(), id: event.id }, Record::of_json(json)))
        };
        let events = events.into_iter().zip(raw).map(offered).collect();
        Offer { events, keys, patterns, source: String::new() }
    }

    /// What a notification of this source comes to.
    pub fn of_notification(events: Vec<Result<Event, Invalid>>, source: &str) -> Self {
        let mut keys = 0;
        let event = |event: Result<Event, Invalid>| {
            let event = event?;
            keys += event.action.entries();
            let record = Record::of_event(&event);
            Ok((AcceptedEvent { event: event.action.name(), id: event.id }, record))
        };
        let events = events.into_iter().map(event).collect();
        // What storage tells of makes no patterns.
        Offer { events, keys, patterns: 0, source: source.to_owned() }
    }

    /// Whether it is a notification: its producer looks at the status alone, and what can never succeed is done with.
    fn is_notification(&self) -> bool {
        !self.source.is_empty()
    }

    fn valid(&self) -> usize {
        self.events.iter().filter(|event| event.is_ok()).count()
    }

    /// What is valid of it is kept: counted, and told of with what is not. That becomes dead letters of a notification.
    fn kept(&self, appender: &Appender, context: Option<&RequestContext>, shared: &HttpState) {
        self.count(context, shared);
        if self.is_notification() {
            let request_id = context.map(|context| context.ids.id.as_str()).unwrap_or_default();
            for invalid in self.events.iter().filter_map(|event| event.as_ref().err()) {
                appender.bury(letter_of_invalid(invalid, &self.source, request_id));
            }
        }
    }

    fn count(&self, context: Option<&RequestContext>, shared: &HttpState) {
        let (valid, source) = (self.valid() as u64, shared.sources.find(&self.source));
        let refused = self.events.len() as u64 - valid;
        shared.metrics.journal_accepted(valid);
        source.iter().for_each(|source| source.metrics().kept(valid, refused));
        let Some(context) = context else { return };
        context.holder().iter().for_each(|holder| holder.metrics.kept(valid, refused));
        let ids = &context.ids;
        for invalid in self.events.iter().filter_map(|event| event.as_ref().err()) {
            shared.metrics.event_rejected(invalid.event);
            shared.metrics.event_failed(invalid);
            log_invalid(invalid, &self.source, ids, shared);
        }
    }
}

/// What of a notification can never succeed becomes a dead letter. `events` are those that it came to, which were handed to the
/// pipeline with this verdict.
pub(super) fn bury(
    appender: &Appender,
    source: &str,
    context: Option<&RequestContext>,
    events: &[Result<Event, Invalid>],
    results: &[EventResult],
) {
    let request_id = context.map(|context| context.ids.id.as_str()).unwrap_or_default();
    for (event, result) in events.iter().zip(results) {
        let letter = match (event, result) {
            (Err(invalid), _) => letter_of_invalid(invalid, source, request_id),
            (Ok(event), EventResult::Answered(answered)) if answered.class() == Class::Rejected => {
                let problem = answered.outcomes.iter().find_map(Outcome::problem);
                let told = problem.map_or(("", ""), |problem| (problem.kind.slug(), problem.detail.as_ref()));
                DeadLetter::of_notification(Some(Record::of_event(event)), told, source, request_id)
            }
            _ => continue,
        };
        appender.bury(letter);
    }
}

fn letter_of_invalid(invalid: &Invalid, source: &str, request_id: &str) -> DeadLetter {
    let problem = invalid.problem();
    DeadLetter::of_notification(None, (problem.slug, &problem.detail), source, request_id)
}

/// A request whose events are to be kept.
pub(super) struct Keeping<'a> {
    pub request: &'a HttpRequest,
    pub worker: &'a Rc<Worker>,
    pub appender: &'a Appender,
    pub preferences: Preferences,
    pub bytes_in: usize,
}

impl Keeping<'_> {
    /// Appends what is valid and answers once it is there.
    pub async fn keep(
        self,
        timed_wait: &mut TimedWait<'_>,
        offer: Offer,
        mut permit: Permit,
    ) -> Result<Result<HttpResponse, AnsweredRequest>, Rejection> {
        let (shared, begun) = (&self.worker.shared, Instant::now());
        let mut waiting = Waiting { appended: None, offer, keeping: &self, is_over: false };
        if waiting.offer.valid() > 0 {
            if let Err(why) = admit(&mut permit, &waiting.offer) {
                waiting.is_over = true;
                return Ok(Err(self.rejected(why)));
            }
            let ended = waiting.append(permit, timed_wait, begun).await;
            waiting.is_over = true;
            match ended? {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => return Err(rejection(error)),
                Ok(Err(_)) => return Ok(Err(self.unavailable(ProblemKind::Interrupted))),
                Err(WaitEnd::CutOff) => return Ok(Err(self.unavailable(ProblemKind::ShuttingDown))),
                Err(WaitEnd::Late) => return Ok(Err(self.unavailable(ProblemKind::Timeout))),
            }
        }
        waiting.is_over = true;
        waiting.offer.kept(self.appender, RequestContext::of(self.request).as_deref(), shared);
        Ok(Ok(self.answer(&waiting.offer)))
    }

    fn unavailable(&self, kind: ProblemKind) -> AnsweredRequest {
        self.rejected(Rejection::Unavailable(kind))
    }

    fn rejected(&self, why: Rejection) -> AnsweredRequest {
        AnsweredRequest { verdict: Verdict::Rejected(why), pending: None, bytes_in: self.bytes_in }
    }

    fn answer(&self, offer: &Offer) -> HttpResponse {
        let events = offer.valid();
        let faults = offer.events.len() - events;
        let outcome = if faults == 0 { "accepted" } else { "rejected" };
        let told_faults = if offer.is_notification() { 0 } else { faults };
        let status = if told_faults == 0 { StatusCode::ACCEPTED } else { StatusCode::MULTI_STATUS };
        let mut response = HttpResponse::build(status);
        response.insert_header((CONTENT_TYPE, JSON));
        let applied = Preferences { is_minimal: self.preferences.is_minimal && told_faults > 0, ..self.preferences };
        applied.applied(&mut response);
        let text = match told_faults {
            0 => format!("{{\"status\":\"accepted\",\"events\":{events}}}").into_bytes().into(),
            _ => listed(offer, applied.is_minimal),
        };
        let summary = Summary {
            asked: ASKED,
            events: offer.events.len(),
            keys: offer.keys,
            outcome,
            bytes_in: self.bytes_in,
            ..Summary::default()
        };
        told(with_text(response, text), self.request, &self.worker.shared, summary)
    }
}

/// The events of a request that the appender has. What it appends is counted and told of, and what is invalid becomes a dead letter of
/// a notification, even if the sender hangs up.
struct Waiting<'a> {
    appended: Option<oneshot::Receiver<AppendResult>>,
    offer: Offer,
    keeping: &'a Keeping<'a>,
    is_over: bool,
}

impl Waiting<'_> {
    async fn append(
        &mut self,
        permit: Permit,
        timed_wait: &mut TimedWait<'_>,
        begun: Instant,
    ) -> Result<Result<Result<AppendResult, oneshot::error::RecvError>, WaitEnd>, Rejection> {
        let Keeping { request, worker, appender, .. } = self.keeping;
        let request_id = RequestContext::of(request).map(|context| context.ids.id.as_str().to_owned());
        let records: Vec<Record> = self.offer.events.iter().flatten().map(|(_, record)| record.clone()).collect();
        let (events, source) = (records.len() as u64, self.offer.source.clone());
        let entry =
            Entry { accepted_ms: unix_millis(), source, request_id: request_id.unwrap_or_default(), records }.write();
        let ends = begun + worker.shared.pipeline.deadline();
        let appended = self.appended.insert(appender.append(entry, events, ends, permit).map_err(rejection)?);
        Ok(timed_wait.wait(pin!(appended), Some(begun), ends).await)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(appended) = self.appended.take().filter(|_| !self.is_over) else { return };
        let Offer { events, source, .. } = &mut self.offer;
        let offer = Offer { events: mem::take(events), keys: 0, patterns: 0, source: mem::take(source) };
        let (worker, context) = (self.keeping.worker.clone(), RequestContext::of(self.keeping.request));
        let appender = self.keeping.appender.clone();
        actix_rt::spawn(async move {
            if let Ok(Ok(())) = appended.await {
                offer.kept(&appender, context.as_deref(), &worker.shared);
            }
        });
    }
}

/// Takes events and bytes from admission, beside the body's that are held already. Each event is carried out by itself: what the
/// patterns of one alone come to must fit.
fn admit(permit: &mut Permit, offer: &Offer) -> Result<(), Rejection> {
    let bytes = offer.events.iter().flatten().map(|(_, record)| record.bytes()).sum();
    permit.fits(offer.valid(), 0, offer.patterns)?;
    if permit.try_grow_to_limit(offer.valid(), bytes) { Ok(()) } else { Err(Rejection::Overloaded) }
}

fn listed(offer: &Offer, is_minimal: bool) -> Text {
    let mut text = Text::with_capacity(64 + offer.events.len() * 64);
    let events = offer.events.iter().map(|event| event.as_ref().map(|(accepted, _)| accepted));
    write_accepted(&mut text, events, is_minimal);
    text
}

fn rejection(error: AppendError) -> Rejection {
    match error {
        AppendError::Full => Rejection::JournalFull,
        AppendError::TooMany { events, max_events } => Rejection::TooManyForJournal { events, max_events },
        AppendError::Unreachable(detail) => Rejection::JournalUnavailable { detail },
    }
}
