//! Traces beside the histograms: for each bucket the last request that its caller samples, so that a slow one can be looked at.
//! What is not sampled never comes here.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::proto::{Metric, MetricFamily};

use super::Metrics;
use super::labels::{DELAY_BUCKETS, HTTP_STATUSES, REQUEST_BUCKETS, ROUTES, status_position};
use crate::event::trace::Trace;
use crate::telemetry::series::position;

/// A histogram with exemplars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Sampled {
    Delay,
    /// Of a route and a status, by their places in the sets of labels.
    Request(usize, usize),
}

/// One observation and its trace.
#[derive(Debug, Clone)]
pub(super) struct Exemplar {
    /// In the form of a set of labels.
    pub labels: String,
    pub value: f64,
    /// Seconds since 1970.
    pub at: f64,
}

/// One for each bucket of each histogram, the last bucket without an upper bound.
#[derive(Debug, Default)]
pub(super) struct Exemplars(Mutex<KeptExemplars>);

/// At one moment.
#[derive(Debug, Default, Clone)]
pub(super) struct KeptExemplars(HashMap<Sampled, Vec<Option<Exemplar>>>);

impl Exemplars {
    fn keep(&self, series: Sampled, bounds: &[f64], took: impl Iterator<Item = Duration>, trace: &Trace) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let labels = format!(r#"trace_id="{}",span_id="{}""#, trace.trace_id(), trace.span_id());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let buckets = kept.0.entry(series).or_insert_with(|| vec![None; bounds.len() + 1]);
        for value in took.map(|took| took.as_secs_f64()) {
            let bucket = bounds.partition_point(|bound| *bound < value);
            buckets[bucket] = Some(Exemplar { labels: labels.clone(), value, at });
        }
    }

    /// Those of now.
    pub(super) fn kept(&self) -> KeptExemplars {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl KeptExemplars {
    /// By bucket; empty: there are none.
    pub(super) fn of(&self, family: &MetricFamily, metric: &Metric) -> &[Option<Exemplar>] {
        let label =
            |name: &str| metric.get_label().iter().find(|label| label.name() == name).map(|label| label.value());
        let series = match (family.name(), label("route"), label("status")) {
            ("cache_sync_event_delay_seconds", ..) => Sampled::Delay,
            ("cache_sync_request_duration_seconds", Some(route), Some(status)) => {
                Sampled::Request(position(&ROUTES, route), position(&HTTP_STATUSES, status))
            }
            _ => return &[],
        };
        self.0.get(&series).map_or(&[], Vec::as_slice)
    }
}

impl Metrics {
    /// A request has been answered that its caller samples: beside [`Metrics::request_done`], and behind it.
    pub fn request_sampled(&self, route: &str, status: u16, took: Duration, trace: &Trace) {
        let series = Sampled::Request(position(&ROUTES, route), status_position(status));
        self.inner.exemplars.keep(series, &REQUEST_BUCKETS, [took].into_iter(), trace);
    }

    /// Events of such a request have ended ok, so long after they were accepted: beside [`Settled::took`](super::Settled::took).
    pub fn events_sampled(&self, delays: impl Iterator<Item = Duration>, trace: &Trace) {
        self.inner.exemplars.keep(Sampled::Delay, &DELAY_BUCKETS, delays, trace);
    }
}
