//! The metrics read back, for who looks at the service in a browser.

use prometheus::Histogram;
use prometheus::core::Metric;

use super::labels::{BATCH_BUCKETS, DELAY_BUCKETS, REQUEST_BUCKETS};
use super::{ActorKind, Class, EVENT_TYPES, Metrics};

/// What has been counted since the start.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The number of events, by [`EVENT_TYPES`] and [`Class::ALL`].
    pub events: [[u64; Class::ALL.len()]; EVENT_TYPES.len()],
    /// The durations of requests to `POST /events`.
    pub requests: Spread,
    /// The durations of pipelines to the cache.
    pub batches: Spread,
    /// From the acceptance of events to their end.
    pub delays: Spread,
}

/// How the blobs of one host have come since the start.
#[derive(Debug, Clone)]
pub struct HostState {
    /// The host and port, or what stands for all that have no series of their own.
    pub host: String,
    /// Attempts that brought a blob.
    pub ok: u64,
    /// Attempts that failed, whatever the reason.
    pub failed: u64,
    /// Seconds of one attempt. A quantile of so few buckets would say little.
    pub mean: f64,
}

/// Actors of one kind.
#[derive(Debug, Clone, Copy)]
pub struct ActorState {
    /// Actors that run now.
    pub running: u64,
    /// Actors that there should be.
    pub wanted: u64,
    /// Messages sent to them and not yet handled.
    pub waiting: u64,
    /// How often supervision restarted one of them since the start.
    pub restarts: u64,
}

/// How durations were spread: for each bound, how many were not longer.
#[derive(Debug, Clone)]
pub struct Spread {
    bounds: &'static [f64],
    up_to: Vec<u64>,
    all: u64,
}

impl Metrics {
    /// All counters at this moment, for [`History::keep`](crate::telemetry::history::History::keep). Costs a pass over
    /// the histograms, so it is called every few seconds.
    pub fn read(&self) -> Reading {
        self.inner.take_over();
        Reading {
            events: self.inner.events.each_ref().map(|classes| classes.each_ref().map(|counter| counter.get())),
            requests: Spread::of(self.inner.requests[0].resolved(), &REQUEST_BUCKETS),
            batches: Spread::of([&self.inner.batch_duration], &BATCH_BUCKETS),
            delays: Spread::of([&self.inner.event_delay], &DELAY_BUCKETS),
        }
    }

    /// The slowest hosts of those that have names, the slowest first.
    pub fn slowest_hosts(&self, at_most: usize) -> Vec<HostState> {
        let mut hosts = Vec::new();
        self.inner.host_fetches.for_each(|host, series| {
            let [ok, failed] = series.each_ref().map(Histogram::get_sample_count);
            if ok + failed > 0 {
                let mean = series.iter().map(Histogram::get_sample_sum).sum::<f64>() / (ok + failed) as f64;
                hosts.push(HostState { host: host.to_owned(), ok, failed, mean });
            }
        });
        hosts.sort_by(|one, other| other.mean.total_cmp(&one.mean).then_with(|| one.host.cmp(&other.host)));
        hosts.truncate(at_most);
        hosts
    }

    /// Blobs that the host has given since the start. Hosts without a series of their own are counted together.
    pub fn blobs_given(&self, host: &str) -> u64 {
        self.inner.host_fetches.given(host)
    }

    /// What waits is as it was last told.
    pub fn actor(&self, kind: ActorKind) -> ActorState {
        let at = kind as usize;
        let positive = |gauge: i64| u64::try_from(gauge).unwrap_or_default();
        ActorState {
            running: positive(self.inner.actors[at].get()),
            wanted: positive(self.inner.actors_wanted[at].get()),
            waiting: positive(self.inner.actor_waiting[at].get()),
            restarts: self.inner.actor_restarts[at].get(),
        }
    }

    /// How often a connection to the cache was made anew.
    pub fn reconnects(&self) -> u64 {
        self.inner.redis_reconnects.get()
    }

    /// The resident memory of the process; None where it is not known.
    pub fn memory_bytes(&self) -> Option<i64> {
        self.process.resident_memory_bytes()
    }
}

impl Spread {
    fn of<'h>(histograms: impl IntoIterator<Item = &'h Histogram>, bounds: &'static [f64]) -> Self {
        let mut spread = Spread { bounds, up_to: vec![0; bounds.len()], all: 0 };
        for histogram in histograms {
            let metric = histogram.metric();
            let histogram = metric.get_histogram();
            spread.all += histogram.get_sample_count();
            for (count, bucket) in spread.up_to.iter_mut().zip(histogram.get_bucket()) {
                *count += bucket.cumulative_count();
            }
        }
        spread
    }

    /// Seconds that this part of what came after `earlier` did not exceed, as good as the bounds are fine; none if
    /// nothing came.
    pub fn quantile_since(&self, earlier: &Spread, part: f64) -> Option<f64> {
        let all = self.all.saturating_sub(earlier.all);
        if all == 0 {
            return None;
        }
        let wanted = all as f64 * part;
        let (mut below, mut from) = (0, 0.0);
        for ((&bound, &now), &before) in self.bounds.iter().zip(&self.up_to).zip(&earlier.up_to) {
            let up_to = now.saturating_sub(before);
            if up_to > below && up_to as f64 >= wanted {
                let share = (wanted - below as f64) / (up_to - below) as f64;
                return Some(from + (bound - from) * share.clamp(0.0, 1.0));
            }
            (below, from) = (up_to, bound);
        }
        Some(from)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_quantile_is_of_what_came_in_between_and_lies_within_its_bucket() {
        let metrics = Metrics::new("").unwrap();
        let took = |milliseconds| metrics.request_done("/events", 200, Duration::from_millis(milliseconds));
        took(9_000);
        metrics.request_done("/metrics", 200, Duration::from_secs(20));
        let before = metrics.read().requests;
        assert_eq!(before.quantile_since(&before, 0.5), None);
        (0..98).for_each(|_| took(3));
        (0..2).for_each(|_| metrics.request_done("/events", 503, Duration::from_millis(700)));
        let after = metrics.read().requests;
        let quantile = |part| after.quantile_since(&before, part).unwrap();
        assert!((0.0025..=0.005).contains(&quantile(0.5)), "{}", quantile(0.5));
        assert!((0.25..=1.0).contains(&quantile(0.99)), "{}", quantile(0.99));
        took(60_000);
        assert_eq!(metrics.read().requests.quantile_since(&after, 0.5), Some(30.0));
    }

    #[test]
    fn the_slowest_hosts_come_first_and_those_that_were_not_asked_not_at_all() {
        let metrics = Metrics::new("").unwrap();
        metrics.reserve_hosts(["idle.example:443".to_owned()]);
        for (host, milliseconds, is_ok) in
            [("a.example:80", 2, true), ("b.example:80", 900, true), ("c.example:80", 90, false)]
        {
            metrics.host_fetch_done(host, true, is_ok, Duration::from_millis(milliseconds));
        }
        let hosts = metrics.slowest_hosts(2);
        let names: Vec<&str> = hosts.iter().map(|host| host.host.as_str()).collect();
        assert_eq!(names, ["b.example:80", "c.example:80"]);
        assert_eq!((hosts[0].ok, hosts[0].failed, hosts[1].ok, hosts[1].failed), (1, 0, 0, 1));
        assert!((hosts[0].mean - 0.9).abs() < 1e-6, "{}", hosts[0].mean);
        assert_eq!(metrics.slowest_hosts(9).len(), 3);
    }

    #[test]
    fn what_was_counted_is_read() {
        let metrics = Metrics::new("").unwrap();
        (0..3).for_each(|_| metrics.event_done(crate::event::EventType::Get, Class::Unavailable));
        metrics.event_rejected(None);
        metrics.actor_started(ActorKind::Writer);
        metrics.set_actor_waiting(ActorKind::Writer, 5);
        let events = metrics.read().events;
        assert_eq!((events[1], events[4]), ([0, 0, 3], [0, 1, 0]));
        let writer = metrics.actor(ActorKind::Writer);
        assert_eq!((writer.running, writer.waiting, writer.restarts), (1, 5, 0));
    }
}
