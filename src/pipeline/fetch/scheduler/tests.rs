use std::time::Duration;

use super::*;
use crate::event::{BlobUrl, CacheKey, FetchTarget};

fn order(seq: Seq, host: &str) -> FetchRequest {
    let url = FetchTarget::Url(BlobUrl::parse(&format!("http://{host}/blob")).expect("a url"));
    FetchRequest::new(seq, CacheKey::new_unchecked("k"), url, Instant::now() + Duration::from_secs(1))
}

fn start(scheduler: &mut FetchScheduler) -> Vec<(usize, FetchRequest)> {
    std::iter::from_fn(|| scheduler.start_next(Instant::now())).collect()
}

/// One of two threads, with a fetcher each.
fn home(number: usize) -> WorkerThread {
    WorkerThread::new(number, 2)
}

fn all() -> WorkerThread {
    WorkerThread::new(0, 1)
}

/// Starts a fetch of the host at once, if it may.
fn at_once(scheduler: &mut FetchScheduler, host: &str, home: WorkerThread) -> Option<usize> {
    scheduler.start_at_once(&mut order(0, host), home, Instant::now())
}

/// Lets the hosts be known to be alive.
fn with_alive(mut scheduler: FetchScheduler, hosts: &[&str]) -> FetchScheduler {
    for host in hosts {
        let host = order(0, host).host;
        scheduler.hosts.entry(host.clone()).or_default();
        scheduler.answered(&host, Instant::now());
    }
    scheduler
}

fn seqs(started: &[(usize, FetchRequest)]) -> Vec<Seq> {
    started.iter().map(|(_, order)| order.seq).collect()
}

#[test]
fn a_busy_host_takes_no_slot_of_the_others_and_fetchers_share_the_load() {
    let mut scheduler = with_alive(FetchScheduler::new(2, 2, 2), &["a", "b"]);
    for seq in 1..=5 {
        assert!(scheduler.submit(order(seq, "a"), Instant::now()).is_ok());
    }
    assert!(scheduler.submit(order(6, "b"), Instant::now()).is_ok());
    let mut started = start(&mut scheduler);
    assert_eq!(seqs(&started), [1, 6, 2]);
    assert_eq!(started.iter().filter(|(fetcher, _)| *fetcher == 0).count(), 2);
    let (fetcher, order) = &mut started[0];
    scheduler.ended(*fetcher, order);
    assert_eq!(seqs(&start(&mut scheduler)), [3]);
}

/// A host at which an attempt hangs and two more orders wait; the attempt.
fn hung(scheduler: &mut FetchScheduler, now: Instant) -> FetchRequest {
    for seq in 1..=3 {
        assert!(scheduler.submit(order(seq, "a"), now).is_ok());
    }
    let (_, mut first) = start(scheduler).remove(0);
    first.begin(now, PROBE_EVERY, PROBE_EVERY);
    first
}

#[test]
fn a_silent_host_gets_a_probe_once_in_a_while_until_it_answers() {
    let mut scheduler = FetchScheduler::new(1, 10, 1);
    let now = Instant::now();
    let mut first = hung(&mut scheduler, now);
    scheduler.ended(0, &mut first);
    let host = first.host.clone();
    let given_back = scheduler.was_silent(&host, first.attempt_begun, now);
    assert_eq!(given_back.iter().map(|order| order.seq).collect::<Vec<_>>(), [2, 3]);
    assert!(scheduler.submit(first, now).is_ok(), "the probe");
    assert!(scheduler.submit(order(4, "a"), now).is_err());
    assert_eq!(seqs(&start(&mut scheduler)), [1]);
    assert!(scheduler.submit(order(5, "a"), now + PROBE_EVERY).is_ok(), "though the one before it hangs");
    assert!(scheduler.submit(order(6, "a"), now + PROBE_EVERY).is_err());
    let (_, mut probe) = start(&mut scheduler).remove(0);
    scheduler.ended(0, &mut probe);
    scheduler.answered(&host, now);
    assert!(scheduler.submit(order(7, "a"), now).is_ok());
    assert!(scheduler.submit(order(8, "a"), now).is_ok());
    assert_eq!(seqs(&start(&mut scheduler)), [7], "the probe that hangs takes no slot");
}

#[test]
fn a_host_that_is_down_counts_as_long_as_something_names_it() {
    let mut scheduler = FetchScheduler::new(1, 10, 1);
    let now = Instant::now();
    let mut first = hung(&mut scheduler, now);
    scheduler.ended(0, &mut first);
    assert_eq!(scheduler.hosts_down(now), 0);
    // Its attempt took longer than the time for which it counts.
    let silent = now + COUNTED_FOR * 2;
    scheduler.was_silent(&first.host, first.attempt_begun, silent);
    assert_eq!([silent, silent + COUNTED_FOR].map(|at| scheduler.hosts_down(at)), [1, 0]);
    let named = silent + COUNTED_FOR * 3;
    for later in [named, named + COUNTED_FOR / 2] {
        let _ = scheduler.submit(order(4, "a"), later);
        let _ = scheduler.submit(order(5, "a"), later);
    }
    let last = named + COUNTED_FOR / 2;
    assert_eq!([last + COUNTED_FOR - PROBE_EVERY, last + COUNTED_FOR].map(|at| scheduler.hosts_down(at)), [1, 0]);
    scheduler.answered(&first.host, last);
    assert_eq!(scheduler.hosts_down(last), 0);
}

#[test]
fn that_a_host_is_down_is_told_once_a_minute_and_how_long_it_was_at_the_end() {
    let mut scheduler = FetchScheduler::new(1, 10, 1);
    let now = Instant::now();
    let mut first = hung(&mut scheduler, now);
    scheduler.ended(0, &mut first);
    assert!(scheduler.take_news().is_empty());
    scheduler.was_silent(&first.host, first.attempt_begun, now + PROBE_EVERY);
    assert_eq!(scheduler.take_news().len(), 1, "it has begun");
    for second in 2..60 {
        let _ = scheduler.submit(order(second, "a"), now + PROBE_EVERY * second as u32);
        assert!(scheduler.take_news().is_empty(), "{second}");
    }
    let _ = scheduler.submit(order(61, "a"), now + PROBE_EVERY * 61);
    assert_eq!(scheduler.take_news().len(), 1, "it lasts");
    scheduler.answered(&first.host, now + PROBE_EVERY * 62);
    scheduler.answered(&first.host, now + PROBE_EVERY * 63);
    assert_eq!(scheduler.take_news().len(), 1, "it is over");
}

#[test]
fn what_a_host_was_asked_before_it_answered_says_nothing() {
    let mut scheduler = FetchScheduler::new(1, 10, 1);
    let now = Instant::now();
    let mut first = hung(&mut scheduler, now);
    scheduler.answered(&first.host, now + PROBE_EVERY);
    scheduler.ended(0, &mut first);
    assert!(scheduler.was_silent(&first.host, first.attempt_begun, Instant::now()).is_empty());
    assert_eq!(seqs(&start(&mut scheduler)), [2]);
}

#[test]
fn an_order_starts_at_once_only_where_it_is_in_nobodys_way() {
    let mut scheduler = with_alive(FetchScheduler::new(2, 2, 3), &["a", "b"]);
    assert_eq!(at_once(&mut scheduler, "a", home(1)), Some(1));
    assert_eq!(at_once(&mut scheduler, "a", all()), Some(0), "the least busy");
    assert_eq!(at_once(&mut scheduler, "a", home(1)), Some(1));
    assert_eq!(at_once(&mut scheduler, "a", home(0)), None, "the host has no room");
    assert_eq!(at_once(&mut scheduler, "b", home(1)), None, "the fetcher has no room");
    assert!(scheduler.submit(order(1, "a"), Instant::now()).is_ok());
    assert_eq!(at_once(&mut scheduler, "b", home(0)), None, "one waits for its turn");
    assert!(start(&mut scheduler).is_empty(), "the host has no room");
    assert_eq!(at_once(&mut scheduler, "b", home(0)), Some(0));
    scheduler.ended(0, &mut order(0, "a"));
    assert!(scheduler.has_turns());
}

#[test]
fn with_more_room_what_waits_starts_and_with_less_what_is_under_way_ends_where_it_is() {
    let mut scheduler = with_alive(FetchScheduler::new(1, 2, 1), &["a"]);
    for seq in 1..=6 {
        assert!(scheduler.submit(order(seq, "a"), Instant::now()).is_ok());
    }
    let mut started = start(&mut scheduler);
    assert_eq!(seqs(&started), [1]);
    assert!(!scheduler.has_turns(), "the host has no room");
    scheduler.resize(2, 2, 3);
    started.extend(start(&mut scheduler));
    assert_eq!(seqs(&started), [1, 2, 3]);
    scheduler.resize(1, 1, 2);
    assert!(started.iter().any(|(fetcher, _)| *fetcher == 1));
    for (fetcher, order) in &mut started {
        assert!(scheduler.busy.iter().sum::<usize>() > 0);
        scheduler.ended(*fetcher, order);
    }
    assert_eq!(scheduler.busy, [0, 0]);
    let next = start(&mut scheduler);
    assert_eq!((seqs(&next), next[0].0), (vec![4], 0), "only the one that is left is given orders");
}

#[test]
fn no_order_starts_at_once_on_a_host_that_is_down() {
    let mut scheduler = FetchScheduler::new(1, 10, 1);
    let host: Arc<str> = "a:80".into();
    assert_eq!(at_once(&mut scheduler, "a", all()), Some(0));
    assert!(scheduler.submit(order(1, "a"), Instant::now()).is_ok());
    scheduler.ended(0, &mut order(0, "a"));
    assert_eq!(scheduler.was_silent(&host, None, Instant::now()).len(), 1);
    assert!(start(&mut scheduler).is_empty());
    assert_eq!(at_once(&mut scheduler, "a", all()), None);
    scheduler.answered(&host, Instant::now());
    assert_eq!(at_once(&mut scheduler, "a", all()), Some(0));
}

/// Orders for so many hosts that were never asked, one each, from `first` on.
fn submit_hosts(scheduler: &mut FetchScheduler, first: Seq, count: u64) {
    for seq in first..first + count {
        assert!(scheduler.submit(order(seq, &format!("h{seq}")), Instant::now()).is_ok());
    }
}

#[test]
fn any_number_of_hosts_that_answer_nothing_leaves_the_places_of_those_that_are_alive() {
    let mut scheduler = with_alive(FetchScheduler::new(2, 64, 64), &["well"]);
    submit_hosts(&mut scheduler, 1, 10_000);
    let mut hung = start(&mut scheduler);
    assert_eq!(hung.len(), MAX_FEW);
    assert!(!scheduler.has_turns(), "nobody is to be woken for them");
    for _ in 0..64 {
        assert!(at_once(&mut scheduler, "well", all()).is_some());
    }
    // Heard nothing: asked again, they have other places than those that are new.
    for (fetcher, order) in &mut hung {
        scheduler.ended(*fetcher, order);
        scheduler.heard_nothing(&order.host, order.attempt_begun);
    }
    for (_, order) in hung {
        assert!(scheduler.submit(order, Instant::now()).is_ok());
    }
    let again = start(&mut scheduler);
    let asked = again.iter().filter(|(_, order)| order.liveness == Liveness::Asked).count();
    assert_eq!((asked, again.len()), (MAX_FEW / 2, MAX_FEW / 2 + MAX_FEW));
}

#[test]
fn a_host_that_was_never_asked_has_its_turn_soon_whatever_waits_before_it() {
    let mut scheduler = FetchScheduler::new(2, 64, 64);
    submit_hosts(&mut scheduler, 1, 10_000);
    let mut started = start(&mut scheduler);
    assert!(scheduler.submit(order(20_000, "well"), Instant::now()).is_ok());
    for _ in 0..2 {
        let (fetcher, mut ended) = started.remove(0);
        scheduler.ended(fetcher, &mut ended);
        started.extend(start(&mut scheduler));
    }
    assert!(seqs(&started).contains(&20_000), "the newest has every other turn");
    assert!(seqs(&started).contains(&2), "and the oldest the rest");
}

#[test]
fn what_a_host_was_asked_takes_no_place_of_the_few_once_it_answers() {
    let mut scheduler = FetchScheduler::new(1, 4, 4);
    for seq in 1..=4 {
        assert!(scheduler.submit(order(seq, "a"), Instant::now()).is_ok());
    }
    let mut started = start(&mut scheduler);
    assert_eq!(seqs(&started), [1, 2], "one as new, one as asked");
    scheduler.answered(&started[0].1.host.clone(), Instant::now());
    assert!(scheduler.has_turns());
    started.extend(start(&mut scheduler));
    assert_eq!(seqs(&started), [1, 2, 3, 4]);
    for (fetcher, order) in &mut started {
        scheduler.ended(*fetcher, order);
    }
    assert_eq!(scheduler.queues.each_ref().map(|queue| (queue.busy, queue.turns.len())), [(0, 0); 3]);
}

#[test]
fn an_attempt_that_hears_nothing_makes_room_once_others_wait_for_it_and_has_more_time_then() {
    let mut scheduler = FetchScheduler::new(1, 4, 4);
    let now = Instant::now();
    submit_hosts(&mut scheduler, 1, 2);
    let (fetcher, mut first) = start(&mut scheduler).remove(0);
    first.begin(now, 10 * PATIENCE, 20 * PATIENCE);
    assert!(!scheduler.gives_up(&first, now + 2 * PATIENCE), "nobody waits");
    submit_hosts(&mut scheduler, 3, 1);
    assert!(!scheduler.gives_up(&first, now));
    assert!(scheduler.gives_up(&first, now + PATIENCE));
    first.given_up = 1;
    assert!(!scheduler.gives_up(&first, now + PATIENCE));
    assert!(scheduler.gives_up(&first, now + 2 * PATIENCE));
    scheduler.answered(&first.host, now + PATIENCE);
    assert!(!scheduler.gives_up(&first, now + 2 * PATIENCE), "it answered somebody else");
    scheduler.ended(fetcher, &mut first);
}

#[test]
fn hosts_that_were_alive_and_hang_make_room_for_others() {
    let mut scheduler = with_alive(FetchScheduler::new(1, 4, 4), &["a", "b"]);
    let now = Instant::now() + PATIENCE;
    for seq in 1..=4 {
        assert!(scheduler.submit(order(seq, "a"), now).is_ok());
    }
    let mut hung = start(&mut scheduler);
    for (_, order) in &mut hung {
        order.begin(now, 10 * PATIENCE, 20 * PATIENCE);
    }
    assert!(scheduler.submit(order(5, "b"), now).is_ok());
    assert!(start(&mut scheduler).is_empty());
    let (fetcher, mut first) = hung.remove(0);
    assert!(scheduler.gives_up(&first, now + PATIENCE));
    scheduler.ended(fetcher, &mut first);
    scheduler.heard_nothing(&first.host, first.attempt_begun);
    assert_eq!(seqs(&start(&mut scheduler)), [5]);
    assert_eq!(scheduler.hosts[&first.host].liveness(), Liveness::Asked);
}

#[test]
fn what_is_too_late_is_done_with_before_the_newest() {
    let mut scheduler = FetchScheduler::new(1, 2, 2);
    submit_hosts(&mut scheduler, 1, 4);
    let late = Instant::now() + Duration::from_secs(2);
    for expected in 1..=4 {
        let (fetcher, mut order) = scheduler.start_next(late).expect("an order");
        assert_eq!(order.seq, expected);
        scheduler.ended(fetcher, &mut order);
    }
}

#[test]
fn a_bounded_number_of_hosts_is_remembered_those_first_that_answered_last() {
    let mut scheduler = FetchScheduler::new(1, 1, 1);
    for seq in 1..=5_000 {
        submit_hosts(&mut scheduler, seq, 1);
        let (fetcher, mut done) = start(&mut scheduler).remove(0);
        scheduler.ended(fetcher, &mut done);
        scheduler.answered(&done.host, Instant::now());
        assert!(scheduler.hosts.len() <= MAX_IDLE_HOSTS + 1);
    }
    let last = order(0, "h5000").host;
    assert_eq!(scheduler.hosts[&last].liveness(), Liveness::Alive);
    assert!(scheduler.queues.iter().all(|queue| queue.turns.is_empty()));
}

#[test]
fn a_host_that_asks_for_it_is_left_alone_and_the_others_are_not() {
    let mut scheduler = with_alive(FetchScheduler::new(1, 10, 1), &["a", "b"]);
    let now = Instant::now();
    for seq in 1..=2 {
        assert!(scheduler.submit(order(seq, "a"), now).is_ok());
    }
    let mut first = start(&mut scheduler).remove(0).1;
    let (host, until) = (first.host.clone(), now + Duration::from_millis(500));
    scheduler.ended(0, &mut first);
    assert!(scheduler.rest(&host, until, until).is_empty(), "the second can wait");
    assert!(scheduler.submit(order(3, "a"), now).is_ok());
    assert!(scheduler.submit(order(4, "b"), now).is_ok());
    assert_eq!(seqs(&start(&mut scheduler)), [4]);
    assert_eq!(at_once(&mut scheduler, "a", all()), None);
    scheduler.rested(&host, now);
    assert!(start(&mut scheduler).is_empty(), "too early");
    scheduler.rested(&host, until);
    assert_eq!(seqs(&start(&mut scheduler)), [2]);
}

#[test]
fn what_cannot_wait_until_a_host_may_be_asked_again_is_given_back() {
    let mut scheduler = with_alive(FetchScheduler::new(1, 10, 1), &["a"]);
    let now = Instant::now();
    for seq in 1..=2 {
        assert!(scheduler.submit(order(seq, "a"), now).is_ok());
    }
    let first = start(&mut scheduler).remove(0).1;
    let late = now + Duration::from_secs(60);
    let given_back = scheduler.rest(&first.host, late, now);
    assert_eq!(given_back.iter().map(|order| order.seq).collect::<Vec<_>>(), [2]);
    assert!(scheduler.submit(order(3, "a"), now).is_err());
    assert_eq!(scheduler.asked_until(&first.host), Some(late));
    scheduler.rested(&first.host, now);
    assert!(scheduler.submit(order(4, "a"), now).is_ok(), "it is asked again, and may say so once more");
}
