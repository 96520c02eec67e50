//! Order per key, as values: no actor, no clock, no I/O.
//!
//! Most operations never enter: a key with nothing unfinished in front lets them [through](Lanes::is_clear). A key gets a
//! lane only when a blob is awaited on it or a pattern stands over it, and loses it when the lane has run empty. A lane
//! runs from its head: what is ready leaves in order, an awaited blob holds what is behind it.
//!
//! A pattern is a barrier: a marker in every lane whose key it matches. It starts when it has come to the head of all
//! lanes that were there before it, and what comes later on a matching key queues behind its marker until it is lifted.
//!
//! Barriers with nothing between them in a lane share one marker, so that a lane is never longer than what waits in it.
//! The marker tells the first of them when it has come to the head, and stays until the last is lifted. That will do for
//! those between, because all of them match the key: patterns that may overlap start in the order of acceptance.

use std::collections::{BTreeMap, HashMap, VecDeque};

use ahash::RandomState;

use crate::event::CacheKey;
use crate::event::pattern::Pattern;

/// A place in the order of acceptance.
pub type Seq = u64;

/// More live patterns than this, and keys are no longer compared with each: a key then waits for all of them. Waiting
/// too long is allowed, comparing every key with a hostile number of patterns is not.
const MAX_COMPARED: usize = 2048;
/// Patterns that run in one scan together, at most.
const MAX_TOGETHER: usize = 1024;
/// Patterns that wait, against which a later one is compared; beyond them it waits unseen.
const MAX_BLOCKED: usize = 256;

pub struct Lanes<T, S> {
    lanes: HashMap<CacheKey, VecDeque<Item<T>>, RandomState>,
    barriers: BTreeMap<Seq, Barrier<S>>,
    live_patterns: usize,
    next: Seq,
}

enum Item<T> {
    Ready(Seq, T),
    Awaited(Seq, T),
    /// Ended without an effect while something was before it.
    Gone(Seq),
    Marker(Marker),
}

struct Marker {
    seq: Seq,
    /// The barrier that waits for what is before it; none any more, once it has come to the head.
    report_to: Option<Seq>,
    /// It stays until this barrier is lifted.
    last: Seq,
    /// And all before that one, whether they match the key or not.
    all_up_to: bool,
}

impl<T> Item<T> {
    fn seq(&self) -> Seq {
        match self {
            Item::Ready(seq, _) | Item::Awaited(seq, _) | Item::Gone(seq) | Item::Marker(Marker { seq, .. }) => *seq,
        }
    }
}

struct Barrier<S> {
    patterns: Vec<Pattern>,
    /// Lanes in which something is still before it.
    waiting_for: usize,
    /// Starts only when no earlier one waits, whether they overlap or not: it shares a marker with some that it was not
    /// compared with.
    after_all: bool,
    /// None: it runs.
    work: Option<S>,
}

impl<T, S> Default for Lanes<T, S> {
    fn default() -> Self {
        Lanes { lanes: HashMap::default(), barriers: BTreeMap::new(), live_patterns: 0, next: 0 }
    }
}

impl<T, S> Lanes<T, S> {
    /// Whether nothing on the key is before what comes now: then it need not enter.
    pub fn is_clear(&self, key: &CacheKey) -> bool {
        (self.lanes.is_empty() && self.barriers.is_empty()) || (!self.lanes.contains_key(key) && !self.stands_over(key))
    }

    /// Takes a place for an operation that has to wait.
    pub fn wait(&mut self, key: &CacheKey, operation: T) {
        let seq = self.number();
        self.lane(key).push_back(Item::Ready(seq, operation));
    }

    /// Takes a place for an operation whose blob has yet to come.
    pub fn wait_for_blob(&mut self, key: &CacheKey, operation: T) -> Seq {
        let seq = self.number();
        self.lane(key).push_back(Item::Awaited(seq, operation));
        seq
    }

    /// The blob has come, or not: `turn` makes of the operation what is to be done now, if anything. What may go on
    /// because of it is added to `out`, in order.
    pub fn blob_ended(&mut self, key: &CacheKey, seq: Seq, turn: impl FnOnce(T) -> Option<T>, out: &mut Vec<T>) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let Ok(index) = lane.binary_search_by_key(&seq, Item::seq) else { return };
        let Some(item) = lane.get_mut(index) else { return };
        match std::mem::replace(item, Item::Gone(seq)) {
            Item::Awaited(seq, operation) => {
                if let Some(operation) = turn(operation) {
                    *item = Item::Ready(seq, operation);
                }
            }
            other => *item = other,
        }
        self.run(key, out);
    }

    /// The operation that stands there and whose blob has yet to come.
    pub fn awaited(&self, key: &CacheKey, seq: Seq) -> Option<&T> {
        let lane = self.lanes.get(key)?;
        match lane.get(lane.binary_search_by_key(&seq, Item::seq).ok()?)? {
            Item::Awaited(_, operation) => Some(operation),
            Item::Ready(..) | Item::Gone(_) | Item::Marker(_) => None,
        }
    }

    /// Whether nothing on the key is before it.
    pub fn is_head(&self, key: &CacheKey, seq: Seq) -> bool {
        self.lanes.get(key).and_then(|lane| lane.front()).is_some_and(|item| item.seq() == seq)
    }

    /// Puts up a barrier behind all that is there now on matching keys.
    pub fn put_up(&mut self, patterns: Vec<Pattern>, work: S) {
        let seq = self.number();
        let blind = self.live_patterns > MAX_COMPARED;
        let (mut waiting_for, mut after_all) = (0, blind);
        for (_, lane) in self.lanes.iter_mut().filter(|(key, _)| blind || matches(&patterns, key)) {
            if let Some(Item::Marker(marker)) = lane.back_mut() {
                after_all |= marker.all_up_to;
                marker.all_up_to |= blind;
                marker.last = seq;
            } else {
                lane.push_back(Item::Marker(Marker { seq, report_to: Some(seq), last: seq, all_up_to: blind }));
                waiting_for += 1;
            }
        }
        self.live_patterns += patterns.len();
        self.barriers.insert(seq, Barrier { patterns, waiting_for, after_all, work: Some(work) });
    }

    /// The barriers that can start now, together, in the order of acceptance; from here on they run. Called while none
    /// runs. One that may concern a key of an earlier one that waits, waits too.
    pub fn start(&mut self) -> Vec<(Seq, S)> {
        let mut together = 0;
        let mut blocked: Vec<&Pattern> = Vec::new();
        let mut starting = Vec::new();
        for (seq, barrier) in &self.barriers {
            if blocked.len() > MAX_BLOCKED {
                break;
            }
            let overlaps = barrier.after_all && !blocked.is_empty()
                || barrier.patterns.iter().any(|own| blocked.iter().any(|other| own.may_overlap(other)));
            if barrier.waiting_for > 0 || overlaps {
                blocked.extend(&barrier.patterns);
                continue;
            }
            together += barrier.patterns.len();
            if together > MAX_TOGETHER && !starting.is_empty() {
                break;
            }
            starting.push(*seq);
        }
        let mut take = |seq: Seq| Some((seq, self.barriers.get_mut(&seq)?.work.take()?));
        starting.into_iter().filter_map(&mut take).collect()
    }

    /// These barriers are done: what waited for them goes on.
    pub fn lift(&mut self, done: &[Seq], out: &mut Vec<T>) {
        for seq in done {
            if let Some(barrier) = self.barriers.remove(seq) {
                self.live_patterns -= barrier.patterns.len();
            }
        }
        let is_free = |lane: &VecDeque<Item<T>>| match lane.front() {
            Some(Item::Marker(marker)) => marker.is_lifted(&self.barriers),
            _ => false,
        };
        let freed: Vec<CacheKey> =
            self.lanes.iter().filter(|(_, lane)| is_free(lane)).map(|(key, _)| key.clone()).collect();
        for key in &freed {
            self.run(key, out);
        }
    }

    pub fn has_barriers(&self) -> bool {
        !self.barriers.is_empty()
    }

    fn number(&mut self) -> Seq {
        self.next += 1;
        self.next
    }

    fn stands_over(&self, key: &CacheKey) -> bool {
        self.live_patterns > MAX_COMPARED || self.barriers.values().any(|barrier| matches(&barrier.patterns, key))
    }

    /// The key's lane. A new one begins with a marker of the barriers that stand over it.
    fn lane(&mut self, key: &CacheKey) -> &mut VecDeque<Item<T>> {
        let Lanes { lanes, barriers, live_patterns, .. } = self;
        lanes.entry(key.clone()).or_insert_with(|| {
            let blind = *live_patterns > MAX_COMPARED;
            let last = barriers.iter().rfind(|(_, barrier)| blind || matches(&barrier.patterns, key));
            let marker = |seq: Seq| Item::Marker(Marker { seq, report_to: None, last: seq, all_up_to: blind });
            last.map(|(seq, _)| marker(*seq)).into_iter().collect()
        })
    }

    fn run(&mut self, key: &CacheKey, out: &mut Vec<T>) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        while let Some(item) = lane.pop_front() {
            match item {
                Item::Ready(_, operation) => out.push(operation),
                Item::Gone(_) => {}
                Item::Marker(marker) if marker.is_lifted(&self.barriers) => {}
                Item::Marker(mut marker) => {
                    if let Some(barrier) = marker.report_to.take().and_then(|seq| self.barriers.get_mut(&seq)) {
                        barrier.waiting_for -= 1;
                    }
                    lane.push_front(Item::Marker(marker));
                    return;
                }
                Item::Awaited(..) => {
                    lane.push_front(item);
                    return;
                }
            }
        }
        self.lanes.remove(key);
    }
}

impl Marker {
    fn is_lifted<S>(&self, barriers: &BTreeMap<Seq, Barrier<S>>) -> bool {
        match self.all_up_to {
            true => barriers.range(..=self.last).next().is_none(),
            false => !barriers.contains_key(&self.last),
        }
    }
}

fn matches(patterns: &[Pattern], key: &CacheKey) -> bool {
    patterns.iter().any(|pattern| pattern.matches(key.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    impl<T, S> Lanes<T, S> {
        /// The operation itself if it may go on; otherwise it waits.
        fn pass(&mut self, key: &CacheKey, operation: T) -> Option<T> {
            if self.is_clear(key) {
                return Some(operation);
            }
            self.wait(key, operation);
            None
        }
    }

    fn key(text: &'static str) -> CacheKey {
        CacheKey::new_unchecked(text)
    }

    fn pattern(text: &'static str) -> Pattern {
        Pattern::parse(text, true).expect("a pattern")
    }

    fn running(lanes: &mut Lanes<u32, &'static str>) -> (Vec<Seq>, Vec<&'static str>) {
        lanes.start().into_iter().unzip()
    }

    #[test]
    fn what_is_behind_a_blob_waits_for_it_and_leaves_in_order() {
        let mut lanes: Lanes<u32, ()> = Lanes::default();
        let mut out = Vec::new();
        let first = lanes.wait_for_blob(&key("a"), 1);
        let third = {
            assert_eq!(lanes.pass(&key("a"), 2), None);
            assert_eq!(lanes.pass(&key("b"), 9), Some(9), "another key does not wait");
            lanes.wait_for_blob(&key("a"), 3)
        };
        assert_eq!(lanes.pass(&key("a"), 4), None);
        lanes.blob_ended(&key("a"), third, Some, &mut out);
        assert!(out.is_empty());
        assert!(lanes.is_head(&key("a"), first) && !lanes.is_head(&key("a"), third));
        lanes.blob_ended(&key("a"), first, Some, &mut out);
        assert_eq!(out, [1, 2, 3, 4]);
        assert_eq!(lanes.pass(&key("a"), 5), Some(5), "the lane is gone");
    }

    #[test]
    fn a_blob_that_ends_without_effect_frees_those_behind_it() {
        let mut lanes: Lanes<u32, ()> = Lanes::default();
        let mut out = Vec::new();
        let first = lanes.wait_for_blob(&key("a"), 1);
        let second = lanes.wait_for_blob(&key("a"), 2);
        lanes.pass(&key("a"), 3);
        lanes.blob_ended(&key("a"), second, |_| None, &mut out);
        lanes.blob_ended(&key("a"), first, |_| None, &mut out);
        assert_eq!(out, [3]);
    }

    #[test]
    fn a_barrier_waits_for_what_was_before_it_and_holds_what_comes_after() {
        let mut lanes: Lanes<u32, &str> = Lanes::default();
        let mut out = Vec::new();
        let blob = lanes.wait_for_blob(&key("a:1"), 1);
        lanes.put_up(vec![pattern("a:*")], "sweep");
        assert_eq!(lanes.pass(&key("a:2"), 2), None);
        assert_eq!(lanes.pass(&key("b:1"), 3), Some(3));
        assert!(lanes.start().is_empty(), "the blob is before it");
        lanes.blob_ended(&key("a:1"), blob, Some, &mut out);
        assert_eq!(out, [1]);
        let (seqs, work) = running(&mut lanes);
        assert_eq!(work, ["sweep"]);
        assert_eq!(lanes.pass(&key("a:1"), 4), None, "it still runs");
        lanes.lift(&seqs, &mut out);
        out.sort_unstable();
        assert_eq!(out, [1, 2, 4]);
        assert!(!lanes.has_barriers() && lanes.lanes.is_empty());
    }

    #[test]
    fn a_later_barrier_on_the_same_keys_keeps_its_place_and_one_on_others_does_not_wait() {
        let mut lanes: Lanes<u32, &str> = Lanes::default();
        let mut out = Vec::new();
        let blob = lanes.wait_for_blob(&key("a:1"), 1);
        lanes.put_up(vec![pattern("a:*")], "first");
        lanes.put_up(vec![pattern("a:2*")], "second");
        lanes.put_up(vec![pattern("b:*")], "apart");
        let (seqs, work) = running(&mut lanes);
        assert_eq!(work, ["apart"]);
        lanes.lift(&seqs, &mut out);
        lanes.blob_ended(&key("a:1"), blob, Some, &mut out);
        assert_eq!(running(&mut lanes).1, ["first", "second"], "nothing lies between them");
    }

    #[test]
    fn with_very_many_patterns_a_key_waits_for_all_of_them() {
        let mut lanes: Lanes<u32, &str> = Lanes::default();
        let mut out = Vec::new();
        for _ in 0..=MAX_COMPARED {
            lanes.put_up(vec![pattern("a:*")], "sweep");
        }
        assert_eq!(lanes.pass(&key("b"), 1), None);
        assert_eq!(lanes.pass(&key("b"), 2), None);
        let mut rounds = 0;
        while lanes.has_barriers() {
            let (seqs, _) = running(&mut lanes);
            assert!(seqs.len() <= MAX_TOGETHER && out.is_empty());
            lanes.lift(&seqs, &mut out);
            rounds += 1;
        }
        assert_eq!((out, rounds), (vec![1, 2], 3));
        assert!(lanes.lanes.is_empty());
    }

    #[test]
    fn barriers_with_nothing_between_them_take_one_place_in_a_lane() {
        let mut lanes: Lanes<u32, &str> = Lanes::default();
        let mut out = Vec::new();
        let blob = lanes.wait_for_blob(&key("a:1"), 1);
        for _ in 0..MAX_COMPARED * 2 {
            lanes.put_up(vec![pattern("a:*")], "sweep");
        }
        assert_eq!(lanes.pass(&key("a:1"), 2), None);
        assert_eq!(lanes.pass(&key("a:2"), 3), None);
        assert!(lanes.lanes.values().all(|lane| lane.len() <= 3));
        assert!(lanes.start().is_empty());
        lanes.blob_ended(&key("a:1"), blob, Some, &mut out);
        while lanes.has_barriers() {
            assert_eq!(out, [1]);
            let (seqs, _) = running(&mut lanes);
            lanes.lift(&seqs, &mut out);
        }
        out.sort_unstable();
        assert_eq!((out, lanes.lanes.len()), (vec![1, 2, 3], 0));
    }

    /// What is to take effect on a key, in the order of acceptance: its operations, and the patterns that match it.
    struct Model {
        keys: Vec<CacheKey>,
        left: Vec<VecDeque<u32>>,
        /// The patterns that run; nothing on a key that they match may take effect meanwhile.
        running: Vec<u32>,
        patterns: HashMap<u32, Pattern>,
    }

    impl Model {
        fn expect(&mut self, number: u32, concerns: impl Fn(&CacheKey) -> bool) {
            for (key, left) in self.keys.iter().zip(&mut self.left) {
                if concerns(key) {
                    left.push_back(number);
                }
            }
        }

        fn takes_effect(&mut self, number: u32) {
            for (key, left) in self.keys.iter().zip(&mut self.left) {
                if left.contains(&number) {
                    assert_eq!(left.pop_front(), Some(number), "out of order: {left:?}");
                    let is_pattern = self.patterns.contains_key(&number);
                    let is_swept = self.running.iter().any(|other| self.patterns[other].matches(key.as_bytes()));
                    assert!(is_pattern || !is_swept, "{number} did not wait for the scan");
                }
            }
        }
    }

    /// Random work against the model; with `many`, mostly beyond the number of patterns that are compared.
    fn run_at_random(seed: u64, many: bool) {
        let mut random = fastrand::Rng::with_seed(seed);
        let names = ["a:1", "a:2", "b:1", "b:2", "c"];
        let patterns = ["a:*", "b:*", "?:1", "c", "a:2", "*:*"];
        let left = vec![VecDeque::new(); names.len()];
        let mut model = Model { keys: names.map(key).into(), left, running: Vec::new(), patterns: HashMap::new() };
        let mut lanes: Lanes<u32, u32> = Lanes::default();
        let mut awaited: Vec<(usize, Seq)> = Vec::new();
        let mut running: Vec<Seq> = Vec::new();
        for number in 0.. {
            let mut out = Vec::new();
            let index = random.usize(..names.len());
            let own = model.keys[index].clone();
            let is_over = number > 200;
            match random.u32(if is_over { 6..10 } else { 0..10 }) {
                0..2 => {
                    model.expect(number, |key| *key == own);
                    awaited.push((index, lanes.wait_for_blob(&own, number)));
                }
                2..4 => {
                    model.expect(number, |key| *key == own);
                    out.extend(lanes.pass(&own, number));
                }
                4..6 => {
                    let chosen = pattern(patterns[random.usize(..patterns.len())]);
                    model.expect(number, |key| chosen.matches(key.as_bytes()));
                    model.patterns.insert(number, chosen.clone());
                    let fill = if many && random.bool() { MAX_COMPARED } else { 0 };
                    let others = std::iter::repeat_with(|| pattern("none:*")).take(fill);
                    lanes.put_up(std::iter::once(chosen).chain(others).collect(), number);
                }
                6..8 if !awaited.is_empty() => {
                    let (index, seq) = awaited.swap_remove(random.usize(..awaited.len()));
                    lanes.blob_ended(&model.keys[index].clone(), seq, Some, &mut out);
                }
                _ if running.is_empty() => {
                    let started: Vec<u32>;
                    (running, started) = lanes.start().into_iter().unzip();
                    started.iter().for_each(|number| model.takes_effect(*number));
                    model.running = started;
                }
                _ => {
                    model.running.clear();
                    lanes.lift(&std::mem::take(&mut running), &mut out);
                }
            }
            out.into_iter().for_each(|number| model.takes_effect(number));
            if is_over && model.left.iter().all(VecDeque::is_empty) {
                break;
            }
            assert!(number < 10_000, "something waits for ever");
        }
    }

    #[test]
    fn at_random_each_key_sees_its_operations_and_patterns_in_order() {
        for seed in 0..300 {
            run_at_random(seed, false);
        }
        for seed in 0..20 {
            run_at_random(seed, true);
        }
    }
}
