//! What the process says of itself: its version, when it began, and what it has in RAM.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Gauge, IntGaugeVec, Opts, Registry};

use crate::telemetry::series::{Result, register};

/// What is known from the start.
pub(super) fn register_facts(registry: &Registry) -> Result<()> {
    let build = IntGaugeVec::new(Opts::new("build_info", "Always 1; the label tells the version."), &["version"])?;
    register(registry, build)?.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    let start = Gauge::new("start_time_seconds", "When the process started, in seconds since 1970.")?;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    register(registry, start)?.set(since_epoch.as_secs_f64());
    Ok(())
}

/// Linux only; none elsewhere.
pub(super) fn resident_memory_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
