//! `POST /events`: from the request to its answer.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use actix_web::{HttpRequest, HttpResponse, web};

use super::answering::{AnsweredRequest, answer_to};
use super::body;
use super::journaled::{Keeping, Looked, look_at};
use super::posters::Admitted;
use super::prefer::Preferences;
use super::problem::status_of;
use super::receive::{ReceivedBody, take_in};
use super::request::{RequestContext, reject};
use super::under_way::UnderWay;
use super::worker::Worker;
use crate::event::rejection::Rejection;
use crate::event::trace::Trace;
use crate::pipeline::work::reply::Verdict;

pub const PATH: &str = "/events";

/// Answers a POST to [`PATH`].
pub async fn post(worker: &Rc<Worker>, request: &HttpRequest, payload: &mut web::Payload) -> HttpResponse {
    let shared = &worker.shared;
    let _busy = worker.load.enter();
    let context = RequestContext::of(request);
    let trace = context.as_ref().and_then(|context| context.ids.trace().cloned());
    let preferences = Preferences::of(request.headers());
    match carry_out(request, preferences, trace, payload, worker).await {
        Ok(Ok(response)) => response,
        Ok(Err(done)) => answer_to(done, request, preferences, shared, status_of),
        Err(why) => {
            // Behind broken chunks the connection is gone with this very look at it.
            if !matches!(why, Rejection::BrokenChunks) {
                body::skim(payload).await;
            }
            reject(request, &why, "events")
        }
    }
}

async fn carry_out(
    request: &HttpRequest,
    preferences: Preferences,
    trace: Option<Arc<Trace>>,
    payload: &mut web::Payload,
    worker: &Rc<Worker>,
) -> Result<Result<HttpResponse, AnsweredRequest>, Rejection> {
    let mut timed_wait = worker.timed_wait();
    let admitted = Admitted::by(worker.shared.settings.auth.admit(request.headers(), SystemTime::now)?);
    let ReceivedBody { body, form, permit, rights, .. } =
        take_in(request, payload, worker, &mut timed_wait, admitted, body::kind).await?;
    let bytes_in = body.len();
    let pending = match worker.appender.as_ref().filter(|_| preferences.is_async) {
        None => worker.submitter.submit((body, form), permit, rights, trace),
        Some(appender) => match look_at(&body, form, rights.as_deref(), worker) {
            Looked::Offer(offer) => {
                let keeping = Keeping { request, worker, appender, preferences, bytes_in };
                return keeping.keep(&mut timed_wait, offer, permit).await;
            }
            Looked::Rejected(why) => {
                return Ok(Err(AnsweredRequest { verdict: Verdict::Rejected(why), pending: None, bytes_in }));
            }
            Looked::AtOnce { events, is_batch } => worker.submitter.submit_events(events, is_batch, permit, trace),
        },
    };
    let (verdict, pending) = UnderWay::new(pending, worker, request, None).verdict(&mut timed_wait).await;
    Ok(Err(AnsweredRequest { verdict, pending, bytes_in }))
}
