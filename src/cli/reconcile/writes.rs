//! What is changed goes through a pipeline of this process, in batches, a few at a time: with the limits, attempts and
//! conditions of the daemon.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;

use super::progress::{ReconcileCounts, show};
use crate::cache::Cache;
use crate::cli::screen::Screen;
use crate::event::outcome::{Class, Outcome};
use crate::event::version::Version;
use crate::event::wire::EventResult;
use crate::event::{Action, CacheKey, Event, SetEntry};
use crate::pipeline::work::reply::Verdict;
use crate::pipeline::{self, Pipeline, PipelineSettings, Submitter};
use crate::telemetry::metrics::Metrics;

/// Events of one batch, and batches at once.
const BATCH: usize = 64;
const AT_ONCE: usize = 4;
/// Attempts at an event that may succeed later, and the pause before the next, longer each time.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// The pipeline with what is on its way through it.
pub struct Writes {
    pipeline: Pipeline,
    submitter: Submitter,
    waiting: Vec<Event>,
    under_way: FuturesUnordered<LocalBoxFuture<'static, Vec<Written>>>,
}

/// An event and what became of it: nothing if it is in order, else why it is not.
struct Written {
    is_superseded: bool,
    is_delete: bool,
    failure: Option<String>,
}

impl Writes {
    /// # Errors
    ///
    /// Why there is no pipeline.
    pub fn new(settings: PipelineSettings, cache: Arc<dyn Cache>) -> Result<Self, String> {
        let metrics = Metrics::new("").map_err(|error| error.to_string())?;
        // One thread hands events in. Actors of a second thread would never start, and what is sent to them would be lost.
        let settings = PipelineSettings { workers: 1, ..settings };
        let pipeline = pipeline::build(settings, cache, &metrics).map_err(|error| error.to_string())?;
        let submitter = pipeline.submitter();
        Ok(Writes { pipeline, submitter, waiting: Vec::new(), under_way: FuturesUnordered::new() })
    }

    pub async fn set(&mut self, entry: SetEntry, version: Version, counts: &mut ReconcileCounts, screen: &mut Screen) {
        self.add(Action::Set([entry].into_iter().collect()), version, counts, screen).await;
    }

    pub async fn delete(&mut self, key: CacheKey, version: Version, counts: &mut ReconcileCounts, screen: &mut Screen) {
        self.add(Action::Delete([key].into_iter().collect()), version, counts, screen).await;
    }

    async fn add(&mut self, action: Action, version: Version, counts: &mut ReconcileCounts, screen: &mut Screen) {
        self.waiting.push(Event { id: None, version: Some(version), time: None, action });
        if self.waiting.len() >= BATCH {
            self.submit();
        }
        while self.under_way.len() >= AT_ONCE {
            self.take_one(counts, screen).await;
        }
    }

    /// Waits for all that is left.
    pub async fn finish(&mut self, counts: &mut ReconcileCounts, screen: &mut Screen) {
        self.submit();
        while !self.under_way.is_empty() {
            self.take_one(counts, screen).await;
            show(screen, counts, true);
        }
    }

    fn submit(&mut self) {
        let events = std::mem::take(&mut self.waiting);
        if !events.is_empty() {
            let (pipeline, submitter) = (self.pipeline.clone(), self.submitter.clone());
            self.under_way.push(Box::pin(carry_out(pipeline, submitter, events)));
        }
    }

    async fn take_one(&mut self, counts: &mut ReconcileCounts, screen: &mut Screen) {
        for written in self.under_way.next().await.unwrap_or_default() {
            match (written.failure, written.is_superseded) {
                (Some(why), _) => {
                    counts.failed += 1;
                    screen.tell(&format!("left as it is: {why}"));
                }
                (None, true) => counts.newer += 1,
                (None, false) if written.is_delete => counts.deleted += 1,
                (None, false) => counts.set += 1,
            }
        }
    }
}

/// Has a batch carried out, and what may succeed later once more.
async fn carry_out(pipeline: Pipeline, submitter: Submitter, mut events: Vec<Event>) -> Vec<Written> {
    let mut done = Vec::with_capacity(events.len());
    for attempt in 1.. {
        let permit = pipeline.admission.permit();
        let sent = events.iter().cloned().map(Ok).collect();
        let verdict = submitter.submit_events(sent, true, permit, None).await;
        let is_last = attempt >= ATTEMPTS;
        let results = match verdict {
            Verdict::Batch(results) => results,
            Verdict::One(answered) => vec![EventResult::Answered(answered)],
            Verdict::Rejected(_) => Vec::new(),
        };
        let mut left = Vec::new();
        let mut results = results.into_iter();
        for event in events {
            match results.next() {
                Some(result) if is_last || result.class() != Class::Unavailable => done.push(written(&event, &result)),
                None if is_last => done.push(refused(&event, "the pipeline had no room".to_owned())),
                _ => left.push(event),
            }
        }
        if left.is_empty() {
            break;
        }
        events = left;
        actix_rt::time::sleep(PAUSE * attempt).await;
    }
    done
}

fn written(event: &Event, result: &EventResult) -> Written {
    let is_delete = matches!(event.action, Action::Delete(_));
    let EventResult::Answered(answered) = result else {
        return refused(event, "it is not a valid event".to_owned());
    };
    let problem = answered.outcomes.iter().find_map(Outcome::problem);
    if let Some(problem) = problem.filter(|problem| !problem.is_overtaken) {
        return refused(event, problem.detail.to_string());
    }
    // What has gone or changed since it was listed is told of by a notification of its own.
    let is_superseded =
        problem.is_some() || answered.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Superseded));
    Written { is_superseded, is_delete, failure: None }
}

fn refused(event: &Event, why: String) -> Written {
    let key = match &event.action {
        Action::Set(entries) => entries.first().map(|entry| &entry.key),
        Action::Get(keys) | Action::Delete(keys) => keys.first(),
        Action::DeletePattern { .. } => None,
    };
    let key = key.map(CacheKey::as_str).unwrap_or_default();
    Written { is_superseded: false, is_delete: false, failure: Some(format!("{key}: {why}")) }
}
