//! What happened lately, for who looks at the service in a browser: what was counted every few seconds over a quarter of an
//! hour, and more coarsely over an hour and a day; the last failures; and the hosts that fail.
//!
//! Promises that it stays small, whatever is sent; that it costs nothing where events are counted, for it reads what the
//! metrics have counted; and that it holds no more of an event than the log does: no value, no token, no URL's query.

mod failures;
mod hosts;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use self::failures::Failures;
pub use self::failures::{Failed, KeptFailure, MAX_FAILURES, millis};
pub use self::hosts::FailingHost;
use self::hosts::FailingHosts;
use super::metrics::{EVENT_TYPES, Reading, Spread};
use crate::event::outcome::Class;

/// How often a reading is taken.
pub const STEP: Duration = Duration::from_secs(5);
/// Steps that are kept of each span.
pub const STEPS: usize = 180;

/// How far back one looks. Each span has the same number of steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Span {
    /// A quarter of an hour.
    #[default]
    Quarter,
    /// An hour.
    Hour,
    /// 24 hours.
    Day,
}

impl Span {
    /// Every span, the shortest first.
    pub const ALL: [Span; 3] = [Span::Quarter, Span::Hour, Span::Day];

    /// The name in a query.
    pub fn as_str(self) -> &'static str {
        match self {
            Span::Quarter => "15m",
            Span::Hour => "1h",
            Span::Day => "1d",
        }
    }

    /// The length of one step: a multiple of [`STEP`].
    pub fn step(self) -> Duration {
        STEP * self.readings() as u32
    }

    /// Readings that make one step.
    fn readings(self) -> usize {
        match self {
            Span::Quarter => 1,
            Span::Hour => 4,
            Span::Day => 96,
        }
    }
}

/// All that is kept: the status page reads it, and every server thread adds to it.
#[derive(Debug, Default)]
pub struct History(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// One for each [`Span::ALL`].
    rings: [Ring; Span::ALL.len()],
    failures: Failures,
    hosts: FailingHosts,
}

/// The samples of one span.
#[derive(Debug, Default)]
struct Ring {
    /// One more than there are steps.
    samples: VecDeque<Sample>,
    /// Readings since the last sample, and the most that held admission among them.
    readings: usize,
    most: (usize, usize),
}

/// What was there at the end of a step.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// All counters since the start, as they stood then.
    pub reading: Reading,
    /// Events that held admission: at that moment, and in a step of several readings the most of them.
    pub admission_events: usize,
    /// Bytes that were held of admission, likewise.
    pub admission_bytes: usize,
}

/// What happened within a step.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryStep {
    /// Its end, in milliseconds since 1970.
    pub until_ms: u64,
    /// Events that ended within the step, by [`EVENT_TYPES`] and [`Class::ALL`].
    pub events: [[u64; Class::ALL.len()]; EVENT_TYPES.len()],
    /// How long requests to `POST /events` took.
    pub requests: Quantiles,
    /// How long pipelines to the cache took.
    pub batches: Quantiles,
    /// How long events took, from their acceptance to their end.
    pub delays: Quantiles,
    /// Events that held admission at the end of the step.
    pub admission_events: usize,
    /// Bytes that were held of admission at the end of the step.
    pub admission_bytes: usize,
}

/// The figures of the last quarter of an hour together, as the readings name them.
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
        for (ring, span) in self.kept().rings.iter_mut().zip(Span::ALL) {
            ring.keep(&sample, span);
        }
    }

    /// Keeps a failure; the oldest goes. `ok` counts the blobs that its host has given so far.
    pub fn failed(&self, failed: &Failed<'_>, ok: u64, now: SystemTime) {
        let mut kept = self.kept();
        kept.hosts.failed(failed, ok, now);
        kept.failures.keep(failed, now);
    }

    /// The oldest first.
    pub fn steps(&self, span: Span) -> Vec<HistoryStep> {
        let kept = self.kept();
        let samples = &kept.rings[span as usize].samples;
        let pairs = samples.iter().zip(samples.iter().skip(1));
        pairs.map(|(before, after)| HistoryStep::between(before, after)).collect()
    }

    /// The newest step of the last quarter of an hour.
    pub fn last_step(&self) -> Option<HistoryStep> {
        let kept = self.kept();
        let mut newest = kept.rings[Span::Quarter as usize].samples.iter().rev();
        let (after, before) = (newest.next()?, newest.next()?);
        Some(HistoryStep::between(before, after))
    }

    /// Since when all samples of events and bytes in admission have passed the test, in milliseconds since 1970: the earliest
    /// of the last quarter of an hour. None: not even the newest does.
    pub fn admission_since(&self, passes: impl Fn((usize, usize)) -> bool) -> Option<u64> {
        let kept = self.kept();
        let newest_first = kept.rings[Span::Quarter as usize].samples.iter().rev();
        let such = newest_first.take_while(|sample| passes((sample.admission_events, sample.admission_bytes)));
        such.last().map(|sample| sample.at_ms)
    }

    /// From the oldest sample of the last quarter of an hour to this reading.
    pub fn overall(&self, now: &Reading) -> Overall {
        match self.kept().rings[Span::Quarter as usize].samples.front() {
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
        self.kept().failures.newest_first()
    }

    /// The hosts that have failed lately and have given nothing since; `ok` counts the blobs that a host has given so far.
    pub fn failing_hosts(&self, ok: impl Fn(&str) -> u64, now: SystemTime) -> Vec<FailingHost> {
        self.kept().hosts.still_failing(ok, now)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn keep(&mut self, sample: &Sample, span: Span) {
        let (events, bytes) = self.most;
        self.most = (events.max(sample.admission_events), bytes.max(sample.admission_bytes));
        self.readings += 1;
        if self.readings < span.readings() && !self.samples.is_empty() {
            return;
        }
        if self.samples.len() > STEPS {
            self.samples.pop_front();
        }
        let (admission_events, admission_bytes) = self.most;
        self.samples.push_back(Sample { admission_events, admission_bytes, ..sample.clone() });
        (self.readings, self.most) = (0, (0, 0));
    }
}

impl HistoryStep {
    fn between(before: &Sample, after: &Sample) -> HistoryStep {
        let (from, to) = (&before.reading, &after.reading);
        HistoryStep {
            until_ms: after.at_ms,
            events: std::array::from_fn(|event| {
                std::array::from_fn(|class| to.events[event][class].saturating_sub(from.events[event][class]))
            }),
            requests: Quantiles::between(&from.requests, &to.requests),
            batches: Quantiles::between(&from.batches, &to.batches),
            delays: Quantiles::between(&from.delays, &to.delays),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventType;
    use crate::telemetry::Metrics;

    fn sample(metrics: &Metrics, admission_events: usize) -> Sample {
        Sample { at_ms: 0, reading: metrics.read(), admission_events, admission_bytes: 2 }
    }

    #[test]
    fn a_step_is_what_happened_between_two_samples_and_old_ones_go() {
        let (metrics, history) = (Metrics::new("").unwrap(), History::default());
        assert!(history.steps(Span::Quarter).is_empty());
        for n in 0..STEPS as u64 + 20 {
            history.keep(sample(&metrics, 1));
            (0..n).for_each(|_| metrics.event_done(EventType::Set, Class::Ok));
        }
        let steps = history.steps(Span::Quarter);
        assert_eq!(steps.len(), STEPS);
        let counted: Vec<u64> = steps.iter().map(|step| step.events[0][0]).collect();
        assert_eq!(counted, (19..19 + STEPS as u64).collect::<Vec<_>>());
        assert_eq!((steps[0].admission_bytes, steps[0].requests), (2, Quantiles::default()));
        metrics.request_done("/events", 200, Duration::from_millis(2));
        metrics.settled().took(Duration::from_millis(2), None);
        let overall = history.overall(&metrics.read());
        assert!(overall.requests.p50.is_some() && overall.delays.p99.is_some() && overall.batches.p50.is_none());
    }

    #[test]
    fn an_hour_and_a_day_have_as_many_steps_of_more_readings_with_the_most_of_what_held_admission() {
        let (metrics, history) = (Metrics::new("").unwrap(), History::default());
        for n in 0..20_000 {
            history.keep(sample(&metrics, if n % 96 == 50 { 7 } else { 1 }));
            metrics.event_done(EventType::Set, Class::Ok);
        }
        for (span, readings) in Span::ALL.into_iter().zip([1, 4, 96]) {
            let steps = history.steps(span);
            assert_eq!((steps.len(), span.step()), (STEPS, STEP * readings), "{span:?}");
            assert!(steps.iter().all(|step| step.events[0][0] == u64::from(readings)), "{span:?}");
        }
        assert_eq!(STEP * 96 * STEPS as u32, Duration::from_secs(86_400));
        assert!(history.steps(Span::Day).iter().all(|step| step.admission_events == 7));
    }
}
