//! `POST /events`: from the request to its answer.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use actix_web::{HttpRequest, HttpResponse, web};

use super::answering::{Done, answer_to};
use super::body;
use super::posters::Admitted;
use super::problem::status_of;
use super::receive::{Taken, take_in};
use super::request::{RequestContext, reject};
use super::under_way::UnderWay;
use super::worker::Worker;
use crate::event::rejection::Rejection;
use crate::event::trace::Trace;

pub async fn post(worker: Rc<Worker>, request: HttpRequest, mut payload: web::Payload) -> HttpResponse {
    let shared = &worker.shared;
    let _busy = shared.enter();
    let about = RequestContext::of(&request);
    let trace = about.as_ref().and_then(|about| about.ids.trace.clone());
    match carry_out(&request, trace, &mut payload, &worker).await {
        Ok(done) => answer_to(done, &request, shared, status_of),
        Err(why) => {
            // Behind broken chunks the connection is gone with this very look at it.
            if !matches!(why, Rejection::BrokenChunks) {
                body::skim(&mut payload).await;
            }
            reject(&request, &why, "events")
        }
    }
}

async fn carry_out(
    request: &HttpRequest,
    trace: Option<Arc<Trace>>,
    payload: &mut web::Payload,
    worker: &Rc<Worker>,
) -> Result<Done, Rejection> {
    let mut stay = worker.stay();
    let admitted = Admitted::by(worker.shared.settings.auth.admit(request.headers(), SystemTime::now)?);
    let Taken { body, form, permit, .. } = take_in(request, payload, worker, &mut stay, admitted, body::kind).await?;
    let bytes_in = body.len();
    let waiter = worker.submitter.submit(body, form, permit, trace);
    let (verdict, waiter) = UnderWay::new(waiter, worker, request, None).verdict(&mut stay).await;
    Ok(Done { verdict, waiter, bytes_in })
}
