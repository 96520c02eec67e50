//! A request whose body has been handed over, up to its verdict.

use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_web::HttpRequest;

use super::handed_over::HandedOver;
use super::problem;
use super::request::RequestContext;
use super::verdict_log::log_verdict;
use super::worker::{TimedWait, WaitEnd, Worker};
use crate::event::outcome::ProblemKind;
use crate::event::rejection::Rejection;
use crate::pipeline::work::reply::{PendingReply, Verdict};

async fn verdict(
    pending: &mut PendingReply,
    timed_wait: &mut TimedWait<'_>,
    begun: Instant,
    deadline: Duration,
) -> Verdict {
    match timed_wait.wait(Pin::new(&mut *pending), Some(begun), begun + deadline).await {
        Ok(verdict) => verdict,
        Err(WaitEnd::CutOff) => pending.expire(ProblemKind::ShuttingDown),
        Err(WaitEnd::Late) => pending.expire(ProblemKind::Timeout),
    }
}

/// What is accepted is carried out even if the sender hangs up; dropped before its
/// verdict, this sees to it that it is counted and told of all the same, and that what is rejected of a notification becomes a dead
/// letter.
pub(super) struct UnderWay<'a> {
    pending: Option<PendingReply>,
    begun: Instant,
    worker: &'a Rc<Worker>,
    request: &'a HttpRequest,
    notification: Option<HandedOver>,
}

impl<'a> UnderWay<'a> {
    /// `notification` is what it is of, if it is one.
    pub fn new(
        pending: PendingReply,
        worker: &'a Rc<Worker>,
        request: &'a HttpRequest,
        notification: Option<HandedOver>,
    ) -> UnderWay<'a> {
        UnderWay { pending: Some(pending), begun: Instant::now(), worker, request, notification }
    }

    /// The verdict, and who waited for it.
    pub async fn verdict(mut self, timed_wait: &mut TimedWait<'_>) -> (Verdict, Option<PendingReply>) {
        let verdict = match &mut self.pending {
            Some(pending) => verdict(pending, timed_wait, self.begun, self.worker.shared.pipeline.deadline()).await,
            None => Verdict::Rejected(Rejection::Unavailable(ProblemKind::Interrupted)),
        };
        let context = RequestContext::of(self.request);
        let verdict = match &self.notification {
            Some(notification) => {
                notification.settled(verdict, self.request.headers(), context.as_deref(), self.worker)
            }
            None => verdict,
        };
        (verdict, self.pending.take())
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        // Nearly always there is nothing left to wait for.
        let Some(mut pending) = self.pending.take() else { return };
        let Some(context) = RequestContext::of(self.request) else { return };
        let (worker, begun, notification) = (self.worker.clone(), self.begun, self.notification.take());
        let notification = notification.map(|notification| (notification, self.request.headers().clone()));
        actix_rt::spawn(async move {
            let shared = &worker.shared;
            let verdict = verdict(&mut pending, &mut worker.timed_wait(), begun, shared.pipeline.deadline()).await;
            let verdict = match &notification {
                Some((notification, headers)) => notification.settled(verdict, headers, Some(&context), &worker),
                None => verdict,
            };
            let problem = match &verdict {
                Verdict::Rejected(why) => problem::slug(why),
                Verdict::One(_) | Verdict::Batch(_) => "",
            };
            shared.count(&verdict, problem, context.holder().as_deref());
            let source = notification.as_ref().map(|(notification, _)| notification.source()).unwrap_or_default();
            log_verdict(&verdict, problem, source, &context.ids, shared);
        });
    }
}
