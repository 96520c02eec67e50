//! Scanner: carries out pattern deletes and previews, all that wait together in one scan, on a line of its own.
//!
//! What a step of the scan found is deleted in the same round trip as the next step is taken.
//!
//! A key goes to the first pattern in the order of acceptance that deletes it; previews before that one see it, later
//! ones do not. Later ones with a version get it too, for they raise the key's version even if it is gone; and if the first
//! leaves it because it is newer, the others get it then. `matched` counts
//! distinct keys: a deleted key is counted by what UNLINK says, one that is left or previewed by its hash (eight bytes a key
//! are remembered until the scan is over).

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, Context, Handler, Supervised};
use ahash::RandomState;
use bytes::Bytes;
use futures::lock::Mutex;

use super::job::{Slot, Sweep, enter_all};
use super::stopwatch::Leg;
use super::supervision::{Mail, Notice, Stage, Vitals, guarded, spawn_guarded};
use super::turns::Barrier;
use crate::cache::{CacheError, Cursor, Doomed, Scan, ScanStep, Session, Unlinked};
use crate::event::outcome::{MAX_SAMPLE, Outcome, Problem, ProblemKind};
use crate::event::pattern::Pattern;
use crate::event::version::Version;

/// Keys deleted by one call, at most: Redis must not be held up by it.
const UNLINK_BATCH: usize = 1000;
const PAUSE: Duration = Duration::from_millis(100);

/// Sweeps that start together, in the order of acceptance. All that was accepted before them is in the cache.
pub struct StartSweeps {
    pub sweeps: Vec<Sweep>,
    pub ended: Notice<SweepEnded>,
}

/// The scanner is done with what it was given.
pub struct SweepEnded {
    pub epoch: u64,
}

pub struct Scanner {
    pub vitals: Arc<Vitals>,
    pub session: Rc<Mutex<Box<dyn Session>>>,
    /// How long a step is tried (`redis.retry_ms`).
    pub retry: Duration,
}

impl Scanner {
    fn take(&mut self, StartSweeps { sweeps, ended }: StartSweeps, context: &mut Context<Self>) {
        enter_all(sweeps.iter().flat_map(|sweep| &sweep.slots), Leg::Cache, Instant::now());
        let session = self.session.clone();
        let retry = self.retry;
        let work = async move {
            let mut session = session.lock().await;
            let (rules, barriers) = rules(sweeps);
            Walk::new(session.as_mut(), retry, rules).run().await;
            drop((barriers, ended));
        };
        spawn_guarded(context, work, |_, (), _| {});
    }
}

/// One pattern's share of a scan.
struct Rule {
    pattern: Pattern,
    version: Option<Version>,
    slot: Slot,
    dry_run: bool,
    deadline: Instant,
    /// Found and not yet deleted.
    doomed: Vec<Bytes>,
    matched: u64,
    deleted: u64,
    sample: Vec<Bytes>,
    seen: HashSet<u64, RandomState>,
}

fn rules(sweeps: Vec<Sweep>) -> (Vec<Rule>, Vec<Barrier>) {
    let mut rules = Vec::new();
    let mut barriers = Vec::new();
    for Sweep { patterns, version, slots, dry_run, barrier, deadline } in sweeps {
        barriers.push(barrier);
        rules.extend(patterns.into_iter().zip(slots).map(|(pattern, slot)| Rule {
            pattern,
            version: version.clone(),
            slot,
            dry_run,
            deadline,
            doomed: Vec::new(),
            matched: 0,
            deleted: 0,
            sample: Vec::new(),
            seen: HashSet::default(),
        }));
    }
    (rules, barriers)
}

impl Rule {
    fn preview(&mut self, key: &Bytes, hasher: &RandomState) {
        if self.count(key, hasher) && self.sample.len() < MAX_SAMPLE {
            self.sample.push(key.clone());
        }
    }

    /// Counts a key that stays; whether it was not counted before.
    fn count(&mut self, key: &Bytes, hasher: &RandomState) -> bool {
        let is_first = self.seen.insert(hasher.hash_one(key));
        self.matched += u64::from(is_first);
        is_first
    }

    fn add(&mut self, deleted: u64, newer: &[Bytes], hasher: &RandomState) {
        self.deleted += deleted;
        self.matched += deleted;
        for key in newer {
            self.count(key, hasher);
        }
    }

    /// Whether keys that have a version but no value concern it.
    fn raises(&self) -> bool {
        self.version.is_some() && !self.dry_run
    }

    fn succeed(self) {
        let outcome = if self.dry_run {
            Outcome::Preview { matched: self.matched, sample: self.sample }
        } else {
            Outcome::Swept { matched: self.matched, deleted: self.deleted }
        };
        self.slot.settle(outcome, Instant::now());
    }

    fn fail(self, kind: ProblemKind, detail: String) {
        let problem = Problem::new(kind, detail);
        self.slot
            .settle(Outcome::SweepFailed { matched: self.matched, deleted: self.deleted, problem }, Instant::now());
    }
}

/// One scan for all its rules.
struct Walk<'a> {
    session: &'a mut dyn Session,
    retry: Duration,
    rules: Vec<Rule>,
    place: Place,
    hasher: RandomState,
}

enum Place {
    Start,
    At(Cursor),
    End,
}

impl<'a> Walk<'a> {
    fn new(session: &'a mut dyn Session, retry: Duration, rules: Vec<Rule>) -> Self {
        Walk { session, retry, rules, place: Place::Start, hasher: RandomState::new() }
    }

    async fn run(mut self) {
        loop {
            self.drop_late();
            if self.rules.is_empty() {
                return;
            }
            let (owners, doomed) = self.next_batch();
            if doomed.is_empty() && matches!(self.place, Place::End) {
                return self.rules.into_iter().for_each(Rule::succeed);
            }
            if let Err(error) = self.step(&owners, &doomed).await {
                return give_up(self.rules, &error);
            }
        }
    }

    /// Takes out the rules whose time is up, and answers them. What they found and did not delete is for the others.
    fn drop_late(&mut self) {
        let now = Instant::now();
        let mut left = Vec::new();
        for mut rule in self.rules.extract_if(.., |rule| rule.deadline <= now) {
            left.append(&mut rule.doomed);
            rule.fail(ProblemKind::Timeout, "the scan did not end within event.deadline_ms".to_owned());
        }
        self.share_out(left, 0);
    }

    /// What is to be deleted next: whose keys they are, and the keys of each.
    fn next_batch(&mut self) -> (Vec<usize>, Vec<Doomed>) {
        let mut room = UNLINK_BATCH;
        let mut batch = (Vec::new(), Vec::new());
        for (index, rule) in self.rules.iter_mut().enumerate() {
            // From the end: a step of the embedded cache finds all keys at once.
            let keys = rule.doomed.split_off(rule.doomed.len().saturating_sub(room));
            room -= keys.len();
            if !keys.is_empty() {
                batch.0.push(index);
                batch.1.push(Doomed { keys, version: rule.version.clone() });
            }
        }
        batch
    }

    /// Deletes a batch, and if nothing more is waiting to be deleted, goes on with the scan.
    async fn step(&mut self, owners: &[usize], doomed: &[Doomed]) -> Result<(), CacheError> {
        let give_up = Instant::now() + self.retry;
        loop {
            let pattern = match &self.rules[..] {
                [rule] => Some(rule.pattern.clone()),
                _ => None,
            };
            let progress = self.session.unlink_and_scan(doomed, self.scan(pattern.as_ref()), left(give_up)).await;
            for (index, Unlinked { deleted, newer }) in owners.iter().zip(progress.unlinked) {
                if let Some(rule) = self.rules.get_mut(*index) {
                    rule.add(deleted, &newer, &self.hasher);
                }
                self.share_out(newer, index + 1);
            }
            match progress.step {
                Some(ScanStep { keys, guarded, next }) => {
                    self.place = next.map_or(Place::End, Place::At);
                    self.share_out(keys, 0);
                    self.share_guarded(guarded);
                }
                // A cursor is only good on the server that gave it.
                None if progress.failure.is_some() => self.restart(),
                None => {}
            }
            match progress.failure {
                None => return Ok(()),
                Some(error) if !may_retry(&error, give_up) => return Err(error),
                Some(_) => actix_rt::time::sleep(PAUSE).await,
            }
        }
    }

    fn scan<'b>(&self, only: Option<&'b Pattern>) -> Option<Scan<'b>> {
        if self.rules.iter().any(|rule| !rule.doomed.is_empty()) {
            return None;
        }
        let from = match self.place {
            Place::Start => None,
            Place::At(cursor) => Some(cursor),
            Place::End => return None,
        };
        Some(Scan { from, only, guarded: self.rules.iter().any(Rule::raises) })
    }

    fn restart(&mut self) {
        if let Place::At(_) = self.place {
            self.place = Place::Start;
        }
    }

    /// Each key goes to the first rule from here on that deletes it, and later ones that raise its version; previews take note
    /// of theirs on the way.
    fn share_out(&mut self, keys: Vec<Bytes>, first: usize) {
        for key in keys {
            let mut is_doomed = false;
            for rule in self.rules.iter_mut().skip(first).filter(|rule| rule.pattern.matches(&key)) {
                if rule.dry_run && !is_doomed {
                    rule.preview(&key, &self.hasher);
                } else if !rule.dry_run && (!is_doomed || rule.raises()) {
                    rule.doomed.push(key.clone());
                    is_doomed = true;
                }
            }
        }
    }

    fn share_guarded(&mut self, keys: Vec<Bytes>) {
        for key in keys {
            for rule in self.rules.iter_mut().filter(|rule| rule.raises() && rule.pattern.matches(&key)) {
                rule.doomed.push(key.clone());
            }
        }
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

fn may_retry(error: &CacheError, give_up: Instant) -> bool {
    error.is_worth_retrying() && Instant::now() + PAUSE < give_up
}

fn give_up(rules: Vec<Rule>, error: &CacheError) {
    for rule in rules {
        let kind = match error {
            CacheError::Refused(_) => ProblemKind::CacheRefused,
            _ => ProblemKind::CacheUnavailable,
        };
        rule.fail(kind, format!("the scan did not end: {error}"));
    }
}

impl Actor for Scanner {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.vitals.clone().on_start(context);
    }
}

impl Supervised for Scanner {}

impl Stage for Scanner {
    fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }
}

impl Handler<Mail<StartSweeps>> for Scanner {
    type Result = ();

    fn handle(&mut self, mail: Mail<StartSweeps>, context: &mut Self::Context) {
        guarded(self, context, |scanner, context| scanner.take(mail.open(), context));
    }
}
