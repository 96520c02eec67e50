//! The connection under actix-http. Added here is what actix-http leaves out:
//!
//! - the time a request's head may take counts for every request of a connection, not only for the first, and for one that
//!   came half behind another;
//! - requests go on one at a time: what lies behind one is held back until its answer has left;
//! - what ends before a request is known (a head too slow, too large, or not HTTP) is answered by a problem document
//!   with a request id, like every other refusal. Which answers are actix-http's own is known, not guessed: ours are told
//!   of beforehand (`progress`), so no byte of a value is ever taken for one;
//! - what is sent behind the last request of a connection gets no answer, and `100 Continue` only leaves if a body is read;
//! - `Upgrade` is ignored, and the connection kept;
//! - a connection that ends with a refusal is closed for writing first, and what the sender still sends is read for a
//!   while: a socket closed over unread bytes is reset, and a reset can overtake the answer;
//! - an answer that is not taken ends the connection, TLS's own last words included: it holds memory that admission does
//!   not count. So does one that is taken too slowly as a whole.
//!
//! All of it holds with TLS as without.

use std::future::Future;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_rt::time::{Instant, Sleep, sleep_until};
use bytes::Bytes;
use log::warn;
use memchr::memmem::Finder;
use tokio::io::AsyncWrite;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use self::bare::{in_place_of_request, problem_of_bare};
use super::idle::Idle;
use super::linger::linger;
use super::progress::{ConnectionProgress, Untaken};
use super::read_ahead::{Places, ReadAhead};
use super::tls::Io;
use crate::event::wire::ProblemDocument;
use crate::pipeline::work::admission::Permit;
use crate::pipeline::work::reply::Unwritten;
use crate::telemetry::metrics::Metrics;

/// How fast a large answer must be taken.
const LEAST_BYTES_A_SECOND: usize = 256 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
/// Made once: to make it takes longer than to find the end of a head.
static FIND_END_OF_HEAD: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(END_OF_HEAD));

/// What a connection may take its time for.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionTimeouts {
    /// The head of a request.
    pub head: Duration,
    /// An answer, beyond what its size allows.
    pub answer: Duration,
    /// The next request.
    pub idle: Duration,
}

pub struct Stream {
    io: Io,
    patience: ConnectionTimeouts,
    metrics: Metrics,
    /// Since when an answer has been waiting to be taken, and what has been taken of it meanwhile.
    untaken: Option<(Instant, usize)>,
    progress: Rc<ConnectionProgress>,
    /// Bytes that are still to be written of answers whose heads have been seen.
    announced: usize,
    /// What those hold of admission.
    unwritten: Vec<Unwritten>,
    /// What is left to write of a `100 Continue` that came before the body was asked for.
    owed: &'static [u8],
    /// Behind those nothing is written any more.
    is_last: bool,
    /// The answer at hand is one to a request.
    is_answering: bool,
    /// To which one: its ids stand on a line about it.
    answered: Option<Rc<dyn Untaken>>,
    /// Read too early: it lies behind the request under way. No more than one read brings.
    held: Bytes,
    /// What is left to write of the document that stands in for a bare answer.
    document: Option<Vec<u8>>,
    timer: Option<Pin<Box<Sleep>>>,
    idle: Idle,
    read_ahead: ReadAhead,
    lingering: Arc<Semaphore>,
}

/// What the connections of a listener share.
#[derive(Clone)]
pub struct Common {
    pub patience: ConnectionTimeouts,
    pub metrics: Metrics,
    pub places: Arc<Places>,
    /// A place for each connection that is ended and still read on.
    pub lingering: Arc<Semaphore>,
}

impl Stream {
    pub fn new(io: Io, common: Common, peer: Option<SocketAddr>, permit: Permit) -> Self {
        let Common { patience, metrics, places, lingering } = common;
        let open = Some(metrics.connection());
        Stream {
            io,
            patience,
            metrics,
            untaken: None,
            progress: ConnectionProgress::new(peer, permit, open),
            announced: 0,
            unwritten: Vec::new(),
            owed: &[],
            is_last: false,
            is_answering: false,
            answered: None,
            held: Bytes::new(),
            document: None,
            timer: None,
            idle: Idle::new(patience.idle),
            read_ahead: ReadAhead::new(places),
            lingering,
        }
    }

    pub fn progress(&self) -> Rc<ConnectionProgress> {
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
        let done = Pin::new(&mut self.io).poll_write(context, bytes);
        if let Poll::Ready(Ok(written)) = &done {
            self.idle.note();
            self.announced = self.announced.saturating_sub(*written);
            if self.announced == 0 && !self.unwritten.is_empty() {
                self.unwritten = Vec::new();
            }
            if self.announced == 0 && mem::take(&mut self.is_answering) {
                self.progress.has_left();
                if !self.held.is_empty() {
                    self.progress.is_unread.set(self.is_last || self.progress.is_unread.get());
                }
                // actix-http would wait for the rest of a body in chunks before it looks whether this is the end.
                if !self.held.is_empty() || self.is_last && self.progress.is_unread.get() {
                    context.waker().wake_by_ref();
                }
            }
        }
        match done {
            Poll::Ready(Ok(written)) if self.announced > 0 => {
                match &mut self.untaken {
                    Some((_, taken)) => *taken += written,
                    // What the kernel takes at first, nobody may have taken yet.
                    None if written < bytes.len() => self.untaken = Some((Instant::now(), 0)),
                    None => {}
                }
                Poll::Ready(Ok(written))
            }
            done => self.unless_untaken(context, done),
        }
    }

    /// How long a write waits for the other side to take something. The time counts until the answer has left: a reader that takes
    /// a little now and then has no more of it.
    fn unless_untaken<T>(&mut self, context: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            if self.announced == 0 {
                self.untaken = None;
            }
            return done;
        }
        let (since, taken) = *self.untaken.get_or_insert_with(|| (Instant::now(), 0));
        let of_its_size = Duration::from_millis((taken as u64).saturating_mul(1000) / LEAST_BYTES_A_SECOND as u64);
        let allowed = self.patience.answer + of_its_size;
        ready!(self.poll_timer(context, since + allowed));
        match &self.answered {
            Some(request) => request.log_untaken(),
            None => warn!("client did not read its answer in time"),
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// What is to be done with the bytes that actix-http writes: all that it has.
    fn look_at(&mut self, bytes: &[u8]) -> Next {
        let mut end = self.announced;
        while end < bytes.len() && !self.is_last {
            let rest = &bytes[end..];
            if rest.starts_with(CONTINUE) {
                match (self.progress.wants_body(), end) {
                    (true, _) => end += CONTINUE.len(),
                    (false, 0) => {
                        self.owed = CONTINUE;
                        return Next::Drop(CONTINUE.len());
                    }
                    (false, _) => break,
                }
            } else if let Some(answer) = self.progress.next_answer() {
                let head = FIND_END_OF_HEAD.find(rest).map_or(rest.len(), |at| at + END_OF_HEAD.len());
                end = end.saturating_add(head).saturating_add(usize::try_from(answer.body_bytes).unwrap_or(usize::MAX));
                (self.is_answering, self.is_last) = (true, answer.is_last);
                self.unwritten.extend(answer.unwritten);
                self.answered = answer.request;
            } else if end == 0 {
                return problem_of_bare(rest).map_or(Next::Write(rest.len()), Next::Document);
            } else {
                break;
            }
        }
        self.announced = end;
        match end {
            0 => Next::Drop(bytes.len()),
            end => Next::Write(end.min(bytes.len())),
        }
    }

    /// Writes `100 Continue` if it is owed, once the body is asked for. actix-http flushes whenever the request under way has been
    /// polled, so none waits for it longer.
    fn poll_owed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.owed.is_empty() && self.progress.wants_body() {
            let done = Pin::new(&mut self.io).poll_write(context, self.owed);
            let written = ready!(self.unless_untaken(context, done))?;
            self.owed = &self.owed[written.min(self.owed.len())..];
        }
        Poll::Ready(Ok(()))
    }

    /// Writes the document in place of an answer.
    fn poll_document(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(left) = self.document.as_ref().filter(|left| !left.is_empty()) {
            let done = Pin::new(&mut self.io).poll_write(context, left);
            let written = ready!(self.unless_untaken(context, done))?;
            self.document.iter_mut().for_each(|left| drop(left.drain(..written)));
        }
        self.document = None;
        Poll::Ready(Ok(()))
    }
}

/// actix-http may drop a connection at once, so what may still be on its way is read elsewhere.
impl Drop for Stream {
    fn drop(&mut self) {
        if self.progress.is_unread.get()
            && let (Ok(place), Ok(runtime)) = (self.lingering.clone().try_acquire_owned(), Handle::try_current())
        {
            runtime.spawn(linger(mem::replace(&mut self.io, Io::Gone), place));
        }
    }
}

/// What becomes of bytes that actix-http writes.
enum Next {
    /// So many of them are written.
    Write(usize),
    /// So many of them are not.
    Drop(usize),
    /// This stands in for all of them.
    Document(&'static ProblemDocument<'static>),
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.owed.len() == CONTINUE.len() {
            // The answer itself comes.
            self.owed = &[];
        }
        ready!(self.poll_owed(context))?;
        if self.document.is_none() {
            match self.look_at(bytes) {
                Next::Write(count) => return self.poll_write_answer(context, &bytes[..count]),
                Next::Drop(count) => return Poll::Ready(Ok(count)),
                Next::Document(problem) => {
                    self.progress.is_unread.set(true);
                    self.is_last = true;
                    self.document = Some(in_place_of_request(problem, &self.metrics));
                }
            }
        }
        ready!(self.poll_document(context))?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_owed(context))?;
        // This comes whenever the request under way has been polled, which may have asked for its body just now.
        let is_waited_for = self.progress.is_waited_for();
        if self.read_ahead.must_poll_again(is_waited_for) {
            context.waker().wake_by_ref();
        }
        // TLS keeps in memory what the socket does not take.
        let done = Pin::new(&mut self.io).poll_flush(context);
        if done.is_ready() && self.announced == 0 {
            self.answered = None;
        }
        self.unless_untaken(context, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.progress.is_unread.get() {
            return Poll::Ready(Ok(()));
        }
        // With TLS there is something to say at the end, and somebody must take it.
        let done = Pin::new(&mut self.io).poll_shutdown(context);
        self.unless_untaken(context, done)
    }
}

mod bare;
mod reading;
#[cfg(test)]
mod tests;
