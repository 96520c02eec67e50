//! The one loop that all goes through: reads, lets batches go while there is room, takes their answers, repeats. How it
//! ends is told in `ending`.

mod ending;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::event::{InputPlace, Item, Looker};
use super::held::HeldBack;
use super::input::{Input, News};
use super::ledger::{Fate, Ledger};
use super::plan::{EventBatch, Planner, RequestLimits};
use super::post::{NotOk, PostOutcome, Poster};
use super::progress::{not_stored, progress};
use crate::blob::retry::backoff;
use crate::cli::screen::Screen;
use crate::cli::signals::Signals;

/// How long a batch that is not full waits for another event.
const LINGER: Duration = Duration::from_millis(10);
/// Held at most, read and not settled.
const MAX_UNSETTLED_BYTES: usize = 64 << 20;
/// From the oldest event that is not settled to the newest.
const MAX_SPAN: usize = 1 << 20;
/// The most of the time that a service asks to be left alone; beyond `retry_for` it ends the tries anyway.
const MAX_WAIT: Duration = Duration::from_secs(365 * 86_400);
/// Remembered of what was given up; beyond that nothing gets through anyway.
const MAX_HELD: usize = 100_000;

pub struct SendSettings {
    pub batch: RequestLimits,
    pub in_flight: usize,
    pub retry_for: Duration,
}

/// A batch on its way, or between two tries.
struct Flight {
    items: Vec<Item>,
    /// How many of the first events go in one request.
    take: usize,
    tries: u32,
    first_try: Option<Instant>,
    /// Whether it keeps its place among those in flight while it rests: the service as a whole is in trouble.
    keeps_slot: bool,
}

/// Why it ended.
pub enum RunEnd {
    /// All was read and settled.
    Done,
    Interrupted,
    /// Nothing more can be stored.
    Stopped(String),
}

type Posts = FuturesUnordered<LocalBoxFuture<'static, (u64, PostOutcome)>>;

pub struct Run {
    settings: SendSettings,
    poster: Poster,
    looker: Looker,
    pub ledger: Ledger,
    pub screen: Screen,
    /// Bytes of the input; 0: not known.
    total: Arc<AtomicU64>,
    planner: Planner,
    held: HeldBack,
    flights: HashMap<u64, Flight>,
    /// Flights that may go, before any new one.
    ready: VecDeque<u64>,
    resting: BTreeMap<(Instant, u64), ()>,
    slots: usize,
    /// When something was last stored, or rejected: the service works.
    worked: Option<Instant>,
    gathered_since: Option<Instant>,
    all_read: bool,
    /// Files that could not be read to their end.
    pub faults: usize,
    stop: Option<String>,
    /// How many events in a row from the first were done with when it ended, and where the next one stands, if that was
    /// read.
    pub stopped_at: (u64, Option<InputPlace>),
}

impl Run {
    pub fn new(settings: SendSettings, poster: Poster, looker: Looker, ledger: Ledger, total: Arc<AtomicU64>) -> Self {
        Run {
            planner: Planner::new(settings.batch),
            settings,
            poster,
            looker,
            ledger,
            screen: Screen::new(),
            total,
            held: HeldBack::default(),
            flights: HashMap::new(),
            ready: VecDeque::new(),
            resting: BTreeMap::new(),
            slots: 0,
            worked: None,
            gathered_since: None,
            all_read: false,
            faults: 0,
            stop: None,
            stopped_at: (0, None),
        }
    }

    /// Until all is settled, or nothing more can be, or a signal comes.
    pub async fn run(&mut self, mut input: Input, signals: &mut Signals) -> RunEnd {
        let mut posts = Posts::new();
        let mut tick = interval(self.screen.every());
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.reset();
        let end = loop {
            self.launch(&mut posts);
            if let Some(why) = self.stop.take() {
                break RunEnd::Stopped(why);
            }
            if self.all_read && self.planner.unsettled().0 == 0 {
                break RunEnd::Done;
            }
            let due = self.next_due();
            tokio::select! {
                Some((id, verdict)) = posts.next(), if !posts.is_empty() => self.landed(id, verdict),
                news = input.news.recv(), if self.wants_input() => self.take(news),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                _ = signals.next() => break RunEnd::Interrupted,
                _ = tick.tick() => self.show(),
            }
        };
        self.wind_up(end, posts, input, signals).await
    }

    fn show(&self) {
        let (done, total) = (self.ledger.done_bytes, self.total.load(Ordering::Relaxed));
        let share = (total > 0).then_some((done, total));
        let line = progress(&self.ledger.counts, done, share.map(|(_, total)| total), self.screen.elapsed());
        self.screen.show(line, share);
    }

    fn wants_input(&self) -> bool {
        let (events, bytes) = self.planner.unsettled();
        let (span, kept_bytes) = self.ledger.open();
        let most = self.settings.batch.events.saturating_mul(4 * self.settings.in_flight).max(10_000);
        let has_room = events < most && bytes + kept_bytes < MAX_UNSETTLED_BYTES && span < MAX_SPAN;
        has_room && !self.all_read && !self.planner.has_full()
    }

    fn take(&mut self, news: Option<News>) {
        match news {
            Some(News::Items(items)) => items.into_iter().for_each(|item| self.planner.add(item)),
            Some(News::Unfit(item, why)) => {
                self.screen.tell(&not_stored("rejected", &item.place, None, &why));
                self.keep(&item, Fate::Rejected);
            }
            Some(News::Fault(fault)) => self.fault(&fault),
            None => self.all_read = true,
        }
    }

    fn fault(&mut self, fault: &str) {
        self.faults += 1;
        self.screen.say(fault);
    }

    /// When something is to be done though nothing happens.
    fn next_due(&mut self) -> Option<Instant> {
        let small = match self.planner.has_small() && self.slots < self.settings.in_flight {
            true => Some(*self.gathered_since.get_or_insert_with(Instant::now) + LINGER),
            false => None,
        };
        let rested = self.resting.keys().next().map(|(due, _)| *due);
        small.into_iter().chain(rested).min()
    }

    fn launch(&mut self, posts: &mut Posts) {
        self.wake();
        while self.stop.is_none() && self.slots < self.settings.in_flight {
            let Some(id) = self.ready.pop_front().or_else(|| self.gathered()) else { return };
            let Some(body) = self.body(id) else { continue };
            self.slots += 1;
            let post = self.poster.clone().post(body);
            posts.push(Box::pin(async move { (id, post.await) }));
        }
    }

    /// Makes the batches next whose pause is over.
    fn wake(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.resting.first_entry().filter(|entry| entry.key().0 <= now) {
            let (_, id) = *entry.key();
            entry.remove();
            if self.flights.get(&id).is_some_and(|flight| flight.keeps_slot) {
                self.slots -= 1;
            }
            self.ready.push_back(id);
        }
    }

    /// A batch that has not gone yet.
    fn gathered(&mut self) -> Option<u64> {
        let waited = self.gathered_since.is_some_and(|since| since.elapsed() >= LINGER);
        let nothing_joins = self.all_read || waited || !self.wants_input();
        let EventBatch { id, items, .. } = self.planner.next(nothing_joins)?;
        self.gathered_since = None;
        let take = items.len();
        self.flights.insert(id, Flight { items, take, tries: 0, first_try: None, keeps_slot: false });
        Some(id)
    }

    /// What goes in the next request of this flight; none if nothing is left of it.
    fn body(&mut self, id: u64) -> Option<Bytes> {
        let mut flight = self.flights.remove(&id)?;
        if self.held.len() > 0 {
            let (held, looker) = (&self.held, &self.looker);
            let (behind, free) = flight.items.into_iter().partition(|item| held.holds(looker, item));
            flight.items = free;
            self.give_up(id, behind, "an earlier event on its key was not stored");
        }
        if flight.items.is_empty() {
            return None;
        }
        flight.take = flight.take.clamp(1, flight.items.len());
        flight.first_try.get_or_insert_with(Instant::now);
        let sent = flight.items.iter().take(flight.take);
        let mut body = BytesMut::with_capacity(sent.clone().map(|item| item.text.len() + 1).sum());
        for item in sent {
            body.put_slice(&item.text);
            body.put_u8(b'\n');
        }
        self.flights.insert(id, flight);
        Some(body.freeze())
    }

    fn landed(&mut self, id: u64, verdict: PostOutcome) {
        self.slots -= 1;
        let Some(mut flight) = self.flights.remove(&id) else { return };
        flight.tries += 1;
        match verdict {
            PostOutcome::Answered { not_ok, after } => self.answered(id, flight, not_ok, after),
            PostOutcome::Later { why, after } => self.failed(id, flight, &why, after),
            PostOutcome::TooLarge { why } if flight.take == 1 => {
                let rest = flight.items.split_off(1);
                self.reject(id, &flight.items, &why);
                self.go_on(id, Flight { items: rest, ..flight });
            }
            PostOutcome::TooLarge { .. } => {
                flight.take /= 2;
                self.planner.limit_events(flight.take);
                self.flights.insert(id, flight);
                self.ready.push_front(id);
            }
            PostOutcome::Rejected { why } => {
                self.flights.insert(id, flight);
                self.stop = Some(why);
            }
        }
    }

    fn answered(&mut self, id: u64, mut flight: Flight, not_ok: Vec<NotOk>, after: Option<Duration>) {
        let rest = flight.items.split_off(flight.take.min(flight.items.len()));
        let next = self.next_try(&flight, after);
        let mut not_ok: HashMap<usize, NotOk> = not_ok.into_iter().map(|failure| (failure.index, failure)).collect();
        let (sent, mut again) = (flight.items.len(), Vec::new());
        for (index, item) in std::mem::take(&mut flight.items).into_iter().enumerate() {
            match not_ok.remove(&index) {
                None => self.settle(id, &item, Fate::Ok),
                Some(NotOk { is_unavailable: true, .. }) if next.is_some() => again.push(item),
                Some(NotOk { is_unavailable, id: name, why, .. }) => {
                    let (class, fate) = match is_unavailable {
                        true => ("unavailable", Fate::Unavailable),
                        false => ("rejected", Fate::Rejected),
                    };
                    self.screen.tell(&not_stored(class, &item.place, name.as_deref(), &why));
                    self.lose(id, &item, fate);
                }
            }
        }
        if again.len() < sent {
            self.worked = Some(Instant::now());
        }
        match next.filter(|_| !again.is_empty()) {
            None => self.go_on(id, Flight { items: rest, ..flight }),
            Some(next) => {
                again.extend(rest);
                self.flights.insert(id, Flight { items: again, keeps_slot: false, ..flight });
                self.resting.insert((next, id), ());
            }
        }
    }

    /// The request as a whole came to nothing.
    fn failed(&mut self, id: u64, flight: Flight, why: &str, after: Option<Duration>) {
        if let Some(next) = self.next_try(&flight, after) {
            self.flights.insert(id, Flight { keeps_slot: true, ..flight });
            self.resting.insert((next, id), ());
            self.slots += 1;
            return;
        }
        let works = self.worked > flight.first_try;
        if works {
            self.give_up(id, flight.items, why);
        } else {
            self.flights.insert(id, flight);
            self.stop = Some(why.to_owned());
        }
    }

    /// What is left of a flight whose first events are settled.
    fn go_on(&mut self, id: u64, flight: Flight) {
        if !flight.items.is_empty() {
            self.flights.insert(id, Flight { tries: 0, first_try: None, keeps_slot: false, ..flight });
            self.ready.push_front(id);
        }
    }

    /// When to try again; none if that is beyond the time for it.
    fn next_try(&self, flight: &Flight, after: Option<Duration>) -> Option<Instant> {
        let now = Instant::now();
        let end = flight.first_try.unwrap_or(now) + self.settings.retry_for;
        let asked_for = now + after.unwrap_or_default().min(MAX_WAIT);
        let next = (now + backoff(flight.tries, fastrand::f64())).min(end).max(asked_for);
        (now < end && next <= end).then_some(next)
    }

    fn settle(&mut self, batch: u64, item: &Item, fate: Fate) {
        self.planner.settle(batch, item);
        self.keep(item, fate);
    }

    fn keep(&mut self, item: &Item, fate: Fate) {
        if let Err(error) = self.ledger.settle(item, fate) {
            self.stop = Some(format!("the file of --failed cannot be written: {error}"));
        }
    }

    fn reject(&mut self, batch: u64, items: &[Item], why: &str) {
        for item in items {
            self.screen.tell(&not_stored("rejected", &item.place, None, why));
            self.settle(batch, item, Fate::Rejected);
        }
    }

    fn give_up(&mut self, batch: u64, items: Vec<Item>, why: &str) {
        for item in items {
            self.tell_lost(&item, why);
            self.lose(batch, &item, Fate::Unavailable);
        }
    }

    fn tell_lost(&mut self, item: &Item, why: &str) {
        let named = |item: &Item| self.looker.event(&item.text).and_then(|event| event.id);
        let id = if self.screen.tells_more() { named(item) } else { None };
        self.screen.tell(&not_stored("unavailable", &item.place, id.as_deref(), why));
    }

    fn lose(&mut self, batch: u64, item: &Item, fate: Fate) {
        if fate == Fate::Unavailable {
            self.held.add(&self.looker, item);
            if self.held.len() > MAX_HELD {
                self.stop = Some("too many events cannot be stored".to_owned());
            }
        }
        self.settle(batch, item, fate);
    }
}
