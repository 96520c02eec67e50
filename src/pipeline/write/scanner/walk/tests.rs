use std::sync::Arc;

use futures::future::{FutureExt, LocalBoxFuture, ready};

use super::*;
use crate::cache::embedded::EmbeddedCache;
use crate::cache::{Cache, Command, Incoming, Progress, Reply, StreamError, Unlinked};
use crate::event::outcome::Outcome;
use crate::event::pattern::Pattern;
use crate::event::version::Version;
use crate::event::wire::{Answered, EventResult};
use crate::event::{CacheKey, EventType, Few};
use crate::pipeline::work::admission::Admission;
use crate::pipeline::work::key_order::KeyOrder;
use crate::pipeline::work::reply::{PendingReply, Verdict, reply};

const LONG: Duration = Duration::from_secs(60);
const KEYS: u64 = 10;

struct Bench {
    admission: Arc<Admission>,
    session: Box<dyn Session>,
    resume: Rc<RefCell<ResumePoints>>,
}

impl Bench {
    /// A cache with ten keys, which a step shows all at once.
    async fn new() -> Self {
        let mut session = EmbeddedCache::new(1 << 20, "v:", LONG).session();
        let set = |n| Command::Set {
            key: CacheKey::new_unchecked(format!("s:{n}")),
            value: "v".into(),
            ttl: None,
            version: None,
            remembered: None,
        };
        session.apply(&(0..KEYS).map(set).collect::<Vec<_>>(), LONG).await;
        Bench { admission: Admission::new(100, 100_000, 10), session, resume: Rc::default() }
    }

    /// A walk of a preview of these keys.
    fn preview(&mut self) -> (ScanWalk<'_>, PendingReply) {
        let (walk, mut pending) = self.walk(&[("s:*", true, None)]);
        (walk, pending.remove(0))
    }

    /// A walk of these: a pattern, whether it is a preview, and its version.
    fn walk(&mut self, wanted: &[(&'static str, bool, Option<u64>)]) -> (ScanWalk<'_>, Vec<PendingReply>) {
        let (deletes, pending) = wanted.iter().map(|wanted| self.delete(*wanted)).unzip();
        let noted = (CountedKeys::new(self.admission.permit()), Metrics::new("").unwrap());
        let walk = ScanWalk::new(self.session.as_mut(), LONG, self.resume.clone(), noted, deletes);
        (walk, pending)
    }

    fn delete(&self, (pattern, dry_run, version): (&'static str, bool, Option<u64>)) -> (PatternDelete, PendingReply) {
        let (begun, pending) = reply(self.admission.permit(), 100_000, None);
        let answered =
            EventResult::Answered(Answered::begun(EventType::DeletePattern, Few::from_iter([pattern.into()])));
        let slots = begun.begin(false, vec![answered], Instant::now()).collect();
        let patterns = Few::from_iter([Pattern::parse(pattern, true).unwrap()]);
        let (order, mut barrier) = (KeyOrder::new(), None);
        order.barriers().put_up(patterns.clone(), false, |put_up| barrier = Some(put_up));
        let (barrier, version, deadline) =
            (barrier.unwrap(), version.and_then(Version::from_number), Instant::now() + LONG);
        (PatternDelete { patterns, version, slots, dry_run, barrier, deadline }, pending)
    }
}

fn cursor(at: u64) -> Cursor {
    Cursor { at, server: 0 }
}

/// What a pattern delete failed with.
async fn problem(pending: PendingReply) -> ProblemKind {
    let Verdict::One(answered) = pending.await else { panic!("it was one event") };
    match answered.outcomes.iter().next() {
        Some(Outcome::PatternDeleteFailed { problem, .. }) => problem.kind,
        other => panic!("it did not fail: {other:?}"),
    }
}

/// Redis without enough replicas: it refuses to delete, and goes on with the scan all the same.
struct RefusesDeletes;

impl Session for RefusesDeletes {
    fn unlink_and_scan<'a>(
        &'a mut self,
        groups: &'a [DeleteGroup],
        _: Option<Scan<'a>>,
        _: Duration,
    ) -> LocalBoxFuture<'a, Progress> {
        let unlinked = groups.iter().map(|_| Unlinked::default()).collect();
        let step = Some(ScanStep { next: Some(cursor(9)), ..ScanStep::default() });
        let failure = Some(CacheError::RefusedForNow("redis answered NOREPLICAS".into()));
        ready(Progress { unlinked, step, failure, is_lost: false, took: Duration::ZERO }).boxed_local()
    }

    fn apply<'a>(&'a mut self, _: &'a [Command], _: Duration) -> LocalBoxFuture<'a, Vec<Result<Reply, CacheError>>> {
        unreachable!("a walk does not")
    }

    fn store_incoming<'a>(
        &'a mut self,
        _: Incoming<'a>,
        _: Duration,
    ) -> LocalBoxFuture<'a, Result<Reply, StreamError>> {
        unreachable!("a walk does not")
    }

    fn refresh_long<'a>(&'a mut self, _: &'a Command, _: Duration) -> LocalBoxFuture<'a, Result<Reply, CacheError>> {
        unreachable!("a walk does not")
    }

    fn ping(&mut self, _: Duration) -> LocalBoxFuture<'_, Result<(), CacheError>> {
        unreachable!("a walk does not")
    }

    fn reconnects(&self) -> u64 {
        0
    }
}

/// What a preview says: keys counted, keys shown, and whether it is an estimate.
async fn shown(pending: PendingReply) -> (u64, usize, bool) {
    let Verdict::One(answered) = pending.await else { panic!("it was one event") };
    match answered.outcomes.iter().next() {
        Some(Outcome::Preview { matched, sample, is_estimated }) => (*matched, sample.len(), *is_estimated),
        other => panic!("no preview: {other:?}"),
    }
}

#[actix_web::test]
async fn a_preview_that_has_seen_all_keys_is_answered_even_if_its_time_is_up() {
    let mut bench = Bench::new().await;
    let (mut walk, pending) = bench.preview();
    walk.step(&[], &[]).await.unwrap();
    walk.rules[0].deadline = Instant::now();
    walk.run().await;
    assert_eq!(shown(pending).await, (KEYS, KEYS as usize, false));
}

#[actix_web::test]
async fn a_step_that_fails_leaves_a_preview_where_it_was() {
    let mut bench = Bench::new().await;
    let (mut walk, pending) = bench.preview();
    walk.step(&[], &[]).await.unwrap();
    walk.step_from = Some(Cursor { at: 7, server: 0 });
    walk.at = At::ResumePoint(Cursor { at: 8, server: 0 });
    let name = walk.rules[0].name;
    walk.give_up(&CacheError::Unavailable("gone".into()));
    assert!(matches!(pending.await, Verdict::One(_)));
    let place = bench.resume.borrow_mut().take(&name, Instant::now()).unwrap();
    assert_eq!((place.cursor.at, place.found["s:*"].0), (8, KEYS), "it would count the keys of a step twice");
}

#[actix_web::test]
async fn a_preview_that_must_begin_anew_counts_anew() {
    let mut bench = Bench::new().await;
    let name = bench.preview().0.rules[0].name;
    let found = [("s:*".into(), (KEYS, vec![Bytes::from_static(b"s:0")]))].into();
    let place = ResumePoint { cursor: Cursor { at: 7, server: 0 }, found, writes: None };
    bench.resume.borrow_mut().keep(name, place, Instant::now());
    let (mut walk, pending) = bench.preview();
    walk.begin_anew();
    walk.run().await;
    assert_eq!(shown(pending).await, (KEYS, KEYS as usize, false));
}

#[actix_web::test]
async fn a_delete_whose_keys_are_with_another_is_not_over() {
    let mut bench = Bench::new().await;
    let (mut walk, mut pending) = bench.walk(&[("s:*", false, None), ("s:1*", false, None)]);
    walk.step(&[], &[]).await.unwrap();
    assert!(matches!(walk.at, At::End) && walk.rules[1].doomed.is_empty());
    walk.rules[1].deadline = Instant::now();
    let name = walk.rules[1].name;
    walk.drop_late().await;
    assert_eq!(problem(pending.remove(1)).await, ProblemKind::Timeout);
    assert!(bench.resume.borrow_mut().take(&name, Instant::now()).is_none(), "it would go on behind its keys");
}

#[actix_web::test]
async fn a_preview_waits_for_what_a_delete_before_it_leaves() {
    let mut bench = Bench::new().await;
    let (mut walk, mut pending) = bench.walk(&[("s:*", false, Some(7)), ("s:*", true, None)]);
    walk.step(&[], &[]).await.unwrap();
    walk.rules[1].deadline = Instant::now();
    walk.drop_late().await;
    assert_eq!(problem(pending.remove(1)).await, ProblemKind::Timeout);
}

#[actix_web::test]
async fn whose_time_is_up_in_the_middle_of_a_step_is_answered_with_what_was_done() {
    let mut bench = Bench::new().await;
    let (mut walk, mut pending) = bench.walk(&[("s:*", false, None)]);
    (walk.rules[0].matched, walk.rules[0].deleted) = (6, 5);
    walk.rules[0].deadline = Instant::now();
    // The step is over once the answer is there.
    let Verdict::One(answered) = answering_late(&walk.rules, pending.remove(0)).await else {
        panic!("it was one event")
    };
    match answered.outcomes.iter().next() {
        Some(Outcome::PatternDeleteFailed { matched: 6, deleted: 5, got_further: true, problem }) => {
            assert_eq!(problem.kind, ProblemKind::Timeout);
        }
        other => panic!("it does not say how far it came: {other:?}"),
    }
}

#[actix_web::test]
async fn what_was_written_since_is_deleted_first_and_not_forgotten_if_that_fails() {
    let mut bench = Bench::new().await;
    let watched = |bench: &Bench| bench.delete(("s:*", false, None)).0.barrier.keep_writes();
    let name = bench.walk(&[("s:*", false, None)]).0.rules[0].name;
    let writes = watched(&bench);
    writes.add(&[Bytes::from_static(b"s:1"), Bytes::from_static(b"other")]);
    let place = ResumePoint { cursor: cursor(7), found: HashMap::new(), writes: Some(writes) };
    bench.resume.borrow_mut().keep(name, place, Instant::now());
    bench.session = Box::new(RefusesDeletes);
    let (mut walk, _pending) = bench.walk(&[("s:*", false, None)]);
    walk.retry = Duration::ZERO;
    assert_eq!(walk.rules[0].doomed, ["s:1"]);
    walk.run().await;
    let place = bench.resume.borrow_mut().take(&name, Instant::now()).unwrap();
    let mut written = place.writes.and_then(|writes| writes.keys()).unwrap();
    written.sort();
    assert_eq!((place.cursor, written), (cursor(7), vec![Bytes::from_static(b"other"), Bytes::from_static(b"s:1")]));
}

#[actix_web::test]
async fn a_delete_that_failed_goes_on_where_its_keys_were_found() {
    let mut bench = Bench::new().await;
    bench.session = Box::new(RefusesDeletes);
    let (mut walk, mut pending) = bench.walk(&[("s:*", false, None)]);
    walk.retry = Duration::ZERO;
    (walk.step_from, walk.at) = (Some(cursor(7)), At::ResumePoint(cursor(8)));
    walk.rules[0].doomed = vec![Bytes::from_static(b"s:1")];
    let name = walk.rules[0].name;
    walk.run().await;
    assert_eq!(problem(pending.remove(0)).await, ProblemKind::CacheUnavailable);
    let place = bench.resume.borrow_mut().take(&name, Instant::now()).unwrap();
    assert_eq!(place.cursor, cursor(7));
}

#[actix_web::test]
async fn a_delete_whose_pass_has_not_begun_keeps_its_place() {
    let mut bench = Bench::new().await;
    let wanted = [("s:1*", false, None), ("s:2*", false, None), ("s:3*", false, None)];
    let names: Vec<ScanName> = bench.walk(&wanted).0.rules.iter().map(|rule| rule.name).collect();
    for (name, at) in names.iter().zip([7, 9, 9]) {
        bench.resume.borrow_mut().keep(
            *name,
            ResumePoint { cursor: cursor(at), found: HashMap::new(), writes: None },
            Instant::now(),
        );
    }
    let (mut walk, pending) = bench.walk(&wanted);
    assert_eq!(walk.passes, [Some(cursor(7)), Some(cursor(9))]);
    walk.rules.iter_mut().for_each(|rule| rule.deadline = Instant::now());
    walk.run().await;
    drop(pending);
    for (name, at) in names.iter().zip([7, 9, 9]) {
        let place = bench.resume.borrow_mut().take(name, Instant::now()).unwrap();
        assert_eq!(place.cursor, cursor(at));
    }
}
