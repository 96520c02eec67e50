//! A batch over the nodes: split, sent side by side, sent on where a node says `ASK`, and put together again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, join_all, select};

use super::{ClusterSession, named};
use crate::cache::redis::{RedisSession, unavailable};
use crate::cache::{CacheError, Command, Reply, Session};
use crate::event::CacheKey;
use crate::redis::cluster::{NodeLink, NodeTimeouts, SlotMap};
use crate::redis::slot::slot;
use crate::redis::{Address, Deadline, Redirect};

type Outcome = Result<Reply, CacheError>;

pub(super) const NO_OWNER: &str = "no known node of the cluster has the key";

/// How long a call waits for nodes that are being probed, if it needs no other node; and how long a ping does.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);
/// How long a call that needs several nodes waits for one that has still to be connected: one that hangs must not hold up
/// the others for all of `connect_timeout`.
const CONNECT_PATIENCE: Duration = Duration::from_millis(300);
/// How long a call waits for probes while their nodes are known to be down.
const LITTLE_PATIENCE: Duration = Duration::from_millis(10);

/// The commands of a batch that go to one node.
#[derive(Default)]
struct NodeBatch {
    /// Their places in the batch.
    places: Vec<usize>,
    commands: Vec<Command>,
}

impl NodeBatch {
    fn push(&mut self, place: usize, command: &Command) {
        self.places.push(place);
        self.commands.push(command.clone());
    }
}

/// The results of one node.
struct NodeResults {
    address: Address,
    places: Vec<usize>,
    results: Vec<Outcome>,
    redirects: Vec<(usize, Redirect)>,
}

/// How a part is sent to its node.
#[derive(Clone, Copy)]
struct Sending {
    /// Each command has an `ASKING` before it.
    asking: bool,
    timeouts: NodeTimeouts,
    within: Duration,
}

impl NodeResults {
    /// Copies the results to their places in the batch.
    fn copy_to(&self, results: &mut [Outcome]) {
        for (place, result) in self.places.iter().zip(&self.results) {
            if let Some(own) = results.get_mut(*place) {
                own.clone_from(result);
            }
        }
    }
}

impl ClusterSession {
    pub(super) async fn apply_parts(
        &mut self,
        batch: &[Command],
        within: Duration,
    ) -> Result<Vec<Outcome>, CacheError> {
        let deadline = Deadline::new(within);
        let slots = self.refresh_topology(&deadline).await?;
        self.turn = self.turn.wrapping_add(1);
        let mut results = vec![Err(CacheError::RefusedForNow(NO_OWNER.into())); batch.len()];
        let parts = split(batch, &slots);
        if parts.values().map(|part| part.places.len()).sum::<usize>() < batch.len() {
            self.topology.mark_stale();
        }
        let ended = self.send(parts, &slots, false, &deadline).await?;
        let mut asked = self.take_results(&ended, batch, &mut results);
        asked.values_mut().for_each(NodeBatch::sort);
        self.send(asked, &slots, true, &deadline).await?.iter().for_each(|done| done.copy_to(&mut results));
        Ok(results)
    }

    /// Copies what the nodes answered to its place in the batch, and notes the nodes that they name. Returns the commands that
    /// are to be sent on.
    fn take_results(
        &self,
        ended: &[NodeResults],
        batch: &[Command],
        results: &mut [Outcome],
    ) -> HashMap<Address, NodeBatch> {
        let (mut asked, mut moved) = (HashMap::<Address, NodeBatch>::new(), Vec::new());
        for done in ended {
            done.copy_to(results);
            moved.extend(self.note_redirects(done));
            for (place, redirect) in sendable(done, batch, results) {
                let Some(command) = batch.get(place) else { continue };
                asked.entry(redirect.target(&done.address)).or_default().push(place, command);
            }
        }
        if !moved.is_empty() {
            self.topology.moved(&moved);
        }
        asked
    }

    /// Notes the addresses that a node names, and returns the slots that it says have moved for good.
    fn note_redirects(&self, done: &NodeResults) -> Vec<(u16, Address)> {
        let to = |redirect: &Redirect| redirect.target(&done.address);
        if !done.redirects.is_empty() {
            self.topology.note_addresses(done.redirects.iter().map(|(_, redirect)| to(redirect)), &done.address);
        }
        let moved = done.redirects.iter().filter(|(_, redirect)| !redirect.is_ask);
        moved.map(|(_, redirect)| (redirect.slot, to(redirect))).collect()
    }

    /// Sends the parts side by side, and refreshes the topology while a node does not answer.
    async fn send(
        &mut self,
        mut parts: HashMap<Address, NodeBatch>,
        slots: &SlotMap,
        asking: bool,
        deadline: &Deadline,
    ) -> Result<Vec<NodeResults>, CacheError> {
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        self.open_links(&parts.keys().collect::<Vec<_>>())?;
        let (how, turn) = (self.sending(&parts, asking, deadline), self.turn);
        let waits = self.shared.wait_replicas > 0 && !asking;
        let calls = self.links.iter_mut().filter_map(|(address, link)| {
            let part = parts.remove(address)?;
            let own_slot = if waits { slots.slot_of(address, turn) } else { None };
            Some(send_part(address.clone(), link, part, own_slot, how))
        });
        let calls = std::pin::pin!(join_all(calls));
        let watch = std::pin::pin!(self.refresher.watch(Duration::ZERO, deadline));
        match select(calls, watch).await {
            Either::Left((ended, _)) => Ok(ended),
            Either::Right((never, _)) => match never {},
        }
    }
}

impl ClusterSession {
    /// How long to wait for the nodes of these parts: a node that is down must not hold up the others.
    fn sending(&self, parts: &HashMap<Address, NodeBatch>, asking: bool, deadline: &Deadline) -> Sending {
        let links = || parts.keys().filter_map(|address| self.links.get(address));
        let probing = match () {
            () if links().any(|link| link.is_healthy()) => Duration::ZERO,
            () if links().all(NodeLink::is_down) => LITTLE_PATIENCE,
            () => PATIENCE,
        };
        let within = deadline.left();
        let connecting = if parts.len() > 1 { CONNECT_PATIENCE } else { within };
        let timeouts = NodeTimeouts { probing: probing.min(within), connecting: connecting.min(within) };
        Sending { asking, timeouts, within }
    }
}

impl NodeBatch {
    /// Puts commands that come from several nodes into the order of the batch.
    fn sort(&mut self) {
        let mut both: Vec<(usize, Command)> = self.places.drain(..).zip(self.commands.drain(..)).collect();
        both.sort_by_key(|(place, _)| *place);
        (self.places, self.commands) = both.into_iter().unzip();
    }
}

fn split(batch: &[Command], slots: &Arc<SlotMap>) -> HashMap<Address, NodeBatch> {
    let mut parts = HashMap::<Address, NodeBatch>::new();
    for (place, command) in batch.iter().enumerate() {
        let Some(owner) = slots.owner(slot(command.key().as_bytes())) else { continue };
        match parts.get_mut(owner) {
            Some(part) => part.push(place, command),
            None => parts.entry(owner.clone()).or_default().push(place, command),
        }
    }
    parts
}

async fn send_part(
    address: Address,
    link: &mut NodeLink<RedisSession>,
    part: NodeBatch,
    own_slot: Option<u16>,
    how: Sending,
) -> NodeResults {
    let NodeBatch { places, commands } = part;
    let call = link.with(how.timeouts, async |session| {
        (session.asking, session.own_slot) = (how.asking, own_slot);
        let results = session.apply(&commands, how.within).await;
        session.asking = false;
        (results, std::mem::take(&mut session.redirects))
    });
    let call = call.await;
    let (mut results, redirects) = call.unwrap_or_else(|error| (vec![Err(error.into()); places.len()], Vec::new()));
    let errors = results.iter_mut().filter_map(|result| result.as_mut().err());
    errors.for_each(|error| *error = named(link, error.clone()));
    NodeResults { address, places, results, redirects }
}

/// The commands that may be sent on to the node that `ASK` names. Others on their keys get an error, so that they are repeated.
fn sendable<'a>(done: &'a NodeResults, batch: &'a [Command], results: &mut [Outcome]) -> Vec<(usize, &'a Redirect)> {
    let asks: HashMap<usize, &Redirect> = done
        .redirects
        .iter()
        .filter(|(_, redirect)| redirect.is_ask)
        .map(|(index, redirect)| (*index, redirect))
        .collect();
    if asks.is_empty() {
        return Vec::new();
    }
    let mut first: HashMap<&CacheKey, &Redirect> = HashMap::new();
    let mut held: HashSet<&CacheKey> = HashSet::new();
    let mut sendable = Vec::new();
    for (index, (place, result)) in done.places.iter().zip(&done.results).enumerate() {
        let Some(key) = batch.get(*place).map(Command::key) else { continue };
        match asks.get(&index) {
            Some(redirect) if first.get(key).is_none_or(|first| *first == *redirect) => {
                first.entry(key).or_insert(redirect);
                sendable.push((*place, key, *redirect));
            }
            Some(_) => drop(held.insert(key)),
            None if first.contains_key(key) => {
                held.insert(key);
                // It has come before one that is to be repeated.
                if let Some(result) = results.get_mut(*place) {
                    *result = Err(unavailable("an earlier command on the key was redirected to another node"));
                }
            }
            None if result.as_ref().is_err_and(CacheError::is_worth_retrying) => drop(held.insert(key)),
            None => {}
        }
    }
    sendable.retain(|(_, key, _)| !held.contains(key));
    sendable.into_iter().map(|(place, _, redirect)| (place, redirect)).collect()
}
