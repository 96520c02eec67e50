use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::cli::send::event::InputPlace;

const NONE: [u64; 0] = [];
const BOUNDS: RequestLimits = RequestLimits { events: 4, bytes: 1000 };

fn item(number: u64, touches: Touches) -> Item {
    Item {
        number,
        place: InputPlace { file: "f".into(), line: number + 1 },
        text: Bytes::from(number.to_string()),
        touches,
        read_to: 0,
    }
}

fn keys(keys: &[u64]) -> Touches {
    Touches::Keys { keys: keys.into(), guarded: false }
}

fn planner(events: &[Touches]) -> Planner {
    let mut planner = Planner::new(BOUNDS);
    (0..).zip(events).for_each(|(number, touches)| planner.add(item(number, touches.clone())));
    planner
}

fn numbers(batch: Option<EventBatch>) -> Vec<u64> {
    batch.map(|batch| batch.items.iter().map(|item| item.number).collect()).unwrap_or_default()
}

fn settle_all(planner: &mut Planner, batch: &EventBatch) {
    batch.items.iter().for_each(|item| planner.settle(batch.id, item));
}

#[test]
fn batches_are_full_before_they_go() {
    let mut planner = planner(&vec![Touches::Nothing; 6]);
    assert_eq!(numbers(planner.next(false)), [0, 1, 2, 3]);
    assert_eq!(numbers(planner.next(false)), NONE);
    assert_eq!(numbers(planner.next(true)), [4, 5]);
    assert_eq!(numbers(planner.next(true)), NONE);
}

#[test]
fn an_event_of_a_key_follows_in_the_same_batch_and_waits_for_another() {
    let mut planner = planner(&[keys(&[1]), keys(&[1]), keys(&[2]), keys(&[1]), keys(&[1]), keys(&[3])]);
    let first = planner.next(false).unwrap();
    assert_eq!(first.items.len(), 4);
    assert_eq!(numbers(planner.next(true)), [5]);
    settle_all(&mut planner, &first);
    assert_eq!(numbers(planner.next(true)), [4]);
}

#[test]
fn what_is_not_settled_keeps_its_key() {
    let mut planner = planner(&[keys(&[1]), keys(&[1]), Touches::Nothing, Touches::Nothing, keys(&[1])]);
    let batch = planner.next(false).unwrap();
    planner.settle(batch.id, &batch.items[0]);
    assert_eq!(numbers(planner.next(true)), NONE);
    planner.settle(batch.id, &batch.items[1]);
    assert_eq!(numbers(planner.next(true)), [4]);
}

#[test]
fn nothing_follows_an_event_of_several_keys_in_its_batch() {
    let mut planner = planner(&[keys(&[1, 2]), keys(&[2]), keys(&[3])]);
    let batch = planner.next(true).unwrap();
    assert_eq!(batch.items.iter().map(|item| item.number).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(numbers(planner.next(true)), NONE);
    settle_all(&mut planner, &batch);
    assert_eq!(numbers(planner.next(true)), [1]);
}

#[test]
fn with_and_without_a_version_do_not_follow_each_other_in_a_batch() {
    let guarded = Touches::Keys { keys: [1].as_slice().into(), guarded: true };
    let mut planner = planner(&[guarded.clone(), guarded, keys(&[1])]);
    assert_eq!(numbers(planner.next(true)), [0, 1]);
    assert_eq!(numbers(planner.next(true)), NONE);
}

#[test]
fn a_pattern_waits_for_all_and_all_wait_for_it() {
    let all = Touches::Everything;
    let mut planner = planner(&[keys(&[1]), all.clone(), all, keys(&[2]), Touches::Nothing]);
    let before = planner.next(false).unwrap();
    assert_eq!(before.items.len(), 1);
    assert_eq!(numbers(planner.next(true)), NONE);
    settle_all(&mut planner, &before);
    let patterns = planner.next(false).unwrap();
    assert_eq!(patterns.items.len(), 2);
    planner.settle(patterns.id, &patterns.items[0]);
    assert_eq!(numbers(planner.next(true)), NONE);
    planner.settle(patterns.id, &patterns.items[1]);
    assert_eq!(numbers(planner.next(true)), [3, 4]);
}

#[test]
fn many_events_of_one_key_that_waits_are_let_in_without_recursion() {
    let mut planner = Planner::new(RequestLimits { events: 200_000, bytes: usize::MAX });
    planner.add(item(0, keys(&[1, 2])));
    let first = planner.next(true).unwrap();
    (1..100_000).for_each(|number| planner.add(item(number, keys(&[1]))));
    settle_all(&mut planner, &first);
    assert_eq!(numbers(planner.next(true)).len(), 99_999);
}

#[test]
fn a_batch_is_bounded_in_bytes_but_for_one_large_event() {
    let large = |number, size| Item { text: Bytes::from(vec![b'x'; size]), ..item(number, Touches::Nothing) };
    let mut planner = Planner::new(BOUNDS);
    [700, 400, 5000, 1].into_iter().enumerate().for_each(|(n, size)| planner.add(large(n as u64, size)));
    for expected in [[0], [1], [2], [3]] {
        assert_eq!(numbers(planner.next(true)), expected);
    }
}

fn touches() -> impl Strategy<Value = Touches> {
    prop_oneof![
        1 => Just(Touches::Nothing),
        1 => Just(Touches::Everything),
        8 => prop::collection::hash_set(0..6u64, 1..4).prop_map(|keys| {
            Touches::Keys { keys: keys.into_iter().collect(), guarded: false }
        }),
    ]
}

fn share_a_key(a: &Touches, b: &Touches) -> bool {
    match (a, b) {
        (Touches::Nothing, _) | (_, Touches::Nothing) => false,
        (Touches::Keys { keys: a, .. }, Touches::Keys { keys: b, .. }) => a.iter().any(|key| b.contains(key)),
        _ => true,
    }
}

/// What a service would hold that carries out what it is sent, and fails some of it.
#[derive(Default)]
struct World {
    /// The last event of each key that took effect, in the service.
    last: BTreeMap<u64, u64>,
}

impl World {
    /// Each key of an event ends by itself; whether the event is not done, but for what something newer made needless.
    fn carry_out(&mut self, items: &[Item], fails: &mut impl FnMut() -> bool) -> Vec<bool> {
        let mut failed: Vec<HashSet<u64>> = Vec::new();
        for item in items {
            let of_item = match &item.touches {
                Touches::Nothing => HashSet::new(),
                Touches::Everything => (0..6).filter(|_| fails()).collect(),
                Touches::Keys { keys, .. } => keys.iter().copied().filter(|_| fails()).collect(),
            };
            let all: Vec<u64> = match &item.touches {
                Touches::Nothing => Vec::new(),
                Touches::Everything => (0..6).collect(),
                Touches::Keys { keys, .. } => keys.to_vec(),
            };
            for key in all.iter().filter(|key| !of_item.contains(key)) {
                self.last.insert(*key, item.number);
                // The service calls superseded what a later event on the key has made needless.
                if item.touches != Touches::Everything {
                    for earlier in &mut failed {
                        earlier.remove(key);
                    }
                }
            }
            failed.push(of_item);
        }
        failed.iter().map(|keys| !keys.is_empty()).collect()
    }
}

/// No two requests under way share a key, and within one the order is that of the input.
fn stand_apart(flying: &[EventBatch]) -> Result<(), TestCaseError> {
    for (index, batch) in flying.iter().enumerate() {
        for other in flying.iter().skip(index + 1) {
            for (a, b) in batch.items.iter().flat_map(|a| other.items.iter().map(move |b| (a, b))) {
                prop_assert!(!share_a_key(&a.touches, &b.touches), "{a:?} beside {b:?}");
            }
        }
        for (at, a) in batch.items.iter().enumerate() {
            let overtakes = |b: &&Item| share_a_key(&a.touches, &b.touches) && b.number < a.number;
            prop_assert!(batch.items[at..].iter().find(overtakes).is_none(), "{:?}", batch.items);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn events_of_a_key_are_never_in_two_requests_and_take_effect_in_order(
        events in prop::collection::vec(touches(), 1..120),
        seed in any::<u64>(),
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut planner = Planner::new(BOUNDS);
        let mut world = World::default();
        let mut input = (0..).zip(events.iter().cloned()).map(|(number, touches)| item(number, touches)).peekable();
        let mut flying: Vec<EventBatch> = Vec::new();
        let (mut settled, mut steps) = (0, 0);
        while settled < events.len() {
            steps += 1;
            prop_assert!(steps < 200_000, "it does not end");
            if let Some(item) = input.next_if(|_| random.u8(..) < 200) {
                planner.add(item);
            }
            if flying.len() < 3 {
                flying.extend(planner.next(input.peek().is_none() || random.u8(..) < 60));
            }
            stand_apart(&flying)?;
            if flying.is_empty() || random.bool() {
                continue;
            }
            let index = random.usize(..flying.len());
            // Sometimes the answer is lost, whatever has been carried out.
            let (lost, share) = (random.u8(..) < 40, random.u8(..));
            let batch = &mut flying[index];
            let unavailable = world.carry_out(&batch.items, &mut || random.u8(..) < share / 2);
            let mut unavailable = unavailable.into_iter().map(|failed| failed || lost);
            let (id, mut done) = (batch.id, Vec::new());
            batch.items.retain(|item| {
                let again = unavailable.next().unwrap();
                if !again {
                    done.push(item.clone());
                }
                again
            });
            if batch.items.is_empty() {
                flying.swap_remove(index);
            }
            settled += done.len();
            done.iter().for_each(|item| planner.settle(id, item));
        }
        prop_assert_eq!(planner.unsettled(), (0, 0));
        prop_assert!(planner.lanes.is_empty() && planner.waiting.is_empty());
        for key in 0..6 {
            let last = (0..).zip(&events).filter(|(_, touches)| share_a_key(touches, &keys(&[key]))).last();
            // Patterns with nothing between them come to the same in any order: all they do is delete.
            let place = |number: u64| {
                let before = events.iter().take(number as usize);
                let writes = before.filter(|touches| **touches != Touches::Everything && share_a_key(touches, &keys(&[key])));
                (writes.count(), events[number as usize] == Touches::Everything)
            };
            let expected = last.map(|(number, _)| place(number));
            prop_assert_eq!(world.last.get(&key).copied().map(place), expected, "key {}", key);
        }
    }
}
