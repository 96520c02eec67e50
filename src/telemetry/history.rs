//! The last quarter of an hour, for who looks at the service in a browser: what was counted every few seconds, and the
//! last failures.
//!
//! Promises that it stays small, whatever is sent; that it costs nothing where events are counted, for it reads what the
//! metrics have counted; and that it holds no more of an event than the log does: no value, no token, no URL's query.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::metrics::{EVENT_TYPES, Reading, Spread};
use crate::event::outcome::Class;

/// How often a reading is kept.
pub const STEP: Duration = Duration::from_secs(5);
/// Steps that are kept: fifteen minutes.
pub const STEPS: usize = 180;
/// Failures that are kept.
pub const MAX_FAILURES: usize = 50;
/// Bytes of a failure's texts, each.
const MAX_TEXT_BYTES: usize = 300;

/// The steps and the failures that are kept: the status page reads them, and every server thread adds to them.
#[derive(Debug, Default)]
pub struct History(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// One more than there are steps.
    samples: VecDeque<Sample>,
    failures: VecDeque<KeptFailure>,
}

/// What was there at the end of a step.
#[derive(Debug, Clone)]
pub struct Sample {
    /// All counters since the start, as they stood then.
    pub reading: Reading,
    /// Events that held admission at that moment.
    pub admission_events: usize,
    /// Bytes that were held of admission at that moment.
    pub admission_bytes: usize,
}

/// What is told of an event or request that failed.
#[derive(Debug, Clone, Copy)]
pub struct Failed<'a> {
    /// The type of the event; empty if it could not be read.
    pub event: &'static str,
    /// Empty if it has none.
    pub id: &'a str,
    /// The last part of the problem's type.
    pub problem: &'static str,
    /// The problem's detail; longer texts are cut.
    pub detail: &'a str,
    /// The id of the request, as in the log and in the response's `x-request-id`.
    pub request_id: &'a str,
}

/// A [`Failed`] event or request as it is kept, with its texts cut to 300 bytes each.
#[derive(Debug, Clone)]
pub struct KeptFailure {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The event's type; empty if that could not be told.
    pub event: &'static str,
    /// The event's own id; empty if it has none.
    pub id: String,
    /// The last part of the problem's type.
    pub problem: &'static str,
    /// The problem's detail.
    pub detail: String,
    /// The id of the request, to find it in the log.
    pub request_id: String,
}

/// What happened within a step.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryStep {
    /// Events that ended within the step, by [`EVENT_TYPES`] and [`Class::ALL`].
    pub events: [[u64; Class::ALL.len()]; EVENT_TYPES.len()],
    /// How long requests to `POST /events` took.
    pub requests: Quantiles,
    /// How long pipelines to the cache took.
    pub batches: Quantiles,
    /// Events that held admission at the end of the step.
    pub admission_events: usize,
    /// Bytes that were held of admission at the end of the step.
    pub admission_bytes: usize,
}

/// The figures of all kept steps together, as the readings name them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Overall {
    /// How long requests to `POST /events` took.
    pub requests: Quantiles,
    /// How long pipelines to the cache took.
    pub batches: Quantiles,
    /// How long events took, from their acceptance to their end.
    pub delays: Quantiles,
}

/// Seconds; none if there was nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quantiles {
    /// The median: half of them took no longer.
    pub p50: Option<f64>,
    /// 99 of 100 took no longer.
    pub p99: Option<f64>,
}

impl History {
    /// Keeps what is there at the end of a step; the oldest goes.
    pub fn keep(&self, sample: Sample) {
        let samples = &mut self.kept().samples;
        if samples.len() > STEPS {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// Keeps a failure; the oldest goes.
    pub fn failed(&self, failed: Failed<'_>, now: SystemTime) {
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let failure = KeptFailure {
            at_ms: since_epoch.as_millis() as u64,
            event: failed.event,
            id: cut(failed.id),
            problem: failed.problem,
            detail: cut(failed.detail),
            request_id: cut(failed.request_id),
        };
        let failures = &mut self.kept().failures;
        if failures.len() == MAX_FAILURES {
            failures.pop_front();
        }
        failures.push_back(failure);
    }

    /// The oldest first.
    pub fn steps(&self) -> Vec<HistoryStep> {
        let kept = self.kept();
        let pairs = kept.samples.iter().zip(kept.samples.iter().skip(1));
        pairs.map(|(before, after)| HistoryStep::between(before, after)).collect()
    }

    /// From the oldest sample to this reading.
    pub fn overall(&self, now: &Reading) -> Overall {
        match self.kept().samples.front() {
            Some(Sample { reading: first, .. }) => Overall {
                requests: Quantiles::between(&first.requests, &now.requests),
                batches: Quantiles::between(&first.batches, &now.batches),
                delays: Quantiles::between(&first.delays, &now.delays),
            },
            None => Overall::default(),
        }
    }

    /// The newest first.
    pub fn failures(&self) -> Vec<KeptFailure> {
        self.kept().failures.iter().rev().cloned().collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HistoryStep {
    fn between(before: &Sample, after: &Sample) -> HistoryStep {
        let (from, to) = (&before.reading, &after.reading);
        HistoryStep {
            events: std::array::from_fn(|event| {
                std::array::from_fn(|class| to.events[event][class].saturating_sub(from.events[event][class]))
            }),
            requests: Quantiles::between(&from.requests, &to.requests),
            batches: Quantiles::between(&from.batches, &to.batches),
            admission_events: after.admission_events,
            admission_bytes: after.admission_bytes,
        }
    }
}

impl Quantiles {
    fn between(before: &Spread, after: &Spread) -> Self {
        let quantile = |part| after.quantile_since(before, part);
        Quantiles { p50: quantile(0.5), p99: quantile(0.99) }
    }
}

fn cut(text: &str) -> String {
    let beyond = text.char_indices().find(|(at, character)| at + character.len_utf8() > MAX_TEXT_BYTES);
    beyond.map_or_else(|| text.to_owned(), |(at, _)| format!("{}…", &text[..at]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventType;
    use crate::telemetry::Metrics;

    fn sample(metrics: &Metrics) -> Sample {
        Sample { reading: metrics.read(), admission_events: 1, admission_bytes: 2 }
    }

    #[test]
    fn a_step_is_what_happened_between_two_samples_and_old_ones_go() {
        let (metrics, history) = (Metrics::new("").unwrap(), History::default());
        assert!(history.steps().is_empty());
        for n in 0..STEPS as u64 + 20 {
            history.keep(sample(&metrics));
            (0..n).for_each(|_| metrics.event_done(EventType::Set, Class::Ok));
        }
        let steps = history.steps();
        assert_eq!(steps.len(), STEPS);
        let counted: Vec<u64> = steps.iter().map(|step| step.events[0][0]).collect();
        assert_eq!(counted, (19..19 + STEPS as u64).collect::<Vec<_>>());
        assert_eq!((steps[0].admission_bytes, steps[0].requests), (2, Quantiles::default()));
        metrics.request_done("/events", 200, Duration::from_millis(2));
        metrics.event_settled(Duration::from_millis(2), None);
        let overall = history.overall(&metrics.read());
        assert!(overall.requests.p50.is_some() && overall.delays.p99.is_some() && overall.batches.p50.is_none());
    }

    #[test]
    fn failures_are_bounded_in_number_and_length_the_newest_first() {
        let history = History::default();
        let long = "é".repeat(MAX_TEXT_BYTES);
        for n in 0..MAX_FAILURES + 5 {
            let failed =
                Failed { event: "SET", id: &n.to_string(), problem: "timeout", detail: &long, request_id: "r" };
            history.failed(failed, UNIX_EPOCH + Duration::from_millis(n as u64));
        }
        let failures = history.failures();
        assert_eq!(failures.len(), MAX_FAILURES);
        assert_eq!((failures[0].id.as_str(), failures[0].at_ms), ("54", 54));
        assert_eq!(failures[49].id, "5");
        assert!(failures.iter().all(|failure| failure.detail.len() <= MAX_TEXT_BYTES + '…'.len_utf8()));
    }
}
