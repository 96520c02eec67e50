//! The stream under awc: one connection, plain or TLS, that makes up for what awc's own framing lets pass. It reads each
//! response head before awc does, and promises that
//!
//! - a body that ends before its length or its last chunk is an error (awc takes it for the end);
//! - a body that only the end of the connection delimits is read (awc takes it for empty in HTTP/1.1);
//! - chunks under HTTP/1.0, which awc would hand on with their sizes, are an error;
//! - interim responses are skipped (awc takes one for the answer, and pools the connection with the answer still coming);
//! - a head is at most [`MAX_HEAD_BYTES`] long, interim ones included, and of many headers awc gets those that say something;
//! - a body of known length and without coding does not go through awc ([`Aside`]).
//!
//! Codings, statuses and sizes are left to others.

mod head;
mod transport;

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_rt::net::{ActixStream, Ready};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::head::{ConnectionEnd, Head};
pub(super) use self::transport::Transport;
use super::aside::Aside;
use super::signs;

/// Bytes of a response head, at most.
pub(super) const MAX_HEAD_BYTES: usize = 64 * 1024;
/// A head and a small body fit.
const READ_BYTES: usize = 8 * 1024;

#[derive(Debug)]
pub(super) struct BlobConnection {
    transport: Transport,
    state: BodyState,
    /// What was read ahead of awc.
    ahead: BytesMut,
    /// What awc has yet to be told in place of the head of a response whose body does not go through it.
    stand_in: &'static [u8],
    /// Bytes of interim responses before the one that is awaited.
    interim_bytes: usize,
    _counted: Counted,
}

#[derive(Debug)]
enum BodyState {
    /// A head is awaited; `searched` bytes of `ahead` hold no end of it.
    Head { searched: usize },
    /// The head is through; what follows is body.
    Body(ConnectionEnd),
    /// What follows is body, and is read past awc.
    Aside(Rc<Aside>),
}

impl BlobConnection {
    /// `open` counts connections, this one for as long as it lives.
    pub(super) fn new(transport: Transport, open: Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        let (state, ahead) = (BodyState::Body(ConnectionEnd::Early), BytesMut::new());
        BlobConnection { transport, state, ahead, stand_in: &[], interim_bytes: 0, _counted: Counted(open) }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, mut searched: usize) -> Poll<io::Result<()>> {
        loop {
            if let Some(length) = head_length(&self.ahead, searched) {
                let (head, short) = Head::parse(&self.ahead[..length])?;
                if head.is_interim() {
                    // awc would take it for the response.
                    self.interim_bytes += length;
                    if self.interim_bytes > MAX_HEAD_BYTES {
                        return Poll::Ready(Err(broken("the host sends too many interim responses (1xx)")));
                    }
                    self.ahead.advance(length);
                    skip_blank_lines(&mut self.ahead);
                    searched = 0;
                    continue;
                }
                let length = match short {
                    Some(short) => {
                        self.ahead = BytesMut::from([&short, &self.ahead[length..]].concat().as_slice());
                        short.len()
                    }
                    None => length,
                };
                let end = head.prepare(&mut self.ahead[..length])?;
                // Bytes behind a head without a body are not ours.
                if end == ConnectionEnd::Now {
                    self.ahead.truncate(length);
                }
                self.state = BodyState::Body(end);
                if let Some(stand_in) = head.not_modified() {
                    self.ahead.advance(length);
                    self.stand_in = stand_in;
                }
                if let Some(aside) = head.aside()
                    && signs::note_aside(&aside)
                {
                    self.ahead.advance(length);
                    let is_whole = aside.take_whole(&mut self.ahead);
                    self.stand_in = head.stand_in(is_whole);
                    self.state = if is_whole { BodyState::Body(ConnectionEnd::Early) } else { BodyState::Aside(aside) };
                }
                return Poll::Ready(Ok(()));
            }
            if self.ahead.len() >= MAX_HEAD_BYTES {
                return Poll::Ready(Err(broken("the response head is too large")));
            }
            searched = self.ahead.len();
            self.state = BodyState::Head { searched };
            self.ahead.reserve(READ_BYTES);
            match ready!(tokio_util::io::poll_read_buf(Pin::new(&mut self.transport), cx, &mut self.ahead))? {
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                _ => signs::note_heard(),
            }
            if searched == 0 {
                skip_blank_lines(&mut self.ahead);
            }
        }
    }
}

impl AsyncRead for BlobConnection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let BodyState::Head { searched } = this.state {
            ready!(this.poll_head(cx, searched))?;
        }
        if !this.stand_in.is_empty() {
            let (now, later) = this.stand_in.split_at(this.stand_in.len().min(buf.remaining()));
            buf.put_slice(now);
            this.stand_in = later;
            return Poll::Ready(Ok(()));
        }
        if let BodyState::Aside(aside) = &this.state {
            if buf.remaining() > 0 {
                ready!(aside.poll_fill(cx, &mut this.ahead, Pin::new(&mut this.transport)))?;
                buf.put_slice(b"-");
                this.state = BodyState::Body(ConnectionEnd::Early);
            }
            return Poll::Ready(Ok(()));
        }
        if !this.ahead.is_empty() {
            let some = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead[..some]);
            this.ahead.advance(some);
            return Poll::Ready(Ok(()));
        }
        this.ahead = BytesMut::new();
        let BodyState::Body(end) = this.state else {
            return Poll::Ready(Ok(()));
        };
        if end == ConnectionEnd::Now {
            return Poll::Ready(Ok(()));
        }
        let before = (buf.filled().len(), buf.remaining());
        ready!(Pin::new(&mut this.transport).poll_read(cx, buf))?;
        let ended = before.1 > 0 && buf.filled().len() == before.0;
        Poll::Ready(if ended && end == ConnectionEnd::Early {
            Err(io::ErrorKind::UnexpectedEof.into())
        } else {
            Ok(())
        })
    }
}

impl AsyncWrite for BlobConnection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // awc writes only what begins the next request, and only once it is done with the response before.
        if !matches!(this.state, BodyState::Head { .. }) {
            this.stand_in = &[];
            this.state = BodyState::Head { searched: 0 };
            this.interim_bytes = 0;
            this.ahead.clear();
        }
        signs::note_written();
        Pin::new(&mut this.transport).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(cx)
    }
}

impl ActixStream for BlobConnection {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_read_ready(self.transport.tcp(), cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_write_ready(self.transport.tcp(), cx)
    }
}

/// The length of the whole head at the front, once its end is there. Bytes before `searched` hold no blank line.
fn head_length(bytes: &[u8], searched: usize) -> Option<usize> {
    let from = searched.saturating_sub(2);
    bytes[from..].iter().enumerate().filter(|(_, byte)| **byte == b'\n').find_map(|(at, _)| {
        let rest = &bytes[from + at + 1..];
        let blank = if rest.starts_with(b"\r\n") { 2 } else { usize::from(rest.starts_with(b"\n")) };
        (blank > 0).then_some(from + at + 1 + blank)
    })
}

/// Blank lines in front of a status line are no part of it.
fn skip_blank_lines(bytes: &mut BytesMut) {
    let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    bytes.advance(blank);
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[derive(Debug)]
struct Counted(Rc<Cell<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
