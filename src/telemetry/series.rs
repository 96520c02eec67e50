//! What `metrics` is built of: registered metrics, and handles that are resolved once a label instead of once an event.

use std::sync::OnceLock;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

pub(super) type Result<T> = std::result::Result<T, prometheus::Error>;

/// Where a label stands in its set; what is not in it counts as the last.
pub(super) fn position(set: &[&str], label: &str) -> usize {
    set.iter().position(|known| *known == label).unwrap_or(set.len() - 1)
}

/// The series of one metric along one label, resolved once each and only when first needed.
#[derive(Debug)]
pub(super) struct Series<V, M, const N: usize> {
    vec: V,
    outer: Option<&'static str>,
    labels: [&'static str; N],
    handles: [OnceLock<M>; N],
}

impl<V, M, const N: usize> Series<V, M, N>
where
    V: Resolve<M>,
{
    pub fn new(vec: V, outer: Option<&'static str>, labels: [&'static str; N]) -> Self {
        Series { vec, outer, labels, handles: [const { OnceLock::new() }; N] }
    }

    /// `index` is below `N`: it comes from [`position`] over the same set.
    pub fn at(&self, index: usize) -> &M {
        self.handles[index].get_or_init(|| match self.outer {
            Some(outer) => self.vec.resolve(&[outer, self.labels[index]]),
            None => self.vec.resolve(&[self.labels[index]]),
        })
    }

    /// The handles that were needed so far.
    pub fn resolved(&self) -> impl Iterator<Item = &M> {
        self.handles.iter().filter_map(OnceLock::get)
    }
}

pub(super) trait Resolve<M> {
    fn resolve(&self, labels: &[&str]) -> M;
}

impl Resolve<IntCounter> for IntCounterVec {
    fn resolve(&self, labels: &[&str]) -> IntCounter {
        self.with_label_values(labels)
    }
}

impl Resolve<Histogram> for HistogramVec {
    fn resolve(&self, labels: &[&str]) -> Histogram {
        self.with_label_values(labels)
    }
}

pub(super) fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter> {
    register(registry, IntCounter::new(name, help)?)
}

pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge> {
    register(registry, IntGauge::new(name, help)?)
}

pub(super) fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

pub(super) fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram> {
    register(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
}

pub(super) fn durations(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
    labels: &[&str],
) -> Result<HistogramVec> {
    register(registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?)
}
