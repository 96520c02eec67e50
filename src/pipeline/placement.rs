//! Staff: how many actors there are of each kind, and on which threads; both may change while they work.
//!
//! # Who runs where
//!
//! A hop between threads costs more than the work it carries. So intake, validation, fetchers and writers are on the HTTP
//! workers' own threads (an [`Entrance`] starts them there): an operation changes threads only to follow an unfinished one of
//! its key. Intake and validation may be put on threads of their own. The router and the scanner, which see the others,
//! share a thread. Only decoding, which is work for the processor alone, has threads of its own: the fetchers' clients begin
//! them with the first coded body.
//!
//! # Why nothing is lost and no order broken when sizes change
//!
//! Nobody is ever taken away from under its work.
//!
//! - **Writers** keep their places and their mailboxes for good; what changes is who gets the first turn on a key that has
//!   none (the [`Roster`]). Turns that are out go on leading to their writer, whatever the roster says, and those that follow
//!   on the key follow it there: order per key rests on [`turns`](crate::pipeline::work::key_order) as ever. A new writer is on the roster once it
//!   has heard from the cache. One that is not wanted any more does what comes, and when it has had nothing for a while it
//!   is laid off: it closes its session, which owes nothing then, and is not counted. Should something come after
//!   all, it opens another. Fences go through all writers that were ever there, at work or laid off, so a pattern
//!   cannot overtake what one of them has. A key that is never without unfinished work keeps its writer for so long.
//! - **Fetchers** have no order. [`Dispatch`](crate::pipeline::fetch::scheduler::Dispatch) counts who is busy, under the lock under which it
//!   chooses; from the change on it chooses among the present ones. Attempts under way end where they are, and one with
//!   none is laid off.
//! - **Intake and validation** hold a request only before it is accepted, when it has no order yet. From the change on a
//!   request takes the new [`Way`]; one that waits in a mailbox of the old one holds the address of that very mailbox, so the
//!   actor is there, and restarted after a panic, until the last is through. An actor whose address nobody has any more
//!   ends by itself ([`Vitals::on_start`](crate::pipeline::runtime::supervision::Vitals::on_start)), and its thread, if that was its own.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::Arbiter;
use actix_rt::ArbiterHandle;
use arc_swap::ArcSwap;
use log::error;

use super::intake::{Intake, Way};
use super::validation::{Onward, Validation};
use crate::blob;
use crate::blob::guard::AllowedHosts;
use crate::cache::Cache;
use crate::pipeline::fetch::direct::Shortcut;
use crate::pipeline::fetch::fetcher::{Adapt, Fetcher};
use crate::pipeline::readiness::Health;
use crate::pipeline::router::central::{Freed, Router};
use crate::pipeline::router::local::{self, Switch};
use crate::pipeline::runtime::pool::{Home, MAX_POOL, Pool, Roster};
use crate::pipeline::runtime::supervision::{Crew, Post, Stage, Vitals, Watch};
use crate::pipeline::work::admission::Gate;
use crate::pipeline::work::key_order::Turns;
use crate::pipeline::write::pace::{Backlogs, Lateness};
use crate::pipeline::write::writer::{self, Wanted, Writer};
use crate::pipeline::{Entrance, Settings};
use crate::telemetry::metrics::{ActorKind, Metrics};

/// How many of each, [`MAX_POOL`] at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// Actors on threads of their own; 0: one on each HTTP worker's thread.
    pub intake: usize,
    pub validation: usize,
    pub fetchers: usize,
    /// Fetches at once in each fetcher.
    pub fetches_each: usize,
    pub fetches_per_host: usize,
    pub writers: usize,
}

/// What actors are made of.
pub struct Parts {
    pub settings: Arc<Settings>,
    pub gate: Arc<Gate>,
    pub health: Arc<Health>,
    pub watch: Watch,
    pub metrics: Metrics,
    pub cache: Arc<dyn Cache>,
    pub turns: &'static Turns,
    pub writers: Arc<Pool<Writer>>,
    pub fetchers: Arc<Pool<Fetcher>>,
    pub shortcut: Arc<Shortcut>,
    pub router: Post<Router>,
}

pub struct Staff {
    parts: Parts,
    roster: Arc<Roster>,
    backlogs: Arc<Backlogs>,
    state: Mutex<State>,
}

struct State {
    sizes: Sizes,
    blob: Arc<blob::Settings>,
    /// Threads seen so far.
    turns: usize,
    doors: Vec<Door>,
    intakes: Vec<Post<Intake>>,
    validations: Vec<Post<Validation>>,
}

/// The way in on one HTTP worker's thread.
struct Door {
    home: Home,
    arbiter: ArbiterHandle,
    switch: Post<Switch>,
    /// None: the pool's are used.
    intake: Option<Post<Intake>>,
    validation: Option<Post<Validation>>,
    way: Arc<ArcSwap<Way>>,
}

impl Staff {
    pub fn new(parts: Parts) -> Arc<Self> {
        let (sizes, blob) = (parts.settings.sizes.clone(), parts.settings.blob.clone());
        let roster = Roster::of(sizes.writers);
        let state = State { sizes, blob, turns: 0, doors: Vec::new(), intakes: Vec::new(), validations: Vec::new() };
        let staff = Staff { parts, roster, backlogs: Backlogs::new(), state: Mutex::new(state) };
        let mut state = staff.lock();
        staff.fill_pools(&mut state);
        staff.tell_wanted(&state);
        drop(state);
        Arc::new(staff)
    }

    /// The way in for one HTTP worker; to be called on its thread.
    pub fn entrance(&self) -> Entrance {
        let state = &mut *self.lock();
        let home = Home::new(state.turns, self.parts.settings.entrances);
        state.turns += 1;
        let arbiter = Arbiter::current();
        for number in home.share(state.sizes.writers) {
            self.start_writer(number, &arbiter);
        }
        for number in home.share(state.sizes.fetchers) {
            self.start_fetcher(number, &arbiter, &state.blob);
        }
        let switch = self.start_switch(home, &arbiter);
        let (mut intake, mut validation) = (None, None);
        let way = Arc::new(ArcSwap::from_pointee(self.way(
            home,
            &arbiter,
            &switch,
            (&mut intake, &state.intakes),
            (&mut validation, &state.validations),
        )));
        state.doors.retain(|door| door.home != home);
        state.doors.push(Door { home, arbiter, switch, intake, validation, way: way.clone() });
        self.tell_wanted(state);
        Entrance { way, max_answer_bytes: self.parts.settings.max_answer_bytes }
    }

    /// From now on there are so many, and blobs may come from these hosts. Must be called within an actix system.
    pub fn adopt(&self, sizes: &Sizes, allowed_hosts: &AllowedHosts) {
        let state = &mut *self.lock();
        let (allowed_hosts, max_connections) = (allowed_hosts.clone(), sizes.fetches_each);
        let blob = blob::Settings { allowed_hosts, max_connections, ..(*state.blob).clone() };
        if *state.blob != blob {
            state.blob = Arc::new(blob);
        }
        state.sizes = sizes.clone();
        self.resize_fetchers(state);
        self.resize_writers(state);
        self.fill_pools(state);
        for door in &mut state.doors {
            let Door { home, arbiter, switch, intake, validation, way } = door;
            let (intake, validation) = ((intake, &*state.intakes), (validation, &*state.validations));
            way.store(Arc::new(self.way(*home, arbiter, switch, intake, validation)));
        }
        self.tell_wanted(state);
    }

    /// Tells the metrics how many of each there should be: fewer that run than that are lost.
    fn tell_wanted(&self, state: &State) {
        let (workers, sizes) = (state.doors.len(), &state.sizes);
        let beside = |pool: usize| if pool == 0 { workers } else { pool };
        for (actor, count) in [
            (ActorKind::Intake, beside(sizes.intake)),
            (ActorKind::Validation, beside(sizes.validation)),
            // With a switch on each worker's thread.
            (ActorKind::Router, workers + 1),
            (ActorKind::Fetcher, sizes.fetchers),
            (ActorKind::Writer, sizes.writers),
            (ActorKind::Scanner, 1),
        ] {
            self.parts.metrics.set_actors_wanted(actor, count);
        }
    }

    /// Hosts of blobs that are taken for down.
    pub fn hosts_down(&self) -> usize {
        self.parts.shortcut.dispatch(|dispatch| dispatch.hosts_down())
    }

    fn resize_fetchers(&self, state: &State) {
        let Sizes { fetchers, fetches_each, fetches_per_host, .. } = state.sizes;
        for number in 0..fetchers.min(MAX_POOL) {
            if let Some(arbiter) = state.arbiter_of(number) {
                self.start_fetcher(number, arbiter, &state.blob);
            }
        }
        for number in self.parts.fetchers.started() {
            let (settings, is_wanted) = (state.blob.clone(), number < fetchers);
            self.parts.fetchers.post(number, Adapt { settings, is_wanted });
        }
        self.parts.shortcut.dispatch(|dispatch| dispatch.resize(fetchers, fetches_each, fetches_per_host));
        // What waited for a slot may start.
        self.parts.router.post(Freed);
    }

    fn resize_writers(&self, state: &State) {
        for number in 0..MAX_POOL {
            let is_wanted = number < state.sizes.writers;
            if self.parts.writers.is_started(number) {
                self.parts.writers.post(number, Wanted(is_wanted));
            } else if !is_wanted {
                self.roster.close(number);
                self.parts.health.forget_writer(number);
            } else if let Some(arbiter) = state.arbiter_of(number) {
                self.start_writer(number, arbiter);
            }
        }
    }

    /// Those on threads of their own.
    fn fill_pools(&self, state: &mut State) {
        let watch = &self.parts.watch;
        fill(&mut state.intakes, state.sizes.intake, || watch.start_alone(ActorKind::Intake, self.intake()));
        let validation = || watch.start_alone(ActorKind::Validation, self.validation());
        fill(&mut state.validations, state.sizes.validation, validation);
    }

    /// By the pools where there are any, or else by those on the thread itself.
    fn way(
        &self,
        home: Home,
        arbiter: &ArbiterHandle,
        switch: &Post<Switch>,
        (own_intake, intakes): (&mut Option<Post<Intake>>, &[Post<Intake>]),
        (own_validation, validations): (&mut Option<Post<Validation>>, &[Post<Validation>]),
    ) -> Way {
        let watch = &self.parts.watch;
        let validation = pick(home, validations, own_validation, || {
            watch.start_on(arbiter, ActorKind::Validation, self.validation())
        });
        let intake = pick(home, intakes, own_intake, || watch.start_on(arbiter, ActorKind::Intake, self.intake()));
        Way { intake, onward: Arc::new(Onward { validation, switch: switch.clone() }) }
    }

    fn start_fetcher(&self, number: usize, arbiter: &ArbiterHandle, settings: &Arc<blob::Settings>) {
        let Parts { fetchers, watch, gate, metrics, shortcut, .. } = &self.parts;
        fetchers.start(number, || {
            let (settings, gate, metrics) = (settings.clone(), gate.clone(), metrics.clone());
            let shortcut = shortcut.clone();
            watch.start_on(arbiter, ActorKind::Fetcher, move |vitals, _| {
                let (client, crew, is_wanted) = (None, Crew::default(), true);
                Fetcher { vitals, shortcut, settings, gate, metrics, client, crew, is_wanted }
            })
        });
    }

    fn start_writer(&self, number: usize, arbiter: &ArbiterHandle) {
        let Parts { settings, writers, watch, metrics, health, cache, .. } = &self.parts;
        writers.start(number, || {
            let parts = writer::Parts {
                limits: settings.writer.clone(),
                metrics: metrics.clone(),
                health: health.clone(),
                roster: self.roster.clone(),
                backlogs: self.backlogs.clone(),
                cache: cache.clone(),
            };
            watch.start_on(arbiter, ActorKind::Writer, move |vitals, _| Writer::new(vitals, number, parts))
        });
    }

    fn start_switch(&self, home: Home, arbiter: &ArbiterHandle) -> Post<Switch> {
        let Parts { settings, turns, writers, shortcut, router, .. } = &self.parts;
        let parts = local::Parts {
            turns,
            writers: writers.clone(),
            roster: self.roster.clone(),
            backlogs: self.backlogs.clone(),
            home,
            shortcut: shortcut.clone(),
            router: router.clone(),
            max_answer_bytes: settings.max_answer_bytes,
        };
        self.parts.watch.start_on(arbiter, ActorKind::Router, move |vitals, own| Switch::new(vitals, own, parts))
    }

    fn validation(&self) -> impl FnOnce(Arc<Vitals>, Post<Validation>) -> Validation + Send + use<> {
        let (limits, deadline) = (self.parts.settings.limits.clone(), self.parts.settings.deadline);
        let (backlogs, roster, turns) = (self.backlogs.clone(), self.roster.clone(), self.parts.turns);
        move |vitals, _| Validation { vitals, limits, deadline, lateness: Lateness { backlogs, roster, turns } }
    }

    fn intake(&self) -> impl FnOnce(Arc<Vitals>, Post<Intake>) -> Intake + Send + use<> {
        let max_events = self.parts.settings.limits.max_events;
        move |vitals, _| Intake { vitals, max_events }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Of the thread on which one of a pool lives. None: it has not come yet, and will start its share itself.
    fn arbiter_of(&self, number: usize) -> Option<&ArbiterHandle> {
        self.doors.iter().find(|door| door.home.is_of(number)).map(|door| &door.arbiter)
    }
}

/// Brings a pool to its size. If the system has no thread left for one, those that are there have to do.
fn fill<A: Stage>(pool: &mut Vec<Post<A>>, size: usize, start: impl Fn() -> io::Result<Post<A>>) {
    pool.truncate(size);
    while pool.len() < size {
        match start() {
            Ok(actor) => pool.push(actor),
            Err(cause) => return error!(cause:% = cause, there = pool.len(), wanted = size; "no thread for an actor"),
        }
    }
}

fn pick<A: Stage>(home: Home, pool: &[Post<A>], own: &mut Option<Post<A>>, start: impl FnOnce() -> Post<A>) -> Post<A> {
    if let Some(actor) = pool.get(home.number() % pool.len().max(1)) {
        *own = None;
        return actor.clone();
    }
    own.get_or_insert_with(start).clone()
}
