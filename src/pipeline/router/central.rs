//! The central part of the router: order per key for everything that has to wait. What it takes on is accepted: operations
//! leave for their key's writer in the order in which they came, blobs are fetched ahead and written in their turn,
//! patterns wait for what was before them.
//!
//! The state of order is in [`Lanes`], that of fetching in the [`SharedScheduler`]; here is only what moves them. A blob that
//! is [fetched directly](DirectFetch) is no business of this part until something comes behind it on its key, a pattern
//! does, or its fetch does not end well: then it is taken over, and goes on as if it had come this way.
//!
//! After a panic it starts empty under a new epoch: what was queued answers `interrupted`, results of older epochs are
//! dropped, and nothing new is taken on while something of an older epoch may still take effect: a scan that runs, or a
//! large blob of which the last was let through.

mod asking;
mod fetching;
mod outdone;
mod restart;
mod scanning;
mod streaming;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::outdone::Outdone;
use super::lanes::Lanes;
use super::matching::{KeysMatched, MatchedKeys, Matching};
use crate::blob::retry::Policy;
use crate::blob::store::Stores;
use crate::event::Few;
use crate::event::pattern::Pattern;
use crate::pipeline::fetch::direct::{DirectFetch, TakenOver};
use crate::pipeline::fetch::fetcher::Fetcher;
use crate::pipeline::fetch::request::{FetchEnded, FetchRequest, QuestionEnded};
use crate::pipeline::fetch::shared::SharedScheduler;
use crate::pipeline::runtime::{Mailbox, Notifier, Pool, Stage, StageContext};
use crate::pipeline::work::Seq;
use crate::pipeline::work::admission::Admission;
use crate::pipeline::work::barriers::{BarrierId, Barriers};
use crate::pipeline::work::operation::{AwaitedBlob, Operation, PatternDelete};
use crate::pipeline::write::queue::{FenceReached, Ready};
use crate::pipeline::write::scanner::{ScanEnded, Scanner};
use crate::pipeline::write::writer::{Writer, hand_over};
use crate::telemetry::metrics::Metrics;

/// Keys held against patterns on this thread, at most; more are matched on a thread where nobody waits for it.
const MAX_COMPARED_HERE: usize = 512;

/// Everything that may be sent to the central router.
pub enum RouterMessage {
    /// What could not go straight to a writer, in the order of acceptance; from the local routers.
    Tasks(Vec<RoutedTask>),
    /// From the fetchers.
    FetchEnded(FetchEnded),
    /// From the writers: the cache has answered.
    QuestionEnded(QuestionEnded),
    /// From each writer that a fence was posted to.
    FenceReached(FenceReached),
    /// From the thread that keys are matched on.
    KeysMatched(KeysMatched),
    /// From the scanner.
    ScanEnded(ScanEnded),
    /// Bytes of the budget, or a place for a fetch, have become free, and a fetch may wait for them.
    CapacityFreed,
}

/// What has to wait.
pub enum RoutedTask {
    /// An operation that could be written, but something before it on its key is not done.
    Ready(Operation),
    /// A SET whose blob is to be fetched.
    Blob(Operation<AwaitedBlob>),
    /// A pattern delete or preview: it waits for everything that was accepted before it.
    Pattern(PatternDelete),
}

/// What the router needs to know of the settings.
#[derive(Debug, Clone)]
pub struct RouterLimits {
    /// When a failed attempt at a fetch is made again, and how often.
    pub retry: Policy,
    /// How long one attempt at a fetch may take.
    pub attempt: Duration,
    /// Bytes (`http.max_answer_bytes`).
    pub max_answer_bytes: usize,
}

/// The actor; there is one in the process.
pub struct CentralRouter {
    deps: Deps,
    own: Mailbox<CentralRouter>,
    notify: Notifiers,
    /// Counts the restarts.
    epoch: u64,
    lanes: Lanes<Operation, Operation<AwaitedBlob>, PatternDelete>,
    /// Where operations stand that were taken over from the direct way, by the number of their fetch.
    taken_over: HashMap<u64, Seq>,
    /// Fetches that wait for this number of bytes of the budget.
    parked: BTreeMap<Seq, (FetchRequest, usize)>,
    /// Fetches whose value stands, but something before it on its key is not done.
    waiting_turn: HashMap<Seq, FetchRequest>,
    /// Fetches that are held beside a newer one.
    outdone: Outdone,
    /// Fetches that were held, and are to be submitted after all.
    released: VecDeque<FetchRequest>,
    /// Barriers for which the keys of the lanes have yet to be matched.
    to_match: Vec<(BarrierId, Few<Pattern>)>,
    /// Barriers for which that is being done on another thread.
    being_matched: Vec<BarrierId>,
    /// The scans, by kind.
    scans: [Scan; 2],
    /// Counts the fences.
    rounds: u64,
    /// What came while something of an older epoch could still take effect.
    held: VecDeque<Vec<RoutedTask>>,
    /// Operations that may go on, on their way out.
    freed: Vec<Operation>,
    /// A vector for each writer, empty between messages.
    outbox: Vec<Vec<Ready>>,
}

/// Who tells this actor of ends.
struct Notifiers {
    fetch_ended: Notifier<FetchEnded>,
    question_ended: Notifier<QuestionEnded>,
    fence_reached: Notifier<FenceReached>,
    keys_matched: Notifier<KeysMatched>,
    scan_ended: Notifier<ScanEnded>,
}

/// Where the scans of one kind are. Barriers in `lifting` are lifted when the scan ends.
#[derive(Default)]
enum Scan {
    #[default]
    Idle,
    Fencing {
        fencing: Fencing,
        lifting: Vec<BarrierId>,
    },
    Running {
        lifting: Vec<BarrierId>,
    },
    /// It was begun in an older epoch: nobody knows its keys.
    RunningOfOlderEpoch,
}

/// Pattern deletes that wait until all writers have reached their fence.
struct Fencing {
    round: u64,
    deletes: Vec<PatternDelete>,
    writers_left: usize,
    tries: u32,
}

/// Everything the router is built of.
pub struct Deps {
    /// The settings of fetches and answers.
    pub limits: RouterLimits,
    /// Counts fetches that are repeated, and shows what waits.
    pub metrics: Metrics,
    /// Lends the bytes of blobs; tells when some come home.
    pub admission: Arc<Admission>,
    /// The actors that operations leave for.
    pub writers: Arc<Pool<Writer>>,
    /// The actors that download.
    pub fetchers: Arc<Pool<Fetcher>>,
    /// Tell where an object is.
    pub stores: Stores,
    /// Decides which fetch starts when.
    pub scheduler: Arc<SharedScheduler>,
    /// The fetches past the router, to be taken over when something comes behind them.
    pub direct: Arc<DirectFetch>,
    /// The actor that carries out pattern deletes.
    pub scanner: Mailbox<Scanner>,
    /// The patterns that are not done, as the local routers see them.
    pub barriers: &'static Barriers,
}

impl CentralRouter {
    /// A router without work. `own` is its mailbox, to which ends of fetches, fences and scans come back.
    pub fn new(own: Mailbox<CentralRouter>, deps: Deps) -> Self {
        let notify = Notifiers {
            fetch_ended: own.notifier(RouterMessage::FetchEnded),
            question_ended: own.notifier(RouterMessage::QuestionEnded),
            fence_reached: own.notifier(RouterMessage::FenceReached),
            keys_matched: own.notifier(RouterMessage::KeysMatched),
            scan_ended: own.notifier(RouterMessage::ScanEnded),
        };
        CentralRouter {
            deps,
            own,
            notify,
            epoch: 0,
            lanes: Lanes::default(),
            taken_over: HashMap::new(),
            parked: BTreeMap::new(),
            waiting_turn: HashMap::new(),
            outdone: Outdone::default(),
            released: VecDeque::new(),
            to_match: Vec::new(),
            being_matched: Vec::new(),
            scans: Default::default(),
            rounds: 0,
            held: VecDeque::new(),
            freed: Vec::new(),
            outbox: Vec::new(),
        }
    }

    fn accept(&mut self, tasks: Vec<RoutedTask>) {
        for task in tasks {
            match task {
                RoutedTask::Ready(operation) => self.accept_ready(operation),
                RoutedTask::Blob(operation) => self.accept_blob(operation),
                RoutedTask::Pattern(delete) => self.accept_pattern(delete),
            }
        }
        self.advance();
    }

    fn accept_ready(&mut self, operation: Operation) {
        let behind = self.line_up(&operation);
        if self.lanes.is_clear(&operation.key, behind) {
            Ready::send(operation, self.deps.limits.max_answer_bytes, &mut self.outbox);
        } else {
            self.lanes.wait(&operation.key.clone(), behind, operation);
        }
    }

    fn accept_blob(&mut self, operation: Operation<AwaitedBlob>) {
        let behind = self.line_up(&operation);
        let mut request = FetchRequest::of(&operation);
        request.seq = self.lanes.wait_for_blob(&request.key, behind, operation);
        self.look_or_submit(request);
    }

    fn accept_pattern(&mut self, delete: PatternDelete) {
        let (id, patterns) = (delete.barrier.id(), delete.patterns.clone());
        self.lanes.put_up(id, patterns.clone(), !delete.dry_run, delete);
        self.match_keys(id, patterns);
    }

    /// Puts a direct fetch of the same key in the lane, where the operation comes behind it. Gives the last barrier that the
    /// operation is behind, unless that was lifted meanwhile.
    fn line_up<A>(&mut self, operation: &Operation<A>) -> Option<BarrierId> {
        if let Some(before) = self.deps.direct.take_over(&operation.key) {
            self.take_over(before);
        }
        let stands = |id: &BarrierId| self.lanes.knows(*id) || self.deps.barriers.stands(*id);
        operation.ticket.behind().filter(stands)
    }

    /// It goes on as if it had come this way. Gives its place.
    fn take_over(&mut self, (number, operation): TakenOver) -> Seq {
        let seq = self.lanes.wait_for_blob(&operation.key.clone(), None, operation);
        self.taken_over.insert(number, seq);
        seq
    }

    /// Finds out which of the keys that have something unfinished here the patterns match: on another thread, if it may
    /// take long.
    fn match_keys(&mut self, id: BarrierId, patterns: Few<Pattern>) {
        let keys = self.lanes.keys().len() + self.deps.direct.count();
        self.to_match.push((id, patterns));
        if keys * self.to_match.iter().map(|(_, patterns)| patterns.len()).sum::<usize>() > MAX_COMPARED_HERE {
            self.match_on_another_thread();
        } else if self.being_matched.is_empty() {
            while !self.to_match.is_empty() {
                let found = self.next_matching().run();
                self.place_barriers(found);
            }
        }
    }

    fn match_on_another_thread(&mut self) {
        if !self.being_matched.is_empty() || self.to_match.is_empty() {
            return;
        }
        let matching = self.next_matching();
        self.being_matched.clone_from(&matching.ids);
        let mut notice = self.notify.keys_matched.notice(KeysMatched { epoch: self.epoch, found: None });
        actix_rt::task::spawn_blocking(move || {
            let found = matching.run();
            if let Some(matched) = notice.letter_mut() {
                matched.found = Some(found);
            }
        });
    }

    /// The next round; what does not go in it stays.
    fn next_matching(&mut self) -> Matching {
        let keys = self.lanes.keys().cloned().chain(self.deps.direct.keys()).collect();
        Matching::next(&mut self.to_match, keys)
    }

    fn keys_matched(&mut self, KeysMatched { epoch, found }: KeysMatched) {
        fail_point!("router");
        if epoch != self.epoch {
            return;
        }
        let ids = std::mem::take(&mut self.being_matched);
        // If it was lost, the barriers wait for all keys.
        let all = || {
            let keys = || self.lanes.keys().cloned().chain(self.deps.direct.keys()).collect();
            ids.into_iter().map(|id| (id, keys())).collect()
        };
        let found = found.unwrap_or_else(all);
        self.place_barriers(found);
        self.match_on_another_thread();
        self.advance();
    }

    fn place_barriers(&mut self, found: MatchedKeys) {
        for (id, keys) in found {
            for key in &keys {
                if let Some(operation) = self.deps.direct.take_over(key) {
                    self.take_over(operation);
                }
            }
            self.lanes.looked(id, &keys);
        }
    }

    fn send_freed(&mut self) {
        for operation in std::mem::take(&mut self.freed) {
            Ready::send(operation, self.deps.limits.max_answer_bytes, &mut self.outbox);
        }
    }

    /// Moves all that can move now.
    fn advance(&mut self) {
        loop {
            self.submit_released();
            self.take_turns();
            self.unpark();
            self.start_fetches();
            if self.freed.is_empty() && self.released.is_empty() && !self.lanes.has_heads() {
                break;
            }
            self.send_freed();
        }
        hand_over(&mut self.outbox, &self.deps.writers);
        let waits_for_bytes = !self.parked.is_empty();
        self.deps.scheduler.with(|scheduler| scheduler.set_waits_for_bytes(waits_for_bytes));
        self.start_scans();
    }
}

impl Stage for CentralRouter {
    type Message = RouterMessage;

    fn handle(&mut self, message: RouterMessage, context: &mut StageContext<'_, Self>) {
        match message {
            RouterMessage::Tasks(tasks) => {
                fail_point!("router");
                self.held.push_back(tasks);
                self.accept_held();
            }
            RouterMessage::FetchEnded(ended) => self.fetch_ended(ended, context),
            RouterMessage::QuestionEnded(ended) => self.question_ended(ended),
            RouterMessage::FenceReached(fence) => self.fence_reached(fence),
            RouterMessage::KeysMatched(matched) => self.keys_matched(matched),
            RouterMessage::ScanEnded(ended) => self.scan_ended(ended),
            RouterMessage::CapacityFreed => {
                fail_point!("router");
                self.accept_held();
                self.advance();
            }
        }
    }

    fn restarting(&mut self) {
        self.start_empty();
    }
}
