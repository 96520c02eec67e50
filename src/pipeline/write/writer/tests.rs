use std::sync::Mutex as Locked;

use bytes::Bytes;
use futures::future::{FutureExt, LocalBoxFuture, ready};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::*;
use crate::cache::{CacheError, DeleteGroup, Incoming, Progress, Reply, Room, Scan, StreamError};
use crate::event::outcome::{Origin, Outcome, ProblemKind};
use crate::event::wire::{Answered, EventResult};
use crate::event::{CacheKey, EventType, Few};
use crate::pipeline::runtime::{ActorRegistry, Mailbox, Thread};
use crate::pipeline::work::admission::Admission;
use crate::pipeline::work::key_order::{KeyOrder, KeyUse};
use crate::pipeline::work::operation::{Operation, Verb};
use crate::pipeline::work::reply::{PendingReply, Verdict, reply};
use crate::telemetry::metrics::ActorKind;

const LONG: Duration = Duration::from_secs(60);
/// How long the writer tries.
const RETRY: Duration = Duration::from_secs(1);
/// Attempts that fail within a third of that.
const FAILURES: usize = 6;

/// A cache that cannot be reached, until it holds the batch that has `done` and `refused` in hand. That one it answers when it is
/// told to.
#[derive(Default)]
struct Failing {
    /// The keys of each batch.
    batches: Locked<Vec<Vec<String>>>,
    answer: Notify,
}

impl Failing {
    fn batches(&self) -> Vec<Vec<String>> {
        self.batches.lock().expect("no panic").clone()
    }
}

struct FailingCache(Arc<Failing>);

impl Cache for FailingCache {
    fn session(&self) -> Box<dyn Session> {
        Box::new(FailingSession(self.0.clone()))
    }

    fn room(&self) -> &Room {
        unreachable!("a writer reads nothing here")
    }

    fn describe(&self) -> String {
        "failing".to_owned()
    }
}

struct FailingSession(Arc<Failing>);

impl Session for FailingSession {
    fn apply<'a>(
        &'a mut self,
        batch: &'a [Command],
        _: Duration,
    ) -> LocalBoxFuture<'a, Vec<Result<Reply, CacheError>>> {
        async move {
            let keys: Vec<String> = batch.iter().map(|command| command.key().as_str().to_owned()).collect();
            self.0.batches.lock().expect("no panic").push(keys.clone());
            if !keys.iter().any(|key| key == "refused") {
                return vec![Err(CacheError::Unavailable("gone".into())); batch.len()];
            }
            self.0.answer.notified().await;
            let result = |key: &String| match &key[..] {
                "refused" => Err(CacheError::RefusedForNow("redis answered OOM".into())),
                _ => Ok(Reply::Stored),
            };
            keys.iter().map(result).collect()
        }
        .boxed_local()
    }

    fn unlink_and_scan<'a>(
        &'a mut self,
        _: &'a [DeleteGroup],
        _: Option<Scan<'a>>,
        _: Duration,
    ) -> LocalBoxFuture<'a, Progress> {
        unreachable!("a writer does not")
    }

    fn store_incoming<'a>(
        &'a mut self,
        _: Incoming<'a>,
        _: Duration,
    ) -> LocalBoxFuture<'a, Result<Reply, StreamError>> {
        unreachable!("a writer does not")
    }

    fn refresh_long<'a>(&'a mut self, _: &'a Command, _: Duration) -> LocalBoxFuture<'a, Result<Reply, CacheError>> {
        unreachable!("a writer does not")
    }

    fn ping(&mut self, _: Duration) -> LocalBoxFuture<'_, Result<(), CacheError>> {
        ready(Err(CacheError::Unavailable("gone".into()))).boxed_local()
    }

    fn reconnects(&self) -> u64 {
        0
    }
}

struct Bench {
    cache: Arc<Failing>,
    admission: Arc<Admission>,
    key_order: &'static KeyOrder,
    writer: Mailbox<Writer>,
}

impl Bench {
    fn new() -> Self {
        let (cache, metrics) = (Arc::<Failing>::default(), Metrics::new("").expect("metrics"));
        let deps = Deps {
            limits: WriterLimits { batch_max: 10, batch_max_bytes: 1000, retry: RETRY },
            metrics: metrics.clone(),
            readiness: Readiness::new(1, metrics.clone()),
            active: ActiveSet::of(1),
            paces: Paces::new(),
            cache: Arc::new(FailingCache(cache.clone())),
        };
        let make = move |heartbeat, _| Writer::new(heartbeat, 0, deps);
        let writer = ActorRegistry::new(metrics).start_on(&Thread::current(), ActorKind::Writer, make);
        Bench { cache, admission: Admission::new(100, 100_000, 10), key_order: KeyOrder::new(), writer }
    }

    /// Has the writer set these keys, each for a request of its own.
    fn set(&self, keys: &[&'static str]) -> Vec<PendingReply> {
        let mut outbox = Vec::new();
        let set = |key: &&'static str| {
            let answered = EventResult::Answered(Answered::begun(EventType::Set, Few::from_iter([(*key).into()])));
            let mut permit = self.admission.permit();
            assert!(permit.try_grow(1, 10));
            let (begun, pending) = reply(permit, 100, None);
            let slot = begun.begin(false, vec![answered], Instant::now()).next().expect("a slot");
            let (key, value) = (CacheKey::new_unchecked(*key), Bytes::from_static(b"v"));
            let (ticket, _) = self.key_order.take(&key, KeyUse::Write, |_| 0);
            let action = Verb::Set { value, origin: Origin::Inline, ttl: None, carried: None };
            let deadline = Instant::now() + LONG;
            Ready::send(Operation { key, action, version: None, slot, ticket, deadline }, 100, &mut outbox);
            pending
        };
        let pending = keys.iter().map(set).collect();
        self.writer.post(WriterMessage::Write(outbox.remove(0)));
        pending
    }
}

async fn wait_until(what: &str, done: impl Fn() -> bool) {
    let polled = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LONG, polled).await.unwrap_or_else(|_| panic!("waited in vain for: {what}"));
}

#[actix_web::test]
async fn what_was_answered_because_the_cache_is_down_is_not_sent_again() {
    let bench = Bench::new();
    drop(bench.set(&["first"]));
    wait_until("attempts that fail", || bench.cache.batches().len() >= FAILURES).await;
    // The cache is down before these are late.
    for pending in bench.set(&["done", "refused"]) {
        let Verdict::One(answered) = timeout(LONG, pending).await.expect("an answer") else {
            panic!("it was one event")
        };
        match answered.outcomes.iter().next() {
            Some(Outcome::Failed(problem)) => assert_eq!(problem.kind, ProblemKind::CacheUnavailable),
            other => panic!("it did not fail: {other:?}"),
        }
    }
    let sent = bench.cache.batches();
    bench.cache.answer.notify_one();
    let is_over = || bench.admission.is_idle() || bench.cache.batches() != sent;
    wait_until("the end of the operations", is_over).await;
    assert_eq!(bench.cache.batches(), sent);
}
