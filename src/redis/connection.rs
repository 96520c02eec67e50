//! One connection to Redis, with one pipeline in flight at a time.
//!
//! It knows whether a pipeline is unanswered ([`Connection::owes_replies`]) and how the server identifies it
//! ([`ConnectionId`](super::server_info::ConnectionId)), so that it can be killed. The session decides when.

#[cfg(target_os = "linux")]
mod paced;
mod streamed;

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::FutureExt;
use futures::future::{poll_fn, select_ok};
use redis::io::tcp::socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::io::poll_read_buf;

pub(crate) use self::streamed::{StreamBroken, Streamed};
use super::cause::{self, TransportError};
use super::encode::Encoder;
use super::error::{Error, unavailable};
use super::error_code::Hint;
use super::reply::{Frame, Malformed, ReplyDecoder};
use super::server_info::ServerInfo;
use super::settings::{Settings, TlsClient};

/// Addresses of one name that are tried, at most: all at once, and the first to answer wins.
const MAX_ADDRESSES: usize = 8;
/// How long the peer's kernel may leave sent bytes unacknowledged before ours ends the connection.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
/// Pieces handed to the kernel in one call.
const MAX_SLICES: usize = 16;
/// Memory that is kept between pipelines, at most.
const MAX_ROOM_BYTES: usize = 256 * 1024;
/// Frames of one pipeline, elements of arrays included.
const MAX_FRAMES: usize = 1 << 20;
/// Strings of one pipeline together, at most, or a single longer one that was asked for.
const MAX_TOTAL_BYTES: usize = 128 * 1024 * 1024;

/// How long a server that has answered a PING may take to refuse what came right behind it.
const GRACE: Duration = Duration::from_millis(50);

/// The step of connecting in which both sides agree on TLS.
pub(crate) const HANDSHAKE: &str = "the TLS handshake";

trait Transport: AsyncRead + AsyncWrite {
    fn socket(&self) -> &TcpStream;
}

impl Transport for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Transport for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

pub(crate) struct Connection {
    stream: Pin<Box<dyn Transport>>,
    decoder: ReplyDecoder,
    /// What the last pipeline was packed into.
    buffer: Vec<u8>,
    owes_replies: bool,
    /// What the server has said of itself.
    pub(crate) info: ServerInfo,
}

impl Connection {
    /// Connects; the greeting is still to come. The caller bounds the time, and learns from `step` what is under way.
    ///
    /// # Errors
    /// The cause, for a person.
    pub(crate) async fn connect(
        settings: &Settings,
        tls: Option<&TlsClient>,
        step: &Cell<&'static str>,
    ) -> Result<Self, String> {
        step.set("looking up its name and connecting");
        let connected = timeout(settings.connect_timeout, connect_tcp(&settings.host, settings.port)).await;
        let tcp = connected
            .map_err(|_| format!("{} took longer than {} ms", step.get(), settings.connect_timeout.as_millis()))??;
        let stream: Pin<Box<dyn Transport>> = match tls {
            None => Box::pin(tcp),
            Some(tls) => {
                step.set(HANDSHAKE);
                let connector = TlsConnector::from(tls.config.clone());
                let handshake = connector.connect(tls.name.clone(), tcp).await;
                Box::pin(handshake.map_err(|error| cause::of_handshake(&error))?)
            }
        };
        Ok(Connection {
            stream,
            decoder: ReplyDecoder::default(),
            buffer: Vec::new(),
            owes_replies: false,
            info: ServerInfo::default(),
        })
    }

    /// Sends a pipeline and reads its replies into `frames`, which after a failure holds those that did arrive. Dropped
    /// or failed, it leaves the connection owing replies: of no further use.
    pub(crate) async fn exchange(
        &mut self,
        encoder: Encoder,
        max_bytes: usize,
        within: Duration,
        frames: &mut Vec<Frame>,
    ) -> Result<(), Error> {
        Ok(self.exchange_raw(encoder, max_bytes, within, frames).await?)
    }

    /// Does what [`Connection::exchange`] does, and returns the kind of the failure.
    pub(crate) async fn exchange_raw(
        &mut self,
        mut encoder: Encoder,
        max_bytes: usize,
        within: Duration,
        frames: &mut Vec<Frame>,
    ) -> Result<(), TransportError> {
        self.owes_replies = true;
        let (due, asked, before) = (encoder.commands(), encoder.take_asked(), encoder.replies_before_value());
        let pieces = encoder.into_pieces();
        let packed = pieces.back().cloned().unwrap_or_default();
        let mut flight = InFlight { pieces, due, nested: 0, replies: 0, asked, max_bytes, read_bytes: 0, frames };
        let ended = timeout(within, async {
            if let Some(before) = before {
                self.probe_length(before, &mut flight).await?;
            }
            poll_fn(|cx| self.poll_exchange(cx, &mut flight)).await
        })
        .await;
        match ended.map_err(|_| TransportError::TimedOut) {
            // After that the server reads nothing more: it says so and closes the connection, in the middle of what we send.
            Ok(Err(_)) if is_last_word(flight.frames) => {}
            ended => ended??,
        }
        self.owes_replies = false;
        let buffer = reusable(packed);
        if buffer.capacity() > self.buffer.capacity() {
            self.buffer = buffer;
        }
        Ok(())
    }

    /// Memory for the next pipeline.
    pub(crate) fn take_buffer(&mut self) -> Vec<u8> {
        mem::take(&mut self.buffer)
    }

    /// Whether something was sent that was not answered in full, and may still take effect.
    pub(crate) fn owes_replies(&self) -> bool {
        self.owes_replies
    }

    /// Bytes that were read and are no reply.
    pub(crate) fn unread(&self) -> &[u8] {
        self.decoder.unread()
    }

    /// Whether the server has closed an idle connection, or said something unasked.
    pub(crate) fn is_stale(&mut self) -> bool {
        !self.decoder.is_empty() || self.stream.read(&mut [0]).now_or_never().is_some()
    }

    /// Sends what stands before the first value, reads that number of replies, and waits a moment for the server to speak
    /// against the value's length. If it does, there is nothing more to send.
    async fn probe_length(&mut self, before: usize, flight: &mut InFlight<'_>) -> Result<(), TransportError> {
        let behind = (flight.pieces.split_off(1), flight.due.saturating_sub(before));
        flight.due = before;
        poll_fn(|cx| self.poll_exchange(cx, flight)).await?;
        // That to the PING.
        flight.frames.remove(0);
        flight.due = 1;
        match timeout(GRACE, poll_fn(|cx| self.poll_replies(cx, flight))).await {
            Ok(said) => {
                flight.due = 0;
                said
            }
            Err(_) => {
                (flight.pieces, flight.due) = behind;
                Ok(())
            }
        }
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>, flight: &mut InFlight<'_>) -> Poll<Result<(), TransportError>> {
        // Both directions go on together: a peer that stops reading until its answers are taken must not block us. One that
        // reads no more may have said why.
        let sent = self.poll_send(cx, &mut flight.pieces);
        match (sent, self.poll_replies(cx, flight)) {
            (Poll::Ready(Err(error)), Poll::Pending | Poll::Ready(Err(_))) => Poll::Ready(Err(error)),
            (_, replies) => replies,
        }
    }

    fn poll_replies(&mut self, cx: &mut Context<'_>, flight: &mut InFlight<'_>) -> Poll<Result<(), TransportError>> {
        loop {
            while flight.due > 0
                && let Some(frame) = self.decoder.next(flight.max_bytes)?
            {
                flight.take(frame)?;
            }
            if flight.due == 0 {
                return Poll::Ready(Ok(()));
            }
            match ready!(poll_read_buf(self.stream.as_mut(), cx, self.decoder.room())) {
                Ok(0) => return Poll::Ready(Err(TransportError::Closed)),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(TransportError::Io(error))),
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, pieces: &mut VecDeque<Bytes>) -> Poll<Result<(), TransportError>> {
        while !pieces.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            for (slice, piece) in slices.iter_mut().zip(pieces.iter()) {
                *slice = IoSlice::new(piece);
            }
            let filled = slices.get(..pieces.len()).unwrap_or(&slices);
            match ready!(self.stream.as_mut().poll_write_vectored(cx, filled)) {
                Ok(0) => return Poll::Ready(Err(TransportError::Closed)),
                Ok(written) => consume(pieces, written),
                Err(error) => return Poll::Ready(Err(TransportError::Io(error))),
            }
        }
        self.stream.as_mut().poll_flush(cx).map_err(TransportError::Io)
    }
}

/// A pipeline that is being sent and answered.
struct InFlight<'a> {
    pieces: VecDeque<Bytes>,
    /// Frames that are still to come.
    due: usize,
    /// How many of them are elements of the current reply.
    nested: usize,
    /// Whole replies so far.
    replies: usize,
    /// Which of them are those to an `ASKING`, in order.
    asked: VecDeque<usize>,
    max_bytes: usize,
    read_bytes: usize,
    frames: &'a mut Vec<Frame>,
}

impl InFlight<'_> {
    fn take(&mut self, frame: Frame) -> Result<(), Malformed> {
        self.due -= 1;
        if self.nested > 0 {
            self.nested -= 1;
        } else {
            self.replies += 1;
            if self.asked.front().is_some_and(|asked| *asked + 1 == self.replies) {
                self.asked.pop_front();
                // If it was refused, the command behind it is sent on to where we come from.
                return if matches!(frame, Frame::Array(1..)) { Err(Malformed) } else { Ok(()) };
            }
        }
        match &frame {
            Frame::Array(elements) => {
                self.due += elements;
                self.nested += elements;
            }
            Frame::Text(text) => self.read_bytes += text.len(),
            _ => {}
        }
        let too_many = self.frames.len() + self.due > MAX_FRAMES;
        if too_many || self.read_bytes > self.max_bytes.max(MAX_TOTAL_BYTES) {
            return Err(Malformed);
        }
        self.frames.push(frame);
        Ok(())
    }
}

/// Whether the last reply is the server's last word on this connection.
fn is_last_word(frames: &[Frame]) -> bool {
    matches!(frames.last(), Some(Frame::Error(code)) if code.hint() == Some(Hint::TooLong))
}

/// The memory of what nobody holds any more, if it is worth keeping and not too much.
fn reusable(packed: Bytes) -> Vec<u8> {
    let Ok(mut packed) = packed.try_into_mut() else { return Vec::new() };
    packed.clear();
    let buffer = Vec::from(packed);
    if buffer.capacity() <= MAX_ROOM_BYTES { buffer } else { Vec::new() }
}

/// Removes `written` bytes from the front, and pieces that are written as a whole.
fn consume(pieces: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(first) = pieces.front_mut() {
        if first.len() > written {
            return first.advance(written);
        }
        written -= first.len();
        pieces.pop_front();
    }
}

async fn connect_tcp(host: &str, port: u16) -> Result<TcpStream, String> {
    let found = lookup_host((host, port)).await.map_err(|_| "its name cannot be resolved")?;
    let attempts: Vec<_> = found.take(MAX_ADDRESSES).map(|address| Box::pin(connect_address(address))).collect();
    if attempts.is_empty() {
        return Err("its name has no address".to_owned());
    }
    Ok(select_ok(attempts).await.map_err(|error| error.kind().to_string())?.0)
}

async fn connect_address(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_PROBES))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(stream)
}

impl From<TransportError> for Error {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Closed => unavailable("redis closed the connection"),
            TransportError::Malformed => Malformed.into(),
            TransportError::TimedOut => unavailable("redis did not answer in time"),
            TransportError::Io(error) => {
                unavailable(format!("the connection to redis failed: {}", cause::of_io(&error)))
            }
        }
    }
}

impl From<Malformed> for TransportError {
    fn from(_: Malformed) -> Self {
        TransportError::Malformed
    }
}
