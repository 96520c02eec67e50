//! A request whose body has been handed over, up to its verdict.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::HttpRequest;

use super::problem;
use super::request::RequestContext;
use super::sources::Source;
use super::verdict_log::log_verdict;
use super::worker::{Ended, Stay, Worker};
use crate::event::outcome::ProblemKind;
use crate::event::rejection::Rejection;
use crate::pipeline::work::reply::{PendingReply, Verdict};

async fn verdict(waiter: &mut PendingReply, stay: &mut Stay<'_>, begun: Instant, deadline: Duration) -> Verdict {
    match stay.wait(Pin::new(&mut *waiter), Some(begun), begun + deadline).await {
        Ok(verdict) => verdict,
        Err(Ended::CutOff) => waiter.expire(ProblemKind::ShuttingDown),
        Err(Ended::Late) => waiter.expire(ProblemKind::Timeout),
    }
}

/// What is accepted is carried out even if the sender hangs up; dropped before its
/// verdict, this sees to it that it is counted and told of all the same.
pub(super) struct UnderWay<'a> {
    waiter: Option<PendingReply>,
    begun: Instant,
    worker: &'a Rc<Worker>,
    request: &'a HttpRequest,
    source: Option<Arc<Source>>,
}

impl<'a> UnderWay<'a> {
    /// `source` is the one whose notification it is, if it is one.
    pub fn new(
        waiter: PendingReply,
        worker: &'a Rc<Worker>,
        request: &'a HttpRequest,
        source: Option<Arc<Source>>,
    ) -> UnderWay<'a> {
        UnderWay { waiter: Some(waiter), begun: Instant::now(), worker, request, source }
    }

    /// The verdict, and who waited for it.
    pub async fn verdict(mut self, stay: &mut Stay<'_>) -> (Verdict, Option<PendingReply>) {
        let verdict = match &mut self.waiter {
            Some(waiter) => verdict(waiter, stay, self.begun, self.worker.shared.pipeline.deadline()).await,
            None => Verdict::Rejected(Rejection::Unavailable(ProblemKind::Interrupted)),
        };
        (settled(verdict, self.source.as_deref()), self.waiter.take())
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let (Some(mut waiter), Some(about)) = (self.waiter.take(), RequestContext::of(self.request)) else { return };
        let (worker, begun, source) = (self.worker.clone(), self.begun, self.source.take());
        actix_rt::spawn(async move {
            let shared = &worker.shared;
            let verdict = verdict(&mut waiter, &mut worker.stay(), begun, shared.pipeline.deadline()).await;
            let verdict = settled(verdict, source.as_deref());
            let problem = match &verdict {
                Verdict::Rejected(why) => problem::slug(why),
                Verdict::One(_) | Verdict::Batch(_) => "",
            };
            shared.count(&verdict, problem);
            log_verdict(&verdict, problem, &about.ids, shared);
        });
    }
}

/// As the source sees it, and counted for it.
fn settled(verdict: Verdict, source: Option<&Source>) -> Verdict {
    match source {
        Some(source) => source.settled(verdict),
        None => verdict,
    }
}
