//! From a request to its body, whole and admitted.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, web};
use bytes::Bytes;

use super::body;
use super::posters::Admitted;
use super::progress::ConnectionProgress;
use super::request::RequestContext;
use super::unproven::Share;
use super::worker::{TimedWait, WaitEnd, Worker};
use crate::event::outcome::ProblemKind;
use crate::event::rejection::Rejection;
use crate::event::rights::Rights;
use crate::event::wire::BodyForm;
use crate::pipeline::work::admission::Permit;

/// A body whose signature is still to be proven has that part of `http.body_timeout_ms`: a third.
const UNPROVEN_HASTE: u32 = 3;

/// A request's body, whole, and what holds its bytes.
pub(super) struct ReceivedBody<'a> {
    pub body: Bytes,
    pub form: BodyForm,
    pub permit: Permit,
    /// What the sender may do; None: everything.
    pub rights: Option<Arc<Rights>>,
    /// The place of a body that has still to prove something.
    pub unproven: Option<Share<'a>>,
}

/// Lets the sender in, and reads what it sends. Faults are looked for in the order of the contract: who it is, whether the
/// service goes on, what the headers say of the body (`kind`), its size.
pub(super) async fn take_in<'a>(
    request: &HttpRequest,
    payload: &mut web::Payload,
    worker: &'a Rc<Worker>,
    timed_wait: &mut TimedWait<'_>,
    mut admitted: Admitted,
    kind: fn(&HeaderMap) -> Result<body::BodyType, Rejection>,
) -> Result<ReceivedBody<'a>, Rejection> {
    let (headers, settings, pipeline) = (request.headers(), &worker.shared.settings, &worker.shared.pipeline);
    let share = admitted.is_unproven().then(|| worker.shared.unproven.share());
    let mut entry = admitted.entry;
    let holder = entry.holder();
    let rights = holder.as_ref().and_then(|holder| holder.rights.clone());
    let context = RequestContext::of(request);
    if let (Some(holder), Some(context)) = (holder, &context) {
        context.note_holder(holder);
    }
    if pipeline.readiness.is_draining() {
        return Err(Rejection::Unavailable(ProblemKind::ShuttingDown));
    }
    let kind = kind(headers)?;
    let mut permit = pipeline.admission.permit();
    let connection = request.conn_data::<Rc<ConnectionProgress>>().map(Rc::as_ref);
    if connection.is_some_and(ConnectionProgress::is_polled_again) {
        // To ask for the body before it has been looked for would have the connection woken for nothing once it is found.
        timed_wait.give_way().await;
    }
    let body = {
        let max_bytes = settings.max_body_bytes;
        let bounds = body::BodyLimits { max_bytes, permit: &mut permit, unproven: share.as_ref() };
        let reading = body::read(payload, headers, kind, bounds, entry.claim(), connection);
        let begun = context.map_or_else(Instant::now, |context| context.begun);
        let read = match &share {
            None => timed_wait.wait(pin!(reading), None, begun + settings.body_timeout).await,
            Some(share) => {
                let reading = Box::pin(unless_evicted(reading, share));
                timed_wait.wait(pin!(reading), None, begun + settings.body_timeout / UNPROVEN_HASTE).await
            }
        };
        match read {
            Ok(body) => body,
            Err(WaitEnd::CutOff) => return Err(Rejection::Unavailable(ProblemKind::ShuttingDown)),
            Err(WaitEnd::Late) => return Err(Rejection::BodyTooSlow { is_unproven: share.is_some() }),
        }
    };
    let body = match body {
        // It was not read whole, which proves nothing.
        Err(why) if !matches!(why, Rejection::Malformed { .. }) => return Err(why),
        body => entry.confirm().and(body)?,
    };
    if worker.shared.settings.tracer.is_some()
        && let Some(context) = RequestContext::of(request)
    {
        context.note_received(Instant::now());
    }
    Ok(ReceivedBody { body, form: kind.form, permit, rights, unproven: share })
}

/// A body that nobody has vouched for has to go when the bytes of such bodies run out.
pub(super) async fn unless_evicted<T>(
    work: impl Future<Output = Result<T, Rejection>>,
    share: &Share<'_>,
) -> Result<T, Rejection> {
    tokio::select! {
        biased;
        done = work => done,
        () = share.evicted() => Err(Rejection::Overloaded),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::http::unproven::UnprovenBodies;

    #[actix_web::test]
    async fn a_body_that_waits_for_its_proof_goes_when_its_bytes_are_needed() {
        let all = UnprovenBodies::new(100);
        let (large, small) = (all.share(), all.share());
        assert!(large.grow(80));
        let proving = unless_evicted(pending::<Result<(), Rejection>>(), &large);
        let (proven, ()) = futures::join!(proving, async { assert!(small.grow(40)) });
        assert!(matches!(proven, Err(Rejection::Overloaded)), "{proven:?}");
        let proven = unless_evicted(async { Ok(()) }, &large).await;
        assert!(proven.is_ok(), "what is proven holds them no longer");
    }
}
