//! From a verdict to the answer.

use actix_web::body::{BodySize, MessageBody as _};
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};

use super::answer::with_text;
use super::prefer::Preferences;
use super::problem::{add_retry_after, rejection_answer};
use super::request::{RequestContext, Summary};
use super::sources;
use super::state::HttpState;
use super::verdict_log::log_verdict;
use crate::event::invalid::Invalid;
use crate::event::outcome::{Class, Outcome};
use crate::event::rejection::Rejection;
use crate::event::wire::{EventResult, Text, retry_after_seconds, write_answer, write_batch};
use crate::pipeline::work::reply::{PendingReply, Verdict};

/// Bytes up to which an answer is not counted while it waits to be written: a connection has one at a time.
const SMALL_ANSWER_BYTES: usize = 8 * 1024;
/// What is set aside beforehand for each event of a batch: a text that has to grow is copied as a whole, and room that is not used
/// costs nothing.
const ELEMENT_BYTES: usize = 160;
/// What is set aside beforehand for the answer to one event, at most.
const MAX_RESERVED_BYTES: usize = 64 * 1024;
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A request that was carried out, or refused by who was to do that.
pub(super) struct AnsweredRequest {
    pub verdict: Verdict,
    /// Holds what admission has lent for it.
    pub pending: Option<PendingReply>,
    pub bytes_in: usize,
}

/// The answer, counted and told of. `status` is that of an answer in which work was done, by its class and whether it is a
/// batch's.
pub(super) fn answer_to(
    AnsweredRequest { verdict, pending, bytes_in }: AnsweredRequest,
    request: &HttpRequest,
    preferences: Preferences,
    shared: &HttpState,
    status: fn(Class, bool) -> StatusCode,
) -> HttpResponse {
    let (response, held_bytes, summary) = answer(&verdict, preferences.is_minimal, shared, status);
    let context = RequestContext::of(request);
    let holder = context.as_ref().and_then(|context| context.holder());
    shared.count(&verdict, summary.outcome, holder.as_deref());
    if let Some(context) = context {
        if let Some(trace) = context.ids.sampled() {
            shared.sampled(&verdict, trace);
        }
        context.trace(&verdict, || pending.as_ref().and_then(PendingReply::accepted));
        if let Some(pending) = pending.filter(|_| held_bytes > SMALL_ANSWER_BYTES) {
            context.keep(pending.keep_for_answer(held_bytes));
        }
        let source = sources::name(request.uri().path()).unwrap_or_default();
        log_verdict(&verdict, summary.outcome, source, &context.ids, shared);
    }
    told(response, request, shared, Summary { bytes_in, ..summary })
}

/// An answer to events as it is sent, with what its line in the log is to say.
pub(super) fn told(
    mut response: HttpResponse,
    request: &HttpRequest,
    shared: &HttpState,
    summary: Summary,
) -> HttpResponse {
    if let Some(context) = RequestContext::of(request) {
        context.sum_up(summary);
    }
    if shared.pipeline.readiness.is_draining() {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}

/// The answer, and bytes that it takes in memory until it is written, beside the values in it.
fn answer(
    verdict: &Verdict,
    minimal: bool,
    shared: &HttpState,
    status: fn(Class, bool) -> StatusCode,
) -> (HttpResponse, usize, Summary) {
    let (response, text, summary) = match verdict {
        Verdict::Rejected(why) => {
            let (response, outcome) = rejection_answer(why, || shared.retry_after());
            let asked = match why {
                Rejection::Invalid(Invalid { event: Some(event), .. }) => event.as_str(),
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
            let mut text = Text::with_capacity(64 + if minimal { 0 } else { elements.len() * ELEMENT_BYTES });
            let class = write_batch(&mut text, elements, minimal).class();
            let keys = elements.iter().map(keys).sum();
            let summary = Summary { asked: "batch", events: elements.len(), keys, ..Summary::default() };
            let asked = if class == Class::Ok { 0 } else { retry_after_seconds(elements) };
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
fn respond(class: Class, asked: u16, status: StatusCode, minimal: bool, shared: &HttpState) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response.insert_header((CONTENT_TYPE, JSON));
    Preferences { is_minimal: minimal, ..Preferences::default() }.applied(&mut response);
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

fn keys(element: &EventResult) -> usize {
    match element {
        EventResult::Answered(answered) => answered.targets.len(),
        EventResult::Invalid(_) => 0,
    }
}
