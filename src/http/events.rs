//! `POST /events`: from the request to its verdict, and from the verdict to the answer.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use actix_web::body::{BodySize, MessageBody as _};
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use bytes::Bytes;
use log::{Level, log_enabled};

use super::answer::with_text;
use super::body;
use super::posters::Admitted;
use super::problem::{Turned, add_retry_after, refused, status_of};
use super::progress::Progress;
use super::request::{About, Marks, Summary, say, turn_away};
use super::shared::Shared;
use super::slow::Parts;
use super::under_way::UnderWay;
use super::unproven::Share;
use super::worker::{Ended, Stay, Worker};
use crate::event::EventType;
use crate::event::outcome::{Class, Outcome};
use crate::event::trace::Trace;
use crate::event::validate::{Invalid, InvalidKind};
use crate::event::wire::{Answered, Element, Form, Text, retry_after_seconds, write_answer, write_batch};
use crate::pipeline::work::admission::Permit;
use crate::pipeline::work::job::{PendingReply, Refusal, Verdict};
use crate::telemetry::history::Failed;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const RETURN_MINIMAL: &str = "return=minimal";
/// A body whose signature is still to be proven has that part of `http.body_timeout_ms`.
const UNPROVEN_HASTE: u32 = 3;
/// An answer of so many bytes is not counted while it waits to be written: a connection has one at a time.
const SMALL_ANSWER_BYTES: usize = 8 * 1024;
/// What is set aside beforehand for the answer to one event, at most.
const MAX_RESERVED_BYTES: usize = 64 * 1024;
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A request that was carried out, or refused by who was to do that.
pub(super) struct Done {
    pub verdict: Verdict,
    /// Holds what admission has lent for it.
    pub waiter: Option<PendingReply>,
    pub bytes_in: usize,
}

pub async fn post(worker: Rc<Worker>, request: HttpRequest, mut payload: web::Payload) -> HttpResponse {
    let shared = &worker.shared;
    let _busy = shared.enter();
    let about = About::of(&request);
    let trace = about.as_ref().and_then(|about| about.marks.trace.clone());
    match carry_out(&request, trace, &mut payload, &worker).await {
        Ok(done) => answer_to(done, &request, shared, status_of),
        Err(turned) => {
            // Behind broken chunks the connection is gone with this very look at it.
            if !matches!(turned, Turned::BrokenChunks) {
                body::skim(&mut payload).await;
            }
            turn_away(&request, &turned, "events")
        }
    }
}

/// The answer, counted and told of. `status` is that of an answer in which work was done, by its class and whether it is a
/// batch's.
pub(super) fn answer_to(
    Done { verdict, waiter, bytes_in }: Done,
    request: &HttpRequest,
    shared: &Shared,
    status: fn(Class, bool) -> StatusCode,
) -> HttpResponse {
    let (mut response, held_bytes, summary) = answer(&verdict, wants_minimal(request.headers()), shared, status);
    shared.count(&verdict, summary.outcome);
    if let Some(about) = About::of(request) {
        if let Some(waiter) = waiter.filter(|_| held_bytes > SMALL_ANSWER_BYTES) {
            about.keep(waiter.keep_for_answer(held_bytes));
        }
        tell(&verdict, summary.outcome, &about.marks, shared);
        about.sum_up(Summary { bytes_in, ..summary });
    }
    if shared.pipeline.readiness.is_draining() {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}

async fn carry_out(
    request: &HttpRequest,
    trace: Option<Arc<Trace>>,
    payload: &mut web::Payload,
    worker: &Rc<Worker>,
) -> Result<Done, Turned> {
    let mut stay = worker.stay();
    let admitted = Admitted::by(worker.shared.settings.auth.admit(request.headers(), SystemTime::now)?);
    let Taken { body, form, permit, .. } = take_in(request, payload, worker, &mut stay, admitted, body::kind).await?;
    let bytes_in = body.len();
    let waiter = worker.submitter.submit(body, form, permit, trace);
    let (verdict, waiter) = UnderWay::new(waiter, worker, request, None).verdict(&mut stay).await;
    Ok(Done { verdict, waiter, bytes_in })
}

/// A request's body, whole, and what holds its bytes.
pub(super) struct Taken<'a> {
    pub body: Bytes,
    pub form: Form,
    pub permit: Permit,
    /// The place of a body that has still to prove something.
    pub unproven: Option<Share<'a>>,
}

/// Lets the sender in, and reads what it sends. Faults are looked for in the order of the contract: who it is, whether the
/// service goes on, what the headers say of the body (`kind`), its size.
pub(super) async fn take_in<'a>(
    request: &HttpRequest,
    payload: &mut web::Payload,
    worker: &'a Rc<Worker>,
    stay: &mut Stay<'_>,
    mut admitted: Admitted,
    kind: fn(&HeaderMap) -> Result<body::Kind, Turned>,
) -> Result<Taken<'a>, Turned> {
    let (headers, settings, pipeline) = (request.headers(), &worker.shared.settings, &worker.shared.pipeline);
    let share = admitted.is_unproven().then(|| worker.shared.unproven.share());
    let mut entry = admitted.entry;
    if let Some(about) = About::of(request).filter(|_| entry.token().is_some()) {
        about.note_token(entry.token());
    }
    if pipeline.readiness.is_draining() {
        return Err(Turned::Draining);
    }
    let kind = kind(headers)?;
    let mut permit = pipeline.admission.permit();
    let connection = request.conn_data::<Rc<Progress>>().map(Rc::as_ref);
    if connection.is_some_and(Progress::is_polled_again) {
        // To ask for the body before it has been looked for would have the connection woken for nothing once it is found.
        stay.give_way().await;
    }
    let body = {
        let max_bytes = settings.max_body_bytes;
        let bounds = body::Bounds { max_bytes, permit: &mut permit, unproven: share.as_ref() };
        let reading = body::read(payload, headers, kind, bounds, entry.claim(), connection);
        let begun = Instant::now();
        let read = match &share {
            None => stay.wait(pin!(reading), None, begun + settings.body_timeout).await,
            Some(share) => {
                let reading = Box::pin(unless_evicted(reading, share));
                stay.wait(pin!(reading), None, begun + settings.body_timeout / UNPROVEN_HASTE).await
            }
        };
        match read {
            Ok(body) => body,
            Err(Ended::CutOff) => return Err(Turned::Draining),
            Err(Ended::Late) => return Err(Turned::BodyTooSlow),
        }
    };
    let body = match body {
        // It was not read whole, which proves nothing.
        Err(turned) if !matches!(turned, Turned::Malformed { .. }) => return Err(turned),
        body => entry.confirm().and(body)?,
    };
    Ok(Taken { body, form: kind.form, permit, unproven: share })
}

/// A body that nobody has vouched for has to go when the bytes of such bodies run out.
async fn unless_evicted(
    reading: impl Future<Output = Result<Bytes, Turned>>,
    share: &Share<'_>,
) -> Result<Bytes, Turned> {
    tokio::select! {
        biased;
        body = reading => body,
        () = share.evicted() => Err(Turned::Overloaded),
    }
}

/// The answer, and bytes that it takes in memory until it is written, beside the values in it.
fn answer(
    verdict: &Verdict,
    minimal: bool,
    shared: &Shared,
    status: fn(Class, bool) -> StatusCode,
) -> (HttpResponse, usize, Summary) {
    let (response, text, summary) = match verdict {
        Verdict::Refused(refusal) => {
            let (response, outcome) = refused(refusal, shared.max_events, || shared.retry_after());
            let asked = match refusal {
                Refusal::Invalid(Invalid { event: Some(event), .. }) => event.as_str(),
                _ => "events",
            };
            let held = match response.body().size() {
                BodySize::Sized(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
                BodySize::None | BodySize::Stream => 0,
            };
            return (response, held, Summary { asked, outcome, ..Summary::default() });
        }
        Verdict::One(answered) => {
            let class = answered.class();
            let size = 128 + answered.outcomes.iter().map(answer_size).sum::<usize>();
            let mut text = Text::with_capacity(size.min(MAX_RESERVED_BYTES));
            write_answer(&mut text, answered);
            let keys = answered.targets.len();
            let summary = Summary { asked: answered.event.as_str(), events: 1, keys, ..Summary::default() };
            let asked = answered.retry_after_seconds();
            (
                respond(class, asked, status(class, false), false, shared),
                text,
                Summary { outcome: class.as_str(), ..summary },
            )
        }
        Verdict::Batch(elements) => {
            let mut text = Text::with_capacity(64 + if minimal { 0 } else { elements.len() * 128 });
            let class = write_batch(&mut text, elements, minimal).class();
            let keys = elements.iter().map(keys).sum();
            let summary = Summary { asked: "batch", events: elements.len(), keys, ..Summary::default() };
            let asked = retry_after_seconds(elements);
            (
                respond(class, asked, status(class, true), minimal, shared),
                text,
                Summary { outcome: class.as_str(), ..summary },
            )
        }
    };
    let held = text.held_bytes();
    (with_text(response, text), held, summary)
}

/// `asked` is how long the sender is to wait before it tries again, at least, in seconds.
fn respond(class: Class, asked: u16, status: StatusCode, minimal: bool, shared: &Shared) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response.insert_header((CONTENT_TYPE, JSON));
    if minimal {
        response.insert_header((PREFERENCE_APPLIED, RETURN_MINIMAL));
    }
    if class == Class::Unavailable {
        add_retry_after(&mut response, shared.retry_after().max(asked.into()));
    }
    response
}

fn answer_size(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Hit(value) => value.len() + 64,
        _ => 96,
    }
}

fn keys(element: &Element) -> usize {
    match element {
        Element::Answered(answered) => answered.targets.len(),
        Element::Invalid(_) => 0,
    }
}

/// RFC 7240: preferences are comma-separated, and may stand in several headers; of one given twice the first counts.
fn wants_minimal(headers: &HeaderMap) -> bool {
    let mut returns = headers
        .get_all(PREFER)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|preference| preference.split(';').next()?.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("return"));
    returns.next().is_some_and(|(_, value)| value.trim().trim_matches('"') == "minimal")
}

/// A line an event at debug, and one at warn for each that was not carried out.
pub(super) fn tell(verdict: &Verdict, problem: &'static str, marks: &Marks, shared: &Shared) {
    match verdict {
        Verdict::Refused(Refusal::Invalid(invalid)) => tell_invalid(invalid, marks, shared),
        Verdict::Refused(refusal) => {
            let detail = refusal_cause(refusal);
            say!(warn of marks; problem, detail; "request refused");
            shared.failed(Failed { event: "", id: "", problem, detail, request_id: marks.id.as_str() });
        }
        Verdict::One(answered) => tell_answered(answered, marks, shared),
        Verdict::Batch(elements) => {
            for element in elements {
                match element {
                    Element::Answered(answered) => tell_answered(answered, marks, shared),
                    Element::Invalid(invalid) => tell_invalid(invalid, marks, shared),
                }
            }
        }
    }
}

fn refusal_cause(refusal: &Refusal) -> &str {
    match refusal {
        Refusal::Malformed { detail } => detail,
        Refusal::TooManyEvents => "more events than event.max_events",
        Refusal::TooLargeToAdmit => "more than admission could ever hold",
        Refusal::TooManyPatterns => "more patterns than event.max_patterns",
        Refusal::Invalid(_) => "",
        Refusal::Overloaded => "admission is full, or what is inside takes too long",
        Refusal::Unavailable(kind) => kind.title(),
    }
}

fn tell_invalid(invalid: &Invalid, marks: &Marks, shared: &Shared) {
    let event_id = invalid.id.as_deref().unwrap_or_default();
    let problem = invalid.problem();
    let (slug, cause) = (problem.slug, problem.detail.as_ref());
    let at = match &invalid.kind {
        InvalidKind::Faults(faults) => faults.first().map_or("", |fault| fault.pointer.as_str()),
        InvalidKind::Malformed(_) => "",
    };
    say!(warn of marks; event_id, problem = slug, at, cause; "event rejected");
    let event = invalid.event.map_or("", EventType::as_str);
    shared.failed(Failed { event, id: event_id, problem: slug, detail: cause, request_id: marks.id.as_str() });
}

fn tell_answered(answered: &Answered, marks: &Marks, shared: &Shared) {
    let class = answered.class();
    if shared.slow.concerns(answered) {
        shared.slow.tell(answered, marks);
    }
    if class == Class::Ok && !log_enabled!(Level::Debug) {
        return;
    }
    let (event, event_id) = (answered.event.as_str(), answered.id.as_deref().unwrap_or_default());
    let (keys, outcome) = (answered.targets.len(), class.as_str());
    say!(debug of marks; event, event_id, keys, outcome; "event");
    let ended = answered.targets.iter().zip(&answered.outcomes).zip(&answered.spent);
    let worst = ended.filter(|_| class != Class::Ok).find_map(|((key, outcome), spent)| {
        outcome.problem().filter(|problem| problem.kind.class() == class).map(|problem| (key, problem, *spent))
    });
    if let Some((key, problem, spent)) = worst {
        let (slug, cause) = (problem.kind.slug(), problem.detail.as_ref());
        match shared.slow.parts(spent) {
            Some(Parts { ms, waiting_ms, fetching_ms, redis_ms }) => say!(warn of marks;
                event, event_id, key:% = key, keys, problem = slug, cause, ms, waiting_ms, fetching_ms, redis_ms;
                "event not carried out"
            ),
            None => {
                say!(warn of marks; event, event_id, key:% = key, keys, problem = slug, cause; "event not carried out")
            }
        }
        shared.failed(Failed { event, id: event_id, problem: slug, detail: cause, request_id: marks.id.as_str() });
    }
}
