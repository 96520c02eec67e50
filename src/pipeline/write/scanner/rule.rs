//! One pattern's share of a scan.

use std::pin::pin;
use std::time::Instant;

use bytes::Bytes;
use tokio::time::timeout_at;

use super::resume::ScanName;
use super::seen::CountedKeys;
use crate::cache::{CacheError, Unlinked};
use crate::event::outcome::{MAX_SAMPLE, Outcome, Problem, ProblemKind};
use crate::event::pattern::Pattern;
use crate::event::version::Version;
use crate::pipeline::work::reply::Slot;

/// Bytes of the keys that a preview shows, at most.
const MAX_SAMPLE_BYTES: usize = 64 * 1024;

pub(super) struct Rule {
    pub(super) pattern: Pattern,
    pub(super) version: Option<Version>,
    pub(super) slot: Slot,
    pub(super) dry_run: bool,
    pub(super) deadline: Instant,
    /// Among the rules of its walk.
    pub(super) number: usize,
    /// The pattern delete that it belongs to.
    pub(super) name: ScanName,
    /// The pass of the walk with which it ends.
    pub(super) pass: usize,
    /// Found and not yet deleted.
    pub(super) doomed: Vec<Bytes>,
    /// Keys that the cache refuses to delete, and why it does.
    pub(super) refused: u64,
    pub(super) refusal: Option<CacheError>,
    pub(super) matched: u64,
    pub(super) deleted: u64,
    pub(super) sample: Vec<Bytes>,
    pub(super) sample_bytes: usize,
    /// What of `matched`, and how many keys of the sample, came from earlier requests.
    pub(super) inherited: (u64, usize),
    /// A key may have been counted twice, or not been counted.
    pub(super) is_estimated: bool,
    /// It goes on behind where it began when it comes again.
    pub(super) has_moved: bool,
    /// It had come further than where it began this time.
    pub(super) has_lost_place: bool,
}

/// What the rules of one pattern delete have in common.
pub(super) struct Terms {
    pub(super) version: Option<Version>,
    pub(super) dry_run: bool,
    pub(super) deadline: Instant,
    pub(super) name: ScanName,
    /// `usize::MAX`: it begins anew.
    pub(super) pass: usize,
    /// It had come further than where it begins now.
    pub(super) has_lost_place: bool,
}

impl Rule {
    /// A rule with what was counted and sampled before, if its scan goes on.
    pub(super) fn new(
        number: usize,
        pattern: Pattern,
        slot: Slot,
        Terms { version, dry_run, deadline, name, pass, has_lost_place }: Terms,
        (matched, sample): (u64, Vec<Bytes>),
    ) -> Self {
        let sample_bytes = sample.iter().map(Bytes::len).sum();
        Rule {
            pattern,
            version,
            slot,
            dry_run,
            deadline,
            number,
            name,
            pass,
            doomed: Vec::new(),
            refused: 0,
            refusal: None,
            matched,
            deleted: 0,
            inherited: (matched, sample.len()),
            sample,
            sample_bytes,
            is_estimated: pass != usize::MAX,
            has_moved: false,
            has_lost_place,
        }
    }

    /// Forgets what earlier requests have counted and sampled: all keys are seen again.
    pub(super) fn begin_anew(&mut self) {
        let (matched, keys) = std::mem::take(&mut self.inherited);
        self.matched -= matched;
        self.sample_bytes -= self.sample.drain(..keys).map(|key| key.len()).sum::<usize>();
        self.is_estimated = false;
    }

    /// Whether nothing of what the scan has shown is left to do for it; a preview has counted it. `all_deleted`: no rule has keys that are
    /// still to be deleted, which may be its own too, and the last call did not fail.
    pub(super) fn is_done_so_far(&self, all_deleted: bool) -> bool {
        self.dry_run || all_deleted
    }

    /// Whether its time is up.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.deadline <= now || self.slot.is_void(now)
    }

    /// Whether keys that have a version but no value concern it.
    pub(super) fn raises(&self) -> bool {
        self.version.is_some() && !self.dry_run
    }

    /// Counts a key that a preview shows, for as many as it stands for.
    pub(super) fn preview(&mut self, key: &Bytes, counts: u64, seen: &mut CountedKeys) {
        self.matched += counts;
        let is_full = self.sample.len() == MAX_SAMPLE || self.sample_bytes + key.len() > MAX_SAMPLE_BYTES;
        if counts > 0 && !is_full && seen.hold(key.len()) {
            self.sample_bytes += key.len();
            // A slice would keep all that was read with it.
            self.sample.push(Bytes::copy_from_slice(key));
        }
    }

    /// Counts what was deleted, and what was left because it is newer or the cache refuses to delete it.
    pub(super) fn add(&mut self, unlinked: &Unlinked, seen: &mut CountedKeys) {
        let Unlinked { deleted, newer, refused, refusal } = unlinked;
        self.deleted += deleted;
        self.matched += deleted;
        for key in newer {
            self.matched += seen.note((self.number, key));
        }
        for key in refused {
            let counts = seen.note((self.number, key));
            self.matched += counts;
            self.refused += counts;
        }
        self.refusal = self.refusal.take().or_else(|| refusal.clone());
    }

    /// It has seen all keys.
    pub(super) fn end(self, seen: &CountedKeys) {
        if let Some(refusal) = &self.refusal {
            let keys = if self.refused == 1 { "1 key was".to_owned() } else { format!("{} keys were", self.refused) };
            let detail = format!("{keys} not deleted, the others were: {refusal}");
            return self.fail(ProblemKind::CacheRefused, detail);
        }
        let is_estimated = self.is_estimated || self.dry_run && seen.is_estimating();
        let outcome = if self.dry_run {
            Outcome::Preview { matched: self.matched, sample: self.sample, is_estimated }
        } else {
            Outcome::PatternDeleted { matched: self.matched, deleted: self.deleted }
        };
        self.slot.settle(outcome, Instant::now());
    }

    pub(super) fn fail(self, kind: ProblemKind, detail: String) {
        let outcome = self.failure(kind, detail);
        self.slot.settle(outcome, Instant::now());
    }

    /// Its time is up; what it did so far counts.
    pub(super) fn answer_late(&self) {
        let detail = "the scan did not end within event.deadline_ms; the same patterns sent again within five \
                      minutes go on where it stopped";
        self.slot.settle_early(self.failure(ProblemKind::Timeout, detail.to_owned()), Instant::now());
    }

    fn has_got_further(&self) -> bool {
        !self.has_lost_place && (self.has_moved || self.deleted > 0)
    }

    fn failure(&self, kind: ProblemKind, detail: String) -> Outcome {
        let (problem, got_further) = (Box::new(Problem::new(kind, detail)), self.has_got_further());
        Outcome::PatternDeleteFailed { matched: self.matched, deleted: self.deleted, got_further, problem }
    }
}

/// Awaits a step, which may take longer than these rules have: each is answered when its time is up.
pub(super) async fn answering_late<T>(rules: &[Rule], step: impl Future<Output = T>) -> T {
    let (mut step, mut answered) = (pin!(step), None);
    while let Some(next) = rules.iter().map(|rule| rule.deadline).filter(|deadline| Some(*deadline) > answered).min() {
        match timeout_at(next.into(), &mut step).await {
            Ok(done) => return done,
            Err(_) => rules.iter().filter(|rule| rule.deadline == next).for_each(Rule::answer_late),
        }
        answered = Some(next);
    }
    step.await
}
