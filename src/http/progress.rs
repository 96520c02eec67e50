//! Where a connection stands: which of its bytes belong to which request, and which answers are under way. Shared by the
//! connection's stream, which sees bytes, and the requests on it, which know what they mean.
//!
//! Promises: a stream that asks here knows whether an answer that begins is ours, how long it is, and whether it is the
//! connection's last. Bytes that were read beyond a request are known too, unless it was chunked.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use actix_rt::time::Instant;
use memchr::memmem;

use crate::pipeline::work::job::Unwritten;

const END_OF_HEAD: &[u8] = b"\r\n\r\n";
/// actix-http holds no more that it has not understood yet.
const MAX_AHEAD_BYTES: usize = 128 * 1024;

pub struct Progress {
    /// Of the other side.
    pub address: Option<IpAddr>,
    /// The same as text: it stands on a line for each request.
    pub client: Rc<str>,
    /// A request's head is whole, and its answer is not known yet.
    in_request: Cell<bool>,
    /// Since when the next head has been arriving.
    pub(super) head_since: Cell<Option<Instant>>,
    /// What was refused may still be on its way.
    pub(super) is_unread: Cell<bool>,
    /// Anything was ever received.
    pub(super) has_read: Cell<bool>,
    /// The sender has closed the connection, or it is broken.
    pub(super) has_ended: Cell<bool>,
    /// The request under way has asked for its body: a sender that waits for `100 Continue` may go on.
    wants_body: Cell<bool>,
    /// The last request of the connection has begun: what comes behind it is not carried out.
    is_over: Cell<bool>,
    ahead: RefCell<Ahead>,
    /// Answers that are known and of which no byte has been written.
    answers: RefCell<VecDeque<Answer>>,
}

/// What an answer of ours will be once its head has been written.
pub struct Answer {
    /// Bytes of its body as they are sent: none for a HEAD request.
    pub body_bytes: u64,
    /// Nothing comes behind it.
    pub is_last: bool,
    /// What it holds of admission until its last byte is written.
    pub unwritten: Option<Unwritten>,
}

impl Progress {
    /// Of a connection with that other side.
    pub fn new(peer: Option<SocketAddr>) -> Rc<Self> {
        let address = peer.map(|peer| peer.ip().to_canonical());
        Rc::new(Progress {
            address,
            client: address.map(|address| address.to_string()).unwrap_or_default().into(),
            in_request: Cell::new(false),
            head_since: Cell::new(Some(Instant::now())),
            is_unread: Cell::new(false),
            has_read: Cell::new(false),
            has_ended: Cell::new(false),
            wants_body: Cell::new(false),
            is_over: Cell::new(false),
            ahead: RefCell::default(),
            answers: RefCell::default(),
        })
    }

    /// A head is whole; the time counts again after the answer. `body_bytes` is the length of its body, if that is told in
    /// the head. None: the request comes behind the last one and is not to be carried out.
    pub fn begin(self: &Rc<Self>, body_bytes: Option<u64>, is_last: bool) -> Option<InRequest> {
        if self.is_over.get() {
            return None;
        }
        self.in_request.set(true);
        self.head_since.set(None);
        self.is_unread.set(false);
        self.wants_body.set(false);
        self.is_over.set(is_last);
        self.ahead.borrow_mut().take_request(body_bytes);
        Some(InRequest(self.clone()))
    }

    /// Bytes came in. Whether they are the beginning of a head.
    pub(super) fn received(&self, bytes: &[u8]) -> bool {
        self.has_read.set(true);
        let mut ahead = self.ahead.borrow_mut();
        let begins = !self.in_request.get() && ahead.is_empty() && ahead.owed == 0;
        if begins {
            ahead.begin();
        }
        ahead.add(bytes);
        begins
    }

    pub(super) fn is_in_request(&self) -> bool {
        self.in_request.get()
    }

    /// All answers have left: the time of a head that has begun to arrive counts from now. Whether there is one.
    pub(super) fn await_head(&self) -> bool {
        let has_begun = !self.in_request.get() && self.head_since.get().is_none() && !self.ahead.borrow().is_empty();
        if has_begun {
            self.head_since.set(Some(Instant::now()));
        }
        has_begun
    }

    /// The next answer of ours that begins.
    pub(super) fn next_answer(&self) -> Option<Answer> {
        self.answers.borrow_mut().pop_front()
    }

    pub(super) fn has_answers(&self) -> bool {
        !self.answers.borrow().is_empty()
    }

    /// Whether the request under way reads its body, or has.
    pub(super) fn wants_body(&self) -> bool {
        self.wants_body.get()
    }

    /// Whether the sender may still be there.
    pub fn is_open(&self) -> bool {
        !self.has_ended.get()
    }

    /// The request under way begins to read its body.
    pub fn ask_for_body(&self) {
        self.wants_body.set(true);
    }
}

/// A request under way on a connection.
pub struct InRequest(Rc<Progress>);

impl InRequest {
    /// It was refused, perhaps before its body was read.
    pub fn leave_unread(&self) {
        self.0.is_unread.set(true);
    }

    /// Its answer is known and will be written next.
    pub fn answered(&self, answer: Answer) {
        if answer.is_last {
            self.0.is_over.set(true);
        }
        self.0.answers.borrow_mut().push_back(answer);
    }
}

impl Drop for InRequest {
    fn drop(&mut self) {
        self.0.in_request.set(false);
    }
}

/// What has been received and belongs to no request that has begun, as far as that is known.
#[derive(Debug, Default)]
struct Ahead {
    bytes: Vec<u8>,
    /// Of the body of the last request, still to come.
    owed: u64,
    is_known: bool,
}

impl Ahead {
    fn begin(&mut self) {
        self.bytes.clear();
        (self.owed, self.is_known) = (0, true);
    }

    fn add(&mut self, bytes: &[u8]) {
        let owed = self.owed.min(bytes.len() as u64);
        self.owed -= owed;
        let beyond = &bytes[owed as usize..];
        if !self.is_known || self.bytes.len() + beyond.len() > MAX_AHEAD_BYTES {
            return self.lose();
        }
        self.bytes.extend_from_slice(beyond);
    }

    /// A request has begun: its head is here, and its body or what has come of it.
    fn take_request(&mut self, body_bytes: Option<u64>) {
        let blank = self.bytes.iter().take_while(|byte| b"\r\n".contains(byte)).count();
        let head = memmem::find(&self.bytes[blank..], END_OF_HEAD);
        let (true, Some(body), Some(head)) = (self.is_known, body_bytes, head) else { return self.lose() };
        let rest = self.bytes.len() - blank - head - END_OF_HEAD.len();
        let here = body.min(rest as u64);
        self.owed = body - here;
        let left = rest - here as usize;
        self.bytes.drain(..self.bytes.len() - left);
    }

    fn lose(&mut self) {
        self.bytes.clear();
        (self.owed, self.is_known) = (0, false);
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nhost: h\r\n\r\n";

    #[test]
    fn what_lies_beyond_a_request_is_known_however_it_comes() {
        let sent = [b"\r\n", HEAD, b"body", HEAD, b"POST"].concat();
        for cut in 1..sent.len() {
            let mut ahead = Ahead::default();
            ahead.begin();
            let (first, second) = sent.split_at(cut);
            ahead.add(first);
            let is_whole = cut >= 2 + HEAD.len();
            if is_whole {
                ahead.take_request(Some(4));
            }
            ahead.add(second);
            if !is_whole {
                ahead.take_request(Some(4));
            }
            ahead.take_request(Some(0));
            assert_eq!(ahead.bytes, b"POST", "cut at {cut}");
        }
    }

    #[test]
    fn behind_a_request_of_unknown_length_nothing_is_known_until_a_head_begins() {
        let mut ahead = Ahead::default();
        ahead.begin();
        ahead.add(HEAD);
        ahead.take_request(None);
        ahead.add(b"4\r\nbody\r\n0\r\n\r\n");
        assert!(ahead.is_empty() && !ahead.is_known);
        ahead.begin();
        ahead.add(b"P");
        assert!(!ahead.is_empty());
    }

    #[test]
    fn nothing_is_begun_behind_the_last_request() {
        let progress = Progress::new(None);
        let first = progress.begin(Some(0), false).expect("the first");
        first.answered(Answer { body_bytes: 1, is_last: false, unwritten: None });
        drop(first);
        let last = progress.begin(Some(0), true).expect("the last");
        last.answered(Answer { body_bytes: 2, is_last: true, unwritten: None });
        drop(last);
        assert!(progress.begin(Some(0), false).is_none());
        let answers: Vec<_> = std::iter::from_fn(|| progress.next_answer()).map(|answer| answer.body_bytes).collect();
        assert_eq!(answers, [1, 2]);
    }
}
