//! Which fetch runs when, as values: no actor, no clock, no I/O.
//!
//! Fetches wait here, host by host and oldest first, until their host has room (`fetch.per_host`) and a fetcher has
//! (`fetch.concurrency`); hosts take turns. A fetcher makes one attempt; what waits between attempts, for its host or
//! for bytes holds no slot of a fetcher.
//!
//! Hosts without a recent sign of life share few places, so that any number of hung hosts leaves the others unharmed. Hosts
//! that were not asked yet and hosts that were asked without an answer so far have places of their own, and of the former
//! the newest and the oldest start in turn: a host that is well needs one short turn to show it, whatever waits before it.
//! An attempt that hears nothing gives up its place while others wait for that place, and begins again later with more time.
//!
//! A host that answers nothing for a whole attempt while others wait for it is taken for down: a probe goes to it once in a
//! while, the rest fail at once, until it answers. A probe does not wait for the one before it: what a host was asked
//! while it hung may stay without an answer when it is back.

mod host;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;

pub use self::host::HostNews;
use self::host::{Host, HostQueue};
use super::request::{FetchRequest, Liveness};
use crate::pipeline::runtime::WorkerThread;
use crate::pipeline::work::Seq;
use crate::telemetry::outage::Outage;

/// Between two probes of a host that is down.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// A host that is down counts so long after something last named it: later, nobody knows how it is.
const COUNTED_FOR: Duration = Duration::from_secs(60);
/// Hosts remembered while nothing asks for them.
const MAX_IDLE_HOSTS: usize = 1024;
/// Places for hosts that are not known to be alive, at most; half of all places if those are fewer.
const MAX_FEW: usize = 32;
/// How long an attempt may hear nothing while others wait for its place. It doubles each time that the fetch gave up.
const PATIENCE: Duration = Duration::from_secs(1);

/// The fetches that wait, and the places of those under way: at most `concurrency` for each fetcher and `per_host` for
/// each host.
pub struct FetchScheduler {
    per_host: usize,
    concurrency: usize,
    /// Fetchers that are given requests; others may still be busy.
    fetchers: usize,
    hosts: HashMap<Arc<str>, Host, RandomState>,
    /// Hosts above which the idle ones are looked through.
    max_hosts: usize,
    /// The queues of hosts, by [`Liveness`].
    queues: [HostQueue; 3],
    /// Starts so far: the queues take turns, and so do the two ends of one.
    starts: usize,
    /// Attempts under way in each fetcher.
    busy: Vec<usize>,
    /// Fetches wait for bytes of the budget: nothing starts [at once](FetchScheduler::start_at_once), past them.
    waits_for_bytes: bool,
    /// What is to be told of hosts: at most as much as one call makes, if it is taken after each.
    news: Vec<HostNews>,
}

impl FetchScheduler {
    /// A scheduler without fetches: the number of fetchers, the fetches at once in each, and the fetches at once to
    /// one host.
    pub fn new(fetchers: usize, concurrency: usize, per_host: usize) -> Self {
        FetchScheduler {
            per_host,
            concurrency,
            fetchers,
            hosts: HashMap::default(),
            max_hosts: MAX_IDLE_HOSTS,
            queues: Default::default(),
            starts: 0,
            busy: vec![0; fetchers],
            waits_for_bytes: false,
            news: Vec::new(),
        }
    }

    /// From now on there is room for this number of fetches. Fetches in progress end as before.
    pub fn resize(&mut self, fetchers: usize, concurrency: usize, per_host: usize) {
        (self.fetchers, self.concurrency, self.per_host) = (fetchers, concurrency, per_host);
        self.busy.resize(self.busy.len().max(fetchers), 0);
        for (name, host) in self.hosts.iter_mut() {
            host.join_queue(name, &mut self.queues);
        }
    }

    /// Queues the request; gives it back if its host is down and was probed a short while ago, or rests for longer than the
    /// request may wait.
    #[expect(clippy::result_large_err, reason = "seldom, and the request goes on as it is")]
    pub fn submit(&mut self, mut request: FetchRequest, now: Instant) -> Result<(), FetchRequest> {
        let name = request.host.clone();
        let host = self.hosts.entry(name.clone()).or_default();
        if host.rests_too_long_for(&request) {
            return Err(request);
        }
        if let Some(since) = host.outage.since() {
            self.news.extend(HostNews::of(&name, host.outage.goes_on(since, now)));
            host.named = Some(now);
            if host.probed.is_some_and(|probed| now < probed + PROBE_EVERY) {
                return Err(request);
            }
            host.probed = Some(now);
            request.is_probe = true;
        }
        host.waiting.insert(request.seq, request);
        host.forget_age(now);
        host.join_queue(&name, &mut self.queues);
        Ok(())
    }

    /// Takes back a request that waits; None if it does not, or does not any more.
    pub fn withdraw(&mut self, host: &Arc<str>, seq: Seq) -> Option<FetchRequest> {
        self.hosts.get_mut(host)?.waiting.remove(&seq)
    }

    /// The next request to start, and the fetcher for it. Each that is started must [end](FetchScheduler::ended).
    pub fn start_next(&mut self, now: Instant) -> Option<(usize, FetchRequest)> {
        let (fetcher, busy) =
            self.busy.iter().copied().take(self.fetchers).enumerate().min_by_key(|(_, busy)| *busy)?;
        if busy >= self.concurrency {
            return None;
        }
        while let Some((liveness, name)) = self.next_turn(now) {
            let Some(host) = self.hosts.get_mut(&name) else { continue };
            if host.queued_in != Some(liveness) {
                continue;
            }
            host.queued_in = None;
            host.forget_age(now);
            if host.paused_until.is_some() {
                continue;
            }
            if host.liveness() != liveness {
                host.join_queue(&name, &mut self.queues);
                continue;
            }
            let next_is_probe = host.waiting.values().next().is_some_and(|request| request.is_probe);
            if host.busy >= self.per_host && !next_is_probe {
                continue;
            }
            let Some((_, mut request)) = host.waiting.pop_first() else { continue };
            self.starts = self.starts.wrapping_add(1);
            request.liveness = liveness;
            host.count(request.is_probe, liveness, &mut self.queues);
            host.join_queue(&name, &mut self.queues);
            if let Some(busy) = self.busy.get_mut(fetcher) {
                *busy += 1;
            }
            return Some((fetcher, request));
        }
        None
    }

    /// The next host, from one of the queues that have a place left; queues take turns.
    fn next_turn(&mut self, now: Instant) -> Option<(Liveness, Arc<str>)> {
        let first = self.starts;
        let queues = (0..Liveness::ALL.len()).map(|step| Liveness::ALL[(first + step) % Liveness::ALL.len()]);
        let liveness = queues.into_iter().find(|liveness| self.is_ready(*liveness))?;
        let turns = &mut self.queues[liveness as usize].turns;
        let oldest = turns.front().and_then(|name| self.hosts.get(name));
        let is_late =
            oldest.and_then(|host| host.waiting.values().next()).is_none_or(|request| request.deadline <= now);
        // What is too late is done with on the way, and takes no place.
        let takes_newest = liveness == Liveness::New && !is_late && first % 2 == 1;
        let name = if takes_newest { turns.pop_back() } else { turns.pop_front() };
        name.map(|name| (liveness, name))
    }

    /// Whether a host waits in this queue and a place is left for it.
    fn is_ready(&self, liveness: Liveness) -> bool {
        let HostQueue { turns, busy } = &self.queues[liveness as usize];
        !turns.is_empty() && *busy < self.places(liveness)
    }

    fn places(&self, liveness: Liveness) -> usize {
        let few = (self.fetchers * self.concurrency / 2).clamp(1, MAX_FEW);
        match liveness {
            Liveness::Alive => usize::MAX,
            Liveness::New => few,
            Liveness::Asked => (few / 2).max(1),
        }
    }

    /// Starts a request at once, without queueing it, on the least busy of the fetchers on this thread. None if it must wait
    /// its turn: another waits, there is no room, or the host is down.
    pub fn start_at_once(&mut self, request: &mut FetchRequest, thread: WorkerThread, now: Instant) -> Option<usize> {
        let busy = |fetcher: &usize| self.busy.get(*fetcher).copied().unwrap_or(usize::MAX);
        let near = thread.share(self.fetchers);
        let fetcher = near.min_by_key(busy).filter(|fetcher| busy(fetcher) < self.concurrency)?;
        if self.waits_for_bytes || self.has_turns() {
            return None;
        }
        let liveness = match self.hosts.get_mut(&request.host) {
            Some(host) => {
                host.forget_age(now);
                if host.is_down()
                    || host.paused_until.is_some()
                    || host.busy >= self.per_host
                    || !host.waiting.is_empty()
                {
                    return None;
                }
                host.liveness()
            }
            None => Liveness::New,
        };
        let HostQueue { turns, busy } = &self.queues[liveness as usize];
        if !turns.is_empty() || *busy >= self.places(liveness) {
            return None;
        }
        request.liveness = liveness;
        self.hosts.entry(request.host.clone()).or_default().count(false, liveness, &mut self.queues);
        if let Some(busy) = self.busy.get_mut(fetcher) {
            *busy += 1;
        }
        Some(fetcher)
    }

    /// While fetches wait for bytes of the budget, younger ones do not pass them by.
    pub fn set_waits_for_bytes(&mut self, waits_for_bytes: bool) {
        self.waits_for_bytes = waits_for_bytes;
    }

    /// Whether a request may be waiting for a slot only.
    pub fn has_turns(&self) -> bool {
        Liveness::ALL.into_iter().any(|liveness| self.is_ready(liveness))
    }

    /// Whether an attempt that has heard nothing so far is to make room: others wait for its place, and it has had its time.
    pub fn gives_up(&self, request: &FetchRequest, now: Instant) -> bool {
        let patience = PATIENCE * (1 << request.given_up.min(8));
        if request.attempt_begun.is_none_or(|begun| now < begun + patience) {
            return false;
        }
        let has_answered = self.hosts.get(&request.host).is_some_and(|host| host.answered > request.attempt_begun);
        let is_full = self.busy.iter().take(self.fetchers).all(|busy| *busy >= self.concurrency);
        let own = &self.queues[request.liveness as usize];
        let is_own_wanted = !own.turns.is_empty() && own.busy >= self.places(request.liveness);
        !has_answered && (is_own_wanted || (is_full && self.has_turns()))
    }

    /// The attempt is over, however it went.
    pub fn ended(&mut self, fetcher: usize, request: &mut FetchRequest) {
        if let Some(busy) = self.busy.get_mut(fetcher) {
            *busy = busy.saturating_sub(1);
        }
        let Some(host) = self.hosts.get_mut(&request.host) else { return };
        host.discount(std::mem::take(&mut request.is_probe), request.liveness, &mut self.queues);
        host.join_queue(&request.host, &mut self.queues);
        self.forget_some();
    }

    /// The host gave a sign of life. What it was asked counts among those of hosts that are alive.
    pub fn answered(&mut self, name: &Arc<str>, now: Instant) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        self.news.extend(HostNews::of(name, host.outage.is_over(now)));
        (host.is_asked, host.answered) = (false, Some(now));
        for liveness in [Liveness::New, Liveness::Asked] {
            let counted = std::mem::take(&mut host.counted[liveness as usize]);
            self.queues[liveness as usize].busy = self.queues[liveness as usize].busy.saturating_sub(counted);
            host.counted[Liveness::Alive as usize] += counted;
            self.queues[Liveness::Alive as usize].busy += counted;
        }
        if host.queued_in.is_some_and(|liveness| liveness != Liveness::Alive) {
            // Where it stood it is passed over.
            host.queued_in = None;
            host.join_queue(name, &mut self.queues);
        }
    }

    /// An attempt that began at `since` heard nothing to its end, or until it made room for others.
    pub fn heard_nothing(&mut self, name: &Arc<str>, since: Option<Instant>) {
        if let Some(host) = self.hosts.get_mut(name).filter(|host| host.answered <= since) {
            (host.answered, host.is_asked) = (None, true);
        }
    }

    /// The host was silent for a whole attempt, which began at `since`. If others wait for it, it is down, and they are
    /// given back; unless it has answered another one meanwhile.
    pub fn was_silent(&mut self, name: &Arc<str>, since: Option<Instant>, now: Instant) -> Vec<FetchRequest> {
        let Some(host) = self.hosts.get_mut(name) else { return Vec::new() };
        if host.is_down() || host.answered > since {
            return Vec::new();
        }
        if !host.waiting.is_empty() {
            self.news.extend(HostNews::of(name, host.outage.goes_on(since.unwrap_or(now), now)));
            host.named = Some(now);
        }
        std::mem::take(&mut host.waiting).into_values().collect()
    }

    /// The host asked to be left alone `until` then, and is until `granted`. Returns the requests that cannot wait that long.
    pub fn rest(&mut self, name: &Arc<str>, until: Instant, granted: Instant) -> Vec<FetchRequest> {
        let host = self.hosts.entry(name.clone()).or_default();
        host.paused_until = host.paused_until.max(Some(granted));
        host.asked_until = host.asked_until.max(Some(until));
        let late = host.waiting.values().filter(|request| host.rests_too_long_for(request));
        let late: Vec<Seq> = late.map(|request| request.seq).collect();
        late.iter().filter_map(|seq| host.waiting.remove(seq)).collect()
    }

    /// Until when the host asked to be left alone, if it is.
    pub fn asked_until(&self, name: &Arc<str>) -> Option<Instant> {
        self.hosts.get(name)?.asked_until
    }

    /// Time has passed: if the host has rested for long enough, what waits for it has its turn again.
    pub fn rested(&mut self, name: &Arc<str>, now: Instant) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        if host.paused_until.is_some_and(|until| until <= now) {
            (host.paused_until, host.asked_until) = (None, None);
            host.join_queue(name, &mut self.queues);
        }
    }

    /// What is to be told of hosts by now, once.
    pub fn take_news(&mut self) -> Vec<HostNews> {
        std::mem::take(&mut self.news)
    }

    /// How many hosts are down, of those that something named a short while ago: a host is found to be back only when it is
    /// asked, and one that nobody names any more would count for ever.
    pub fn hosts_down(&self, now: Instant) -> usize {
        let is_named = |host: &Host| host.named.is_some_and(|named| now < named + COUNTED_FOR);
        self.hosts.values().filter(|host| host.is_down() && is_named(host)).count()
    }

    /// Forgets what waits, and gives it back; attempts under way still end here.
    pub fn clear(&mut self) -> Vec<FetchRequest> {
        self.queues.iter_mut().for_each(|queue| queue.turns.clear());
        let mut waiting = Vec::new();
        self.hosts.retain(|_, host| {
            waiting.extend(std::mem::take(&mut host.waiting).into_values());
            (host.queued_in, host.outage, host.probed) = (None, Outage::default(), None);
            (host.paused_until, host.asked_until) = (None, None);
            !host.is_idle()
        });
        waiting
    }

    /// Once there are many hosts, the idle ones go but for those that answered last. Seldom enough to cost nothing.
    fn forget_some(&mut self) {
        if self.hosts.len() <= self.max_hosts {
            return;
        }
        let mut idle: Vec<_> = self.hosts.values().filter(|host| host.is_idle()).map(|host| host.answered).collect();
        let kept = MAX_IDLE_HOSTS / 2;
        let since = if idle.len() > kept {
            let place = idle.len() - kept;
            *idle.select_nth_unstable(place).1
        } else {
            None
        };
        self.hosts.retain(|_, host| !host.is_idle() || (host.answered.is_some() && host.answered >= since));
        self.max_hosts = MAX_IDLE_HOSTS.max(2 * self.hosts.len());
    }
}

#[cfg(test)]
mod tests;
