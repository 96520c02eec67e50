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
    /// Does the work there, over the pieces of a body that comes in here. None: it was lost. Dropping this ends the work
    /// as soon as that lets others have their turn.
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
        let (mut done, result) = oneshot::channel();
        let begin = move || {
            let raw = futures::stream::poll_fn(move |cx| arriving.poll_recv(cx));
            actix_rt::spawn(async move {
                let ended = tokio::select! {
                    biased;
                    () = done.closed() => return,
                    ended = work(Box::pin(StreamReader::new(raw))) => ended,
                };
                let _ = done.send(ended);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[actix_web::test]
    async fn work_that_nobody_waits_for_ends() {
        let decoding = Decoding::default();
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let endless = move |_| async move {
            let _held = held;
            loop {
                tokio::task::yield_now().await;
            }
        };
        let run = decoding.run::<(), _>(futures::stream::pending(), endless);
        tokio::time::timeout(Duration::from_millis(50), run).await.unwrap_err();
        let ended = async {
            while Arc::strong_count(&alive) > 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap();
    }
}
