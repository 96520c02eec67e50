//! A pipeline with one value in it that comes in while it is sent.
//!
//! The value is announced with its length, so the server runs nothing of it before the last byte has come: whoever stops in
//! the middle closes the connection, and nothing has happened. One piece is held at a time, so that what comes in faster than
//! it is sent waits where it comes from.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::future::poll_fn;
use tokio::time::timeout;

use super::{Connection, InFlight, is_last_word};
use crate::redis::cause::TransportError;
use crate::redis::encode::Encoder;
use crate::redis::reply::Frame;

/// The pieces of a value. `None` in place of one: it has broken off.
pub(crate) type ValuePieces<'a> = Pin<&'a mut dyn Stream<Item = Option<Bytes>>>;

/// What is sent.
pub(crate) struct Streamed<'a> {
    /// Ends with the announcement of the value ([`Encoder::open_value`]).
    pub(crate) head: Encoder,
    /// The value's length in bytes.
    pub(crate) bytes: usize,
    pub(crate) pieces: ValuePieces<'a>,
    /// Makes what follows the value ([`Encoder::after_value`]), once that is whole.
    pub(crate) tail: &'a dyn Fn() -> Encoder,
    /// Replies that are due beside those to the head: as many as the tail has commands.
    pub(crate) replies: usize,
}

/// Why it was not sent, or not answered.
#[derive(Debug)]
pub(crate) enum StreamBroken {
    /// The value broke off, or has another length than announced.
    BrokeOff,
    Line(TransportError),
}

impl From<TransportError> for StreamBroken {
    fn from(broken: TransportError) -> Self {
        StreamBroken::Line(broken)
    }
}

/// The part that is not sent yet.
struct Source<'a> {
    left: usize,
    pieces: ValuePieces<'a>,
    tail: Option<&'a dyn Fn() -> Encoder>,
}

impl Connection {
    /// Does what [`Connection::exchange`] does. If it is dropped or fails, it leaves the connection owing replies: of no
    /// further use.
    pub(crate) async fn stream(
        &mut self,
        Streamed { head, bytes, pieces, tail, replies }: Streamed<'_>,
        max_bytes: usize,
        within: Duration,
        frames: &mut Vec<Frame>,
    ) -> Result<(), StreamBroken> {
        self.owes_replies = true;
        #[cfg(target_os = "linux")]
        super::paced::pace(self.stream.socket());
        let due = head.commands() + replies;
        let pieces_of_head = head.into_pieces();
        let mut flight = InFlight {
            pieces: pieces_of_head,
            due,
            nested: 0,
            replies: 0,
            asked: VecDeque::new(),
            max_bytes,
            read_bytes: 0,
            frames,
        };
        let mut source = Source { left: bytes, pieces, tail: Some(tail) };
        let ended = timeout(within, poll_fn(|cx| self.poll_stream(cx, &mut flight, &mut source))).await;
        match ended.map_err(|_| StreamBroken::Line(TransportError::TimedOut)) {
            Ok(Err(StreamBroken::Line(_))) if is_last_word(flight.frames) => {}
            ended => ended??,
        }
        self.owes_replies = false;
        Ok(())
    }

    fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
        flight: &mut InFlight<'_>,
        source: &mut Source<'_>,
    ) -> Poll<Result<(), StreamBroken>> {
        loop {
            let sent = self.poll_send(cx, &mut flight.pieces);
            match (sent, self.poll_replies(cx, flight)) {
                (_, Poll::Ready(Ok(()))) => return Poll::Ready(Ok(())),
                (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => return Poll::Ready(Err(error.into())),
                (Poll::Pending, Poll::Pending) => return Poll::Pending,
                (Poll::Ready(Ok(())), Poll::Pending) => {}
            }
            if source.tail.is_none() {
                return Poll::Pending;
            }
            match ready!(source.pieces.as_mut().poll_next(cx)) {
                Some(Some(piece)) if piece.len() <= source.left => {
                    source.left -= piece.len();
                    flight.pieces.push_back(piece);
                }
                None if source.left == 0 => {
                    let tail = source.tail.take().into_iter().flat_map(|tail| tail().into_pieces());
                    flight.pieces.extend(tail);
                }
                Some(_) | None => return Poll::Ready(Err(StreamBroken::BrokeOff)),
            }
        }
    }
}
