//! What all workers share: settings, the pipeline, the metrics, and what is under way.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

use super::Settings;
use crate::event::EventType;
use crate::event::wire::{Answered, Element};
use crate::pipeline::Pipeline;
use crate::pipeline::job::{Refusal, Verdict};
use crate::telemetry::metrics::Metrics;

pub struct Shared {
    pub settings: Settings,
    pub pipeline: Pipeline,
    pub metrics: Metrics,
    pub cache_name: String,
    pub max_events: usize,
    busy: AtomicUsize,
    cut_off: AtomicBool,
}

/// A request under way.
pub struct Busy<'a>(&'a Shared);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, SeqCst);
    }
}

impl Shared {
    pub fn new(
        settings: Settings,
        pipeline: Pipeline,
        metrics: Metrics,
        cache_name: String,
        max_events: usize,
    ) -> Self {
        let (busy, cut_off) = (AtomicUsize::new(0), AtomicBool::new(false));
        Shared { settings, pipeline, metrics, cache_name, max_events, busy, cut_off }
    }

    pub fn enter(&self) -> Busy<'_> {
        self.busy.fetch_add(1, SeqCst);
        Busy(self)
    }

    /// Whether what is under way must be answered now.
    pub fn is_cut_off(&self) -> bool {
        self.cut_off.load(Relaxed)
    }

    /// Has all that is under way answered.
    pub fn cut_off(&self) {
        self.cut_off.store(true, Relaxed);
    }

    /// Requests under way.
    pub fn busy(&self) -> usize {
        self.busy.load(SeqCst)
    }

    /// Whether no request is under way, and nothing of one that was answered early.
    pub fn is_idle(&self) -> bool {
        self.busy() == 0 && self.pipeline.gate.is_idle()
    }

    /// Counts a verdict's events and entries.
    pub fn count(&self, verdict: &Verdict) {
        match verdict {
            Verdict::One(answered) => self.count_element(answered.event, answered),
            Verdict::Batch(elements) => {
                for element in elements {
                    match element {
                        Element::Answered(answered) => self.count_element(answered.event, answered),
                        Element::Invalid(invalid) => self.metrics.event_rejected(invalid.event),
                    }
                }
            }
            Verdict::Refused(Refusal::Invalid(invalid)) => self.metrics.event_rejected(invalid.event),
            Verdict::Refused(_) => {}
        }
    }

    fn count_element(&self, event: EventType, answered: &Answered) {
        self.metrics.event_done(event, answered.class());
        for outcome in &answered.outcomes {
            self.metrics.entries_done(event, outcome.status(), 1);
        }
    }
}
