use std::time::Duration;

use super::*;
use crate::event::{BlobUrl, CacheKey, FetchTarget};

fn order(seq: Seq, host: &str) -> FetchRequest {
    let url = FetchTarget::Url(BlobUrl::parse(&format!("http://{host}/blob")).expect("a url"));
    FetchRequest::new(seq, CacheKey::new_unchecked("k"), url, Instant::now() + Duration::from_secs(1))
}

fn start(dispatch: &mut FetchScheduler) -> Vec<(usize, FetchRequest)> {
    std::iter::from_fn(|| dispatch.start_next(Instant::now())).collect()
}

/// One of two threads, with a fetcher each.
fn home(number: usize) -> WorkerThread {
    WorkerThread::new(number, 2)
}

fn all() -> WorkerThread {
    WorkerThread::new(0, 1)
}

/// Starts a fetch of the host at once, if it may.
fn at_once(dispatch: &mut FetchScheduler, host: &str, home: WorkerThread) -> Option<usize> {
    dispatch.start_at_once(&mut order(0, host), home, Instant::now())
}

/// Lets the hosts be known to be alive.
fn with_alive(mut dispatch: FetchScheduler, hosts: &[&str]) -> FetchScheduler {
    for host in hosts {
        let host = order(0, host).host;
        dispatch.hosts.entry(host.clone()).or_default();
        dispatch.answered(&host, Instant::now());
    }
    dispatch
}

fn seqs(started: &[(usize, FetchRequest)]) -> Vec<Seq> {
    started.iter().map(|(_, order)| order.seq).collect()
}

#[test]
fn a_busy_host_takes_no_slot_of_the_others_and_fetchers_share_the_load() {
    let mut dispatch = with_alive(FetchScheduler::new(2, 2, 2), &["a", "b"]);
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
fn hung(dispatch: &mut FetchScheduler, now: Instant) -> FetchRequest {
    for seq in 1..=3 {
        assert!(dispatch.submit(order(seq, "a"), now).is_ok());
    }
    let (_, mut first) = start(dispatch).remove(0);
    first.begin(now, PROBE_EVERY, PROBE_EVERY);
    first
}

#[test]
fn a_silent_host_gets_a_probe_once_in_a_while_until_it_answers() {
    let mut dispatch = FetchScheduler::new(1, 10, 1);
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
    let mut dispatch = FetchScheduler::new(1, 10, 1);
    let now = Instant::now();
    let mut first = hung(&mut dispatch, now);
    dispatch.answered(&first.host, now + PROBE_EVERY);
    dispatch.ended(0, &mut first);
    assert!(dispatch.was_silent(&first.host, first.attempt_begun).is_empty());
    assert_eq!(seqs(&start(&mut dispatch)), [2]);
}

#[test]
fn an_order_starts_at_once_only_where_it_is_in_nobodys_way() {
    let mut dispatch = with_alive(FetchScheduler::new(2, 2, 3), &["a", "b"]);
    assert_eq!(at_once(&mut dispatch, "a", home(1)), Some(1));
    assert_eq!(at_once(&mut dispatch, "a", all()), Some(0), "the least busy");
    assert_eq!(at_once(&mut dispatch, "a", home(1)), Some(1));
    assert_eq!(at_once(&mut dispatch, "a", home(0)), None, "the host has no room");
    assert_eq!(at_once(&mut dispatch, "b", home(1)), None, "the fetcher has no room");
    assert!(dispatch.submit(order(1, "a"), Instant::now()).is_ok());
    assert_eq!(at_once(&mut dispatch, "b", home(0)), None, "one waits for its turn");
    assert!(start(&mut dispatch).is_empty(), "the host has no room");
    assert_eq!(at_once(&mut dispatch, "b", home(0)), Some(0));
    dispatch.ended(0, &mut order(0, "a"));
    assert!(dispatch.has_turns());
}

#[test]
fn with_more_room_what_waits_starts_and_with_less_what_is_under_way_ends_where_it_is() {
    let mut dispatch = with_alive(FetchScheduler::new(1, 2, 1), &["a"]);
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
    let mut dispatch = FetchScheduler::new(1, 10, 1);
    let host: Arc<str> = "a:80".into();
    assert_eq!(at_once(&mut dispatch, "a", all()), Some(0));
    assert!(dispatch.submit(order(1, "a"), Instant::now()).is_ok());
    dispatch.ended(0, &mut order(0, "a"));
    assert_eq!(dispatch.was_silent(&host, None).len(), 1);
    assert!(start(&mut dispatch).is_empty());
    assert_eq!(at_once(&mut dispatch, "a", all()), None);
    dispatch.answered(&host, Instant::now());
    assert_eq!(at_once(&mut dispatch, "a", all()), Some(0));
}

/// Orders for so many hosts that were never asked, one each, from `first` on.
fn submit_hosts(dispatch: &mut FetchScheduler, first: Seq, count: u64) {
    for seq in first..first + count {
        assert!(dispatch.submit(order(seq, &format!("h{seq}")), Instant::now()).is_ok());
    }
}

#[test]
fn any_number_of_hosts_that_answer_nothing_leaves_the_places_of_those_that_are_alive() {
    let mut dispatch = with_alive(FetchScheduler::new(2, 64, 64), &["well"]);
    submit_hosts(&mut dispatch, 1, 10_000);
    let mut hung = start(&mut dispatch);
    assert_eq!(hung.len(), MAX_FEW);
    assert!(!dispatch.has_turns(), "nobody is to be woken for them");
    for _ in 0..64 {
        assert!(at_once(&mut dispatch, "well", all()).is_some());
    }
    // Heard nothing: asked again, they have other places than those that are new.
    for (fetcher, order) in &mut hung {
        dispatch.ended(*fetcher, order);
        dispatch.heard_nothing(&order.host, order.attempt_begun);
    }
    for (_, order) in hung {
        assert!(dispatch.submit(order, Instant::now()).is_ok());
    }
    let again = start(&mut dispatch);
    let asked = again.iter().filter(|(_, order)| order.liveness == Liveness::Asked).count();
    assert_eq!((asked, again.len()), (MAX_FEW / 2, MAX_FEW / 2 + MAX_FEW));
}

#[test]
fn a_host_that_was_never_asked_has_its_turn_soon_whatever_waits_before_it() {
    let mut dispatch = FetchScheduler::new(2, 64, 64);
    submit_hosts(&mut dispatch, 1, 10_000);
    let mut started = start(&mut dispatch);
    assert!(dispatch.submit(order(20_000, "well"), Instant::now()).is_ok());
    for _ in 0..2 {
        let (fetcher, mut ended) = started.remove(0);
        dispatch.ended(fetcher, &mut ended);
        started.extend(start(&mut dispatch));
    }
    assert!(seqs(&started).contains(&20_000), "the newest has every other turn");
    assert!(seqs(&started).contains(&2), "and the oldest the rest");
}

#[test]
fn what_a_host_was_asked_takes_no_place_of_the_few_once_it_answers() {
    let mut dispatch = FetchScheduler::new(1, 4, 4);
    for seq in 1..=4 {
        assert!(dispatch.submit(order(seq, "a"), Instant::now()).is_ok());
    }
    let mut started = start(&mut dispatch);
    assert_eq!(seqs(&started), [1, 2], "one as new, one as asked");
    dispatch.answered(&started[0].1.host.clone(), Instant::now());
    assert!(dispatch.has_turns());
    started.extend(start(&mut dispatch));
    assert_eq!(seqs(&started), [1, 2, 3, 4]);
    for (fetcher, order) in &mut started {
        dispatch.ended(*fetcher, order);
    }
    assert_eq!(dispatch.queues.each_ref().map(|queue| (queue.busy, queue.turns.len())), [(0, 0); 3]);
}

#[test]
fn an_attempt_that_hears_nothing_makes_room_once_others_wait_for_it_and_has_more_time_then() {
    let mut dispatch = FetchScheduler::new(1, 4, 4);
    let now = Instant::now();
    submit_hosts(&mut dispatch, 1, 2);
    let (fetcher, mut first) = start(&mut dispatch).remove(0);
    first.begin(now, 10 * PATIENCE, 20 * PATIENCE);
    assert!(!dispatch.gives_up(&first, now + 2 * PATIENCE), "nobody waits");
    submit_hosts(&mut dispatch, 3, 1);
    assert!(!dispatch.gives_up(&first, now));
    assert!(dispatch.gives_up(&first, now + PATIENCE));
    first.given_up = 1;
    assert!(!dispatch.gives_up(&first, now + PATIENCE));
    assert!(dispatch.gives_up(&first, now + 2 * PATIENCE));
    dispatch.answered(&first.host, now + PATIENCE);
    assert!(!dispatch.gives_up(&first, now + 2 * PATIENCE), "it answered somebody else");
    dispatch.ended(fetcher, &mut first);
}

#[test]
fn hosts_that_were_alive_and_hang_make_room_for_others() {
    let mut dispatch = with_alive(FetchScheduler::new(1, 4, 4), &["a", "b"]);
    let now = Instant::now() + PATIENCE;
    for seq in 1..=4 {
        assert!(dispatch.submit(order(seq, "a"), now).is_ok());
    }
    let mut hung = start(&mut dispatch);
    for (_, order) in &mut hung {
        order.begin(now, 10 * PATIENCE, 20 * PATIENCE);
    }
    assert!(dispatch.submit(order(5, "b"), now).is_ok());
    assert!(start(&mut dispatch).is_empty());
    let (fetcher, mut first) = hung.remove(0);
    assert!(dispatch.gives_up(&first, now + PATIENCE));
    dispatch.ended(fetcher, &mut first);
    dispatch.heard_nothing(&first.host, first.attempt_begun);
    assert_eq!(seqs(&start(&mut dispatch)), [5]);
    assert_eq!(dispatch.hosts[&first.host].liveness(), Liveness::Asked);
}

#[test]
fn what_is_too_late_is_done_with_before_the_newest() {
    let mut dispatch = FetchScheduler::new(1, 2, 2);
    submit_hosts(&mut dispatch, 1, 4);
    let late = Instant::now() + Duration::from_secs(2);
    for expected in 1..=4 {
        let (fetcher, mut order) = dispatch.start_next(late).expect("an order");
        assert_eq!(order.seq, expected);
        dispatch.ended(fetcher, &mut order);
    }
}

#[test]
fn a_bounded_number_of_hosts_is_remembered_those_first_that_answered_last() {
    let mut dispatch = FetchScheduler::new(1, 1, 1);
    for seq in 1..=5_000 {
        submit_hosts(&mut dispatch, seq, 1);
        let (fetcher, mut done) = start(&mut dispatch).remove(0);
        dispatch.ended(fetcher, &mut done);
        dispatch.answered(&done.host, Instant::now());
        assert!(dispatch.hosts.len() <= MAX_IDLE_HOSTS + 1);
    }
    let last = order(0, "h5000").host;
    assert_eq!(dispatch.hosts[&last].liveness(), Liveness::Alive);
    assert!(dispatch.queues.iter().all(|queue| queue.turns.is_empty()));
}

#[test]
fn a_host_that_asks_for_it_is_left_alone_and_the_others_are_not() {
    let mut dispatch = with_alive(FetchScheduler::new(1, 10, 1), &["a", "b"]);
    let now = Instant::now();
    for seq in 1..=2 {
        assert!(dispatch.submit(order(seq, "a"), now).is_ok());
    }
    let mut first = start(&mut dispatch).remove(0).1;
    let (host, until) = (first.host.clone(), now + Duration::from_millis(500));
    dispatch.ended(0, &mut first);
    assert!(dispatch.rest(&host, until, until).is_empty(), "the second can wait");
    assert!(dispatch.submit(order(3, "a"), now).is_ok());
    assert!(dispatch.submit(order(4, "b"), now).is_ok());
    assert_eq!(seqs(&start(&mut dispatch)), [4]);
    assert_eq!(at_once(&mut dispatch, "a", all()), None);
    dispatch.rested(&host, now);
    assert!(start(&mut dispatch).is_empty(), "too early");
    dispatch.rested(&host, until);
    assert_eq!(seqs(&start(&mut dispatch)), [2]);
}

#[test]
fn what_cannot_wait_until_a_host_may_be_asked_again_is_given_back() {
    let mut dispatch = with_alive(FetchScheduler::new(1, 10, 1), &["a"]);
    let now = Instant::now();
    for seq in 1..=2 {
        assert!(dispatch.submit(order(seq, "a"), now).is_ok());
    }
    let first = start(&mut dispatch).remove(0).1;
    let late = now + Duration::from_secs(60);
    let given_back = dispatch.rest(&first.host, late, now);
    assert_eq!(given_back.iter().map(|order| order.seq).collect::<Vec<_>>(), [2]);
    assert!(dispatch.submit(order(3, "a"), now).is_err());
    assert_eq!(dispatch.asked_until(&first.host), Some(late));
    dispatch.rested(&first.host, now);
    assert!(dispatch.submit(order(4, "a"), now).is_ok(), "it is asked again, and may say so once more");
}
