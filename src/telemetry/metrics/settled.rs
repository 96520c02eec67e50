//! Events that ended ok: how long they took and how old they were. All threads share the histograms, so those of one request
//! are counted together and handed over at once.

use std::time::Duration;

use prometheus::local::LocalHistogram;

use super::Metrics;

/// What is handed over when it is dropped.
pub struct Settled<'m> {
    metrics: &'m Metrics,
    delays: LocalHistogram,
    /// Most events carry no time.
    ages: Option<LocalHistogram>,
}

impl Metrics {
    /// For the events of one request, when there may be many.
    pub fn settled(&self) -> Settled<'_> {
        Settled { metrics: self, delays: self.inner.event_delay.local(), ages: None }
    }

    /// An event has ended ok: so long after it was accepted, and so long after its own time if it has one.
    pub fn event_settled(&self, delay: Duration, age: Option<Duration>) {
        self.inner.event_delay.observe(delay.as_secs_f64());
        if let Some(age) = age {
            self.inner.event_age.observe(age.as_secs_f64());
        }
    }
}

impl Settled<'_> {
    /// As [`Metrics::event_settled`].
    pub fn add(&mut self, delay: Duration, age: Option<Duration>) {
        self.delays.observe(delay.as_secs_f64());
        if let Some(age) = age {
            let ages = self.ages.get_or_insert_with(|| self.metrics.inner.event_age.local());
            ages.observe(age.as_secs_f64());
        }
    }
}
