//! Pattern deletes and previews that can start: a fence through every writer, then the scan, then the barriers are lifted.

use super::{CentralRouter, Fencing, Scan};
use crate::pipeline::work::barriers::BarrierId;
use crate::pipeline::work::operation::PatternDelete;
use crate::pipeline::write::queue::FenceReached;
use crate::pipeline::write::scanner::{ScanEnded, ScanKind, StartScan};
use crate::pipeline::write::writer::WriterMessage;

/// How often a fence is posted again to a writer that lost it.
const FENCE_TRIES: u32 = 20;

impl CentralRouter {
    /// Previews and deletes do not wait for each other's scans. Those of one kind that can start together share one.
    pub(super) fn start_scans(&mut self) {
        for kind in [ScanKind::Deletes, ScanKind::Previews] {
            if !matches!(self.scans[kind as usize], Scan::Idle) {
                continue;
            }
            let (ids, deletes): (Vec<BarrierId>, Vec<PatternDelete>) =
                self.lanes.start(kind == ScanKind::Previews).into_iter().unzip();
            if !ids.is_empty() {
                self.put_up_fence(kind, ids, deletes);
            }
        }
    }

    fn put_up_fence(&mut self, kind: ScanKind, lifting: Vec<BarrierId>, deletes: Vec<PatternDelete>) {
        self.rounds += 1;
        let round = self.rounds;
        let writers = self.deps.writers.started();
        let fencing = Fencing { round, deletes, writers_left: writers.len(), tries: FENCE_TRIES };
        self.scans[kind as usize] = Scan::Fencing { fencing, lifting };
        for writer in writers {
            self.post_fence(round, writer);
        }
    }

    fn post_fence(&self, round: u64, writer: usize) {
        let lost = FenceReached { epoch: self.epoch, round, writer, passed: false };
        self.deps.writers.post(writer, WriterMessage::Fence(self.notify.fence_reached.notice(lost)));
    }

    pub(super) fn fence_reached(&mut self, FenceReached { epoch, round, writer, passed }: FenceReached) {
        fail_point!("router");
        let is_of = |scan: &Scan| matches!(scan, Scan::Fencing { fencing, .. } if fencing.round == round);
        let kinds = [ScanKind::Deletes, ScanKind::Previews];
        let Some(kind) = kinds.into_iter().find(|kind| is_of(&self.scans[*kind as usize])) else { return };
        let Scan::Fencing { fencing, .. } = &mut self.scans[kind as usize] else { return };
        if epoch != self.epoch {
            return;
        }
        if passed {
            fencing.writers_left -= 1;
            if fencing.writers_left == 0 {
                self.start_scan(kind);
            }
        } else if fencing.tries > 0 {
            fencing.tries -= 1;
            self.post_fence(round, writer);
        } else {
            let given_up = std::mem::take(&mut self.scans[kind as usize]);
            self.lift(given_up);
        }
    }

    fn start_scan(&mut self, kind: ScanKind) {
        let scan = &mut self.scans[kind as usize];
        let Scan::Fencing { fencing, lifting } = std::mem::take(scan) else { return };
        *scan = Scan::Running { lifting };
        let ended = self.notify.scan_ended.notice(ScanEnded { epoch: self.epoch, kind });
        self.deps.scanner.post(StartScan { kind, deletes: fencing.deletes, ended });
    }

    pub(super) fn scan_ended(&mut self, ScanEnded { epoch, kind }: ScanEnded) {
        let is_own = epoch == self.epoch;
        let mut ended = Scan::Idle;
        if is_own || kind == ScanKind::Deletes {
            // Before all else: a panic from here on must not leave it as one that runs.
            ended = std::mem::take(&mut self.scans[kind as usize]);
        }
        fail_point!("router");
        if is_own {
            return self.lift(ended);
        }
        self.accept_held();
    }

    fn lift(&mut self, ended: Scan) {
        if let Scan::Fencing { lifting, .. } | Scan::Running { lifting } = ended {
            self.lanes.lift(&lifting, &mut self.freed);
        }
        self.advance();
    }
}
