use super::*;
use std::time::Duration;

fn order(seq: Seq, host: &str) -> Order {
    let url = BlobUrl::parse(&format!("http://{host}/blob")).expect("a url");
    Order::new(seq, CacheKey::new_unchecked("k"), url, Instant::now() + Duration::from_secs(1))
}

fn start(dispatch: &mut Dispatch) -> Vec<(usize, Order)> {
    std::iter::from_fn(|| dispatch.start_next()).collect()
}

/// One of two threads, with a fetcher each.
fn home(number: usize) -> Home {
    Home::new(number, 2)
}

fn all() -> Home {
    Home::new(0, 1)
}

fn seqs(started: &[(usize, Order)]) -> Vec<Seq> {
    started.iter().map(|(_, order)| order.seq).collect()
}

#[test]
fn a_busy_host_takes_no_slot_of_the_others_and_fetchers_share_the_load() {
    let mut dispatch = Dispatch::new(2, 2, 2);
    for seq in 1..=5 {
        assert!(dispatch.submit(order(seq, "a"), Instant::now()).is_ok());
    }
    assert!(dispatch.submit(order(6, "b"), Instant::now()).is_ok());
    let mut started = start(&mut dispatch);
    assert_eq!(seqs(&started), [1, 6, 2]);
    assert_eq!(started.iter().filter(|(fetcher, _)| *fetcher == 0).count(), 2);
    let (fetcher, order) = &mut started[0];
    dispatch.ended(*fetcher, order);
    assert_eq!(seqs(&start(&mut dispatch)), [3]);
}

/// A host at which an attempt hangs and two more orders wait; the attempt.
fn hung(dispatch: &mut Dispatch, now: Instant) -> Order {
    for seq in 1..=3 {
        assert!(dispatch.submit(order(seq, "a"), now).is_ok());
    }
    let (_, mut first) = start(dispatch).remove(0);
    first.begin(now, PROBE_EVERY, PROBE_EVERY);
    first
}

#[test]
fn a_silent_host_gets_a_probe_once_in_a_while_until_it_answers() {
    let mut dispatch = Dispatch::new(1, 10, 1);
    let now = Instant::now();
    let mut first = hung(&mut dispatch, now);
    dispatch.ended(0, &mut first);
    let host = first.host.clone();
    let given_back = dispatch.was_silent(&host, first.attempt_begun);
    assert_eq!(given_back.iter().map(|order| order.seq).collect::<Vec<_>>(), [2, 3]);
    assert!(dispatch.submit(first, now).is_ok(), "the probe");
    assert!(dispatch.submit(order(4, "a"), now).is_err());
    assert_eq!(seqs(&start(&mut dispatch)), [1]);
    assert!(dispatch.submit(order(5, "a"), now + PROBE_EVERY).is_ok(), "though the one before it hangs");
    assert!(dispatch.submit(order(6, "a"), now + PROBE_EVERY).is_err());
    let (_, mut probe) = start(&mut dispatch).remove(0);
    dispatch.ended(0, &mut probe);
    dispatch.answered(&host, now);
    assert!(dispatch.submit(order(7, "a"), now).is_ok());
    assert!(dispatch.submit(order(8, "a"), now).is_ok());
    assert_eq!(seqs(&start(&mut dispatch)), [7], "the probe that hangs takes no slot");
}

#[test]
fn what_a_host_was_asked_before_it_answered_says_nothing() {
    let mut dispatch = Dispatch::new(1, 10, 1);
    let now = Instant::now();
    let mut first = hung(&mut dispatch, now);
    dispatch.answered(&first.host, now + PROBE_EVERY);
    dispatch.ended(0, &mut first);
    assert!(dispatch.was_silent(&first.host, first.attempt_begun).is_empty());
    assert_eq!(seqs(&start(&mut dispatch)), [2]);
}

#[test]
fn an_order_starts_at_once_only_where_it_is_in_nobodys_way() {
    let mut dispatch = Dispatch::new(2, 2, 3);
    let (a, b): (Arc<str>, Arc<str>) = ("a:80".into(), "b:80".into());
    assert_eq!(dispatch.start_at_once(&a, home(1)), Some(1));
    assert_eq!(dispatch.start_at_once(&a, all()), Some(0), "the least busy");
    assert_eq!(dispatch.start_at_once(&a, home(1)), Some(1));
    assert_eq!(dispatch.start_at_once(&a, home(0)), None, "the host has no room");
    assert_eq!(dispatch.start_at_once(&b, home(1)), None, "the fetcher has no room");
    assert!(dispatch.submit(order(1, "a"), Instant::now()).is_ok());
    assert_eq!(dispatch.start_at_once(&b, home(0)), None, "one waits for its turn");
    assert!(dispatch.start_next().is_none(), "the host has no room");
    assert_eq!(dispatch.start_at_once(&b, home(0)), Some(0));
    dispatch.ended(0, &mut order(0, "a"));
    assert!(dispatch.has_turns());
}

#[test]
fn with_more_room_what_waits_starts_and_with_less_what_is_under_way_ends_where_it_is() {
    let mut dispatch = Dispatch::new(1, 2, 1);
    for seq in 1..=6 {
        assert!(dispatch.submit(order(seq, "a"), Instant::now()).is_ok());
    }
    let mut started = start(&mut dispatch);
    assert_eq!(seqs(&started), [1]);
    assert!(!dispatch.has_turns(), "the host has no room");
    dispatch.resize(2, 2, 3);
    started.extend(start(&mut dispatch));
    assert_eq!(seqs(&started), [1, 2, 3]);
    dispatch.resize(1, 1, 2);
    assert!(started.iter().any(|(fetcher, _)| *fetcher == 1));
    for (fetcher, order) in &mut started {
        assert!(dispatch.busy.iter().sum::<usize>() > 0);
        dispatch.ended(*fetcher, order);
    }
    assert_eq!(dispatch.busy, [0, 0]);
    let next = start(&mut dispatch);
    assert_eq!((seqs(&next), next[0].0), (vec![4], 0), "only the one that is left is given orders");
}

#[test]
fn no_order_starts_at_once_on_a_host_that_is_down() {
    let mut dispatch = Dispatch::new(1, 10, 1);
    let host: Arc<str> = "a:80".into();
    assert_eq!(dispatch.start_at_once(&host, all()), Some(0));
    assert!(dispatch.submit(order(1, "a"), Instant::now()).is_ok());
    dispatch.ended(0, &mut order(0, "a"));
    assert_eq!(dispatch.was_silent(&host, None).len(), 1);
    assert!(start(&mut dispatch).is_empty());
    assert_eq!(dispatch.start_at_once(&host, all()), None);
    dispatch.answered(&host, Instant::now());
    assert_eq!(dispatch.start_at_once(&host, all()), Some(0));
}

#[test]
fn nothing_is_remembered_of_a_host_that_is_done() {
    let mut dispatch = Dispatch::new(1, 1, 1);
    assert!(dispatch.submit(order(1, "a"), Instant::now()).is_ok());
    let (fetcher, mut done) = dispatch.start_next().expect("an order");
    dispatch.ended(fetcher, &mut done);
    assert!(dispatch.hosts.is_empty() && dispatch.turns.is_empty());
}
