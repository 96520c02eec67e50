//! What one attempt has seen of its host. awc hands a request through its pool to a connection without anything of ours
//! in between, so connector and connections find the attempt they work for through a task-local.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::aside::Aside;

tokio::task_local! {
    static CURRENT: Rc<Signs>;
}

#[derive(Debug, Default)]
pub(super) struct Signs {
    /// A connection was begun or a request written: from here on silence is the host's.
    called: Cell<bool>,
    /// The credential that a store is asked with is being waited for.
    awaits_credential: Cell<bool>,
    /// A byte of some response came.
    heard: Cell<bool>,
    /// The request at hand got a connection of its own, so its failure cannot be an old connection's.
    fresh: Cell<bool>,
    /// The request at hand got a byte of its response.
    answered: Cell<bool>,
    /// Where the connection will put the body of the response at hand, if not through awc.
    aside: RefCell<Option<Rc<Aside>>>,
}

impl Signs {
    /// Runs the work of an attempt, so that `note_…` inside reach it.
    pub(super) async fn watch<T>(self: &Rc<Self>, work: impl Future<Output = T>) -> T {
        CURRENT.scope(Rc::clone(self), work).await
    }

    /// What is noted from here on is another request's, of the same attempt.
    pub(super) fn begin_request(&self) {
        self.fresh.set(false);
        self.answered.set(false);
        self.aside.take();
    }

    pub(super) fn take_aside(&self) -> Option<Rc<Aside>> {
        self.aside.take()
    }

    /// Runs what waits for the credential that a store is asked with.
    pub(super) async fn await_credential<T>(&self, work: impl Future<Output = T>) -> T {
        self.awaits_credential.set(true);
        let done = work.await;
        self.awaits_credential.set(false);
        done
    }

    /// A connection was begun or a request written.
    pub(super) fn called(&self) -> bool {
        self.called.get()
    }

    /// Nothing was heard of the host, and that is not for want of a place in a queue of our own.
    pub(super) fn may_give_up(&self) -> bool {
        !self.heard.get() && (self.called.get() || self.awaits_credential.get())
    }

    /// The host was called and gave no byte of a response.
    pub(super) fn silent(&self) -> bool {
        self.called.get() && !self.heard.get()
    }

    /// The request went out on a connection from the pool, and no byte came back.
    pub(super) fn stale(&self) -> bool {
        self.called.get() && !self.fresh.get() && !self.answered.get()
    }
}

pub(super) fn note_fresh_connection() {
    note(|signs| {
        signs.called.set(true);
        signs.fresh.set(true);
    });
}

pub(super) fn note_written() {
    note(|signs| signs.called.set(true));
}

pub(super) fn note_heard() {
    note(|signs| {
        signs.heard.set(true);
        signs.answered.set(true);
    });
}

/// Whether there is an attempt that will look for it.
pub(super) fn note_aside(aside: &Rc<Aside>) -> bool {
    CURRENT.try_with(|signs| signs.aside.replace(Some(Rc::clone(aside)))).is_ok()
}

fn note(what: impl Fn(&Signs)) {
    // A connection that is checked or closed outside any attempt tells nobody anything.
    let _ = CURRENT.try_with(|signs| what(signs));
}
