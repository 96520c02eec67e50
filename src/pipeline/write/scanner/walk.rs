//! One scan for all its rules.
//!
//! A key goes to the first pattern in the order of acceptance that deletes it; previews before that one see it, later
//! ones do not. Later ones with a version get it too, for they raise the key's version even if it is gone; and if the
//! first leaves it because it is newer, the others get it then. `matched` counts distinct keys: a deleted key is counted
//! by what UNLINK says, one that is left or previewed by a [note](super::seen).
//!
//! A walk has a pass for each place at which a pattern delete goes on, and one from the start for those that are new. A rule ends
//! with its own pass and takes part in those before it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::resume::{At, ResumePoint, ResumePoints, ScanName};
use super::rule::{Rule, Terms, answering_late};
use super::seen::CountedKeys;
use crate::cache::{CacheError, Cursor, DeleteGroup, Portion, Scan, ScanStep, Session};
use crate::event::outcome::ProblemKind;
use crate::event::pattern::{PatternIndex, Wider};
use crate::pipeline::work::barriers::{Barrier, WritesBehind};
use crate::pipeline::work::operation::PatternDelete;
use crate::telemetry::Metrics;

const PAUSE: Duration = Duration::from_millis(100);
/// How long keys are matched against patterns before others on the thread have their turn.
const SLICE: Duration = Duration::from_millis(2);
/// Keys between looks at the clock.
const LOOK_EVERY: usize = 32;

pub(super) struct ScanWalk<'a> {
    session: &'a mut dyn Session,
    retry: Duration,
    resume: Rc<RefCell<ResumePoints>>,
    seen: CountedKeys,
    metrics: Metrics,
    rules: Vec<Rule>,
    /// The rules' numbers by their patterns.
    index: PatternIndex<usize>,
    wider: Option<Wider>,
    /// Where each pass begins.
    passes: Vec<Option<Cursor>>,
    pass: usize,
    at: At,
    /// Where the last step began: what it found may not be deleted yet.
    step_from: Option<Cursor>,
    /// Those of its pattern deletes, which hold others up to its end.
    barriers: Vec<(ScanName, Barrier)>,
    /// What was written since a pattern delete was interrupted, until it is deleted: no step of the scan finds it again.
    written: Vec<(ScanName, Vec<Bytes>)>,
    /// Keys deleted by one call.
    portion: Portion,
}

impl<'a> ScanWalk<'a> {
    pub(super) fn new(
        session: &'a mut dyn Session,
        retry: Duration,
        resume: Rc<RefCell<ResumePoints>>,
        (seen, metrics): (CountedKeys, Metrics),
        deletes: Vec<PatternDelete>,
    ) -> Self {
        let (mut rules, mut passes, mut barriers, mut written) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for PatternDelete { patterns, version, slots, dry_run, barrier, deadline } in deletes {
            let name = resume.borrow().name(&patterns, version.as_ref(), dry_run);
            let mut found = HashMap::new();
            let mut pass = usize::MAX;
            let place = resume.borrow_mut().take(&name, Instant::now());
            let keys = place.as_ref().and_then(|place| place.writes.as_ref()).map(WritesBehind::keys);
            // If what was written since is not known, it begins anew.
            let has_lost_place = keys == Some(None);
            if let Some(place) = place.filter(|_| !has_lost_place) {
                written.push((name, keys.flatten().unwrap_or_default()));
                found = place.found;
                let same = passes.iter().position(|begin| *begin == Some(place.cursor));
                pass = same.unwrap_or(passes.len());
                if same.is_none() {
                    passes.push(Some(place.cursor));
                }
            }
            for (pattern, slot) in patterns.into_iter().zip(slots) {
                let found = found.remove(pattern.as_str()).unwrap_or_default();
                let terms = Terms { version: version.clone(), dry_run, deadline, name, pass, has_lost_place };
                rules.push(Rule::new(rules.len(), pattern, slot, terms, found));
            }
            barriers.push((name, barrier));
        }
        if rules.iter().any(|rule| rule.pass == usize::MAX) {
            passes.push(None);
        }
        let mut walk = ScanWalk {
            session,
            retry,
            resume,
            seen,
            metrics,
            rules,
            index: PatternIndex::default(),
            wider: None,
            at: At::begin(passes.first()),
            passes,
            pass: 0,
            step_from: None,
            barriers,
            written,
            portion: Portion::default(),
        };
        walk.index();
        walk.doom_written();
        walk
    }

    /// What was written since goes to the first pattern that matches it of the pattern delete that was interrupted.
    fn doom_written(&mut self) {
        let mut matching = Vec::new();
        for (name, keys) in &self.written {
            for key in keys {
                self.index.all(key, &mut matching);
                let own =
                    matching.iter().find(|number| self.rules.get(**number).is_some_and(|rule| rule.name == *name));
                if let Some(rule) = own.copied().and_then(|number| self.rules.get_mut(number)) {
                    rule.doomed.push(key.clone());
                }
            }
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.drop_late().await;
            if self.rules.is_empty() {
                return;
            }
            let (owners, doomed) = self.next_batch();
            if doomed.is_empty() && matches!(self.at, At::End) {
                self.end_leg();
                continue;
            }
            if let Err(error) = self.step(&owners, &doomed).await {
                return self.give_up(&error);
            }
        }
    }

    /// The rules have changed.
    fn index(&mut self) {
        self.index = PatternIndex::default();
        self.rules.iter().enumerate().for_each(|(number, rule)| self.index.insert(number, &rule.pattern));
        self.wider = Wider::of(self.rules.iter().map(|rule| &rule.pattern));
    }

    /// Takes out the rules whose time is up, and answers them. What they found and did not delete is for the others.
    async fn drop_late(&mut self) {
        let now = Instant::now();
        if self.rules.iter().all(|rule| !rule.is_late(now)) {
            return;
        }
        let late: Vec<Rule> = self.rules.extract_if(.., |rule| rule.is_late(now)).collect();
        self.index();
        // A key that several match is with the first of them.
        let all_deleted = self.rules.iter().chain(&late).all(|rule| rule.doomed.is_empty());
        let mut late = self.end_over(late, all_deleted);
        self.keep_places(&mut late, all_deleted);
        late.iter().for_each(Rule::answer_late);
        self.share_out(late.into_iter().flat_map(|rule| rule.doomed).collect(), 0).await;
    }

    /// Answers those of these rules that have seen all keys and are done with them; the others. `all_deleted` as for
    /// [`Rule::is_done_so_far`].
    fn end_over(&self, rules: Vec<Rule>, all_deleted: bool) -> Vec<Rule> {
        let at_end = matches!(self.at, At::End);
        let is_over = |rule: &Rule| at_end && (self.is_last_pass() || rule.pass == self.pass);
        // What a delete leaves because it is newer, previews behind it have yet to see.
        let leaving = self.rules.iter().chain(&rules).filter(|rule| !all_deleted && rule.raises());
        let first_leaving = leaving.map(|rule| rule.number).min().unwrap_or(usize::MAX);
        let is_done = |rule: &Rule| rule.is_done_so_far(all_deleted) && !(rule.dry_run && rule.number > first_leaving);
        let (over, others): (Vec<Rule>, _) = rules.into_iter().partition(|rule| is_over(rule) && is_done(rule));
        over.into_iter().for_each(|rule| rule.end(&self.seen));
        others
    }

    /// Notes for each pattern delete of these rules, none of which is over, how far it has come. `all_deleted` as for
    /// [`Rule::is_done_so_far`].
    fn keep_places(&self, rules: &mut [Rule], all_deleted: bool) {
        let here = match &self.at {
            At::ResumePoint(cursor) => Some(*cursor),
            At::Start | At::End => None,
        };
        let (mut kept, mut anew): (HashMap<ScanName, ResumePoint>, Vec<ScanName>) = Default::default();
        let begun = self.passes.get(self.pass).copied().flatten();
        for rule in rules {
            let (cursor, (matched, shown)) = if rule.pass == self.pass || rule.pass == usize::MAX && self.is_last_pass()
            {
                let own = if rule.is_done_so_far(all_deleted) { here } else { self.step_from }.or(begun);
                rule.has_moved = own != begun;
                (own, (rule.matched, rule.sample.len()))
            } else {
                // Its own pass has not begun: it goes on where that would have.
                (self.passes.get(rule.pass).copied().flatten(), rule.inherited)
            };
            let Some(cursor) = cursor else {
                anew.push(rule.name);
                continue;
            };
            let place =
                kept.entry(rule.name).or_insert_with(|| ResumePoint { cursor, found: HashMap::new(), writes: None });
            if rule.dry_run {
                let sample = rule.sample.iter().take(shown).cloned().collect();
                place.found.insert(rule.pattern.as_str().into(), (matched, sample));
            }
        }
        // If one of its patterns has to begin anew, the pattern delete does.
        kept.retain(|name, _| !anew.contains(name));
        for (name, barrier) in &self.barriers {
            if let Some(place) = kept.get_mut(name).filter(|place| place.found.is_empty() && place.writes.is_none()) {
                let writes = barrier.keep_writes();
                self.written.iter().filter(|(of, _)| of == name).for_each(|(_, keys)| writes.add(keys));
                place.writes = Some(writes);
            }
        }
        let (mut resume, now) = (self.resume.borrow_mut(), Instant::now());
        kept.into_iter().for_each(|(name, place)| resume.keep(name, place, now));
    }

    /// Which rules would by now go on behind where they began.
    fn note_moves(&mut self) {
        let (pass, is_last) = (self.pass, self.is_last_pass());
        let has_moved = self.step_from != self.passes.get(pass).copied().flatten();
        let own = self.rules.iter_mut().filter(|rule| rule.pass == pass || rule.pass == usize::MAX && is_last);
        own.for_each(|rule| rule.has_moved |= has_moved);
    }

    fn is_last_pass(&self) -> bool {
        self.pass + 1 == self.passes.len()
    }

    fn end_leg(&mut self) {
        let rules = std::mem::take(&mut self.rules);
        self.rules = self.end_over(rules, true);
        self.pass += 1;
        self.at = At::begin(self.passes.get(self.pass));
        self.step_from = None;
        self.index();
    }

    /// What is to be deleted next: whose keys they are, and the keys of each.
    fn next_batch(&mut self) -> (Vec<usize>, Vec<DeleteGroup>) {
        let mut room = self.portion.keys();
        let mut batch = (Vec::new(), Vec::new());
        for (index, rule) in self.rules.iter_mut().enumerate() {
            // From the end: a step of the embedded cache finds all keys at once.
            let keys = rule.doomed.split_off(rule.doomed.len().saturating_sub(room));
            room -= keys.len();
            if !keys.is_empty() {
                batch.0.push(index);
                batch.1.push(DeleteGroup { keys, version: rule.version.clone() });
            }
        }
        batch
    }

    /// Deletes a batch, and if nothing more is waiting to be deleted, goes on with the scan.
    async fn step(&mut self, owners: &[usize], doomed: &[DeleteGroup]) -> Result<(), CacheError> {
        let give_up = Instant::now() + self.retry;
        // Where the step began that found what is to be deleted.
        let found_from = self.step_from;
        loop {
            let wider = self.wider.clone();
            let scan = self.scan(wider.as_ref());
            let from = scan.and_then(|scan| scan.from);
            let within = self.within(give_up);
            let progress = answering_late(&self.rules, self.session.unlink_and_scan(doomed, scan, within)).await;
            self.portion.took(progress.took);
            let found = progress.step.as_ref().map_or(0, |step| step.keys.len());
            let deleted = progress.unlinked.iter().map(|unlinked| unlinked.deleted).sum();
            self.metrics.scanned(found as u64, deleted);
            for (index, unlinked) in owners.iter().zip(progress.unlinked) {
                if let Some(rule) = self.rules.get_mut(*index) {
                    rule.add(&unlinked, &mut self.seen);
                }
                self.share_out(unlinked.newer, index + 1).await;
            }
            if let Some(ScanStep { keys, versioned, next }) = progress.step {
                if progress.failure.is_none() {
                    self.written.clear();
                }
                let is_left = progress.failure.is_some() || self.rules.iter().any(|rule| !rule.doomed.is_empty());
                self.step_from = if is_left { found_from } else { from };
                self.at = next.map_or(At::End, At::ResumePoint);
                self.note_moves();
                self.share_out(keys, 0).await;
                self.share_versioned(versioned);
            } else if progress.is_lost {
                self.begin_anew();
            }
            match progress.failure {
                None => return Ok(()),
                Some(error) if !may_retry(&error, give_up) => return Err(error),
                Some(_) => actix_rt::time::sleep(PAUSE).await,
            }
        }
    }

    /// For a step: what may not begin later must not be sent later either.
    fn within(&self, give_up: Instant) -> Duration {
        let now = Instant::now();
        self.rules.iter().filter_map(|rule| rule.slot.validity_left(now)).fold(left(give_up), Duration::min)
    }

    fn scan<'b>(&self, only: Option<&'b Wider>) -> Option<Scan<'b>> {
        if self.rules.iter().any(|rule| !rule.doomed.is_empty()) {
            return None;
        }
        let from = match self.at {
            At::Start => None,
            At::ResumePoint(cursor) => Some(cursor),
            At::End => return None,
        };
        let with_expired = !self.rules.iter().any(|rule| rule.dry_run);
        Some(Scan { from, only, versioned: self.rules.iter().any(Rule::raises), with_expired })
    }

    /// The server that gave the cursor is gone.
    fn begin_anew(&mut self) {
        if let At::ResumePoint(_) = self.at {
            (self.at, self.step_from) = (At::Start, None);
            // A pass that began elsewhere is a whole walk now, and meets what was counted before it.
            if self.passes.get_mut(self.pass).and_then(Option::take).is_some() {
                let pass = self.pass;
                self.rules.iter_mut().filter(|rule| rule.pass == pass).for_each(Rule::begin_anew);
            }
        }
    }

    /// Each key goes to the first rule from here on that deletes it, and later ones that raise its version; previews take note
    /// of theirs on the way.
    async fn share_out(&mut self, keys: Vec<Bytes>, first: usize) {
        let (mut begun, mut matching) = (Instant::now(), Vec::new());
        for (number, key) in keys.into_iter().enumerate() {
            if number % LOOK_EVERY == LOOK_EVERY - 1 && begun.elapsed() >= SLICE {
                tokio::task::yield_now().await;
                begun = Instant::now();
            }
            self.index.all(&key, &mut matching);
            let (mut is_doomed, mut counts) = (false, None);
            for number in matching.iter().copied().filter(|number| *number >= first) {
                let Some(rule) = self.rules.get_mut(number) else { continue };
                if rule.dry_run && !is_doomed {
                    let counts = *counts.get_or_insert_with(|| self.seen.note(&key));
                    rule.preview(&key, counts, &mut self.seen);
                } else if !rule.dry_run && (!is_doomed || rule.raises()) {
                    rule.doomed.push(key.clone());
                    is_doomed = true;
                }
            }
        }
    }

    fn share_versioned(&mut self, keys: Vec<Bytes>) {
        let mut matching = Vec::new();
        for key in keys {
            self.index.all(&key, &mut matching);
            for number in &matching {
                if let Some(rule) = self.rules.get_mut(*number).filter(|rule| rule.raises()) {
                    rule.doomed.push(key.clone());
                }
            }
        }
    }

    fn give_up(mut self, error: &CacheError) {
        let rules = std::mem::take(&mut self.rules);
        let mut rules = self.end_over(rules, false);
        self.keep_places(&mut rules, false);
        let kind = match error {
            CacheError::Refused(_) => ProblemKind::CacheRefused,
            _ => ProblemKind::CacheUnavailable,
        };
        for rule in rules {
            rule.fail(kind, format!("the scan did not end: {error}"));
        }
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

fn may_retry(error: &CacheError, give_up: Instant) -> bool {
    error.is_worth_retrying() && Instant::now() + PAUSE < give_up
}

#[cfg(test)]
mod tests;
