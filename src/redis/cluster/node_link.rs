//! A session to one node, and what happens when the node does not answer.
//!
//! A call that needs other nodes too does not wait for a node that has failed, and waits little for one that has still to be
//! connected. A probe (connect and log in) runs between calls, and each call polls it once. Until the probe has succeeded,
//! commands for the node fail at once as unavailable; a call that needs only such nodes gives their probes a moment. After
//! [`Settings::down_after`](crate::redis::Settings) the node is down, and the caller is told not to try again.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{Either, LocalBoxFuture, select};
use tokio::time::{sleep, timeout};

use super::topology::Topology;
use crate::redis::address::Address;
use crate::redis::error::{Error, unavailable};
use crate::redis::session::ServerSession;

/// How often a call that waits for a node checks whether the node is still a primary.
const CHECK_EVERY: Duration = Duration::from_millis(50);

/// How long a call waits for a node before it goes on without it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeTimeouts {
    /// For a node that did not answer before.
    pub(crate) probing: Duration,
    /// For a node that has no connection yet, or lost it while it was idle.
    pub(crate) connecting: Duration,
}

impl NodeTimeouts {
    /// The same for both.
    pub(crate) fn of(time: Duration) -> Self {
        NodeTimeouts { probing: time, connecting: time }
    }
}

/// `S` is a session with what its owner keeps beside it.
pub(crate) struct NodeLink<S> {
    address: Address,
    /// The node and the source of its address, for a message.
    name: String,
    topology: Arc<Topology>,
    state: LinkState<S>,
    /// Since when the node has answered nothing; None: it answers.
    failing_since: Option<Instant>,
    reconnects: u64,
}

enum LinkState<S> {
    Healthy(Box<S>),
    Probing(LocalBoxFuture<'static, (Box<S>, Result<(), Error>)>),
    /// Only while the state changes.
    Moving,
}

impl<S: AsMut<ServerSession> + 'static> NodeLink<S> {
    /// `own` makes of a session to the node what its owner works with.
    pub(crate) fn new(
        address: Address,
        topology: Arc<Topology>,
        own: impl FnOnce(ServerSession) -> S,
    ) -> Result<Self, Error> {
        let session = Box::new(own(topology.session(&address)?));
        let name = topology.name(&address);
        Ok(NodeLink { address, name, topology, state: LinkState::Healthy(session), failing_since: None, reconnects: 0 })
    }

    /// Runs `work` on the session. Fails if there is no connection within `patience`, or if the node is no primary any more;
    /// in the second case `work` may have begun, and is dropped half-way.
    pub(crate) async fn with<T>(
        &mut self,
        patience: NodeTimeouts,
        work: impl AsyncFnOnce(&mut S) -> T,
    ) -> Result<T, Error> {
        let begun = Instant::now();
        if self.is_unconnected() {
            self.probe();
            // The call that fails to connect says why; later ones only know that the node does not answer.
            self.recover(patience.connecting, begun).await?.map_err(|error| self.or_down(error))?;
        } else {
            self.recover(patience.probing, begun).await?.map_err(|_| self.unhealthy())?;
        }
        let LinkState::Healthy(session) = &mut self.state else { return Err(self.unhealthy()) };
        let done = {
            let replaced = std::pin::pin!(replaced(&self.topology, &self.address));
            let work = std::pin::pin!(work(session));
            match select(work, replaced).await {
                Either::Left((done, _)) => Ok(done),
                Either::Right(((), _)) => Err(unavailable(format!("{} is no longer a primary", self.name))),
            }
        };
        let session = (**session).as_mut();
        self.reconnects = session.reconnects();
        if session.is_connected() {
            self.failing_since = None;
        } else {
            self.failing_since.get_or_insert(begun);
            self.topology.mark_stale();
            self.probe();
        }
        done
    }

    /// Whether the node has not answered for [`Settings::down_after`](crate::redis::Settings): nothing waits for it.
    pub(crate) fn is_down(&self) -> bool {
        !self.is_healthy()
            && self.failing_since.is_some_and(|since| since.elapsed() >= self.topology.settings.down_after)
    }

    fn is_unconnected(&mut self) -> bool {
        match &mut self.state {
            LinkState::Healthy(session) => !(**session).as_mut().is_connected(),
            LinkState::Probing(_) | LinkState::Moving => false,
        }
    }

    fn unhealthy(&self) -> Error {
        self.or_down(unavailable(format!("{} does not answer", self.name)))
    }

    /// The same error, as that of a node that is down if it is.
    fn or_down(&self, error: Error) -> Error {
        match error {
            Error::Unavailable(cause) if self.is_down() => Error::Down(cause),
            error => error,
        }
    }

    /// Whether the node answered last, or was not asked yet.
    pub(crate) fn is_healthy(&self) -> bool {
        matches!(self.state, LinkState::Healthy(_))
    }

    pub(crate) fn reconnects(&self) -> u64 {
        self.reconnects
    }

    /// Waits for a probe, if there is one. Fails if it has not ended; otherwise with what it came to. The next one runs then,
    /// unless the node is well.
    async fn recover(&mut self, patience: Duration, begun: Instant) -> Result<Result<(), Error>, Error> {
        let LinkState::Probing(probe) = &mut self.state else { return Ok(Ok(())) };
        let ended = match patience {
            Duration::ZERO => probe.now_or_never(),
            patience => timeout(patience, probe).await.ok(),
        };
        let Some((mut session, opened)) = ended else {
            self.failing_since.get_or_insert(begun);
            return Err(self.unhealthy());
        };
        self.reconnects = (*session).as_mut().reconnects();
        self.state = LinkState::Healthy(session);
        if opened.is_err() {
            self.failing_since.get_or_insert(begun);
            self.topology.mark_stale();
            self.probe();
        }
        Ok(opened)
    }

    /// Adds the name of the node to a cause. Causes of a failed connection have it already.
    pub(crate) fn named(&self, cause: Cow<'static, str>) -> Cow<'static, str> {
        if cause.starts_with(&self.name) { cause } else { format!("{}: {cause}", self.name).into() }
    }

    fn probe(&mut self) {
        self.state = match std::mem::replace(&mut self.state, LinkState::Moving) {
            LinkState::Healthy(mut session) => LinkState::Probing(
                async move {
                    let session_of_node = (*session).as_mut();
                    let opened = session_of_node.open(session_of_node.connects_within()).await;
                    (session, opened)
                }
                .boxed_local(),
            ),
            other => other,
        };
    }
}

async fn replaced(topology: &Topology, address: &Address) {
    let was = topology.slots();
    if !was.primaries().iter().any(|primary| primary.address == *address) {
        // A node without slots is not in the map.
        return std::future::pending().await;
    }
    loop {
        sleep(CHECK_EVERY).await;
        if !topology.slots().primaries().iter().any(|primary| primary.address == *address) {
            return;
        }
    }
}
