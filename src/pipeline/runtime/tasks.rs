//! Many futures of one stage.

use std::cell::RefCell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::task::Poll;

use futures::future::{LocalBoxFuture, poll_fn};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use super::stage::{Stage, StageContext};

/// A stage's futures where there may be many: each is polled only when it was woken, while a context polls all that was
/// [spawned](StageContext::spawn) on it whenever one of them was. A panic in one restarts the actor; a restart cancels them all.
#[derive(Default)]
pub struct TaskSet {
    tasks: Rc<RefCell<FuturesUnordered<Task>>>,
}

type Task = LocalBoxFuture<'static, std::thread::Result<()>>;

impl TaskSet {
    /// To be called from [`Stage::started`].
    pub fn start<S: Stage>(context: &mut StageContext<'_, S>) -> Self {
        let set = TaskSet::default();
        let tasks = set.tasks.clone();
        context.restart_on(poll_fn(move |cx| {
            while let Poll::Ready(Some(result)) = tasks.borrow_mut().poll_next_unpin(cx) {
                if let Err(panic) = result {
                    return Poll::Ready(panic);
                }
            }
            Poll::Pending
        }));
        set
    }

    /// Whether no future is unfinished.
    pub fn is_idle(&self) -> bool {
        self.tasks.borrow().is_empty()
    }

    /// To be called while the stage handles a message: actix looks at a context's futures after each one.
    pub fn add(&self, work: impl Future<Output = ()> + 'static) {
        self.tasks.borrow().push(AssertUnwindSafe(work).catch_unwind().boxed_local());
    }
}
