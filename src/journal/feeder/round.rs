//! One round: events handed to the pipeline, and what became of them.

use std::time::{Duration, Instant};
use std::{iter, slice};

use bytestring::ByteString;
use ring::digest::{Context, SHA256};
use smallvec::smallvec;
use tokio::time::timeout;

use super::Parts;
use crate::event::outcome::{Class, Outcome, Problem, ProblemKind};
use crate::event::rejection::Rejection;
use crate::event::wire::{EventResult, event_text};
use crate::event::{Action, CacheKey, Event, Few};
use crate::journal::dead::DeadLetter;
use crate::journal::entry::{Digest, OF_NOTHING};
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
    /// Of a letter that is run again, and only a part of it is done. What the keys of what is left held before; None: they were
    /// written meanwhile, or cannot be read.
    Part(End, Option<Digest>),
}

/// What became of a task.
#[derive(Debug, PartialEq)]
pub enum End {
    /// Applied, or made needless: so long after its own time, if it has one.
    Done(Option<Duration>),
    /// This is left of it, and may succeed later.
    Left(Action, Box<Failure>),
    /// These patterns took longer than an attempt may, and go on where they stopped.
    Further(Action),
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
    /// Whether the cache had a part in it: what was sent to it may still land.
    pub fn is_of_cache(&self) -> bool {
        self.entries.iter().any(|kind| kind.class() == Class::Unavailable && *kind != ProblemKind::BlobUnavailable)
    }
}

impl End {
    fn left(&self) -> Option<&Action> {
        match self {
            End::Done(_) => None,
            End::Left(action, _) | End::Dead(action, _) | End::Further(action) => Some(action),
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

/// Of a dead letter, unless its keys hold something else than when it died.
async fn run_again(parts: &Parts, task: &Task, expected: Digest, validity: &Validity, turn: usize) -> Results {
    let before = held(parts, &task.event.action, validity, turn).await;
    let Some(before) = before.filter(|held| held.whole == expected) else { return Results::Changed };
    let mut ended = run(parts, slice::from_ref(task), validity.clone(), turn).await;
    let Results::Each(ends) = &mut ended else { return ended };
    let whole = task.event.action.entries();
    let Some(end) = ends.pop_if(|end| end.left().is_some_and(|left| left.entries() < whole)) else { return ended };
    let after = match end.left() {
        Some(left) => held(parts, left, validity, turn).await,
        None => None,
    };
    let after = after.filter(|after| after.each.iter().all(|held| before.each.contains(held)));
    Results::Part(end, after.map(|after| after.whole))
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
        let (key, entries) =
            (action.targets().into_iter().next(), smallvec![ProblemKind::Interrupted; action.entries()]);
        let problem = Problem::new(ProblemKind::Interrupted, "the pipeline gave no answer");
        return End::Left(action.clone(), Box::new(Failure { key: key.unwrap_or_default(), problem, entries }));
    };
    if !task.meta.source.is_empty() {
        answered.pass_over_overtaken();
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
        Class::Unavailable if answered.outcomes.iter().any(has_moved) => End::Further(action),
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

/// A dead letter of what is left of a task. Its keys are read, unless its version guards it, or it was one before: whatever was
/// written since then is newer.
pub async fn dead_letter(
    parts: &Parts,
    task: &Task,
    (problem, detail): (&str, &str),
    validity: &Validity,
    turn: usize,
) -> DeadLetter {
    let is_whole = task.event.action.entries() == task.entries;
    let digest = match (&task.event.version, task.record.unless_changed) {
        (Some(_), _) => None,
        (None, Some(first)) => Some(first).filter(|first| *first != OF_NOTHING),
        (None, None) => held(parts, &task.event.action, validity, turn).await.map(|held| held.whole),
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
        digest,
        of: format!("{}.{}", task.meta.id, task.place),
    }
}

/// What the keys of an action hold.
struct Held {
    whole: Digest,
    /// Of each key.
    each: Vec<Digest>,
}

/// Reads what the keys hold. None: there are none, or they cannot be read.
async fn held(parts: &Parts, action: &Action, validity: &Validity, turn: usize) -> Option<Held> {
    let keys: Few<CacheKey> = match action {
        Action::Set(entries) => entries.iter().map(|entry| entry.key.clone()).collect(),
        Action::Get(keys) | Action::Delete(keys) => keys.clone(),
        Action::DeletePattern { .. } => smallvec![],
    };
    if keys.is_empty() {
        return None;
    }
    let read = Event { id: None, version: None, time: None, action: Action::Get(keys) };
    let Verdict::Batch(elements) = submit(parts, vec![read], validity.clone(), turn).await else { return None };
    let [EventResult::Answered(answered)] = &elements[..] else { return None };
    let keys = || answered.targets.iter().map(|key| key.as_bytes().as_ref()).zip(&answered.outcomes);
    let each = keys().map(|key| digest(iter::once(key))).collect::<Option<Vec<Digest>>>()?;
    Some(Held { whole: digest(keys())?, each })
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

/// Whether an attempt is counted that ended so: none is while the cache as a whole is down, or while the lease ends.
pub fn counts(failure: &Failure, is_cache_up: bool, validity: &Validity, now: Instant) -> bool {
    !validity.is_over(now) && (is_cache_up || !failure.is_of_cache())
}
