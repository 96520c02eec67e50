//! What all workers share: settings, the pipeline, the metrics, and what is under way.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;

use super::HttpSettings;
use super::auth::Holder;
use super::load::WorkerLoad;
use super::openapi::Documents;
use super::page::html::Pages;
use super::sampled::SampledLines;
use super::slow::SlowLog;
use super::sources::{self, Sources};
use super::unproven::UnprovenBodies;
use crate::event::outcome::{Class, Outcome};
use crate::event::rejection::Rejection;
use crate::event::trace::Trace;
use crate::event::wire::{Answered, EventResult};
use crate::journal::Journal;
use crate::pipeline::Pipeline;
use crate::pipeline::work::reply::Verdict;
use crate::telemetry::history::Failed;
use crate::telemetry::metrics::{Metrics, Settled};

/// What the wait of the oldest event adds to `Retry-After`, in seconds, before jitter.
const MAX_RETRY_AFTER: u64 = 10;

pub struct HttpState {
    pub settings: HttpSettings,
    pub pipeline: Pipeline,
    pub metrics: Metrics,
    /// None: there is no journal.
    pub journal: Option<Journal>,
    pub cache_name: String,
    pub max_events: usize,
    /// None if they are switched off.
    pub pages: Option<Pages>,
    pub openapi: Documents,
    pub begun: Instant,
    /// By which this process is told from others: made at its start.
    pub instance: String,
    pub slow: SlowLog,
    pub lines: SampledLines,
    pub unproven: UnprovenBodies,
    pub sources: Sources,
    /// What belongs to no worker.
    pub others: WorkerLoad,
    workers: Mutex<Vec<Arc<WorkerLoad>>>,
    cut_off: CancellationToken,
}

/// How many events ended in each class, by [`Class::ALL`]. A request that became no work has none, but for an invalid one.
fn classes(verdict: &Verdict) -> [u64; Class::ALL.len()] {
    let mut classes = [0; Class::ALL.len()];
    match verdict {
        Verdict::One(answered) => classes[answered.class() as usize] += 1,
        Verdict::Batch(elements) => elements.iter().for_each(|element| classes[element.class() as usize] += 1),
        Verdict::Rejected(Rejection::Invalid(_)) => classes[Class::Rejected as usize] += 1,
        Verdict::Rejected(_) => {}
    }
    classes
}

/// The seconds of `Retry-After` from the wait of the oldest event: between that wait and its double.
fn retry_after(age: Duration) -> RangeInclusive<u64> {
    let least = 1 + age.as_secs().min(MAX_RETRY_AFTER);
    least..=2 * least
}

impl HttpState {
    pub fn new(
        settings: HttpSettings,
        pipeline: Pipeline,
        (metrics, journal): (Metrics, Option<Journal>),
        cache_name: String,
        max_events: usize,
    ) -> Self {
        let openapi = Documents::new(&settings, pipeline.limits());
        let pages = settings.page.then(Pages::new);
        let (slow, begun) = (SlowLog::new(settings.slow), Instant::now());
        let lines = SampledLines::new(settings.lines_one_in);
        let unproven = UnprovenBodies::new(settings.max_unproven_bytes);
        let keys = settings.keys.clone();
        let sources = Sources::new(settings.sources.clone(), settings.auth.clone(), keys, metrics.clone());
        HttpState {
            settings,
            pipeline,
            metrics,
            journal,
            cache_name,
            max_events,
            pages,
            openapi,
            begun,
            instance: format!("{:032x}", fastrand::u128(..)),
            slow,
            lines,
            unproven,
            sources,
            others: WorkerLoad::new(begun),
            workers: Mutex::default(),
            cut_off: CancellationToken::new(),
        }
    }

    /// Takes no new events; what is under way is answered by this time.
    pub fn drain(&self, cut_off: Instant) {
        self.pipeline.readiness.drain();
        self.journal.iter().for_each(|journal| journal.ends_at(cut_off));
    }

    /// Whether what is under way must be answered now. It takes a lock that all threads share.
    pub fn is_cut_off(&self) -> bool {
        self.cut_off.is_cancelled()
    }

    /// Returns when what is under way must be answered.
    pub async fn until_cut_off(&self) {
        self.cut_off.cancelled().await;
    }

    /// Has all that is under way answered.
    pub fn cut_off(&self) {
        self.cut_off.cancel();
    }

    /// Requests under way.
    pub fn busy(&self) -> usize {
        self.others.busy() + self.workers().iter().map(|worker| worker.busy()).sum::<usize>()
    }

    /// Whether no request is under way, and nothing of one that was answered early: no work, and no dead letter.
    pub fn is_idle(&self) -> bool {
        let has_letters = || self.journal.as_ref().is_some_and(Journal::has_letters_on_their_way);
        self.busy() == 0 && self.pipeline.admission.is_idle() && !has_letters()
    }

    /// Where a worker is to say what it has in hand.
    pub fn enrol(&self) -> Arc<WorkerLoad> {
        let load = Arc::new(WorkerLoad::new(self.begun));
        self.workers().push(load.clone());
        load
    }

    fn workers(&self) -> MutexGuard<'_, Vec<Arc<WorkerLoad>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The age of the oldest event that waits for its answer, as of a moment ago; zero if there is none.
    pub fn oldest_age(&self) -> Duration {
        let since = self.workers().iter().filter_map(|worker| worker.oldest_since()).min();
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether nothing is asked for on any port.
    pub fn is_open(&self) -> bool {
        self.settings.auth.is_open() && !self.settings.asks_for_certificates
    }

    /// Whether nothing is asked for on this path.
    pub fn is_open_at(&self, path: &str) -> bool {
        self.is_open()
            && sources::name(path).and_then(|name| self.sources.find(name)).is_none_or(|source| source.is_open())
    }

    /// Seconds after which a sender may try again: more the longer the oldest event has been waiting, and not the same for
    /// all, so that they do not come back together.
    pub fn retry_after(&self) -> u64 {
        fastrand::u64(retry_after(self.oldest_age()))
    }

    /// Remembers it for who looks at the page.
    pub fn failed(&self, failed: &Failed<'_>) {
        let Some(pages) = &self.pages else { return };
        let ok = failed.fetch.map_or(0, |fetch| self.metrics.blobs_given(&fetch.target.authority()));
        pages.history.failed(failed, ok, SystemTime::now());
    }

    /// Counts a verdict's events and entries, for the holder of the token too; of a rejection, `problem` is the last part of
    /// its type.
    pub fn count(&self, verdict: &Verdict, problem: &str, holder: Option<&Holder>) {
        if let Some(holder) = holder {
            holder.metrics.ended(classes(verdict));
        }
        match verdict {
            Verdict::One(answered) => self.count_answered(answered, &mut self.metrics.settled()),
            Verdict::Batch(elements) => self.count_batch(elements),
            Verdict::Rejected(why) => {
                self.metrics.request_refused(problem);
                if let Rejection::Invalid(invalid) = why {
                    self.metrics.event_rejected(invalid.event);
                }
            }
        }
    }

    /// Remembers the trace of a request that its caller samples, beside the delays of its events.
    pub fn sampled(&self, verdict: &Verdict, trace: &Trace) {
        let ok = |answered: &&Answered| answered.class() == Class::Ok;
        match verdict {
            Verdict::One(answered) => {
                self.metrics.events_sampled([answered].into_iter().filter(ok).map(|one| one.delay()), trace)
            }
            Verdict::Batch(elements) => {
                let answered = elements.iter().filter_map(|element| match element {
                    EventResult::Answered(answered) => Some(answered),
                    EventResult::Invalid(_) => None,
                });
                self.metrics.events_sampled(answered.filter(ok).map(Answered::delay), trace);
            }
            Verdict::Rejected(_) => {}
        }
    }

    fn count_batch(&self, elements: &[EventResult]) {
        let mut settled = self.metrics.settled();
        for element in elements {
            match element {
                EventResult::Answered(answered) => self.count_answered(answered, &mut settled),
                EventResult::Invalid(invalid) => {
                    self.metrics.event_rejected(invalid.event);
                    self.metrics.event_failed(invalid);
                }
            }
        }
    }

    fn count_answered(&self, answered: &Answered, settled: &mut Settled<'_>) {
        let class = answered.class();
        settled.event(answered.event, class);
        for outcome in &answered.outcomes {
            settled.entry(answered.event, outcome.status());
        }
        if class == Class::Ok {
            return settled.took(answered.delay(), answered.age());
        }
        for problem in answered.outcomes.iter().filter_map(Outcome::problem) {
            self.metrics.entry_failed(answered.event, problem.kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_sent_away_comes_back_later_the_longer_others_wait_and_not_with_the_others() {
        let after = |seconds| retry_after(Duration::from_secs(seconds));
        assert_eq!([0, 1, 5, 10, 11, 3600].map(after), [1..=2, 2..=4, 6..=12, 11..=22, 11..=22, 11..=22]);
        for seconds in [0, 5, 3600] {
            let told: std::collections::HashSet<u64> = (0..1000).map(|_| fastrand::u64(after(seconds))).collect();
            assert!(told.len() > 1 && told.iter().all(|told| after(seconds).contains(told)), "{told:?}");
        }
    }
}
