use std::sync::Arc;

use super::*;
use crate::cache::embedded::EmbeddedCache;
use crate::cache::{Cache, Command};
use crate::event::outcome::Outcome;
use crate::event::pattern::Pattern;
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
        let (begun, pending) = reply(self.admission.permit(), 100_000, None);
        let answered = EventResult::Answered(Answered {
            id: None,
            event: EventType::DeletePattern,
            has_version: false,
            targets: Few::from_iter(["s:*".into()]),
            outcomes: Few::new(),
            spent: Few::new(),
            age_when_accepted_ms: None,
        });
        let slots = begun.begin(false, vec![answered], Instant::now()).collect();
        let patterns = Few::from_iter([Pattern::parse("s:*", true).unwrap()]);
        let (order, mut barrier) = (KeyOrder::new(), None);
        order.barriers().put_up(patterns.clone(), false, |put_up| barrier = Some(put_up));
        let barrier = barrier.unwrap();
        let delete =
            PatternDelete { patterns, version: None, slots, dry_run: true, barrier, deadline: Instant::now() + LONG };
        let seen = CountedKeys::new(self.admission.permit());
        let noted = (seen, Metrics::new("").unwrap());
        let (walk, _) = ScanWalk::new(self.session.as_mut(), LONG, self.resume.clone(), noted, vec![delete]);
        (walk, pending)
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
    let place = ResumePoint { cursor: Cursor { at: 7, server: 0 }, found };
    bench.resume.borrow_mut().keep(name, place, Instant::now());
    let (mut walk, pending) = bench.preview();
    walk.begin_anew();
    walk.run().await;
    assert_eq!(shown(pending).await, (KEYS, KEYS as usize, false));
}
