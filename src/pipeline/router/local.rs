//! Switch: the router's hand on each HTTP worker's thread. It makes operations of what was accepted, gives each its turn
//! on its key, and sends it on: what can be written now straight to a writer, everything else to the [`Router`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, Context, Handler, Supervised};

use super::central::{Detained, Router, Task};
use crate::event::outcome::Origin;
use crate::event::pattern::Pattern;
use crate::event::version::Version;
use crate::event::{Action, CacheKey, Few, Source};
use crate::pipeline::fetch::direct::Shortcut;
use crate::pipeline::runtime::pool::{Home, Pool, Roster};
use crate::pipeline::runtime::supervision::{Mail, Post, Stage, Vitals, guarded};
use crate::pipeline::work::barriers::Barriers;
use crate::pipeline::work::job::{Operation, Slot, Slots, Sweep, Verb};
use crate::pipeline::work::key_order::{Turns, Way};
use crate::pipeline::write::pace::Backlogs;
use crate::pipeline::write::queue::Ready;
use crate::pipeline::write::writer::{Writer, hand_over};

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

/// A request's keys are held against the patterns that stand for so long at a time, in milliseconds; then others have
/// their turn.
const SLICE: Duration = Duration::from_millis(2);
/// Operations between looks at the clock.
const LOOK_EVERY: u32 = 16;

/// A part of a request's work. Without patterns all of it is one.
struct Slice {
    begun: Option<Instant>,
    operations: u32,
}

impl Slice {
    fn begin(barriers: &Barriers) -> Self {
        Slice { begun: barriers.are_there().then(Instant::now), operations: 0 }
    }

    fn goes_on(&mut self) -> bool {
        self.operations += 1;
        !self.operations.is_multiple_of(LOOK_EVERY) || !self.is_over()
    }

    fn is_over(&self) -> bool {
        self.begun.is_some_and(|begun| begun.elapsed() >= SLICE)
    }
}

pub struct Switch {
    vitals: Arc<Vitals>,
    own: Post<Switch>,
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
    pub fn new(vitals: Arc<Vitals>, own: Post<Switch>, parts: Parts) -> Self {
        Switch { vitals, own, parts, nearest: (0, Vec::new()), ready: Vec::new(), detained: Vec::new() }
    }

    fn take(&mut self, accepted: Accepted) {
        fail_point!("router");
        self.look_around();
        for (writer, ready) in self.ready.iter_mut().enumerate() {
            let is_near = self.nearest.1.contains(&writer);
            let left = accepted.slots.left();
            ready.reserve(if is_near { left } else { left.min(MOST_FAR) });
        }
        let rest = self.take_slice(accepted);
        self.hand_over();
        if let Some(rest) = rest {
            self.own.post(rest);
        }
    }

    /// What is left when the slice is over.
    fn take_slice(&mut self, accepted: Accepted) -> Option<Accepted> {
        let Accepted { actions, mut slots, deadline, sweep_deadline } = accepted;
        let mut slice = Slice::begin(self.parts.turns.barriers());
        let mut actions = actions.into_iter();
        while let Some((action, version)) = actions.next() {
            let times = (deadline, sweep_deadline);
            let rest = self.take_action(action, version.as_ref(), &mut slots, times, &mut slice);
            if rest.is_some() || slice.is_over() {
                let actions = rest.map(|rest| (rest, version)).into_iter().chain(actions).collect();
                return Some(Accepted { actions, slots, deadline, sweep_deadline });
            }
        }
        None
    }

    fn take_action(
        &mut self,
        action: Action,
        version: Option<&Version>,
        slots: &mut Slots,
        (deadline, sweep_deadline): (Instant, Instant),
        slice: &mut Slice,
    ) -> Option<Action> {
        let mut add = |key, verb| {
            if let Some(slot) = slots.next() {
                self.add(key, verb, version.cloned(), slot, deadline);
            }
            slice.goes_on()
        };
        match action {
            Action::Set(entries) => {
                let mut entries = entries.into_iter();
                let is_done = entries.by_ref().all(|entry| {
                    let ttl = entry.ttl;
                    let verb = match entry.source {
                        Source::Inline(value) => Verb::Set { value, origin: Origin::Inline, ttl, held: None },
                        Source::Blob(url) => Verb::SetBlob { url, ttl },
                    };
                    add(entry.key, verb)
                });
                (!is_done).then(|| Action::Set(entries.collect()))
            }
            Action::Get(keys) => {
                let mut keys = keys.into_iter();
                let is_done = keys.by_ref().all(|key| add(key, Verb::Get));
                (!is_done).then(|| Action::Get(keys.collect()))
            }
            Action::Delete(keys) => {
                let mut keys = keys.into_iter();
                let is_done = keys.by_ref().all(|key| add(key, Verb::Delete));
                (!is_done).then(|| Action::Delete(keys.collect()))
            }
            Action::DeletePattern { patterns, dry_run } => {
                let slots = slots.by_ref().take(patterns.len()).collect();
                self.put_up(patterns, version.cloned(), slots, dry_run, sweep_deadline);
                None
            }
        }
    }

    /// What came before it in the request goes its way first.
    fn put_up(
        &mut self,
        patterns: Few<Pattern>,
        version: Option<Version>,
        slots: Vec<Slot>,
        dry_run: bool,
        deadline: Instant,
    ) {
        hand_over(&mut self.ready, &self.parts.writers);
        let Switch { parts, detained, .. } = self;
        parts.turns.barriers().put_up(patterns.clone(), !dry_run, |barrier| {
            detained.push(Task::Pattern(Sweep { patterns, version, slots, dry_run, barrier, deadline }));
            parts.router.post(Detained { tasks: std::mem::take(detained) });
        });
    }

    fn hand_over(&mut self) {
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
