//! What all workers share: settings, the pipeline, the metrics, and what is under way.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Instant, SystemTime};

use bytes::Bytes;

use super::page::Pages;
use super::{Settings, openapi};
use crate::event::outcome::Outcome;
use crate::event::wire::{Answered, Element};
use crate::pipeline::Pipeline;
use crate::pipeline::job::{Refusal, Verdict};
use crate::telemetry::history::Failed;
use crate::telemetry::metrics::Metrics;

pub struct Shared {
    pub settings: Settings,
    pub pipeline: Pipeline,
    pub metrics: Metrics,
    pub cache_name: String,
    pub max_events: usize,
    /// None if they are switched off.
    pub pages: Option<Pages>,
    pub openapi: Bytes,
    pub begun: Instant,
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
        let openapi = openapi::document(&settings, pipeline.limits()).into();
        let pages = settings.page.then(Pages::new);
        let (busy, cut_off) = (AtomicUsize::new(0), AtomicBool::new(false));
        Shared {
            settings,
            pipeline,
            metrics,
            cache_name,
            max_events,
            pages,
            openapi,
            begun: Instant::now(),
            busy,
            cut_off,
        }
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

    /// Remembers it for who looks at the page.
    pub fn failed(&self, failed: Failed<'_>) {
        if let Some(pages) = &self.pages {
            pages.history.failed(failed, SystemTime::now());
        }
    }

    /// Counts a verdict's events and entries.
    pub fn count(&self, verdict: &Verdict) {
        match verdict {
            Verdict::One(answered) => self.count_answered(answered, 1),
            Verdict::Batch(elements) => self.count_batch(elements),
            Verdict::Refused(Refusal::Invalid(invalid)) => self.metrics.event_rejected(invalid.event),
            Verdict::Refused(_) => {}
        }
    }

    /// All threads share the counters, so neighbours that are alike are counted at once.
    fn count_batch(&self, elements: &[Element]) {
        for alike in elements.chunk_by(are_alike) {
            match alike.first() {
                Some(Element::Answered(answered)) => self.count_answered(answered, alike.len() as u64),
                Some(Element::Invalid(invalid)) => self.metrics.event_rejected(invalid.event),
                None => {}
            }
        }
    }

    fn count_answered(&self, answered: &Answered, times: u64) {
        self.metrics.events_done(answered.event, answered.class(), times);
        for outcome in &answered.outcomes {
            self.metrics.entries_done(answered.event, outcome.status(), times);
        }
    }
}

fn are_alike(one: &Element, other: &Element) -> bool {
    match (one, other) {
        (Element::Answered(one), Element::Answered(other)) => {
            let (ours, theirs) = (one.outcomes.iter().map(Outcome::status), other.outcomes.iter().map(Outcome::status));
            one.event == other.event && ours.eq(theirs)
        }
        _ => false,
    }
}
