//! A scan over all primaries, which also deletes what earlier steps found. [`SlotOwnership`] decides when it is complete.
//!
//! A scan has one or more rounds. The first round takes steps on all primaries side by side. If keys may have changed nodes
//! meanwhile, the next rounds scan one primary after the other. If all wanted keys are in one slot, the first round scans
//! that slot's owner alone. An incomplete round costs only its steps: what it found is deleted all the same. The caller's
//! deadline bounds the rounds.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::scan_round::{ClusterScan, slot_of_all};
use super::{ClusterSession, MAX_PING, named};
use crate::cache::redis::scan::MovedKeys;
use crate::cache::redis::unavailable;
use crate::cache::{CacheError, Cursor, DeleteGroup, Progress, Scan, ScanStep, Session, Unlinked};
use crate::redis::cluster::{
    KnownPrimary, MAX_REPORT_BYTES, NodeReport, NodeTimeouts, Primary, SlotMap, SlotOwnership,
};
use crate::redis::slot::slot;
use crate::redis::{Address, Deadline, Encoder, Frame};

/// How often a call tries to delete keys on the node that they moved to.
const MAX_FOLLOWS: usize = 3;
/// Scans that may be resumed, at most.
const MAX_PAUSED: usize = 32;

/// How long to wait for a primary that has no slots, as others say: it may be unreachable for us alone.
const MAX_EMPTY: Duration = Duration::from_millis(300);

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
        let cluster_scan = match scan {
            None => None,
            Some(scan) => match self.resume_or_begin(scan, deadline).await {
                Ok(cluster_scan) => Some((cluster_scan, scan)),
                Err(error) => {
                    progress.is_lost =
                        scan.from.is_some_and(|from| self.paused.iter().all(|cluster_scan| cluster_scan.id != from.at));
                    progress.failure = Some(error);
                    return progress;
                }
            },
        };
        let (mut cluster_scan, scan) = cluster_scan.unzip();
        if let Err(error) = self.scan_step(groups, cluster_scan.as_mut().zip(scan), deadline, &mut progress).await {
            progress.failure.get_or_insert(error);
        }
        if let Some(cluster_scan) = cluster_scan {
            self.pause(cluster_scan, &progress);
        }
        if progress.failure.is_some() {
            self.topology.mark_stale();
        }
        progress.took = begun.elapsed();
        progress
    }

    /// Keeps a scan that has not ended. It resumes from where it is, whatever became of this call.
    fn pause(&mut self, cluster_scan: ClusterScan, progress: &Progress) {
        if progress.step.as_ref().is_some_and(|step| step.next.is_none()) {
            return;
        }
        if self.paused.len() >= MAX_PAUSED {
            self.paused.pop_front();
        }
        self.paused.push_back(cluster_scan);
    }

    /// The paused scan at that cursor, or a new one.
    async fn resume_or_begin(&mut self, scan: Scan<'_>, deadline: &Deadline) -> Result<ClusterScan, CacheError> {
        if let Some(cursor) = scan.from {
            let slots = self.refresh_topology(deadline).await?;
            let is_there = |address: &Address| slots.primaries().iter().any(|primary| primary.address == *address);
            let place = self.paused.iter().position(|cluster_scan| cluster_scan.id == cursor.at);
            let cluster_scan = place.and_then(|place| self.paused.remove(place));
            return cluster_scan
                .filter(|cluster_scan| cluster_scan.left.iter().all(|(address, _)| is_there(address)))
                .ok_or_else(|| unavailable("the scan was lost, or a node on which it was"));
        }
        let slot_ownership = self.ask_slot_ownership(deadline).await?;
        self.scans += 1;
        Ok(ClusterScan::new(self.scans, slot_ownership, scan.only.and_then(|wider| slot_of_all(wider.prefix()))))
    }

    async fn scan_step(
        &mut self,
        groups: &[DeleteGroup],
        cluster_scan: Option<(&mut ClusterScan, Scan<'_>)>,
        deadline: &Deadline,
        progress: &mut Progress,
    ) -> Result<(), CacheError> {
        let slots = self.refresh_topology(deadline).await?;
        let shares = split_by_owner(groups, &slots)?;
        let Some((cluster_scan, scan)) = cluster_scan else {
            let calls_made = self.call_nodes(shares, &[], None, deadline, progress).await?;
            return self.follow_moved_keys(groups, calls_made.moved_keys, deadline, progress).await;
        };
        let places = cluster_scan.next().to_vec();
        let NodeCalls { steps, lost, moved_keys } =
            self.call_nodes(shares, &places, Some(scan), deadline, progress).await?;
        let mut found = ScanStep { keys: Vec::new(), versioned: Vec::new(), next: None };
        cluster_scan.left.retain_mut(|(address, cursor)| match steps.iter().find(|(own, _)| own == address) {
            Some((_, step)) => {
                *cursor = step.next;
                step.next.is_some()
            }
            None => {
                *cursor = cursor.filter(|_| !lost.contains(address));
                true
            }
        });
        for (_, step) in steps {
            found.keys.extend(step.keys);
            found.versioned.extend(step.versioned);
        }
        // What was found counts, even if a node fails.
        found.next = Some(Cursor { at: cluster_scan.id, server: 0 });
        progress.step = Some(found);
        self.follow_moved_keys(groups, moved_keys, deadline, progress).await?;
        if cluster_scan.left.is_empty() {
            let after = self.ask_slot_ownership(deadline).await?;
            if cluster_scan.was_complete(&after) {
                progress.step.iter_mut().for_each(|step| step.next = None);
                return Ok(());
            }
            *cluster_scan = ClusterScan::again(cluster_scan.id, after);
        }
        Ok(())
    }

    /// One round trip to these nodes.
    async fn call_nodes(
        &mut self,
        mut shares: Shares,
        places: &[(Address, Option<Cursor>)],
        scan: Option<Scan<'_>>,
        deadline: &Deadline,
        progress: &mut Progress,
    ) -> Result<NodeCalls, CacheError> {
        let addresses: Vec<&Address> = shares.keys().chain(places.iter().map(|(address, _)| address)).collect();
        self.open_links(&addresses)?;
        let (slots, waits) = (self.topology.slots(), self.shared.wait_replicas > 0);
        self.turn = self.turn.wrapping_add(1);
        let (turn, within, patience) = (self.turn, deadline.left(), NodeTimeouts::of(deadline.left().min(MAX_PING)));
        let calls = self.links.iter_mut().filter_map(|(address, link)| {
            let share = shares.remove(address);
            let place = places.iter().find(|(own, _)| own == address);
            if share.is_none() && place.is_none() {
                return None;
            }
            let NodeShare { indexes, groups, is_retried, asking } = share.unwrap_or_default();
            let scan = scan.zip(place).map(|(scan, (_, from))| Scan { from: *from, ..scan });
            let own_slot = if waits && !asking { slots.slot_of(address, turn) } else { None };
            Some(async move {
                let call = link.with(patience, async move |session| {
                    (session.own_slot, session.asking, session.one_each) = (own_slot, asking, is_retried);
                    let progress = session.unlink_and_scan(&groups, scan, within).await;
                    (session.asking, session.one_each) = (false, false);
                    (progress, std::mem::take(&mut session.moved_keys))
                });
                let (mut progress, moved_keys) = call.await.unwrap_or_else(|error| {
                    (Progress { failure: Some(error.into()), ..Progress::default() }, Vec::new())
                });
                progress.failure = progress.failure.map(|error| named(link, error));
                NodeCall { address: address.clone(), indexes, progress, moved_keys }
            })
        });
        let mut calls_made = NodeCalls::default();
        for call in join_all(calls).await {
            let NodeCall { address, indexes, progress: part, moved_keys: part_misplaced } = call;
            for (group, unlinked) in indexes.iter().zip(part.unlinked) {
                if let Some(own) = progress.unlinked.get_mut(*group) {
                    own.add(unlinked);
                }
            }
            if let Some(error) = part.failure {
                progress.failure.get_or_insert(error);
            }
            calls_made.lost.extend(part.is_lost.then(|| address.clone()));
            calls_made.steps.extend(part.step.map(|step| (address.clone(), step)));
            calls_made.moved_keys.extend(part_misplaced.into_iter().map(|mut keys| {
                keys.group = indexes.get(keys.group).copied().unwrap_or(usize::MAX);
                (address.clone(), keys)
            }));
        }
        if calls_made.steps.len() < places.len() {
            progress.failure.get_or_insert(unavailable("a step of the scan was not taken"));
        }
        Ok(calls_made)
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
            let told = |(from, keys): &(Address, MovedKeys)| {
                let redirect = keys.redirect.as_ref().filter(|redirect| !redirect.is_ask)?;
                Some((redirect.slot, redirect.target(from)))
            };
            let moved: Vec<(u16, Address)> = moved_keys.iter().filter_map(told).collect();
            if !moved.is_empty() {
                self.topology.moved(&moved);
            }
            // Keys behind an ASK, and keys that are tried again one by one, go in separate calls.
            let (mut asked, mut others) = (Shares::new(), Shares::new());
            for (from, MovedKeys { group, keys, redirect }) in moved_keys.drain(..) {
                let Some(of) = groups.get(group) else { continue };
                let is_asked = redirect.as_ref().is_some_and(|redirect| redirect.is_ask);
                let to = redirect.map_or(from.clone(), |redirect| redirect.target(&from));
                let share = if is_asked { &mut asked } else { &mut others }.entry(to.clone()).or_default();
                (share.is_retried, share.asking) = (true, is_asked);
                self.topology.note_addresses(std::iter::once(to.clone()), &from);
                keys.into_iter().for_each(|key| share.push(group, of, key));
            }
            for shares in [asked, others] {
                if !shares.is_empty() {
                    moved_keys.extend(self.call_nodes(shares, &[], None, deadline, progress).await?.moved_keys);
                }
            }
        }
        if moved_keys.is_empty() { Ok(()) } else { Err(unavailable("keys are moving between nodes")) }
    }

    /// Asks every primary for its own slots. Primaries without slots are asked too: they may be about to get some.
    async fn ask_slot_ownership(&mut self, deadline: &Deadline) -> Result<SlotOwnership, CacheError> {
        self.topology.mark_stale();
        let slots = self.refresh_topology(deadline).await?;
        let known = |primary: &Primary| KnownPrimary {
            id: primary.id.clone(),
            address: primary.address.clone(),
            has_slots: true,
        };
        let mut to_ask: Vec<KnownPrimary> = slots.primaries().iter().map(known).collect();
        let (mut slot_ownership, mut silent) = (SlotOwnership::default(), Vec::new());
        // The primaries of the first round name the others.
        for _ in 0..2 {
            let mut known: Vec<KnownPrimary> = Vec::new();
            for (other, told) in self.ask_reports(&to_ask, deadline).await? {
                match told {
                    Ok(told) => {
                        known.extend(told.primaries);
                        if let Some(member) = told.own {
                            slot_ownership.members.insert(other.address, member);
                        }
                    }
                    Err(error) if other.has_slots => return Err(error),
                    Err(error) => silent.push((other, error)),
                }
            }
            let is_new = |other: &KnownPrimary| !slot_ownership.members.values().any(|member| member.id == other.id);
            to_ask = known.into_iter().filter(is_new).collect();
            // If anybody says that a primary has slots, that entry comes first and is kept.
            to_ask.sort_by(|a, b| (&a.id, b.has_slots).cmp(&(&b.id, a.has_slots)));
            to_ask.dedup_by(|a, b| a.id == b.id);
        }
        let is_needed = |other: &KnownPrimary| {
            let has_slots = to_ask.iter().any(|asked| asked.id == other.id && asked.has_slots);
            has_slots || slot_ownership.exchanges_slots_with(&other.id)
        };
        if let Some((_, error)) = silent.into_iter().find(|(other, _)| is_needed(other)) {
            return Err(error);
        }
        if slot_ownership.is_covered() {
            Ok(slot_ownership)
        } else {
            Err(unavailable("some slots of the cluster have no primary"))
        }
    }

    /// What each of these nodes reports. Fails only if no link to one of them can be made.
    async fn ask_reports(
        &mut self,
        nodes: &[KnownPrimary],
        deadline: &Deadline,
    ) -> Result<Vec<(KnownPrimary, Result<NodeReport, CacheError>)>, CacheError> {
        let addresses: Vec<&Address> = nodes.iter().map(|other| &other.address).collect();
        self.open_links(&addresses)?;
        let longest = deadline.left().min(Duration::max(MAX_PING, self.topology.settings.response_timeout));
        let calls = self.links.iter_mut().filter_map(|(address, link)| {
            let other = nodes.iter().find(|other| other.address == *address)?.clone();
            let within = if other.has_slots { longest } else { longest.min(MAX_EMPTY) };
            Some(async move {
                let frames = link.with(NodeTimeouts::of(within), async move |session| {
                    let mut encoder = Encoder::new();
                    encoder.pack(&[b"CLUSTER", b"NODES"]);
                    session.as_mut().call(encoder, MAX_REPORT_BYTES, Deadline::new(within)).await
                });
                let told = match frames.await.and_then(|frames| frames).map(|mut frames| frames.pop()) {
                    Ok(Some(Frame::Text(text))) => NodeReport::read(&text).ok_or_else(senseless),
                    Ok(Some(Frame::Error(code))) => Err(code.to_error("CLUSTER NODES").into()),
                    Ok(_) => Err(senseless()),
                    Err(error) => Err(error.into()),
                };
                (other, told)
            })
        });
        Ok(join_all(calls).await)
    }
}

fn senseless() -> CacheError {
    unavailable("the reply to CLUSTER NODES is malformed")
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
