//! What is asked of a fetcher, and what it answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::blob::store::Stores;
use crate::blob::{FetchError, FetchErrorKind, Unless};
use crate::cache::{CacheError, MAX_REFRESHED_BYTES, Remembered, Reply};
use crate::event::expected::Expected;
use crate::event::outcome::ProblemKind;
use crate::event::trace::Trace;
use crate::event::version::Version;
use crate::event::{CacheKey, FetchTarget, Ttl};
use crate::pipeline::runtime::WorkerThread;
use crate::pipeline::work::Seq;
use crate::pipeline::work::admission::Permit;
use crate::pipeline::work::key_order::KeyTicket;
use crate::pipeline::work::operation::{AwaitedBlob, FetchedBlob, Operation};
use crate::pipeline::work::question::CacheAnswer;
use crate::pipeline::work::validity::Validity;

/// A blob to be fetched.
pub struct FetchRequest {
    /// The place in the order of acceptance: of two fetches that could start, the older does.
    pub seq: Seq,
    /// The key that the blob is for.
    pub key: CacheKey,
    /// Where the blob is.
    pub target: FetchTarget,
    /// What is remembered of the value that the key has: if the blob is still that, it is not fetched again.
    pub known: Option<Box<Remembered>>,
    /// The event shows that the blob is that, so its host is not asked.
    pub is_same: bool,
    /// What stood before it on its key waited for the very same state of the blob when it asked what is remembered.
    pub is_repeat: bool,
    /// What the blob must be; None: anything.
    pub expected: Option<Arc<Expected>>,
    /// The version of the operation; what is fetched may be remembered beside it.
    pub version: Option<Version>,
    /// The time to live of the operation.
    pub ttl: Option<Ttl>,
    /// If it is there, the blob may be written as it comes in: nothing on its key is before it, here or on the way to the cache.
    /// It keeps newer operations on the key with the router until the attempt is over, even if the router was restarted.
    pub turn: Option<KeyTicket>,
    /// It is to be asked for its turn.
    pub wants_turn: bool,
    /// The router that gave it its turn, as [`SharedScheduler::generation`](super::shared::SharedScheduler::generation) says.
    pub generation: u64,
    /// The [authority](FetchTarget::authority) of `target`: what `fetch.per_host` and the breaker count by.
    pub host: Arc<str>,
    /// The deadline of the event's request; the fetch has its own besides.
    pub deadline: Instant,
    /// While what its blob may be written; None: up to the deadline.
    pub validity: Option<Validity>,
    /// The trace of the event's request.
    pub trace: Option<Arc<Trace>>,
    /// Begin of the first attempt.
    pub begun: Option<Instant>,
    /// Begin of this one.
    pub attempt_begun: Option<Instant>,
    /// Attempts begun so far, the present one included (`fetch.attempts` is the most).
    pub attempts: u32,
    /// How often the fetcher died under it.
    pub losses: u32,
    /// How often it had to wait for bytes.
    pub waits: u32,
    /// How often it gave up its place to others.
    pub given_up: u32,
    /// Whether nothing on its key is before it.
    pub is_head: bool,
    /// The thread that it came on, if it goes the [direct](super::direct) way.
    pub thread: Option<WorkerThread>,
    /// Bytes that it waited for.
    pub prepaid: Option<Permit>,
    /// Whether the attempt had less time than the settings give one: that the host was silent then says nothing.
    pub is_cut_short: bool,
    pub(super) is_probe: bool,
    /// What the host was when the attempt began.
    pub(super) liveness: Liveness,
}

impl FetchRequest {
    /// A fetch of which no attempt has begun.
    pub fn new(seq: Seq, key: CacheKey, target: FetchTarget, deadline: Instant) -> Self {
        let host = target.authority().into();
        FetchRequest {
            seq,
            key,
            target,
            known: None,
            is_same: false,
            is_repeat: false,
            expected: None,
            version: None,
            ttl: None,
            turn: None,
            wants_turn: false,
            generation: 0,
            host,
            deadline,
            validity: None,
            trace: None,
            begun: None,
            attempt_begun: None,
            attempts: 0,
            losses: 0,
            waits: 0,
            given_up: 0,
            is_head: false,
            thread: None,
            prepaid: None,
            is_cut_short: false,
            is_probe: false,
            liveness: Liveness::New,
        }
    }

    /// Whether the scheduler is to be told of the first sign of life, and not only of the end.
    pub fn is_first_sign_wanted(&self) -> bool {
        self.liveness != Liveness::Alive
    }

    /// For what the operation waits for. Its place in the order of acceptance is for the router to add.
    pub fn of(operation: &Operation<AwaitedBlob>) -> Self {
        let AwaitedBlob { target, expected, ttl } = &operation.action;
        let request = FetchRequest::new(0, operation.key.clone(), target.clone(), operation.deadline);
        let (trace, expected, version) = (operation.slot.trace(), expected.clone(), operation.version.clone());
        let validity = operation.slot.validity().cloned();
        FetchRequest { validity, trace, expected, version, ttl: *ttl, ..request }
    }

    /// Whether its blob must not be written any more.
    pub fn is_void(&self, now: Instant) -> bool {
        self.validity.as_ref().is_some_and(|validity| validity.is_over(now))
    }

    /// What the blob is wanted unless it is: only if that would do.
    pub fn unless(&self) -> Option<Unless<'_>> {
        let known = self.known.as_deref()?;
        let allows = |expected: &Arc<Expected>| expected.allows(&known.etag, known.print.bytes());
        let will_do = self.expected.as_ref().is_none_or(allows);
        will_do.then_some(Unless { etag: &known.etag, resource: known.resource })
    }

    /// Whether the event itself shows that the blob is what is remembered: it names the tag of that, and nothing else is asked
    /// of it. What the key holds is compared all the same before it may stand.
    pub fn is_named(&self, stores: &Stores) -> bool {
        let (Some(known), Some(expected)) = (self.known.as_deref(), self.expected.as_deref()) else { return false };
        expected.named().is_some_and(|named| !named.is_weak() && named.matches(&known.etag))
            && expected.allows(&known.etag, known.print.bytes())
            && stores.resource_of(&self.target) == Some(known.resource)
    }

    /// Whether the value that is remembered is too long to be let stand with others.
    pub fn is_long(&self) -> bool {
        self.known.as_deref().is_some_and(|known| known.print.bytes() > MAX_REFRESHED_BYTES)
    }

    /// Bytes of the value that is remembered.
    pub fn known_bytes(&self) -> usize {
        self.known.as_ref().and_then(|known| usize::try_from(known.print.bytes()).ok()).unwrap_or_default()
    }

    /// An attempt begins: when it must be over. It has its own limit, cut to what is left of the fetch and of the request.
    pub fn begin(&mut self, now: Instant, attempt: Duration, fetch: Duration) -> Instant {
        let begun = *self.begun.get_or_insert(now);
        self.attempt_begun = Some(now);
        let until = (now + attempt).min(begun + fetch).min(self.deadline);
        self.is_cut_short = until < now + attempt.min(fetch);
        self.attempts += 1;
        until
    }
}

/// What is known of a host, which decides whose places its attempts take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Liveness {
    /// It gave a sign of life a short while ago.
    Alive,
    /// It was not asked yet.
    New,
    /// It was asked, and has given no sign of life since.
    Asked,
}

impl Liveness {
    pub(super) const ALL: [Liveness; 3] = [Liveness::Alive, Liveness::New, Liveness::Asked];
}

/// An attempt is over.
pub struct FetchEnded {
    /// The epoch of the router that asked for it.
    pub epoch: u64,
    /// The number of the fetch, if it was [direct](super::direct); then the epoch says nothing.
    pub direct: Option<u64>,
    /// The fetcher's number in its pool.
    pub fetcher: usize,
    /// The fetch, for another attempt or for the problem it becomes.
    pub request: FetchRequest,
    /// What the attempt brought.
    pub result: FetchResult,
}

/// The cache has answered a question about a fetch.
pub struct QuestionEnded {
    /// The same as [`FetchEnded::epoch`].
    pub epoch: u64,
    /// The same as [`FetchEnded::direct`].
    pub direct: Option<u64>,
    /// The fetch.
    pub request: FetchRequest,
    /// What the cache says.
    pub answer: CacheAnswer,
}

/// How an attempt ended.
pub enum FetchResult {
    /// What carried the attempt is gone: its fetcher panicked, or the router that it came from was restarted.
    Lost,
    /// What was fetched.
    Blob(FetchedBlob),
    /// The blob is what [`FetchRequest::known`] says.
    NotModified,
    /// It is longer than is held, and not its turn to be written.
    NeedsTurn,
    /// The cache has taken it in as it came.
    Written {
        /// What the cache says.
        reply: Reply,
        /// The blob's length.
        bytes: usize,
    },
    /// It is what is remembered, and what the cache says of letting that stand.
    LetStand(Reply),
    /// The cache has not taken it in.
    NotWritten(CacheError),
    /// The budget has no room for this number of bytes now.
    NeedsBytes(usize),
    /// Nothing was heard of the host, and others wait for the place.
    GaveUp,
    /// The host, the network or the guard said no; [`blob::retry`](crate::blob::retry) decides what follows.
    Failed(FetchError),
}

/// The problem that a failed attempt becomes if it is the last.
pub fn problem_kind(kind: FetchErrorKind) -> ProblemKind {
    match kind {
        FetchErrorKind::Forbidden => ProblemKind::BlobForbidden,
        FetchErrorKind::NotFound => ProblemKind::BlobNotFound,
        FetchErrorKind::Denied | FetchErrorKind::Changed => ProblemKind::BlobDenied,
        FetchErrorKind::TooLarge => ProblemKind::BlobTooLarge,
        FetchErrorKind::Unavailable => ProblemKind::BlobUnavailable,
    }
}
