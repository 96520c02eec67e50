//! `POST /sources/NAME`: notifications of storage, in the producer's own words. A request is let in, read and bounded as one to
//! `/events`; then it is taken apart, and each change that it tells of goes its way as an event of its own.
//!
//! [`posters`](super::posters) says who may post, [`handshake`] what producers ask before they do.
//!
//! The status is for the producer, who would send again whatever is no success; the body says what became of each event.

use std::pin::pin;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};

use super::answering::{AnsweredRequest, answer_to};
use super::handed_over::{Given, HandedOver, permitted};
use super::journaled::{Keeping, Offer};
use super::prefer::Preferences;
use super::problem::status_for_producer;
use super::receive::{ReceivedBody, take_in, unless_evicted};
use super::request::{RequestContext, reject};
use super::request_ids::span_id;
use super::sources::{ActiveSource, name};
use super::under_way::UnderWay;
use super::worker::{TimedWait, WaitEnd, Worker};
use super::{body, handshake};
use crate::event::Event;
use crate::event::invalid::Invalid;
use crate::event::outcome::ProblemKind;
use crate::event::rejection::Rejection;
use crate::event::sources::{
    Format, Handshake, Ignored, Mapped, Message, Notified, Parsed, SourceFault, cloudevents, parse,
};
use crate::pipeline::work::admission::Permit;
use crate::pipeline::work::reply::Verdict;

/// What a notification is called in the log.
const ASKED: &str = "notification";
const LATE: &str = "The keys that prove the sender did not come in time. Send the request again later.";

/// Answers any request to a path below [`SOURCES_PATH`](super::sources::SOURCES_PATH).
pub async fn handle(worker: &Rc<Worker>, request: &HttpRequest, payload: &mut web::Payload) -> HttpResponse {
    let shared = &worker.shared;
    let _busy = worker.load.enter();
    let preferences = Preferences::of(request.headers());
    let response = match carry_out(request, payload, worker).await {
        Ok(Reply::Events(done)) => answer_to(done, request, preferences, shared, |class, _| status_for_producer(class)),
        Ok(Reply::Question(response)) => response,
        Err(why) => {
            // Behind broken chunks the connection is gone with this very look at it.
            if !matches!(why, Rejection::BrokenChunks) {
                body::skim(payload).await;
            }
            reject(request, &why, ASKED)
        }
    };
    preferences.answered(response)
}

/// What a request comes to.
enum Reply {
    /// The events of the notification, and what became of them.
    Events(AnsweredRequest),
    /// The answer to what it asked.
    Question(HttpResponse),
}

async fn carry_out(request: &HttpRequest, payload: &mut web::Payload, worker: &Rc<Worker>) -> Result<Reply, Rejection> {
    let shared = &worker.shared;
    let source = name(request.uri().path()).and_then(|name| shared.sources.find(name)).ok_or(Rejection::NotFound)?;
    let (headers, query) = (request.headers(), request.uri().query().unwrap_or_default());
    if request.method() != Method::POST {
        return asked(request, &source, query, worker).await.map(Reply::Question);
    }
    let mut timed_wait = worker.timed_wait();
    let admitted = in_time(source.posters.admit(headers, query, SystemTime::now()), worker, &mut timed_wait).await?;
    let by_sns = admitted.is_by_sns();
    let taken = take_in(request, payload, worker, &mut timed_wait, admitted, body::kind_of_notification).await?;
    let proving = in_time(source.posters.prove(by_sns, &taken.body), worker, &mut timed_wait);
    match &taken.unproven {
        None => proving.await?,
        // The certificate may have to be fetched first.
        Some(share) => unless_evicted(proving, share).await?,
    }
    let ReceivedBody { body, permit, rights, unproven, .. } = taken;
    drop(unproven);
    // A signature of SNS is over the envelope's own members alone, so nothing else of the request is read.
    let format = if by_sns { Format::Sns } else { source.mapping.format };
    let message = Message { headers: &Given(headers), body: &body, max_elements: shared.max_events };
    let elements = match parse(format, &message) {
        Ok(Parsed::Elements(elements)) => elements,
        Ok(Parsed::Handshake(Handshake::EventGridValidation { code })) => {
            return Ok(Reply::Question(handshake::validated(&code)));
        }
        Ok(Parsed::Handshake(Handshake::SnsConfirmation { .. })) => {
            in_time(source.posters.subscribe(&body), worker, &mut timed_wait).await?;
            Vec::new()
        }
        Err(_) if handshake::is_probe(&body) => vec![Notified::Ignored(Ignored::Test)],
        Err(SourceFault::Malformed(detail)) => return Err(Rejection::Malformed { detail }),
        Err(SourceFault::MediaType(detail)) => return Err(Rejection::UnsupportedMediaType { detail: detail.into() }),
        Err(SourceFault::TooMany) => {
            let verdict = Verdict::Rejected(Rejection::TooManyEvents { max_events: shared.max_events });
            return Ok(Reply::Events(AnsweredRequest { verdict, pending: None, bytes_in: body.len() }));
        }
    };
    if let Some(context) = RequestContext::of(request) {
        context.ids.follow(|| cloudevents::trace(&body, span_id));
    }
    source.metrics.received(elements.len());
    let Mapped { events, ignored } = source.mapping.events(elements, shared.pipeline.limits());
    source.metrics.ignored(&ignored);
    let events = permitted(events, rights.as_deref());
    finish(request, worker, &mut timed_wait, (HandedOver { source, format, rights, body }, events), permit).await
}

/// What may have to wait for keys of others, for no longer than an event may take, nor than the service waits.
async fn in_time<T>(
    work: impl Future<Output = Result<T, Rejection>>,
    worker: &Worker,
    timed_wait: &mut TimedWait<'_>,
) -> Result<T, Rejection> {
    let until = Instant::now() + worker.shared.pipeline.deadline();
    match timed_wait.wait(pin!(work), None, until).await {
        Ok(done) => done,
        Err(WaitEnd::CutOff) => Err(Rejection::Unavailable(ProblemKind::ShuttingDown)),
        Err(WaitEnd::Late) => Err(Rejection::KeysUnavailable { detail: LATE }),
    }
}

/// The events go to the journal, or to the pipeline; what can never succeed becomes a dead letter.
async fn finish(
    request: &HttpRequest,
    worker: &Rc<Worker>,
    timed_wait: &mut TimedWait<'_>,
    (notification, events): (HandedOver, Vec<Result<Event, Invalid>>),
    permit: Permit,
) -> Result<Reply, Rejection> {
    let (bytes_in, is_journaled) = (notification.body.len(), notification.source.is_journaled);
    let appender = worker.appender.as_ref();
    if let Some(appender) = appender.filter(|_| is_journaled && events.iter().any(Result::is_ok)) {
        let offer = Offer::of_notification(events, notification.source());
        let preferences = Preferences::of(request.headers());
        let keeping = Keeping { request, worker, appender, preferences, bytes_in };
        return Ok(match keeping.keep(timed_wait, offer, permit).await? {
            Ok(response) => Reply::Question(response),
            Err(done) => Reply::Events(done),
        });
    }
    let trace = RequestContext::of(request).and_then(|context| context.ids.trace().cloned());
    let pending = worker.submitter.submit_events(events, true, permit, trace);
    let (verdict, pending) = UnderWay::new(pending, worker, request, Some(notification)).verdict(timed_wait).await;
    Ok(Reply::Events(AnsweredRequest { verdict, pending, bytes_in }))
}

/// The answer to a request without a notification.
async fn asked(
    request: &HttpRequest,
    source: &ActiveSource,
    query: &str,
    worker: &Worker,
) -> Result<HttpResponse, Rejection> {
    let is_probe = matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_probe && !handshake::asks_for_leave(request) {
        return Err(Rejection::MethodNotAllowed { allow: handshake::METHODS });
    }
    let admitted = source.posters.admit_question(request.headers(), query, SystemTime::now());
    in_time(admitted, worker, &mut worker.timed_wait()).await?;
    Ok(match is_probe {
        true => handshake::probe(&source.mapping.name, source.mapping.format),
        false => handshake::leave(request.headers()),
    })
}
