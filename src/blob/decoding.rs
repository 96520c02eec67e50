//! The thread on which bodies are decoded. Decoding is work for the processor, up to seconds of it for one body, and a client
//! may share its thread with what must not wait. Its connections cannot leave that thread; so pieces go over as they come in.

use std::cell::OnceCell;
use std::io;

use actix_rt::Arbiter;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::io::AsyncBufRead;
use tokio::sync::{mpsc, oneshot};
use tokio_util::io::StreamReader;

/// Pieces of one body that may wait to be decoded.
const WAITING_PIECES: usize = 16;

/// The thread, begun with the first body that needs it; it ends with this.
#[derive(Default)]
pub(super) struct Decoding {
    thread: OnceCell<Arbiter>,
}

/// A body's pieces on the thread.
pub(super) type BodyReader = std::pin::Pin<Box<dyn AsyncBufRead>>;

impl Decoding {
    /// Does the work there, over the pieces of a body that comes in here. None: it was lost.
    pub(super) async fn run<T, F>(
        &self,
        mut body: impl Stream<Item = io::Result<Bytes>> + Unpin,
        work: impl FnOnce(BodyReader) -> F + Send + 'static,
    ) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (pieces, mut arriving) = mpsc::channel(WAITING_PIECES);
        let (done, result) = oneshot::channel();
        let begin = move || {
            let raw = futures::stream::poll_fn(move |cx| arriving.poll_recv(cx));
            actix_rt::spawn(async move {
                let _ = done.send(work(Box::pin(StreamReader::new(raw))).await);
            });
        };
        if !self.thread.get_or_init(Arbiter::new).spawn_fn(begin) {
            return None;
        }
        // Over when the body is, or when the work is: it may have failed.
        let arriving = async {
            while let Some(piece) = body.next().await {
                if pieces.send(piece).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = pieces.closed() => {}
            () = arriving => {}
        }
        drop(pieces);
        result.await.ok()
    }
}

impl Drop for Decoding {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.get() {
            thread.stop();
        }
    }
}
