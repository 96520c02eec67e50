//! What all sessions to a cluster share: the slot map, the state of each node towards us (its abandoned connections too), and
//! when the topology is refreshed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, timeout};

use super::slot_map::SlotMap;
use crate::redis::address::Address;
use crate::redis::deadline::Deadline;
use crate::redis::encode::Encoder;
use crate::redis::error::{Error, unavailable};
use crate::redis::server::{Role, Server};
use crate::redis::session::ServerSession;
use crate::redis::settings::{Settings, SetupError, TlsClient};

/// The least time between two refreshes, over all sessions together.
const MIN_REFRESH_GAP: Duration = Duration::from_millis(100);
/// How often the topology is refreshed while a node does not answer.
const WATCH_EVERY: Duration = Duration::from_millis(250);
/// A slot map of this age is refreshed by the next call.
const MAX_SLOT_MAP_AGE: Duration = Duration::from_secs(1);
/// A slot map is kept this long against one of an older epoch, which comes from a node that is cut off.
const EPOCH_TRUST: Duration = Duration::from_secs(15);
/// Nodes that are asked side by side.
const ASKED_AT_ONCE: usize = 3;
/// How long those that were asked may take before others are asked beside them.
const ASK_MORE_AFTER: Duration = Duration::from_millis(100);
/// How long the others may take after the first good answer.
const GRACE: Duration = Duration::from_millis(30);
/// Addresses whose source is remembered, at most.
const MAX_ADDRESS_SOURCES: usize = 4096;
/// Servers at most that are not in the cluster any more, not in use, and have abandoned connections.
const MAX_FORMER: usize = 1024;
/// The longest string in an answer about the cluster, in bytes.
pub(crate) const MAX_REPORT_BYTES: usize = 4 * 1024 * 1024;

pub(crate) struct Topology {
    pub(crate) settings: Settings,
    tls: Option<TlsClient>,
    pub(crate) seeds: Vec<Address>,
    state: Mutex<State>,
}

struct State {
    slots: Arc<SlotMap>,
    servers: HashMap<Address, Known>,
    /// Sessions made so far.
    sessions: u64,
    /// For each address, the node that gave it.
    address_sources: HashMap<Address, Address>,
    refreshed: Option<Instant>,
    adopted: Option<Instant>,
    is_stale: bool,
    /// Since when no node has said that all slots are served; None: they are.
    down_since: Option<Instant>,
}

struct Known {
    server: Arc<Server>,
    /// The number of the last session to it.
    used: u64,
}

impl Topology {
    /// `seeds` are nodes to ask for the others; without any, the one that `settings` names. Connects to nothing.
    ///
    /// # Errors
    /// A database other than 0, or what TLS cannot use.
    pub(crate) fn new(settings: Settings, seeds: Vec<Address>) -> Result<Self, SetupError> {
        if settings.db != 0 {
            return Err(SetupError::Database);
        }
        let tls = settings.tls_client()?;
        let seeds = match seeds {
            seeds if seeds.is_empty() => vec![Address::new(&settings.host, settings.port)],
            seeds => seeds,
        };
        let slots = Arc::new(SlotMap::empty());
        let (servers, address_sources) = (HashMap::new(), HashMap::new());
        let state = State {
            slots,
            servers,
            sessions: 0,
            address_sources,
            refreshed: None,
            adopted: None,
            is_stale: true,
            down_since: None,
        };
        Ok(Topology { settings, tls, seeds, state: Mutex::new(state) })
    }

    /// What to call the cluster in a message, without secrets.
    pub(crate) fn describe(&self) -> String {
        let tls = if self.settings.tls.is_some() { " with TLS" } else { "" };
        let seeds: Vec<String> = self.seeds.iter().map(ToString::to_string).collect();
        format!("redis cluster{tls} at {}", seeds.join(","))
    }

    pub(crate) fn slots(&self) -> Arc<SlotMap> {
        self.state().slots.clone()
    }

    /// A new session to a node.
    pub(crate) fn session(&self, address: &Address) -> Result<ServerSession, Error> {
        let mut state = self.state();
        let State { servers, sessions, address_sources, .. } = &mut *state;
        let known = match servers.entry(address.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let server = Server::at(&self.settings, self.tls.as_ref(), address, Role::ClusterNode)
                    .map_err(|error| unavailable(format!("a node of the cluster cannot be reached: {error}")))?;
                let address_source = address_sources.get(address).filter(|_| !self.seeds.contains(address)).cloned();
                place.insert(Known { server: Arc::new(server.address_source(address_source)), used: 0 })
            }
        };
        *sessions += 1;
        known.used = *sessions;
        Ok(ServerSession::new(known.server.clone()))
    }

    /// A node and the source of its address, for a message. A session to the node was made before.
    pub(crate) fn name(&self, address: &Address) -> String {
        let server = self.state().servers.get(address).map(|known| known.server.clone());
        server.map_or_else(|| format!("the node of the cluster at {address}"), |server| server.name())
    }

    /// Remembers that the node `from` gave these addresses.
    pub(crate) fn note_addresses(&self, addresses: impl Iterator<Item = Address>, from: &Address) {
        self.state().note_addresses(addresses, from);
    }

    /// Something went wrong that a refresh may explain: the next call refreshes the topology.
    pub(crate) fn mark_stale(&self) {
        self.state().is_stale = true;
    }

    /// Whether the cluster as a whole has been down for [`Settings::down_after`].
    pub(crate) fn is_down(&self) -> bool {
        self.state().down_since.is_some_and(|since| since.elapsed() >= self.settings.down_after)
    }

    /// Updates the owners of single slots, as nodes have said (`MOVED`).
    pub(crate) fn moved(&self, moved: &[(u16, Address)]) {
        let mut state = self.state();
        state.slots = Arc::new(state.slots.with_moved(moved));
        state.is_stale = true;
    }

    /// Whether the caller is to refresh now. Without any slot map, every caller is.
    fn is_refresh_due(&self, now: Instant) -> bool {
        let mut state = self.state();
        if state.adopted.is_none() {
            return true;
        }
        let is_due = state.is_stale || state.adopted.is_some_and(|adopted| now - adopted > MAX_SLOT_MAP_AGE);
        let may = state.refreshed.is_none_or(|refreshed| now - refreshed >= MIN_REFRESH_GAP);
        if is_due && may {
            state.refreshed = Some(now);
        }
        is_due && may
    }

    fn adopt(&self, slots: SlotMap, from: &Address) {
        let mut state = self.state();
        let is_older =
            slots.epoch < state.slots.epoch && state.adopted.is_some_and(|adopted| adopted.elapsed() < EPOCH_TRUST);
        if is_older {
            return;
        }
        let now = Instant::now();
        state.is_stale = !slots.is_ok;
        state.adopted = Some(now);
        state.down_since = if slots.is_ok { None } else { state.down_since.or(Some(now)) };
        let is_known = |address: &Address| {
            slots.primaries().iter().any(|primary| primary.address == *address) || slots.replicas.contains(address)
        };
        state.forget_servers(is_known);
        state.address_sources.retain(|address, _| is_known(address));
        let replicas = slots.replicas.iter().cloned();
        state.note_addresses(slots.primaries().iter().map(|primary| primary.address.clone()).chain(replicas), from);
        state.slots = Arc::new(slots);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Keeps the servers that are known or in use, and those whose abandoned connections are to be killed if they come back.
    /// With too many of the latter, those go first that were used least lately.
    fn forget_servers(&mut self, is_known: impl Fn(&Address) -> bool) {
        let is_former = |address: &Address, known: &Known| !is_known(address) && Arc::strong_count(&known.server) == 1;
        self.servers.retain(|address, known| !is_former(address, known) || known.server.has_abandoned());
        let former = self.servers.iter().filter(|(address, known)| is_former(address, known));
        let mut used: Vec<u64> = former.map(|(_, known)| known.used).collect();
        if let Some(surplus) = used.len().checked_sub(MAX_FORMER).filter(|surplus| *surplus > 0) {
            let (_, last, _) = used.select_nth_unstable(surplus - 1);
            let last = *last;
            self.servers.retain(|address, known| !is_former(address, known) || known.used > last);
        }
    }

    /// The first source of an address is kept as long as the node is known. A node is no source of its own address.
    fn note_addresses(&mut self, addresses: impl Iterator<Item = Address>, from: &Address) {
        for address in addresses.filter(|address| address != from) {
            if self.address_sources.len() < MAX_ADDRESS_SOURCES || self.address_sources.contains_key(&address) {
                self.address_sources.entry(address).or_insert_with(|| from.clone());
            }
        }
    }
}

/// Refreshes the topology for a session, on connections of its own. Those that carry work are never held up or dropped for it.
pub(crate) struct TopologyRefresher {
    topology: Arc<Topology>,
    sessions: HashMap<Address, ServerSession>,
    turn: usize,
}

impl TopologyRefresher {
    pub(crate) fn new(topology: Arc<Topology>) -> Self {
        TopologyRefresher { topology, sessions: HashMap::new(), turn: 0 }
    }

    /// Refreshes the slot map if that is due. Fails only if there is no slot map at all.
    pub(crate) async fn refresh(&mut self, deadline: &Deadline) -> Result<Arc<SlotMap>, Error> {
        if self.topology.is_refresh_due(Instant::now()) {
            let ended = self.refresh_now(deadline).await;
            let slots = self.topology.slots();
            return if slots.primaries().is_empty() { ended.map(|()| slots) } else { Ok(slots) };
        }
        Ok(self.topology.slots())
    }

    /// Refreshes again and again while a node does not answer, for the first time when `block` is over. Never ends.
    pub(crate) async fn watch(&mut self, block: Duration, deadline: &Deadline) -> Infallible {
        sleep(block).await;
        loop {
            sleep(WATCH_EVERY).await;
            self.topology.mark_stale();
            // Whoever waits for the node sees the new slot map; a failure changes nothing.
            let _ = self.refresh(deadline).await;
        }
    }

    /// Asks a few nodes, then more of them as long as none has answered. The best answer becomes the slot map.
    async fn refresh_now(&mut self, deadline: &Deadline) -> Result<(), Error> {
        let (from, slots) = self.ask(deadline).await?;
        if !slots.is_ok {
            // Other nodes may know better: ask others next time.
            self.sessions.clear();
        }
        self.topology.adopt(slots, &from);
        Ok(())
    }

    /// Nodes that answered last time come first; the others take turns.
    fn candidates(&mut self) -> Vec<Address> {
        let slots = self.topology.slots();
        let mut others: Vec<Address> = slots.primaries().iter().map(|primary| primary.address.clone()).collect();
        others.extend(slots.replicas.iter().chain(&self.topology.seeds).cloned());
        self.turn = self.turn.wrapping_add(1);
        let middle = self.turn.checked_rem(others.len()).unwrap_or(0);
        others.rotate_left(middle);
        let mut all: Vec<Address> = self.sessions.keys().cloned().collect();
        for address in others {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all
    }

    /// The best answer, and the node that gave it. A node that hangs holds up nobody: the next ones are asked beside it.
    async fn ask(&mut self, deadline: &Deadline) -> Result<(Address, SlotMap), Error> {
        let within = deadline.left().min(self.topology.settings.connect_timeout);
        let (mut left, mut calls) = (self.candidates().into_iter().peekable(), FuturesUnordered::new());
        let (mut best, mut until) = (None, Instant::now());
        let mut failure = unavailable("no node of the cluster answered in time");
        loop {
            if best.is_none() && (calls.is_empty() || Instant::now() >= until) && !deadline.left().is_zero() {
                for address in left.by_ref().take(ASKED_AT_ONCE) {
                    match self.session(&address) {
                        Ok(session) => calls.push(ask_one(address, session, within)),
                        Err(error) => failure = error,
                    }
                }
                // Those that were asked last have all of their time.
                until = Instant::now() + if left.peek().is_some() { ASK_MORE_AFTER } else { within };
            }
            match timeout(until.saturating_duration_since(Instant::now()), calls.next()).await {
                Ok(Some((address, session, Ok(slots)))) => {
                    until = if best.is_some() { until } else { Instant::now() + GRACE };
                    self.sessions.insert(address.clone(), session);
                    best = Some(better(best, (address, slots)));
                }
                Ok(Some((_, _, Err(error)))) => failure = error,
                Ok(None) | Err(_) if best.is_some() || left.peek().is_none() => return best.ok_or(failure),
                Ok(None) | Err(_) if deadline.left().is_zero() => return Err(failure),
                Ok(None) | Err(_) => {}
            }
        }
    }

    /// That of the last time, or a new one.
    fn session(&mut self, address: &Address) -> Result<ServerSession, Error> {
        self.sessions.remove(address).map_or_else(|| Ok(self.topology.session(address)?.only_asks()), Ok)
    }
}

/// That of two answers which shows more: a healthy cluster, a later epoch, more slots.
fn better(best: Option<(Address, SlotMap)>, other: (Address, SlotMap)) -> (Address, SlotMap) {
    let rank = |(_, slots): &(Address, SlotMap)| (slots.is_ok, slots.epoch, slots.covered());
    match best {
        Some(best) if rank(&best) >= rank(&other) => best,
        _ => other,
    }
}

async fn ask_one(
    address: Address,
    mut session: ServerSession,
    within: Duration,
) -> (Address, ServerSession, Result<SlotMap, Error>) {
    let mut encoder = Encoder::new();
    encoder.pack(&[b"CLUSTER", b"INFO"]);
    encoder.pack(&[b"CLUSTER", b"SLOTS"]);
    let frames = session.call(encoder, MAX_REPORT_BYTES, Deadline::new(within)).await;
    let slots = frames.and_then(|frames| SlotMap::read(frames, &address)).map_err(|error| match error {
        Error::Refused(detail) => unavailable(format!("CLUSTER SLOTS brought nothing: {detail}")),
        error => error,
    });
    (address, session, slots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::server_info::ConnectionId;

    #[test]
    fn servers_that_have_left_are_forgotten_beyond_a_number_the_least_used_first() {
        let topology = Topology::new(Settings::new("127.0.0.1", 1), Vec::new()).unwrap();
        let addresses: Vec<Address> = (1..=1100).map(|port| Address::new("10.0.0.1", port)).collect();
        let abandon = |address: &Address| {
            let session = topology.session(address).unwrap();
            session.server().abandon(ConnectionId { id: 7, address: "10.0.0.2:1".into() });
            session
        };
        for address in &addresses {
            abandon(address);
        }
        // Of the oldest, one is used again, one is in use, and one is in the cluster.
        abandon(&addresses[2]);
        let in_use = abandon(&addresses[1]);
        let mut slots = SlotMap::empty();
        slots.replicas.push(addresses[0].clone());
        topology.adopt(slots, &addresses[0]);
        let kept = |address: &Address| topology.state().servers.contains_key(address);
        let count = addresses.iter().filter(|address| kept(address)).count();
        assert_eq!(count, MAX_FORMER + 2);
        assert!(addresses[..3].iter().all(kept) && addresses[77..].iter().all(kept));
        assert!(!addresses[3..77].iter().any(kept));
        drop(in_use);
    }
}
