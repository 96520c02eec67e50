//! Redis Sentinel: one master, whose address the sentinels know.
//!
//! Owns which server is spoken to. The sentinels are asked for the master whenever a connection is made, and once a second
//! besides while there is one: a server that was cut off may go on as a master when the others have another. Only answers
//! with the greatest epoch that any session has seen are believed, and a connection to a master of an older one is given
//! up, whoever has heard of the newer. What does not call itself master (`ROLE`) is not spoken to.
//!
//! Each address has a state of its own towards us, debts among it (see [`super`]): what is owed to a master that is gone
//! holds up nobody, and is paid before anything is sent there again. If the old one comes back it becomes a replica, and
//! drops what it alone had.

mod lookout;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use tokio::time::{Instant, timeout};

use self::lookout::{Finder, GRACE, Lookout, Named};
use super::address::Address;
use super::budget::Budget;
use super::cause::unexpected;
use super::connection::{Connection, unavailable};
use super::encode::Outbox;
use super::reply::Frame;
use super::{MAX_OWN_BYTES, RedisSession, Settings, SetupError};
use crate::cache::{Cache, CacheError, Command, Doomed, Progress, Reply, Room, Scan, Session};

/// How often a session with a connection asks whether that is still the master.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// The master that sentinels watch under a name.
#[derive(Clone)]
pub struct SentinelCache {
    finder: Arc<Finder>,
}

impl SentinelCache {
    /// `settings` are for the master, but for its address, which the `sentinels` know. Connects to nothing.
    pub fn new(settings: Settings, sentinels: Vec<Address>, name: String) -> Result<Self, SetupError> {
        Ok(SentinelCache { finder: Arc::new(Finder::new(settings, sentinels, name)?) })
    }
}

impl Cache for SentinelCache {
    fn session(&self) -> Box<dyn Session> {
        Box::new(SentinelSession {
            finder: self.finder.clone(),
            master: None,
            lookout: None,
            asked: Instant::now(),
            asking: None,
            reconnects: 0,
        })
    }

    fn room(&self) -> &Room {
        &self.finder.settings.room
    }

    fn describe(&self) -> String {
        let Finder { settings, name, watchers, .. } = &*self.finder;
        let tls = if settings.tls.is_some() { " with TLS" } else { "" };
        let at: Vec<String> = watchers.iter().map(|watcher| watcher.address.to_string()).collect();
        format!("redis master {name}{tls} by sentinels at {}", at.join(","))
    }
}

/// Fails unless the server calls itself a master.
pub(super) async fn check_role(connection: &mut Connection, within: Duration) -> Result<(), CacheError> {
    let mut outbox = Outbox::new();
    outbox.pack(&[b"ROLE"]);
    let mut frames = Vec::new();
    connection.exchange(outbox, MAX_OWN_BYTES, within, &mut frames).await?;
    is_master(frames)
}

fn is_master(frames: Vec<Frame>) -> Result<(), CacheError> {
    let mut frames = frames.into_iter();
    match (frames.next(), frames.next()) {
        (Some(Frame::Array(_)), Some(Frame::Text(role))) if &role[..] == b"master" => Ok(()),
        (Some(Frame::Array(_)), Some(Frame::Text(_))) => Err(unavailable("what the sentinels name is no master")),
        (Some(Frame::Error(code)), _) => Err(unavailable(format!("redis answered {} to ROLE", code.as_str()))),
        _ => Err(unexpected()),
    }
}

type Asked = (Box<Lookout>, Result<Named, CacheError>);

struct Master {
    address: Address,
    /// In which the sentinels named it.
    epoch: u64,
    session: RedisSession,
}

struct SentinelSession {
    finder: Arc<Finder>,
    master: Option<Master>,
    /// None: it is out asking.
    lookout: Option<Box<Lookout>>,
    /// When it last came back, or was sent.
    asked: Instant,
    asking: Option<LocalBoxFuture<'static, Asked>>,
    reconnects: u64,
}

impl SentinelSession {
    /// The session to the master, connected, by what the sentinels say.
    async fn master(&mut self, within: Duration) -> Result<&mut RedisSession, CacheError> {
        self.hear();
        if !self.master.as_mut().is_some_and(|master| master.session.is_connected()) {
            let budget = Budget::new(within);
            let named = self.ask(&budget).await?;
            self.connect(named, &budget).await?;
        }
        match &mut self.master {
            Some(master) => Ok(&mut master.session),
            None => Err(unavailable("the sentinels know no master")),
        }
    }

    /// In passing, so that nobody waits for a sentinel while there is a connection: asks, and hears what was answered.
    fn hear(&mut self) {
        if self.asking.is_none() && self.asked.elapsed() >= ASK_EVERY {
            self.send_out();
        }
        if let Some(asking) = &mut self.asking
            && let Some((lookout, named)) = asking.now_or_never()
        {
            self.take_back(lookout);
            self.heed(&named);
        }
        if self.master.as_ref().is_some_and(|master| master.epoch != self.finder.epoch()) {
            self.leave();
        }
    }

    fn send_out(&mut self) {
        let lookout = self.lookout.take();
        let mut lookout = lookout.unwrap_or_else(|| Box::new(Lookout::new(self.finder.clone())));
        self.asked = Instant::now();
        self.asking = Some(
            async move {
                let named = lookout.ask().await;
                (lookout, named)
            }
            .boxed_local(),
        );
    }

    fn take_back(&mut self, lookout: Box<Lookout>) {
        self.lookout = Some(lookout);
        self.asking = None;
    }

    /// Gives up a connection to what is no master any more.
    fn heed(&mut self, named: &Result<Named, CacheError>) {
        if let (Ok(named), Some(master)) = (named, &mut self.master)
            && let Some(best) = named.addresses.first()
        {
            if *best == master.address {
                master.epoch = named.epoch;
            } else {
                self.leave();
            }
        }
    }

    fn leave(&mut self) {
        if let Some(Master { session, .. }) = self.master.take() {
            self.reconnects += session.reconnects() + 1;
        }
    }

    /// What the sentinels say now.
    async fn ask(&mut self, budget: &Budget) -> Result<Named, CacheError> {
        // What is under way may have been asked before the connection was lost.
        if let Some(asking) = &mut self.asking {
            let came = timeout(budget.left(), asking).await;
            let (lookout, _) = came.map_err(|_| unavailable("no sentinel answered in time"))?;
            self.take_back(lookout);
        }
        self.send_out();
        let Some(asking) = &mut self.asking else { return Err(unexpected()) };
        let came = timeout(budget.left(), asking).await;
        let (lookout, named) = came.map_err(|_| unavailable("no sentinel answered in time"))?;
        self.take_back(lookout);
        named
    }

    /// Connects to the first that is a master.
    async fn connect(&mut self, named: Named, budget: &Budget) -> Result<(), CacheError> {
        let mut failure = unavailable("the sentinels know no master");
        for address in named.addresses {
            if self.master.as_ref().is_none_or(|known| known.address != address) {
                self.leave();
                let session = self.finder.session(&address)?;
                self.master = Some(Master { address, epoch: named.epoch, session });
            }
            let Some(master) = &mut self.master else { continue };
            master.epoch = named.epoch;
            match master.session.open(budget.left()).await {
                Ok(()) => return Ok(()),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn check(&mut self, within: Duration) -> Result<(), CacheError> {
        let budget = Budget::new(within);
        if self.asking.is_none() && self.asked.elapsed() >= ASK_EVERY / 2 {
            self.send_out();
        }
        // Sentinels that take longer are heard next time: whoever wants to write meanwhile must not wait for them.
        if let Some(asking) = &mut self.asking
            && let Ok((lookout, named)) = timeout(GRACE.min(budget.left()) * 2, asking).await
        {
            self.take_back(lookout);
            self.heed(&named);
        }
        let session = self.master(budget.left()).await?;
        session.ping(budget.left()).await?;
        let mut outbox = Outbox::new();
        outbox.pack(&[b"ROLE"]);
        let role = session.call(outbox, MAX_OWN_BYTES, Budget::new(budget.left())).await;
        let is_master = role.and_then(is_master);
        if is_master.is_err() {
            self.leave();
        }
        is_master
    }
}

impl Session for SentinelSession {
    fn apply<'a>(
        &'a mut self,
        batch: &'a [Command],
        within: Duration,
    ) -> LocalBoxFuture<'a, Vec<Result<Reply, CacheError>>> {
        async move {
            let budget = Budget::new(within);
            match self.master(within).await {
                Ok(session) => session.apply(batch, budget.left()).await,
                Err(error) => vec![Err(error); batch.len()],
            }
        }
        .boxed_local()
    }

    fn unlink_and_scan<'a>(
        &'a mut self,
        doomed: &'a [Doomed],
        scan: Option<Scan<'a>>,
        within: Duration,
    ) -> LocalBoxFuture<'a, Progress> {
        async move {
            let budget = Budget::new(within);
            match self.master(within).await {
                Ok(session) => session.unlink_and_scan(doomed, scan, budget.left()).await,
                Err(error) => {
                    let unlinked = vec![Default::default(); doomed.len()];
                    Progress { unlinked, failure: Some(error), ..Progress::default() }
                }
            }
        }
        .boxed_local()
    }

    fn ping(&mut self, within: Duration) -> LocalBoxFuture<'_, Result<(), CacheError>> {
        self.check(within).boxed_local()
    }

    fn reconnects(&self) -> u64 {
        let since = self.master.as_ref().map_or(0, |master| master.session.reconnects());
        self.reconnects + since
    }
}
