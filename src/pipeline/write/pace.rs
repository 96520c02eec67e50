//! How long what waits for a writer will wait, and whether that is too long to take on more.
//!
//! How much is inside says little: a cache that is ten times slower makes the same queue ten times longer to wait for. So
//! a writer compares its queue with the pace at which it has been emptied. The pace is measured only while something is
//! left behind, for otherwise it is the work that is scarce; and only by batches that were answered.
//!
//! Each writer publishes facts: what waits, since when the first of it has, the pace, and whether the cache answers. Whether
//! it is late is derived from them by whoever asks ([`Lateness`]), so no judgement can outlive its grounds. A cache that does not
//! answer closes no door: what waits for it has `redis.retry_ms`. And a late writer closes it only for the keys that it has in
//! hand: others are given to other writers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::event::Action;
use crate::event::version::Version;
use crate::pipeline::runtime::{ActiveSet, MAX_POOL};
use crate::pipeline::work::key_order::KeyOrder;

/// With more than this to wait a writer is late.
const MAX_WAIT: Duration = Duration::from_millis(750);
/// A pace that was measured long ago may be wrong: while nothing has waited for this time, it counts as fast.
const MIN_AGE: Duration = Duration::from_millis(100);
/// About how long a batch takes at most: what is behind it waits for all of it.
const MAX_BATCH: Duration = Duration::from_millis(250);
/// So few are no backlog, whatever their size: large values are few. Nor does so small a batch show a pace: it was cut.
const FEW: usize = 64;

/// What the writers publish.
pub struct Paces {
    writers: Box<[Published; MAX_POOL]>,
    /// Above the number of any writer that has started.
    started: AtomicUsize,
    base: Instant,
}

/// On a line of the processor's cache of its own.
#[repr(align(64))]
#[derive(Default)]
struct Published {
    waiting: AtomicUsize,
    /// Since when the first of it has, in milliseconds after `base`.
    since_ms: AtomicU64,
    /// Operations that are done within [`MAX_WAIT`]; 0: not known.
    within_wait: AtomicUsize,
    is_silent: AtomicBool,
}

impl Paces {
    /// Room for [`MAX_POOL`] writers, none of which has started.
    pub fn new() -> Arc<Self> {
        let writers = Box::new(std::array::from_fn(|_| Published::default()));
        Arc::new(Paces { writers, started: AtomicUsize::new(0), base: Instant::now() })
    }

    /// The writers that are late, a bit for each. The clock is looked at only if there may be some.
    pub fn late(&self, now: impl FnOnce() -> Instant) -> u64 {
        let writers = self.writers.iter().take(self.started.load(Relaxed)).enumerate();
        if writers.clone().all(|(_, writer)| writer.waiting.load(Relaxed) == 0) {
            return 0;
        }
        let now_ms = self.millis(now());
        writers.filter(|(_, writer)| writer.is_late(now_ms)).fold(0, |bits, (number, _)| bits | 1 << number)
    }

    fn millis(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.base).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Published {
    fn is_late(&self, now_ms: u64) -> bool {
        let waiting = self.waiting.load(Relaxed);
        if waiting <= FEW || self.is_silent.load(Relaxed) {
            return false;
        }
        let in_time = self.within_wait.load(Relaxed);
        let age_ms = now_ms.saturating_sub(self.since_ms.load(Relaxed));
        in_time > 0 && waiting > in_time && u128::from(age_ms) >= MIN_AGE.as_millis()
    }
}

/// One writer's.
pub struct Pace {
    all: Arc<Paces>,
    number: usize,
    /// Operations done in a second. None: there was never a backlog.
    pace: Option<f64>,
}

impl Pace {
    /// The pace of the writer with this number, published among `all`. It is unknown until a backlog shows it.
    pub fn new(all: Arc<Paces>, number: usize) -> Self {
        all.started.fetch_max((number + 1).min(MAX_POOL), Relaxed);
        Pace { all, number, pace: None }
    }

    /// Notes how many operations were done in one batch, and how many wait.
    pub fn landed(&mut self, done: usize, took: Duration, waiting: usize) {
        if waiting > FEW && done >= FEW {
            let now = done as f64 / took.as_secs_f64().max(f64::EPSILON);
            self.pace = Some(self.pace.map_or(now, |before| (before + now) / 2.0));
            if let Some(own) = self.own() {
                own.within_wait.store(self.done_within(MAX_WAIT), Relaxed);
            }
        }
    }

    /// So many wait, the first of them since then. A few are published as none, and none after none not at all: with each request
    /// the other threads look at what is here, and have it in their caches as long as it stays.
    pub fn publish(&self, waiting: usize, since: Option<Instant>) {
        let Some(own) = self.own() else { return };
        let waiting = if waiting > FEW { waiting } else { 0 };
        if waiting == 0 && own.waiting.load(Relaxed) == 0 {
            return;
        }
        if let Some(since) = since {
            own.since_ms.store(self.all.millis(since), Relaxed);
        }
        own.waiting.store(waiting, Relaxed);
    }

    /// Whether the cache does not answer.
    pub fn set_silent(&self, is_silent: bool) {
        if let Some(own) = self.own() {
            own.is_silent.store(is_silent, Relaxed);
        }
    }

    /// How many a batch may hold.
    pub fn batch(&self) -> usize {
        self.done_within(MAX_BATCH)
    }

    fn done_within(&self, time: Duration) -> usize {
        self.pace.map_or(usize::MAX, |pace| (pace * time.as_secs_f64()) as usize).max(FEW)
    }

    fn own(&self) -> Option<&Published> {
        self.all.writers.get(self.number)
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.publish(0, None);
    }
}

/// Whether new events would be carried out in time.
pub struct Lateness {
    /// What the writers publish.
    pub paces: Arc<Paces>,
    /// The writers that new keys may go to.
    pub active: Arc<ActiveSet>,
    /// Says which writer has a key in hand.
    pub key_order: &'static KeyOrder,
}

impl Lateness {
    /// A request is taken on as a whole or not at all: one key that is with a late writer would hold up its answer. A key with
    /// nothing unfinished goes to a writer that is not late, while there is one; a pattern waits for all.
    pub fn allows(&self, actions: &[(Action, Option<Version>)], now: Instant) -> bool {
        let late = self.paces.late(|| now);
        if late == 0 || actions.is_empty() {
            return true;
        }
        let is_well = |key| self.key_order.writer_of(key).is_none_or(|writer| late >> writer & 1 == 0);
        self.active.bits() & !late != 0
            && actions.iter().all(|(action, _)| match action {
                Action::Set(entries) => entries.iter().all(|entry| is_well(&entry.key)),
                Action::Get(keys) | Action::Delete(keys) => keys.iter().all(is_well),
                Action::DeletePattern { .. } => false,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::CacheKey;
    use crate::pipeline::work::key_order::KeyUse;

    const TENTH: Duration = Duration::from_millis(100);

    /// Publishes how many operations have waited for half a second.
    fn wait(pace: &Pace, waiting: usize) {
        pace.publish(waiting, Some(pace.all.base));
    }

    fn late(pace: &Pace) -> u64 {
        pace.all.late(|| pace.all.base + 5 * TENTH)
    }

    #[test]
    fn a_writer_is_late_while_its_queue_takes_too_long() {
        let mut pace = Pace::new(Paces::new(), 3);
        pace.landed(100, TENTH, 700);
        wait(&pace, 700);
        assert_eq!((late(&pace), pace.batch()), (0, 250), "700 at 1,000 a second");
        wait(&pace, 800);
        assert_eq!(late(&pace), 1 << 3);
        wait(&pace, 0);
        assert_eq!(late(&pace), 0);
    }

    #[test]
    fn a_burst_and_a_cache_that_does_not_answer_make_nobody_late() {
        let mut pace = Pace::new(Paces::new(), 0);
        wait(&pace, 100_000);
        assert_eq!(late(&pace), 0, "no pace is known yet");
        pace.landed(1, TENTH, 0);
        assert_eq!(late(&pace), 0, "one in a tenth of a second, but nothing was left behind");
        pace.landed(100, TENTH, 5_000);
        assert_eq!(pace.all.late(|| pace.all.base + TENTH / 2), 0, "nothing has waited for long");
        assert_eq!(late(&pace), 1);
        pace.set_silent(true);
        assert_eq!(late(&pace), 0);
    }

    #[test]
    fn a_late_writer_closes_the_door_for_the_keys_that_it_has_in_hand_and_a_lost_one_for_none() {
        let (paces, active, key_order) = (Paces::new(), ActiveSet::of(2), KeyOrder::new());
        let lateness = Lateness { paces: paces.clone(), active: active.clone(), key_order };
        let key = |key: &str| CacheKey::new_unchecked(key.to_owned());
        let get = |keys: &[&str]| [(Action::Get(keys.iter().map(|name| key(name)).collect()), None)];
        let _turns =
            [key_order.take(&key("slow"), KeyUse::Write, |_| 0), key_order.take(&key("fast"), KeyUse::Write, |_| 1)];
        let later = paces.base + 5 * TENTH;
        let mut all: Vec<Pace> = (0..2).map(|number| Pace::new(paces.clone(), number)).collect();
        assert!(lateness.allows(&get(&["slow"]), later));
        all[0].landed(100, TENTH, 5_000);
        wait(&all[0], 5_000);
        assert!(lateness.allows(&get(&["fast", "new"]), later));
        assert!(!lateness.allows(&get(&["fast", "slow"]), later));
        all[1].landed(100, TENTH, 5_000);
        wait(&all[1], 5_000);
        assert!(!lateness.allows(&get(&["new"]), later), "all are late");
        drop(all);
        assert!(lateness.allows(&get(&["slow", "new"]), later));
    }
}
