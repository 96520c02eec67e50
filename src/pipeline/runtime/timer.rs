//! What a stage does again and again.
//!
//! actix polls all that was spawned on a context whenever one of them was woken, which is with every message, and a look at a timer
//! costs as much as the rest of that. So these timers are looked at only when they are due.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context as TaskContext, Poll, Wake, Waker, ready};
use std::time::Duration;

use actix::Actor;
use actix::fut::ActorFuture;
use actix_rt::time::{Instant, Sleep, sleep};
use futures::task::AtomicWaker;

/// Does its work each time the period is over, and what it has missed only once.
pub(super) struct Every<W> {
    period: Duration,
    work: W,
    timer: Pin<Box<Sleep>>,
    alarm: Arc<Alarm>,
    /// Wakes by the alarm.
    own: Waker,
    /// The task that the alarm wakes.
    task: Option<Waker>,
}

/// Woken by the timer: it is due, or to be looked at for the first time.
struct Alarm {
    is_due: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.is_due.store(true, SeqCst);
        self.task.wake();
    }
}

impl<W> Every<W> {
    /// The period begins now.
    pub(super) fn new(period: Duration, work: W) -> Self {
        let alarm = Arc::new(Alarm { is_due: AtomicBool::new(true), task: AtomicWaker::new() });
        let own = Waker::from(alarm.clone());
        Every { period, work, timer: Box::pin(sleep(period)), alarm, own, task: None }
    }

    fn poll_due(&mut self, task: &mut TaskContext<'_>) -> Poll<()> {
        let is_known = self.task.as_ref().is_some_and(|known| known.will_wake(task.waker()));
        if is_known && !self.alarm.is_due.swap(false, SeqCst) {
            return Poll::Pending;
        }
        // An alarm that has rung has forgotten whom it woke.
        self.alarm.task.register(task.waker());
        self.task = Some(task.waker().clone());
        self.timer.as_mut().poll(&mut TaskContext::from_waker(&self.own))
    }
}

impl<A: Actor, W: FnMut(&mut A, &mut A::Context) + Unpin> ActorFuture<A> for Every<W> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, actor: &mut A, context: &mut A::Context, task: &mut TaskContext<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            ready!(this.poll_due(task));
            (this.work)(actor, context);
            let next = (this.timer.deadline() + this.period).max(Instant::now());
            this.timer.as_mut().reset(next);
            this.alarm.is_due.store(true, SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use actix::prelude::*;

    use super::*;

    struct Idle;

    impl Actor for Idle {
        type Context = Context<Self>;
    }

    /// Nothing else wakes the actor.
    #[test]
    fn it_goes_on_by_itself() {
        let done = Rc::new(Cell::new(0));
        let counted = done.clone();
        let ended = actix_rt::System::new().block_on(async move {
            let _address = Idle::create(|context| {
                let work = move |_: &mut Idle, _: &mut Context<Idle>| counted.set(counted.get() + 1);
                context.spawn(Every::new(Duration::from_millis(2), work));
                Idle
            });
            let all = async {
                while done.get() < 20 {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            actix_rt::time::timeout(Duration::from_secs(20), all).await
        });
        assert!(ended.is_ok());
    }
}
