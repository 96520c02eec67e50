use bytes::Bytes;
use bytestring::ByteString;

use super::*;
use crate::event::EventType;
use crate::pipeline::work::admission::Admission;

fn element(event: EventType, keys: &[&'static str]) -> EventResult {
    let targets = keys.iter().map(|key| ByteString::from_static(key)).collect();
    EventResult::Answered(Answered::begun(event, targets))
}

fn outcomes(verdict: Verdict) -> Vec<Vec<&'static str>> {
    let statuses = |answered: Answered| answered.outcomes.iter().map(Outcome::status).collect();
    match verdict {
        Verdict::One(answered) => vec![statuses(answered)],
        Verdict::Batch(elements) => elements
            .into_iter()
            .filter_map(|element| match element {
                EventResult::Answered(answered) => Some(statuses(answered)),
                EventResult::Invalid(_) => None,
            })
            .collect(),
        Verdict::Rejected(refusal) => panic!("refused: {refusal:?}"),
    }
}

#[test]
fn a_lost_reply_refuses_and_a_lost_slot_is_interrupted() {
    let admission = Admission::new(10, 10_000, 10);
    let (reply, pending) = reply(admission.permit(), 100, None);
    drop(reply);
    let verdict = futures::executor::block_on(pending);
    assert!(matches!(verdict, Verdict::Rejected(Rejection::Unavailable(ProblemKind::Interrupted))));

    let (reply, pending) = super::reply(admission.permit(), 100, None);
    let mut slots = reply.begin(false, vec![element(EventType::Delete, &["a", "b", "c"])], Instant::now());
    slots.next().unwrap().settle(Outcome::Absent, Instant::now());
    drop(slots.next());
    drop(slots);
    assert_eq!(outcomes(futures::executor::block_on(pending)), [["absent", "unavailable", "unavailable"]]);
}

#[test]
fn the_permit_is_held_until_the_last_slot_is_gone_even_after_the_answer() {
    let admission = Admission::new(10, 10_000, 10);
    let (reply, pending) = reply(admission.permit(), 100, None);
    reply.admit(1, 256, 256, 0).unwrap();
    let mut slots = reply.begin(false, vec![element(EventType::Get, &["a"])], Instant::now());
    let slot = slots.next().unwrap();
    assert_eq!(outcomes(pending.expire(ProblemKind::Timeout)), [["unavailable"]]);
    drop((pending, slots));
    assert_eq!(admission.in_use(), (1, 256));
    drop(slot);
    assert_eq!(admission.in_use(), (0, 0));
}

#[test]
fn an_unavailable_write_is_superseded_by_a_later_one_that_is_ok() {
    let admission = Admission::new(10, 10_000, 10);
    let (reply, pending) = reply(admission.permit(), 100, None);
    let elements = vec![
        element(EventType::Set, &["k", "other"]),
        element(EventType::Get, &["k"]),
        element(EventType::Delete, &["k"]),
    ];
    let slots: Vec<Slot> = reply.begin(true, elements, Instant::now()).collect();
    for (index, slot) in slots.into_iter().enumerate() {
        if index == 3 {
            slot.settle(Outcome::Deleted, Instant::now());
        }
    }
    assert_eq!(
        outcomes(futures::executor::block_on(pending)),
        [vec!["superseded", "unavailable"], vec!["unavailable"], vec!["deleted"]]
    );
}

/// The later one was left undone, so the earlier may be repeated.
#[test]
fn an_unavailable_write_is_not_superseded_by_a_later_one_that_was_superseded() {
    let admission = Admission::new(10, 10_000, 10);
    let (reply, pending) = reply(admission.permit(), 100, None);
    let elements = vec![element(EventType::Set, &["k"]), element(EventType::Set, &["k"])];
    let mut slots = reply.begin(true, elements, Instant::now());
    drop(slots.next());
    slots.for_each(|slot| slot.settle(Outcome::Superseded, Instant::now()));
    assert_eq!(outcomes(futures::executor::block_on(pending)), [["unavailable"], ["superseded"]]);
}

#[test]
fn values_beyond_the_answers_budget_are_rejected() {
    let admission = Admission::new(10, 10_000, 10);
    let (reply, pending) = reply(admission.permit(), 5, None);
    let slots: Vec<Slot> =
        reply.begin(false, vec![element(EventType::Get, &["a", "b", "c"])], Instant::now()).collect();
    for (slot, value) in slots.into_iter().zip(["123", "456", "78"]).rev() {
        slot.settle(Outcome::Hit(Bytes::from_static(value.as_bytes())), Instant::now());
    }
    assert_eq!(outcomes(futures::executor::block_on(pending)), [["hit", "rejected", "hit"]]);
}

#[test]
fn what_fits_the_answer_stays_in_whatever_order_values_come() {
    let admission = Admission::new(10, 10_000, 10);
    let (reply, pending) = reply(admission.permit(), 100, None);
    let slots = reply.begin(false, vec![element(EventType::Get, &["a", "b", "c", "d"])], Instant::now());
    let mut slots: Vec<Option<Slot>> = slots.map(Some).collect();
    for (index, bytes) in [(0, 90), (3, 5), (1, 90), (2, 90)] {
        slots[index].take().unwrap().settle(Outcome::Hit(Bytes::from(vec![b'v'; bytes])), Instant::now());
    }
    assert_eq!(outcomes(futures::executor::block_on(pending)), [["hit", "rejected", "rejected", "hit"]]);
}

#[test]
fn letting_go_of_values_takes_no_look_at_every_entry() {
    let admission = Admission::new(10, 10_000, 10);
    let (reply, pending) = reply(admission.permit(), 50, None);
    let slots = reply.begin(false, vec![element(EventType::Get, &["a"; 60_000])], Instant::now());
    let begin = Instant::now();
    slots.for_each(|slot| slot.settle(Outcome::Hit(Bytes::from_static(b"0123456789")), begin));
    assert!(begin.elapsed().as_secs() < 3, "{:?}", begin.elapsed());
    let statuses = outcomes(futures::executor::block_on(pending)).remove(0);
    assert!(statuses.iter().enumerate().all(|(index, status)| (*status == "hit") == (index < 5)));
}
