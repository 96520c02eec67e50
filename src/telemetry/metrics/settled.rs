//! What became of the events of one request. All threads share the counters and histograms, so they are counted together and
//! handed over at once.

use std::time::Duration;

use prometheus::local::LocalHistogram;

use super::Metrics;
use super::labels::STATUSES;
use crate::event::EventType;
use crate::event::outcome::Class;
use crate::telemetry::series::position;

/// What is handed over when it is dropped.
pub struct Settled<'m> {
    metrics: &'m Metrics,
    /// Counts by type and class, and by type and status.
    events: [[u64; Class::ALL.len()]; EventType::ALL.len()],
    entries: [[u64; STATUSES.len()]; EventType::ALL.len()],
    /// The last status of each type, and its place among all: mostly the next is the same.
    last: [(&'static str, usize); EventType::ALL.len()],
    delays: LocalHistogram,
    /// Most events carry no time.
    ages: Option<LocalHistogram>,
}

impl Metrics {
    /// For the events of one request, when there may be many.
    pub fn settled(&self) -> Settled<'_> {
        let (events, entries) = Default::default();
        let last = [("", 0); EventType::ALL.len()];
        Settled { metrics: self, events, entries, last, delays: self.inner.event_delay.local(), ages: None }
    }

    /// Counts an event that ended ok, with the time since it was accepted and the time since its own time, if it has one.
    pub fn event_settled(&self, delay: Duration, age: Option<Duration>) {
        self.inner.event_delay.observe(delay.as_secs_f64());
        if let Some(age) = age {
            self.inner.event_age.observe(age.as_secs_f64());
        }
    }
}

impl Settled<'_> {
    /// Does what [`Metrics::event_done`] does.
    pub fn event(&mut self, event: EventType, class: Class) {
        self.events[event as usize][class as usize] += 1;
    }

    /// Does what [`Metrics::entry_done`] does.
    pub fn entry(&mut self, event: EventType, status: &'static str) {
        let (last, place) = &mut self.last[event as usize];
        if !std::ptr::eq(*last, status) {
            (*last, *place) = (status, position(&STATUSES, status));
        }
        self.entries[event as usize][*place] += 1;
    }

    /// Does what [`Metrics::event_settled`] does.
    pub fn took(&mut self, delay: Duration, age: Option<Duration>) {
        self.delays.observe(delay.as_secs_f64());
        if let Some(age) = age {
            let ages = self.ages.get_or_insert_with(|| self.metrics.inner.event_age.local());
            ages.observe(age.as_secs_f64());
        }
    }
}

impl Drop for Settled<'_> {
    fn drop(&mut self) {
        let inner = &self.metrics.inner;
        for event in EventType::ALL {
            let (events, entries) = (self.events[event as usize], self.entries[event as usize]);
            for (class, count) in events.into_iter().enumerate().filter(|(_, count)| *count > 0) {
                inner.events[event as usize][class].inc_by(count);
            }
            for (status, count) in entries.into_iter().enumerate().filter(|(_, count)| *count > 0) {
                inner.entries[event as usize].at(status).inc_by(count);
            }
        }
    }
}
