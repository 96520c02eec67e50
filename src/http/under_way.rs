//! A request whose body has been handed over, up to its verdict.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::HttpRequest;

use super::problem;
use super::request::RequestContext;
use super::sources::ActiveSource;
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
/// verdict, this sees to it that it is counted and told of all the same.
pub(super) struct UnderWay<'a> {
    pending: Option<PendingReply>,
    begun: Instant,
    worker: &'a Rc<Worker>,
    request: &'a HttpRequest,
    source: Option<Arc<ActiveSource>>,
}

impl<'a> UnderWay<'a> {
    /// `source` is the one whose notification it is, if it is one.
    pub fn new(
        pending: PendingReply,
        worker: &'a Rc<Worker>,
        request: &'a HttpRequest,
        source: Option<Arc<ActiveSource>>,
    ) -> UnderWay<'a> {
        UnderWay { pending: Some(pending), begun: Instant::now(), worker, request, source }
    }

    /// The verdict, and who waited for it.
    pub async fn verdict(mut self, timed_wait: &mut TimedWait<'_>) -> (Verdict, Option<PendingReply>) {
        let verdict = match &mut self.pending {
            Some(pending) => verdict(pending, timed_wait, self.begun, self.worker.shared.pipeline.deadline()).await,
            None => Verdict::Rejected(Rejection::Unavailable(ProblemKind::Interrupted)),
        };
        (settled(verdict, self.source.as_deref()), self.pending.take())
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        // Nearly always there is nothing left to wait for.
        let Some(mut pending) = self.pending.take() else { return };
        let Some(context) = RequestContext::of(self.request) else { return };
        let (worker, begun, source) = (self.worker.clone(), self.begun, self.source.take());
        actix_rt::spawn(async move {
            let shared = &worker.shared;
            let verdict = verdict(&mut pending, &mut worker.timed_wait(), begun, shared.pipeline.deadline()).await;
            let verdict = settled(verdict, source.as_deref());
            let problem = match &verdict {
                Verdict::Rejected(why) => problem::slug(why),
                Verdict::One(_) | Verdict::Batch(_) => "",
            };
            shared.count(&verdict, problem, context.holder().as_deref());
            let source = source.as_deref().map(|source| source.mapping.name.as_str()).unwrap_or_default();
            log_verdict(&verdict, problem, source, &context.ids, shared);
        });
    }
}

/// The verdict as the source sees it, counted for it.
fn settled(verdict: Verdict, source: Option<&ActiveSource>) -> Verdict {
    match source {
        Some(source) => source.settled(verdict),
        None => verdict,
    }
}
