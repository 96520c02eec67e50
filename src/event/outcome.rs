//! What became of an entry: ok, rejected or unavailable, and why.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;

use super::{EventType, Ttl};

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
    pub const ALL: [Class; 3] = [Class::Ok, Class::Rejected, Class::Unavailable];

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
    Stored {
        bytes: usize,
        ttl: Option<Ttl>,
        source: Origin,
    },
    Hit(Bytes),
    Miss,
    Deleted,
    Absent,
    /// A pattern's keys are deleted.
    Swept {
        matched: u64,
        deleted: u64,
    },
    /// What a pattern would delete; the sample holds at most [`MAX_SAMPLE`] keys. Whether `matched` is an estimate: so
    /// many keys cannot be told apart.
    Preview {
        matched: u64,
        sample: Vec<Bytes>,
        is_estimated: bool,
    },
    /// Made needless by something newer on the same key.
    Superseded,
    Failed(Problem),
    /// A pattern that was not finished: what it deleted stays deleted.
    SweepFailed {
        matched: u64,
        deleted: u64,
        problem: Problem,
    },
}

/// Keys shown by a preview, at most.
pub const MAX_SAMPLE: usize = 100;

impl Outcome {
    pub fn class(&self) -> Class {
        match self {
            Outcome::Failed(problem) | Outcome::SweepFailed { problem, .. } => problem.kind.class(),
            _ => Class::Ok,
        }
    }

    /// Why it failed, if it did.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Outcome::Failed(problem) | Outcome::SweepFailed { problem, .. } => Some(problem),
            _ => None,
        }
    }

    /// The entry's `status` on the wire.
    pub fn status(&self) -> &'static str {
        match self {
            Outcome::Stored { .. } => "stored",
            Outcome::Hit(_) => "hit",
            Outcome::Miss => "miss",
            Outcome::Deleted | Outcome::Swept { .. } => "deleted",
            Outcome::Absent => "absent",
            Outcome::Preview { .. } => "preview",
            Outcome::Superseded => "superseded",
            Outcome::Failed(_) | Outcome::SweepFailed { .. } => self.class().as_str(),
        }
    }

    pub fn failed(kind: ProblemKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Outcome::Failed(Problem::new(kind, detail))
    }
}

impl EventType {
    /// What an entry of such an event may end as ([`Outcome::status`]).
    pub fn statuses(self) -> &'static [&'static str] {
        match self {
            EventType::Set => &["stored", "superseded", "rejected", "unavailable"],
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
    pub total: u32,
    pub fetching: u32,
    pub cache: u32,
}

/// Where a stored value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Inline,
    Blob,
}

impl Origin {
    pub const ALL: [Origin; 2] = [Origin::Inline, Origin::Blob];

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
    pub kind: ProblemKind,
    pub detail: Cow<'static, str>,
    /// It is of no use to try again before; 0: nobody says so. At most [`MAX_RETRY_AFTER_SECONDS`].
    pub retry_after_seconds: u16,
    /// The blob is gone, or has changed since it was told of: whatever made it so is told of by itself.
    pub is_overtaken: bool,
}

/// The longest that a sender is told to wait.
pub const MAX_RETRY_AFTER_SECONDS: u16 = 300;

impl Problem {
    pub fn new(kind: ProblemKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Problem { kind, detail: detail.into(), retry_after_seconds: 0, is_overtaken: false }
    }

    /// Which will be so for this long, cut to the bound and rounded up.
    pub fn lasting(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let bounded = u16::try_from(seconds).unwrap_or(MAX_RETRY_AFTER_SECONDS).min(MAX_RETRY_AFTER_SECONDS);
        Problem { retry_after_seconds: bounded, ..self }
    }
}

/// The problems that stand inside results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    BlobForbidden,
    BlobNotFound,
    BlobDenied,
    BlobTooLarge,
    AnswerTooLarge,
    WrongType,
    /// Redis refuses it for good: NOPERM, an unknown command, a value beyond its own limit.
    CacheRefused,
    BlobUnavailable,
    CacheUnavailable,
    Interrupted,
    Timeout,
    ShuttingDown,
}

impl ProblemKind {
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

    pub const fn title(self) -> &'static str {
        use ProblemKind::*;
        match self {
            BlobForbidden => "The blob's address must not be called",
            BlobNotFound => "There is no such blob",
            BlobDenied => "The blob's server refused",
            BlobTooLarge => "The value is too large",
            AnswerTooLarge => "The answer would be too large",
            WrongType => "The key holds no string",
            CacheRefused => "Redis refused it",
            BlobUnavailable => "The blob cannot be had right now",
            CacheUnavailable => "The cache cannot be reached right now",
            Interrupted => "The work was interrupted",
            Timeout => "The work was not done in time",
            ShuttingDown => "The service is shutting down",
        }
    }
}
