//! What whoever keeps the service running asks for: connections, certificates, reloads, what the embedded cache holds, how far
//! pattern deletes have come.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{GaugeVec, IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

use super::Metrics;
use crate::telemetry::series::{Result, counter, counters, gauge, register};

/// The names of what is reloaded and of certificates come from the settings, so they are few.
#[derive(Debug)]
pub(super) struct UpkeepFamilies {
    connections: IntGauge,
    certificates: IntGaugeVec,
    reload_successful: IntGaugeVec,
    reloaded: GaugeVec,
    written_bytes: IntCounter,
    embedded_bytes: IntGauge,
    embedded_entries: IntGauge,
    embedded_evictions: IntCounter,
    patterns: IntGauge,
    scan_steps: IntCounter,
    /// Found to match, and deleted.
    scanned_keys: [IntCounter; 2],
    /// Exported, and dropped.
    spans: [IntCounter; 2],
}

impl UpkeepFamilies {
    pub fn new(r: &Registry) -> Result<Self> {
        let certificates = Opts::new(
            "certificate_expiry_timestamp_seconds",
            "When the first certificate of the file of a setting runs out, in seconds since 1970.",
        );
        let successful = Opts::new("last_reload_successful", "1 if what was last read of it is in effect.");
        let reloaded = Opts::new("last_reload_timestamp_seconds", "When what is in effect was read, since 1970.");
        let keys = counters(r, "scan_keys_total", "Keys of pattern deletes, while they go on.", &["outcome"])?;
        let spans = counters(r, "spans_total", "Spans of sampled requests.", &["outcome"])?;
        Ok(UpkeepFamilies {
            connections: gauge(r, "connections", "HTTP connections that are open.")?,
            certificates: register(r, IntGaugeVec::new(certificates, &["setting"])?)?,
            reload_successful: register(r, IntGaugeVec::new(successful, &["setting"])?)?,
            reloaded: register(r, GaugeVec::new(reloaded, &["setting"])?)?,
            written_bytes: counter(r, "written_bytes_total", "Bytes of values that the cache has stored.")?,
            embedded_bytes: gauge(r, "embedded_bytes", "Bytes that the embedded cache holds.")?,
            embedded_entries: gauge(r, "embedded_entries", "Entries of the embedded cache, versions included.")?,
            embedded_evictions: counter(
                r,
                "embedded_evictions_total",
                "Entries that the embedded cache evicted for want of room.",
            )?,
            patterns: gauge(r, "patterns", "Patterns of DELETE_PATTERN in progress.")?,
            scan_steps: counter(r, "scan_steps_total", "Steps of scans over the keys.")?,
            spans: ["exported", "dropped"].map(|outcome| spans.with_label_values(&[outcome])),
            scanned_keys: ["found", "deleted"].map(|outcome| keys.with_label_values(&[outcome])),
        })
    }
}

/// Counts a connection as long as it lives.
#[derive(Debug)]
pub struct OpenConnection(IntGauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// A connection is open until this is dropped.
    pub fn connection(&self) -> OpenConnection {
        let open = self.inner.upkeep.connections.clone();
        open.inc();
        OpenConnection(open)
    }

    /// When a certificate of the file that this setting names runs out, in seconds since 1970. None: it cannot be told.
    pub fn set_certificate_expiry(&self, setting: &str, expires: Option<i64>) {
        let certificates = &self.inner.upkeep.certificates;
        match expires {
            Some(expires) => certificates.with_label_values(&[setting]).set(expires),
            // It was not there, if that fails.
            None => drop(certificates.remove_label_values(&[setting])),
        }
    }

    /// Whether what was last read is in effect now: the settings, or the file that this setting names.
    pub fn reloaded(&self, setting: &str, is_successful: bool) {
        let upkeep = &self.inner.upkeep;
        upkeep.reload_successful.with_label_values(&[setting]).set(i64::from(is_successful));
        if is_successful {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            upkeep.reloaded.with_label_values(&[setting]).set(now.as_secs_f64());
        }
    }

    /// The cache has stored values of so many bytes.
    pub fn written(&self, bytes: u64) {
        self.inner.upkeep.written_bytes.inc_by(bytes);
    }

    /// What the embedded cache holds, and how many entries it has evicted since the start.
    pub fn set_embedded(&self, bytes: u64, entries: u64, evictions: u64) {
        let upkeep = &self.inner.upkeep;
        upkeep.embedded_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        upkeep.embedded_entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        upkeep.embedded_evictions.inc_by(evictions.saturating_sub(upkeep.embedded_evictions.get()));
    }

    /// How many patterns are in progress.
    pub fn set_patterns(&self, patterns: usize) {
        self.inner.upkeep.patterns.set(i64::try_from(patterns).unwrap_or(i64::MAX));
    }

    /// A collector has so many spans.
    pub fn spans_exported(&self, spans: usize) {
        self.inner.upkeep.spans[0].inc_by(spans as u64);
    }

    /// So many spans reach no collector.
    pub fn spans_dropped(&self, spans: usize) {
        self.inner.upkeep.spans[1].inc_by(spans as u64);
    }

    /// A step of a scan has come back, with so many keys that match and so many that were deleted.
    pub fn scanned(&self, found: u64, deleted: u64) {
        let upkeep = &self.inner.upkeep;
        upkeep.scan_steps.inc();
        upkeep.scanned_keys.iter().zip([found, deleted]).for_each(|(counter, keys)| counter.inc_by(keys));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_shows_and_a_connection_counts_while_it_lives() {
        let metrics = Metrics::new("").expect("metrics");
        let has = |line: &str| metrics.encode().expect("text").lines().any(|found| found == line);
        let held = [metrics.connection(), metrics.connection()];
        assert!(has("cache_sync_connections 2"));
        drop(held);
        assert!(has("cache_sync_connections 0"));
        metrics.set_certificate_expiry("http.tls_cert", Some(1_800_000_000));
        let certificate = r#"cache_sync_certificate_expiry_timestamp_seconds{setting="http.tls_cert"} 1800000000"#;
        assert!(has(certificate));
        metrics.set_certificate_expiry("http.tls_cert", None);
        assert!(!has(certificate));
        metrics.reloaded("settings", true);
        metrics.reloaded("settings", false);
        assert!(has(r#"cache_sync_last_reload_successful{setting="settings"} 0"#));
        metrics.set_embedded(10, 2, 5);
        metrics.set_embedded(20, 1, 7);
        assert!(has("cache_sync_embedded_bytes 20") && has("cache_sync_embedded_evictions_total 7"));
        metrics.scanned(3, 2);
        metrics.scanned(1, 0);
        assert!(has("cache_sync_scan_steps_total 2") && has(r#"cache_sync_scan_keys_total{outcome="found"} 4"#));
    }
}
