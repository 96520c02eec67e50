//! What is drawn: a column for each line, with a value for each step.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::milliseconds;
use crate::event::outcome::Class;
use crate::telemetry::history::{HistoryStep, Span};
use crate::telemetry::metrics::EVENT_TYPES;

/// A column for each thing that is drawn.
#[derive(Serialize)]
pub struct Course {
    /// Which span it is, as it is asked for.
    span: &'static str,
    step_seconds: u64,
    steps: usize,
    /// The end of the last step, in milliseconds since 1970; None: there is none.
    until_ms: Option<u64>,
    events: ByType<Vec<u64>>,
    p50_ms: Vec<Option<f64>>,
    p99_ms: Vec<Option<f64>>,
    cache_p50_ms: Vec<Option<f64>>,
    cache_p99_ms: Vec<Option<f64>>,
    delay_p50_ms: Vec<Option<f64>>,
    delay_p99_ms: Vec<Option<f64>>,
    admission_events: Vec<usize>,
    admission_bytes: Vec<usize>,
}

impl Course {
    pub fn of(steps: &[HistoryStep], span: Span) -> Self {
        let events = |event: usize, class: usize| steps.iter().map(|step| step.events[event][class]).collect();
        let quantile =
            |of: fn(&HistoryStep) -> Option<f64>| steps.iter().map(|step| of(step).map(milliseconds)).collect();
        Course {
            span: span.as_str(),
            step_seconds: span.step().as_secs(),
            steps: steps.len(),
            until_ms: steps.last().map(|step| step.until_ms),
            events: ByType(std::array::from_fn(|event| std::array::from_fn(|class| events(event, class)))),
            p50_ms: quantile(|step| step.requests.p50),
            p99_ms: quantile(|step| step.requests.p99),
            cache_p50_ms: quantile(|step| step.batches.p50),
            cache_p99_ms: quantile(|step| step.batches.p99),
            delay_p50_ms: quantile(|step| step.delays.p50),
            delay_p99_ms: quantile(|step| step.delays.p99),
            admission_events: steps.iter().map(|step| step.admission_events).collect(),
            admission_bytes: steps.iter().map(|step| step.admission_bytes).collect(),
        }
    }
}

/// An object of objects: type, then outcome.
pub struct ByType<T>(pub [[T; Class::ALL.len()]; EVENT_TYPES.len()]);

struct ByOutcome<'a, T>(&'a [T; Class::ALL.len()]);

impl<T: Serialize> Serialize for ByType<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(EVENT_TYPES.len()))?;
        for (event, classes) in EVENT_TYPES.iter().zip(&self.0) {
            map.serialize_entry(event, &ByOutcome(classes))?;
        }
        map.end()
    }
}

impl<T: Serialize> Serialize for ByOutcome<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Class::ALL.iter().map(|class| class.as_str()).zip(self.0))
    }
}
