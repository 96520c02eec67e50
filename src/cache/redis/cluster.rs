//! A cache on a Redis Cluster, made of sessions to its nodes.
//!
//! It decides which node gets which command, and in which order when slots change nodes. The cluster client of the `redis`
//! crate is not used: it repeats commands by itself, behind later ones.
//!
//! # Order
//!
//! A batch is split by node. Each part is sent in order as one pipeline (see [`RedisSession`]). The parts run side by side,
//! and a call ends when all of them have ended. A key has one owner, so all commands on it are in one part. A node may not
//! carry out a command because the slot is elsewhere (`MOVED`), is on its way (`TRYAGAIN`), or is served by nobody
//! (`CLUSTERDOWN`). Such a command fails as unavailable. The caller repeats it in order, with later ones on its key, and the
//! slot map is refreshed before that.
//!
//! `ASK` means that the slot is on its way and the key is not on the old node. Only the new node can carry out the command,
//! after `ASKING`, for as long as the slot takes to move. So the command is sent on within the call, when all parts have
//! ended. A later command on the key does not overtake it:
//! - In the same part, the later command meets the same old node. While the slot is on its way, nothing can create the key
//!   there, so the later one is answered `ASK` too, and both are sent on in order.
//! - If the later one is answered anything else (the move was cancelled, the slot has arrived, the connection broke),
//!   neither is sent on. Everything on the key from the first `ASK` on fails as unavailable and is repeated in order. The
//!   same holds if an earlier command on the key is to be repeated.
//! - The next call begins when this one has ended. What goes to the new node comes after what the old node did, because
//!   the old node had answered by then.
//!
//! A write that was given up on the old node cannot land on top of what the new node was given. When the old node reads it
//! at last, it either still has the slot, and then nothing was sent on; or it answers `MOVED` or `ASK`. If the slot comes
//! back to that node, the abandoned connection is killed first, by whichever session sends to it. A failed primary comes
//! back as a replica and drops what it alone had.
//!
//! # What does not answer
//!
//! A node that is gone fails at once. One that hangs holds a call up to `response_timeout`, or until a refresh of the
//! topology (four times a second meanwhile) shows that another node has taken its place. From then on it holds up nobody:
//! see [`NodeLink`].
//!
//! # Limits
//!
//! While a slot is on its way, Redis refuses (`TRYAGAIN`) a write with a version unless the key and its version key are on
//! one side. Such a key waits until the slot has arrived.

mod apply;
mod ownership;
mod scan;
mod scan_round;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{LocalBoxFuture, join_all};

use self::scan_round::ClusterScan;
use super::{CacheSettings, CacheState, RedisSession, SetupError, unavailable};
use crate::cache::{
    Cache, CacheError, Command, DeleteGroup, Incoming, Progress, Reply, Room, Scan, Session, StreamError,
};
use crate::event::CacheKey;
use crate::redis::cluster::{NodeLink, NodeTimeouts, SlotMap, Topology, TopologyRefresher};
use crate::redis::slot::slot;
use crate::redis::{Address, CLUSTER_DOWN, Deadline, ServerSession};

/// A node that takes longer to answer a ping is unhealthy.
const MAX_PING: Duration = Duration::from_secs(1);

/// A Redis Cluster.
#[derive(Clone)]
pub struct ClusterCache {
    topology: Arc<Topology>,
    shared: Arc<CacheState>,
}

impl ClusterCache {
    /// `seeds` are nodes to ask for the others; without any, the one that `settings` names. Connects to nothing.
    ///
    /// # Errors
    /// Settings that no cache can be built from.
    pub fn new(settings: impl Into<CacheSettings>, seeds: Vec<Address>) -> Result<Self, SetupError> {
        let settings = settings.into();
        let shared = CacheState::new(&settings, true)?;
        Ok(ClusterCache { topology: Arc::new(Topology::new(settings.connection, seeds)?), shared })
    }
}

impl Cache for ClusterCache {
    fn session(&self) -> Box<dyn Session> {
        Box::new(ClusterSession::new(self.topology.clone(), self.shared.clone(), apply::PATIENCE))
    }

    fn streaming_session(&self) -> Box<dyn Session> {
        Box::new(ClusterSession::new(self.topology.clone(), self.shared.clone(), Duration::MAX))
    }

    fn room(&self) -> &Room {
        &self.shared.room
    }

    fn describe(&self) -> String {
        self.topology.describe()
    }
}

struct ClusterSession {
    topology: Arc<Topology>,
    shared: Arc<CacheState>,
    /// How long a call waits for the one node that it needs.
    patience: Duration,
    refresher: TopologyRefresher,
    links: HashMap<Address, NodeLink<RedisSession>>,
    /// The slot map for which unneeded links were last dropped.
    seen: Arc<SlotMap>,
    /// Scans that have not ended, the newest at the back.
    paused: VecDeque<ClusterScan>,
    /// States that scans were in so far: each has a number of its own.
    scan_states: u64,
    /// Counts batches, so that each waits for replicas in another slot.
    turn: usize,
    /// Reconnects of links that were dropped.
    reconnects: u64,
}

impl ClusterSession {
    fn new(topology: Arc<Topology>, shared: Arc<CacheState>, patience: Duration) -> Self {
        ClusterSession {
            refresher: TopologyRefresher::new(topology.clone()),
            links: HashMap::new(),
            seen: topology.slots(),
            topology,
            shared,
            patience,
            paused: VecDeque::new(),
            scan_states: 0,
            turn: 0,
            reconnects: 0,
        }
    }

    /// The slot map, refreshed first if that is due.
    async fn refresh_topology(&mut self, deadline: &Deadline) -> Result<Arc<SlotMap>, CacheError> {
        let slots = self.refresher.refresh(deadline).await?;
        if !Arc::ptr_eq(&slots, &self.seen) {
            let is_known = |address: &Address| slots.primaries().iter().any(|primary| primary.address == *address);
            for (_, link) in self.links.extract_if(|address, _| !is_known(address)) {
                self.reconnects += link.reconnects();
            }
            self.seen = slots.clone();
        }
        Ok(slots)
    }

    /// Makes sure that there is a link to each node.
    fn open_links(&mut self, addresses: &[&Address]) -> Result<(), CacheError> {
        for address in addresses {
            if !self.links.contains_key(*address) {
                let is_patient = self.patience > apply::PATIENCE;
                let own = |session: ServerSession| {
                    RedisSession::new(if is_patient { session.patient() } else { session }, self.shared.clone())
                };
                let link = NodeLink::new((*address).clone(), self.topology.clone(), own)?;
                self.links.insert((*address).clone(), link);
            }
        }
        Ok(())
    }

    /// What `work` makes of a session to the node that has the key. On a slot that is on its way to another node it fails, to be
    /// tried again.
    async fn at_owner<T>(
        &mut self,
        key: &CacheKey,
        deadline: &Deadline,
        work: impl AsyncFnOnce(&mut RedisSession) -> Result<T, StreamError>,
    ) -> Result<T, StreamError> {
        let slots = self.refresh_topology(deadline).await?;
        let Some(owner) = slots.owner(slot(key.as_bytes())).cloned() else {
            return Err(self.failed(unavailable(apply::NO_OWNER)).into());
        };
        self.open_links(&[&owner])?;
        let Some(link) = self.links.get_mut(&owner) else {
            return Err(unavailable("there is no connection to the node").into());
        };
        let call = link.with(NodeTimeouts::of(self.patience.min(deadline.left())), work).await;
        match call.map_err(|error| StreamError::from(CacheError::from(error))).and_then(|done| done) {
            Err(StreamError::Cache(error)) => Err(self.failed(error).into()),
            ended => ended,
        }
    }

    /// Why a node did not carry something out: the map of slots may be out of date; and it is not tried again while the whole
    /// cluster is down, or no node serves its slot.
    fn failed(&self, error: CacheError) -> CacheError {
        let error = of_one_node(error);
        if matches!(error, CacheError::RefusedForNow(_) | CacheError::Down(_)) {
            self.topology.mark_stale();
        }
        match error {
            CacheError::RefusedForNow(cause) => {
                let is_of_all = [CLUSTER_DOWN, apply::NO_OWNER].contains(&&*cause);
                match is_of_all && self.topology.is_down() {
                    true => CacheError::Down(cause),
                    false => CacheError::RefusedForNow(cause),
                }
            }
            other => other,
        }
    }

    async fn ping_all(&mut self, within: Duration) -> Result<(), CacheError> {
        let deadline = Deadline::new(within);
        let slots = self.refresh_topology(&deadline).await?;
        let owners = slots.owners();
        self.open_links(&owners)?;
        let within = deadline.left().min(MAX_PING);
        let links = self.links.iter_mut().filter(|(address, _)| owners.contains(address));
        let patience = NodeTimeouts { probing: apply::PATIENCE.min(within), connecting: within };
        let calls = links.map(async |(_, link)| {
            let pong = link.with(patience, async move |session| session.ping(within).await).await;
            pong.map_err(CacheError::from).and_then(|pong| pong).map_err(|error| named(link, error))
        });
        for ping in join_all(calls).await {
            ping.map_err(of_one_node).inspect_err(|_| self.topology.mark_stale())?;
        }
        slots.is_covered().then_some(()).ok_or_else(|| self.not_covered())
    }

    fn not_covered(&self) -> CacheError {
        self.topology.mark_stale();
        of_one_node(unavailable("some slots of the cluster have no primary"))
    }
}

impl Session for ClusterSession {
    fn apply<'a>(
        &'a mut self,
        batch: &'a [Command],
        within: Duration,
    ) -> LocalBoxFuture<'a, Vec<Result<Reply, CacheError>>> {
        async move {
            match self.apply_parts(batch, within).await {
                Ok(results) => results.into_iter().map(|result| result.map_err(|error| self.failed(error))).collect(),
                Err(error) => vec![Err(error); batch.len()],
            }
        }
        .boxed_local()
    }

    fn unlink_and_scan<'a>(
        &'a mut self,
        groups: &'a [DeleteGroup],
        scan: Option<Scan<'a>>,
        within: Duration,
    ) -> LocalBoxFuture<'a, Progress> {
        async move { self.delete_and_scan(groups, scan, &Deadline::new(within)).await }.boxed_local()
    }

    fn store_incoming<'a>(
        &'a mut self,
        value: Incoming<'a>,
        within: Duration,
    ) -> LocalBoxFuture<'a, Result<Reply, StreamError>> {
        async move {
            let deadline = Deadline::new(within);
            let key = value.key;
            let work = async |session: &mut RedisSession| session.take_in(value, deadline.left()).await;
            self.at_owner(key, &deadline, work).await
        }
        .boxed_local()
    }

    fn refresh_long<'a>(
        &'a mut self,
        refresh: &'a Command,
        within: Duration,
    ) -> LocalBoxFuture<'a, Result<Reply, CacheError>> {
        async move {
            let deadline = Deadline::new(within);
            let work = async |session: &mut RedisSession| Ok(session.refresh_in_steps(refresh, &deadline).await?);
            self.at_owner(refresh.key(), &deadline, work).await.map_err(|error| match error {
                StreamError::Cache(error) => error,
                StreamError::BrokeOff => unavailable("it broke off"),
            })
        }
        .boxed_local()
    }

    fn ping(&mut self, within: Duration) -> LocalBoxFuture<'_, Result<(), CacheError>> {
        self.ping_all(within).boxed_local()
    }

    fn reconnects(&self) -> u64 {
        self.reconnects + self.links.values().map(NodeLink::reconnects).sum::<u64>()
    }
}

/// Adds the name of the node to a failure. Failures of connecting have it already.
fn named(link: &NodeLink<RedisSession>, error: CacheError) -> CacheError {
    match error {
        CacheError::Unavailable(cause) => CacheError::Unavailable(link.named(cause)),
        other => other,
    }
}

/// One unhealthy node does not hold up the others: what failed is repeated, and the session goes on with the rest.
fn of_one_node(error: CacheError) -> CacheError {
    match error {
        CacheError::Unavailable(cause) => CacheError::RefusedForNow(cause),
        other => other,
    }
}
