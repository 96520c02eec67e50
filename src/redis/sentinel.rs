//! Redis Sentinel: one master, whose address the sentinels know.
//!
//! It decides which server is used. The sentinels are asked for the master before each connection, and once a second while
//! there is one: a server that was cut off may go on as a master when the others have elected another. Only answers with
//! the greatest epoch that any session has seen count. A connection to a master of an older epoch is given up, whichever
//! session has heard of the newer one. A server that does not call itself master (`ROLE`) is not used.
//!
//! Each address has abandoned connections of its own (see [`super`]). Those to a master that is gone hold up nobody, and are
//! killed before anything is sent there again. If the old master comes back, it becomes a replica and drops what it alone
//! had.

mod discovery;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use tokio::time::{Instant, timeout};

pub(crate) use self::discovery::SentinelGroup;
use self::discovery::{GRACE, MasterDiscovery, NamedMasters};
use super::address::Address;
use super::deadline::Deadline;
use super::error::{Error, unavailable, unexpected};
use super::session::ServerSession;
use super::{MAX_OWN_BYTES, role};

/// How often a session with a connection asks whether that is still the master.
const ASK_EVERY: Duration = Duration::from_secs(1);

type Discovered = (Box<MasterDiscovery>, Result<NamedMasters, Error>);

struct Master<S> {
    address: Address,
    /// The epoch in which the sentinels named it.
    epoch: u64,
    session: S,
}

/// A session to the master, whichever server that is. `S` is a session with what its owner keeps beside it.
pub(crate) struct MasterLink<S> {
    group: Arc<SentinelGroup>,
    /// Makes of a session to a master what its owner works with.
    own: Box<dyn Fn(ServerSession) -> S>,
    master: Option<Master<S>>,
    /// None: it is in use by `pending`.
    discovery: Option<Box<MasterDiscovery>>,
    /// When the sentinels were last asked.
    last_asked: Instant,
    pending: Option<LocalBoxFuture<'static, Discovered>>,
    reconnects: u64,
}

impl<S: AsRef<ServerSession> + AsMut<ServerSession>> MasterLink<S> {
    /// Asks nobody yet. `own` makes of a session to a master what its owner works with.
    pub(crate) fn new(group: Arc<SentinelGroup>, own: impl Fn(ServerSession) -> S + 'static) -> Self {
        let own = Box::new(own);
        MasterLink {
            group,
            own,
            master: None,
            discovery: None,
            last_asked: Instant::now(),
            pending: None,
            reconnects: 0,
        }
    }

    /// Connections made after the first, to whatever master.
    pub(crate) fn reconnects(&self) -> u64 {
        let since = self.master.as_ref().map_or(0, |master| master.session.as_ref().reconnects());
        self.reconnects + since
    }

    /// Whether there is a connection to the master as last named, as far as can be known without asking.
    pub(crate) fn is_connected(&mut self) -> bool {
        let epoch = self.group.epoch();
        self.master.as_mut().is_some_and(|master| master.epoch == epoch && master.session.as_mut().is_connected())
    }

    /// The session to the master, connected, by what the sentinels say.
    pub(crate) async fn master(&mut self, within: Duration) -> Result<&mut S, Error> {
        self.poll_discovery();
        if !self.master.as_mut().is_some_and(|master| master.session.as_mut().is_connected()) {
            let deadline = Deadline::new(within);
            let named = self.discover(&deadline).await?;
            self.connect(named, &deadline).await?;
        }
        match &mut self.master {
            Some(master) => Ok(&mut master.session),
            None => Err(unavailable("the sentinels do not know the master")),
        }
    }

    /// In passing, so that nobody waits for a sentinel while there is a connection: asks, and hears what was answered.
    fn poll_discovery(&mut self) {
        if self.pending.is_none() && self.last_asked.elapsed() >= ASK_EVERY {
            self.start_discovery();
        }
        if let Some(pending) = &mut self.pending
            && let Some((discovery, named)) = pending.now_or_never()
        {
            self.end_discovery(discovery);
            self.follow(&named);
        }
        if self.master.as_ref().is_some_and(|master| master.epoch != self.group.epoch()) {
            self.disconnect();
        }
    }

    fn start_discovery(&mut self) {
        let discovery = self.discovery.take();
        let mut discovery = discovery.unwrap_or_else(|| Box::new(MasterDiscovery::new(self.group.clone())));
        self.last_asked = Instant::now();
        self.pending = Some(
            async move {
                let named = discovery.ask().await;
                (discovery, named)
            }
            .boxed_local(),
        );
    }

    fn end_discovery(&mut self, discovery: Box<MasterDiscovery>) {
        self.discovery = Some(discovery);
        self.pending = None;
    }

    /// Gives up a connection to what is no master any more.
    fn follow(&mut self, named: &Result<NamedMasters, Error>) {
        if let (Ok(named), Some(master)) = (named, &mut self.master)
            && let Some(best) = named.addresses.first()
        {
            if *best == master.address {
                master.epoch = named.epoch;
            } else {
                self.disconnect();
            }
        }
    }

    fn disconnect(&mut self) {
        if let Some(Master { session, .. }) = self.master.take() {
            self.reconnects += session.as_ref().reconnects() + 1;
        }
    }

    /// What the sentinels say now.
    async fn discover(&mut self, deadline: &Deadline) -> Result<NamedMasters, Error> {
        // What is under way may have been asked before the connection was lost.
        if let Some(pending) = &mut self.pending {
            let came = timeout(deadline.left(), pending).await;
            let (discovery, _) = came.map_err(|_| unavailable("no sentinel answered in time"))?;
            self.end_discovery(discovery);
        }
        self.start_discovery();
        let Some(pending) = &mut self.pending else { return Err(unexpected()) };
        let came = timeout(deadline.left(), pending).await;
        let (discovery, named) = came.map_err(|_| unavailable("no sentinel answered in time"))?;
        self.end_discovery(discovery);
        named
    }

    /// Connects to the first that is a master.
    async fn connect(&mut self, named: NamedMasters, deadline: &Deadline) -> Result<(), Error> {
        let mut failure = unavailable("the sentinels do not know the master");
        for address in named.addresses {
            if self.master.as_ref().is_none_or(|known| known.address != address) {
                self.disconnect();
                let session = (self.own)(self.group.session(&address)?);
                self.master = Some(Master { address, epoch: named.epoch, session });
            }
            let Some(master) = &mut self.master else { continue };
            master.epoch = named.epoch;
            match master.session.as_mut().open(deadline.left()).await {
                Ok(()) => return Ok(()),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Asks for a sign of life, and whether that is still the master.
    pub(crate) async fn check(&mut self, within: Duration) -> Result<(), Error> {
        let deadline = Deadline::new(within);
        if self.pending.is_none() && self.last_asked.elapsed() >= ASK_EVERY / 2 {
            self.start_discovery();
        }
        // Sentinels that take longer are heard next time: whoever wants to write meanwhile must not wait for them.
        if let Some(pending) = &mut self.pending
            && let Ok((discovery, named)) = timeout(GRACE.min(deadline.left()) * 2, pending).await
        {
            self.end_discovery(discovery);
            self.follow(&named);
        }
        let session = self.master(deadline.left()).await?.as_mut();
        session.ping(deadline.left()).await?;
        let answer = session.call(role::ask(), MAX_OWN_BYTES, Deadline::new(deadline.left())).await;
        let is_master = answer.and_then(role::is_master);
        if is_master.is_err() {
            self.disconnect();
        }
        is_master
    }
}
