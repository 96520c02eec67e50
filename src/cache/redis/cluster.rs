//! Redis Cluster, made of sessions to its nodes.
//!
//! Owns which node is asked for what, and in which order when keys change hands. The client of the `redis` crate is not
//! used: it repeats commands by itself, behind later ones.
//!
//! # Order
//!
//! A batch is split by node, each part in order as one pipeline (see [`RedisSession`]); the parts run side by side, and
//! a call ends when all have ended. A key has one owner, so its commands are in one part. What a node did not do because
//! the slot is elsewhere (`MOVED`), on its way (`TRYAGAIN`), or served by nobody (`CLUSTERDOWN`), is unavailable: the
//! caller repeats it in order, with what comes after it on the key, and by then the view has been looked after.
//!
//! `ASK` is answered while a slot is on its way and the key is not on the old node (any more). Only the new node can do
//! the command, after `ASKING`, and that for as long as the slot takes to move: so it is sent on within the call, when
//! all parts have ended. Does a later command of the key overtake it? Within the part, pipelined behind it, a later one
//! meets the same old node. As long as the slot is on its way nothing can bring the key to life there, so it is answered
//! `ASK` too, and both are sent on in order. If it is answered anything else (the move was called off, the slot has
//! arrived meanwhile, the connection broke), then neither is sent on: all from the first `ASK` of the key is unavailable,
//! whatever its answer was, and is repeated in order. The same if an earlier command of the key is to be repeated.
//! Across calls there is nothing to overtake: one begins when the other has ended. And what goes to the new node comes
//! after what the old one did, for that was answered before.
//!
//! A write that was given up on the old node (a debt) cannot land on top of what the new node was given: when it is read
//! at last, the old node either has the slot still, and then we have not been sent on; or it is refused with `MOVED` or
//! `ASK`. Should the slot come back to the node, its debts are paid first, by whichever session sends to it: nodes share
//! their state over all sessions. A failed primary comes back as a replica and drops what it alone had.
//!
//! # What does not answer
//!
//! A node that is gone fails at once; one that hangs holds a call up to `response_timeout`, or until a look around (four
//! times a second meanwhile) shows that another has taken its place. From then on it holds up nobody: see [`lane`].
//!
//! # Limits
//!
//! While a slot is on its way Redis refuses (`TRYAGAIN`) a write with a version unless key and version key are both on one
//! side: such a key waits for the slot to arrive.

mod apply;
mod round;
mod walk;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{LocalBoxFuture, join_all};

use self::round::Walk;
use super::{CacheSettings, RedisSession, SetupError, Shared, unavailable};
use crate::cache::{Cache, CacheError, Command, DeleteGroup, Progress, Reply, Room, Scan, Session};
use crate::redis::cluster::{Lane, Scout, Topology, View};
use crate::redis::{Address, Budget};

/// A node that takes longer for a ping is not well.
const MAX_PING: Duration = Duration::from_secs(1);

/// A Redis Cluster.
#[derive(Clone)]
pub struct ClusterCache {
    topology: Arc<Topology>,
    shared: Arc<Shared>,
}

impl ClusterCache {
    /// `seeds` are nodes to ask for the others; without any, the one that `settings` names. Connects to nothing.
    ///
    /// # Errors
    /// Settings that no cache can be built from.
    pub fn new(settings: impl Into<CacheSettings>, seeds: Vec<Address>) -> Result<Self, SetupError> {
        let settings = settings.into();
        let shared = Shared::new(&settings, true)?;
        Ok(ClusterCache { topology: Arc::new(Topology::new(settings.connection, seeds)?), shared })
    }
}

impl Cache for ClusterCache {
    fn session(&self) -> Box<dyn Session> {
        Box::new(ClusterSession::new(self.topology.clone(), self.shared.clone()))
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
    shared: Arc<Shared>,
    scout: Scout,
    lanes: HashMap<Address, Lane<RedisSession>>,
    /// The view for which the lanes were last looked through.
    seen: Arc<View>,
    /// Scans that are not at their end, the last at the back.
    kept: VecDeque<Walk>,
    walks: u64,
    /// Goes up with each batch.
    turn: usize,
    /// Of lanes that are no more.
    reconnects: u64,
}

impl ClusterSession {
    fn new(topology: Arc<Topology>, shared: Arc<Shared>) -> Self {
        ClusterSession {
            scout: Scout::new(topology.clone()),
            lanes: HashMap::new(),
            seen: topology.view(),
            topology,
            shared,
            kept: VecDeque::new(),
            walks: 0,
            turn: 0,
            reconnects: 0,
        }
    }

    /// The view to work by; looks around first if that is due.
    async fn look(&mut self, budget: &Budget) -> Result<Arc<View>, CacheError> {
        let view = self.scout.refresh(budget).await?;
        if !Arc::ptr_eq(&view, &self.seen) {
            let is_known = |address: &Address| view.primaries().iter().any(|primary| primary.address == *address);
            for (_, lane) in self.lanes.extract_if(|address, _| !is_known(address)) {
                self.reconnects += lane.reconnects();
            }
            self.seen = view.clone();
        }
        Ok(view)
    }

    /// Makes sure that there is a lane to each.
    fn open(&mut self, addresses: &[&Address]) -> Result<(), CacheError> {
        for address in addresses {
            if !self.lanes.contains_key(*address) {
                let own = |session| RedisSession::new(session, self.shared.clone());
                let lane = Lane::new((*address).clone(), self.topology.clone(), own)?;
                self.lanes.insert((*address).clone(), lane);
            }
        }
        Ok(())
    }

    async fn ping_all(&mut self, within: Duration) -> Result<(), CacheError> {
        let budget = Budget::new(within);
        let view = self.look(&budget).await?;
        let owners = view.owners();
        self.open(&owners)?;
        let within = budget.left().min(MAX_PING);
        let lanes = self.lanes.iter_mut().filter(|(address, _)| owners.contains(address));
        let patience = apply::PATIENCE.min(within);
        let calls = lanes.map(async |(_, lane)| {
            let pong = lane.with(patience, async move |session| session.ping(within).await).await;
            pong.map_err(CacheError::from).and_then(|pong| pong).map_err(|error| named(lane, error))
        });
        let pings = join_all(calls).await;
        for ping in pings {
            ping.map_err(of_one_node).inspect_err(|_| self.topology.doubt())?;
        }
        if !view.is_covered() {
            self.topology.doubt();
            return Err(of_one_node(unavailable("some slots of the cluster have no primary")));
        }
        Ok(())
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
                Ok(results) => results.into_iter().map(|result| result.map_err(of_one_node)).collect(),
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
        async move { self.walk_on(groups, scan, &Budget::new(within)).await }.boxed_local()
    }

    fn ping(&mut self, within: Duration) -> LocalBoxFuture<'_, Result<(), CacheError>> {
        self.ping_all(within).boxed_local()
    }

    fn reconnects(&self) -> u64 {
        self.reconnects + self.lanes.values().map(Lane::reconnects).sum::<u64>()
    }
}

/// A failure with the node in it. What is told of connecting has it already.
fn named(lane: &Lane<RedisSession>, error: CacheError) -> CacheError {
    match error {
        CacheError::Unavailable(cause) => CacheError::Unavailable(lane.named(cause)),
        other => other,
    }
}

/// A node that is not well is no reason to let others wait: what failed is to be repeated, and the session is good for the rest.
fn of_one_node(error: CacheError) -> CacheError {
    match error {
        CacheError::Unavailable(cause) => CacheError::RefusedForNow(cause),
        other => other,
    }
}
