//! One ordered line to Redis: batches as pipelines, scans, and which connection they run on.
//!
//! Decides when to connect, when to give a connection up and what is then still to come of it; how long each step may
//! take; and what a failure in the middle means for the rest of a batch.

mod apply;
mod sweep;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::vec;

use ahash::RandomState;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use log::{error, warn};

use super::budget::{Budget, extra};
use super::cause::unexpected;
use super::connection::{Connection, unavailable};
use super::encode::Outbox;
use super::facts::Facts;
use super::greeting;
use super::reply::{Frame, Redirect};
use super::scan::{self, Misplaced};
use super::sharing::SharedCalls;
use super::wait::Wait;
use super::{MAX_OWN_BYTES, Part, Shared, guarded, sentinel};
use crate::cache::companion::slot;
use crate::cache::{CacheError, Command, Doomed, Progress, Reply, Scan, Session};

/// PINGs before a scan.
const ROUND_TRIPS: u32 = 5;

/// A session on one connection, made when needed and made anew when lost.
pub struct RedisSession {
    shared: Arc<Shared>,
    connection: Option<Held>,
    pace: scan::Pace,
    /// For which connection, by its count, the server was asked who it is, and by what it is known.
    server: (u64, u64),
    connects: u64,
    /// Of the last keys that were read many had no value.
    expects_misses: bool,
    /// The server of this connection knows the scripts.
    has_scripts: bool,
    /// Whether several writes may share a call on this connection.
    calls: SharedCalls,
    /// Something of the last pipeline may have reached the server.
    was_sent: bool,
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
    pub(super) misplaced: Vec<Misplaced>,
}

impl RedisSession {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        RedisSession {
            shared,
            connection: None,
            pace: scan::Pace::new(),
            server: (0, 0),
            connects: 0,
            expects_misses: false,
            has_scripts: false,
            calls: SharedCalls::default(),
            was_sent: false,
            lacks_replicas: false,
            asking: false,
            one_each: false,
            own_slot: None,
            redirects: Vec::new(),
            misplaced: Vec::new(),
        }
    }
}

impl Session for RedisSession {
    fn apply<'a>(
        &'a mut self,
        batch: &'a [Command],
        within: Duration,
    ) -> LocalBoxFuture<'a, Vec<Result<Reply, CacheError>>> {
        async move {
            self.shared.batches.fetch_add(1, Ordering::Relaxed);
            self.redirects.clear();
            self.apply_parts(batch, within).await
        }
        .boxed_local()
    }

    fn unlink_and_scan<'a>(
        &'a mut self,
        doomed: &'a [Doomed],
        scan: Option<Scan<'a>>,
        within: Duration,
    ) -> LocalBoxFuture<'a, Progress> {
        async move { self.sweep(doomed, scan, &Budget::new(within)).await }.boxed_local()
    }

    fn ping(&mut self, within: Duration) -> LocalBoxFuture<'_, Result<(), CacheError>> {
        async move {
            let mut outbox = Outbox::new();
            outbox.command(|cmd| cmd.arg("PING"));
            match self.call(outbox, MAX_OWN_BYTES, Budget::new(within)).await?.pop() {
                Some(Frame::Status) => Ok(()),
                Some(Frame::Error(code)) => Err(code.to_error("PING")),
                _ => Err(unexpected()),
            }
        }
        .boxed_local()
    }

    fn reconnects(&self) -> u64 {
        self.connects.saturating_sub(1)
    }
}

impl RedisSession {
    /// For a pipeline that writes this key.
    fn wait(&self, key: &[u8], budget: &Budget, bytes: usize) -> Option<Wait> {
        let Shared { settings, guard, .. } = &*self.shared;
        // Some of the time is kept for the rest, so that too few replicas do not look like a lost connection. As long as
        // they are too few it is less: what is to go elsewhere waits too.
        let part = if self.lacks_replicas { 8 } else { 2 };
        let within = budget.left().min(settings.response_timeout + extra(bytes)) / part;
        let key = || guard.own_key(self.own_slot.unwrap_or_else(|| slot(key)));
        (settings.wait_replicas > 0).then(|| Wait { replicas: settings.wait_replicas, within, key: key() })
    }

    /// One pipeline whose replies count only together.
    pub(super) async fn call(
        &mut self,
        outbox: Outbox,
        max_bytes: usize,
        budget: Budget,
    ) -> Result<Vec<Frame>, CacheError> {
        let mut frames = Vec::new();
        self.exchange(outbox, max_bytes, &budget, 0, &mut frames).await?;
        Ok(frames)
    }

    /// Sends a pipeline that moves about `bytes`, connecting first if need be. After a failure, or an answer that
    /// makes another connection advisable, there is none.
    async fn exchange(
        &mut self,
        outbox: Outbox,
        max_bytes: usize,
        budget: &Budget,
        bytes: usize,
        frames: &mut Vec<Frame>,
    ) -> Result<(), CacheError> {
        self.was_sent = false;
        if !self.is_connected() {
            self.connection = None;
        }
        if budget.left().is_zero() {
            return Err(unavailable("not sent: the time for it had run out"));
        }
        // Held outside of the session: a call that is dropped half-way takes its connection with it.
        let mut held = match self.connection.take() {
            Some(held) => held,
            None => self.connect(budget.left()).await?,
        };
        self.shared.pay(&mut held.connection, budget.left()).await?;
        let within = budget.left().min(self.shared.settings.response_timeout + extra(bytes));
        self.was_sent = true;
        held.connection.exchange(outbox, max_bytes, within, frames).await?;
        if !asks_for_a_new_connection(frames) {
            self.connection = Some(held);
        }
        Ok(())
    }

    /// Connects, if it is not connected.
    pub(super) async fn open(&mut self, within: Duration) -> Result<(), CacheError> {
        if !self.is_connected() {
            self.connection = None;
            self.connection = Some(self.connect(within).await?);
        }
        Ok(())
    }

    /// By what the server of this connection is known: the same after a reconnect, another after its restart. One that does
    /// not say it is another with each connection.
    async fn server(&mut self, budget: &Budget) -> Result<u64, CacheError> {
        self.open(budget.left()).await?;
        if self.server.0 != self.connects {
            let mut outbox = Outbox::new();
            outbox.command(|cmd| cmd.arg("INFO").arg("server"));
            let run_id = match self.call(outbox, MAX_OWN_BYTES, Budget::new(budget.left())).await?.pop() {
                Some(Frame::Text(text)) => run_id(&text),
                _ => None,
            };
            self.server = (self.connects, run_id.unwrap_or_else(|| RandomState::new().hash_one(self.connects)));
        }
        Ok(self.server.1)
    }

    /// The shortest of a few: others and the connecting may delay some. Zero if it cannot be told.
    async fn round_trip(&mut self, budget: &Budget) -> Duration {
        let mut shortest = Duration::MAX;
        for _ in 0..ROUND_TRIPS {
            let begun = Instant::now();
            if self.ping(budget.left()).await.is_err() {
                return Duration::ZERO;
            }
            shortest = shortest.min(begun.elapsed());
        }
        shortest
    }

    pub(super) fn is_connected(&mut self) -> bool {
        self.connection.as_mut().is_some_and(|held| !held.connection.is_stale())
    }

    async fn connect(&mut self, within: Duration) -> Result<Held, CacheError> {
        let shared = self.shared.clone();
        let within = within.min(shared.settings.connect_timeout);
        let opened = greeting::open(&shared, within).await;
        if let Err(CacheError::Unsupported(cause)) = &opened
            && first(&shared.warned_of_version)
        {
            error!(cause = cause.as_ref(); "redis cannot be worked with");
        }
        let connection = opened?;
        self.connects += 1;
        // A proxy that closes over what it does not know may not know what several writes share either.
        self.calls = if connection.facts.is_bare { SharedCalls::UNKNOWN } else { SharedCalls::default() };
        self.has_scripts = false;
        shared.warn_of(&connection.facts);
        let mut held = Held { connection, shared };
        if held.shared.part == Part::Master {
            sentinel::check_role(&mut held.connection, within).await?;
        }
        Ok(held)
    }

    /// Learns from the replies to a pipeline whether the server has the scripts; the replies to what was asked.
    fn take_note(&mut self, frames: Vec<Frame>, with_scripts: bool) -> vec::IntoIter<Frame> {
        let has_lost = |frame: &Frame| matches!(frame, Frame::Error(code) if code.as_str() == "NOSCRIPT");
        self.has_scripts = (self.has_scripts || with_scripts) && !frames.iter().any(has_lost);
        let mut frames = frames.into_iter();
        let loaded = if with_scripts { guarded::LOADED } else { 0 };
        frames.by_ref().take(loaded).for_each(drop);
        frames
    }
}

/// The first half of the id that a server gives itself at its start.
fn run_id(info: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(info).ok()?;
    let id = text.lines().find_map(|line| line.strip_prefix("run_id:"))?;
    u64::from_str_radix(id.get(..16)?, 16).ok()
}

/// A connection that leaves word of what may still come of it, however it is given up.
struct Held {
    connection: Connection,
    shared: Arc<Shared>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.connection.owes_replies()
            && let Some(identity) = &self.connection.facts.identity
        {
            self.shared.debts().push(identity.clone());
        }
    }
}

impl Shared {
    /// Says once what this server does not let be safe.
    fn warn_of(&self, facts: &Facts) {
        if self.part == Part::Sentinel {
            return;
        }
        let redis = self.settings.describe();
        let redis = redis.as_str();
        if facts.is_bare {
            if first(&self.warned_of_ghosts) {
                warn!(redis; "redis, or a proxy before it, closes connections over HELLO, CLIENT or INFO: its version is not known, and after a lost connection an old write may land on a newer one");
            }
            return;
        }
        if (facts.identity.is_none() || !facts.may_kill) && first(&self.warned_of_ghosts) {
            warn!(redis; "redis forbids CLIENT ID, CLIENT INFO or CLIENT KILL: after a lost connection an old write may land on a newer one");
        }
        if facts.make.is_none() && first(&self.warned_of_version) {
            warn!(redis; "redis does not tell its version: Redis 6.2, Valkey 7.2 or later is needed");
        }
        if let Some(policy) = &facts.evicts
            && first(&self.warned_of_eviction)
        {
            warn!(redis, maxmemory_policy = policy.as_str(); "redis may evict versions: late events on such keys will not be noticed");
        }
    }
}

fn first(told: &AtomicBool) -> bool {
    !told.swap(true, Ordering::Relaxed)
}

fn asks_for_a_new_connection(frames: &[Frame]) -> bool {
    frames.iter().any(|frame| matches!(frame, Frame::Error(code) if code.asks_for_a_new_connection()))
}
