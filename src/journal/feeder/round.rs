//! One round: events handed to the pipeline, and what became of them.

use std::time::{Duration, Instant};
use std::{iter, slice};

use ahash::{AHashMap as HashMap, AHashSet as HashSet};
use bytestring::ByteString;
use ring::digest::{Context, SHA256};
use smallvec::smallvec;
use tokio::time::timeout;

use super::Parts;
use crate::event::outcome::{Class, Outcome, Problem, ProblemKind};
use crate::event::rejection::Rejection;
use crate::event::wire::{EventResult, event_text};
use crate::event::{Action, CacheKey, Event, Few, Source};
use crate::journal::dead::DeadLetter;
use crate::journal::entry::Digest;
use crate::journal::unix_millis;
use crate::journal::window::{Task, TaskId};
use crate::pipeline::work::reply::Verdict;
use crate::pipeline::work::validity::Validity;
use crate::telemetry::metrics::Settled;

/// How much longer than `event.deadline_ms` a verdict is waited for: what ends then says why, and how far it came.
const GRACE: Duration = Duration::from_secs(1);

/// How a round ended.
pub struct Ended {
    pub tasks: Vec<TaskId>,
    pub results: Results,
}

/// What became of the tasks of a round.
pub enum Results {
    /// The pipeline had no room for them.
    NotBegun,
    /// They are more than the pipeline ever takes on at once.
    TooLarge,
    /// Of a letter that is run again: its keys were written since it died.
    Changed,
    /// One for each.
    Each(Vec<End>),
    /// Of a letter that is run again. What each of its keys held when it died.
    Again(End, Vec<Digest>),
}

/// What became of a task.
#[derive(Debug, PartialEq)]
pub enum End {
    /// Applied, or made needless: so long after its own time, if it has one.
    Done(Option<Duration>),
    /// This is left of it, and may succeed later.
    Left(Action, Box<Failure>),
    /// These patterns took longer than an attempt may, and go on where they stopped.
    Further(Action, Box<Failure>),
    /// This failed for good; the rest is done.
    Dead(Action, Box<Failure>),
}

/// Why an attempt has left something of a task.
#[derive(Debug, PartialEq)]
pub struct Failure {
    /// The first of its entries that ended as the whole did, and why.
    pub key: ByteString,
    pub problem: Problem,
    /// Why each entry is left.
    pub entries: Few<ProblemKind>,
}

impl Failure {
    /// Of all entries of an action alike.
    fn of_all(action: &Action, problem: Problem) -> Box<Failure> {
        let (key, entries) = (action.targets().into_iter().next(), smallvec![problem.kind; action.entries()]);
        Box::new(Failure { key: key.unwrap_or_default(), problem, entries })
    }

    /// Whether an entry is unavailable for another reason than its blob: something of it may have reached the cache.
    pub fn may_have_reached_cache(&self) -> bool {
        self.entries.iter().any(|kind| kind.class() == Class::Unavailable && *kind != ProblemKind::BlobUnavailable)
    }
}

impl End {
    /// Whether something may have been sent to the cache whose reply is lost.
    pub fn may_still_land(&self) -> bool {
        match self {
            End::Done(_) | End::Dead(..) => false,
            End::Left(_, failure) => failure.may_have_reached_cache(),
            // A step of the scan was on its way when the time was up.
            End::Further(..) => true,
        }
    }
}

/// Hands the events over and waits for their verdict.
pub async fn carry_out(parts: Parts, tasks: Vec<(TaskId, Task)>, validity: Validity, turn: usize) -> Ended {
    let (ids, tasks): (Vec<TaskId>, Vec<Task>) = tasks.into_iter().unzip();
    if let [task] = &tasks[..]
        && let Some(expected) = task.record.unless_changed
    {
        return Ended { results: run_again(&parts, task, expected, &validity, turn).await, tasks: ids };
    }
    Ended { results: run(&parts, &tasks, validity, turn).await, tasks: ids }
}

async fn run(parts: &Parts, tasks: &[Task], validity: Validity, turn: usize) -> Results {
    let events = tasks.iter().map(|task| task.event.clone()).collect();
    match submit(parts, events, validity, turn).await {
        Verdict::Batch(elements) => {
            let (mut elements, mut settled) = (elements.into_iter(), parts.journal.shared.metrics.settled());
            Results::Each(tasks.iter().map(|task| end(task, elements.next(), &mut settled)).collect())
        }
        Verdict::Rejected(Rejection::TooLargeToAdmit | Rejection::TooManyPatterns) => Results::TooLarge,
        Verdict::Rejected(_) | Verdict::One(_) => Results::NotBegun,
    }
}

/// Of a dead letter, unless its keys were written since it died. What it has written itself stands: the reply was lost, or the
/// holder of the lease changed before the entry was trimmed.
async fn run_again(parts: &Parts, task: &Task, expected: Digest, validity: &Validity, turn: usize) -> Results {
    let now = match held(parts, &task.event.action, validity, turn).await {
        Ok(now) => now,
        Err(problem) if problem.kind.class() == Class::Unavailable => {
            let action = task.event.action.clone();
            let failure = Failure::of_all(&action, problem);
            return Results::Again(End::Left(action, failure), task.held.clone());
        }
        Err(_) => return Results::Changed,
    };
    let before = if now.whole == expected { now.each.clone() } else { task.held.clone() };
    let known: HashSet<&Digest> = before.iter().collect();
    let is_left: Vec<bool> = now.each.iter().map(|held| known.contains(held)).collect();
    let mut keys = now.each.iter().zip(written(&task.event.action)).zip(&is_left);
    if !keys.all(|((held, written), is_left)| *is_left || written == Some(*held)) {
        return Results::Changed;
    }
    if !is_left.contains(&true) {
        return Results::Again(End::Done(None), before);
    }
    let action = only(task.event.action.clone(), &is_left);
    let rest = Task { event: Event { action, ..task.event.clone() }, ..task.clone() };
    match run(parts, slice::from_ref(&rest), validity.clone(), turn).await {
        Results::Each(mut ends) => ends.pop().map_or(Results::NotBegun, |end| Results::Again(end, before)),
        ended => ended,
    }
}

/// What each key of an action holds once it is done; None: that is not known before.
fn written(action: &Action) -> Vec<Option<Digest>> {
    let of = |key: &CacheKey, outcome: &Outcome| digest(iter::once((key.as_bytes(), outcome)));
    let keys: Vec<(&CacheKey, Option<Digest>)> = match action {
        Action::Set(entries) => {
            let value = |source: &Source| match source {
                Source::Inline(value) => Some(Outcome::Hit(value.clone())),
                Source::Blob(_) => None,
            };
            let written = entries.iter().map(|entry| (&entry.key, value(&entry.source)));
            written.map(|(key, value)| (key, value.and_then(|value| of(key, &value)))).collect()
        }
        Action::Delete(keys) => keys.iter().map(|key| (key, of(key, &Outcome::Miss))).collect(),
        Action::Get(_) | Action::DeletePattern { .. } => Vec::new(),
    };
    // If a key is named twice, the last one stands.
    let last: HashMap<&CacheKey, Option<Digest>> = keys.iter().copied().collect();
    keys.iter().map(|(key, _)| last.get(key).copied().flatten()).collect()
}

async fn submit(parts: &Parts, events: Vec<Event>, validity: Validity, turn: usize) -> Verdict {
    let Some(submitter) = parts.pipeline.submitter_by_turn(turn) else {
        return Verdict::Rejected(Rejection::Overloaded);
    };
    let mut pending = submitter.submit_within(events, parts.pipeline.admission.permit(), validity);
    match timeout(parts.pipeline.deadline() + GRACE, &mut pending).await {
        Ok(verdict) => verdict,
        Err(_) => pending.expire(ProblemKind::Timeout),
    }
}

/// What an answer comes to. The entries that are done are counted.
fn end(task: &Task, element: Option<EventResult>, settled: &mut Settled<'_>) -> End {
    let action = &task.event.action;
    let Some(EventResult::Answered(mut answered)) = element else {
        let problem = Problem::new(ProblemKind::Interrupted, "the pipeline gave no answer");
        return End::Left(action.clone(), Failure::of_all(action, problem));
    };
    if !task.meta.source.is_empty() {
        answered.supersede_changed_objects();
    }
    for outcome in answered.outcomes.iter().filter(|outcome| outcome.class() == Class::Ok) {
        settled.entry(answered.event, outcome.status());
    }
    let Some((at, problem)) = answered.failure() else { return End::Done(answered.age()) };
    let entries = answered.outcomes.iter().filter_map(Outcome::problem).map(|problem| problem.kind).collect();
    let key = answered.targets.get(at).cloned().unwrap_or_default();
    let failure = Box::new(Failure { key, problem: problem.clone(), entries });
    let is_left: Vec<bool> = answered.outcomes.iter().map(|outcome| outcome.class() != Class::Ok).collect();
    let action = only(action.clone(), &is_left);
    match answered.class() {
        Class::Unavailable if answered.outcomes.iter().any(has_moved) => End::Further(action, failure),
        Class::Unavailable => End::Left(action, failure),
        _ => End::Dead(action, failure),
    }
}

fn has_moved(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::PatternDeleteFailed { got_further: true, problem, .. } if problem.kind == ProblemKind::Timeout)
}

/// The entries of an action that are marked.
fn only(action: Action, is_left: &[bool]) -> Action {
    fn marked<T>(all: Few<T>, is_left: &[bool]) -> Few<T> {
        all.into_iter().zip(is_left).filter(|(_, is_left)| **is_left).map(|(one, _)| one).collect()
    }
    match action {
        Action::Set(entries) => Action::Set(marked(entries, is_left)),
        Action::Get(keys) => Action::Get(marked(keys, is_left)),
        Action::Delete(keys) => Action::Delete(marked(keys, is_left)),
        Action::DeletePattern { patterns, dry_run } => {
            Action::DeletePattern { patterns: marked(patterns, is_left), dry_run }
        }
    }
}

/// A dead letter of what is left of a task. Its keys are read, unless it ran as a letter that what they held before guards: whatever
/// was written since then is newer.
pub async fn dead_letter(
    parts: &Parts,
    task: &Task,
    (problem, detail): (&str, &str),
    validity: &Validity,
    turn: usize,
) -> DeadLetter {
    let is_whole = task.event.action.entries() == task.entries;
    let held = match task.record.unless_changed {
        Some(_) => task.held.clone(),
        None => held(parts, &task.event.action, validity, turn).await.map(|held| held.each).unwrap_or_default(),
    };
    let json = if is_whole { task.record.json.clone() } else { event_text(&task.event).into() };
    DeadLetter {
        event: json,
        place: task.record.place.clone(),
        problem: problem.to_owned(),
        detail: detail.to_owned(),
        meta: (*task.meta).clone(),
        died_ms: unix_millis(),
        attempts: task.record.attempts.saturating_add(task.attempts).saturating_add(1),
        held,
        of: format!("{}.{}", task.meta.id, task.place),
    }
}

/// What the keys of an action hold.
struct Held {
    whole: Digest,
    /// Of each key.
    each: Vec<Digest>,
}

/// Reads what the keys hold.
///
/// # Errors
/// There are none, or they cannot be read.
async fn held(parts: &Parts, action: &Action, validity: &Validity, turn: usize) -> Result<Held, Problem> {
    let keys: Few<CacheKey> = match action {
        Action::Set(entries) => entries.iter().map(|entry| entry.key.clone()).collect(),
        Action::Get(keys) | Action::Delete(keys) => keys.clone(),
        Action::DeletePattern { .. } => smallvec![],
    };
    if keys.is_empty() {
        return Err(Problem::new(ProblemKind::CacheRefused, "it names no keys"));
    }
    let read = Event { id: None, version: None, time: None, action: Action::Get(keys) };
    let answered = match submit(parts, vec![read], validity.clone(), turn).await {
        Verdict::Batch(elements) => elements.into_iter().next(),
        Verdict::Rejected(_) | Verdict::One(_) => None,
    };
    let Some(EventResult::Answered(answered)) = answered else {
        return Err(Problem::new(ProblemKind::Interrupted, "its keys could not be read"));
    };
    let keys = || answered.targets.iter().map(|key| key.as_bytes().as_ref()).zip(&answered.outcomes);
    let each = keys().map(|key| digest(iter::once(key))).collect::<Option<Vec<Digest>>>();
    let held = digest(keys()).zip(each).map(|(whole, each)| Held { whole, each });
    held.ok_or_else(|| {
        let unknown = || Problem::new(ProblemKind::Interrupted, "its keys could not be read");
        answered.failure().map_or_else(unknown, |(_, problem)| problem.clone())
    })
}

fn digest<'a>(keys: impl Iterator<Item = (&'a [u8], &'a Outcome)>) -> Option<Digest> {
    let mut context = Context::new(&SHA256);
    for (key, outcome) in keys {
        context.update(&(key.len() as u64).to_le_bytes());
        context.update(key);
        match outcome {
            Outcome::Miss => context.update(b"-"),
            Outcome::Hit(value) => {
                context.update(b"=");
                context.update(&(value.len() as u64).to_le_bytes());
                context.update(value);
            }
            _ => return None,
        }
    }
    context.finish().as_ref().try_into().ok()
}

/// Whether the attempt counts towards `journal.max_attempts`: it does not if the lease is over, nor, while the cache is down, if an
/// entry failed for another reason than its blob.
pub fn counts(failure: &Failure, is_cache_up: bool, validity: &Validity, now: Instant) -> bool {
    !validity.is_over(now) && (is_cache_up || !failure.may_have_reached_cache())
}
