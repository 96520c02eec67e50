//! A cache on the master that sentinels name.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;

use super::{CacheSettings, CacheState, RedisSession, SetupError};
use crate::cache::{
    Cache, CacheError, Command, DeleteGroup, Incoming, Progress, Reply, Room, Scan, Session, StreamError,
};
use crate::redis::sentinel::{MasterLink, SentinelGroup};
use crate::redis::{Address, Deadline, ServerSession};

/// The master that sentinels watch under a name.
#[derive(Clone)]
pub struct SentinelCache {
    group: Arc<SentinelGroup>,
    shared: Arc<CacheState>,
}

impl SentinelCache {
    /// `settings` are for the master, but for its address, which the `sentinels` know. Connects to nothing.
    ///
    /// # Errors
    /// Settings that no cache can be built from.
    pub fn new(settings: impl Into<CacheSettings>, sentinels: Vec<Address>, name: String) -> Result<Self, SetupError> {
        let settings = settings.into();
        let shared = CacheState::new(&settings, false)?;
        Ok(SentinelCache { group: Arc::new(SentinelGroup::new(settings.connection, sentinels, name)?), shared })
    }
}

impl Cache for SentinelCache {
    fn session(&self) -> Box<dyn Session> {
        let shared = self.shared.clone();
        let own = move |session| RedisSession::new(session, shared.clone());
        Box::new(SentinelSession(MasterLink::new(self.group.clone(), own)))
    }

    fn streaming_session(&self) -> Box<dyn Session> {
        let shared = self.shared.clone();
        let own = move |session: ServerSession| RedisSession::new(session.patient(), shared.clone());
        Box::new(SentinelSession(MasterLink::new(self.group.clone(), own)))
    }

    fn room(&self) -> &Room {
        &self.shared.room
    }

    fn describe(&self) -> String {
        self.group.describe()
    }
}

struct SentinelSession(MasterLink<RedisSession>);

impl Session for SentinelSession {
    fn apply<'a>(
        &'a mut self,
        batch: &'a [Command],
        within: Duration,
    ) -> LocalBoxFuture<'a, Vec<Result<Reply, CacheError>>> {
        async move {
            let deadline = Deadline::new(within);
            match self.0.master(within).await {
                Ok(session) => session.apply(batch, deadline.left()).await,
                Err(error) => vec![Err(error.into()); batch.len()],
            }
        }
        .boxed_local()
    }

    fn unlink_and_scan<'a>(
        &'a mut self,
        groups: &'a [DeleteGroup],
        scan: Option<Scan<'a>>,
        within: Duration,
    ) -> LocalBoxFuture<'a, Progress> {
        async move {
            let deadline = Deadline::new(within);
            match self.0.master(within).await {
                Ok(session) => session.unlink_and_scan(groups, scan, deadline.left()).await,
                Err(error) => {
                    let unlinked = vec![Default::default(); groups.len()];
                    Progress { unlinked, failure: Some(error.into()), ..Progress::default() }
                }
            }
        }
        .boxed_local()
    }

    fn store_incoming<'a>(
        &'a mut self,
        value: Incoming<'a>,
        within: Duration,
    ) -> LocalBoxFuture<'a, Result<Reply, StreamError>> {
        async move {
            let deadline = Deadline::new(within);
            let session = self.0.master(within).await.map_err(CacheError::from)?;
            session.take_in(value, deadline.left()).await
        }
        .boxed_local()
    }

    fn refresh_long<'a>(
        &'a mut self,
        refresh: &'a Command,
        within: Duration,
    ) -> LocalBoxFuture<'a, Result<Reply, CacheError>> {
        async move {
            let deadline = Deadline::new(within);
            let session = self.0.master(within).await.map_err(CacheError::from)?;
            session.refresh_in_steps(refresh, &deadline).await
        }
        .boxed_local()
    }

    fn ping(&mut self, within: Duration) -> LocalBoxFuture<'_, Result<(), CacheError>> {
        async move { Ok(self.0.check(within).await?) }.boxed_local()
    }

    fn is_connected(&mut self) -> bool {
        self.0.is_connected()
    }

    fn reconnects(&self) -> u64 {
        self.0.reconnects()
    }
}
