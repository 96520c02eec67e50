//! Outcome → status code and problem document (RFC 9457). The one place where an error becomes an HTTP status.

use std::borrow::Cow;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, HttpResponseBuilder};

use super::answer::with_text;
use crate::event::outcome::{Class, ProblemKind};
use crate::event::wire::{INVALID, MALFORMED, ProblemDocument};
use crate::pipeline::work::job::Refusal;

const BROKEN_CHUNKS: &str = "the body is not chunked as its head says";
const PROBLEM_JSON: &str = "application/problem+json";

const NOT_FOUND: Kind = Kind(404, "not-found", "There is no such route");
const METHOD_NOT_ALLOWED: Kind = Kind(405, "method-not-allowed", "The route does not take this method");
const MISDIRECTED: Kind = Kind(421, "misdirected-request", "The service is not known by this name");
const UNAUTHORIZED: Kind = Kind(401, "unauthorized", "The sender has not shown that it may do this");
const REQUEST_TIMEOUT: Kind = Kind(408, "request-timeout", "The request took too long to arrive");
const HEAD_LARGE: Kind = Kind(431, "head-too-large", "The head of the request is too large");
const MALFORMED_REQUEST: Kind = Kind(400, "malformed-request", "The request is not HTTP");
const MALFORMED_JSON: Kind = Kind(400, MALFORMED.slug, "The body is not JSON");
const TOO_LARGE: Kind = Kind(413, "payload-too-large", "The request is too large");
const MEDIA_TYPE: Kind = Kind(415, "unsupported-media-type", "The body's type is not understood");
const INVALID_EVENT: Kind = Kind(422, INVALID.slug, INVALID.title);
const OVERLOADED: Kind = Kind(503, "overloaded", "The service has as much work as it takes on");
const NO_KEYS: Kind = Kind(503, "keys-unavailable", "The keys that prove the sender cannot be had now");

/// A kind of problem document: its status, the last part of its type, its title.
#[derive(Clone, Copy)]
pub struct Kind(pub u16, pub &'static str, pub &'static str);

/// Every problem document that there is.
pub const DOCUMENTS: [Kind; 16] = [
    MALFORMED_JSON,
    MALFORMED_REQUEST,
    UNAUTHORIZED,
    NOT_FOUND,
    METHOD_NOT_ALLOWED,
    MISDIRECTED,
    REQUEST_TIMEOUT,
    TOO_LARGE,
    MEDIA_TYPE,
    INVALID_EVENT,
    HEAD_LARGE,
    OVERLOADED,
    NO_KEYS,
    Kind::unavailable(ProblemKind::ShuttingDown),
    Kind::unavailable(ProblemKind::Interrupted),
    Kind::unavailable(ProblemKind::Timeout),
];

/// The answer to a head that did not arrive in time: nothing of the request is known.
pub static HEAD_TOO_SLOW: ProblemDocument<'static> =
    REQUEST_TIMEOUT.headless("the head did not arrive within http.head_timeout_ms");
pub static HEAD_TOO_LARGE: ProblemDocument<'static> =
    HEAD_LARGE.headless("its headers are too many, or have more than 32 KiB");
pub static NO_ROOM_FOR_HEAD: ProblemDocument<'static> =
    OVERLOADED.headless("the head is large, and other requests hold what intake.max_in_flight_bytes allows");
pub static NOT_HTTP: ProblemDocument<'static> = MALFORMED_REQUEST.headless("its head cannot be understood");

impl Kind {
    const fn unavailable(kind: ProblemKind) -> Self {
        Kind(503, kind.slug(), kind.title())
    }

    const fn headless(self, detail: &'static str) -> ProblemDocument<'static> {
        let Kind(status, slug, title) = self;
        ProblemDocument { slug, title, status: Some(status), detail: Cow::Borrowed(detail), errors: &[] }
    }
}

/// Why a request was turned away before it reached the pipeline.
#[derive(Debug)]
pub enum Turned {
    Misdirected,
    NotFound,
    MethodNotAllowed {
        allow: &'static str,
    },
    Unauthorized {
        detail: &'static str,
    },
    /// Whether the sender may do this depends on keys that could not be fetched.
    NoKeys {
        detail: &'static str,
    },
    Draining,
    UnsupportedMediaType {
        detail: &'static str,
    },
    /// A notification of a media type that its format does not have.
    ForeignMediaType {
        detail: String,
    },
    BodyTooLarge {
        max_bytes: usize,
    },
    Malformed {
        detail: String,
    },
    BodyTooSlow,
    BrokenChunks,
    Overloaded,
}

impl Turned {
    /// For the log.
    pub fn cause(&self) -> &str {
        match self {
            Turned::UnsupportedMediaType { detail } | Turned::Unauthorized { detail } | Turned::NoKeys { detail } => {
                detail
            }
            Turned::Malformed { detail } | Turned::ForeignMediaType { detail } => detail,
            Turned::Misdirected => "Host is none of http.hosts, and nothing else is asked for",
            Turned::NotFound => "no such route",
            Turned::MethodNotAllowed { .. } => "not a method of this route",
            Turned::Draining => "the service is draining",
            Turned::BodyTooLarge { .. } => "more than http.max_body_bytes",
            Turned::BodyTooSlow => "the body was slower than http.body_timeout_ms",
            Turned::BrokenChunks => BROKEN_CHUNKS,
            Turned::Overloaded => "admission is full, or what is inside takes too long",
        }
    }
}

/// The answer to a request that was turned away, and the last part of its problem's type.
/// `retry_after` is asked for where it matters.
pub fn turned_away(why: &Turned, retry_after: impl FnOnce() -> u64) -> (HttpResponse, &'static str) {
    use Turned::*;
    match why {
        Misdirected => document(
            MISDIRECTED,
            "without tokens, secrets or client certificates, Host must be an IP address, localhost or one of http.hosts",
            |_| {},
        ),
        NotFound => document(
            NOT_FOUND,
            "see POST /events and GET /openapi.json, and GET /live, /ready and /metrics, which may be on a port of their own",
            |_| {},
        ),
        MethodNotAllowed { allow } => document(METHOD_NOT_ALLOWED, &format!("allowed: {allow}"), |response| {
            response.insert_header((ALLOW, *allow));
        }),
        Unauthorized { detail } => document(UNAUTHORIZED, detail, |response| {
            response.insert_header((WWW_AUTHENTICATE, "Bearer"));
        }),
        NoKeys { detail } => document(NO_KEYS, detail, |response| add_retry_after(response, retry_after())),
        Draining => unavailable(ProblemKind::ShuttingDown, retry_after()),
        UnsupportedMediaType { detail } => document(MEDIA_TYPE, detail, |_| {}),
        ForeignMediaType { detail } => document(MEDIA_TYPE, detail, |_| {}),
        BodyTooLarge { max_bytes } => {
            too_large(&format!("the body has more than the {max_bytes} bytes that http.max_body_bytes allows"))
        }
        Malformed { detail } => malformed(detail),
        BodyTooSlow => document(REQUEST_TIMEOUT, "the body did not arrive within http.body_timeout_ms", |response| {
            response.force_close();
        }),
        BrokenChunks => document(MALFORMED_REQUEST, BROKEN_CHUNKS, |response| {
            response.force_close();
        }),
        Overloaded => overloaded(retry_after()),
    }
}

/// The answer to a request that became no work, and the last part of its problem's type.
pub fn refused(
    refusal: &Refusal,
    max_events: usize,
    retry_after: impl FnOnce() -> u64,
) -> (HttpResponse, &'static str) {
    match refusal {
        Refusal::Malformed { detail } => malformed(detail),
        Refusal::TooManyEvents => {
            too_large(&format!("it has more than the {max_events} events that event.max_events allows"))
        }
        Refusal::TooLargeToAdmit => too_large(
            "it needs more than intake.max_in_flight events or intake.max_in_flight_bytes (what its entries, patterns and \
             faults hold beside the body) could ever hold",
        ),
        Refusal::TooManyPatterns => too_large("it has more patterns than event.max_patterns lets be under way"),
        Refusal::Invalid(invalid) => {
            let problem = invalid.problem();
            (render(&problem, |_| {}), problem.slug)
        }
        Refusal::Overloaded => overloaded(retry_after()),
        Refusal::Unavailable(kind) => unavailable(*kind, retry_after()),
    }
}

/// The status of an answer in which work was done.
pub fn status_of(class: Class, is_batch: bool) -> StatusCode {
    match (class, is_batch) {
        (Class::Ok, _) => StatusCode::OK,
        (Class::Rejected, false) => StatusCode::UNPROCESSABLE_ENTITY,
        (Class::Rejected, true) => StatusCode::MULTI_STATUS,
        (Class::Unavailable, _) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The same for a producer of notifications, which would send again whatever is no success: what can never succeed is one.
pub fn status_for_producer(class: Class) -> StatusCode {
    match class {
        Class::Ok | Class::Rejected => StatusCode::OK,
        Class::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// A 503 tells when to come back.
pub fn add_retry_after(response: &mut HttpResponseBuilder, seconds: u64) {
    response.insert_header((RETRY_AFTER, seconds));
}

fn malformed(detail: &str) -> (HttpResponse, &'static str) {
    document(MALFORMED_JSON, detail, |_| {})
}

fn too_large(detail: &str) -> (HttpResponse, &'static str) {
    document(TOO_LARGE, detail, |_| {})
}

fn overloaded(retry_after: u64) -> (HttpResponse, &'static str) {
    document(
        OVERLOADED,
        "admission is full, or what is inside takes too long; nothing of this request was taken on",
        |response| add_retry_after(response, retry_after),
    )
}

fn unavailable(kind: ProblemKind, retry_after: u64) -> (HttpResponse, &'static str) {
    let detail = match kind {
        ProblemKind::ShuttingDown => "the service takes on no new events; another replica does",
        ProblemKind::Timeout => "the request was not answered within event.deadline_ms",
        _ => "a part of the service failed under the request; it may be repeated",
    };
    document(Kind::unavailable(kind), detail, |response| {
        add_retry_after(response, retry_after);
        if kind == ProblemKind::ShuttingDown {
            response.force_close();
        }
    })
}

fn document(
    Kind(status, slug, title): Kind,
    detail: &str,
    with: impl FnOnce(&mut HttpResponseBuilder),
) -> (HttpResponse, &'static str) {
    let problem = ProblemDocument { slug, title, status: Some(status), detail: detail.into(), errors: &[] };
    (render(&problem, with), slug)
}

fn render(problem: &ProblemDocument<'_>, with: impl FnOnce(&mut HttpResponseBuilder)) -> HttpResponse {
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let status = problem.status.and_then(|status| StatusCode::from_u16(status).ok());
    let mut response = HttpResponse::build(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    response.content_type(PROBLEM_JSON);
    with(&mut response);
    with_text(response, body.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::REFUSALS;

    #[test]
    fn every_problem_document_has_a_place_in_the_metrics() {
        let mut documents: Vec<&str> = DOCUMENTS.iter().map(|Kind(_, slug, _)| *slug).collect();
        documents.sort_unstable();
        let mut counted = REFUSALS[..REFUSALS.len() - 1].to_vec();
        counted.sort_unstable();
        assert_eq!(documents, counted);
    }
}
