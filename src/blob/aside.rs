//! A body that the connection reads by itself, past awc.
//!
//! awc reads in pieces of 8 KiB and wraps each in a buffer of its own, to be put together again. A body of known length is
//! therefore read straight to where it stays: awc is told that it has one byte, and given that byte once all is there; or
//! that there is none, if all came along with the head. So awc still decides when a body is asked for and whether the
//! connection is fit to be used again.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::AsyncRead;
use tokio::task::yield_now;
use tokio_util::io::poll_read_buf;

use crate::event::EntityTag;

/// Read in one go, at most.
const STEP_BYTES: usize = 256 * 1024;
/// Bytes after which others on the thread have their turn.
const MAX_STEPS: usize = 4;

#[derive(Debug)]
pub(super) struct Aside {
    length: usize,
    etag: Option<EntityTag>,
    data: RefCell<Vec<u8>>,
    is_whole: Cell<bool>,
    /// Bytes that have come.
    received: Cell<usize>,
    /// Bytes that are held at once.
    most: Cell<usize>,
}

impl Aside {
    pub(super) fn new(length: usize, etag: Option<EntityTag>) -> Self {
        let (received, most) = (Cell::new(0), Cell::new(length));
        Aside { length, etag, data: RefCell::default(), is_whole: Cell::new(false), received, most }
    }

    /// The body's length in bytes.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// What the server calls the body, which awc is not told.
    pub(super) fn etag(&self) -> Option<&EntityTag> {
        self.etag.as_ref()
    }

    /// From now on it holds at most this number of bytes, which are to be taken in pieces.
    pub(super) fn pass_on(&self, most: usize) {
        self.most.set(most.min(self.length));
    }

    /// What has come and was not taken yet.
    pub(super) fn take_piece(&self) -> Option<Bytes> {
        Some(self.data.take()).filter(|piece| !piece.is_empty()).map(Bytes::from)
    }

    /// The body, once it is whole.
    pub(super) fn take(&self) -> Option<Bytes> {
        self.is_whole.take().then(|| self.data.take().into())
    }

    /// Takes the body from what was read ahead, if all of it is there. A part stays where it is: room for the whole is made
    /// only once somebody asks for it.
    pub(super) fn take_whole(&self, ahead: &mut BytesMut) -> bool {
        let is_whole = ahead.len() >= self.length;
        if is_whole {
            self.data.replace(ahead.split_to(self.length).to_vec());
            self.is_whole.set(true);
        }
        is_whole
    }

    /// Reads to the end of the body, first what was read ahead.
    pub(super) fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        ahead: &mut BytesMut,
        mut from: Pin<&mut impl AsyncRead>,
    ) -> Poll<io::Result<()>> {
        let mut data = self.data.borrow_mut();
        let left = || self.length.saturating_sub(self.received.get());
        if data.capacity() == 0 {
            data.reserve_exact(self.most.get().min(left()).max(ahead.len()));
            data.extend_from_slice(&ahead.split());
            self.received.set(self.received.get() + data.len());
        }
        let mut steps = 0;
        while left() > 0 {
            let room = self.most.get().saturating_sub(data.len());
            if room == 0 {
                // Whoever takes what there is asks again.
                return Poll::Pending;
            }
            if steps == MAX_STEPS {
                // It asks to be woken after the thread has looked at its sockets, not before.
                let _ = pin!(yield_now()).poll(cx);
                return Poll::Pending;
            }
            steps += 1;
            let step = left().min(STEP_BYTES).min(room);
            match ready!(poll_read_buf(from.as_mut(), cx, &mut (&mut *data).limit(step)))? {
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                read => self.received.set(self.received.get() + read),
            }
        }
        self.is_whole.set(true);
        Poll::Ready(Ok(()))
    }
}
