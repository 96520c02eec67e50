//! Batches as pipelines, and scans, on one session of the client.
//!
//! Decides how long each step may take, and what a failure in the middle means for the rest of a batch.

mod apply;
mod delete_and_scan;
mod refresh;
mod slot_keys;
mod stream;
mod watched;

use std::sync::Arc;
use std::time::Duration;
use std::vec;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use log::warn;

use super::scan::{self, MovedKeys};
use super::sharing::{SharedCalls, Shortcut};
use super::wait::Wait;
use super::{CacheState, versioned};
use crate::cache::{CacheError, Command, DeleteGroup, Incoming, Progress, Reply, Scan, Session, StreamError};
use crate::redis::slot::slot;
use crate::redis::{self, Deadline, Encoder, Frame, Redirect, Warning, time_for_bytes};

/// A session on one connection, made when needed and made anew when lost.
pub struct RedisSession {
    session: redis::ServerSession,
    shared: Arc<CacheState>,
    pace: scan::ScanPace,
    /// The connection, by its count, of which `has_scripts` and `calls` are told.
    connects: u64,
    /// Of the last keys that were read many had no value.
    expects_misses: bool,
    /// The server of this connection knows the scripts.
    has_scripts: bool,
    /// Whether several writes may share a call on this connection.
    calls: SharedCalls,
    /// Cluster: whether Redis lists the keys of a slot.
    listing: Shortcut,
    /// Too few replicas acknowledged the last write.
    lacks_replicas: bool,
    /// Cluster: each command with an `ASKING` before it.
    pub(super) asking: bool,
    /// Cluster: each key that is deleted in a call of its own.
    pub(super) one_each: bool,
    /// Cluster: the slot in which to write what a `WAIT` waits for; None: that of the last key written.
    pub(super) own_slot: Option<u16>,
    /// Cluster: commands of the last batch, or parts of the last deletion, that belong to another node.
    pub(super) redirects: Vec<(usize, Redirect)>,
    pub(super) moved_keys: Vec<MovedKeys>,
}

impl RedisSession {
    pub(super) fn new(session: redis::ServerSession, shared: Arc<CacheState>) -> Self {
        RedisSession {
            session,
            shared,
            pace: scan::ScanPace::new(),
            connects: 0,
            expects_misses: false,
            has_scripts: false,
            calls: SharedCalls::of(None),
            listing: Shortcut::default(),
            lacks_replicas: false,
            asking: false,
            one_each: false,
            own_slot: None,
            redirects: Vec::new(),
            moved_keys: Vec::new(),
        }
    }
}

impl AsRef<redis::ServerSession> for RedisSession {
    fn as_ref(&self) -> &redis::ServerSession {
        &self.session
    }
}

impl AsMut<redis::ServerSession> for RedisSession {
    fn as_mut(&mut self) -> &mut redis::ServerSession {
        &mut self.session
    }
}

impl Session for RedisSession {
    fn apply<'a>(
        &'a mut self,
        batch: &'a [Command],
        within: Duration,
    ) -> LocalBoxFuture<'a, Vec<Result<Reply, CacheError>>> {
        async move {
            self.session.server().count_request();
            self.redirects.clear();
            self.session.pin(false);
            self.note_connection();
            self.apply_parts(batch, within).await
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
            self.session.pin(false);
            self.note_connection();
            self.delete_and_scan(groups, scan, &Deadline::new(within)).await
        }
        .boxed_local()
    }

    fn store_incoming<'a>(
        &'a mut self,
        value: Incoming<'a>,
        within: Duration,
    ) -> LocalBoxFuture<'a, Result<Reply, StreamError>> {
        async move { self.take_in(value, within).await }.boxed_local()
    }

    fn refresh_long<'a>(
        &'a mut self,
        refresh: &'a Command,
        within: Duration,
    ) -> LocalBoxFuture<'a, Result<Reply, CacheError>> {
        async move { self.refresh_in_steps(refresh, &Deadline::new(within)).await }.boxed_local()
    }

    fn ping(&mut self, within: Duration) -> LocalBoxFuture<'_, Result<(), CacheError>> {
        async move {
            self.session.pin(false);
            let pong = self.session.ping(within).await;
            self.note_connection();
            Ok(pong?)
        }
        .boxed_local()
    }

    fn is_connected(&mut self) -> bool {
        self.session.is_connected()
    }

    fn reconnects(&self) -> u64 {
        self.session.reconnects()
    }
}

impl RedisSession {
    /// For a pipeline that writes this key.
    fn wait(&self, key: &[u8], deadline: &Deadline, bytes: usize) -> Option<Wait> {
        let CacheState { wait_replicas: replicas @ 1.., version_keys, .. } = &*self.shared else { return None };
        // Some of the time is kept for the rest, so that too few replicas do not look like a lost connection. As long as
        // they are too few it is less: what is to go elsewhere waits too.
        let part = if self.lacks_replicas { 8 } else { 2 };
        let response_timeout = self.session.server().settings().response_timeout;
        let within = deadline.left().min(response_timeout + time_for_bytes(bytes)) / part;
        let key = version_keys.own_key(self.own_slot.unwrap_or_else(|| slot(key)));
        Some(Wait { replicas: *replicas, within, key })
    }

    /// As [`redis::ServerSession::exchange`].
    async fn exchange(
        &mut self,
        encoder: Encoder,
        max_bytes: usize,
        deadline: &Deadline,
        bytes: usize,
        frames: &mut Vec<Frame>,
    ) -> Result<(), CacheError> {
        let ended = self.session.exchange(encoder, max_bytes, deadline, bytes, frames).await;
        self.note_connection();
        Ok(ended?)
    }

    /// What was learnt on another connection counts no more.
    fn note_connection(&mut self) {
        if self.connects == self.session.connects() {
            return;
        }
        self.connects = self.session.connects();
        self.has_scripts = false;
        self.calls = SharedCalls::of(None);
        let Some(info) = self.session.info() else { return };
        // A proxy that closes over what it does not know may not know what several writes share either.
        self.calls = if info.is_minimal { SharedCalls::UNKNOWN } else { SharedCalls::of(info.make.as_ref()) };
        let server = self.session.server();
        if let Some(policy) = &info.eviction_policy
            && server.is_first(Warning::Eviction)
        {
            let redis = server.settings().describe();
            warn!(redis, maxmemory_policy = policy.as_str(); "redis may evict versions: the service will not notice late events on such keys");
        }
    }

    /// Learns from the replies to a pipeline whether the server has the scripts; the replies to what was asked.
    fn take_note(&mut self, frames: Vec<Frame>, with_scripts: bool) -> vec::IntoIter<Frame> {
        let has_lost = |frame: &Frame| matches!(frame, Frame::Error(code) if code.as_str() == "NOSCRIPT");
        self.has_scripts = (self.has_scripts || with_scripts) && !frames.iter().any(has_lost);
        let loaded = if with_scripts { versioned::LOADED } else { 0 };
        let (mut frames, mut refusal) = (frames.into_iter(), None);
        for frame in frames.by_ref().take(loaded) {
            refusal = refusal.or_else(|| refused_script(frame));
        }
        if let Some(refusal) = refusal {
            // Without the script behind it the call would be tried again and again.
            frames.as_mut_slice().iter_mut().filter(|frame| has_lost(frame)).for_each(|frame| *frame = refusal.clone());
        }
        frames
    }
}

/// The answer to `SCRIPT LOAD`, if it is refused for good; it then answers for what needs the script.
fn refused_script(answer: Frame) -> Option<Frame> {
    const LOAD: &str = "SCRIPT LOAD";
    let Frame::Error(code) = answer else { return None };
    matches!(code.to_error(LOAD), redis::Error::Refused(_)).then(|| Frame::Error(code.inside(LOAD)))
}
