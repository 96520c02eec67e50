//! The local part of the router, on each HTTP worker's thread. It makes operations of what was accepted, takes each its
//! place in the order of its key, and sends it on: what can be written now straight to a writer, a blob that is alone on its
//! key to a fetcher, everything else to the [central part](super::central).

use std::mem::take;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::central::{CentralRouter, RoutedTask, RouterMessage};
use crate::event::outcome::Origin;
use crate::event::pattern::Pattern;
use crate::event::version::Version;
use crate::event::{Action, CacheKey, Few, Source};
use crate::pipeline::fetch::direct::DirectFetch;
use crate::pipeline::runtime::{ActiveSet, Mailbox, Pool, Stage, StageContext, WorkerThread};
use crate::pipeline::work::barriers::Barriers;
use crate::pipeline::work::key_order::{KeyOrder, KeyUse, NextStep};
use crate::pipeline::work::operation::{AwaitedBlob, Operation, PatternDelete, Verb};
use crate::pipeline::work::reply::{Slot, Slots};
use crate::pipeline::write::pace::Paces;
use crate::pipeline::write::queue::Ready;
use crate::pipeline::write::writer::{Writer, hand_over};

/// The only message to the local router: a request's work, validated and admitted, in the order sent.
pub struct AcceptedWork {
    /// What each event asks for, with its version.
    pub actions: Vec<(Action, Option<Version>)>,
    /// One an entry.
    pub slots: Slots,
    /// When the request is answered whatever has become of it.
    pub deadline: Instant,
    /// For a pattern delete, which is to say by then how far it has come.
    pub pattern_deadline: Instant,
    /// What was made of it so far, if it is routed in slices.
    pub unsent: Option<Box<UnsentWork>>,
}

/// Operations that have their places, and leave together with the last of their request, or with a pattern delete in it: what
/// came later cannot tell that this came before it while nothing of it is to be seen.
pub struct UnsentWork {
    ready: Vec<Vec<Ready>>,
    tasks: Vec<RoutedTask>,
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

    /// Whether there may be another one.
    fn is_one_of_several(&self, operations_left: usize) -> bool {
        self.begun.is_some() && operations_left > 1
    }

    fn is_over(&self) -> bool {
        self.begun.is_some_and(|begun| begun.elapsed() >= SLICE)
    }
}

/// The actor; there is one on each HTTP worker's thread.
pub struct LocalRouter {
    own: Mailbox<LocalRouter>,
    deps: Deps,
    /// The writers on its thread, or the nearest there are, and the active set they were chosen from.
    nearest: (u64, Vec<usize>),
    /// On their way out, writer by writer.
    ready: Vec<Vec<Ready>>,
    /// On their way to the central part.
    tasks: Vec<RoutedTask>,
    /// What is being routed may take another slice: nothing of it is to begin before.
    is_sliced: bool,
}

/// What a local router is built of.
pub struct Deps {
    /// Who has unfinished work on a key; gives each operation its ticket.
    pub key_order: &'static KeyOrder,
    /// The actors that ready operations leave for.
    pub writers: Arc<Pool<Writer>>,
    /// The writers that may be chosen.
    pub active: Arc<ActiveSet>,
    /// How fast each writer empties its queue: one that is late gets no new keys.
    pub paces: Arc<Paces>,
    /// The thread that it runs on, to prefer writers of the same thread.
    pub thread: WorkerThread,
    /// Gets what has to wait.
    pub central: Mailbox<CentralRouter>,
    /// Fetches blobs that have nothing to wait for.
    pub direct: Arc<DirectFetch>,
    /// Bytes of the longest value that a GET reads (`http.max_answer_bytes`).
    pub max_answer_bytes: usize,
}

impl LocalRouter {
    /// A router without work. `own` is its mailbox: a long request is routed in slices, and it posts itself the rest.
    pub fn new(own: Mailbox<LocalRouter>, deps: Deps) -> Self {
        LocalRouter { own, deps, nearest: (0, Vec::new()), ready: Vec::new(), tasks: Vec::new(), is_sliced: false }
    }

    fn route(&mut self, mut accepted: AcceptedWork) {
        fail_point!("router");
        self.choose_nearest();
        self.is_sliced = accepted.unsent.is_some();
        if let Some(unsent) = accepted.unsent.take() {
            (self.ready, self.tasks) = (unsent.ready, unsent.tasks);
        }
        for (writer, ready) in self.ready.iter_mut().enumerate() {
            let is_near = self.nearest.1.contains(&writer);
            let left = accepted.slots.left();
            ready.reserve(if is_near { left } else { left.min(MOST_FAR) });
        }
        match self.route_slice(accepted) {
            Some(mut rest) => {
                let (ready, tasks) = (take(&mut self.ready), take(&mut self.tasks));
                rest.unsent = Some(Box::new(UnsentWork { ready, tasks }));
                self.own.post(rest);
            }
            None => self.hand_over(),
        }
    }

    /// What is left when the slice is over.
    fn route_slice(&mut self, accepted: AcceptedWork) -> Option<AcceptedWork> {
        let AcceptedWork { actions, mut slots, deadline, pattern_deadline, .. } = accepted;
        self.deps.key_order.fetch(actions.iter().skip(1).filter_map(|(action, _)| action.first_key()));
        let mut slice = Slice::begin(self.deps.key_order.barriers());
        self.is_sliced |= slice.is_one_of_several(slots.left());
        let mut actions = actions.into_iter();
        while let Some((action, version)) = actions.next() {
            let times = (deadline, pattern_deadline);
            let rest = self.route_action(action, version.as_ref(), &mut slots, times, &mut slice);
            if rest.is_some() || slice.is_over() {
                let actions = rest.map(|rest| (rest, version)).into_iter().chain(actions).collect();
                return Some(AcceptedWork { actions, slots, deadline, pattern_deadline, unsent: None });
            }
        }
        None
    }

    fn route_action(
        &mut self,
        action: Action,
        version: Option<&Version>,
        slots: &mut Slots,
        (deadline, pattern_deadline): (Instant, Instant),
        slice: &mut Slice,
    ) -> Option<Action> {
        let mut add = |key, asked| {
            if let Some(slot) = slots.next() {
                self.add(key, asked, version.cloned(), slot, deadline);
            }
            slice.goes_on()
        };
        match action {
            Action::Set(entries) => {
                let mut entries = entries.into_iter();
                let is_done = entries.by_ref().all(|entry| {
                    let (ttl, expected) = (entry.ttl, entry.expected);
                    let task = match entry.source {
                        Source::Inline(value) => {
                            Asked::Now(Verb::Set { value, origin: Origin::Inline, ttl, carried: None })
                        }
                        Source::Blob(target) => Asked::Blob(AwaitedBlob { target, ttl, expected }),
                    };
                    add(entry.key, task)
                });
                (!is_done).then(|| Action::Set(entries.collect()))
            }
            Action::Get(keys) => {
                let mut keys = keys.into_iter();
                let is_done = keys.by_ref().all(|key| add(key, Asked::Now(Verb::Get)));
                (!is_done).then(|| Action::Get(keys.collect()))
            }
            Action::Delete(keys) => {
                let mut keys = keys.into_iter();
                let is_done = keys.by_ref().all(|key| add(key, Asked::Now(Verb::Delete)));
                (!is_done).then(|| Action::Delete(keys.collect()))
            }
            Action::DeletePattern { patterns, dry_run } => {
                let slots = slots.by_ref().take(patterns.len()).collect();
                self.put_up(patterns, version.cloned(), slots, dry_run, pattern_deadline);
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
        hand_over(&mut self.ready, &self.deps.writers);
        let LocalRouter { deps, tasks, .. } = self;
        deps.key_order.barriers().put_up(patterns.clone(), !dry_run, |barrier| {
            tasks.push(RoutedTask::Pattern(PatternDelete { patterns, version, slots, dry_run, barrier, deadline }));
            deps.central.post(RouterMessage::Tasks(take(tasks)));
        });
    }

    fn hand_over(&mut self) {
        hand_over(&mut self.ready, &self.deps.writers);
        if !self.tasks.is_empty() {
            self.deps.central.post(RouterMessage::Tasks(take(&mut self.tasks)));
        }
    }

    /// Who is near changes only with the active set, and with those that are late.
    fn choose_nearest(&mut self) {
        let active = self.deps.active.bits();
        let in_time = active & !self.deps.paces.late(Instant::now);
        let bits = if in_time == 0 { active } else { in_time };
        if bits != self.nearest.0 {
            self.nearest = (bits, self.deps.thread.nearest(bits));
        }
    }

    fn add(&mut self, key: CacheKey, asked: Asked, version: Option<Version>, slot: Slot, deadline: Instant) {
        let Deps { key_order, thread, max_answer_bytes, direct, .. } = &self.deps;
        let nearest = &self.nearest.1;
        let key_use = match asked {
            Asked::Now(Verb::Get) => KeyUse::Read,
            Asked::Now(_) => KeyUse::Write,
            Asked::Blob(_) => KeyUse::WriteLater,
        };
        let (ticket, way) =
            key_order.take(&key, key_use, |hash| nearest.get(hash % nearest.len().max(1)).copied().unwrap_or_default());
        match asked {
            Asked::Now(action) => {
                let operation = Operation { key, action, version, slot, ticket, deadline };
                match way {
                    NextStep::Write => Ready::send(operation, *max_answer_bytes, &mut self.ready),
                    NextStep::Route | NextStep::Direct => self.tasks.push(RoutedTask::Ready(operation)),
                }
            }
            Asked::Blob(action) => {
                let operation = Operation { key, action, version, slot, ticket, deadline };
                let left = match way {
                    NextStep::Direct if !self.is_sliced => direct.start(operation, *thread, &mut self.ready).err(),
                    NextStep::Write | NextStep::Route | NextStep::Direct => Some(operation),
                };
                self.tasks.extend(left.map(RoutedTask::Blob));
            }
        }
    }
}

/// What an entry asks for.
enum Asked {
    Now(Verb),
    Blob(AwaitedBlob),
}

impl Stage for LocalRouter {
    type Message = AcceptedWork;

    fn handle(&mut self, accepted: AcceptedWork, _: &mut StageContext<'_, Self>) {
        self.route(accepted);
    }

    fn restarting(&mut self) {
        self.ready.iter_mut().for_each(Vec::clear);
        self.tasks.clear();
    }
}
