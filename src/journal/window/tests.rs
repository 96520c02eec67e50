use bytes::Bytes;
use smallvec::smallvec;

use super::*;
use crate::event::SetEntry;
use crate::event::{BlobUrl, FetchTarget};

const BOUNDS: Bounds = Bounds { tasks: 100, bytes: 100_000, entries: 100, round: 10, rounds: 4 };

fn key(name: &str) -> CacheKey {
    CacheKey::new_unchecked(name.to_owned())
}

/// When the next of those that wait for their time is due. One whose time has come waits for something else: for an earlier event
/// of its keys, or for room.
fn next_due(window: &Window, now: Instant) -> Option<Instant> {
    window.ready.values().filter_map(|due| *due).filter(|due| *due > now).min()
}

fn task(action: Action) -> Task {
    let event = Event { id: None, version: None, time: None, action };
    let record = Record::of_json(Bytes::from_static(b"{}"));
    let entries = event.action.entries();
    Task { entry: 0, meta: Arc::default(), place: 0, record, event, entries, held: Vec::new(), attempts: 0 }
}

fn set(name: &str) -> Task {
    let source = Source::Inline(Bytes::from_static(b"v"));
    task(Action::Set(smallvec![SetEntry { key: key(name), source, ttl: None, expected: None }]))
}

fn blob(name: &str) -> Task {
    let source = Source::Blob(FetchTarget::Url(BlobUrl::parse("http://h.test/x").expect("a URL")));
    task(Action::Set(smallvec![SetEntry { key: key(name), source, ttl: None, expected: None }]))
}

fn sweep(pattern: &str) -> Task {
    let patterns = smallvec![Pattern::parse(pattern.to_owned(), true).expect("a pattern")];
    task(Action::DeletePattern { patterns, dry_run: false })
}

/// A window of these, each an entry of its own: the ids are 0, 1, …
fn window(tasks: Vec<Task>) -> Window {
    let mut window = Window::new(BOUNDS);
    for (number, task) in tasks.into_iter().enumerate() {
        window.add(format!("{number}-0"), 1, vec![task]);
    }
    window
}

fn begun(window: &mut Window, now: Instant) -> Vec<Vec<TaskId>> {
    window.begin(now).into_iter().map(|round| round.tasks).collect()
}

fn done(last: &str, entries: u64) -> Option<Done> {
    Some(Done { last: last.to_owned(), events: entries })
}

#[test]
fn plain_events_go_together_in_order_even_on_one_key() {
    let now = Instant::now();
    let mut window = window(vec![set("a"), set("b"), set("a")]);
    assert_eq!(begun(&mut window, now), [[0, 1, 2]]);
    assert_eq!(begun(&mut window, now), Vec::<Vec<TaskId>>::new());
}

#[test]
fn what_takes_long_holds_up_its_own_keys_only() {
    let now = Instant::now();
    let mut window = window(vec![blob("a"), set("a"), set("b"), sweep("b*"), set("bc"), set("c")]);
    assert_eq!(begun(&mut window, now), [vec![0], vec![2, 5]], "the sweep waits for b, and bc for the sweep");
    window.settle(2);
    window.settle(5);
    window.round_ended();
    assert_eq!(begun(&mut window, now), [[3]]);
    window.settle(3);
    window.round_ended();
    assert_eq!(begun(&mut window, now), [[4]]);
    window.settle(0);
    window.round_ended();
    assert_eq!(begun(&mut window, now), [[1]]);
}

#[test]
fn the_stream_is_trimmed_up_to_the_first_that_is_not_done() {
    let now = Instant::now();
    let mut window = window(vec![set("a"), blob("b"), set("c")]);
    window.begin(now);
    window.settle(2);
    assert_eq!(window.take_done(), None);
    window.settle(0);
    assert_eq!(window.take_done(), done("0-0", 1));
    window.settle(1);
    assert_eq!(window.take_done(), done("2-0", 2));
    assert_eq!(window.take_done(), None);
}

#[test]
fn what_is_put_off_comes_again_before_later_events_of_its_keys() {
    let now = Instant::now();
    let mut window = window(vec![set("a"), set("b")]);
    window.begin(now);
    window.put_off(0, None, true, now);
    window.settle(1);
    window.round_ended();
    window.add("2-0".into(), 1, vec![set("a")]);
    window.add("3-0".into(), 1, vec![set("d")]);
    assert_eq!(begun(&mut window, now), [[3]], "a has to wait");
    let due = next_due(&window, now).expect("a time");
    assert_eq!(due, now + FIRST_PAUSE);
    assert_eq!(begun(&mut window, due), [[0, 2]]);
    window.put_off(0, None, false, due);
    assert_eq!(window.task(0).map(|task| task.attempts), Some(1), "an attempt that does not count");
}

#[test]
fn pauses_grow_up_to_a_bound() {
    let pauses: Vec<u64> = (0..10).map(|attempts| pause(attempts).as_millis() as u64).collect();
    assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]);
    assert_eq!(pause(u32::MAX), MAX_PAUSE);
}

#[test]
fn the_window_is_bounded_by_events_bytes_and_entries() {
    let mut window = Window::new(Bounds { tasks: 2, bytes: 100_000, entries: 3, round: 10, rounds: 1 });
    window.add("0-0".into(), 1, vec![set("a")]);
    assert!(window.has_room());
    window.add("1-0".into(), 1, vec![set("b")]);
    assert!(!window.has_room(), "two events");
    window.begin(Instant::now());
    window.settle(1);
    assert!(window.has_room());
    window.add("2-0".into(), 1, vec![]);
    assert!(!window.has_room(), "three entries");
    let mut window = Window::new(BOUNDS);
    window.add("0-0".into(), 1, vec![Task { record: Record::of_json(vec![b' '; 100_000].into()), ..set("a") }]);
    assert!(!window.has_room(), "bytes");
}

/// Whatever happens, events of a key end in the order of the stream, and all of them do.
#[test]
fn the_order_of_each_key_holds_for_any_course_of_events() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let names = ["a", "b", "ab", "c"];
        let kinds: Vec<(usize, &str)> =
            (0..40).map(|_| (random.usize(..6), names[random.usize(..names.len())])).collect();
        let made = |(kind, name): &(usize, &str)| match kind {
            0 => sweep(&format!("{name}*")),
            1 => blob(name),
            _ => set(name),
        };
        let mut window = Window::new(BOUNDS);
        for (number, kind) in kinds.iter().enumerate() {
            window.add(format!("{number}-0"), 1, vec![made(kind)]);
        }
        let (mut running, mut ended, mut now) = (Vec::<Round>::new(), Vec::new(), Instant::now());
        while !window.tasks.is_empty() {
            running.extend(window.begin(now));
            assert!(!running.is_empty() || next_due(&window, now).is_some(), "seed {seed}: it stands still");
            if running.is_empty() {
                now = next_due(&window, now).expect("a time");
                continue;
            }
            let round = running.swap_remove(random.usize(..running.len()));
            let mut put_off: Vec<&str> = Vec::new();
            for id in round.tasks {
                let name = kinds[id as usize].1;
                // The pipeline carries out nothing of a key behind what it could not.
                if random.usize(..5) == 0 || put_off.contains(&name) {
                    put_off.push(name);
                    window.put_off(id, None, true, now);
                } else {
                    ended.push(id as usize);
                    window.settle(id);
                }
            }
            window.round_ended();
        }
        let touches = |a: usize, b: usize| {
            let (first, second) = (made(&kinds[a]), made(&kinds[b]));
            let mut order = Order::default();
            order.add(0, &first);
            order.stopper(1, &second, |_| false).is_some()
        };
        for (place, &later) in ended.iter().enumerate() {
            for &earlier in &ended[place + 1..] {
                assert!(earlier > later || !touches(earlier, later), "seed {seed}: {later} passed {earlier}");
            }
        }
    }
}

/// Of many that wait for a few, only those are looked at whose turn has come.
#[test]
fn what_waits_costs_nothing_until_its_turn() {
    let now = Instant::now();
    let mut window = Window::new(Bounds { tasks: 10_000, bytes: usize::MAX, entries: 10_000, ..BOUNDS });
    let tasks = (0..4000).map(|number| if number % 20 == 0 { sweep("a*") } else { set(&format!("a{}", number % 7)) });
    window.add("0-0".into(), 4000, tasks.collect());
    let mut settled = 0;
    while settled < 4000 {
        let rounds = window.begin(now);
        assert!(!rounds.is_empty(), "it stands still after {settled}");
        assert!(window.ready.len() < 100, "{} are looked at again and again", window.ready.len());
        for round in rounds {
            settled += round.tasks.len();
            round.tasks.into_iter().for_each(|id| window.settle(id));
            window.round_ended();
        }
    }
}
