//! Fetches that a newer one on their key makes needless.
//!
//! Of SETs that wait side by side on one key, each with a version, the newest is fetched. The others are held beside it: what
//! it comes to answers them too, and if it brings no blob they are fetched after all. So nothing is lost by it, and of a
//! hundred changes of one object in a row one is fetched.

use std::collections::{HashMap, HashSet};

use super::CentralRouter;
use crate::event::version::Version;
use crate::pipeline::fetch::request::FetchRequest;
use crate::pipeline::work::Seq;
use crate::pipeline::work::operation::{AwaitedBlob, Operation};
use crate::pipeline::work::reply::Slot;

/// The fetches that are held, by where the newer one stands.
#[derive(Default)]
pub(super) struct Outdone {
    beside: HashMap<Seq, Vec<FetchRequest>>,
    held: HashSet<Seq>,
}

impl Outdone {
    /// Whether a newer one beside it is to answer it.
    pub(super) fn is_held(&self, seq: Seq) -> bool {
        self.held.contains(&seq)
    }

    /// What it has paid for is of use to others meanwhile.
    fn hold(&mut self, mut request: FetchRequest, newer: Seq) {
        request.prepaid = None;
        self.held.insert(request.seq);
        self.beside.entry(newer).or_default().push(request);
    }

    fn take(&mut self, newer: Seq) -> Vec<FetchRequest> {
        let held = self.beside.remove(&newer).unwrap_or_default();
        for request in &held {
            self.held.remove(&request.seq);
        }
        held
    }
}

impl CentralRouter {
    /// Holds the request beside a newer one that stands next to it, or older ones that wait beside this; gives it back if it is
    /// to be fetched.
    pub(super) fn outdo(&mut self, request: FetchRequest) -> Option<FetchRequest> {
        let Some(own) = self.version_at(&request, request.seq).cloned() else { return Some(request) };
        let is_held = |seq: Seq| self.outdone.is_held(seq);
        for next in self.lanes.awaited_beside(&request.key, request.seq, is_held).into_iter().flatten() {
            match self.version_at(&request, next) {
                Some(version) if *version > own => {
                    self.lanes.note_head(&request.key);
                    self.outdone.hold(request, next);
                    return None;
                }
                Some(version) if *version < own => {
                    let waiting = self.deps.scheduler.with(|scheduler| scheduler.withdraw(&request.host, next));
                    let waiting = waiting.or_else(|| self.parked.remove(&next).map(|(parked, _)| parked));
                    waiting.into_iter().for_each(|older| self.outdone.hold(older, request.seq));
                }
                Some(_) | None => {}
            }
        }
        Some(request)
    }

    fn version_at(&self, request: &FetchRequest, seq: Seq) -> Option<&Version> {
        self.lanes.awaited(&request.key, seq)?.version.as_ref()
    }

    /// Takes all that are held beside it out of their lanes, and those beside these: a chain may be as long as admission allows.
    pub(super) fn take_outdone(&mut self, seq: Seq, slots: &mut Vec<Slot>) {
        let mut left = self.outdone.take(seq);
        while let Some(request) = left.pop() {
            left.append(&mut self.outdone.take(request.seq));
            let take = |operation: Operation<AwaitedBlob>| {
                slots.push(operation.slot);
                None
            };
            self.lanes.blob_ended(&request.key, request.seq, take, &mut self.freed);
        }
    }

    /// It came to nothing: those that are held beside it are fetched after all, by the [next round](CentralRouter::submit_released).
    pub(super) fn release_outdone(&mut self, seq: Seq) {
        self.released.extend(self.outdone.take(seq));
    }

    /// Submits what was released. Where that fails at once, it releases what is held beside it in turn.
    pub(super) fn submit_released(&mut self) {
        while let Some(request) = self.released.pop_front() {
            self.submit(request);
        }
    }
}
