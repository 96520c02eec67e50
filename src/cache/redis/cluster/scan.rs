//! A scan over all primaries, which also deletes what earlier steps found. [`SlotOwnership`](crate::redis::cluster::SlotOwnership) decides when it is complete.
//!
//! A scan has one or more rounds. The first round takes steps on all primaries side by side. If keys may have changed nodes
//! meanwhile, the next rounds scan one primary after the other. If all wanted keys are in one slot, the first round scans
//! that slot's owner alone. An incomplete round costs only its steps: what it found is deleted all the same. The caller's
//! deadline bounds the rounds.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::scan_round::ClusterScan;
use super::{ClusterSession, MAX_PING, named};
use crate::cache::redis::scan::MovedKeys;
use crate::cache::redis::{RedisSession, unavailable};
use crate::cache::{CacheError, Cursor, DeleteGroup, Progress, Scan, ScanStep, Session, Unlinked};
use crate::redis::cluster::{NodeLink, NodeTimeouts, SlotMap};
use crate::redis::slot::{slot, slot_of_prefix};
use crate::redis::{Address, Deadline};

/// How often a call tries to delete keys on the node that they moved to.
const MAX_FOLLOWS: usize = 3;
/// Scans that may be resumed, at most.
const MAX_PAUSED: usize = 32;

/// What to delete on one node: the groups, and for each its index in the call.
#[derive(Default)]
struct NodeShare {
    indexes: Vec<usize>,
    groups: Vec<DeleteGroup>,
    /// The keys were not on the node that was asked first: each is deleted by a call of its own.
    is_retried: bool,
    asking: bool,
}

impl NodeShare {
    fn push(&mut self, group: usize, of: &DeleteGroup, key: bytes::Bytes) {
        if self.indexes.last() != Some(&group) {
            self.indexes.push(group);
            self.groups.push(DeleteGroup { keys: Vec::new(), version: of.version.clone() });
        }
        if let Some(group) = self.groups.last_mut() {
            group.keys.push(key);
        }
    }
}

/// The results of calls to several nodes.
#[derive(Default)]
struct NodeCalls {
    steps: Vec<(Address, ScanStep)>,
    /// Nodes whose cursors are no longer valid.
    lost: Vec<Address>,
    moved_keys: Vec<(Address, MovedKeys)>,
}

type Shares = HashMap<Address, NodeShare>;

/// A node, and the cursor from which its scan goes on.
type Place = (Address, Option<Cursor>);

/// What one node is asked.
#[derive(Default)]
struct NodeRequest<'a> {
    share: NodeShare,
    scan: Option<Scan<'a>>,
    /// A slot of the node, for the key that replicas acknowledge.
    own_slot: Option<u16>,
}

impl NodeCalls {
    /// Adds the results of one node. `progress` gets the counts of the groups and the first failure.
    fn add(&mut self, call: NodeCall, progress: &mut Progress) {
        let NodeCall { address, indexes, progress: part, moved_keys } = call;
        for (group, unlinked) in indexes.iter().zip(part.unlinked) {
            if let Some(own) = progress.unlinked.get_mut(*group) {
                own.add(unlinked);
            }
        }
        if let Some(error) = part.failure {
            progress.failure.get_or_insert(error);
        }
        self.lost.extend(part.is_lost.then(|| address.clone()));
        self.steps.extend(part.step.map(|step| (address.clone(), step)));
        self.moved_keys.extend(moved_keys.into_iter().map(|mut keys| {
            // The node counts only the groups that it was sent.
            keys.group = indexes.get(keys.group).copied().unwrap_or(usize::MAX);
            (address.clone(), keys)
        }));
    }
}

/// The results of a call to one node.
struct NodeCall {
    address: Address,
    indexes: Vec<usize>,
    progress: Progress,
    moved_keys: Vec<MovedKeys>,
}

impl ClusterSession {
    pub(super) async fn delete_and_scan(
        &mut self,
        groups: &[DeleteGroup],
        scan: Option<Scan<'_>>,
        deadline: &Deadline,
    ) -> Progress {
        let mut progress = Progress { unlinked: vec![Unlinked::default(); groups.len()], ..Progress::default() };
        let begun = Instant::now();
        let resumed = match scan {
            Some(scan) => self.resume_or_begin(scan, deadline).await.map(Some),
            None => Ok(None),
        };
        match resumed {
            Ok(cluster_scan) => self.step_and_pause(groups, cluster_scan, scan, deadline, &mut progress).await,
            Err((error, is_lost)) => return Progress { failure: Some(error), is_lost, ..progress },
        }
        progress.took = begun.elapsed();
        progress
    }

    /// Takes one step, and keeps the scan if it has not ended.
    async fn step_and_pause(
        &mut self,
        groups: &[DeleteGroup],
        mut cluster_scan: Option<ClusterScan>,
        scan: Option<Scan<'_>>,
        deadline: &Deadline,
        progress: &mut Progress,
    ) {
        if let Err(error) = self.scan_step(groups, cluster_scan.as_mut().zip(scan), deadline, progress).await {
            progress.failure.get_or_insert(error);
        }
        if let Some(cluster_scan) = cluster_scan {
            self.pause(cluster_scan, progress);
        }
        if progress.failure.is_some() {
            self.topology.mark_stale();
        }
    }

    /// Keeps a scan that has not ended. It resumes from where it is or where it was a step or two before, whatever became of
    /// this call.
    fn pause(&mut self, cluster_scan: ClusterScan, progress: &Progress) {
        if cluster_scan.is_given_up || progress.step.as_ref().is_some_and(|step| step.next.is_none()) {
            return;
        }
        if self.paused.len() >= MAX_PAUSED {
            self.paused.pop_front();
        }
        self.paused.push_back(cluster_scan);
    }

    /// The paused scan at that cursor, or a new one; or why there is none, and whether the scan is lost.
    async fn resume_or_begin(
        &mut self,
        scan: Scan<'_>,
        deadline: &Deadline,
    ) -> Result<ClusterScan, (CacheError, bool)> {
        if let Some(cursor) = scan.from {
            let slots = self.refresh_topology(deadline).await.map_err(|error| (error, false))?;
            let has_slots = |address: &Address| slots.primaries().iter().any(|primary| primary.address == *address);
            return self
                .paused_at(cursor)
                .filter(|cluster_scan| cluster_scan.is_on_primaries(has_slots))
                .ok_or_else(|| (unavailable("the scan was lost, or a node on which it was"), true));
        }
        let slot_ownership = self.ask_slot_ownership(deadline).await.map_err(|error| (error, false))?;
        self.scan_states += 1;
        Ok(ClusterScan::new(
            self.scan_states,
            slot_ownership,
            scan.only.and_then(|wider| slot_of_prefix(wider.prefix())),
        ))
    }

    /// The paused scan, if it is there. If it was there before, a scan of its own goes on from there: others may go on where the
    /// paused one is.
    fn paused_at(&mut self, cursor: Cursor) -> Option<ClusterScan> {
        if let Some(place) = self.paused.iter().position(|paused| paused.cursor() == cursor) {
            return self.paused.remove(place);
        }
        self.paused.iter().find_map(|paused| paused.earlier_at(cursor))
    }

    async fn scan_step(
        &mut self,
        groups: &[DeleteGroup],
        cluster_scan: Option<(&mut ClusterScan, Scan<'_>)>,
        deadline: &Deadline,
        progress: &mut Progress,
    ) -> Result<(), CacheError> {
        let shares = split_by_owner(groups, &*self.refresh_topology(deadline).await?)?;
        let Some((cluster_scan, scan)) = cluster_scan else {
            let calls_made = self.call_nodes(shares, None, deadline, progress).await?;
            return self.follow_moved_keys(groups, calls_made.moved_keys, deadline, progress).await;
        };
        let places = cluster_scan.next().to_vec();
        let NodeCalls { steps, lost, moved_keys } =
            self.call_nodes(shares, Some((scan, &places)), deadline, progress).await?;
        cluster_scan.is_given_up = cluster_scan.is_held_up(&places, &steps);
        if !steps.is_empty() {
            self.scan_states += 1;
            cluster_scan.remember(self.scan_states);
        }
        cluster_scan.advance(&steps, &lost);
        progress.step = Some(found_in(steps, cluster_scan.cursor()));
        self.follow_moved_keys(groups, moved_keys, deadline, progress).await?;
        self.end_round(cluster_scan, deadline, progress).await
    }

    /// If all nodes of the round are scanned: ends the scan if no key can have been missed, else begins another round.
    async fn end_round(
        &mut self,
        cluster_scan: &mut ClusterScan,
        deadline: &Deadline,
        progress: &mut Progress,
    ) -> Result<(), CacheError> {
        if !cluster_scan.left.is_empty() {
            return Ok(());
        }
        let after = self.ask_slot_ownership(deadline).await?;
        if cluster_scan.was_complete(&after) {
            progress.step.iter_mut().for_each(|step| step.next = None);
        } else {
            cluster_scan.begin_again(after);
        }
        Ok(())
    }

    /// One round trip to these nodes.
    async fn call_nodes(
        &mut self,
        shares: Shares,
        scan: Option<(Scan<'_>, &[Place])>,
        deadline: &Deadline,
        progress: &mut Progress,
    ) -> Result<NodeCalls, CacheError> {
        let (mut requests, within) = (self.requests(shares, scan), deadline.left());
        self.open_links(&requests.keys().collect::<Vec<_>>())?;
        let calls = self
            .links
            .iter_mut()
            .filter_map(|(address, link)| Some(call_node(address.clone(), link, requests.remove(address)?, within)));
        let mut calls_made = NodeCalls::default();
        join_all(calls).await.into_iter().for_each(|call| calls_made.add(call, progress));
        if calls_made.steps.len() < scan.map_or(0, |(_, places)| places.len()) {
            progress.failure.get_or_insert(unavailable("a step of the scan was not taken"));
        }
        Ok(calls_made)
    }

    /// What each node is asked: to delete its share of the keys, and to take its step of the scan.
    fn requests<'a>(
        &mut self,
        shares: Shares,
        scan: Option<(Scan<'a>, &[Place])>,
    ) -> HashMap<Address, NodeRequest<'a>> {
        let slots = self.topology.slots();
        self.turn = self.turn.wrapping_add(1);
        let of_share = |(address, share)| (address, NodeRequest { share, ..NodeRequest::default() });
        let mut requests: HashMap<Address, NodeRequest<'a>> = shares.into_iter().map(of_share).collect();
        for (scan, (address, from)) in
            scan.iter().flat_map(|(scan, places)| places.iter().map(move |place| (scan, place)))
        {
            requests.entry(address.clone()).or_default().scan = Some(Scan { from: *from, ..*scan });
        }
        if self.shared.wait_replicas > 0 {
            for (address, request) in requests.iter_mut().filter(|(_, request)| !request.share.asking) {
                request.own_slot = slots.slot_of(address, self.turn);
            }
        }
        requests
    }

    /// Deletes keys on the nodes that they moved to.
    async fn follow_moved_keys(
        &mut self,
        groups: &[DeleteGroup],
        mut moved_keys: Vec<(Address, MovedKeys)>,
        deadline: &Deadline,
        progress: &mut Progress,
    ) -> Result<(), CacheError> {
        for _ in 0..MAX_FOLLOWS {
            if moved_keys.is_empty() {
                return Ok(());
            }
            self.note_moved(&moved_keys);
            for shares in self.shares_of_moved(groups, std::mem::take(&mut moved_keys)) {
                if !shares.is_empty() {
                    moved_keys.extend(self.call_nodes(shares, None, deadline, progress).await?.moved_keys);
                }
            }
        }
        if moved_keys.is_empty() { Ok(()) } else { Err(unavailable("keys are moving between nodes")) }
    }

    /// Notes the new owners of slots that nodes have named.
    fn note_moved(&self, moved_keys: &[(Address, MovedKeys)]) {
        let told = |(from, keys): &(Address, MovedKeys)| {
            let redirect = keys.redirect.as_ref().filter(|redirect| !redirect.is_ask)?;
            Some((redirect.slot, redirect.target(from)))
        };
        let moved: Vec<(u16, Address)> = moved_keys.iter().filter_map(told).collect();
        if !moved.is_empty() {
            self.topology.moved(&moved);
        }
    }

    /// The keys by the node that they moved to. Keys behind an ASK, and keys that are tried again one by one, go in separate
    /// calls.
    fn shares_of_moved(&self, groups: &[DeleteGroup], moved_keys: Vec<(Address, MovedKeys)>) -> [Shares; 2] {
        let (mut asked, mut others) = (Shares::new(), Shares::new());
        for (from, MovedKeys { group, keys, redirect }) in moved_keys {
            let Some(of) = groups.get(group) else { continue };
            let is_asked = redirect.as_ref().is_some_and(|redirect| redirect.is_ask);
            let to = redirect.map_or(from.clone(), |redirect| redirect.target(&from));
            let share = if is_asked { &mut asked } else { &mut others }.entry(to.clone()).or_default();
            (share.is_retried, share.asking) = (true, is_asked);
            self.topology.note_addresses(std::iter::once(to), &from);
            keys.into_iter().for_each(|key| share.push(group, of, key));
        }
        [asked, others]
    }
}

/// Sends a node its request, and names the node in a failure.
async fn call_node(
    address: Address,
    link: &mut NodeLink<RedisSession>,
    request: NodeRequest<'_>,
    within: Duration,
) -> NodeCall {
    let NodeRequest { share: NodeShare { indexes, groups, is_retried, asking }, scan, own_slot } = request;
    let call = link.with(NodeTimeouts::of(within.min(MAX_PING)), async move |session| {
        (session.own_slot, session.asking, session.one_each) = (own_slot, asking, is_retried);
        let progress = session.unlink_and_scan(&groups, scan, within).await;
        (session.asking, session.one_each) = (false, false);
        (progress, std::mem::take(&mut session.moved_keys))
    });
    let (mut progress, moved_keys) = call
        .await
        .unwrap_or_else(|error| (Progress { failure: Some(error.into()), ..Progress::default() }, Vec::new()));
    progress.failure = progress.failure.map(|error| named(link, error));
    NodeCall { address, indexes, progress, moved_keys }
}

/// What a step found on all nodes. It counts even if a node failed.
fn found_in(steps: Vec<(Address, ScanStep)>, next: Cursor) -> ScanStep {
    let mut found = ScanStep { keys: Vec::new(), versioned: Vec::new(), next: Some(next) };
    for (_, step) in steps {
        found.keys.extend(step.keys);
        found.versioned.extend(step.versioned);
    }
    found
}

/// The keys by node. Keys of one slot stand side by side, because they share a call.
fn split_by_owner(groups: &[DeleteGroup], slots: &SlotMap) -> Result<Shares, CacheError> {
    let mut shares = Shares::new();
    for (group, of) in groups.iter().enumerate() {
        let mut keys: Vec<(u16, &bytes::Bytes)> = of.keys.iter().map(|key| (slot(key), key)).collect();
        keys.sort_by_key(|(slot, _)| *slot);
        for (slot, key) in keys {
            let owner = slots.owner(slot).ok_or_else(|| unavailable("some slots of the cluster have no primary"))?;
            let share = match shares.get_mut(owner) {
                Some(share) => share,
                None => shares.entry(owner.clone()).or_default(),
            };
            share.push(group, of, key.clone());
        }
    }
    Ok(shares)
}
