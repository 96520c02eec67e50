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

    /// Starts an order for the host at once, without queueing it, on the least busy of the fetchers on this thread. None if it must
    /// wait its turn: another waits, there is no room, or the host is down.
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
mod tests {
    use super::*;
    use std::time::Duration;

    fn order(seq: Seq, host: &str) -> Order {
        let url = BlobUrl::parse(&format!("http://{host}/blob")).expect("a url");
        Order::new(seq, CacheKey::new_unchecked("k"), url, Instant::now() + Duration::from_secs(1))
    }

    fn start(dispatch: &mut Dispatch) -> Vec<(usize, Order)> {
        std::iter::from_fn(|| dispatch.start_next()).collect()
    }

    /// One of two threads, with a fetcher each.
    fn home(number: usize) -> Home {
        Home::new(number, 2)
    }

    fn all() -> Home {
        Home::new(0, 1)
    }

    fn seqs(started: &[(usize, Order)]) -> Vec<Seq> {
        started.iter().map(|(_, order)| order.seq).collect()
    }

    #[test]
    fn a_busy_host_takes_no_slot_of_the_others_and_fetchers_share_the_load() {
        let mut dispatch = Dispatch::new(2, 2, 2);
        for seq in 1..=5 {
            assert!(dispatch.submit(order(seq, "a"), Instant::now()).is_ok());
        }
        assert!(dispatch.submit(order(6, "b"), Instant::now()).is_ok());
        let mut started = start(&mut dispatch);
        assert_eq!(seqs(&started), [1, 6, 2]);
        assert_eq!(started.iter().filter(|(fetcher, _)| *fetcher == 0).count(), 2);
        let (fetcher, order) = &mut started[0];
        dispatch.ended(*fetcher, order);
        assert_eq!(seqs(&start(&mut dispatch)), [3]);
    }

    /// A host at which an attempt hangs and two more orders wait; the attempt.
    fn hung(dispatch: &mut Dispatch, now: Instant) -> Order {
        for seq in 1..=3 {
            assert!(dispatch.submit(order(seq, "a"), now).is_ok());
        }
        let (_, mut first) = start(dispatch).remove(0);
        first.begin(now, PROBE_EVERY, PROBE_EVERY);
        first
    }

    #[test]
    fn a_silent_host_gets_a_probe_once_in_a_while_until_it_answers() {
        let mut dispatch = Dispatch::new(1, 10, 1);
        let now = Instant::now();
        let mut first = hung(&mut dispatch, now);
        dispatch.ended(0, &mut first);
        let host = first.host.clone();
        let given_back = dispatch.was_silent(&host, first.attempt_begun);
        assert_eq!(given_back.iter().map(|order| order.seq).collect::<Vec<_>>(), [2, 3]);
        assert!(dispatch.submit(first, now).is_ok(), "the probe");
        assert!(dispatch.submit(order(4, "a"), now).is_err());
        assert_eq!(seqs(&start(&mut dispatch)), [1]);
        assert!(dispatch.submit(order(5, "a"), now + PROBE_EVERY).is_ok(), "though the one before it hangs");
        assert!(dispatch.submit(order(6, "a"), now + PROBE_EVERY).is_err());
        let (_, mut probe) = start(&mut dispatch).remove(0);
        dispatch.ended(0, &mut probe);
        dispatch.answered(&host, now);
        assert!(dispatch.submit(order(7, "a"), now).is_ok());
        assert!(dispatch.submit(order(8, "a"), now).is_ok());
        assert_eq!(seqs(&start(&mut dispatch)), [7], "the probe that hangs takes no slot");
    }

    #[test]
    fn what_a_host_was_asked_before_it_answered_says_nothing() {
        let mut dispatch = Dispatch::new(1, 10, 1);
        let now = Instant::now();
        let mut first = hung(&mut dispatch, now);
        dispatch.answered(&first.host, now + PROBE_EVERY);
        dispatch.ended(0, &mut first);
        assert!(dispatch.was_silent(&first.host, first.attempt_begun).is_empty());
        assert_eq!(seqs(&start(&mut dispatch)), [2]);
    }

    #[test]
    fn an_order_starts_at_once_only_where_it_is_in_nobodys_way() {
        let mut dispatch = Dispatch::new(2, 2, 3);
        let (a, b): (Arc<str>, Arc<str>) = ("a:80".into(), "b:80".into());
        assert_eq!(dispatch.start_at_once(&a, home(1)), Some(1));
        assert_eq!(dispatch.start_at_once(&a, all()), Some(0), "the least busy");
        assert_eq!(dispatch.start_at_once(&a, home(1)), Some(1));
        assert_eq!(dispatch.start_at_once(&a, home(0)), None, "the host has no room");
        assert_eq!(dispatch.start_at_once(&b, home(1)), None, "the fetcher has no room");
        assert!(dispatch.submit(order(1, "a"), Instant::now()).is_ok());
        assert_eq!(dispatch.start_at_once(&b, home(0)), None, "one waits for its turn");
        assert!(dispatch.start_next().is_none(), "the host has no room");
        assert_eq!(dispatch.start_at_once(&b, home(0)), Some(0));
        dispatch.ended(0, &mut order(0, "a"));
        assert!(dispatch.has_turns());
    }

    #[test]
    fn with_more_room_what_waits_starts_and_with_less_what_is_under_way_ends_where_it_is() {
        let mut dispatch = Dispatch::new(1, 2, 1);
        for seq in 1..=6 {
            assert!(dispatch.submit(order(seq, "a"), Instant::now()).is_ok());
        }
        let mut started = start(&mut dispatch);
        assert_eq!(seqs(&started), [1]);
        assert!(!dispatch.has_turns(), "the host has no room");
        dispatch.resize(2, 2, 3);
        started.extend(start(&mut dispatch));
        assert_eq!(seqs(&started), [1, 2, 3]);
        dispatch.resize(1, 1, 2);
        assert!(started.iter().any(|(fetcher, _)| *fetcher == 1));
        for (fetcher, order) in &mut started {
            assert!(dispatch.busy.iter().sum::<usize>() > 0);
            dispatch.ended(*fetcher, order);
        }
        assert_eq!(dispatch.busy, [0, 0]);
        let next = start(&mut dispatch);
        assert_eq!((seqs(&next), next[0].0), (vec![4], 0), "only the one that is left is given orders");
    }

    #[test]
    fn no_order_starts_at_once_on_a_host_that_is_down() {
        let mut dispatch = Dispatch::new(1, 10, 1);
        let host: Arc<str> = "a:80".into();
        assert_eq!(dispatch.start_at_once(&host, all()), Some(0));
        assert!(dispatch.submit(order(1, "a"), Instant::now()).is_ok());
        dispatch.ended(0, &mut order(0, "a"));
        assert_eq!(dispatch.was_silent(&host, None).len(), 1);
        assert!(start(&mut dispatch).is_empty());
        assert_eq!(dispatch.start_at_once(&host, all()), None);
        dispatch.answered(&host, Instant::now());
        assert_eq!(dispatch.start_at_once(&host, all()), Some(0));
    }

    #[test]
    fn nothing_is_remembered_of_a_host_that_is_done() {
        let mut dispatch = Dispatch::new(1, 1, 1);
        assert!(dispatch.submit(order(1, "a"), Instant::now()).is_ok());
        let (fetcher, mut done) = dispatch.start_next().expect("an order");
        dispatch.ended(fetcher, &mut done);
        assert!(dispatch.hosts.is_empty() && dispatch.turns.is_empty());
    }
}
