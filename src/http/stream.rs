//! The connection under actix-http. Added here is what actix-http leaves out:
//!
//! - the time a request's head may take counts for every request of a connection, not only for the first;
//! - what ends before a request is known (a head too slow, too large, or not HTTP) is answered by a problem document
//!   with a request id, like every other refusal;
//! - a connection that ends with a refusal is closed for writing first, and what the sender still sends is read for a
//!   while: a socket closed over unread bytes is reset, and a reset can overtake the answer;
//! - an answer that is not taken ends the connection, TLS's own last words included: it holds memory that admission does
//!   not count.
//!
//! All of it holds with TLS as without.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_rt::time::{Instant, Sleep, sleep_until};
use log::warn;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::problem::{HEAD_TOO_LARGE, HEAD_TOO_SLOW, NOT_HTTP};
use super::request::RequestId;
use super::tls::Io;
use crate::event::wire::ProblemDocument;
use crate::telemetry::metrics::Metrics;

/// How long a connection that we end is read on, at most.
const LINGER: Duration = Duration::from_secs(5);
/// A sender that has been silent for so long has nothing more on its way.
const SILENCE: Duration = Duration::from_millis(500);

/// How fast a large answer must be taken.
const LEAST_BYTES_A_SECOND: usize = 256 * 1024;

const HAS_BODY: &[u8] = b"content-type";
const CONTINUE: &[u8] = b" 100 Continue\r\n\r\n";

/// Where a connection stands between two requests. Shared with the request under way, which begins when its head is
/// whole.
pub struct Progress {
    in_request: Cell<bool>,
    /// Since when the next head has been arriving.
    head_since: Cell<Option<Instant>>,
    /// What was refused may still be on its way.
    unread: Cell<bool>,
}

impl Progress {
    /// The head has arrived; the time counts again after the answer.
    pub fn begin(self: &Rc<Self>) -> InRequest {
        self.in_request.set(true);
        self.head_since.set(None);
        self.unread.set(false);
        InRequest(self.clone())
    }
}

/// A request under way on a connection.
pub struct InRequest(Rc<Progress>);

impl InRequest {
    /// It was refused, perhaps before its body was read.
    pub fn leave_unread(&self) {
        self.0.unread.set(true);
    }
}

impl Drop for InRequest {
    fn drop(&mut self) {
        self.0.in_request.set(false);
    }
}

/// What a connection may take its time for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// The head of a request.
    pub head: Duration,
    /// An answer, beyond what its size allows.
    pub answer: Duration,
}

pub struct Stream {
    io: Io,
    patience: Patience,
    metrics: Metrics,
    /// Since when an answer has been waiting to be taken, and what has been taken of it meanwhile.
    untaken: Option<(Instant, usize)>,
    progress: Rc<Progress>,
    /// What is left to write of the document that stands in for a bare answer.
    document: Option<Vec<u8>>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Until when it is read on; set once it is closed for writing.
    linger_until: Option<Instant>,
}

impl Stream {
    pub fn new(io: Io, patience: Patience, metrics: Metrics) -> Self {
        let progress = Progress {
            in_request: Cell::new(false),
            head_since: Cell::new(Some(Instant::now())),
            unread: Cell::new(false),
        };
        let (progress, untaken) = (Rc::new(progress), None);
        Stream { io, patience, metrics, untaken, progress, document: None, timer: None, linger_until: None }
    }

    pub fn progress(&self) -> Rc<Progress> {
        self.progress.clone()
    }

    /// Ready once the time has come. A timer that runs for an earlier time is left alone until it is over: to set one
    /// anew for every request costs more than to look again once in a while.
    fn poll_timer(&mut self, context: &mut Context<'_>, at: Instant) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() > at {
            timer.as_mut().reset(at);
        }
        while timer.deadline() < at {
            ready!(timer.as_mut().poll(context));
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(context)
    }

    fn poll_write_answer(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.io).poll_write(context, bytes) {
            Poll::Ready(Ok(written)) if written < bytes.len() => {
                // What the kernel takes at first, nobody may have taken yet.
                match &mut self.untaken {
                    Some((_, taken)) => *taken += written,
                    None => self.untaken = Some((Instant::now(), 0)),
                }
                Poll::Ready(Ok(written))
            }
            done => self.unless_untaken(context, done),
        }
    }

    /// What waits for the other side to take something, waits so long and no longer.
    fn unless_untaken<T>(&mut self, context: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.untaken = None;
            return done;
        }
        let (since, taken) = *self.untaken.get_or_insert_with(|| (Instant::now(), 0));
        let allowed = self.patience.answer + Duration::from_secs((taken / LEAST_BYTES_A_SECOND) as u64);
        ready!(self.poll_timer(context, since + allowed));
        warn!("an answer was not taken in time");
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Tells a sender whose head has not come in time, and ends what it sends.
    fn give_up_on_head(&mut self, context: &mut Context<'_>) {
        self.progress.head_since.set(None);
        let answer = in_place_of_request(&HEAD_TOO_SLOW, &self.metrics);
        // So small an answer either fits what the socket still takes, or nobody reads.
        let _ = Pin::new(&mut self.io).poll_write(context, &answer);
        let _ = Pin::new(&mut self.io).poll_flush(context);
    }
}

/// The whole answer to a request of which nothing is known.
fn in_place_of_request(problem: &ProblemDocument<'_>, metrics: &Metrics) -> Vec<u8> {
    metrics.request_refused(problem.slug);
    let id = RequestId::made();
    warn!(outcome = problem.slug, request_id = id.as_str(); "request head refused");
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let (status, length, id) = (problem.status.unwrap_or_default(), body.len(), id.as_str());
    let mut answer = format!(
        "HTTP/1.1 {status} {}\r\nconnection: close\r\ncontent-type: application/problem+json\r\n\
         x-request-id: {id}\r\ncontent-length: {length}\r\n\r\n",
        problem.title
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    answer
}

/// What to say in place of an answer that actix-http gives by itself: those alone have no body.
fn problem_of_bare(answer: &[u8]) -> Option<&'static ProblemDocument<'static>> {
    let problem = match answer.get(..13)? {
        b"HTTP/1.1 400 " => &NOT_HTTP,
        b"HTTP/1.1 431 " => &HEAD_TOO_LARGE,
        _ => return None,
    };
    let is_bare = !answer.windows(HAS_BODY.len()).any(|part| part.eq_ignore_ascii_case(HAS_BODY));
    is_bare.then_some(problem)
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !bytes.ends_with(CONTINUE) {
            self.progress.head_since.set(None);
        }
        if self.document.is_none() {
            match problem_of_bare(bytes) {
                Some(problem) => {
                    self.progress.unread.set(true);
                    self.document = Some(in_place_of_request(problem, &self.metrics));
                }
                None => return self.poll_write_answer(context, bytes),
            }
        }
        let Stream { io, document, .. } = &mut *self;
        while let Some(left) = document.as_mut().filter(|left| !left.is_empty()) {
            let written = ready!(Pin::new(&mut *io).poll_write(context, left))?;
            left.drain(..written);
        }
        *document = None;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS keeps in memory what the socket does not take.
        let done = Pin::new(&mut self.io).poll_flush(context);
        self.unless_untaken(context, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let until = match self.linger_until {
            Some(until) => until,
            None => {
                // With TLS there is something to say at the end, and somebody must take it.
                let done = Pin::new(&mut self.io).poll_shutdown(context);
                ready!(self.unless_untaken(context, done))?;
                if !self.progress.unread.get() {
                    return Poll::Ready(Ok(()));
                }
                self.timer = None;
                *self.linger_until.insert(Instant::now() + LINGER)
            }
        };
        let mut space = [0; 8 * 1024];
        let mut silent_since = Instant::now();
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.io).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() && Instant::now() < until => {
                    silent_since = Instant::now();
                    self.timer = None;
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    let at = match &self.timer {
                        Some(timer) => timer.deadline(),
                        None => until.min(silent_since + SILENCE),
                    };
                    return self.poll_timer(context, at).map(Ok);
                }
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if self.progress.in_request.get() {
            return read;
        }
        if buffer.filled().len() > before && self.progress.head_since.get().is_none() {
            self.progress.head_since.set(Some(Instant::now()));
        }
        match self.progress.head_since.get() {
            Some(since) if read.is_pending() => {
                let until = since + self.patience.head;
                ready!(self.poll_timer(context, until));
                self.give_up_on_head(context);
                // The end, as if the sender had closed.
                Poll::Ready(Ok(()))
            }
            _ => read,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use actix_rt::net::TcpStream;
    use actix_rt::time::timeout;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring};
    use tokio::net::TcpSocket;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    const PATIENCE: Patience = Patience { head: Duration::from_secs(5), answer: Duration::from_millis(200) };

    /// A connection over TLS, and its other side, which reads nothing.
    async fn over_tls() -> (Stream, impl Sized) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(ring::default_provider());
        let server =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let server = server.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();

        // With buffers so small little is enough to fill them.
        let listener = TcpSocket::new_v4().unwrap();
        listener.set_send_buffer_size(4096).unwrap();
        listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = listener.listen(1).unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let peer = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        let (io, _): (TcpStream, _) = listener.accept().await.unwrap();
        let connecting = TlsConnector::from(Arc::new(client)).connect(ServerName::try_from("a.test").unwrap(), peer);
        let (io, peer) = futures::join!(TlsAcceptor::from(Arc::new(server)).accept(io), connecting);
        (Stream::new(Io::Tls(Box::new(io.unwrap())), PATIENCE, Metrics::new("").unwrap()), peer.unwrap())
    }

    /// Fills all buffers on the way to the other side.
    async fn fill(stream: &mut Stream) {
        poll_fn(|context| {
            loop {
                match Pin::new(&mut stream.io).poll_write(context, &[b'x'; 4096]) {
                    Poll::Ready(written) => drop(written.unwrap()),
                    Poll::Pending => return Poll::Ready(()),
                }
            }
        })
        .await;
    }

    async fn ends_in_time(done: impl Future<Output = io::Result<()>>) {
        let begun = Instant::now();
        let done = timeout(Duration::from_secs(5), done).await.expect("it waits for what is never taken");
        assert_eq!(done.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= PATIENCE.answer, "it did not wait at all");
    }

    #[actix_web::test]
    async fn the_last_words_of_tls_wait_no_longer_than_an_answer() {
        let (mut stream, _peer) = over_tls().await;
        fill(&mut stream).await;
        ends_in_time(poll_fn(|context| Pin::new(&mut stream).poll_shutdown(context))).await;
    }

    #[actix_web::test]
    async fn what_tls_holds_back_waits_no_longer_than_an_answer() {
        let (mut stream, _peer) = over_tls().await;
        fill(&mut stream).await;
        ends_in_time(poll_fn(|context| Pin::new(&mut stream).poll_flush(context))).await;
    }
}
