//! What is counted of each source. Their names come from the settings, so they are few.

use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, Registry};

use super::Metrics;
use super::labels::AGE_BUCKETS;
use super::senders::ACCEPTED;
use crate::event::outcome::Class;
use crate::event::sources::Ignored;
use crate::telemetry::series::{Result, counters, durations};

#[derive(Debug)]
pub(super) struct SourceFamilies {
    received: IntCounterVec,
    ignored: IntCounterVec,
    events: IntCounterVec,
    lag: HistogramVec,
}

impl SourceFamilies {
    pub fn new(registry: &Registry) -> Result<Self> {
        Ok(SourceFamilies {
            received: counters(
                registry,
                "source_elements_total",
                "Elements of the notifications that a source has sent.",
                &["source"],
            )?,
            ignored: counters(
                registry,
                "source_ignored_total",
                "Elements of notifications that change nothing, by why.",
                &["source", "reason"],
            )?,
            events: counters(
                registry,
                "source_events_total",
                "Events that a source's notifications have become, by outcome.",
                &["source", "outcome"],
            )?,
            lag: durations(
                registry,
                "source_lag_seconds",
                "From a change at the storage to the cache; changes that were carried out.",
                &AGE_BUCKETS,
                &["source"],
            )?,
        })
    }
}

/// Counts for one source.
#[derive(Debug, Clone)]
pub struct SourceMetrics {
    received: IntCounter,
    ignored: [IntCounter; Ignored::ALL.len()],
    events: [IntCounter; Class::ALL.len()],
    accepted: IntCounter,
    lag: Histogram,
}

impl Metrics {
    /// The counters of this source, which show from now on.
    pub fn source(&self, name: &str) -> SourceMetrics {
        let families = &self.inner.sources;
        SourceMetrics {
            received: families.received.with_label_values(&[name]),
            ignored: Ignored::ALL.map(|why| families.ignored.with_label_values(&[name, why.as_str()])),
            events: Class::ALL.map(|class| families.events.with_label_values(&[name, class.as_str()])),
            accepted: families.events.with_label_values(&[name, ACCEPTED]),
            lag: families.lag.with_label_values(&[name]),
        }
    }

    /// A change that a source's notification told of, and the journal has kept, was carried out, so long after it happened.
    pub fn kept_change_done(&self, source: &str, lag: Duration) {
        self.inner.sources.lag.with_label_values(&[source]).observe(lag.as_secs_f64());
    }
}

impl SourceMetrics {
    /// Counts a notification with this number of elements.
    pub fn received(&self, elements: usize) {
        self.received.inc_by(elements as u64);
    }

    /// So many of them change nothing, by [`Ignored::ALL`].
    pub fn ignored(&self, by_reason: &[u64; Ignored::ALL.len()]) {
        for (counter, count) in self.ignored.iter().zip(by_reason).filter(|(_, count)| **count > 0) {
            counter.inc_by(*count);
        }
    }

    /// Counts events of a notification that ended so, by [`Class::ALL`].
    pub fn ended(&self, events: [u64; Class::ALL.len()]) {
        self.events.iter().zip(events).filter(|(_, events)| *events > 0).for_each(|(own, events)| own.inc_by(events));
    }

    /// Counts events of a notification that the journal has, and others of it that were refused.
    pub fn kept(&self, accepted: u64, refused: u64) {
        self.accepted.inc_by(accepted);
        self.events[Class::Rejected as usize].inc_by(refused);
    }

    /// Counts changes of one notification that were carried out, with the time since each happened. What threads share is touched
    /// once for all of them.
    pub fn lags(&self, lags: impl Iterator<Item = Duration>) {
        let local = self.lag.local();
        lags.for_each(|lag| local.observe(lag.as_secs_f64()));
        local.flush();
    }

    /// Elements received so far, and of those the ignored ones.
    pub fn counts(&self) -> (u64, u64) {
        (self.received.get(), self.ignored.iter().map(IntCounter::get).sum())
    }

    /// The mean lag so far, in seconds; None if there was no change yet.
    pub fn mean_lag(&self) -> Option<f64> {
        let count = self.lag.get_sample_count();
        (count > 0).then(|| self.lag.get_sample_sum() / count as f64)
    }
}
