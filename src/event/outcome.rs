//! What became of an entry: ok, rejected or unavailable, and why.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;

mod failed_fetch;

pub use self::failed_fetch::FailedFetch;
use super::{EventType, Ttl};

/// Larger values than this, in bytes, are read only with room of their own, which they hold until nobody needs them. Smaller
/// ones are for their holder to count.
pub const COUNTED_FROM_BYTES: usize = 4 * 1024;

/// The three classes an answer falls into, the worst last: `max` of two is what the whole is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Done, or made needless by something newer.
    Ok,
    /// Will fail again as it stands: do not retry.
    Rejected,
    /// May succeed later: retry.
    Unavailable,
}

impl Class {
    /// Every class, in the order of the discriminants: metrics index their arrays by it.
    pub const ALL: [Class; 3] = [Class::Ok, Class::Rejected, Class::Unavailable];

    /// The class as the wire, the log and the metric label `outcome` name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Ok => "ok",
            Class::Rejected => "rejected",
            Class::Unavailable => "unavailable",
        }
    }
}

/// How one entry ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A SET is in the cache.
    Stored {
        /// Bytes of the value as it was stored.
        bytes: usize,
        /// The time to live that it was stored with; None: the key does not expire.
        ttl: Option<Ttl>,
        /// Whether the value came with the event or from a blob.
        source: Origin,
    },
    /// A SET's blob is what the key holds already: the value stands, and its time to live runs anew.
    Unchanged {
        /// Bytes of the value.
        bytes: usize,
        /// The time to live that it has from now on; None: the key does not expire.
        ttl: Option<Ttl>,
    },
    /// A GET found this value.
    Hit(Bytes),
    /// A GET found no such key.
    Miss,
    /// A DELETE removed the key.
    Deleted,
    /// A DELETE found no such key; the key is as gone as the sender wants it.
    Absent,
    /// A pattern's keys are deleted.
    PatternDeleted {
        /// Keys that the scan found to match.
        matched: u64,
        /// Keys that were there and are no more. It is less than `matched` if some were newer, or had gone by then.
        deleted: u64,
    },
    /// What a pattern would delete; the sample holds at most [`MAX_SAMPLE`] keys. Whether `matched` is an estimate: so
    /// many keys cannot be told apart.
    Preview {
        /// Keys that match.
        matched: u64,
        /// Some of these keys.
        sample: Vec<Bytes>,
        /// Whether `matched` is an estimate.
        is_estimated: bool,
    },
    /// Made needless by something newer on the same key.
    Superseded,
    /// The entry was not carried out.
    Failed(Problem),
    /// A pattern that was not finished: what it deleted stays deleted.
    PatternDeleteFailed {
        /// Keys that matched up to the failure.
        matched: u64,
        /// Keys that were deleted up to the failure.
        deleted: u64,
        /// Whether this attempt began where the last one stopped, or anew for the first time, and sending it again goes on behind that.
        got_further: bool,
        /// Why it stopped.
        problem: Box<Problem>,
    },
}

/// Keys shown by a preview, at most.
pub const MAX_SAMPLE: usize = 100;

impl Outcome {
    /// The class that the outcome counts as in the answer and the metrics.
    pub fn class(&self) -> Class {
        match self {
            Outcome::Failed(problem) => problem.kind.class(),
            Outcome::PatternDeleteFailed { problem, .. } => problem.kind.class(),
            _ => Class::Ok,
        }
    }

    /// Why it failed, if it did.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Outcome::Failed(problem) => Some(problem),
            Outcome::PatternDeleteFailed { problem, .. } => Some(problem),
            _ => None,
        }
    }

    /// The entry's `status` on the wire.
    pub fn status(&self) -> &'static str {
        match self {
            Outcome::Stored { .. } => "stored",
            Outcome::Unchanged { .. } => "unchanged",
            Outcome::Hit(_) => "hit",
            Outcome::Miss => "miss",
            Outcome::Deleted | Outcome::PatternDeleted { .. } => "deleted",
            Outcome::Absent => "absent",
            Outcome::Preview { .. } => "preview",
            Outcome::Superseded => "superseded",
            Outcome::Failed(_) | Outcome::PatternDeleteFailed { .. } => self.class().as_str(),
        }
    }

    /// An entry that was not carried out, with no time after which to try again. `detail` must hold no value, token or
    /// URL query.
    pub fn failed(kind: ProblemKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Outcome::Failed(Problem::new(kind, detail))
    }
}

impl EventType {
    /// What an entry of such an event may end as ([`Outcome::status`]).
    pub fn statuses(self) -> &'static [&'static str] {
        match self {
            EventType::Set => &["stored", "unchanged", "superseded", "rejected", "unavailable"],
            EventType::Get => &["hit", "miss", "rejected", "unavailable"],
            EventType::Delete => &["deleted", "absent", "superseded", "rejected", "unavailable"],
            EventType::DeletePattern => &["deleted", "preview", "rejected", "unavailable"],
        }
    }

    /// Why an entry of such an event may fail.
    pub fn problems(self) -> impl Iterator<Item = ProblemKind> {
        use ProblemKind::*;
        ProblemKind::ALL.into_iter().filter(move |problem| match problem {
            BlobForbidden | BlobNotFound | BlobDenied | BlobTooLarge | BlobUnavailable => self == EventType::Set,
            AnswerTooLarge | WrongType => self == EventType::Get,
            CacheRefused | CacheUnavailable | Interrupted | Timeout | ShuttingDown => true,
        })
    }
}

/// Where an entry's time went, in microseconds: from its acceptance to its end, of that while its blob was fetched, and of
/// that in the cache's hands. The rest it waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// From the acceptance to the end.
    pub total: u32,
    /// While its blob was fetched, retries and their waits included; 0 without a blob.
    pub fetching: u32,
    /// In the queue of a writer and on the way to the cache and back; for a pattern, its scan.
    pub cache: u32,
}

/// Where a stored value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The event carried it.
    Inline,
    /// The service downloaded it from the event's URL.
    Blob,
}

impl Origin {
    /// Both origins, in the order of the discriminants: metrics index their arrays by it.
    pub const ALL: [Origin; 2] = [Origin::Inline, Origin::Blob];

    /// The origin as the wire and the metric labels name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Inline => "inline",
            Origin::Blob => "blob",
        }
    }
}

/// Why an entry was not carried out. `detail` never holds a value, a token or a URL's query.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// What went wrong; it decides the class and the problem's `type` and `title`.
    pub kind: ProblemKind,
    /// What happened, to what, and what to do, for a person. Clients must not parse it.
    pub detail: Cow<'static, str>,
    /// It is of no use to try again before; 0: nobody says so. At most [`MAX_RETRY_AFTER_SECONDS`].
    pub retry_after_seconds: u16,
    /// The blob is gone, or has changed since its notification: the change has a notification of its own.
    pub is_overtaken: bool,
    /// The fetch that failed, if it was one: for who looks at the service, and not on the wire.
    pub fetch: Option<Box<FailedFetch>>,
}

/// The longest that a sender is told to wait.
pub const MAX_RETRY_AFTER_SECONDS: u16 = 300;

impl Problem {
    /// A problem that says nothing of when to try again.
    pub fn new(kind: ProblemKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Problem { kind, detail: detail.into(), retry_after_seconds: 0, is_overtaken: false, fetch: None }
    }

    /// The same problem, which will last for `wait`: rounded up to whole seconds, at most the bound.
    pub fn lasting(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let bounded = u16::try_from(seconds).unwrap_or(MAX_RETRY_AFTER_SECONDS).min(MAX_RETRY_AFTER_SECONDS);
        Problem { retry_after_seconds: bounded, ..self }
    }
}

/// The problems that stand inside results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// The guard does not let the blob's URL be called: a private address, or a host that `fetch.allowed_hosts` lacks.
    BlobForbidden,
    /// The blob's host answered 404 or 410.
    BlobNotFound,
    /// The blob's host refused the request for good (another 4xx), or the blob is not the one that was asked for.
    BlobDenied,
    /// The value exceeds `fetch.max_blob_bytes`, or what the cache can hold.
    BlobTooLarge,
    /// The values of the answer would exceed `http.max_answer_bytes`. Read fewer keys in one request.
    AnswerTooLarge,
    /// A GET met a key that holds a list, a hash or another type but string.
    WrongType,
    /// Redis refuses it for good: NOPERM, an unknown command, a value beyond its own limit.
    CacheRefused,
    /// All attempts at the blob failed, or the time for them was over (`fetch.attempts`, `fetch.deadline_ms`).
    BlobUnavailable,
    /// The cache did not carry it out within `redis.retry_ms`.
    CacheUnavailable,
    /// An actor panicked with the operation in hand. Whether it took effect is unknown; it may be sent again.
    Interrupted,
    /// The request's time (`event.deadline_ms`) was over first.
    Timeout,
    /// The drain after SIGTERM ended first (`http.shutdown_seconds`).
    ShuttingDown,
}

/// The labels of the metrics are found by the place of a kind in the list.
const _: () = {
    let mut place = 0;
    while place < ProblemKind::ALL.len() {
        assert!(ProblemKind::ALL[place] as usize == place);
        place += 1;
    }
};

impl ProblemKind {
    /// Every kind, in the order in which the documentation and the metrics list them.
    pub const ALL: [ProblemKind; 12] = [
        ProblemKind::BlobForbidden,
        ProblemKind::BlobNotFound,
        ProblemKind::BlobDenied,
        ProblemKind::BlobTooLarge,
        ProblemKind::AnswerTooLarge,
        ProblemKind::WrongType,
        ProblemKind::CacheRefused,
        ProblemKind::BlobUnavailable,
        ProblemKind::CacheUnavailable,
        ProblemKind::Interrupted,
        ProblemKind::Timeout,
        ProblemKind::ShuttingDown,
    ];

    /// Whether another attempt could succeed: [`Class::Unavailable`], or [`Class::Rejected`] for what fails again as
    /// it stands.
    pub fn class(self) -> Class {
        use ProblemKind::*;
        match self {
            BlobForbidden | BlobNotFound | BlobDenied | BlobTooLarge | AnswerTooLarge | WrongType | CacheRefused => {
                Class::Rejected
            }
            BlobUnavailable | CacheUnavailable | Interrupted | Timeout | ShuttingDown => Class::Unavailable,
        }
    }

    /// The last part of the problem's `type`.
    pub const fn slug(self) -> &'static str {
        use ProblemKind::*;
        match self {
            BlobForbidden => "blob-forbidden",
            BlobNotFound => "blob-not-found",
            BlobDenied => "blob-denied",
            BlobTooLarge => "blob-too-large",
            AnswerTooLarge => "answer-too-large",
            WrongType => "wrong-type",
            CacheRefused => "cache-refused",
            BlobUnavailable => "blob-unavailable",
            CacheUnavailable => "cache-unavailable",
            Interrupted => "interrupted",
            Timeout => "timeout",
            ShuttingDown => "shutting-down",
        }
    }

    /// The problem's `title`: the same sentence for each problem of the kind.
    pub const fn title(self) -> &'static str {
        use ProblemKind::*;
        match self {
            BlobForbidden => "The blob's address is forbidden",
            BlobNotFound => "The blob does not exist",
            BlobDenied => "The blob's server refused the request",
            BlobTooLarge => "The value is too large",
            AnswerTooLarge => "The answer would be too large",
            WrongType => "The key does not hold a string",
            CacheRefused => "Redis refused the command",
            BlobUnavailable => "The blob is unavailable",
            CacheUnavailable => "The cache is unavailable",
            Interrupted => "The work was interrupted",
            Timeout => "The work did not end in time",
            ShuttingDown => "The service is shutting down",
        }
    }
}
