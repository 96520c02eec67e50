//! What actix does and does not, as far as the pipeline rests on it, and what `pipeline::runtime` makes of
//! that.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use actix::dev::SendError;
use actix::{Actor, Context, Handler, MailboxError, Message, Supervised, Supervisor};
use actix_rt::time::sleep;
use actix_rt::{Arbiter, System};
use redis_cache_sync::pipeline::runtime::{ActorRegistry, Mailbox, Stage, StageContext, TaskSet};
use redis_cache_sync::telemetry::{ActorKind, Metrics};

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the actors have handled, in order.
type Seen = Arc<Mutex<Vec<u32>>>;

fn seen(seen: &Seen) -> Vec<u32> {
    seen.lock().expect("no panic under the lock").clone()
}

async fn eventually(mut condition: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if condition() {
            return true;
        }
        sleep(Duration::from_millis(5)).await;
    }
    false
}

/// An actor under actix's own supervisor, without our guard.
struct Bare(Seen);

enum Tell {
    Note(u32),
    Panic,
}

impl Message for Tell {
    type Result = ();
}

impl Actor for Bare {
    type Context = Context<Self>;
}

impl Supervised for Bare {}

impl Handler<Tell> for Bare {
    type Result = ();

    fn handle(&mut self, tell: Tell, _: &mut Self::Context) {
        match tell {
            Tell::Note(number) => self.0.lock().expect("a lock").push(number),
            Tell::Panic => panic!("on purpose"),
        }
    }
}

#[test]
fn actix_alone_does_not_survive_a_panic_in_a_handler() {
    let notes = Seen::default();
    let actor = notes.clone();
    System::new().block_on(async move {
        let address = Supervisor::start(move |_| Bare(actor));
        address.send(Tell::Note(1)).await.expect("the actor runs");
        address.do_send(Tell::Panic);
        address.do_send(Tell::Note(2));
        assert!(eventually(|| !address.connected()).await, "the mailbox is still open");
        assert!(matches!(address.send(Tell::Note(3)).await, Err(MailboxError::Closed)));
    });
    assert_eq!(seen(&notes), [1], "what was queued is lost");
}

#[test]
fn the_capacity_of_a_mailbox_is_no_bound_for_do_send() {
    let notes = Seen::default();
    let actor = notes.clone();
    System::new().block_on(async {
        let address = Supervisor::start(move |context: &mut Context<Bare>| {
            context.set_mailbox_capacity(1);
            Bare(actor)
        });
        for number in 0..1000 {
            address.do_send(Tell::Note(number));
        }
        for number in 1000..1010 {
            let another = address.clone();
            assert!(another.try_send(Tell::Note(number)).is_ok(), "each clone has a place of its own");
            assert!(matches!(another.try_send(Tell::Note(0)), Err(SendError::Full(_))), "and no more than that");
        }
        assert!(eventually(|| seen(&notes).len() == 1010).await);
    });
    assert_eq!(seen(&notes), (0..1010).collect::<Vec<_>>());
}

/// An actor as those of the pipeline are: under the guard.
struct Staged {
    seen: Seen,
    restarts: u32,
    tasks: TaskSet,
}

enum Order {
    Note(u32),
    Panic,
    /// A spawned future panics.
    PanicInFuture,
    /// What is done with a spawned future's result panics.
    PanicAfterFuture,
    /// Notes the number when the time is over.
    NoteLater(u32, Duration),
    /// The same, by a future of its task set.
    TaskNoteLater(u32, Duration),
    PanicInTask,
    /// Notes the number each time it is polled, and never ends.
    TaskNotePolls(u32),
    /// Holds the thread.
    Block(Duration),
}

impl Staged {
    fn carry_out(&mut self, order: Order, context: &mut StageContext<'_, Self>) {
        match order {
            Order::Note(number) => self.note(number),
            Order::Panic => panic!("on purpose"),
            Order::PanicInFuture => context.spawn(async { panic!("on purpose") }, |_, (), _| {}),
            Order::PanicAfterFuture => context.spawn(async {}, |_, (), _| panic!("on purpose")),
            Order::NoteLater(number, after) => {
                context.spawn(sleep(after), move |actor, (), _| actor.note(number));
            }
            Order::TaskNoteLater(number, after) => {
                let seen = self.seen.clone();
                self.tasks.add(async move {
                    sleep(after).await;
                    seen.lock().expect("a lock").push(number);
                });
            }
            Order::PanicInTask => self.tasks.add(async { panic!("on purpose") }),
            Order::TaskNotePolls(number) => {
                let seen = self.seen.clone();
                self.tasks.add(std::future::poll_fn(move |_| {
                    seen.lock().expect("a lock").push(number);
                    std::task::Poll::Pending
                }));
            }
            Order::Block(time) => thread::sleep(time),
        }
    }

    fn note(&mut self, number: u32) {
        self.seen.lock().expect("a lock").push(number);
    }
}

impl Stage for Staged {
    type Message = Order;

    fn started(&mut self, context: &mut StageContext<'_, Self>) {
        self.tasks = TaskSet::start(context);
    }

    fn handle(&mut self, order: Order, context: &mut StageContext<'_, Self>) {
        self.carry_out(order, context);
    }

    fn restarting(&mut self) {
        self.restarts += 1;
        self.note(100 * self.restarts);
    }
}

/// One actor, what it has seen, and what the metrics say of it.
struct House {
    registry: ActorRegistry,
    mailbox: Mailbox<Staged>,
    seen: Seen,
    metrics: Metrics,
}

impl House {
    /// On the current thread, or on one of its own.
    fn start(arbiter: Option<&Arbiter>) -> Self {
        let metrics = Metrics::new("").expect("metrics");
        let registry = ActorRegistry::new(metrics.clone());
        let seen = Seen::default();
        let notes = seen.clone();
        let make = move |_, _| Staged { seen: notes, restarts: 0, tasks: TaskSet::default() };
        let thread = arbiter.map_or_else(Arbiter::current, Arbiter::handle);
        let mailbox = registry.start_on(&thread, ActorKind::Router, make);
        House { registry, mailbox, seen, metrics }
    }

    fn metric(&self, name: &str) -> String {
        self.registry.publish_waiting();
        let text = self.metrics.encode().expect("metrics");
        let series = format!("cache_sync_{name}{{actor=\"router\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&series)).expect("a series").to_owned()
    }

    async fn has_seen(&self, last: u32) -> bool {
        eventually(|| seen(&self.seen).last() == Some(&last)).await
    }
}

#[test]
fn a_panic_in_a_handler_restarts_the_actor_with_its_mailbox_intact() {
    System::new().block_on(async {
        let house = House::start(None);
        for order in [Order::Note(1), Order::Panic, Order::Note(2), Order::Panic, Order::Note(3)] {
            house.mailbox.post(order);
        }
        assert_eq!(house.metric("actor_waiting_messages"), "5");
        assert!(house.has_seen(3).await, "{:?}", seen(&house.seen));
        assert_eq!(seen(&house.seen), [1, 100, 2, 200, 3]);
        assert_eq!(house.metric("actor_restarts_total"), "2");
        assert_eq!(house.metric("actors"), "1");
        assert_eq!(house.metric("actor_waiting_messages"), "0");
    });
}

#[test]
fn a_panic_in_a_spawned_future_restarts_the_actor_and_cancels_its_other_futures() {
    System::new().block_on(async {
        for order in [Order::PanicInFuture, Order::PanicAfterFuture] {
            let house = House::start(None);
            house.mailbox.post(Order::NoteLater(7, Duration::from_millis(50)));
            house.mailbox.post(order);
            assert!(house.has_seen(100).await, "{:?}", seen(&house.seen));
            sleep(Duration::from_millis(150)).await;
            house.mailbox.post(Order::NoteLater(8, Duration::ZERO));
            assert!(house.has_seen(8).await, "{:?}", seen(&house.seen));
            assert_eq!(seen(&house.seen), [100, 8]);
            assert_eq!((house.metric("actor_restarts_total"), house.metric("actors")), ("1".into(), "1".into()));
        }
    });
}

#[test]
fn a_panic_in_a_task_restarts_the_actor_and_cancels_the_rest_of_it() {
    System::new().block_on(async {
        let house = House::start(None);
        house.mailbox.post(Order::TaskNoteLater(7, Duration::from_millis(50)));
        house.mailbox.post(Order::PanicInTask);
        assert!(house.has_seen(100).await, "{:?}", seen(&house.seen));
        sleep(Duration::from_millis(150)).await;
        house.mailbox.post(Order::TaskNoteLater(8, Duration::ZERO));
        assert!(house.has_seen(8).await, "{:?}", seen(&house.seen));
        assert_eq!(seen(&house.seen), [100, 8]);
        assert_eq!((house.metric("actor_restarts_total"), house.metric("actors")), ("1".into(), "1".into()));
    });
}

#[test]
fn a_task_is_polled_only_when_it_was_woken() {
    System::new().block_on(async {
        let house = House::start(None);
        house.mailbox.post(Order::TaskNotePolls(7));
        assert!(house.has_seen(7).await, "{:?}", seen(&house.seen));
        for number in 1..=3 {
            house.mailbox.post(Order::TaskNoteLater(number, Duration::from_millis(1)));
            assert!(house.has_seen(number).await, "{:?}", seen(&house.seen));
        }
        assert_eq!(seen(&house.seen), [7, 1, 2, 3]);
    });
}

#[test]
fn panics_in_a_row_hold_the_mailbox_back_longer_and_longer_but_lose_nothing() {
    System::new().block_on(async {
        let house = House::start(None);
        let begun = Instant::now();
        for number in 1..=7 {
            house.mailbox.post(Order::Panic);
            house.mailbox.post(Order::Note(number));
        }
        assert!(house.has_seen(7).await, "{:?}", seen(&house.seen));
        // 2, 4, 8, 16, 32, 64 and 100 ms.
        assert!(begun.elapsed() >= Duration::from_millis(220), "{:?}", begun.elapsed());
        assert_eq!(seen(&house.seen), [100, 1, 200, 2, 300, 3, 400, 4, 500, 5, 600, 6, 700, 7]);
    });
}

#[test]
fn an_actor_that_nobody_can_reach_any_more_does_what_waits_and_ends_with_its_thread() {
    System::new().block_on(async {
        let threads = || std::fs::read_dir("/proc/self/task").expect("Linux").count();
        let (metrics, notes) = (Metrics::new("").expect("metrics"), Seen::default());
        let registry = ActorRegistry::new(metrics.clone());
        let seen_by = notes.clone();
        let before = threads();
        let make = move |_, _| Staged { seen: seen_by, restarts: 0, tasks: TaskSet::default() };
        let post = registry.start_alone(ActorKind::Router, make).expect("a thread");
        let second = post.clone();
        post.post(Order::Block(Duration::from_millis(700)));
        (1..=3).for_each(|number| post.post(Order::Note(number)));
        drop(post);
        sleep(Duration::from_millis(1500)).await;
        second.post(Order::Note(4));
        assert!(eventually(|| seen(&notes) == [1, 2, 3, 4]).await, "somebody had its address: {:?}", seen(&notes));
        drop(second);
        let running = || metrics.encode().expect("metrics").contains("cache_sync_actors{actor=\"router\"} 0\n");
        assert!(eventually(|| running() && threads() <= before).await, "{} threads, {before} before", threads());
        sleep(Duration::from_millis(100)).await;
        assert_eq!(registry.stuck(Duration::from_millis(50)), [], "it is not missed");
    });
}

#[test]
fn an_actor_that_is_stuck_is_found_by_its_heartbeat() {
    const STALL: Duration = Duration::from_millis(700);
    System::new().block_on(async {
        let arbiter = Arbiter::new();
        let house = House::start(Some(&arbiter));
        house.mailbox.post(Order::Note(1));
        assert!(house.has_seen(1).await);
        sleep(2 * STALL).await;
        assert_eq!(house.registry.stuck(STALL), [], "idle is not stuck");
        house.mailbox.post(Order::Block(4 * STALL));
        assert!(eventually(|| house.registry.stuck(STALL) == [ActorKind::Router]).await);
        assert!(eventually(|| house.registry.stuck(STALL).is_empty()).await, "it has recovered");
        assert_eq!(house.metric("actor_restarts_total"), "0");
        arbiter.stop();
    });
}
