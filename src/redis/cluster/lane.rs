//! A session's line to one node, and what becomes of it when the node does not answer.
//!
//! A node that has failed us is not waited for again by those who have business with other nodes: it is probed (connected
//! and pinged) by a future that lives between calls and is looked at in passing. Until that has ended well, what goes to
//! the node is unavailable at once; a call with business at such nodes alone gives the probes a moment. After a time a node
//! is known to be down, and the caller is told not to try again.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{Either, LocalBoxFuture, select};
use tokio::time::{sleep, timeout};

use super::topology::Topology;
use crate::redis::address::Address;
use crate::redis::error::{Error, unavailable};
use crate::redis::session::Session;

/// How often a call that waits for a node asks whether that is still a primary.
const GLANCE: Duration = Duration::from_millis(50);

/// `S` is a session with what its owner keeps beside it.
pub(crate) struct Lane<S> {
    address: Address,
    /// With who gave the address, for a message.
    name: String,
    topology: Arc<Topology>,
    line: Line<S>,
    /// Since when nothing that the node was asked for has been answered.
    failing: Option<Instant>,
    reconnects: u64,
}

enum Line<S> {
    Good(Box<S>),
    Probed(LocalBoxFuture<'static, (Box<S>, bool)>),
    /// Only while it is changed.
    Gone,
}

impl<S: AsMut<Session> + 'static> Lane<S> {
    /// `own` makes of a session to the node what its owner works with.
    pub(crate) fn new(
        address: Address,
        topology: Arc<Topology>,
        own: impl FnOnce(Session) -> S,
    ) -> Result<Self, Error> {
        let session = Box::new(own(topology.session(&address)?));
        let name = topology.name(&address);
        Ok(Lane { address, name, topology, line: Line::Good(session), failing: None, reconnects: 0 })
    }

    /// What `work` makes of the session. Fails if the node is not well, does not become so within `patience`, or stops
    /// to be a primary meanwhile; whether `work` was begun then, nobody can tell. `work` may be dropped half-way.
    pub(crate) async fn with<T>(
        &mut self,
        patience: Duration,
        work: impl AsyncFnOnce(&mut S) -> T,
    ) -> Result<T, Error> {
        self.recover(patience).await?;
        let begun = Instant::now();
        let Line::Good(session) = &mut self.line else { return Err(self.not_well()) };
        let done = {
            let replaced = std::pin::pin!(replaced(&self.topology, &self.address));
            let work = std::pin::pin!(work(session));
            match select(work, replaced).await {
                Either::Left((done, _)) => Ok(done),
                Either::Right(((), _)) => Err(unavailable(format!("{} is no primary any more", self.name))),
            }
        };
        let session = (**session).as_mut();
        self.reconnects = session.reconnects();
        if session.is_connected() {
            self.failing = None;
        } else {
            self.failing.get_or_insert(begun);
            self.probe();
        }
        done
    }

    /// Whether the node has not answered for as long as operations are tried: nothing is to wait for it.
    pub(crate) fn is_down(&self) -> bool {
        !self.is_good() && self.failing.is_some_and(|since| since.elapsed() >= self.topology.settings.down_after)
    }

    fn not_well(&self) -> Error {
        let cause = format!("{} does not answer", self.name);
        if self.is_down() { Error::Down(cause.into()) } else { unavailable(cause) }
    }

    /// Whether the node is not known to be unwell.
    pub(crate) fn is_good(&self) -> bool {
        matches!(self.line, Line::Good(_))
    }

    pub(crate) fn reconnects(&self) -> u64 {
        self.reconnects
    }

    async fn recover(&mut self, patience: Duration) -> Result<(), Error> {
        let Line::Probed(probe) = &mut self.line else { return Ok(()) };
        let ended = match patience {
            Duration::ZERO => probe.now_or_never(),
            patience => timeout(patience, probe).await.ok(),
        };
        let Some((mut session, is_well)) = ended else { return Err(self.not_well()) };
        self.reconnects = (*session).as_mut().reconnects();
        self.line = Line::Good(session);
        if is_well {
            return Ok(());
        }
        self.probe();
        Err(self.not_well())
    }

    /// A failure with the node in it. What is told of connecting has it already.
    pub(crate) fn named(&self, cause: Cow<'static, str>) -> Cow<'static, str> {
        if cause.starts_with(&self.name) { cause } else { format!("{}: {cause}", self.name).into() }
    }

    fn probe(&mut self) {
        self.topology.doubt();
        let within = self.topology.settings.connect_timeout;
        self.line = match std::mem::replace(&mut self.line, Line::Gone) {
            Line::Good(mut session) => Line::Probed(
                async move {
                    let is_well = (*session).as_mut().ping(within).await.is_ok();
                    (session, is_well)
                }
                .boxed_local(),
            ),
            other => other,
        };
    }
}

async fn replaced(topology: &Topology, address: &Address) {
    let was = topology.view();
    if !was.primaries().iter().any(|primary| primary.address == *address) {
        // One that has no slots yet.
        return std::future::pending().await;
    }
    loop {
        sleep(GLANCE).await;
        if !topology.view().primaries().iter().any(|primary| primary.address == *address) {
            return;
        }
    }
}
