use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::event::outcome::Outcome;
use crate::event::wire::{Answered, EventResult};
use crate::event::{CacheKey, EventType, Few, Ttl};
use crate::pipeline::runtime::Notifier;
use crate::pipeline::work::admission::Admission;
use crate::pipeline::work::key_order::{KeyOrder, KeyUse};
use crate::pipeline::work::reply::{PendingReply, Slots, reply};
use crate::pipeline::write::pace::Paces;

const ALL: BatchLimits = BatchLimits { commands: 100, bytes: usize::MAX, repeats: 100 };
const LONG: Duration = Duration::from_secs(60);

/// A request's slots, one for each of these keys.
fn slots(keys: &[&'static str]) -> (Slots, PendingReply) {
    let answered = |key: &&'static str| Answered::begun(EventType::Set, Few::from_iter([(*key).into()]));
    let elements = keys.iter().map(answered).map(EventResult::Answered).collect();
    let (reply, pending) = reply(Admission::new(100, 100_000, 10).permit(), 100, None);
    (reply.begin(true, elements, Instant::now()), pending)
}

/// A queue of these: `+k` sets the key, `*k` does so for a while, `-k` deletes it, `?k` reads it.
fn queue(operations: &[&'static str], expires: Instant) -> (Queue, PendingReply) {
    let (key_order, keys) = (KeyOrder::new(), operations.iter().map(|operation| &operation[1..]).collect::<Vec<_>>());
    let (slots, pending) = slots(&keys);
    let mut outbox = Vec::new();
    for (operation, slot) in operations.iter().zip(slots) {
        let key = CacheKey::new_unchecked(&operation[1..]);
        let set =
            |ttl| Verb::Set { value: Bytes::from_static(b"12345678"), origin: Origin::Inline, ttl, carried: None };
        let action = match &operation[..1] {
            "+" => set(None),
            "*" => set(Ttl::from_seconds(60)),
            "-" => Verb::Delete,
            _ => Verb::Get,
        };
        let (ticket, _) = key_order.take(&key, KeyUse::Write, |_| 0);
        let deadline = Instant::now() + LONG;
        Ready::send(Operation { key, action, version: None, slot, ticket, deadline }, 100, &mut outbox);
    }
    let mut queue = Queue::new(LONG, Pace::new(Paces::new(), 0));
    queue.add(outbox.remove(0), expires - LONG);
    (queue, pending)
}

fn names((commands, _): &Batch) -> Vec<String> {
    let kind = |command: &Command| match command {
        Command::Set { ttl: None, .. } => '+',
        Command::Set { .. } => '*',
        Command::Delete { .. } => '-',
        Command::Get { .. } | Command::Look { .. } | Command::Expiry { .. } => '?',
        Command::Refresh { .. } => '=',
    };
    let name = |command: &Command| format!("{}{}", kind(command), command.key().as_str());
    commands.iter().map(name).collect()
}

fn later() -> Instant {
    Instant::now() + LONG
}

#[test]
fn a_key_that_is_read_and_written_needs_no_more_batches_than_others() {
    let (mut queue, _waiter) = queue(&["+a", "?a", "+a", "?b", "?a", "+c", "+b"], later());
    assert_eq!(names(&queue.next_batch(ALL, None, Instant::now())), ["+a", "+c", "?a", "?b", "+a", "?a", "+b"]);
    assert!(queue.is_empty());
}

#[test]
fn a_write_behind_a_read_is_left_for_the_next_batch_once_if_little_is() {
    let others = ["?1", "?2", "?3", "?4", "?5", "?6", "?7", "?8"];
    let (mut queue, _waiter) = queue(&[&["?a"], &others[..], &["-a", "+a", "+b", "?a", "-a", "+c"]].concat(), later());
    let now = Instant::now();
    let first = queue.next_batch(BatchLimits { commands: 11, ..ALL }, None, now);
    assert_eq!(names(&first), [&["?a"], &others[..]].concat(), "both that are left count");
    land(&mut queue, first, &[], now);
    let second = queue.next_batch(ALL, None, now);
    assert_eq!(names(&second), ["+b", "+c", "-a", "+a", "?a"], "the last came later, and may be left too");
    land(&mut queue, second, &[], now);
    assert_eq!(names(&queue.next_batch(ALL, None, now)), ["-a"]);
    assert!(queue.is_empty());
}

#[test]
fn what_was_left_once_stands_before_what_came_later_and_is_not_left_again() {
    let others = ["?1", "?2", "?3", "?4", "?5", "?6", "?7", "?8", "?9", "?10", "?11", "?12"];
    let (mut queue, _waiter) = queue(&[&["?a"], &others[..], &["+a", "?a", "-a"]].concat(), later());
    let now = Instant::now();
    let first = queue.next_batch(ALL, None, now);
    assert_eq!(names(&first), [&["?a"], &others[..]].concat());
    assert_eq!(queue.ready(), 3);
    land(&mut queue, first, &[], now);
    assert_eq!(names(&queue.next_batch(ALL, None, now)), ["+a", "?a", "-a"]);
}

#[test]
fn plain_sets_stand_first_and_reads_last_but_for_what_follows_something_else_on_its_key() {
    let (mut queue, _waiter) = queue(&["-a", "+b", "?c", "+d", "+a", "*b", "+b", "?a", "+d"], later());
    let batch = queue.next_batch(ALL, None, Instant::now());
    assert_eq!(names(&batch), ["+b", "+d", "+d", "-a", "+a", "*b", "+b", "?c", "?a"]);
}

/// Ends the batch: on these keys the cache refuses for now.
fn land(queue: &mut Queue, batch: Batch, refused: &[&str], now: Instant) {
    let mut again = Again::default();
    for (command, pending) in batch.0.into_iter().zip(batch.1) {
        let is_refused = refused.contains(&command.key().as_str());
        let result = if is_refused { Err(CacheError::RefusedForNow("redis answered OOM".into())) } else { Ok(()) };
        if queue.is_done(&mut again, &pending, &result) {
            pending.end.fail(Outcome::Deleted, now);
        } else {
            again.add(command, pending);
        }
    }
    queue.landed(again, now);
}

#[test]
fn what_is_refused_waits_for_its_time_and_with_it_what_comes_after_it_on_its_key() {
    let (mut queue, _waiter) = queue(&["+a", "+b", "?a", "-a", "+c", "+a"], later());
    let now = Instant::now();
    let first = queue.next_batch(BatchLimits { commands: 3, ..ALL }, None, now);
    assert_eq!(names(&first), ["+a", "+b", "?a"]);
    land(&mut queue, first, &["a"], now);
    let others = queue.next_batch(ALL, None, now);
    assert_eq!(names(&others), ["+c"]);
    land(&mut queue, others, &[], now);
    let mut now = now;
    for pause in [10, 20, 40, 80, 160, 250, 250].map(Duration::from_millis) {
        assert!(queue.next_batch(ALL, None, now).0.is_empty(), "a is not due");
        let due = queue.next_due().expect("a was refused");
        assert_eq!(due - now, pause);
        now = due;
        let probe = queue.next_batch(ALL, None, now);
        assert_eq!(names(&probe), ["+a"], "what is behind it need not be tried");
        land(&mut queue, probe, &["a"], now);
    }
    now = queue.next_due().expect("a was refused");
    let probe = queue.next_batch(ALL, None, now);
    land(&mut queue, probe, &[], now);
    assert_eq!(names(&queue.next_batch(ALL, None, now)), ["?a", "-a", "+a"]);
}

#[test]
fn while_nothing_is_accepted_one_key_is_tried_at_a_time_and_then_ever_more() {
    let keys = ["+a", "+b", "+c", "+d", "+e", "+f"];
    let (mut queue, _waiter) = queue(&keys, later());
    let all = ["a", "b", "c", "d", "e", "f"];
    let mut now = Instant::now();
    for tried in [6, 6, 1, 1] {
        let batch = queue.next_batch(ALL, None, now);
        assert_eq!(batch.0.len(), tried);
        land(&mut queue, batch, &all, now);
        now += Duration::from_secs(1);
    }
    for tried in [1, 2, 3] {
        let batch = queue.next_batch(ALL, None, now);
        assert_eq!(batch.0.len(), tried);
        land(&mut queue, batch, &[], now);
    }
    assert!(queue.is_empty());
}

#[test]
fn keys_that_wait_for_one_cause_are_not_held_up_by_those_that_wait_for_another() {
    let (mut queue, _waiter) = queue(&["+a", "+b", "+c"], later());
    let end = |queue: &mut Queue, batch: Batch, now: Instant| {
        let mut again = Again::default();
        for (command, pending) in batch.0.into_iter().zip(batch.1) {
            let cause = if command.key().as_str() == "d" { "it moves" } else { "a node is dead" };
            assert!(!queue.is_done::<()>(&mut again, &pending, &Err(CacheError::RefusedForNow(cause.into()))));
            again.add(command, pending);
        }
        queue.landed(again, now);
    };
    let mut now = Instant::now();
    for _ in 0..20 {
        let batch = queue.next_batch(ALL, None, now);
        end(&mut queue, batch, now);
        now = queue.next_due().expect("some wait");
    }
    // By now one key of the dead node is tried at a time, each quarter of a second.
    let (other, _other_waiter) = self::queue(&["+d"], later());
    queue.entries.extend(other.entries);
    for pause in [0, 10, 20, 40].map(Duration::from_millis) {
        now += pause;
        let batch = queue.next_batch(ALL, None, now);
        assert!(names(&batch).contains(&"+d".to_owned()), "after {pause:?}");
        end(&mut queue, batch, now);
    }
}

#[test]
fn a_line_that_breaks_brings_back_what_was_refused_and_what_was_not_in_order() {
    let (mut queue, _waiter) = queue(&["+a", "+b", "+a"], later());
    let now = Instant::now();
    let first = queue.next_batch(BatchLimits { commands: 1, ..ALL }, None, now);
    land(&mut queue, first, &["a"], now);
    let now = queue.next_due().expect("a was refused");
    let batch = queue.next_batch(ALL, None, now);
    assert_eq!(names(&batch), ["+a", "+b"]);
    queue.lost(batch.0.into_iter().zip(batch.1).collect(), now);
    let again = queue.next_batch(ALL, None, now);
    assert_eq!(names(&again), ["+a", "+b"]);
    land(&mut queue, again, &[], now);
    assert_eq!(names(&queue.next_batch(ALL, None, now)), ["+a"]);
}

#[test]
fn a_fence_waits_for_what_came_before_it_and_holds_nobody_up() {
    let passed = Arc::new(AtomicUsize::new(0));
    let count = passed.clone();
    let ends = Notifier::new(move |fence: FenceReached| {
        count.fetch_add(usize::from(fence.passed), SeqCst);
    });
    let heard = |count: usize| assert_eq!(passed.load(SeqCst), count);
    let fence = || ends.notice(FenceReached { epoch: 0, round: 0, writer: 0, passed: false });

    let (mut queue, _waiter) = queue(&["+a", "+b"], later());
    queue.entries.insert(1, QueueItem::Fence(2, fence()));
    let now = Instant::now();
    let first = queue.next_batch(ALL, None, now);
    assert_eq!(names(&first), ["+a"], "what is behind a fence does not share a batch with what is before it");
    land(&mut queue, first, &["a"], now);
    let second = queue.next_batch(ALL, None, now);
    assert_eq!(names(&second), ["+b"], "a is refused, and b need not wait for it");
    land(&mut queue, second, &[], now);
    heard(0);
    let now = queue.next_due().expect("a was refused");
    let third = queue.next_batch(ALL, None, now);
    assert_eq!(names(&third), ["+a"]);
    heard(0);
    land(&mut queue, third, &[], now);
    assert!(queue.next_batch(ALL, None, now).0.is_empty() && queue.is_empty());
    heard(1);

    let (mut queue, _waiter) = self::queue(&["+a", "+b"], now + LONG);
    queue.entries.insert(1, QueueItem::Fence(2, fence()));
    if let Some(QueueItem::Write(ready)) = queue.entries.front_mut() {
        ready.pending.expires = now;
    }
    assert_eq!(names(&queue.next_batch(ALL, None, now)), ["+b"], "behind what has expired, and a fence");
    heard(2);
}

#[test]
fn however_its_operations_leave_what_is_published_is_what_waits() {
    let now = Instant::now();
    let paces = Paces::new();
    let (mut of_100, _waiter) = queue(&["+a"; 100], now + LONG);
    let mut queue = Queue::new(LONG, Pace::new(paces.clone(), 0));
    let mut add = |queue: &mut Queue| {
        std::mem::swap(&mut queue.entries, &mut of_100.entries);
        queue.publish();
    };
    queue.pace().landed(FEW_DONE, Duration::from_secs(1), 1000);
    add(&mut queue);
    let is_late = || paces.late(|| now + LONG) != 0;
    assert!(is_late());
    let much_later = now + 2 * LONG;
    assert!(queue.next_batch(ALL, None, much_later).0.is_empty());
    assert!(!is_late(), "all have expired before a batch was made");
}

/// Operations in a second: as slow as can be measured.
const FEW_DONE: usize = 64;

#[test]
fn a_queue_of_alternating_reads_and_writes_of_one_key_is_not_gone_through_again_and_again() {
    let operations: Vec<&'static str> = ["?a", "*a"].into_iter().cycle().take(10_000).collect();
    let (mut queue, _waiter) = queue(&operations, later());
    let mut batches = 0;
    while !queue.is_empty() {
        let batch = queue.next_batch(ALL, None, Instant::now());
        assert_eq!(batch.0.len(), 100);
        batches += 1;
        land(&mut queue, batch, &[], Instant::now());
    }
    assert_eq!(batches, 100);
}

#[test]
fn a_batch_is_bounded_in_commands_and_bytes_but_takes_one_of_any_size() {
    let (mut queue, _waiter) = queue(&["+a", "+b", "+c", "+d"], later());
    assert_eq!(names(&queue.next_batch(BatchLimits { commands: 1, ..ALL }, None, Instant::now())), ["+a"]);
    assert_eq!(names(&queue.next_batch(BatchLimits { bytes: 1, ..ALL }, None, Instant::now())), ["+b"]);
    assert_eq!(names(&queue.next_batch(BatchLimits { bytes: 200, ..ALL }, None, Instant::now())), ["+c", "+d"]);
}

#[test]
fn what_has_expired_is_answered_and_not_sent() {
    let now = Instant::now();
    let (mut sent, pending) = queue(&["+a", "?b"], now);
    assert!(sent.next_batch(ALL, None, now).0.is_empty() && sent.is_empty());
    let (mut waiting, other) = queue(&["+a", "?b"], now);
    assert!(waiting.expire(None, now) && waiting.is_empty() && !waiting.expire(None, now));
    for pending in [pending, other] {
        let verdict = format!("{:?}", futures::executor::block_on(pending));
        assert_eq!(verdict.matches("CacheUnavailable").count(), 2, "{verdict}");
    }
}
