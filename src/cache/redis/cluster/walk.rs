//! A scan over all primaries, with the deletion of what it finds; `census` says when it is complete.
//!
//! A scan is a walk of one or more rounds. The first goes over the primaries side by side, a step on each at a time; if
//! keys may have changed nodes meanwhile, further ones go over them one after the other. If what is looked for is in one slot,
//! the first goes over that slot's owner alone. A round that was not complete
//! costs the work of its steps, no more: what it found is deleted. The caller's deadline bounds the rounds.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::round::{Walk, slot_of_all};
use super::{ClusterSession, MAX_PING, named};
use crate::cache::redis::scan::Misplaced;
use crate::cache::redis::unavailable;
use crate::cache::{CacheError, Cursor, DeleteGroup, Progress, Scan, ScanStep, Session, Unlinked};
use crate::redis::cluster::{Census, MAX_TOLD_BYTES, Other, Primary, Told, View};
use crate::redis::slot::slot;
use crate::redis::{Address, Budget, Frame, Outbox};

/// How often keys that cannot be deleted where they were looked for are tried elsewhere within a call.
const CHASES: usize = 3;
/// Scans that may go on later, at most.
const MAX_KEPT: usize = 32;

/// A primary that nobody says has slots is waited for as long, at most: it may be out of reach for us alone.
const MAX_EMPTY: Duration = Duration::from_millis(300);

/// What is to be deleted on one node: for each of the indexes concerned, which it is.
#[derive(Default)]
struct Share {
    indexes: Vec<usize>,
    groups: Vec<DeleteGroup>,
    /// They were not where they were looked for first.
    is_chased: bool,
    asking: bool,
}

impl Share {
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

/// What came of a call to several nodes.
#[derive(Default)]
struct Visited {
    steps: Vec<(Address, ScanStep)>,
    /// Nodes whose cursors are good no more.
    lost: Vec<Address>,
    misplaced: Vec<(Address, Misplaced)>,
}

type Shares = HashMap<Address, Share>;

/// What a call to one node brought.
struct Brought {
    address: Address,
    indexes: Vec<usize>,
    progress: Progress,
    misplaced: Vec<Misplaced>,
}

impl ClusterSession {
    pub(super) async fn walk_on(
        &mut self,
        groups: &[DeleteGroup],
        scan: Option<Scan<'_>>,
        budget: &Budget,
    ) -> Progress {
        let mut progress = Progress { unlinked: vec![Unlinked::default(); groups.len()], ..Progress::default() };
        let begun = Instant::now();
        let walk = match scan {
            None => None,
            Some(scan) => match self.walk_from(scan, budget).await {
                Ok(walk) => Some((walk, scan)),
                Err(error) => {
                    progress.is_lost = scan.from.is_some_and(|from| self.kept.iter().all(|walk| walk.id != from.at));
                    progress.failure = Some(error);
                    return progress;
                }
            },
        };
        let (mut walk, scan) = walk.unzip();
        if let Err(error) = self.walk_step(groups, walk.as_mut().zip(scan), budget, &mut progress).await {
            progress.failure.get_or_insert(error);
        }
        if let Some(walk) = walk {
            self.keep(walk, &progress);
        }
        if progress.failure.is_some() {
            self.topology.doubt();
        }
        progress.took = begun.elapsed();
        progress
    }

    /// A walk that is not at its end goes on from where it is, whatever became of this call.
    fn keep(&mut self, walk: Walk, progress: &Progress) {
        if progress.step.as_ref().is_some_and(|step| step.next.is_none()) {
            return;
        }
        if self.kept.len() >= MAX_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(walk);
    }

    /// The walk that goes on from there, or a new one.
    async fn walk_from(&mut self, scan: Scan<'_>, budget: &Budget) -> Result<Walk, CacheError> {
        if let Some(cursor) = scan.from {
            let view = self.look(budget).await?;
            let is_there = |address: &Address| view.primaries().iter().any(|primary| primary.address == *address);
            let place = self.kept.iter().position(|walk| walk.id == cursor.at);
            let walk = place.and_then(|place| self.kept.remove(place));
            return walk
                .filter(|walk| walk.left.iter().all(|(address, _)| is_there(address)))
                .ok_or_else(|| unavailable("the scan was lost, or a node on which it was"));
        }
        let census = self.census(budget).await?;
        self.walks += 1;
        Ok(Walk::new(self.walks, census, scan.only.and_then(|wider| slot_of_all(wider.prefix()))))
    }

    async fn walk_step(
        &mut self,
        groups: &[DeleteGroup],
        walk: Option<(&mut Walk, Scan<'_>)>,
        budget: &Budget,
        progress: &mut Progress,
    ) -> Result<(), CacheError> {
        let view = self.look(budget).await?;
        let shares = share_out(groups, &view)?;
        let Some((walk, scan)) = walk else {
            let visited = self.visit(shares, &[], None, budget, progress).await?;
            return self.chase(groups, visited.misplaced, budget, progress).await;
        };
        let places = walk.next().to_vec();
        let Visited { steps, lost, misplaced } = self.visit(shares, &places, Some(scan), budget, progress).await?;
        let mut found = ScanStep { keys: Vec::new(), versioned: Vec::new(), next: None };
        walk.left.retain_mut(|(address, cursor)| match steps.iter().find(|(own, _)| own == address) {
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
        found.next = Some(Cursor { at: walk.id, server: 0 });
        progress.step = Some(found);
        self.chase(groups, misplaced, budget, progress).await?;
        if walk.left.is_empty() {
            let after = self.census(budget).await?;
            if walk.was_complete(&after) {
                progress.step.iter_mut().for_each(|step| step.next = None);
                return Ok(());
            }
            *walk = Walk::again(walk.id, after);
        }
        Ok(())
    }

    /// One round trip to the nodes concerned.
    async fn visit(
        &mut self,
        mut shares: Shares,
        places: &[(Address, Option<Cursor>)],
        scan: Option<Scan<'_>>,
        budget: &Budget,
        progress: &mut Progress,
    ) -> Result<Visited, CacheError> {
        let addresses: Vec<&Address> = shares.keys().chain(places.iter().map(|(address, _)| address)).collect();
        self.open(&addresses)?;
        let (view, waits) = (self.topology.view(), self.shared.wait_replicas > 0);
        self.turn = self.turn.wrapping_add(1);
        let (turn, within, patience) = (self.turn, budget.left(), budget.left().min(MAX_PING));
        let calls = self.lanes.iter_mut().filter_map(|(address, lane)| {
            let share = shares.remove(address);
            let place = places.iter().find(|(own, _)| own == address);
            if share.is_none() && place.is_none() {
                return None;
            }
            let Share { indexes, groups, is_chased, asking } = share.unwrap_or_default();
            let scan = scan.zip(place).map(|(scan, (_, from))| Scan { from: *from, ..scan });
            let own_slot = if waits && !asking { view.slot_of(address, turn) } else { None };
            Some(async move {
                let call = lane.with(patience, async move |session| {
                    (session.own_slot, session.asking, session.one_each) = (own_slot, asking, is_chased);
                    let progress = session.unlink_and_scan(&groups, scan, within).await;
                    (session.asking, session.one_each) = (false, false);
                    (progress, std::mem::take(&mut session.misplaced))
                });
                let (mut progress, misplaced) = call.await.unwrap_or_else(|error| {
                    (Progress { failure: Some(error.into()), ..Progress::default() }, Vec::new())
                });
                progress.failure = progress.failure.map(|error| named(lane, error));
                Brought { address: address.clone(), indexes, progress, misplaced }
            })
        });
        let mut visited = Visited::default();
        for brought in join_all(calls).await {
            let Brought { address, indexes, progress: part, misplaced: part_misplaced } = brought;
            for (group, unlinked) in indexes.iter().zip(part.unlinked) {
                if let Some(own) = progress.unlinked.get_mut(*group) {
                    own.add(unlinked);
                }
            }
            if let Some(error) = part.failure {
                progress.failure.get_or_insert(error);
            }
            visited.lost.extend(part.is_lost.then(|| address.clone()));
            visited.steps.extend(part.step.map(|step| (address.clone(), step)));
            visited.misplaced.extend(part_misplaced.into_iter().map(|mut keys| {
                keys.group = indexes.get(keys.group).copied().unwrap_or(usize::MAX);
                (address.clone(), keys)
            }));
        }
        if visited.steps.len() < places.len() {
            progress.failure.get_or_insert(unavailable("a step of the scan was not taken"));
        }
        Ok(visited)
    }

    /// Deletes keys where they have gone to.
    async fn chase(
        &mut self,
        groups: &[DeleteGroup],
        mut misplaced: Vec<(Address, Misplaced)>,
        budget: &Budget,
        progress: &mut Progress,
    ) -> Result<(), CacheError> {
        for _ in 0..CHASES {
            if misplaced.is_empty() {
                return Ok(());
            }
            let told = |(from, keys): &(Address, Misplaced)| {
                let redirect = keys.redirect.as_ref().filter(|redirect| !redirect.is_ask)?;
                Some((redirect.slot, redirect.target(from)))
            };
            let moved: Vec<(u16, Address)> = misplaced.iter().filter_map(told).collect();
            if !moved.is_empty() {
                self.topology.moved(&moved);
            }
            // Those that are asked for elsewhere, and those that are tried again one by one, in calls of their own.
            let (mut asked, mut others) = (Shares::new(), Shares::new());
            for (from, Misplaced { group, keys, redirect }) in misplaced.drain(..) {
                let Some(of) = groups.get(group) else { continue };
                let is_asked = redirect.as_ref().is_some_and(|redirect| redirect.is_ask);
                let to = redirect.map_or(from.clone(), |redirect| redirect.target(&from));
                let share = if is_asked { &mut asked } else { &mut others }.entry(to.clone()).or_default();
                (share.is_chased, share.asking) = (true, is_asked);
                self.topology.heard(std::iter::once(to.clone()), &from);
                keys.into_iter().for_each(|key| share.push(group, of, key));
            }
            for shares in [asked, others] {
                if !shares.is_empty() {
                    misplaced.extend(self.visit(shares, &[], None, budget, progress).await?.misplaced);
                }
            }
        }
        if misplaced.is_empty() { Ok(()) } else { Err(unavailable("keys are on their way between nodes")) }
    }

    /// Asks all primaries for themselves, those without slots too: they may be about to get some.
    async fn census(&mut self, budget: &Budget) -> Result<Census, CacheError> {
        self.topology.doubt();
        let view = self.look(budget).await?;
        let known =
            |primary: &Primary| Other { id: primary.id.clone(), address: primary.address.clone(), has_slots: true };
        let mut to_ask: Vec<Other> = view.primaries().iter().map(known).collect();
        let (mut census, mut silent) = (Census::default(), Vec::new());
        // Who is met in the first round tells of the others.
        for _ in 0..2 {
            let mut known: Vec<Other> = Vec::new();
            for (other, told) in self.tell(&to_ask, budget).await? {
                match told {
                    Ok(told) => {
                        known.extend(told.primaries);
                        if let Some(member) = told.own {
                            census.members.insert(other.address, member);
                        }
                    }
                    Err(error) if other.has_slots => return Err(error),
                    Err(error) => silent.push((other, error)),
                }
            }
            let is_new = |other: &Other| !census.members.values().any(|member| member.id == other.id);
            to_ask = known.into_iter().filter(is_new).collect();
            // Those of which somebody says that they have slots come first, and stay.
            to_ask.sort_by(|a, b| (&a.id, b.has_slots).cmp(&(&b.id, a.has_slots)));
            to_ask.dedup_by(|a, b| a.id == b.id);
        }
        let is_needed = |other: &Other| {
            let has_slots = to_ask.iter().any(|asked| asked.id == other.id && asked.has_slots);
            has_slots || census.has_business_with(&other.id)
        };
        if let Some((_, error)) = silent.into_iter().find(|(other, _)| is_needed(other)) {
            return Err(error);
        }
        if census.is_covered() { Ok(census) } else { Err(unavailable("some slots of the cluster have no primary")) }
    }

    /// What each says. Fails only if there is no line to one.
    async fn tell(
        &mut self,
        nodes: &[Other],
        budget: &Budget,
    ) -> Result<Vec<(Other, Result<Told, CacheError>)>, CacheError> {
        let addresses: Vec<&Address> = nodes.iter().map(|other| &other.address).collect();
        self.open(&addresses)?;
        let longest = budget.left().min(Duration::max(MAX_PING, self.topology.settings.response_timeout));
        let calls = self.lanes.iter_mut().filter_map(|(address, lane)| {
            let other = nodes.iter().find(|other| other.address == *address)?.clone();
            let within = if other.has_slots { longest } else { longest.min(MAX_EMPTY) };
            Some(async move {
                let frames = lane.with(within, async move |session| {
                    let mut outbox = Outbox::new();
                    outbox.pack(&[b"CLUSTER", b"NODES"]);
                    session.as_mut().call(outbox, MAX_TOLD_BYTES, Budget::new(within)).await
                });
                let told = match frames.await.and_then(|frames| frames).map(|mut frames| frames.pop()) {
                    Ok(Some(Frame::Text(text))) => Told::read(&text).ok_or_else(senseless),
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
    unavailable("CLUSTER NODES makes no sense")
}

/// By node, the keys of a slot side by side: they share a call.
fn share_out(groups: &[DeleteGroup], view: &View) -> Result<Shares, CacheError> {
    let mut shares = Shares::new();
    for (group, of) in groups.iter().enumerate() {
        let mut keys: Vec<(u16, &bytes::Bytes)> = of.keys.iter().map(|key| (slot(key), key)).collect();
        keys.sort_by_key(|(slot, _)| *slot);
        for (slot, key) in keys {
            let owner = view.owner(slot).ok_or_else(|| unavailable("some slots of the cluster have no primary"))?;
            let share = match shares.get_mut(owner) {
                Some(share) => share,
                None => shares.entry(owner.clone()).or_default(),
            };
            share.push(group, of, key.clone());
        }
    }
    Ok(shares)
}
