//! Every metric of the service, by name. Owns the registry, the label sets and the handles that count.
//!
//! Promises: names begin with `cache_sync_`, but for the standard ones of a process (`process_*`); label sets are bounded whatever comes from outside; counting an event costs
//! no lookup by label (but for the lag of one that the journal has kept) and no allocation; a series that can be known beforehand shows 0 from the start. When to count is
//! left to those who call.
//!
//! [`registered`] has the names, [`labels`] the label sets, [`settled`] what each thread counts by itself, [`hosts`] the
//! hosts of blobs, [`senders`] who sends, [`upkeep`] what keeps the service running, [`process`] what the process is;
//! [`reading`] reads back what was counted; [`openmetrics`] writes it with
//! [`exemplars`].

mod exemplars;
mod hosts;
mod journal;
mod labels;
mod openmetrics;
mod process;
mod reading;
mod registered;
mod senders;
mod settled;
mod sources;
mod upkeep;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus::proto::MetricFamily;
use prometheus::{Registry, TextEncoder};

pub use self::journal::JournalReading;
pub use self::labels::{ActorKind, EVENT_TYPES, REFUSALS, ROUTES, SOURCES_ROUTE};
use self::labels::{FETCH_OUTCOMES, FORBIDDEN_EVENT, INVALID_EVENT, UNKNOWN_TYPE, failure};
use self::process::{Process, register_facts};
pub use self::reading::{ActorState, HostState, Reading, Spread};
use self::registered::Registered;
pub use self::senders::SenderMetrics;
pub use self::settled::Settled;
pub use self::sources::SourceMetrics;
pub use self::upkeep::OpenConnection;
use super::series::{Result, position};
use crate::event::EventType;
use crate::event::invalid::{Invalid, InvalidKind};
use crate::event::outcome::{Class, ProblemKind};

/// Content type of what [`Metrics::encode`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The service's metrics. A clone shares them; every method may be called from any thread.
#[derive(Debug, Clone)]
pub struct Metrics {
    inner: Arc<Registered>,
    process: Arc<Process>,
}

impl Metrics {
    /// All metrics, at 0. `cluster` is a label on each of them unless it is empty.
    ///
    /// # Errors
    ///
    /// If a metric cannot be registered; a test holds that this does not happen.
    pub fn new(cluster: &str) -> Result<Self> {
        let labels = (!cluster.is_empty()).then(|| HashMap::from([("cluster".to_owned(), cluster.to_owned())]));
        let registry = Registry::new_custom(Some("cache_sync".into()), labels.clone())?;
        register_facts(&registry)?;
        let inner = Registered::new(registry)?;
        Ok(Metrics { inner: Arc::new(inner), process: Arc::new(Process::new(labels)?) })
    }

    /// An event of a known type has ended, and nobody waits for its answer.
    pub fn event_done(&self, event: EventType, class: Class) {
        self.inner.events[event as usize][class as usize].inc();
    }

    /// An event was found invalid; its type is none if that could not be told.
    pub fn event_rejected(&self, event: Option<EventType>) {
        let event = event.map_or(UNKNOWN_TYPE, |event| event as usize);
        self.inner.events[event][Class::Rejected as usize].inc();
    }

    /// An event of a batch was found invalid, beside [`Metrics::event_rejected`].
    pub fn event_failed(&self, invalid: &Invalid) {
        let event = invalid.event.map_or(UNKNOWN_TYPE, |event| event as usize);
        let problem = match invalid.kind {
            InvalidKind::Forbidden(_) => FORBIDDEN_EVENT,
            InvalidKind::Malformed(_) | InvalidKind::Faults(_) => INVALID_EVENT,
        };
        self.inner.failed_entries[event].at(problem).inc();
    }

    /// An entry ended rejected or unavailable.
    pub fn entry_failed(&self, event: EventType, problem: ProblemKind) {
        self.inner.failed_entries[event as usize].at(failure(problem)).inc();
    }

    /// A request never became work, for a problem of this slug.
    pub fn request_refused(&self, problem: &str) {
        self.inner.refused.at(position(&REFUSALS, problem)).inc();
    }

    /// An attempt at a blob has ended. `outcome` is `ok`, the problem's slug, or `other` if it only found out how many
    /// bytes it needs; `bytes` are those of the decoded blob.
    pub fn fetch_done(&self, outcome: &'static str, took: Duration, bytes: usize) {
        self.inner.fetches.at(position(&FETCH_OUTCOMES, outcome)).observe(took.as_secs_f64());
        self.inner.fetched_bytes.inc_by(bytes as u64);
    }

    /// The same attempt, at this host (`host:port`); whether it brought the blob.
    pub fn host_fetch_done(&self, host: &str, may_be_called: bool, is_ok: bool, took: Duration) {
        self.inner.host_fetches.observe(host, may_be_called, is_ok, took);
    }

    /// These hosts are shown by name whatever others come.
    pub fn reserve_hosts(&self, hosts: impl IntoIterator<Item = String>) {
        self.inner.host_fetches.reserve(hosts);
    }

    /// Hosts that answer nothing at the moment.
    pub fn set_hosts_down(&self, hosts: usize) {
        self.inner.hosts_down.set(hosts as i64);
    }

    /// A fetch is to be tried again.
    pub fn fetch_retried(&self) {
        self.inner.fetch_retries.inc();
    }

    /// A pipeline of that many commands has been answered by Redis, or has failed.
    pub fn redis_batch(&self, commands: usize, took: Duration) {
        self.inner.batch_commands.observe(commands as f64);
        self.inner.batch_duration.observe(took.as_secs_f64());
    }

    /// Something in a pipeline failed for lack of Redis.
    pub fn redis_batch_failed(&self) {
        self.inner.failed_batches.inc();
    }

    /// A connection to Redis was made anew.
    pub fn redis_reconnected(&self) {
        self.inner.redis_reconnects.inc();
    }

    /// Whether every writer's connection to the cache works: the gauge `cache_sync_redis_up`.
    pub fn set_redis_up(&self, is_up: bool) {
        self.inner.redis_up.set(i64::from(is_up));
    }

    /// What admission has let in and not yet seen leave.
    pub fn set_admission(&self, events: usize, bytes: usize) {
        self.inner.admission_events.set(events as i64);
        self.inner.admission_bytes.set(bytes as i64);
    }

    /// What admission could let in.
    pub fn set_admission_limits(&self, events: usize, bytes: usize) {
        self.inner.admission_limit_events.set(events as i64);
        self.inner.admission_limit_bytes.set(bytes as i64);
    }

    /// Sets the age of the oldest event that is accepted and not settled; zero if there is none.
    pub fn set_oldest_age(&self, age: Duration) {
        self.inner.queue_oldest_age.set(age.as_secs_f64());
    }

    /// An actor of this role has begun to run.
    pub fn actor_started(&self, actor: ActorKind) {
        self.inner.actors[actor as usize].inc();
    }

    /// An actor of this role has ended, by a panic or for good.
    pub fn actor_stopped(&self, actor: ActorKind) {
        self.inner.actors[actor as usize].dec();
    }

    /// How many actors of this role the settings ask for.
    pub fn set_actors_wanted(&self, actor: ActorKind, actors: usize) {
        self.inner.actors_wanted[actor as usize].set(actors as i64);
    }

    /// Supervision has put an actor back on its feet.
    pub fn actor_restarted(&self, actor: ActorKind) {
        self.inner.actor_restarts[actor as usize].inc();
    }

    /// Messages sent to actors of this role and not yet handled.
    pub fn set_actor_waiting(&self, actor: ActorKind, messages: i64) {
        self.inner.actor_waiting[actor as usize].set(messages);
    }

    /// All metrics in Prometheus's text format.
    ///
    /// # Errors
    ///
    /// If the encoder refuses a metric family.
    pub fn encode(&self) -> Result<String> {
        TextEncoder::new().encode_to_string(&self.gather())
    }

    fn gather(&self) -> Vec<MetricFamily> {
        self.inner.take_over();
        let mut families = self.inner.registry.gather();
        families.append(&mut self.process.gather());
        families
    }
}

#[cfg(test)]
mod tests;
