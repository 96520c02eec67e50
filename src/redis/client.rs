//! Calls to the keys of one slot, whatever kind of Redis has them. See [`super`] for an example.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, join_all, select};

use super::address::Address;
use super::cluster::{NodeLink, NodeTimeouts, Topology, TopologyRefresher};
use super::deadline::Deadline;
use super::error::{Error, unavailable};
use super::named;
use super::pipeline::{CommandPipeline, PipelineLimits};
use super::sentinel::{MasterLink, SentinelGroup};
use super::server::Server;
use super::session::ServerSession;
use super::settings::{Settings, SetupError};
use super::slot::slot;
use super::value::Value;

/// How often a pipeline is sent on within a call.
const MAX_REDIRECTS: usize = 3;

/// A Redis of whatever kind. Clones, and the clients made of them, share what is known of the servers. It connects to
/// nothing by itself.
#[derive(Clone)]
pub struct Redis(Deployment);

#[derive(Clone)]
enum Deployment {
    Standalone(Arc<Server>),
    Cluster(Arc<Topology>),
    Sentinel(Arc<SentinelGroup>),
}

impl Redis {
    /// One server.
    ///
    /// # Errors
    /// What TLS cannot use of the settings.
    pub fn standalone(settings: Settings) -> Result<Self, SetupError> {
        Ok(Redis(Deployment::Standalone(Server::standalone(settings)?)))
    }

    /// A Redis Cluster. `seeds` are nodes to ask for the others; without any, the one that `settings` names.
    ///
    /// # Errors
    /// A database other than 0, or what TLS cannot use.
    pub fn cluster(settings: Settings, seeds: Vec<Address>) -> Result<Self, SetupError> {
        Ok(Redis(Deployment::Cluster(Arc::new(Topology::new(settings, seeds)?))))
    }

    /// The master that `sentinels` watch under a name. `settings` are for the master, but for its address.
    ///
    /// # Errors
    /// No sentinels or no name, or what TLS cannot use.
    pub fn sentinel(settings: Settings, sentinels: Vec<Address>, name: String) -> Result<Self, SetupError> {
        Ok(Redis(Deployment::Sentinel(Arc::new(SentinelGroup::new(settings, sentinels, name)?))))
    }

    /// A client for the keys that are in the slot of `key`: those with the same `{tag}`, or this key alone.
    pub fn client(&self, key: &[u8]) -> Client {
        let line = match &self.0 {
            Deployment::Standalone(server) => Line::Server(Box::new(ServerSession::new(server.clone()))),
            Deployment::Cluster(topology) => Line::Owner(Box::new(OwnerLink {
                refresher: TopologyRefresher::new(topology.clone()),
                topology: topology.clone(),
                slot: slot(key),
                link: None,
            })),
            Deployment::Sentinel(group) => Line::Master(Box::new(MasterLink::new(group.clone(), |session| session))),
        };
        Client { line, was_sent: false }
    }

    /// Kills all connections with this name ([`Settings::client_name`]): of the one server, of each primary of a cluster, or
    /// of the master. What was sent on them and not carried out never will be; whoever made them may make new ones. How many
    /// connections there were.
    ///
    /// # Errors
    /// One of the servers cannot be reached within the time, or does not allow it. What the others had is killed.
    pub async fn kill_clients(&self, name: &str, within: Duration) -> Result<usize, Error> {
        let deadline = Deadline::new(within);
        match &self.0 {
            Deployment::Standalone(server) => {
                named::kill(&mut ServerSession::new(server.clone()), name, &deadline).await
            }
            Deployment::Sentinel(group) => {
                let mut link = MasterLink::new(group.clone(), |session| session);
                named::kill(link.master(within).await?, name, &deadline).await
            }
            Deployment::Cluster(topology) => {
                topology.mark_stale();
                let slots = TopologyRefresher::new(topology.clone()).refresh(&deadline).await?;
                let calls = slots
                    .primaries()
                    .iter()
                    .map(async |primary| named::kill(&mut topology.session(&primary.address)?, name, &deadline).await);
                join_all(calls).await.into_iter().sum()
            }
        }
    }

    /// What to call it in a message, without secrets.
    pub fn describe(&self) -> String {
        match &self.0 {
            Deployment::Standalone(server) => server.settings().describe(),
            Deployment::Cluster(topology) => topology.describe(),
            Deployment::Sentinel(group) => group.describe(),
        }
    }
}

/// One ordered line to the server that has the keys of one slot, on a connection of its own. It is made for one thread, and
/// for one call at a time. A call that is dropped counts as failed.
pub struct Client {
    line: Line,
    was_sent: bool,
}

enum Line {
    Server(Box<ServerSession>),
    Owner(Box<OwnerLink>),
    Master(Box<MasterLink<ServerSession>>),
}

impl Client {
    /// Sends all commands of `pipeline` as one, and reads their replies: one for each, in order; a command that is refused
    /// has [`Value::Error`]. It connects if need be, to whoever is the master or the owner of the slot now.
    ///
    /// It is one attempt. Only where no command had an effect because the slot is on another node, it is sent on there. The
    /// connection is given up when the server says that it is no master any more (`READONLY`): the next call looks for it.
    ///
    /// # Errors
    /// Not every command has a reply: those without one may have had their effect. What was sent and not answered is killed
    /// before anything else is sent to that server, by whatever client of the same [`Redis`].
    pub async fn call(&mut self, pipeline: &CommandPipeline, limits: PipelineLimits) -> Result<Vec<Value>, Error> {
        let deadline = Deadline::new(limits.within);
        let call = Call { pipeline, limits, deadline: &deadline, was_sent: Cell::new(false) };
        let ended = match &mut self.line {
            Line::Server(session) => call.on(session, false).await,
            Line::Owner(link) => link.call(&call).await,
            Line::Master(link) => match link.master(deadline.left()).await {
                Ok(session) => call.on(session, false).await,
                Err(error) => Err(error),
            },
        };
        self.was_sent = call.was_sent.get();
        ended
    }

    /// Whether commands of the last call may have reached the server, so that those without a reply may still have their effect:
    /// until another call has succeeded, which kills the connection that was lost.
    pub fn was_sent(&self) -> bool {
        self.was_sent
    }
}

/// A call under way.
struct Call<'a> {
    pipeline: &'a CommandPipeline,
    limits: PipelineLimits,
    deadline: &'a Deadline,
    was_sent: Cell<bool>,
}

impl Call<'_> {
    /// One attempt on a session.
    async fn on(&self, session: &mut ServerSession, is_asking: bool) -> Result<Vec<Value>, Error> {
        let (encoder, longest) = (self.pipeline.pack(is_asking, self.limits.block), self.limits.max_bulk_bytes);
        let mut frames = Vec::with_capacity(self.pipeline.len());
        // Dropped half-way, it may have been.
        self.was_sent.set(true);
        let ended = session.exchange(encoder, longest, self.deadline, self.pipeline.bytes(), &mut frames).await;
        self.was_sent.set(session.was_sent());
        ended?;
        Ok(Value::read_all(frames)?)
    }
}

/// A line to the owner of one slot of a cluster.
struct OwnerLink {
    topology: Arc<Topology>,
    refresher: TopologyRefresher,
    slot: u16,
    link: Option<(Address, NodeLink<ServerSession>)>,
}

impl OwnerLink {
    async fn call(&mut self, call: &Call<'_>) -> Result<Vec<Value>, Error> {
        let mut asked = None;
        for _ in 0..MAX_REDIRECTS {
            let ended = self.attempt(call, asked.take()).await;
            let (from, values) = ended.inspect_err(|_| self.topology.mark_stale())?;
            let redirect = values.iter().find_map(|value| value.as_error()?.redirect());
            let Some(redirect) = redirect else { return Ok(values) };
            let target = redirect.target(&from);
            self.topology.note_addresses(std::iter::once(target.clone()), &from);
            if redirect.is_ask {
                asked = Some(target);
            } else {
                self.topology.moved(&[(self.slot, target)]);
            }
            if !call.pipeline.is_redirected(&values) {
                return Ok(values);
            }
        }
        self.topology.mark_stale();
        Err(unavailable("the slot is moving between nodes"))
    }

    /// Sends it to the owner, or to a node that another has named for this once. Who was asked, and the replies.
    async fn attempt(&mut self, call: &Call<'_>, asked: Option<Address>) -> Result<(Address, Vec<Value>), Error> {
        let slots = self.refresher.refresh(call.deadline).await?;
        let is_asking = asked.is_some();
        let address = asked.or_else(|| slots.owner(self.slot).cloned());
        let address = address.ok_or_else(|| unavailable("no known node of the cluster has the slot"))?;
        if self.link.as_ref().is_none_or(|(known, _)| *known != address) {
            self.link =
                Some((address.clone(), NodeLink::new(address.clone(), self.topology.clone(), |session| session)?));
        }
        let Some((_, link)) = &mut self.link else { return Err(unavailable("there is no connection to the node")) };
        let work = link.with(NodeTimeouts::of(call.deadline.left()), async |session: &mut ServerSession| {
            call.on(session, is_asking).await
        });
        let watch = self.refresher.watch(call.limits.block, call.deadline);
        let ended = match select(std::pin::pin!(work), std::pin::pin!(watch)).await {
            Either::Left((ended, _)) => ended,
            Either::Right((never, _)) => match never {},
        };
        Ok((address, ended??))
    }
}
