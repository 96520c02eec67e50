//! What the holder of the lease does, until it has to stop or has lost it.

use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytestring::ByteString;
use futures::future::{Fuse, LocalBoxFuture};
use futures::lock::Mutex;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use log::{error, info, warn};
use tokio::select;
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};

use super::Parts;
use super::able::{Unable, unable};
use super::fence::take_back;
use super::round::{End, Ended, Failure, Results, carry_out, counts, dead_letter};
use super::stream::{read, trim};
use super::take_in::{Raw, Taken, take_in};
use super::told;
use crate::event::Action;
use crate::journal::dead::SUPERSEDED;
use crate::journal::entry::Unreadable;
use crate::journal::lease::{self, Lease, RENEW_EVERY};
use crate::journal::link::{Link, LinkError, Value};
use crate::journal::window::{Bounds, Task, TaskId, Window};

/// Bytes of the events that are in the window.
const MAX_WINDOW_BYTES: usize = 32 << 20;
/// Events in the window that are not settled, and of one round.
const MAX_TASKS: usize = 4096;
const MAX_ROUND: usize = 512;
const MAX_ROUNDS: usize = 256;
/// Entries that are settled behind one that is not.
const MAX_ENTRIES: usize = 100_000;
/// How often it is looked whether the cache is there again, and what is due.
const TICK: Duration = Duration::from_millis(50);

/// Why a holder stops.
enum Stop {
    /// The process ends; nothing is in progress any more, or something is.
    Asked { is_idle: bool },
    /// Somebody else may have the lease.
    Lost,
    /// The journal's Redis does not do what it should.
    Failed(LinkError),
    /// What is handed over does not get to the cache.
    Unable(Unable),
    /// There are events of a later release.
    Newer,
}

/// Feeds until the lease is lost or the process ends, and gives it back.
pub async fn hold(parts: &Parts, lease: Lease) {
    let (epoch, former) = (lease.epoch, lease.former.len());
    info!(epoch, former; "journal's lease is held here");
    let metrics = &parts.journal.shared.metrics;
    metrics.set_journal_lease(true);
    if former > 0 {
        metrics.journal_redelivered(lease.events);
    }
    let stop = select! {
        stop = keep(parts, &lease) => stop,
        why = unable(parts) => Stop::Unable(why),
        stop = Holder::new(parts.clone(), lease.clone()).feed() => stop,
    };
    let stop = match stop {
        // What was late then is no wonder.
        Stop::Failed(_) | Stop::Unable(_) if lease.validity.is_over(Instant::now()) => Stop::Lost,
        stop => stop,
    };
    lease.validity.end();
    metrics.set_journal_lease(false);
    let is_idle = match stop {
        Stop::Asked { is_idle } => {
            info!(epoch; "journal's lease is given back");
            is_idle
        }
        Stop::Lost => {
            warn!(epoch; "journal's lease was lost");
            parts.is_unsure.store(true, Relaxed);
            return;
        }
        Stop::Failed(cause) => {
            warn!(epoch, cause:% = cause; "journal's lease is given up: its Redis does not answer");
            false
        }
        Stop::Unable(Unable::CutOff) => {
            warn!(epoch; "journal's lease is given up: the cache cannot be reached from here");
            false
        }
        Stop::Unable(Unable::Stuck) => {
            warn!(epoch; "journal's lease is given up: an actor of the pipeline hangs");
            false
        }
        Stop::Newer => {
            error!(epoch; "journal has events of a later release, which this one cannot read: its lease is given up");
            false
        }
    };
    let is_unsure = parts.is_unsure.fetch_or(!is_idle, Relaxed);
    let is_idle = is_idle && !is_unsure;
    let released = parts.journal.shared.connector.link().one(lease::release(&parts.journal, is_idle)).await;
    if let Err(cause) = released {
        warn!(cause:% = cause; "journal's lease could not be given back, it will run out");
    }
}

/// Prolongs the lease until it is lost.
async fn keep(parts: &Parts, lease: &Lease) -> Stop {
    let mut link = parts.journal.shared.connector.link();
    let mut ticks = interval(RENEW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        select! {
            _ = ticks.tick() => {}
            () = sleep_until((Instant::now() + lease.validity.left(Instant::now())).into()) => {}
        }
        if lease.validity.is_over(Instant::now()) {
            return Stop::Lost;
        }
        // Without an answer it lasts up to its time.
        if let Ok(false) = lease::renew(&parts.journal, &mut link, lease).await {
            return Stop::Lost;
        }
    }
}

type Reading = LocalBoxFuture<'static, (Link, Result<Vec<Raw>, LinkError>)>;
type Trimming = LocalBoxFuture<'static, (Link, Result<Value, LinkError>)>;

/// The holder's state.
struct Holder {
    parts: Parts,
    lease: Lease,
    window: Window,
    /// The last entry that was read.
    after: String,
    reading: Fuse<Reading>,
    reader: Option<Link>,
    trimming: Fuse<Trimming>,
    trimmer: Option<Link>,
    rounds: FuturesUnordered<LocalBoxFuture<'static, Ended>>,
    burials: FuturesUnordered<LocalBoxFuture<'static, (TaskId, Result<Value, LinkError>)>>,
    /// Over which dead letters are written.
    grave: Rc<Mutex<Link>>,
    turn: usize,
}

impl Holder {
    fn new(parts: Parts, lease: Lease) -> Self {
        let link = || Some(parts.journal.shared.connector.link());
        let (max_events, _) = parts.pipeline.admission.limits();
        let round = MAX_ROUND.min(max_events / 4).max(1);
        let bounds =
            Bounds { tasks: MAX_TASKS, bytes: MAX_WINDOW_BYTES, entries: MAX_ENTRIES, round, rounds: MAX_ROUNDS };
        Holder {
            window: Window::new(bounds),
            after: "0-0".to_owned(),
            reading: Fuse::terminated(),
            reader: link(),
            trimming: Fuse::terminated(),
            trimmer: link(),
            rounds: FuturesUnordered::new(),
            burials: FuturesUnordered::new(),
            grave: Rc::new(Mutex::new(parts.journal.shared.connector.link())),
            turn: 0,
            parts,
            lease,
        }
    }

    async fn feed(mut self) -> Stop {
        if let Err(cause) = take_back(&self.parts, &self.lease).await {
            return Stop::Failed(cause);
        }
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stopping = self.parts.stopping.clone();
        loop {
            self.read_on();
            self.begin();
            self.trim();
            // The lease is prolonged in between, however much there is to do.
            yield_now().await;
            let step = select! {
                () = stopping.cancelled() => break,
                (link, read) = &mut self.reading => self.has_read(link, read),
                (link, trimmed) = &mut self.trimming => self.has_trimmed(link, trimmed),
                Some(ended) = self.rounds.next(), if !self.rounds.is_empty() => { self.ended(ended); Ok(()) }
                Some((id, buried)) = self.burials.next(), if !self.burials.is_empty() => self.buried(id, buried),
                _ = ticks.tick() => Ok(()),
            };
            if let Err(stop) = step {
                return stop;
            }
        }
        self.finish().await
    }

    /// Waits for what was handed over, and trims what is done.
    async fn finish(mut self) -> Stop {
        let last = self.parts.last;
        let work = pin!(async {
            while !self.rounds.is_empty() || !self.burials.is_empty() {
                select! {
                    Some(ended) = self.rounds.next(), if !self.rounds.is_empty() => self.ended(ended),
                    Some((id, buried)) = self.burials.next(), if !self.burials.is_empty() => {
                        self.buried(id, buried)?;
                    }
                }
            }
            if let Some((link, trimmed)) = (&mut self.trimming).now_or_never() {
                self.has_trimmed(link, trimmed)?;
            } else if self.trimmer.is_none() {
                let (link, trimmed) = (&mut self.trimming).await;
                self.has_trimmed(link, trimmed)?;
            }
            self.trim();
            if self.trimmer.is_none() {
                let (link, trimmed) = (&mut self.trimming).await;
                self.has_trimmed(link, trimmed)?;
            }
            Ok(())
        });
        match timeout(last, work).await {
            Ok(Ok(())) => Stop::Asked { is_idle: true },
            Ok(Err(stop)) => stop,
            Err(_) => Stop::Asked { is_idle: false },
        }
    }

    /// Reads what comes next, if there is room for it.
    fn read_on(&mut self) {
        if !self.window.has_room() {
            return;
        }
        let Some(link) = self.reader.take() else { return };
        let shared = &self.parts.journal.shared;
        self.reading = read(link, shared.keys.stream.clone(), self.after.clone()).boxed_local().fuse();
    }

    fn has_read(&mut self, link: Link, read: Result<Vec<Raw>, LinkError>) -> Result<(), Stop> {
        self.reader = Some(link);
        for raw in read.map_err(Stop::Failed)? {
            self.after.clone_from(&raw.id);
            let Taken { id, tasks, invalid } = match take_in(raw, self.parts.pipeline.limits()) {
                Ok(taken) => taken,
                Err(Unreadable::Newer | Unreadable::Broken) => return Err(Stop::Newer),
            };
            let events = tasks.len() as u64;
            let ids = self.window.add(id, events, tasks);
            for (place, why) in invalid {
                let id = ids.start + place as u64;
                self.window.hold(id);
                self.refuse(id, "invalid-event", &why);
            }
        }
        Ok(())
    }

    /// Hands over what may go ahead, while the cache is there.
    fn begin(&mut self) {
        let now = Instant::now();
        if !self.parts.pipeline.readiness.is_cache_up() || self.lease.validity.is_over(now) {
            return;
        }
        for round in self.window.begin(now) {
            let task = |id: &TaskId| Some((*id, self.window.task(*id)?.clone()));
            let tasks: Vec<(TaskId, Task)> = round.tasks.iter().filter_map(task).collect();
            self.turn = self.turn.wrapping_add(1);
            let (parts, validity) = (self.parts.clone(), self.lease.validity.clone());
            self.rounds.push(carry_out(parts, tasks, validity, self.turn).boxed_local());
        }
    }

    fn ended(&mut self, Ended { tasks, results }: Ended) {
        self.window.round_ended();
        let now = Instant::now();
        match results {
            Results::Each(ends) => tasks.into_iter().zip(ends).for_each(|(id, end)| self.end(id, end, now)),
            Results::Again(end, held) => tasks.into_iter().zip([(end, held)]).for_each(|(id, (end, held))| {
                self.window.set_held(id, held);
                self.end(id, end, now);
            }),
            Results::NotBegun => tasks.into_iter().for_each(|id| self.window.put_off(id, None, false, now)),
            Results::TooLarge if tasks.len() > 1 => {
                self.window.halve_rounds();
                tasks.into_iter().for_each(|id| self.window.put_off(id, None, false, now));
            }
            Results::TooLarge => {
                let why = "it needs more than intake.max_in_flight_bytes or event.max_patterns could ever hold";
                tasks.into_iter().for_each(|id| self.refuse(id, "payload-too-large", why));
            }
            Results::Changed => {
                let why = "its keys were written since it became a dead letter, so it was not run again";
                tasks.into_iter().for_each(|id| self.refuse(id, SUPERSEDED, why));
            }
        }
    }

    fn end(&mut self, id: TaskId, end: End, now: Instant) {
        let metrics = &self.parts.journal.shared.metrics;
        let Some(task) = self.window.task(id) else { return };
        self.parts.is_unsure.fetch_or(end.may_still_land(), Relaxed);
        match end {
            End::Done(age) => {
                told::done(task, age, metrics);
                self.window.settle(id);
            }
            End::Dead(action, failure) => self.give_up(id, action, &failure),
            End::Further(action, failure) => {
                told::left(task, &failure, task.attempts);
                metrics.journal_redelivered(1);
                self.window.put_off(id, Some(action), false, now);
            }
            End::Left(action, failure) => {
                let is_up = self.parts.pipeline.readiness.is_cache_up();
                let counts = counts(&failure, is_up, &self.lease.validity, now);
                let attempts = task.attempts + u32::from(counts);
                if attempts >= self.parts.journal.settings().max_attempts {
                    self.give_up(id, action, &failure);
                } else {
                    told::left(task, &failure, attempts);
                    metrics.journal_redelivered(1);
                    self.window.put_off(id, Some(action), counts, now);
                }
            }
        }
    }

    fn give_up(&mut self, id: TaskId, action: Action, failure: &Failure) {
        self.window.reduce(id, action);
        if let Some(task) = self.window.task(id) {
            told::given_up(task, failure, &self.parts.journal.shared.metrics);
        }
        self.bury(id, failure.key.clone(), (failure.problem.kind.slug(), &failure.problem.detail));
    }

    /// Gives a task up for what is no problem of an entry.
    fn refuse(&mut self, id: TaskId, problem: &str, detail: &str) {
        let Some(task) = self.window.task(id) else { return };
        told::refused(task, &self.parts.journal.shared.metrics);
        let key = task.event.action.targets().into_iter().next().unwrap_or_default();
        self.bury(id, key, (problem, detail));
    }

    /// Makes a dead letter of a task, of which this key failed first. It is settled once that is written.
    fn bury(&mut self, id: TaskId, key: ByteString, (problem, detail): (&str, &str)) {
        let Some(task) = self.window.task(id).cloned() else { return };
        let (parts, lease, turn) = (self.parts.clone(), self.lease.clone(), self.turn);
        let grave = self.grave.clone();
        let (problem, detail) = (problem.to_owned(), detail.to_owned());
        let burial = async move {
            let letter = dead_letter(&parts, &task, (&problem, &detail), &lease.validity, turn).await;
            parts.journal.shared.metrics.dead_letter(&problem);
            told::dead(&task, &key, &letter);
            let command = letter.bury(&parts.journal, &parts.journal.shared.holder);
            (id, grave.lock().await.one(command).await)
        };
        self.burials.push(burial.boxed_local());
    }

    fn buried(&mut self, id: TaskId, buried: Result<Value, LinkError>) -> Result<(), Stop> {
        match buried.map_err(Stop::Failed)?.number() {
            Some(gone @ 0..) => {
                self.parts.journal.shared.metrics.dead_letters_dropped(u64::try_from(gone).unwrap_or(0));
                self.window.settle(id);
                Ok(())
            }
            _ => Err(Stop::Lost),
        }
    }

    /// Trims what is done, one call at a time.
    fn trim(&mut self) {
        if self.trimmer.is_none() {
            return;
        }
        let Some(done) = self.window.take_done() else { return };
        let Some(link) = self.trimmer.take() else { return };
        self.trimming = trim(self.parts.clone(), link, done).boxed_local().fuse();
    }

    fn has_trimmed(&mut self, link: Link, trimmed: Result<Value, LinkError>) -> Result<(), Stop> {
        self.trimmer = Some(link);
        match trimmed.map_err(Stop::Failed)?.number() {
            Some(depth @ 0..) => {
                self.parts.journal.note_depth(u64::try_from(depth).unwrap_or(0));
                Ok(())
            }
            _ => Err(Stop::Lost),
        }
    }
}
