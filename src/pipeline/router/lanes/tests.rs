use smallvec::smallvec;

use super::*;
use crate::event::pattern::PatternIndex;

/// Lanes with what tells operations which barrier they are behind.
struct Tested<S> {
    lanes: Lanes<u32, u32, S>,
    index: PatternIndex<BarrierId>,
    standing: HashMap<BarrierId, Few<Pattern>>,
    last: BarrierId,
}

impl<S> Default for Tested<S> {
    fn default() -> Self {
        let (index, standing) = (PatternIndex::default(), HashMap::default());
        Tested { lanes: Lanes::default(), index, standing, last: BarrierId::MIN }
    }
}

impl<S> Tested<S> {
    fn behind(&self, key: &CacheKey) -> Option<BarrierId> {
        self.index.greatest(key.as_bytes())
    }

    /// The operation itself if it may go on; otherwise it waits.
    fn pass(&mut self, key: &CacheKey, operation: u32) -> Option<u32> {
        let behind = self.behind(key);
        if self.lanes.is_clear(key, behind) {
            return Some(operation);
        }
        self.lanes.wait(key, behind, operation);
        None
    }

    fn wait_for_blob(&mut self, key: &CacheKey, operation: u32) -> Seq {
        let behind = self.behind(key);
        self.lanes.wait_for_blob(key, behind, operation)
    }

    /// Operations know of it from here on, the lanes do not yet.
    fn announce(&mut self, pattern: Pattern, holds: bool) -> BarrierId {
        self.last = self.last.saturating_add(1);
        if holds {
            self.index.insert(self.last, &pattern);
        }
        self.standing.insert(self.last, smallvec![pattern]);
        self.last
    }

    fn look(&mut self, id: BarrierId) {
        let matches = |key: &&CacheKey| self.standing[&id].iter().any(|pattern| pattern.matches(key.as_bytes()));
        let keys: Vec<CacheKey> = self.lanes.keys().filter(matches).cloned().collect();
        self.lanes.looked(id, &keys);
    }

    fn put_up(&mut self, text: &'static str, work: S) -> BarrierId {
        let id = self.announce(pattern(text), true);
        self.lanes.put_up(id, self.standing[&id].clone(), true, work);
        self.look(id);
        id
    }

    fn preview(&mut self, text: &'static str, work: S) -> BarrierId {
        let id = self.announce(pattern(text), false);
        self.lanes.put_up(id, self.standing[&id].clone(), false, work);
        self.look(id);
        id
    }

    fn start(&mut self) -> (Vec<BarrierId>, Vec<S>) {
        self.lanes.start(false).into_iter().unzip()
    }

    fn lift(&mut self, done: &[BarrierId], out: &mut Vec<u32>) {
        for id in done {
            self.index.remove(*id, &self.standing.remove(id).unwrap());
        }
        self.lanes.lift(done, out);
    }

    fn is_empty(&self) -> bool {
        self.lanes.lanes.is_empty() && self.lanes.barriers.is_empty() && self.lanes.ready.is_empty()
    }
}

fn key(text: &'static str) -> CacheKey {
    CacheKey::new_unchecked(text)
}

fn pattern(text: &'static str) -> Pattern {
    Pattern::parse(text, true).expect("a pattern")
}

#[test]
fn what_is_behind_a_blob_waits_for_it_and_leaves_in_order() {
    let mut lanes: Tested<()> = Tested::default();
    let mut out = Vec::new();
    let first = lanes.wait_for_blob(&key("a"), 1);
    let third = {
        assert_eq!(lanes.pass(&key("a"), 2), None);
        assert_eq!(lanes.pass(&key("b"), 9), Some(9), "another key does not wait");
        lanes.wait_for_blob(&key("a"), 3)
    };
    assert_eq!(lanes.pass(&key("a"), 4), None);
    lanes.lanes.blob_ended(&key("a"), third, Some, &mut out);
    assert!(out.is_empty());
    assert_eq!(lanes.lanes.first_awaited(&key("a"), |_| false), Some(first));
    assert_eq!(lanes.lanes.first_awaited(&key("a"), |seq| seq == first), None, "what is ready stands behind it");
    lanes.lanes.blob_ended(&key("a"), first, Some, &mut out);
    assert_eq!(out, [1, 2, 3, 4]);
    assert_eq!(lanes.pass(&key("a"), 5), Some(5), "the lane is gone");
}

#[test]
fn a_blob_that_ends_without_effect_frees_those_behind_it() {
    let mut lanes: Tested<()> = Tested::default();
    let mut out = Vec::new();
    let first = lanes.wait_for_blob(&key("a"), 1);
    let second = lanes.wait_for_blob(&key("a"), 2);
    lanes.pass(&key("a"), 3);
    lanes.lanes.blob_ended(&key("a"), second, |_| None, &mut out);
    lanes.lanes.blob_ended(&key("a"), first, |_| None, &mut out);
    assert_eq!(out, [3]);
}

#[test]
fn what_has_ended_without_effect_leaves_the_lane_though_its_head_waits() {
    let mut lanes: Tested<&str> = Tested::default();
    let mut out = Vec::new();
    let head = lanes.wait_for_blob(&key("a"), 1);
    for number in 0..100_000 {
        let seq = lanes.wait_for_blob(&key("a"), number);
        lanes.lanes.blob_ended(&key("a"), seq, |_| None, &mut out);
    }
    assert_eq!(lanes.lanes.lanes[&key("a")].items.len(), 1);
    let between = lanes.wait_for_blob(&key("a"), 2);
    lanes.put_up("a", "first");
    let behind = lanes.wait_for_blob(&key("a"), 3);
    lanes.put_up("*", "second");
    assert_eq!(lanes.pass(&key("a"), 4), None);
    for seq in [behind, between] {
        lanes.lanes.blob_ended(&key("a"), seq, |_| None, &mut out);
    }
    assert_eq!(lanes.lanes.first_awaited(&key("a"), |_| false), Some(head));
    assert!(lanes.start().0.is_empty());
    lanes.lanes.blob_ended(&key("a"), head, Some, &mut out);
    let (first, _) = lanes.start();
    lanes.lift(&first, &mut out);
    let (second, _) = lanes.start();
    lanes.lift(&second, &mut out);
    assert_eq!(out, [1, 4]);
    assert!(lanes.is_empty());
}

#[test]
fn a_barrier_waits_for_what_was_before_it_and_holds_what_comes_after() {
    let mut lanes: Tested<&str> = Tested::default();
    let mut out = Vec::new();
    let blob = lanes.wait_for_blob(&key("a:1"), 1);
    lanes.put_up("a:*", "delete");
    assert_eq!(lanes.pass(&key("a:2"), 2), None);
    assert_eq!(lanes.pass(&key("b:1"), 3), Some(3));
    assert!(lanes.start().0.is_empty(), "the blob is before it");
    lanes.lanes.blob_ended(&key("a:1"), blob, Some, &mut out);
    assert_eq!(out, [1]);
    let (ids, work) = lanes.start();
    assert_eq!(work, ["delete"]);
    assert_eq!(lanes.pass(&key("a:1"), 4), None, "it still runs");
    lanes.lift(&ids, &mut out);
    out.sort_unstable();
    assert_eq!(out, [1, 2, 4]);
    assert!(lanes.is_empty());
}

#[test]
fn a_later_barrier_on_the_same_keys_keeps_its_place_and_one_on_others_does_not_wait() {
    let mut lanes: Tested<&str> = Tested::default();
    let mut out = Vec::new();
    let blob = lanes.wait_for_blob(&key("a:1"), 1);
    lanes.put_up("a:*", "first");
    lanes.put_up("a:2*", "second");
    lanes.put_up("b:*", "apart");
    let (ids, work) = lanes.start();
    assert_eq!(work, ["apart"]);
    lanes.lift(&ids, &mut out);
    lanes.lanes.blob_ended(&key("a:1"), blob, Some, &mut out);
    assert_eq!(lanes.start().1, ["first", "second"], "nothing lies between them");
}

#[test]
fn an_operation_that_comes_before_the_barrier_that_it_is_behind_waits_for_it() {
    let mut lanes: Tested<&str> = Tested::default();
    let mut out = Vec::new();
    let blob = lanes.wait_for_blob(&key("a:1"), 1);
    let id = lanes.announce(pattern("a:*"), true);
    assert_eq!(lanes.pass(&key("a:1"), 2), None);
    assert_eq!(lanes.pass(&key("a:2"), 3), None);
    lanes.lanes.put_up(id, smallvec![pattern("a:*")], true, "delete");
    assert_eq!(lanes.pass(&key("a:1"), 4), None);
    lanes.look(id);
    assert!(lanes.start().0.is_empty(), "the blob is before it");
    lanes.lanes.blob_ended(&key("a:1"), blob, Some, &mut out);
    assert_eq!(out, [1]);
    let (ids, _) = lanes.start();
    lanes.lift(&ids, &mut out);
    out.sort_unstable();
    assert_eq!(out, [1, 2, 3, 4]);
    assert!(lanes.is_empty());
}

#[test]
fn a_preview_sees_what_was_before_it_and_holds_up_nobody() {
    let mut lanes: Tested<&str> = Tested::default();
    let mut out = Vec::new();
    let blob = lanes.wait_for_blob(&key("a:1"), 1);
    lanes.preview("a:*", "waits for the blob");
    lanes.preview("b:*", "waits for nothing");
    lanes.put_up("b:1", "delete");
    lanes.preview("b:*", "waits for the delete");
    assert_eq!(lanes.pass(&key("a:2"), 2), Some(2));
    assert_eq!(lanes.pass(&key("a:1"), 3), None, "it waits for the blob alone");
    let previews = lanes.lanes.start(true);
    assert_eq!(previews[0].1, "waits for nothing");
    let (delete, work) = lanes.start();
    assert_eq!(work, ["delete"], "it does not wait for a preview that runs");
    assert!(lanes.lanes.start(true).is_empty());
    lanes.lift(&delete, &mut out);
    assert_eq!(lanes.lanes.start(true)[0].1, "waits for the delete");
    lanes.lanes.blob_ended(&key("a:1"), blob, Some, &mut out);
    assert_eq!(out, [1, 3], "what is behind a preview does not wait for it");
    assert_eq!(lanes.lanes.start(true)[0].1, "waits for the blob");
}

#[test]
fn barriers_with_nothing_between_them_take_one_place_in_a_lane() {
    let mut lanes: Tested<&str> = Tested::default();
    let mut out = Vec::new();
    let blob = lanes.wait_for_blob(&key("a:1"), 1);
    for _ in 0..MAX_TOGETHER * 2 {
        lanes.put_up("a:*", "delete");
    }
    assert_eq!(lanes.pass(&key("a:1"), 2), None);
    assert_eq!(lanes.pass(&key("a:2"), 3), None);
    assert!(lanes.lanes.lanes.values().all(|lane| lane.items.len() <= 3));
    assert!(lanes.start().0.is_empty());
    lanes.lanes.blob_ended(&key("a:1"), blob, Some, &mut out);
    while !lanes.standing.is_empty() {
        assert_eq!(out, [1]);
        let (ids, _) = lanes.start();
        assert_eq!(ids.len(), MAX_TOGETHER);
        lanes.lift(&ids, &mut out);
    }
    out.sort_unstable();
    assert_eq!(out, [1, 2, 3]);
    assert!(lanes.is_empty());
}

#[test]
fn a_lane_tells_one_of_the_barriers_that_wait_for_one_another_anyway() {
    let mut lanes: Tested<&str> = Tested::default();
    let blob = lanes.wait_for_blob(&key("a:1"), 1);
    lanes.preview("a:*", "preview");
    for _ in 0..1000 {
        lanes.put_up("a:*", "delete");
    }
    lanes.preview("a:*", "later preview");
    let Some(Item::Marker(marker)) = lanes.lanes.lanes[&key("a:1")].items.back() else { panic!("a marker") };
    assert_eq!(marker.tells.len(), 2, "the first preview and the first delete");
    assert!(lanes.lanes.start(true).is_empty() && lanes.start().0.is_empty(), "the blob is before them");
    lanes.lanes.blob_ended(&key("a:1"), blob, Some, &mut Vec::new());
    assert_eq!(lanes.lanes.start(true)[0].1, "preview");
    let (deletes, _) = lanes.start();
    assert_eq!(deletes.len(), 1000);
    assert!(lanes.lanes.start(true).is_empty(), "it waits for the deletes");
    lanes.lift(&deletes, &mut Vec::new());
    assert_eq!(lanes.lanes.start(true)[0].1, "later preview");
}

#[test]
fn a_barrier_whose_keys_are_not_known_tells_nobody_in_the_place_of_one_that_does_not_wait_for_it() {
    let mut lanes: Tested<&str> = Tested::default();
    let blob = lanes.wait_for_blob(&key("b"), 1);
    let ids = ["a", "b"].map(|text| lanes.announce(pattern(text), true));
    for id in ids {
        lanes.lanes.put_up(id, lanes.standing[&id].clone(), true, "delete");
    }
    ids.into_iter().for_each(|id| lanes.lanes.looked(id, &[key("b")]));
    assert!(lanes.start().0.is_empty());
    lanes.lanes.blob_ended(&key("b"), blob, Some, &mut Vec::new());
    assert_eq!(lanes.start().0, ids);
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

    /// The operation on this key is to have no effect any more.
    fn comes_to_nothing(&mut self, index: usize, number: u32) -> Option<u32> {
        self.left[index].retain(|left| *left != number);
        None
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

/// Random work against the model. Lanes hear of barriers later than operations do, and where to put their markers later still.
fn run_at_random(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let names = ["a:1", "a:2", "b:1", "b:2", "c"];
    let patterns = ["a:*", "b:*", "?:1", "c", "a:2", "*:*"];
    let left = vec![VecDeque::new(); names.len()];
    let mut model = Model { keys: names.map(key).into(), left, running: Vec::new(), patterns: HashMap::new() };
    let mut lanes: Tested<u32> = Tested::default();
    let (mut awaited, mut announced) = (Vec::<(usize, Seq)>::new(), VecDeque::<(BarrierId, u32)>::new());
    let (mut looking, mut running) = (Vec::<BarrierId>::new(), Vec::<BarrierId>::new());
    for number in 0.. {
        let mut out = Vec::new();
        let index = random.usize(..names.len());
        let own = model.keys[index].clone();
        let is_over = number > 200;
        match random.u32(if is_over { 6..12 } else { 0..12 }) {
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
                announced.push_back((lanes.announce(chosen, true), number));
            }
            6..8 if !awaited.is_empty() => {
                let (index, seq) = awaited.swap_remove(random.usize(..awaited.len()));
                let ended = random.u32(..4) > 0;
                let concerned = |work| if ended { Some(work) } else { model.comes_to_nothing(index, work) };
                lanes.lanes.blob_ended(&key(names[index]), seq, concerned, &mut out);
            }
            8 if !announced.is_empty() => {
                let (id, work) = announced.pop_front().unwrap();
                lanes.lanes.put_up(id, lanes.standing[&id].clone(), true, work);
                looking.push(id);
            }
            9 if !looking.is_empty() => {
                let id = looking.swap_remove(random.usize(..looking.len()));
                lanes.look(id);
            }
            _ if running.is_empty() => {
                (running, model.running) = lanes.start();
                model.running.clone().iter().for_each(|number| model.takes_effect(*number));
            }
            _ => {
                model.running.clear();
                lanes.lift(&std::mem::take(&mut running), &mut out);
            }
        }
        out.into_iter().for_each(|number| model.takes_effect(number));
        if is_over && model.left.iter().all(VecDeque::is_empty) && running.is_empty() && announced.is_empty() {
            break;
        }
        assert!(number < 10_000, "something waits for ever");
    }
}

#[test]
fn at_random_each_key_sees_its_operations_and_patterns_in_order() {
    for seed in 0..500 {
        run_at_random(seed);
    }
}
