//! What all sessions of a cluster cache share: the view of the cluster, the state of each node towards us (its debts
//! among it), and who looks around when.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, timeout};

use super::view::View;
use crate::redis::address::Address;
use crate::redis::budget::Budget;
use crate::redis::encode::Outbox;
use crate::redis::error::{Error, unavailable};
use crate::redis::server::{Role, Server};
use crate::redis::session::Session;
use crate::redis::settings::{Settings, SetupError, TlsClient};

/// All sessions together look around this often, at most.
const LOOK_GAP: Duration = Duration::from_millis(100);
/// How often to look around while a node does not answer.
const WATCH_EVERY: Duration = Duration::from_millis(250);
/// A view that is older is looked at again when there is time.
const MAX_AGE: Duration = Duration::from_secs(1);
/// For so long a view is not given up for one of an older epoch: that comes from a node that is cut off.
const TRUST: Duration = Duration::from_secs(15);
/// Nodes that are asked side by side.
const ASKED: usize = 3;
/// After the first good answer the others have so long.
const GRACE: Duration = Duration::from_millis(30);
/// Addresses of which is remembered who gave them, at most.
const MAX_TELLERS: usize = 4096;
/// All that one node tells about the others.
pub(crate) const MAX_TOLD_BYTES: usize = 4 * 1024 * 1024;

pub(crate) struct Topology {
    pub(crate) settings: Settings,
    tls: Option<TlsClient>,
    pub(crate) seeds: Vec<Address>,
    state: Mutex<State>,
}

struct State {
    view: Arc<View>,
    servers: HashMap<Address, Arc<Server>>,
    /// Which node gave a node's address.
    tellers: HashMap<Address, Address>,
    looked: Option<Instant>,
    adopted: Option<Instant>,
    is_doubted: bool,
    /// Since when no node has said that all slots are served.
    ailing: Option<Instant>,
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
        let view = Arc::new(View::empty());
        let (servers, tellers) = (HashMap::new(), HashMap::new());
        let state = State { view, servers, tellers, looked: None, adopted: None, is_doubted: true, ailing: None };
        Ok(Topology { settings, tls, seeds, state: Mutex::new(state) })
    }

    /// What to call the cluster in a message, without secrets.
    pub(crate) fn describe(&self) -> String {
        let tls = if self.settings.tls.is_some() { " with TLS" } else { "" };
        let seeds: Vec<String> = self.seeds.iter().map(ToString::to_string).collect();
        format!("redis cluster{tls} at {}", seeds.join(","))
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.state().view.clone()
    }

    /// A new session to a node.
    pub(crate) fn session(&self, address: &Address) -> Result<Session, Error> {
        let mut state = self.state();
        let State { servers, tellers, .. } = &mut *state;
        let server = match servers.entry(address.clone()) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(place) => {
                let server = Server::at(&self.settings, self.tls.as_ref(), address, Role::ClusterNode)
                    .map_err(|error| unavailable(format!("a node of the cluster cannot be reached: {error}")))?;
                let told_by = tellers.get(address).filter(|_| !self.seeds.contains(address)).cloned();
                place.insert(Arc::new(server.told_by(told_by))).clone()
            }
        };
        Ok(Session::new(server))
    }

    /// A node of which a session has been made, and who gave its address: for a message.
    pub(crate) fn name(&self, address: &Address) -> String {
        let server = self.state().servers.get(address).cloned();
        server.map_or_else(|| format!("the node of the cluster at {address}"), |server| server.name())
    }

    /// The node `from` has given these addresses.
    pub(crate) fn heard(&self, addresses: impl Iterator<Item = Address>, from: &Address) {
        self.state().hear(addresses, from);
    }

    /// Something has gone wrong that a look around may explain.
    pub(crate) fn doubt(&self) {
        self.state().is_doubted = true;
    }

    /// Whether the cluster has refused its service as a whole for as long as operations are tried.
    pub(crate) fn is_down(&self) -> bool {
        self.state().ailing.is_some_and(|since| since.elapsed() >= self.settings.down_after)
    }

    /// Takes over what nodes have said about single slots.
    pub(crate) fn moved(&self, moved: &[(u16, Address)]) {
        let mut state = self.state();
        state.view = Arc::new(state.view.with_moved(moved));
        state.is_doubted = true;
    }

    /// Whether the caller is to look around now. Without any view, everybody is.
    fn claim(&self, now: Instant) -> bool {
        let mut state = self.state();
        if state.adopted.is_none() {
            return true;
        }
        let is_due = state.is_doubted || state.adopted.is_some_and(|adopted| now - adopted > MAX_AGE);
        let may = state.looked.is_none_or(|looked| now - looked >= LOOK_GAP);
        if is_due && may {
            state.looked = Some(now);
        }
        is_due && may
    }

    fn adopt(&self, view: View, from: &Address) {
        let mut state = self.state();
        let is_older = view.epoch < state.view.epoch && state.adopted.is_some_and(|adopted| adopted.elapsed() < TRUST);
        if is_older {
            return;
        }
        let now = Instant::now();
        state.is_doubted = !view.is_ok;
        state.adopted = Some(now);
        state.ailing = if view.is_ok { None } else { state.ailing.or(Some(now)) };
        let is_known = |address: &Address| {
            view.primaries().iter().any(|primary| primary.address == *address) || view.replicas.contains(address)
        };
        state
            .servers
            .retain(|address, server| is_known(address) || Arc::strong_count(server) > 1 || server.has_abandoned());
        state.tellers.retain(|address, _| is_known(address));
        let replicas = view.replicas.iter().cloned();
        state.hear(view.primaries().iter().map(|primary| primary.address.clone()).chain(replicas), from);
        state.view = Arc::new(view);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Who gave an address first is kept, as long as the node is known: nobody needs to be told of it by itself.
    fn hear(&mut self, addresses: impl Iterator<Item = Address>, from: &Address) {
        for address in addresses.filter(|address| address != from) {
            if self.tellers.len() < MAX_TELLERS || self.tellers.contains_key(&address) {
                self.tellers.entry(address).or_insert_with(|| from.clone());
            }
        }
    }
}

/// Looks around for a session, on lines of its own: those that carry work are never held up or given up for it.
pub(crate) struct Scout {
    topology: Arc<Topology>,
    lines: HashMap<Address, Session>,
    turn: usize,
}

impl Scout {
    pub(crate) fn new(topology: Arc<Topology>) -> Self {
        Scout { topology, lines: HashMap::new(), turn: 0 }
    }

    /// Looks around if that is due. Fails only if nothing is known at all.
    pub(crate) async fn refresh(&mut self, budget: &Budget) -> Result<Arc<View>, Error> {
        if self.topology.claim(Instant::now()) {
            let looked = self.look(budget).await;
            let view = self.topology.view();
            return if view.primaries().is_empty() { looked.map(|()| view) } else { Ok(view) };
        }
        Ok(self.topology.view())
    }

    /// Looks around again and again while a node does not answer, first when that may last no longer than `block`. Never ends.
    pub(crate) async fn watch(&mut self, block: Duration, budget: &Budget) -> Infallible {
        sleep(block).await;
        loop {
            sleep(WATCH_EVERY).await;
            self.topology.doubt();
            // What it finds, or does not find, is for those who wait.
            let _ = self.refresh(budget).await;
        }
    }

    /// Asks a few nodes, then others as long as none has an answer; the best answer becomes the view.
    async fn look(&mut self, budget: &Budget) -> Result<(), Error> {
        let mut left = self.candidates().into_iter().peekable();
        let mut failure = unavailable("no node of the cluster is known");
        while left.peek().is_some() {
            if budget.left().is_zero() {
                break;
            }
            let some: Vec<Address> = left.by_ref().take(ASKED).collect();
            match self.ask(some, budget.left().min(self.topology.settings.connect_timeout)).await {
                Ok((from, view)) => {
                    if !view.is_ok {
                        // Others may know better next time.
                        self.lines.clear();
                    }
                    self.topology.adopt(view, &from);
                    return Ok(());
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Those that answered last time first, the others by turns.
    fn candidates(&mut self) -> Vec<Address> {
        let view = self.topology.view();
        let mut others: Vec<Address> = view.primaries().iter().map(|primary| primary.address.clone()).collect();
        others.extend(view.replicas.iter().chain(&self.topology.seeds).cloned());
        self.turn = self.turn.wrapping_add(1);
        let middle = self.turn.checked_rem(others.len()).unwrap_or(0);
        others.rotate_left(middle);
        let mut all: Vec<Address> = self.lines.keys().cloned().collect();
        for address in others {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all
    }

    /// The best of their answers, and whose it is.
    async fn ask(&mut self, some: Vec<Address>, within: Duration) -> Result<(Address, View), Error> {
        let mut calls = FuturesUnordered::new();
        let mut failure = unavailable("no node of the cluster answered in time");
        for address in some {
            let line = match self.lines.remove(&address) {
                Some(line) => Ok(line),
                None => self.topology.session(&address),
            };
            match line {
                Ok(line) => calls.push(told(address, line, within)),
                Err(error) => failure = error,
            }
        }
        let mut best: Option<(Address, View)> = None;
        let mut until = Instant::now() + within;
        while let Ok(Some((address, line, result))) =
            timeout(until.saturating_duration_since(Instant::now()), calls.next()).await
        {
            match result {
                Ok(view) => {
                    self.lines.insert(address.clone(), line);
                    until = until.min(Instant::now() + GRACE);
                    let rank = |view: &View| (view.is_ok, view.epoch, view.covered());
                    if best.as_ref().is_none_or(|(_, best)| rank(best) < rank(&view)) {
                        best = Some((address, view));
                    }
                }
                Err(error) => failure = error,
            }
        }
        best.ok_or(failure)
    }
}

async fn told(address: Address, mut line: Session, within: Duration) -> (Address, Session, Result<View, Error>) {
    let mut outbox = Outbox::new();
    outbox.pack(&[b"CLUSTER", b"INFO"]);
    outbox.pack(&[b"CLUSTER", b"SLOTS"]);
    let frames = line.call(outbox, MAX_TOLD_BYTES, Budget::new(within)).await;
    let view = frames.and_then(|frames| View::read(frames, &address)).map_err(|error| match error {
        Error::Refused(detail) => unavailable(format!("CLUSTER SLOTS brought nothing: {detail}")),
        error => error,
    });
    (address, line, view)
}
