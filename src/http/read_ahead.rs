//! How much is read of what a sender sends before admission counts it. actix-http reads up to 128 KiB each time it looks at a
//! connection, and its buffer keeps that room for as long as the connection lasts: a hundred megabytes for a few hundred
//! connections. So a connection reads in pieces that fit the buffer it began with. It reads more at a time if it has one of the
//! places for that, of which there are as many as fit a small part of what admission allows. It keeps the place, as actix-http keeps
//! the buffer. Whoever has none is slower and goes on all the same: nobody waits for a place.

use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use super::tls::Io;

/// What a place stands for: the buffer of a connection that reads as much as comes.
const PLACE_BYTES: usize = 128 * 1024;
/// All places together are this part of what admission allows.
const SHARE: usize = 8;
/// actix-http makes its buffer larger before it reads, if less than that is free in it.
const KEPT_FREE: usize = 1024;
/// A connection with a place passes on no more before actix-http has looked at it.
const AT_ONCE: usize = 64 * 1024;

/// The places of all connections.
pub struct Places {
    free: AtomicUsize,
}

impl Places {
    /// As many places as fit into a small part of `max_bytes`.
    pub fn within(max_bytes: usize) -> Arc<Self> {
        Arc::new(Places { free: AtomicUsize::new(max_bytes / SHARE / PLACE_BYTES) })
    }

    fn take(self: &Arc<Self>) -> Option<Place> {
        self.free.fetch_update(Relaxed, Relaxed, |free| free.checked_sub(1)).ok()?;
        Some(Place(self.clone()))
    }
}

/// Given back on drop.
struct Place(Arc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.free.fetch_add(1, Relaxed);
    }
}

/// How one connection reads.
pub struct ReadAhead {
    places: Arc<Places>,
    place: Option<Place>,
    /// The sender has filled the buffer before: it sends more than small requests.
    has_filled: bool,
    /// What was read since actix-http last waited for more.
    at_once: usize,
    /// The last poll read nothing because nobody wanted more. Nothing wakes the connection for what is left.
    is_stopped: bool,
}

impl ReadAhead {
    /// The state of a new connection.
    pub fn new(places: Arc<Places>) -> Self {
        ReadAhead { places, place: None, has_filled: false, at_once: 0, is_stopped: false }
    }

    /// Reads at most as much as actix-http may buffer now. `is_counted`: admission counts these bytes already, so there is no limit;
    /// `is_wanted`: the request in progress reads its body, or none is in progress.
    pub fn poll_read(
        &mut self,
        io: &mut Io,
        (is_counted, is_wanted): (bool, bool),
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        let most = if is_counted { room } else { self.most(room, is_wanted) };
        let read = match most {
            0 => Poll::Pending,
            most if most == room => Pin::new(io).poll_read(context, buffer),
            most => {
                let mut piece = ReadBuf::new(buffer.initialize_unfilled_to(most));
                let read = Pin::new(io).poll_read(context, &mut piece);
                let filled = piece.filled().len();
                buffer.advance(filled);
                read
            }
        };
        self.was_read(buffer.filled().len() - before, room);
        let may_be_more = read.is_pending() && self.waits();
        self.is_stopped = read.is_pending() && most == 0 && !may_be_more;
        if may_be_more && most == 0 {
            context.waker().wake_by_ref();
        }
        read
    }

    /// Whether the connection must be polled again, because what was left unread is wanted now. Resets the note.
    pub fn must_poll_again(&mut self, is_wanted: bool) -> bool {
        is_wanted && mem::take(&mut self.is_stopped)
    }

    /// How many bytes may be read now into a buffer with `room`. None may once enough has been read: then actix-http is to
    /// pass on what it has.
    fn most(&mut self, room: usize, is_wanted: bool) -> usize {
        if !self.has_filled {
            return room;
        }
        if self.place.is_none() {
            self.place = self.places.take();
        }
        match self.place {
            Some(_) if self.at_once >= AT_ONCE => 0,
            Some(_) => room,
            // It has passed on what it had, and that was all its buffer: it makes room for more only when this part is full.
            None if room <= KEPT_FREE && self.at_once == 0 && is_wanted => room,
            None => room.saturating_sub(KEPT_FREE),
        }
    }

    /// Whether the sender has ever filled the buffer.
    pub fn has_filled(&self) -> bool {
        self.has_filled
    }

    /// Notes that `bytes` came into a buffer with `room`.
    fn was_read(&mut self, bytes: usize, room: usize) {
        self.has_filled |= bytes == room;
        self.at_once += bytes;
    }

    /// Nothing more is read now. Whether there may be more to read, for which nobody will wake the connection.
    fn waits(&mut self) -> bool {
        mem::take(&mut self.at_once) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 8 * 1024;

    #[test]
    fn a_sender_of_small_requests_takes_no_place() {
        let places = Places::within(SHARE * PLACE_BYTES);
        let mut small = ReadAhead::new(places.clone());
        for _ in 0..100 {
            assert_eq!(small.most(ROOM, true), ROOM);
            small.was_read(ROOM - 1, ROOM);
            assert!(small.waits());
        }
        assert_eq!(places.free.load(Relaxed), 1);
    }

    #[test]
    fn one_with_a_place_reads_what_comes_and_one_without_leaves_the_buffer_as_it_is() {
        let places = Places::within(SHARE * PLACE_BYTES + 1);
        let [mut first, mut second] = [(); 2].map(|()| {
            let mut large = ReadAhead::new(places.clone());
            large.was_read(ROOM, ROOM);
            large
        });
        assert_eq!((first.most(ROOM, true), second.most(ROOM, true)), (ROOM, ROOM - KEPT_FREE));
        assert_eq!(second.most(KEPT_FREE, true), 0);
        first.was_read(AT_ONCE, AT_ONCE);
        assert_eq!(first.most(ROOM, true), 0, "what has come is passed on first");
        assert!(first.waits() && !first.waits());
        assert_eq!(first.most(ROOM, true), ROOM);
        assert!(second.waits());
        assert_eq!(second.most(KEPT_FREE, false), 0, "nobody asks for more");
        assert_eq!(second.most(KEPT_FREE, true), KEPT_FREE, "or it would be read no more");
        drop(first);
        assert_eq!(second.most(ROOM, true), ROOM);
    }
}
