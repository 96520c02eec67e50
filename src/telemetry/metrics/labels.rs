//! The label sets and the buckets. What a label may say is listed here and nowhere else, so no sender makes a set grow; hosts,
//! of which nobody knows the names beforehand, are counted out in [`super::hosts`].

use crate::event::outcome::ProblemKind;

/// The roles of the pipeline, as the label `actor` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActorKind {
    /// Splits bodies into events.
    Intake,
    /// Checks events and admits requests.
    Validation,
    /// Keeps the order of each key: the local routers and the central one.
    Router,
    /// Downloads blobs.
    Fetcher,
    /// Carries out pattern deletes and previews.
    Scanner,
    /// Writes batches to the cache.
    Writer,
    /// Appends accepted events to the journal.
    Appender,
    /// Brings the journal's events to the pipeline.
    Feeder,
}

impl ActorKind {
    /// Every role, in the order of the discriminants: the metrics index their arrays by it.
    pub const ALL: [ActorKind; 8] = [
        ActorKind::Intake,
        ActorKind::Validation,
        ActorKind::Router,
        ActorKind::Fetcher,
        ActorKind::Scanner,
        ActorKind::Writer,
        ActorKind::Appender,
        ActorKind::Feeder,
    ];

    /// The role as the label `actor` and the names of threads spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            ActorKind::Intake => "intake",
            ActorKind::Validation => "validation",
            ActorKind::Router => "router",
            ActorKind::Fetcher => "fetcher",
            ActorKind::Scanner => "scanner",
            ActorKind::Writer => "writer",
            ActorKind::Appender => "appender",
            ActorKind::Feeder => "feeder",
        }
    }
}

/// The types of event, and what stands for one that cannot be told.
pub const EVENT_TYPES: [&str; 5] = ["SET", "GET", "DELETE", "DELETE_PATTERN", "unknown"];
pub(super) const UNKNOWN_TYPE: usize = EVENT_TYPES.len() - 1;

/// What an entry may end as; the last stands for anything that is not listed.
pub(super) const STATUSES: [&str; 11] = [
    "stored",
    "unchanged",
    "hit",
    "miss",
    "deleted",
    "absent",
    "preview",
    "superseded",
    "rejected",
    "unavailable",
    "other",
];

/// Stands for the routes of all sources.
pub const SOURCES_ROUTE: &str = "/sources/NAME";
/// The routes of the service; the last stands for anything else.
pub const ROUTES: [&str; 16] = [
    "/events",
    SOURCES_ROUTE,
    "/live",
    "/ready",
    "/metrics",
    "/openapi.json",
    "/",
    "/docs",
    "/status.json",
    "/replica.json",
    "/replicas.json",
    "/key.json",
    "/dead-letters.json",
    "/dead-letters/replay",
    "/dead-letters/drop",
    "other",
];
pub(super) const HTTP_STATUSES: [&str; 18] = [
    "200", "202", "207", "304", "400", "401", "403", "404", "405", "408", "413", "415", "421", "422", "431", "500",
    "503", "other",
];

/// Why a request became no work (`http` holds that all its problem documents are here); the last stands for anything else.
pub const REFUSALS: [&str; 21] = [
    "malformed-json",
    "invalid-request",
    "malformed-request",
    "unauthorized",
    "forbidden",
    "not-found",
    "method-not-allowed",
    "misdirected-request",
    "request-timeout",
    "payload-too-large",
    "unsupported-media-type",
    "invalid-event",
    "head-too-large",
    "overloaded",
    "keys-unavailable",
    "journal-full",
    "journal-unavailable",
    "shutting-down",
    "interrupted",
    "timeout",
    "other",
];

/// Why an event became a dead letter, each problem of a write among it; the last stands for anything else.
pub(super) const DEAD_LETTERS: [&str; 15] = [
    "invalid-event",
    "forbidden",
    "payload-too-large",
    "superseded",
    "blob-forbidden",
    "blob-not-found",
    "blob-denied",
    "blob-too-large",
    "blob-unavailable",
    "cache-refused",
    "cache-unavailable",
    "interrupted",
    "timeout",
    "shutting-down",
    "other",
];

/// The problems of an event as a whole: it is invalid, or its sender has no right to it.
pub(super) const INVALID_EVENT: usize = 0;
pub(super) const FORBIDDEN_EVENT: usize = 1;
const OF_EVENTS: usize = 2;
/// Why an entry failed: those of the event, then [`ProblemKind::ALL`].
pub(super) const FAILURES: [&str; ProblemKind::ALL.len() + OF_EVENTS] = failures();

const fn failures() -> [&'static str; ProblemKind::ALL.len() + OF_EVENTS] {
    let mut slugs = ["invalid-event"; ProblemKind::ALL.len() + OF_EVENTS];
    slugs[FORBIDDEN_EVENT] = "forbidden";
    let mut kind = 0;
    while kind < ProblemKind::ALL.len() {
        slugs[kind + OF_EVENTS] = ProblemKind::ALL[kind].slug();
        kind += 1;
    }
    slugs
}

/// Where a problem stands in [`FAILURES`].
pub(super) fn failure(problem: ProblemKind) -> usize {
    OF_EVENTS + problem as usize
}

pub(super) const FETCH_OUTCOMES: [&str; 8] = [
    "ok",
    "not-modified",
    "blob-forbidden",
    "blob-not-found",
    "blob-denied",
    "blob-too-large",
    "blob-unavailable",
    "other",
];

/// Seconds. From an inline event (well below a millisecond) to `event.deadline_ms`.
pub(super) const REQUEST_BUCKETS: [f64; 13] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0];
/// Seconds. From a blob nearby to more than `fetch.timeout_ms`.
pub(super) const FETCH_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 25.0];
/// Seconds. Few, for there are as many of them as hosts.
pub(super) const HOST_BUCKETS: [f64; 6] = [0.01, 0.05, 0.25, 1.0, 5.0, 25.0];
/// Seconds. From an inline event to `event.deadline_ms`.
pub(super) const DELAY_BUCKETS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Seconds. From an event that comes at once to one that was kept for days.
pub(super) const AGE_BUCKETS: [f64; 15] =
    [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0, 604_800.0];
/// Seconds. From a pipeline to a Redis nearby to `redis.retry_ms`.
pub(super) const BATCH_BUCKETS: [f64; 12] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 5.0];
/// Commands of one pipeline.
pub(super) const BATCH_SIZES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

pub(super) const HTTP_STATUS_CODES: [u16; 17] =
    [200, 202, 207, 304, 400, 401, 403, 404, 405, 408, 413, 415, 421, 422, 431, 500, 503];

/// The place of a status among [`HTTP_STATUSES`]; others are the last.
pub(super) fn status_position(status: u16) -> usize {
    HTTP_STATUS_CODES.iter().position(|&code| code == status).unwrap_or(HTTP_STATUSES.len() - 1)
}
