//! One ordered line to one server: which connection it runs on, when that is made, and when it is given up.
//!
//! Nothing is sent before every connection that was given up while it owed replies has been killed, whichever session of the
//! server gave it up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;
use log::error;

use super::MAX_OWN_BYTES;
use super::connection::{Connection, StreamBroken, Streamed};
use super::deadline::{Deadline, time_for_bytes};
use super::encode::Encoder;
use super::error::{Error, unavailable, unexpected};
use super::greeting;
use super::reply::Frame;
use super::role;
use super::server::{Role, Server, Warning};
use super::server_info::ServerInfo;

/// PINGs that measure a round trip.
const ROUND_TRIPS: u32 = 5;
const NOT_SENT: &str = "not sent: its time had run out";
const PIN_LOST: &str = "not sent: the connection was lost on which the version was watched";

/// Why a value that comes in while it is sent was not sent.
#[derive(Debug)]
pub(crate) enum NotStreamed {
    /// It broke off.
    BrokeOff,
    /// The server was not reached, or did not answer.
    Failed(Error),
}

impl From<Error> for NotStreamed {
    fn from(error: Error) -> Self {
        NotStreamed::Failed(error)
    }
}

impl From<StreamBroken> for NotStreamed {
    fn from(broken: StreamBroken) -> Self {
        match broken {
            StreamBroken::BrokeOff => NotStreamed::BrokeOff,
            StreamBroken::Line(broken) => NotStreamed::Failed(broken.into()),
        }
    }
}

/// Logging in on a server that is busy, not ill.
const BUSY_LOGIN: Duration = Duration::from_secs(10);

/// A session on one connection, made when needed and made anew when lost.
pub(crate) struct ServerSession {
    server: Arc<Server>,
    connection: Option<Held>,
    connects: u64,
    /// For which connection, by its count, the server was asked who it is, and by what it is known.
    run: (u64, u64),
    was_sent: bool,
    was_closed: bool,
    /// What comes next belongs on this connection; see [`pin`](ServerSession::pin).
    is_pinned: bool,
    /// Connecting and logging in, at most.
    connects_within: Duration,
    only_asks: bool,
}

impl ServerSession {
    /// Connects to nothing yet.
    pub(crate) fn new(server: Arc<Server>) -> Self {
        let connects_within = server.settings.connect_timeout;
        ServerSession {
            server,
            connection: None,
            connects: 0,
            run: (0, 0),
            was_sent: false,
            was_closed: false,
            is_pinned: false,
            connects_within,
            only_asks: false,
        }
    }

    /// Nothing that it sends changes anything: given up while it owes replies, it leaves nothing to be taken back, and it may go on
    /// before what others left is.
    pub(crate) fn only_asks(mut self) -> Self {
        self.only_asks = true;
        self
    }

    /// Waits for longer until a server has let it in that has accepted its connection: it may be busy with what is streamed.
    pub(crate) fn patient(mut self) -> Self {
        self.connects_within = self.connects_within.max(BUSY_LOGIN);
        self
    }

    /// How long connecting and logging in may take.
    pub(crate) fn connects_within(&self) -> Duration {
        self.connects_within
    }

    pub(crate) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Connections made so far. Whoever keeps something about a connection compares this.
    pub(crate) fn connects(&self) -> u64 {
        self.connects
    }

    /// Connections made after the first.
    pub(crate) fn reconnects(&self) -> u64 {
        self.connects.saturating_sub(1)
    }

    /// Whether anything of the last pipeline may have reached the server.
    pub(crate) fn was_sent(&self) -> bool {
        self.was_sent
    }

    /// Whether the server closed the connection before it had answered the last pipeline.
    pub(crate) fn was_closed(&self) -> bool {
        self.was_closed
    }

    /// Whether the next pipelines are for this connection alone, because of what the server keeps with it (`WATCH`). If it is
    /// lost, the next one fails instead of going over another, and the session is pinned no more.
    pub(crate) fn pin(&mut self, is_pinned: bool) {
        self.is_pinned = is_pinned;
    }

    /// Whether there is a connection, as far as can be known without asking.
    pub(crate) fn is_connected(&mut self) -> bool {
        self.connection.as_mut().is_some_and(|held| !held.connection.is_stale())
    }

    /// Whether the last pipeline left a connection. The server may have closed it since.
    pub(crate) fn has_connection(&self) -> bool {
        self.connection.is_some()
    }

    /// What the server has said of itself on this connection.
    pub(crate) fn info(&self) -> Option<&ServerInfo> {
        self.connection.as_ref().map(|held| &held.connection.info)
    }

    /// Memory for the next pipeline.
    pub(crate) fn take_buffer(&mut self) -> Vec<u8> {
        self.connection.as_mut().map(|held| held.connection.take_buffer()).unwrap_or_default()
    }

    /// Connects, if it is not connected.
    pub(crate) async fn open(&mut self, within: Duration) -> Result<(), Error> {
        if !self.is_connected() {
            self.connection = None;
            self.connection = Some(self.connect(within).await?);
        }
        Ok(())
    }

    /// One pipeline whose replies count only together.
    pub(crate) async fn call(
        &mut self,
        encoder: Encoder,
        max_bytes: usize,
        deadline: Deadline,
    ) -> Result<Vec<Frame>, Error> {
        let mut frames = Vec::new();
        self.exchange(encoder, max_bytes, &deadline, 0, &mut frames).await?;
        Ok(frames)
    }

    /// Sends a pipeline that moves about `bytes`, connecting first if need be. After a failure, or an answer that
    /// makes another connection advisable, there is none.
    pub(crate) async fn exchange(
        &mut self,
        encoder: Encoder,
        max_bytes: usize,
        deadline: &Deadline,
        bytes: usize,
        frames: &mut Vec<Frame>,
    ) -> Result<(), Error> {
        let (mut held, left) = self.ready(deadline).await?;
        let within = left.min(self.server.settings.response_timeout + time_for_bytes(bytes) + encoder.blocks());
        self.was_sent = true;
        if let Err(error) = held.connection.exchange_raw(encoder, max_bytes, within, frames).await {
            self.was_closed = error.is_closed();
            return Err(error.into());
        }
        self.keep(held, frames);
        Ok(())
    }

    /// A connection on which something may be sent, and the time left for that: connected if need be, and with nothing left of what
    /// earlier ones may still owe.
    /// Held outside of the session: a call that is dropped half-way takes its connection with it.
    async fn ready(&mut self, deadline: &Deadline) -> Result<(Held, Duration), Error> {
        (self.was_sent, self.was_closed) = (false, false);
        if !self.is_connected() {
            self.connection = None;
            if std::mem::take(&mut self.is_pinned) {
                return Err(unavailable(PIN_LOST));
            }
        }
        let left = time_left(deadline)?;
        let is_ready = self.connection.is_some() && (self.only_asks || !self.server.has_abandoned());
        let mut held = match self.connection.take() {
            Some(held) => held,
            None => self.connect(left).await?,
        };
        if is_ready {
            return Ok((held, left));
        }
        if !self.only_asks {
            self.server.kill_abandoned(&mut held.connection, deadline.left()).await?;
        }
        // Connecting took its time, or the process was stopped: what has run out is not sent.
        match time_left(deadline) {
            Ok(left) => Ok((held, left)),
            Err(error) => {
                self.connection = Some(held);
                Err(error)
            }
        }
    }

    /// Goes on with the connection, unless an answer makes another one advisable.
    fn keep(&mut self, held: Held, frames: &[Frame]) {
        if !asks_for_a_new_connection(frames) {
            self.connection = Some(held);
        }
    }

    /// Does what [`exchange`](ServerSession::exchange) does, with a value that comes in while it is sent. If it breaks off,
    /// the connection is closed, and the server has run nothing of it.
    pub(crate) async fn stream(
        &mut self,
        value: Streamed<'_>,
        max_bytes: usize,
        deadline: &Deadline,
        frames: &mut Vec<Frame>,
    ) -> Result<(), NotStreamed> {
        let (mut held, left) = self.ready(deadline).await?;
        self.was_sent = true;
        held.connection.stream(value, max_bytes, left, frames).await?;
        self.keep(held, frames);
        Ok(())
    }

    /// Asks for a sign of life, connecting if need be.
    pub(crate) async fn ping(&mut self, within: Duration) -> Result<(), Error> {
        let mut encoder = Encoder::new();
        encoder.command(|cmd| cmd.arg("PING"));
        match self.call(encoder, MAX_OWN_BYTES, Deadline::new(within)).await?.pop() {
            Some(Frame::Status) => Ok(()),
            Some(Frame::Error(code)) => Err(code.to_error("PING")),
            _ => Err(unexpected()),
        }
    }

    /// The id of this connection's server: the same after a reconnect, another after its restart. One that does
    /// not say it is another with each connection.
    pub(crate) async fn run_id(&mut self, deadline: &Deadline) -> Result<u64, Error> {
        self.open(deadline.left()).await?;
        if self.run.0 != self.connects {
            let mut encoder = Encoder::new();
            encoder.command(|cmd| cmd.arg("INFO").arg("server"));
            let run_id = match self.call(encoder, MAX_OWN_BYTES, Deadline::new(deadline.left())).await?.pop() {
                Some(Frame::Text(text)) => run_id(&text),
                _ => None,
            };
            self.run = (self.connects, run_id.unwrap_or_else(|| RandomState::new().hash_one(self.connects)));
        }
        Ok(self.run.1)
    }

    /// The shortest of a few: others and the connecting may delay some. Zero if it cannot be told.
    pub(crate) async fn round_trip(&mut self, deadline: &Deadline) -> Duration {
        let mut shortest = Duration::MAX;
        for _ in 0..ROUND_TRIPS {
            let begun = Instant::now();
            if self.ping(deadline.left()).await.is_err() {
                return Duration::ZERO;
            }
            shortest = shortest.min(begun.elapsed());
        }
        shortest
    }

    async fn connect(&mut self, within: Duration) -> Result<Held, Error> {
        let server = self.server.clone();
        let within = within.min(self.connects_within);
        let opened = greeting::open(&server, within).await;
        if let Err(Error::Unsupported(cause)) = &opened
            && server.is_first(Warning::Release)
        {
            error!(cause = cause.as_ref(); "Redis is unusable");
        }
        let connection = opened?;
        self.connects += 1;
        server.take_note(&connection.info);
        let mut held = Held { connection, server, only_asks: self.only_asks };
        if held.server.role == Role::Master {
            role::check(&mut held.connection, within).await?;
        }
        Ok(held)
    }
}

impl AsRef<ServerSession> for ServerSession {
    fn as_ref(&self) -> &ServerSession {
        self
    }
}

impl AsMut<ServerSession> for ServerSession {
    fn as_mut(&mut self) -> &mut ServerSession {
        self
    }
}

/// An error if none is.
fn time_left(deadline: &Deadline) -> Result<Duration, Error> {
    Some(deadline.left()).filter(|left| !left.is_zero()).ok_or_else(|| unavailable(NOT_SENT))
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
    server: Arc<Server>,
    only_asks: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.only_asks
            && self.connection.owes_replies()
            && let Some(identity) = &self.connection.info.identity
        {
            self.server.abandon(identity.clone());
        }
    }
}

fn asks_for_a_new_connection(frames: &[Frame]) -> bool {
    frames.iter().any(|frame| matches!(frame, Frame::Error(code) if code.asks_for_a_new_connection()))
}
