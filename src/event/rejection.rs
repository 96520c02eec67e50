//! Why a request as a whole became no work: each reason is answered with one problem document.

use std::borrow::Cow;

use super::invalid::Invalid;
use super::outcome::ProblemKind;

/// Why a request as a whole became no work. Nothing of a rejected request takes effect.
#[derive(Debug)]
pub enum Rejection {
    /// The service is open to everybody, and was called by a name that is none of its own.
    Misdirected,
    /// No such route.
    NotFound,
    /// The route does not take this method.
    MethodNotAllowed {
        /// The methods that it takes, as in `Allow`.
        allow: &'static str,
    },
    /// The sender has no accepted token, signature or certificate.
    Unauthorized {
        /// What is missing or wrong, without quoting it.
        detail: &'static str,
    },
    /// The sender's token does not permit this.
    Forbidden {
        /// What is missing.
        detail: String,
    },
    /// The keys that would prove the sender could not be fetched.
    KeysUnavailable {
        /// Which keys, and what happened.
        detail: &'static str,
    },
    /// The body's media type or encoding is not one that the route reads.
    UnsupportedMediaType {
        /// What the header says, and what it should say.
        detail: Cow<'static, str>,
    },
    /// More bytes than `http.max_body_bytes`.
    BodyTooLarge {
        /// The setting's value.
        max_bytes: usize,
    },
    /// A request to change dead letters has more bytes than its route reads.
    TooManyLetters {
        /// What the route reads.
        max_bytes: usize,
    },
    /// The body did not arrive within `http.body_timeout_ms`.
    BodyTooSlow {
        /// It had only a third of that time, because its signature was still to be proven.
        is_unproven: bool,
    },
    /// The body's chunks are not what its head promised; the connection is closed.
    BrokenChunks,
    /// The body is not JSON, is nested too deep, or ended early.
    Malformed {
        /// What the parser met and where, without quoting the body.
        detail: String,
    },
    /// The query or the body does not say what the route needs.
    BadRequest {
        /// What is wrong, and what it should be.
        detail: String,
    },
    /// More events than `event.max_events`.
    TooManyEvents {
        /// The setting's value.
        max_events: usize,
    },
    /// More events or bytes than admission could ever hold.
    TooLargeToAdmit,
    /// More patterns than may ever be in progress.
    TooManyPatterns,
    /// A request of one event, and the event is invalid.
    Invalid(Invalid),
    /// Admission is full, or work would wait too long.
    Overloaded,
    /// The journal holds `journal.max_events`.
    JournalFull,
    /// More events than the journal could ever hold.
    TooManyForJournal {
        /// Of the request, invalid ones not counted.
        events: u64,
        /// `journal.max_events`.
        max_events: u64,
    },
    /// The journal's Redis did not take the events, or did not say so.
    JournalUnavailable {
        /// What happened.
        detail: String,
    },
    /// The service is stopping, or the work was lost or out of time before its events were known.
    Unavailable(ProblemKind),
}

impl Rejection {
    /// The reason in a few words, for the log; empty for an invalid event, whose faults have lines of their own.
    pub fn cause(&self) -> &str {
        match self {
            Rejection::Misdirected => "Host is not in http.hosts, and the service is open to everybody",
            Rejection::NotFound => "no such route",
            Rejection::MethodNotAllowed { .. } => "the method is not allowed for this route",
            Rejection::Unauthorized { detail } | Rejection::KeysUnavailable { detail } => detail,
            Rejection::UnsupportedMediaType { detail } => detail,
            Rejection::BodyTooLarge { .. } => "more than http.max_body_bytes",
            Rejection::TooManyLetters { .. } => "more bytes than a change of dead letters needs",
            Rejection::BodyTooSlow { is_unproven: false } => "the body was slower than http.body_timeout_ms",
            Rejection::BodyTooSlow { is_unproven: true } => {
                "the signed body was slower than a third of http.body_timeout_ms"
            }
            Rejection::BrokenChunks => "the body is not chunked as its head says",
            Rejection::Malformed { detail } | Rejection::BadRequest { detail } | Rejection::Forbidden { detail } => {
                detail
            }
            Rejection::TooManyEvents { .. } => "more events than event.max_events",
            Rejection::TooLargeToAdmit => "more than admission can ever hold",
            Rejection::TooManyPatterns => "more patterns than event.max_patterns",
            Rejection::Invalid(_) => "",
            Rejection::Overloaded => "admission is full, or work would wait too long",
            Rejection::JournalFull => "the journal is full (journal.max_events)",
            Rejection::TooManyForJournal { .. } => "more events than journal.max_events",
            Rejection::JournalUnavailable { detail } => detail,
            Rejection::Unavailable(ProblemKind::ShuttingDown) => "the service is draining",
            Rejection::Unavailable(kind) => kind.title(),
        }
    }
}
