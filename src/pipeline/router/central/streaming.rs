//! Blobs that go to the cache as they come in. That is a write, so it begins in its operation's turn: what was before it on
//! its key has left here, and its writer is done with that.

use std::time::Instant;

use super::CentralRouter;
use super::fetching::failure;
use crate::blob::FetchError;
use crate::blob::retry::Decision;
use crate::cache::{CacheError, Reply};
use crate::event::outcome::{Origin, Outcome, ProblemKind};
use crate::pipeline::fetch::request::{FetchRequest, FetchResult};
use crate::pipeline::runtime::StageContext;
use crate::pipeline::work::operation::Operation;
use crate::pipeline::work::question::CacheAnswer;
use crate::pipeline::work::timing::Phase;

impl CentralRouter {
    /// What came of a fetch whose blob is passed on.
    pub(super) fn on_passed_on(
        &mut self,
        mut request: FetchRequest,
        result: FetchResult,
        context: &mut StageContext<'_, Self>,
    ) {
        match result {
            FetchResult::Written { reply, bytes } => self.written(request, &reply, bytes, context),
            FetchResult::LetStand(Reply::Unchanged) => self.on_answer(request, CacheAnswer::Unchanged, false),
            FetchResult::LetStand(Reply::Superseded) => self.on_answer(request, CacheAnswer::Superseded, false),
            FetchResult::LetStand(_) => self.fetch_anew(request),
            FetchResult::NotWritten(error) => self.not_written(request, &error, context),
            _ => {
                self.note(&request, Phase::Waiting, Instant::now());
                request.attempts -= 1;
                self.needs_turn(request);
            }
        }
    }

    /// It may go on once nothing on its key is before it.
    pub(super) fn needs_turn(&mut self, mut request: FetchRequest) {
        request.wants_turn = true;
        if !self.is_first(&request.key, request.seq) {
            self.waiting_turn.insert(request.seq, request);
            return;
        }
        match self.lanes.awaited(&request.key, request.seq).map(Operation::look_in_turn) {
            Some(look) => self.ask(look, request),
            None => self.submit(request),
        }
    }

    /// The cache has taken the blob in.
    fn written(&mut self, request: FetchRequest, reply: &Reply, bytes: usize, context: &mut StageContext<'_, Self>) {
        match reply {
            Reply::Stored => self.done(&request, |operation| Outcome::Stored {
                bytes,
                ttl: operation.action.ttl,
                source: Origin::Blob,
            }),
            Reply::Superseded => self.done(&request, |_| Outcome::Superseded),
            _ => {
                let error = CacheError::RefusedForNow("another write changed the key meanwhile".into());
                self.not_written(request, &error, context);
            }
        }
    }

    /// The cache has not taken it in. It is asked for once more, as after any failed attempt.
    fn not_written(&mut self, request: FetchRequest, error: &CacheError, context: &mut StageContext<'_, Self>) {
        let failed = FetchError::not_passed_on(error.cause());
        match self.decide(&request, &failed) {
            Decision::RetryAfter(pause) if error.is_worth_retrying() && Instant::now() + pause < request.deadline => {
                self.deps.metrics.fetch_retried();
                context.after(pause, |router, _| {
                    router.note(&request, Phase::Waiting, Instant::now());
                    router.submit(request);
                    router.advance();
                });
            }
            _ => {
                let kind = match error {
                    CacheError::Refused(_) => ProblemKind::CacheRefused,
                    CacheError::ValueTooLarge { .. } => ProblemKind::BlobTooLarge,
                    _ => ProblemKind::CacheUnavailable,
                };
                let detail = format!("storing the blob failed: {error}");
                self.fail(&request, failure(&request, kind, &detail));
            }
        }
    }
}
