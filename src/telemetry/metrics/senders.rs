//! Whose events they are: counts by the name of the token that was shown. The names come from the settings.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use prometheus::{IntCounter, IntCounterVec, Registry};

use super::Metrics;
use crate::event::outcome::Class;
use crate::telemetry::series::{Result, counters};

/// Names that have series of their own; those of later ones share one.
const MAX_NAMES: usize = 100;
/// Stands for names beyond that.
const OTHER: &str = "other";
/// Stands for tokens without a name.
const UNNAMED: &str = "-";
/// What the journal has, and Redis not yet.
pub(super) const ACCEPTED: &str = "accepted";

#[derive(Debug)]
pub(super) struct SenderFamily {
    events: IntCounterVec,
    names: Mutex<BTreeSet<Box<str>>>,
}

/// Counts for the holders of tokens of one name.
#[derive(Debug)]
pub struct SenderMetrics {
    events: [IntCounter; Class::ALL.len()],
    accepted: IntCounter,
}

impl SenderFamily {
    pub fn new(registry: &Registry) -> Result<Self> {
        let help = "Events by the name of the sender's token and outcome.";
        let events = counters(registry, "token_events_total", help, &["token", "outcome"])?;
        Ok(SenderFamily { events, names: Mutex::default() })
    }

    fn label<'a>(&self, name: &'a str) -> &'a str {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.contains(name) || names.len() < MAX_NAMES && names.insert(name.into()) { name } else { OTHER }
    }
}

impl Metrics {
    /// The counters of tokens with this name, or without one; they show from now on.
    pub fn sender(&self, name: Option<&str>) -> SenderMetrics {
        let family = &self.inner.senders;
        let label = name.map_or(UNNAMED, |name| family.label(name));
        let of = |outcome| family.events.with_label_values(&[label, outcome]);
        SenderMetrics { events: Class::ALL.map(|class| of(class.as_str())), accepted: of(ACCEPTED) }
    }
}

impl SenderMetrics {
    /// Counts events that ended so, by [`Class::ALL`].
    pub fn ended(&self, events: [u64; Class::ALL.len()]) {
        self.events.iter().zip(events).filter(|(_, events)| *events > 0).for_each(|(own, events)| own.inc_by(events));
    }

    /// Counts events that the journal has, and others of the same request that were refused.
    pub fn kept(&self, accepted: u64, refused: u64) {
        self.accepted.inc_by(accepted);
        self.events[Class::Rejected as usize].inc_by(refused);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_most_share_one_series() {
        let metrics = Metrics::new("").expect("metrics");
        for n in 0..MAX_NAMES + 10 {
            metrics.sender(Some(&format!("name-{n}"))).ended([1, 0, 2]);
        }
        metrics.sender(Some("name-0")).ended([1, 0, 0]);
        metrics.sender(None).kept(3, 1);
        let text = metrics.encode().expect("text");
        for line in [
            r#"cache_sync_token_events_total{outcome="ok",token="name-0"} 2"#,
            r#"cache_sync_token_events_total{outcome="unavailable",token="name-99"} 2"#,
            r#"cache_sync_token_events_total{outcome="ok",token="other"} 10"#,
            r#"cache_sync_token_events_total{outcome="accepted",token="-"} 3"#,
            r#"cache_sync_token_events_total{outcome="rejected",token="-"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(!text.contains("name-100"));
    }
}
