use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::event::wire::{Answered, Element};
use crate::event::{CacheKey, EventType, Few, Ttl};
use crate::pipeline::gate::Gate;
use crate::pipeline::job::{Slots, Waiter, reply};
use crate::pipeline::turns::Turns;

const ALL: Bounds = Bounds { commands: 100, bytes: usize::MAX, repeats: 100 };
const LONG: Duration = Duration::from_secs(60);

/// A request's slots, one for each of these keys.
fn slots(keys: &[&'static str]) -> (Slots, Waiter) {
    let answered = |key: &&'static str| Answered {
        id: None,
        event: EventType::Set,
        has_version: false,
        targets: Few::from_iter([(*key).into()]),
        outcomes: Few::new(),
        spent: Few::new(),
        age_when_accepted_ms: None,
    };
    let elements = keys.iter().map(answered).map(Element::Answered).collect();
    let (reply, waiter) = reply(Gate::new(100, 100_000, 10).permit(), 100, None);
    (reply.begin(true, elements, Instant::now()), waiter)
}

/// A queue of these: `+k` sets the key, `*k` does so for a while, `-k` deletes it, `?k` reads it.
fn queue(operations: &[&'static str], expires: Instant) -> (Queue, Waiter) {
    let (turns, keys) = (Turns::new(), operations.iter().map(|operation| &operation[1..]).collect::<Vec<_>>());
    let (slots, waiter) = slots(&keys);
    let mut outbox = Vec::new();
    for (operation, slot) in operations.iter().zip(slots) {
        let key = CacheKey::new_unchecked(&operation[1..]);
        let set = |ttl| Verb::Set { value: Bytes::from_static(b"12345678"), origin: Origin::Inline, ttl, held: None };
        let verb = match &operation[..1] {
            "+" => set(None),
            "*" => set(Ttl::from_seconds(60)),
            "-" => Verb::Delete,
            _ => Verb::Get,
        };
        let (turn, _) = turns.take(&key, false, |_| 0);
        let deadline = Instant::now() + LONG;
        Ready::send(Operation { key, verb, version: None, slot, turn, deadline }, 100, &mut outbox);
    }
    let mut queue = Queue::default();
    queue.add(outbox.remove(0), expires);
    (queue, waiter)
}

fn names((commands, _): &Batch) -> Vec<String> {
    let kind = |command: &Command| match command {
        Command::Set { ttl: None, .. } => '+',
        Command::Set { .. } => '*',
        Command::Delete { .. } => '-',
        Command::Get { .. } => '?',
    };
    let name = |command: &Command| format!("{}{}", kind(command), command.key().as_str());
    commands.iter().map(name).collect()
}

fn later() -> Instant {
    Instant::now() + LONG
}

#[test]
fn a_write_to_a_key_that_is_read_waits_for_the_next_batch_and_all_behind_it_on_the_key() {
    let (mut queue, _waiter) = queue(&["+a", "?a", "+a", "?b", "?a", "+c", "+b"], later());
    let first = queue.next_batch(ALL, Instant::now());
    assert_eq!(names(&first), ["+a", "+c", "?a", "?b"]);
    assert!(!queue.is_behind());
    assert_eq!(names(&queue.next_batch(ALL, Instant::now())), ["+a", "+b", "?a"]);
    assert!(queue.is_empty());
}

#[test]
fn plain_sets_stand_first_but_for_those_that_follow_something_else_on_their_keys() {
    let (mut queue, _waiter) = queue(&["-a", "+b", "?c", "+d", "+a", "*b", "+b", "?a", "+d"], later());
    let batch = queue.next_batch(ALL, Instant::now());
    assert_eq!(names(&batch), ["+b", "+d", "+d", "-a", "?c", "+a", "*b", "+b", "?a"]);
}

#[test]
fn what_has_failed_takes_its_share_and_holds_what_is_behind_it_on_its_key() {
    let (mut queue, _waiter) = queue(&["+a", "+b", "+a", "+c"], later());
    let (commands, mut pending) = queue.next_batch(Bounds { commands: 2, ..ALL }, Instant::now());
    pending.iter_mut().for_each(|pending| pending.is_repeated = true);
    queue.put_back(commands.into_iter().zip(pending));
    let none = queue.next_batch(Bounds { repeats: 0, ..ALL }, Instant::now());
    assert_eq!(names(&none), ["+c"]);
    assert!(queue.is_behind());
    let one = queue.next_batch(Bounds { repeats: 1, ..ALL }, Instant::now());
    assert_eq!(names(&one), ["+a", "+a"]);
    assert_eq!(names(&queue.next_batch(ALL, Instant::now())), ["+b"]);
}

#[test]
fn a_batch_is_bounded_in_commands_and_bytes_but_takes_one_of_any_size() {
    let (mut queue, _waiter) = queue(&["+a", "+b", "+c", "+d"], later());
    assert_eq!(names(&queue.next_batch(Bounds { commands: 1, ..ALL }, Instant::now())), ["+a"]);
    assert_eq!(names(&queue.next_batch(Bounds { bytes: 1, ..ALL }, Instant::now())), ["+b"]);
    assert_eq!(names(&queue.next_batch(Bounds { bytes: 200, ..ALL }, Instant::now())), ["+c", "+d"]);
}

#[test]
fn what_has_expired_is_answered_and_not_sent() {
    let now = Instant::now();
    let (mut sent, waiter) = queue(&["+a", "?b"], now);
    assert!(sent.next_batch(ALL, now).0.is_empty() && sent.is_empty());
    let (mut waiting, other) = queue(&["+a", "?b"], now);
    assert!(waiting.expire(now) && waiting.is_empty() && !waiting.expire(now));
    for waiter in [waiter, other] {
        let verdict = format!("{:?}", futures::executor::block_on(waiter));
        assert_eq!(verdict.matches("CacheUnavailable").count(), 2, "{verdict}");
    }
}
