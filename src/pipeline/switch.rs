//! Switch: the router's hand on each HTTP worker's thread. It makes operations of what was accepted, gives each its turn
//! on its key, and sends it on: what can be written now straight to a writer, everything else to the [`Router`].

use std::sync::Arc;
use std::time::Instant;

use actix::{Actor, Context, Handler, Supervised};

use super::backlog::Backlogs;
use super::job::{Operation, Slot, Slots, Sweep, Verb};
use super::pool::{Home, Pool, Roster};
use super::queue::Ready;
use super::router::{Detained, Router, Task};
use super::shortcut::Shortcut;
use super::supervision::{Mail, Post, Stage, Vitals, guarded};
use super::turns::{Turns, Way};
use super::writer::{Writer, hand_over};
use crate::event::outcome::Origin;
use crate::event::version::Version;
use crate::event::{Action, CacheKey, Source};

/// A request's work, validated and admitted, in the order sent.
pub struct Accepted {
    pub actions: Vec<(Action, Option<Version>)>,
    /// One an entry.
    pub slots: Slots,
    /// When the request is answered, come what may.
    pub deadline: Instant,
    /// For a pattern delete, which is to say by then how far it has come.
    pub sweep_deadline: Instant,
}

/// Operations of one request for which room is made beforehand with a writer of another thread: those on keys that it has
/// in hand go there.
const MOST_FAR: usize = 256;

pub struct Switch {
    vitals: Arc<Vitals>,
    parts: Parts,
    /// The writers on its thread, or as near as can be, of a roster that looked so.
    nearest: (u64, Vec<usize>),
    /// On their way out, writer by writer.
    ready: Vec<Vec<Ready>>,
    detained: Vec<Task>,
}

/// What a switch is built of.
pub struct Parts {
    pub turns: &'static Turns,
    pub writers: Arc<Pool<Writer>>,
    /// The writers that may be chosen.
    pub roster: Arc<Roster>,
    pub backlogs: Arc<Backlogs>,
    /// Its thread.
    pub home: Home,
    pub router: Post<Router>,
    pub shortcut: Arc<Shortcut>,
    pub max_answer_bytes: usize,
}

impl Switch {
    pub fn new(vitals: Arc<Vitals>, parts: Parts) -> Self {
        Switch { vitals, parts, nearest: (0, Vec::new()), ready: Vec::new(), detained: Vec::new() }
    }

    fn take(&mut self, Accepted { actions, mut slots, deadline, sweep_deadline }: Accepted) {
        fail::fail_point!("router");
        self.look_around();
        for (writer, ready) in self.ready.iter_mut().enumerate() {
            let is_near = self.nearest.1.contains(&writer);
            ready.reserve(if is_near { slots.left() } else { slots.left().min(MOST_FAR) });
        }
        for (action, version) in actions {
            let mut add = |key, verb| {
                if let Some(slot) = slots.next() {
                    self.add(key, verb, version.clone(), slot, deadline);
                }
            };
            match action {
                Action::Set(entries) => {
                    for entry in entries {
                        let ttl = entry.ttl;
                        let verb = match entry.source {
                            Source::Inline(value) => Verb::Set { value, origin: Origin::Inline, ttl, held: None },
                            Source::Blob(url) => Verb::SetBlob { url, ttl },
                        };
                        add(entry.key, verb);
                    }
                }
                Action::Get(keys) => keys.into_iter().for_each(|key| add(key, Verb::Get)),
                Action::Delete(keys) => keys.into_iter().for_each(|key| add(key, Verb::Delete)),
                Action::DeletePattern { patterns, dry_run } => {
                    let slots = slots.by_ref().take(patterns.len()).collect();
                    let (barrier, deadline) = (self.parts.turns.put_up_barrier(), sweep_deadline);
                    self.detained.push(Task::Pattern(Sweep { patterns, version, slots, dry_run, barrier, deadline }));
                }
            }
        }
        hand_over(&mut self.ready, &self.parts.writers);
        if !self.detained.is_empty() {
            self.parts.router.post(Detained { tasks: std::mem::take(&mut self.detained) });
        }
    }

    /// Who is near changes only with the roster, and with those that are late.
    fn look_around(&mut self) {
        let roster = self.parts.roster.bits();
        let in_time = roster & !self.parts.backlogs.late(Instant::now());
        let bits = if in_time == 0 { roster } else { in_time };
        if bits != self.nearest.0 {
            self.nearest = (bits, self.parts.home.nearest(bits));
        }
    }

    fn add(&mut self, key: CacheKey, verb: Verb, version: Option<Version>, slot: Slot, deadline: Instant) {
        let Parts { turns, home, max_answer_bytes, .. } = &self.parts;
        let nearest = &self.nearest.1;
        let must_wait = matches!(verb, Verb::SetBlob { .. });
        let (turn, way) =
            turns.take(&key, must_wait, |hash| nearest.get(hash % nearest.len().max(1)).copied().unwrap_or_default());
        let operation = Operation { key, verb, version, slot, turn, deadline };
        match way {
            Way::Router => self.detained.push(Task::Key(operation)),
            Way::Alone => {
                let left = self.parts.shortcut.start(operation, *home).err();
                self.detained.extend(left.map(Task::Key));
            }
            Way::Writer => Ready::send(operation, *max_answer_bytes, &mut self.ready),
        }
    }
}

impl Actor for Switch {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.vitals.clone().on_start(context);
    }
}

impl Supervised for Switch {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.ready.iter_mut().for_each(Vec::clear);
        self.detained.clear();
    }
}

impl Stage for Switch {
    fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }
}

impl Handler<Mail<Accepted>> for Switch {
    type Result = ();

    fn handle(&mut self, mail: Mail<Accepted>, context: &mut Self::Context) {
        guarded(self, context, |switch, _| switch.take(mail.open()));
    }
}
