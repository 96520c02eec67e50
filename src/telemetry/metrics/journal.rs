//! What is counted of the journal and its dead letters.

use std::time::Duration;

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Registry};

use super::Metrics;
use super::labels::DEAD_LETTERS;
use crate::telemetry::series::{Result, Series, counter, counters, gauge, position, register};

#[derive(Debug)]
pub(super) struct JournalFamilies {
    accepted: IntCounter,
    events: IntGauge,
    oldest_age: Gauge,
    up: IntGauge,
    lease: IntGauge,
    redeliveries: IntCounter,
    dead_letters: IntGauge,
    buried: Series<IntCounterVec, IntCounter, { DEAD_LETTERS.len() }>,
    dropped: IntCounter,
}

impl JournalFamilies {
    pub fn new(r: &Registry) -> Result<Self> {
        let buried = counters(r, "dead_letters_total", "Events that became dead letters, by problem.", &["problem"])?;
        let families = JournalFamilies {
            accepted: counter(r, "journal_accepted_events_total", "Events that were answered 202.")?,
            events: gauge(r, "journal_events", "Events in the journal that are not done yet.")?,
            oldest_age: register(
                r,
                Gauge::new("journal_oldest_age_seconds", "Age of the oldest entry of the journal.")?,
            )?,
            up: gauge(r, "journal_up", "1 while the journal's Redis answers, or there is no journal.")?,
            lease: gauge(r, "journal_lease", "1 while this replica feeds the journal.")?,
            redeliveries: counter(
                r,
                "journal_redeliveries_total",
                "Events handed over again: after an attempt that failed, or after another replica.",
            )?,
            dead_letters: gauge(r, "dead_letters", "Dead letters that are kept.")?,
            buried: Series::new(buried, None, DEAD_LETTERS),
            dropped: counter(r, "dead_letters_dropped_total", "Dead letters that had to go, or could not be written.")?,
        };
        for problem in 0..DEAD_LETTERS.len() - 1 {
            families.buried.at(problem);
        }
        Ok(families)
    }
}

/// What is known of the journal.
#[derive(Debug, Clone, Copy)]
pub struct JournalReading {
    /// Whether its Redis answers.
    pub up: bool,
    /// Whether this replica feeds it.
    pub lease: bool,
    /// Events that are not done yet.
    pub events: i64,
    /// Of the oldest, in seconds.
    pub oldest_age: f64,
    /// Letters that are kept.
    pub dead_letters: i64,
}

impl Metrics {
    /// What was last known of the journal.
    pub fn read_journal(&self) -> JournalReading {
        let JournalFamilies { up, lease, events, oldest_age, dead_letters, .. } = &self.inner.journal;
        JournalReading {
            up: up.get() == 1,
            lease: lease.get() == 1,
            events: events.get(),
            oldest_age: oldest_age.get(),
            dead_letters: dead_letters.get(),
        }
    }

    /// So many events were answered 202.
    pub fn journal_accepted(&self, events: u64) {
        self.inner.journal.accepted.inc_by(events);
    }

    /// Whether the journal's Redis answers.
    pub fn set_journal_up(&self, is_up: bool) {
        self.inner.journal.up.set(i64::from(is_up));
    }

    /// Whether this replica feeds the journal.
    pub fn set_journal_lease(&self, is_held: bool) {
        self.inner.journal.lease.set(i64::from(is_held));
    }

    /// What the journal holds, how old the oldest of it is, and how many dead letters there are.
    pub fn set_journal(&self, events: u64, oldest_age: Duration, dead_letters: u64) {
        let journal = &self.inner.journal;
        journal.events.set(i64::try_from(events).unwrap_or(i64::MAX));
        journal.oldest_age.set(oldest_age.as_secs_f64());
        journal.dead_letters.set(i64::try_from(dead_letters).unwrap_or(i64::MAX));
    }

    /// What the journal holds.
    pub fn set_journal_events(&self, events: u64) {
        self.inner.journal.events.set(i64::try_from(events).unwrap_or(i64::MAX));
    }

    /// So many events are handed over again.
    pub fn journal_redelivered(&self, events: u64) {
        self.inner.journal.redeliveries.inc_by(events);
    }

    /// An event became a dead letter.
    pub fn dead_letter(&self, problem: &str) {
        self.inner.journal.buried.at(position(&DEAD_LETTERS, problem)).inc();
    }

    /// So many dead letters had to go, or could not be written.
    pub fn dead_letters_dropped(&self, letters: u64) {
        self.inner.journal.dropped.inc_by(letters);
    }
}
