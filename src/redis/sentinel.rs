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

pub(crate) use self::lookout::Finder;
use self::lookout::{GRACE, Lookout, Named};
use super::address::Address;
use super::budget::Budget;
use super::error::{Error, unavailable, unexpected};
use super::session::Session;
use super::{MAX_OWN_BYTES, role};

/// How often a session with a connection asks whether that is still the master.
const ASK_EVERY: Duration = Duration::from_secs(1);

type Asked = (Box<Lookout>, Result<Named, Error>);

struct Master<S> {
    address: Address,
    /// In which the sentinels named it.
    epoch: u64,
    session: S,
}

/// A line to whoever is the master. `S` is a session with what its owner keeps beside it.
pub(crate) struct MasterLink<S> {
    finder: Arc<Finder>,
    /// Makes of a session to a master what its owner works with.
    own: Box<dyn Fn(Session) -> S>,
    master: Option<Master<S>>,
    /// None: it is out asking.
    lookout: Option<Box<Lookout>>,
    /// When it last came back, or was sent.
    asked: Instant,
    asking: Option<LocalBoxFuture<'static, Asked>>,
    reconnects: u64,
}

impl<S: AsRef<Session> + AsMut<Session>> MasterLink<S> {
    /// Asks nobody yet. `own` makes of a session to a master what its owner works with.
    pub(crate) fn new(finder: Arc<Finder>, own: impl Fn(Session) -> S + 'static) -> Self {
        let own = Box::new(own);
        MasterLink { finder, own, master: None, lookout: None, asked: Instant::now(), asking: None, reconnects: 0 }
    }

    /// Connections made after the first, to whatever master.
    pub(crate) fn reconnects(&self) -> u64 {
        let since = self.master.as_ref().map_or(0, |master| master.session.as_ref().reconnects());
        self.reconnects + since
    }

    /// The session to the master, connected, by what the sentinels say.
    pub(crate) async fn master(&mut self, within: Duration) -> Result<&mut S, Error> {
        self.hear();
        if !self.master.as_mut().is_some_and(|master| master.session.as_mut().is_connected()) {
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
    fn heed(&mut self, named: &Result<Named, Error>) {
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
            self.reconnects += session.as_ref().reconnects() + 1;
        }
    }

    /// What the sentinels say now.
    async fn ask(&mut self, budget: &Budget) -> Result<Named, Error> {
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
    async fn connect(&mut self, named: Named, budget: &Budget) -> Result<(), Error> {
        let mut failure = unavailable("the sentinels know no master");
        for address in named.addresses {
            if self.master.as_ref().is_none_or(|known| known.address != address) {
                self.leave();
                let session = (self.own)(self.finder.session(&address)?);
                self.master = Some(Master { address, epoch: named.epoch, session });
            }
            let Some(master) = &mut self.master else { continue };
            master.epoch = named.epoch;
            match master.session.as_mut().open(budget.left()).await {
                Ok(()) => return Ok(()),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Asks for a sign of life, and whether that is still the master.
    pub(crate) async fn check(&mut self, within: Duration) -> Result<(), Error> {
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
        let session = self.master(budget.left()).await?.as_mut();
        session.ping(budget.left()).await?;
        let answer = session.call(role::ask(), MAX_OWN_BYTES, Budget::new(budget.left())).await;
        let is_master = answer.and_then(role::is_master);
        if is_master.is_err() {
            self.leave();
        }
        is_master
    }
}
