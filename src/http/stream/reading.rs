//! What a connection's stream reads, and when it waits no longer for it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Stream;
use super::bare::{in_place_of_request, problem_of_head};
use crate::event::wire::ProblemDocument;
use crate::http::problem::HEAD_TOO_SLOW;

impl Stream {
    /// Tells a sender whose head has not come in time, and ends what it sends. Who has sent nothing, ever, asked nothing.
    fn give_up_on_head(&mut self, context: &mut Context<'_>, problem: &ProblemDocument<'_>) {
        self.progress.head_since.set(None);
        self.is_last = true;
        if !self.progress.has_read.get() {
            return;
        }
        self.progress.is_unread.set(true);
        let answer = in_place_of_request(problem, &self.metrics);
        // So small an answer either fits what the socket still takes, or nobody reads.
        let _ = Pin::new(&mut self.io).poll_write(context, &answer);
        let _ = Pin::new(&mut self.io).poll_flush(context);
    }

    /// Reads what belongs to the request under way, or to the next one once that is answered. actix-http would take in more:
    /// then what is wrong with a request ends the connection before those in front of it are answered.
    fn poll_receive(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.held.is_empty() {
            let (is_counted, is_wanted) = (self.progress.holds_large_head(), self.progress.is_waited_for());
            let read = ready!(self.read_ahead.poll_read(&mut self.io, (is_counted, is_wanted), context, buffer));
            self.progress.has_ended.set(read.is_err());
            if self.read_ahead.has_filled() {
                self.progress.note_large_buffer();
            }
            read?;
        } else if self.progress.is_held() {
            return Poll::Pending;
        } else {
            buffer.put_slice(&self.held.split_to(self.held.len().min(buffer.remaining())));
        }
        let received = &mut buffer.filled_mut()[before..];
        if received.is_empty() {
            self.progress.has_ended.set(true);
            return Poll::Ready(Ok(()));
        }
        self.idle.note();
        let taken = self.progress.received(received);
        if taken < received.len() {
            // Whoever writes the answer wakes who reads.
            self.held = [&received[taken..], &self.held].concat().into();
            buffer.set_filled(before + taken);
        }
        if taken == 0 { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_last && self.announced == 0 {
            // The end, as if the sender had closed.
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = self.poll_receive(context, buffer);
        if read.is_ready()
            && let Some(fault) = self.progress.head_fault()
        {
            buffer.set_filled(before);
            self.give_up_on_head(context, problem_of_head(fault));
            return Poll::Ready(Ok(()));
        }
        let is_answering = self.announced > 0 || self.progress.has_answers();
        let (is_in_request, head_since) = (self.progress.is_in_request(), self.progress.head_since.get());
        if read.is_pending() {
            self.progress.was_read(is_in_request || is_answering);
            if self.idle.poll(context, is_in_request || is_answering || head_since.is_some()).is_ready() {
                self.is_last = true;
                return Poll::Ready(Ok(()));
            }
        }
        if is_in_request {
            return read;
        }
        match head_since {
            Some(since) if read.is_pending() && !is_answering => {
                let until = since + self.patience.head;
                ready!(self.poll_timer(context, until));
                self.give_up_on_head(context, &HEAD_TOO_SLOW);
                Poll::Ready(Ok(()))
            }
            _ => read,
        }
    }
}
