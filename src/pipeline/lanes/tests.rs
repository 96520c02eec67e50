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
