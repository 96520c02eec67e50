//! Where a connection stands: which of its bytes belong to which request, and which answers are under way. Shared by the
//! connection's stream, which sees bytes, and the requests on it, which know what they mean.
//!
//! Promises: a stream that asks here knows whether an answer that begins is ours, how long it is, and whether it is the
//! connection's last; and which bytes may be read now ([`HeadReader`]): one request's, until its answer has left.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use actix_rt::time::Instant;

use super::incoming::HeadReader;
use crate::pipeline::work::admission::Permit;
use crate::pipeline::work::reply::Unwritten;
use crate::telemetry::metrics::OpenConnection;

/// Bytes of a head, at most.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// A larger one than this is counted.
const SMALL_HEAD_BYTES: usize = 4 * 1024;
/// What such a one may hold: in actix-http's buffer, and a line of it here.
const LARGE_HEAD_HOLDS: usize = 2 * MAX_HEAD_BYTES;

/// Why a head is refused before it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadFault {
    TooLarge,
    /// Admission has no room for a large one.
    NoRoom,
}

pub struct ConnectionProgress {
    /// The address of the other side.
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
    /// Nothing was under way when the connection was read last: the next request is the first of what was read.
    is_clear: Cell<bool>,
    /// Whether the request under way is such a first one.
    is_first: Cell<bool>,
    /// actix-http's buffer was, or may be, made larger than it was at first.
    is_buffer_large: Cell<bool>,
    /// What the last request called us, if that is one of our names.
    known_host: RefCell<Vec<u8>>,
    incoming: RefCell<HeadReader>,
    /// What a large head holds.
    permit: RefCell<Permit>,
    /// Counts it while it is there; None in tests.
    _open: Option<OpenConnection>,
    /// Answers that are known and of which no byte has been written.
    answers: RefCell<VecDeque<KnownAnswer>>,
}

/// What an answer of ours will be once its head has been written.
pub struct KnownAnswer {
    /// Bytes of its body as they are sent: none for a HEAD request.
    pub body_bytes: u64,
    /// Nothing comes behind it.
    pub is_last: bool,
    /// What it holds of admission until its last byte is written.
    pub unwritten: Option<Unwritten>,
    /// The request that it is to; None in tests.
    pub request: Option<Rc<dyn Untaken>>,
}

/// A request whose answer leaves.
pub trait Untaken {
    /// Tells that nobody has taken the answer in time.
    fn log_untaken(&self);
}

impl ConnectionProgress {
    /// The progress of a connection with this peer.
    pub fn new(peer: Option<SocketAddr>, permit: Permit, open: Option<OpenConnection>) -> Rc<Self> {
        let address = peer.map(|peer| peer.ip().to_canonical());
        Rc::new(ConnectionProgress {
            address,
            client: address.map(|address| address.to_string()).unwrap_or_default().into(),
            in_request: Cell::new(false),
            head_since: Cell::new(Some(Instant::now())),
            is_unread: Cell::new(false),
            has_read: Cell::new(false),
            has_ended: Cell::new(false),
            wants_body: Cell::new(false),
            is_clear: Cell::new(false),
            is_first: Cell::new(false),
            is_buffer_large: Cell::new(false),
            known_host: RefCell::default(),
            incoming: RefCell::default(),
            permit: RefCell::new(permit),
            _open: open,
            answers: RefCell::default(),
        })
    }

    /// A head is whole; the time counts again after the answer.
    pub fn begin(self: &Rc<Self>) -> InRequest {
        self.in_request.set(true);
        self.head_since.set(None);
        self.is_unread.set(false);
        self.wants_body.set(false);
        self.is_first.set(self.is_clear.replace(false));
        InRequest(self.clone())
    }

    /// Bytes came in; how many of them may go on now. The time of a head counts from its first byte.
    pub(super) fn received(&self, bytes: &mut [u8]) -> usize {
        self.has_read.set(true);
        let mut incoming = self.incoming.borrow_mut();
        let taken = incoming.take(bytes);
        if incoming.is_within_head() && self.head_since.get().is_none() {
            self.head_since.set(Some(Instant::now()));
        }
        taken
    }

    /// Why the head that is arriving cannot be waited for. A large one takes room, until its request is over.
    pub(super) fn head_fault(&self) -> Option<HeadFault> {
        let incoming = self.incoming.borrow();
        if incoming.head_bytes() <= SMALL_HEAD_BYTES {
            return None;
        }
        self.is_buffer_large.set(true);
        let is_arriving = incoming.is_within_head();
        if is_arriving && incoming.head_bytes() > MAX_HEAD_BYTES {
            return Some(HeadFault::TooLarge);
        }
        let mut permit = self.permit.borrow_mut();
        let has_room = permit.bytes() > 0 || permit.try_grow(0, LARGE_HEAD_HOLDS);
        (is_arriving && !has_room).then_some(HeadFault::NoRoom)
    }

    /// The buffer was filled, so it is made larger.
    pub(super) fn note_large_buffer(&self) {
        self.is_buffer_large.set(true);
    }

    /// Whether what lies in actix-http's buffer may keep more memory than it has bytes.
    pub fn is_buffer_large(&self) -> bool {
        self.is_buffer_large.get()
    }

    /// Whether a request with this `Host` calls us by one of our names. Most connections use one name: it is judged once.
    pub fn is_known_host(&self, host: &[u8], judge: impl FnOnce() -> bool) -> bool {
        let mut known = self.known_host.borrow_mut();
        let is_known = !host.is_empty() && *known == host || judge();
        if is_known && *known != host {
            known.clear();
            known.extend_from_slice(host);
        }
        is_known
    }

    /// Whether room was taken for a large head.
    pub(super) fn holds_large_head(&self) -> bool {
        self.permit.borrow().bytes() > 0
    }

    /// Whether the request under way has come whole, so that what comes next has to wait for its answer.
    pub(super) fn is_held(&self) -> bool {
        self.incoming.borrow().is_held()
    }

    /// All that has come so far was read; whether anything is under way.
    pub(super) fn was_read(&self, is_busy: bool) {
        self.is_clear.set(!is_busy);
    }

    /// Whether the request under way is polled once more at once, whoever wakes it: actix-http does so with the first of what it
    /// reads, after it has looked for its body.
    pub fn is_polled_again(&self) -> bool {
        self.is_first.replace(false)
    }

    pub(super) fn is_in_request(&self) -> bool {
        self.in_request.get()
    }

    /// The answer to the last request has left.
    pub(super) fn has_left(&self) {
        self.incoming.borrow_mut().answered();
    }

    /// The next answer of ours that begins.
    pub(super) fn next_answer(&self) -> Option<KnownAnswer> {
        self.answers.borrow_mut().pop_front()
    }

    pub(super) fn has_answers(&self) -> bool {
        !self.answers.borrow().is_empty()
    }

    /// Whether the request under way reads its body, or has.
    pub(super) fn wants_body(&self) -> bool {
        self.wants_body.get()
    }

    /// Whether what comes next is waited for: by the request under way, or because there is none.
    pub(super) fn is_waited_for(&self) -> bool {
        self.wants_body() || !self.is_in_request()
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
pub struct InRequest(Rc<ConnectionProgress>);

impl InRequest {
    /// It is answered before its body has come whole.
    pub fn leave_unread(&self) {
        self.0.is_unread.set(true);
    }

    /// Notes that the answer is known and will be written next.
    pub fn answered(&self, answer: KnownAnswer) {
        self.0.answers.borrow_mut().push_back(answer);
    }
}

impl Drop for InRequest {
    fn drop(&mut self) {
        self.0.in_request.set(false);
        self.0.incoming.borrow_mut().forget_head();
        let mut permit = self.0.permit.borrow_mut();
        if permit.bytes() > 0 {
            permit.shrink_to(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::work::admission::Admission;

    #[test]
    fn a_host_is_judged_once_and_each_other_one_anew() {
        let progress = ConnectionProgress::new(None, Admission::new(1, 1, 1).permit(), None);
        let judged = Cell::new(0);
        let call = |host: &[u8], is_ours| {
            progress.is_known_host(host, || {
                judged.set(judged.get() + 1);
                is_ours
            })
        };
        assert!(call(b"localhost", true) && call(b"localhost", false));
        assert_eq!(judged.get(), 1);
        assert!(!call(b"evil.example", false) && !call(b"evil.example", false) && !call(b"", false));
        assert!(call(b"localhost", false), "who called us otherwise in between changes nothing");
        assert!(call(b"127.0.0.1", true) && !call(b"localhost", false));
    }
}
