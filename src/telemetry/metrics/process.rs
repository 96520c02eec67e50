//! What the process says of itself: its version, when it began, and its use of the machine under the standard names of
//! Prometheus (`process_*`), which dashboards and alerts know everywhere.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntGaugeVec, Opts, Registry};

use crate::telemetry::series::{Result, register};

const RESIDENT_MEMORY: &str = "process_resident_memory_bytes";

/// What is known from the start.
pub(super) fn register_facts(registry: &Registry) -> Result<()> {
    let build = IntGaugeVec::new(Opts::new("build_info", "Always 1; the label tells the version."), &["version"])?;
    register(registry, build)?.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    let start = Gauge::new("start_time_seconds", "When the process started, in seconds since 1970.")?;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    register(registry, start)?.set(since_epoch.as_secs_f64());
    Ok(())
}

/// The use of processor, memory, threads and file descriptors, read from `/proc` at each scrape. In a registry of its own:
/// the other one puts its prefix before every name.
#[derive(Debug)]
pub(super) struct Process(Registry);

impl Process {
    pub(super) fn new(labels: Option<HashMap<String, String>>) -> Result<Self> {
        let registry = Registry::new_custom(None, labels)?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Process(registry))
    }

    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.0.gather()
    }

    /// Linux only; None elsewhere.
    pub(super) fn resident_memory_bytes(&self) -> Option<i64> {
        let families = self.gather();
        let family = families.iter().find(|family| family.name() == RESIDENT_MEMORY)?;
        Some(family.get_metric().first()?.get_gauge().get_value() as i64)
    }
}
