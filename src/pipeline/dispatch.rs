//! Which fetch runs when, as values: no actor, no clock, no I/O.
//!
//! Fetches wait here, host by host and oldest first, until their host has room (`fetch.per_host`) and a fetcher has
//! (`fetch.concurrency`); hosts take turns. A fetcher makes one attempt; what waits between attempts, for its host or
//! for bytes holds no slot of a fetcher.
//!
//! A host that answers nothing for a whole attempt while others wait for it is taken for down: a probe goes to it once in a
//! while, the rest fail at once, until it answers. A probe does not wait for the one before it: what a host was asked
//! while it hung may stay without an answer when it is back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;

use super::gate::Permit;
use super::lanes::Seq;
use super::pool::Home;
use crate::event::trace::Trace;
use crate::event::{BlobUrl, CacheKey};

/// Between two probes of a host that is down.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Hosts remembered as down while nothing asks for them.
const MAX_IDLE_HOSTS: usize = 1024;

/// A blob to be fetched.
pub struct Order {
    pub seq: Seq,
    pub key: CacheKey,
    pub url: BlobUrl,
    pub host: Arc<str>,
    /// Of its request; the fetch has one of its own beside it.
    pub deadline: Instant,
    /// Of its request.
    pub trace: Option<Arc<Trace>>,
    /// Begin of the first attempt.
    pub begun: Option<Instant>,
    /// Begin of this one.
    pub attempt_begun: Option<Instant>,
    pub attempts: u32,
    /// How often the fetcher died under it.
    pub losses: u32,
    /// How often it had to wait for bytes.
    pub waits: u32,
    /// Whether nothing on its key is before it.
    pub is_head: bool,
    /// Bytes that it waited for.
    pub prepaid: Option<Permit>,
    /// Whether the attempt had less time than the settings give one: that the host was silent then says nothing.
    pub is_cut_short: bool,
    is_probe: bool,
}

impl Order {
    pub fn new(seq: Seq, key: CacheKey, url: BlobUrl, deadline: Instant) -> Self {
        let host = url.authority().into();
        Order {
            seq,
            key,
            url,
            host,
            deadline,
            trace: None,
            begun: None,
            attempt_begun: None,
            attempts: 0,
            losses: 0,
            waits: 0,
            is_head: false,
            prepaid: None,
            is_cut_short: false,
            is_probe: false,
        }
    }

    pub fn traced(self, trace: Option<Arc<Trace>>) -> Self {
        Order { trace, ..self }
    }

    /// An attempt begins: when it must be over. It has its own limit, cut to what is left of the fetch and of the request.
    pub fn begin(&mut self, now: Instant, attempt: Duration, fetch: Duration) -> Instant {
        let begun = *self.begun.get_or_insert(now);
        self.attempt_begun = Some(now);
        let until = (now + attempt).min(begun + fetch).min(self.deadline);
        self.is_cut_short = until < now + attempt.min(fetch);
        self.attempts += 1;
        until
    }
}

pub struct Dispatch {
    per_host: usize,
    concurrency: usize,
    /// Those that are given orders; others may be busy with what they have.
    fetchers: usize,
    hosts: HashMap<Arc<str>, Host, RandomState>,
    /// Hosts that may have something to start.
    turns: VecDeque<Arc<str>>,
    /// Attempts under way in each fetcher.
    busy: Vec<usize>,
}

#[derive(Default)]
struct Host {
    waiting: BTreeMap<Seq, Order>,
    busy: usize,
    /// Under way beside those, whatever hangs there.
    probes: usize,
    has_turn: bool,
    is_down: bool,
    probed: Option<Instant>,
    /// The last sign of life.
    answered: Option<Instant>,
}

impl Dispatch {
    pub fn new(fetchers: usize, concurrency: usize, per_host: usize) -> Self {
        let (hosts, turns) = (HashMap::default(), VecDeque::new());
        Dispatch { per_host, concurrency, fetchers, hosts, turns, busy: vec![0; fetchers] }
    }

    /// From now on there is room for so many. What is under way ends as it would have.
    pub fn resize(&mut self, fetchers: usize, concurrency: usize, per_host: usize) {
        (self.fetchers, self.concurrency, self.per_host) = (fetchers, concurrency, per_host);
        self.busy.resize(self.busy.len().max(fetchers), 0);
        for (name, host) in self.hosts.iter_mut().filter(|(_, host)| !host.waiting.is_empty() && !host.has_turn) {
            host.has_turn = true;
            self.turns.push_back(name.clone());
        }
    }

    /// Queues the order; gives it back if its host is down and was probed a short while ago.
    #[expect(clippy::result_large_err, reason = "seldom, and the order goes on as it is")]
    pub fn submit(&mut self, mut order: Order, now: Instant) -> Result<(), Order> {
        let name = order.host.clone();
        let host = self.hosts.entry(name.clone()).or_default();
        if host.is_down {
            if host.probed.is_some_and(|probed| now < probed + PROBE_EVERY) {
                return Err(order);
            }
            host.probed = Some(now);
            order.is_probe = true;
        }
        host.waiting.insert(order.seq, order);
        if !host.has_turn {
            host.has_turn = true;
            self.turns.push_back(name);
        }
        Ok(())
    }

    /// The next order to start, and the fetcher for it. Each that is started must [end](Dispatch::ended).
    pub fn start_next(&mut self) -> Option<(usize, Order)> {
        let (fetcher, busy) =
            self.busy.iter().copied().take(self.fetchers).enumerate().min_by_key(|(_, busy)| *busy)?;
        if busy >= self.concurrency {
            return None;
        }
        while let Some(name) = self.turns.pop_front() {
            let Some(host) = self.hosts.get_mut(&name) else { continue };
            host.has_turn = false;
            let next_is_probe = host.waiting.values().next().is_some_and(|order| order.is_probe);
            if host.busy >= self.per_host && !next_is_probe {
                continue;
            }
            let Some((_, order)) = host.waiting.pop_first() else { continue };
            *if order.is_probe { &mut host.probes } else { &mut host.busy } += 1;
            if !host.waiting.is_empty() {
                host.has_turn = true;
                self.turns.push_back(name);
            }
            if let Some(busy) = self.busy.get_mut(fetcher) {
                *busy += 1;
            }
            return Some((fetcher, order));
        }
        None
    }

    /// Starts an order for the host at once, without queueing it, on the least busy of the fetchers on this thread. None
    /// if it must wait its turn: another waits, there is no room, or the host is down.
    pub fn start_at_once(&mut self, host: &Arc<str>, home: Home) -> Option<usize> {
        if !self.turns.is_empty() {
            return None;
        }
        let busy = |fetcher: &usize| self.busy.get(*fetcher).copied().unwrap_or(usize::MAX);
        let near = home.share(self.fetchers);
        let fetcher = near.min_by_key(busy).filter(|fetcher| busy(fetcher) < self.concurrency)?;
        let known = self.hosts.get(host);
        if known.is_some_and(|host| host.is_down || host.busy >= self.per_host || !host.waiting.is_empty()) {
            return None;
        }
        self.hosts.entry(host.clone()).or_default().busy += 1;
        if let Some(busy) = self.busy.get_mut(fetcher) {
            *busy += 1;
        }
        Some(fetcher)
    }

    /// Whether an order may be waiting for a slot only.
    pub fn has_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    /// The attempt is over, however it went.
    pub fn ended(&mut self, fetcher: usize, order: &mut Order) {
        if let Some(busy) = self.busy.get_mut(fetcher) {
            *busy = busy.saturating_sub(1);
        }
        let Some(host) = self.hosts.get_mut(&order.host) else { return };
        let count = if std::mem::take(&mut order.is_probe) { &mut host.probes } else { &mut host.busy };
        *count = count.saturating_sub(1);
        if !host.waiting.is_empty() {
            if !host.has_turn {
                host.has_turn = true;
                self.turns.push_back(order.host.clone());
            }
        } else if host.is_idle() && !host.is_down {
            self.hosts.remove(&order.host);
        }
    }

    /// The host gave a sign of life.
    pub fn answered(&mut self, name: &Arc<str>, now: Instant) {
        if let Some(host) = self.hosts.get_mut(name) {
            (host.is_down, host.answered) = (false, Some(now));
            if host.is_idle() {
                self.hosts.remove(name);
            }
        }
    }

    /// The host was silent for a whole attempt, which began at `since`. If others wait for it, it is down, and they are
    /// given back; unless it has answered another one meanwhile.
    pub fn was_silent(&mut self, name: &Arc<str>, since: Option<Instant>) -> Vec<Order> {
        if self.hosts.len() > MAX_IDLE_HOSTS {
            self.hosts.retain(|_, host| !host.is_idle());
        }
        let Some(host) = self.hosts.get_mut(name) else { return Vec::new() };
        if host.is_down || host.answered > since {
            return Vec::new();
        }
        host.is_down = !host.waiting.is_empty();
        std::mem::take(&mut host.waiting).into_values().collect()
    }

    /// How many hosts are down.
    pub fn hosts_down(&self) -> usize {
        self.hosts.values().filter(|host| host.is_down).count()
    }

    /// Forgets what waits; attempts under way still end here.
    pub fn clear(&mut self) {
        self.turns.clear();
        self.hosts.retain(|_, host| {
            host.waiting.clear();
            (host.has_turn, host.is_down, host.probed) = (false, false, None);
            !host.is_idle()
        });
    }
}

impl Host {
    fn is_idle(&self) -> bool {
        self.busy == 0 && self.probes == 0 && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests;
