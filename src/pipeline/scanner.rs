//! Scanner: carries out pattern deletes and previews, all that wait together in one scan, on a line of its own.
//!
//! A key goes to the first pattern in the order of acceptance that deletes it; previews before that one see it, later
//! ones do not. `matched` counts distinct keys: a deleted key is counted by what UNLINK says, a previewed one by its
//! hash (eight bytes a key are remembered until the scan is over).

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, Context, Handler, Supervised};
use ahash::RandomState;
use bytes::Bytes;
use futures::lock::Mutex;

use super::job::{Slot, Sweep};
use super::supervision::{Mail, Notice, Stage, Vitals, guarded, spawn_guarded};
use crate::cache::{CacheError, Cursor, ScanStep, Session};
use crate::event::outcome::{MAX_SAMPLE, Outcome, Problem, ProblemKind};
use crate::event::pattern::Pattern;

/// Keys deleted by one command, at most: Redis must not be held up by it.
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
        let session = self.session.clone();
        let retry = self.retry;
        let work = async move {
            let mut session = session.lock().await;
            let mut scan = Scan { session: session.as_mut(), retry };
            scan.run(rules(sweeps)).await;
            drop(ended);
        };
        spawn_guarded(context, work, |_, (), _| {});
    }
}

/// One pattern's share of a scan.
struct Rule {
    pattern: Pattern,
    slot: Slot,
    dry_run: bool,
    deadline: Instant,
    matched: u64,
    sample: Vec<Bytes>,
    seen: HashSet<u64, RandomState>,
}

fn rules(sweeps: Vec<Sweep>) -> Vec<Rule> {
    let rule = |sweep: Sweep| {
        let Sweep { patterns, slots, dry_run, deadline } = sweep;
        patterns.into_iter().zip(slots).map(move |(pattern, slot)| Rule {
            pattern,
            slot,
            dry_run,
            deadline,
            matched: 0,
            sample: Vec::new(),
            seen: HashSet::default(),
        })
    };
    sweeps.into_iter().flat_map(rule).collect()
}

impl Rule {
    fn preview(&mut self, key: &Bytes, hasher: &RandomState) {
        if !self.seen.insert(hasher.hash_one(key)) {
            return;
        }
        self.matched += 1;
        if self.sample.len() < MAX_SAMPLE {
            self.sample.push(key.clone());
        }
    }

    fn succeed(self) {
        let outcome = if self.dry_run {
            Outcome::Preview { matched: self.matched, sample: self.sample }
        } else {
            Outcome::Swept { matched: self.matched, deleted: self.matched }
        };
        self.slot.settle(outcome);
    }

    fn fail(self, kind: ProblemKind, detail: String) {
        let deleted = if self.dry_run { 0 } else { self.matched };
        let problem = Problem { kind, detail: detail.into() };
        self.slot.settle(Outcome::SweepFailed { matched: self.matched, deleted, problem });
    }
}

/// Takes out the rules whose time is up, and answers them.
fn drop_late(rules: &mut Vec<Rule>, now: Instant) {
    for rule in rules.extract_if(.., |rule| rule.deadline <= now) {
        rule.fail(ProblemKind::Timeout, "the scan did not end within event.deadline_ms".to_owned());
    }
}

struct Scan<'a> {
    session: &'a mut dyn Session,
    retry: Duration,
}

impl Scan<'_> {
    async fn run(&mut self, mut rules: Vec<Rule>) {
        let hasher = RandomState::new();
        let mut cursor = None;
        loop {
            drop_late(&mut rules, Instant::now());
            if rules.is_empty() {
                return;
            }
            let step = match self.step(&mut cursor, &rules).await {
                Ok(step) => step,
                Err(error) => return give_up(rules, &error),
            };
            for (index, keys) in share_out(&mut rules, step.keys, &hasher) {
                for batch in keys.chunks(UNLINK_BATCH) {
                    if rules.get(index).is_some_and(|rule| rule.deadline <= Instant::now()) {
                        break;
                    }
                    match (self.unlink(batch).await, rules.get_mut(index)) {
                        (Ok(deleted), Some(rule)) => rule.matched += deleted,
                        (Ok(_), None) => {}
                        (Err(error), _) => return give_up(rules, &error),
                    }
                }
            }
            drop_late(&mut rules, Instant::now());
            match step.next {
                Some(next) => cursor = Some(next),
                None => return rules.into_iter().for_each(Rule::succeed),
            }
        }
    }

    /// A step that fails begins the scan anew: a cursor is only good on the server that gave it.
    async fn step(&mut self, cursor: &mut Option<Cursor>, rules: &[Rule]) -> Result<ScanStep, CacheError> {
        let give_up = Instant::now() + self.retry;
        loop {
            let only = if let [rule] = rules { Some(&rule.pattern) } else { None };
            match self.session.scan(*cursor, only, left(give_up)).await {
                Err(error) if may_retry(&error, give_up) => actix_rt::time::sleep(PAUSE).await,
                result => return result,
            }
            *cursor = None;
        }
    }

    async fn unlink(&mut self, keys: &[Bytes]) -> Result<u64, CacheError> {
        let give_up = Instant::now() + self.retry;
        loop {
            match self.session.unlink(keys, left(give_up)).await {
                Err(error) if may_retry(&error, give_up) => actix_rt::time::sleep(PAUSE).await,
                result => return result,
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
        rule.fail(ProblemKind::CacheUnavailable, format!("the scan did not end: {error}"));
    }
}

/// The keys to delete, rule by rule; previews take note of theirs on the way.
fn share_out(rules: &mut [Rule], keys: Vec<Bytes>, hasher: &RandomState) -> HashMap<usize, Vec<Bytes>, RandomState> {
    let mut shares: HashMap<usize, Vec<Bytes>, RandomState> = HashMap::default();
    for key in keys {
        for (index, rule) in rules.iter_mut().enumerate() {
            if !rule.pattern.matches(&key) {
                continue;
            }
            if rule.dry_run {
                rule.preview(&key, hasher);
                continue;
            }
            shares.entry(index).or_default().push(key);
            break;
        }
    }
    shares
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
