//! Where messages to a stage wait.

use std::sync::Arc;

use actix::Addr;

use super::heartbeat::{Heartbeat, Waiting};
use super::notice::Notifier;
use super::stage::{Envelope, Running, Stage};

/// A stage's address. It has no bound of its own: admission bounds what may be under way. Cheap to clone.
pub struct Mailbox<S: Stage> {
    pub(super) address: Addr<Running<S>>,
    pub(super) heartbeat: Arc<Heartbeat>,
}

impl<S: Stage> Clone for Mailbox<S> {
    fn clone(&self) -> Self {
        Mailbox { address: self.address.clone(), heartbeat: self.heartbeat.clone() }
    }
}

impl<S: Stage> Mailbox<S> {
    /// Never blocks. If the actor is gone the message is dropped, and what it held answers by its drop.
    pub fn post(&self, message: S::Message) {
        self.address.do_send(Envelope { message, waiting: Waiting::new(&self.heartbeat) });
    }

    /// Makes notices that reach this stage as the message that `wrap` makes of them. Holds its address.
    pub fn notifier<L: 'static>(&self, wrap: fn(L) -> S::Message) -> Notifier<L> {
        let mailbox = self.clone();
        Notifier::new(move |letter| mailbox.post(wrap(letter)))
    }
}
