use std::sync::Mutex;
use std::thread;

use smallvec::smallvec;

use super::*;
use crate::event::pattern::Pattern;

fn key() -> CacheKey {
    CacheKey::new_unchecked("k")
}

#[test]
fn unfinished_operations_on_a_key_share_the_writer_that_the_first_has_chosen() {
    let key_order = KeyOrder::new();
    let (first, way) = key_order.take(&key(), KeyUse::Write, |_| 3);
    assert_eq!((first.writer(), way), (3, NextStep::Write));
    let (second, way) = key_order.take(&key(), KeyUse::Write, |_| 5);
    assert_eq!((second.writer(), way), (3, NextStep::Write));
    drop(first);
    let (third, _) = key_order.take(&key(), KeyUse::Write, |_| 5);
    assert_eq!(third.writer(), 3, "the second is still there");
    drop((second, third));
    assert_eq!(key_order.take(&key(), KeyUse::Write, |_| 5).0.writer(), 5);
}

#[test]
fn what_else_is_done_for_an_operation_keeps_its_key_where_it_is() {
    let key_order = KeyOrder::new();
    let (first, _) = key_order.take(&key(), KeyUse::WriteLater, |_| 3);
    let twin = first.twin();
    drop(first);
    let (second, way) = key_order.take(&key(), KeyUse::Write, |_| 5);
    assert_eq!((second.writer(), way), (3, NextStep::Route));
    drop((twin, second));
    assert_eq!(key_order.take(&key(), KeyUse::Write, |_| 5).0.writer(), 5, "all are given back");
}

#[test]
fn however_many_threads_take_turns_those_that_are_out_together_share_a_writer() {
    let key_order = KeyOrder::new();
    let out: Mutex<Vec<usize>> = Mutex::default();
    thread::scope(|scope| {
        for own in 0..4 {
            let out = &out;
            scope.spawn(move || {
                for _ in 0..20_000 {
                    let (ticket, _) = key_order.take(&key(), KeyUse::Write, |_| own);
                    let mut held = out.lock().unwrap();
                    assert!(held.iter().all(|writer| *writer == ticket.writer()), "{held:?}");
                    held.push(ticket.writer());
                    drop(held);
                    thread::yield_now();
                    out.lock().unwrap().pop();
                }
            });
        }
    });
    assert_eq!(key_order.take(&key(), KeyUse::Write, |_| 9).0.writer(), 9, "all key_order are given back");
}

#[test]
fn however_full_the_table_is_a_key_stays_with_its_writer_until_it_is_done() {
    let key_order = KeyOrder::new();
    let keys: Vec<CacheKey> =
        (0..3 * BUCKETS * PLACES).map(|number| CacheKey::new_unchecked(number.to_string())).collect();
    let mut held: Vec<Option<KeyTicket>> = keys
        .iter()
        .enumerate()
        .map(|(number, key)| Some(key_order.take(key, KeyUse::Write, |_| number % 64).0))
        .collect();
    for (number, key) in keys.iter().enumerate() {
        let before = held[number].take().unwrap();
        let (next, _) = key_order.take(key, KeyUse::Write, |_| 64);
        assert_eq!(next.writer(), before.writer());
        drop(before);
        held[number] = (number % 2 == 0).then_some(next);
    }
    for (key, ticket) in keys.iter().zip(&held) {
        let Some(ticket) = ticket else { continue };
        assert_eq!(key_order.take(key, KeyUse::Write, |_| 64).0.writer(), ticket.writer());
    }
    drop(held);
    assert!(keys.iter().all(|key| key_order.take(key, KeyUse::Write, |_| 64).0.writer() == 64), "all are given back");
}

#[test]
fn behind_one_that_waits_all_go_through_the_router_until_the_key_is_done() {
    let key_order = KeyOrder::new();
    let (first, _) = key_order.take(&key(), KeyUse::Write, |_| 1);
    let (blob, way) = key_order.take(&key(), KeyUse::WriteLater, |_| 2);
    assert_eq!((blob.writer(), way), (1, NextStep::Route));
    drop(blob);
    let (behind, way) = key_order.take(&key(), KeyUse::Write, |_| 2);
    assert_eq!((behind.writer(), way), (1, NextStep::Route));
    drop((first, behind));
    let (next, way) = key_order.take(&key(), KeyUse::Write, |_| 2);
    assert_eq!((next.writer(), way), (2, NextStep::Write));
}

#[test]
fn a_key_is_noted_as_long_as_a_turn_on_it_is_out() {
    let key_order = KeyOrder::new();
    let take = |key: &str| key_order.take(&CacheKey::new_unchecked(key.to_owned()), KeyUse::Write, |_| 0).0;
    let (first, again, other) = (take("k"), take("k"), take("other"));
    let mut noted = TicketSet::default();
    assert!(!noted.has(&first));
    noted.add(&first);
    drop(first);
    assert!(noted.has(&again) && !noted.has(&other));
    noted.clear();
    assert!(!noted.has(&again));
    noted.add(&again);
    noted.add(&other);
    noted.remove(again.key_place());
    assert!(!noted.has(&again) && noted.has(&other));
    assert_eq!(key_order.writer_of(&key()), Some(0));
    drop((again, other));
    assert_eq!(key_order.writer_of(&key()), None);
}

#[test]
fn while_a_pattern_is_not_done_what_it_matches_goes_through_the_router_and_nothing_else() {
    let key_order = KeyOrder::new();
    let put_up = |text: &'static str, holds: bool| {
        let patterns = smallvec![Pattern::parse(text, true).unwrap()];
        let mut put_up = None;
        key_order.barriers().put_up(patterns, holds, |barrier| put_up = Some(barrier));
        put_up.unwrap()
    };
    let take = |key: &'static str, key_use| key_order.take(&CacheKey::new_unchecked(key), key_use, |_| 1);
    let (first, second, looks) = (put_up("k*", true), put_up("k*", true), put_up("*", false));
    assert!(first.id() < second.id() && second.id() < looks.id());
    let (ticket, way) = take("k1", KeyUse::Write);
    assert_eq!((way, ticket.behind()), (NextStep::Route, Some(second.id())));
    let (other, way) = take("other", KeyUse::Write);
    assert_eq!((way, other.behind()), (NextStep::Write, None));
    let (blob, way) = take("blob", KeyUse::WriteLater);
    assert_eq!((way, blob.behind()), (NextStep::Direct, None));
    drop(second);
    let (ticket, _) = take("k2", KeyUse::WriteLater);
    assert_eq!(ticket.behind(), Some(first.id()));
    assert!(key_order.barriers().stands(first.id()));
    drop((first, ticket));
    assert_eq!(take("k2", KeyUse::Write).1, NextStep::Write);
    assert!(!key_order.barriers().are_there());
}
