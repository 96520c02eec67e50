//! Fetches of the central router: which start now, and what becomes of one that has ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{CentralRouter, RouterMessage};
use crate::blob::retry::Decision;
use crate::blob::{FetchError, FetchErrorKind};
use crate::event::CacheKey;
use crate::event::outcome::{FailedFetch, Outcome, Problem, ProblemKind};
use crate::pipeline::fetch::fetcher::{FetchAttempt, FetcherMessage};
use crate::pipeline::fetch::request::{FetchEnded, FetchRequest, FetchResult, problem_kind};
use crate::pipeline::runtime::StageContext;
use crate::pipeline::work::Seq;
use crate::pipeline::work::admission::FetchPriority;
use crate::pipeline::work::operation::{AwaitedBlob, Operation};
use crate::pipeline::work::timing::Phase;

/// Heads of their keys for which there was no room, after which the younger are not asked about: with very many waiting
/// each release of bytes would cost a look at all of them.
const MAX_REFUSED: usize = 64;
/// Bytes of a failed blob's URL or object that are shown, which leaves room for all but the oddest.
const MAX_SHOWN_URL_BYTES: usize = 512;
/// How often a fetch may come back for want of bytes: each time it asks for what it then needed.
const MAX_WAITS: u32 = 16;

impl CentralRouter {
    pub(super) fn submit(&mut self, request: FetchRequest) {
        let Some(request) = self.outdo(request) else { return };
        if let Err(request) = self.deps.scheduler.submit(request) {
            self.fail_unasked(&request);
        }
    }

    pub(super) fn start_fetches(&mut self) {
        loop {
            let now = Instant::now();
            let next = self.deps.scheduler.with(|scheduler| scheduler.start_next(now));
            let Some((index, mut request)) = next else { break };
            if request.deadline <= now {
                self.deps.scheduler.with(|scheduler| scheduler.ended(index, &mut request));
                self.fail(&request, failure(&request, ProblemKind::Timeout, "its blob's turn did not come in time"));
                continue;
            }
            request.is_head = self.is_first(&request.key, request.seq);
            self.note(&request, Phase::Fetching, now);
            let until = request.begin(now, self.deps.limits.attempt, self.deps.limits.retry.deadline);
            let (epoch, result) = (self.epoch, FetchResult::Lost);
            let lost = FetchEnded { epoch, direct: None, fetcher: index, request, result };
            let ended = self.notify.fetch_ended.notice(lost);
            self.deps.fetchers.post(index, FetcherMessage::Fetch(FetchAttempt { ended, until }));
        }
    }

    /// The request's operation begins this part of its way.
    pub(super) fn note(&self, request: &FetchRequest, phase: Phase, now: Instant) {
        if let Some(operation) = self.lanes.awaited(&request.key, request.seq) {
            operation.slot.enter(phase, now);
        }
    }

    pub(super) fn fetch_ended(&mut self, ended: FetchEnded, context: &mut StageContext<'_, Self>) {
        let FetchEnded { epoch, direct, fetcher, mut request, result } = ended;
        self.deps.scheduler.with(|scheduler| scheduler.ended(fetcher, &mut request));
        let place = self.place(epoch, direct, &request.key, request.seq);
        fail_point!("router");
        if let Some(seq) = place {
            self.take_place(&mut request, seq, direct);
            self.on_fetch_result(request, result, context);
        }
        self.advance();
    }

    fn on_fetch_result(
        &mut self,
        mut request: FetchRequest,
        result: FetchResult,
        context: &mut StageContext<'_, Self>,
    ) {
        let now = Instant::now();
        match result {
            FetchResult::Blob(blob) => {
                self.deps.scheduler.with(|scheduler| scheduler.answered(&request.host, now));
                let mut outdone = Vec::new();
                self.take_outdone(request.seq, &mut outdone);
                let with_value = |operation: Operation<AwaitedBlob>| Some(operation.with_blob(blob, outdone, now));
                self.lanes.blob_ended(&request.key, request.seq, with_value, &mut self.freed);
            }
            FetchResult::NotModified => {
                self.note_answer(&request, now);
                self.note(&request, Phase::Waiting, now);
                self.not_modified(request);
            }
            passed_on @ (FetchResult::NeedsTurn
            | FetchResult::Written { .. }
            | FetchResult::LetStand(_)
            | FetchResult::NotWritten(_)) => {
                self.note_answer(&request, now);
                self.on_passed_on(request, passed_on, context);
            }
            FetchResult::NeedsBytes(bytes) => {
                self.deps.scheduler.with(|scheduler| scheduler.answered(&request.host, now));
                self.note(&request, Phase::Waiting, now);
                request.attempts -= 1; // The host did its part: the blob waits for room.
                request.waits += 1;
                if request.waits > MAX_WAITS {
                    let detail =
                        "there was no memory for the blob each time it was asked for (intake.max_in_flight_bytes)";
                    return self.fail(&request, failure(&request, ProblemKind::BlobUnavailable, detail));
                }
                self.parked.insert(request.seq, (request, bytes));
            }
            FetchResult::GaveUp => {
                let begun = request.attempt_begun;
                self.deps.scheduler.with(|scheduler| scheduler.heard_nothing(&request.host, begun));
                self.note(&request, Phase::Waiting, now);
                request.attempts -= 1; // It made room for others; the host may still be well.
                request.given_up += 1;
                self.submit(request);
            }
            FetchResult::Lost if request.losses == 0 => {
                request.losses += 1; // Once only: this blob may be what breaks the fetcher.
                request.attempts -= 1;
                self.note(&request, Phase::Waiting, now);
                self.submit(request);
            }
            FetchResult::Lost => {
                let detail = "the fetch was lost: a part of the service failed";
                self.fail(&request, failure(&request, ProblemKind::Interrupted, detail));
            }
            FetchResult::Failed(error) => self.attempt_failed(request, error, context),
        }
    }

    /// Its host has answered, if it was asked.
    fn note_answer(&self, request: &FetchRequest, now: Instant) {
        if !request.is_same {
            self.deps.scheduler.with(|scheduler| scheduler.answered(&request.host, now));
        }
    }

    fn attempt_failed(&mut self, request: FetchRequest, error: FetchError, context: &mut StageContext<'_, Self>) {
        if error.silent {
            let begun = request.attempt_begun;
            let given_back = self.deps.scheduler.with(|scheduler| {
                scheduler.heard_nothing(&request.host, begun);
                if request.is_cut_short {
                    Vec::new()
                } else {
                    scheduler.was_silent(&request.host, begun, Instant::now())
                }
            });
            for request in given_back {
                self.fail_unasked(&request);
            }
        } else if !error.unasked {
            self.note_answer(&request, Instant::now());
        }
        if let Some(asked) = error.retry_after.filter(|asked| !asked.is_zero() && !error.elsewhere) {
            self.leave_alone(&request.host, asked, context);
        }
        match self.decide(&request, &error) {
            Decision::RetryAfter(pause) if Instant::now() + pause < request.deadline => {
                self.deps.metrics.fetch_retried();
                context.after(pause, |router, _| {
                    router.note(&request, Phase::Waiting, Instant::now());
                    router.submit(request);
                    router.advance();
                });
            }
            // The attempt was cut to the request's deadline, which is no failure of the host.
            _ if request.deadline <= Instant::now() && matches!(error.kind, FetchErrorKind::Unavailable) => {
                let detail = format!("the blob did not arrive in time; the last attempt failed: {}", error.detail);
                self.fail(&request, failure(&request, ProblemKind::Timeout, &detail));
            }
            _ => self.fail(&request, fetch_outcome(error, &request)),
        }
    }

    /// Whether there is another attempt.
    pub(super) fn decide(&self, request: &FetchRequest, error: &FetchError) -> Decision {
        let elapsed = request.begun.map(|begun| begun.elapsed()).unwrap_or_default();
        self.deps.limits.retry.decide(request.attempts, error, elapsed, fastrand::f64())
    }

    /// A host asked for it. No longer than a fetch may take: then it is asked again, and may say so once more.
    fn leave_alone(&mut self, host: &Arc<str>, asked: Duration, context: &mut StageContext<'_, Self>) {
        let (now, wait) = (Instant::now(), asked.min(self.deps.limits.retry.deadline));
        for request in self.deps.scheduler.with(|scheduler| scheduler.rest(host, now + asked, now + wait)) {
            self.fail_unasked(&request);
        }
        let host = host.clone();
        context.after(wait, move |router, _| {
            router.deps.scheduler.with(|scheduler| scheduler.rested(&host, Instant::now()));
            router.advance();
        });
    }

    /// Fails a request whose host is down, or rests for too long.
    fn fail_unasked(&mut self, request: &FetchRequest) {
        let outcome = match self.deps.scheduler.with(|scheduler| scheduler.asked_until(&request.host)) {
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                let detail = "the host asked for a pause (Retry-After) that is longer than the event can wait";
                lasting(failure(request, ProblemKind::BlobUnavailable, detail), left)
            }
            None => {
                let detail = "the host does not answer; while events name it, it is tried once a second";
                failure(request, ProblemKind::BlobUnavailable, detail)
            }
        };
        self.fail(request, outcome);
    }

    /// The request comes to nothing: its entry is answered, and its key goes on.
    pub(super) fn fail(&mut self, request: &FetchRequest, outcome: Outcome) {
        let settle = |operation: Operation<AwaitedBlob>| {
            operation.slot.settle(outcome, Instant::now());
            None
        };
        self.lanes.blob_ended(&request.key, request.seq, settle, &mut self.freed);
        self.release_outdone(request.seq);
        self.look_at_parked();
    }

    /// One of those that wait for bytes may have come to the head of its key.
    pub(super) fn look_at_parked(&self) {
        if !self.parked.is_empty() {
            self.own.post(RouterMessage::CapacityFreed);
        }
    }

    /// Fetches that wait for bytes, oldest first. Only the oldest head may draw on the reserve.
    pub(super) fn unpark(&mut self) {
        if self.parked.is_empty() {
            return;
        }
        self.deps.admission.want();
        let now = Instant::now();
        let mut leaving = Vec::new();
        let (mut is_oldest, mut refused) = (true, 0);
        for (seq, (request, bytes)) in &self.parked {
            if request.deadline <= now {
                leaving.push((*seq, None));
                continue;
            }
            let priority = match self.is_first(&request.key, *seq) {
                true if std::mem::take(&mut is_oldest) => FetchPriority::OldestHead,
                true => FetchPriority::Head,
                false => FetchPriority::Ahead,
            };
            match self.deps.admission.try_blob(*bytes, priority) {
                Some(permit) => leaving.push((*seq, Some(permit))),
                None if priority == FetchPriority::Ahead => {}
                None if refused < MAX_REFUSED => refused += 1,
                None => break,
            }
        }
        for (seq, permit) in leaving {
            let Some((mut request, _)) = self.parked.remove(&seq) else { continue };
            if permit.is_some() {
                request.prepaid = permit;
                self.submit(request);
            } else {
                let detail = "intake.max_in_flight_bytes had no room for the blob in time";
                self.fail(&request, failure(&request, ProblemKind::Timeout, detail));
            }
        }
    }

    /// The request goes on from its operation's place. If it was direct, its turn is of this router from now on.
    pub(super) fn take_place(&self, request: &mut FetchRequest, seq: Seq, direct: Option<u64>) {
        request.seq = seq;
        if direct.is_some() {
            request.generation = self.deps.scheduler.generation();
        }
    }

    /// Where the operation of an ended fetch stands; None if this epoch knows nothing of it.
    pub(super) fn place(&mut self, epoch: u64, direct: Option<u64>, key: &CacheKey, seq: Seq) -> Option<Seq> {
        let Some(number) = direct else { return (epoch == self.epoch).then_some(seq) };
        if let Some(operation) = self.deps.direct.take_over_number(key, number) {
            self.take_over((number, operation));
        }
        self.taken_over.remove(&number)
    }
}

/// What was asked, of whom, and why it failed.
pub(super) fn failure(request: &FetchRequest, kind: ProblemKind, why: &str) -> Outcome {
    let target = request.target.to_string();
    let end = (0..=MAX_SHOWN_URL_BYTES.min(target.len())).rev().find(|at| target.is_char_boundary(*at)).unwrap_or(0);
    let (shown, rest) = (&target[..end], if end < target.len() { "…" } else { "" });
    let FetchRequest { target, attempts, version, ttl, expected, .. } = request;
    let fetch = FailedFetch {
        target: target.clone(),
        attempts: *attempts,
        version: version.clone(),
        ttl: *ttl,
        is_checked: expected.is_some(),
    };
    let problem = Problem::new(kind, format!("GET {shown}{rest}: {why}"));
    Outcome::Failed(Problem { fetch: Some(Box::new(fetch)), ..problem })
}

fn fetch_outcome(error: FetchError, request: &FetchRequest) -> Outcome {
    let why = match request.attempts {
        0 | 1 => error.detail,
        attempts => format!("{} (attempt {attempts})", error.detail),
    };
    let outcome = failure(request, problem_kind(error.kind), &why);
    let is_overtaken = matches!(error.kind, FetchErrorKind::NotFound | FetchErrorKind::Changed);
    match lasting(outcome, error.retry_after.unwrap_or_default()) {
        Outcome::Failed(problem) => Outcome::Failed(Problem { is_overtaken, ..problem }),
        other => other,
    }
}

fn lasting(outcome: Outcome, wait: Duration) -> Outcome {
    match outcome {
        Outcome::Failed(problem) => Outcome::Failed(problem.lasting(wait)),
        other => other,
    }
}
