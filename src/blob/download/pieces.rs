//! A body of known length as it comes in.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt};
use tokio::time::{Sleep, sleep_until};

use super::{Download, body_fault, into_io};
use crate::blob::FetchError;

/// Bytes that are held of a body that is passed on as it comes in.
const PIECE_BYTES: usize = 128 * 1024;

/// The bytes of a body, in order. Ends after the last, or with the failure.
pub struct BodyPieces {
    download: Download,
    until: Pin<Box<Sleep>>,
    left: u64,
    is_over: bool,
}

impl Download {
    /// Passes the body on as it comes in, a bounded piece at a time; for one whose [length](Download::length) is known.
    pub fn into_pieces(self) -> BodyPieces {
        if let Some(aside) = &self.aside {
            aside.pass_on(PIECE_BYTES);
        }
        let (until, left) = (Box::pin(sleep_until(self.until)), self.announced.unwrap_or_default());
        BodyPieces { download: self, until, left, is_over: false }
    }
}

impl BodyPieces {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, FetchError>>> {
        loop {
            let polled = self.download.response.poll_next_unpin(cx);
            let piece = match (&self.download.aside, &polled) {
                (Some(aside), _) => aside.take_piece(),
                (None, Poll::Ready(Some(Ok(chunk)))) => Some(chunk.clone()),
                (None, _) => None,
            };
            if let Some(piece) = piece.filter(|piece| !piece.is_empty()) {
                return match self.left.checked_sub(piece.len() as u64) {
                    Some(left) => {
                        self.left = left;
                        Poll::Ready(Some(Ok(piece)))
                    }
                    None => {
                        Poll::Ready(Some(Err(FetchError::unavailable("the body is longer than the host announced"))))
                    }
                };
            }
            match polled {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(body_fault(&into_io(error))))),
                Poll::Ready(None) if self.left > 0 => {
                    return Poll::Ready(Some(Err(FetchError::unavailable("the body was cut short"))));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending if self.until.poll_unpin(cx).is_ready() => {
                    return Poll::Ready(Some(Err(FetchError::unavailable("the body did not arrive in time"))));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Stream for BodyPieces {
    type Item = Result<Bytes, FetchError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        let polled = this.poll_piece(cx);
        this.is_over = matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }
}
