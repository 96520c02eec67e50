//! A restart of the central router: what it loses, and what it has to wait for before it takes anything on.

use super::outdone::Outdone;
use super::{CentralRouter, Scan};
use crate::pipeline::router::lanes::Lanes;
use crate::pipeline::write::scanner::ScanKind;

impl CentralRouter {
    pub(super) fn start_empty(&mut self) {
        // First: a write that has not been permitted by now never is. Only then are the keys of the lost work given back.
        self.deps.scheduler.forget();
        self.epoch += 1;
        self.lanes = Lanes::default();
        self.taken_over.clear();
        self.parked.clear();
        self.waiting_turn.clear();
        self.outdone = Outdone::default();
        self.released.clear();
        self.to_match.clear();
        self.being_matched.clear();
        self.freed.clear();
        self.outbox.iter_mut().for_each(Vec::clear);
        let deletes = match std::mem::take(&mut self.scans[ScanKind::Deletes as usize]) {
            Scan::Running { .. } | Scan::RunningOfOlderEpoch => Scan::RunningOfOlderEpoch,
            Scan::Idle | Scan::Fencing { .. } => Scan::Idle,
        };
        self.scans = [deletes, Scan::Idle];
        if !self.waits_for_older_epoch() {
            self.held.clear();
        }
    }

    /// Whether a scan or a write of an older epoch may still take effect. Its keys are not known here, so nothing is accepted meanwhile.
    fn waits_for_older_epoch(&self) -> bool {
        matches!(self.scans[ScanKind::Deletes as usize], Scan::RunningOfOlderEpoch)
            || self.deps.scheduler.has_older_writes()
    }

    /// Takes on what has come, in its order, unless it has to wait.
    pub(super) fn accept_held(&mut self) {
        while !self.held.is_empty() && !self.waits_for_older_epoch() {
            self.held.pop_front().into_iter().for_each(|tasks| self.accept(tasks));
        }
    }
}
