//! A stream that lets others have their turn.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

use super::Source;

/// Bytes that are read between two turns of others. What a decoder makes of them may be nothing, so that it asks for more
/// at once: an empty block of deflate has a few bytes, and metadata of Brotli are skipped.
pub(super) const TURN_BYTES: usize = 16 * 1024;

/// The stream, pending once after each [`TURN_BYTES`].
pub(super) struct Paced {
    source: Source,
    /// Bytes that are left of this turn.
    left: usize,
}

impl Paced {
    pub(super) fn new(source: Source) -> Self {
        Paced { source, left: TURN_BYTES }
    }
}

impl AsyncBufRead for Paced {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.left == 0 {
            this.left = TURN_BYTES;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let bytes = ready!(this.source.as_mut().poll_fill_buf(cx))?;
        Poll::Ready(Ok(bytes.get(..this.left).unwrap_or(bytes)))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        self.left = self.left.saturating_sub(amount);
        self.source.as_mut().consume(amount);
    }
}

/// Decoders ask for it, and read through the buffer alone.
impl AsyncRead for Paced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let bytes = ready!(self.as_mut().poll_fill_buf(cx))?;
        let taken = bytes.len().min(buf.remaining());
        buf.put_slice(&bytes[..taken]);
        self.consume(taken);
        Poll::Ready(Ok(()))
    }
}
