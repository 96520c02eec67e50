//! Outcome → status code and problem document (RFC 9457). The one place where an error becomes an HTTP status.

use std::borrow::Cow;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, HttpResponseBuilder};

use crate::event::outcome::{Class, ProblemKind};
use crate::event::wire::ProblemDocument;
use crate::pipeline::job::Refusal;

/// Seconds after which a sender may try again.
const RETRY_AFTER_SECONDS: &str = "1";
const PROBLEM_JSON: &str = "application/problem+json";

/// The answer to a head that did not arrive in time: nothing of the request is known.
pub static HEAD_TOO_SLOW: ProblemDocument<'static> = headless(
    "request-timeout",
    408,
    "The request took too long to arrive",
    "the head did not arrive within http.head_timeout_ms",
);

pub static HEAD_TOO_LARGE: ProblemDocument<'static> =
    headless("head-too-large", 431, "The head of the request is too large", "it has too many or too long headers");

pub static NOT_HTTP: ProblemDocument<'static> =
    headless("malformed-request", 400, "The request is not HTTP", "its head cannot be understood");

const fn headless(
    slug: &'static str,
    status: u16,
    title: &'static str,
    detail: &'static str,
) -> ProblemDocument<'static> {
    ProblemDocument { slug, title, status: Some(status), detail: Cow::Borrowed(detail), errors: &[] }
}

/// Why a request was turned away before it reached the pipeline.
#[derive(Debug)]
pub enum Turned {
    NotFound,
    MethodNotAllowed { allow: &'static str },
    Unauthorized { detail: &'static str },
    Draining,
    UnsupportedMediaType { detail: &'static str },
    BodyTooLarge { max_bytes: usize },
    Malformed { detail: String },
    BodyTooSlow,
    Overloaded,
}

impl Turned {
    /// For the log.
    pub fn cause(&self) -> &str {
        match self {
            Turned::UnsupportedMediaType { detail } | Turned::Unauthorized { detail } => detail,
            Turned::Malformed { detail } => detail,
            Turned::NotFound => "no such route",
            Turned::MethodNotAllowed { .. } => "not a method of this route",
            Turned::Draining => "the service is draining",
            Turned::BodyTooLarge { .. } => "more than http.max_body_bytes",
            Turned::BodyTooSlow => "the body was slower than http.body_timeout_ms",
            Turned::Overloaded => "admission is full, or what is inside takes too long",
        }
    }
}

/// The answer to a request that was turned away, and the last part of its problem's type.
pub fn turned_away(why: &Turned) -> (HttpResponse, &'static str) {
    use Turned::*;
    match why {
        NotFound => document(
            StatusCode::NOT_FOUND,
            "not-found",
            "There is no such route",
            "see POST /events, and GET /live, /ready and /metrics, which may be on a port of their own",
            |_| {},
        ),
        MethodNotAllowed { allow } => document(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "The route does not take this method",
            &format!("allowed: {allow}"),
            |response| {
                response.insert_header((ALLOW, *allow));
            },
        ),
        Unauthorized { detail } => document(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "The sender has not shown that it may post events",
            detail,
            |response| {
                response.insert_header((WWW_AUTHENTICATE, "Bearer"));
            },
        ),
        Draining => unavailable(ProblemKind::ShuttingDown),
        UnsupportedMediaType { detail } => document(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "The body's type is not understood",
            detail,
            |_| {},
        ),
        BodyTooLarge { max_bytes } => {
            too_large(&format!("the body has more than the {max_bytes} bytes that http.max_body_bytes allows"))
        }
        Malformed { detail } => malformed(detail),
        BodyTooSlow => document(
            StatusCode::REQUEST_TIMEOUT,
            "request-timeout",
            "The request took too long to arrive",
            "the body did not arrive within http.body_timeout_ms",
            |response| {
                response.force_close();
            },
        ),
        Overloaded => overloaded(),
    }
}

/// The answer to a request that became no work, and the last part of its problem's type.
pub fn refused(refusal: &Refusal, max_events: usize) -> (HttpResponse, &'static str) {
    match refusal {
        Refusal::Malformed { detail } => malformed(detail),
        Refusal::TooManyEvents => {
            too_large(&format!("it has more than the {max_events} events that event.max_events allows"))
        }
        Refusal::TooLargeToAdmit => too_large(
            "it needs more than intake.max_in_flight events or intake.max_in_flight_bytes (256 for each entry beside \
             the body) could ever hold",
        ),
        Refusal::Invalid(invalid) => {
            let problem = invalid.problem();
            let status = problem.status.and_then(|status| StatusCode::from_u16(status).ok());
            (render(status.unwrap_or(StatusCode::UNPROCESSABLE_ENTITY), &problem, |_| {}), problem.slug)
        }
        Refusal::Overloaded => overloaded(),
        Refusal::Unavailable(kind) => unavailable(*kind),
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

/// A 503 tells when to come back.
pub fn add_retry_after(response: &mut HttpResponseBuilder) {
    response.insert_header((RETRY_AFTER, RETRY_AFTER_SECONDS));
}

fn malformed(detail: &str) -> (HttpResponse, &'static str) {
    document(StatusCode::BAD_REQUEST, "malformed-json", "The body is not JSON", detail, |_| {})
}

fn too_large(detail: &str) -> (HttpResponse, &'static str) {
    document(StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", "The request is too large", detail, |_| {})
}

fn overloaded() -> (HttpResponse, &'static str) {
    document(
        StatusCode::SERVICE_UNAVAILABLE,
        "overloaded",
        "The service has as much work as it takes on",
        "admission is full, or what is inside takes too long; nothing of this request was taken on",
        add_retry_after,
    )
}

fn unavailable(kind: ProblemKind) -> (HttpResponse, &'static str) {
    let detail = match kind {
        ProblemKind::ShuttingDown => "the service takes on no new events; another replica does",
        ProblemKind::Timeout => "the request was not answered within event.deadline_ms",
        _ => "a part of the service failed under the request; it may be repeated",
    };
    document(StatusCode::SERVICE_UNAVAILABLE, kind.slug(), kind.title(), detail, |response| {
        add_retry_after(response);
        if kind == ProblemKind::ShuttingDown {
            response.force_close();
        }
    })
}

fn document(
    status: StatusCode,
    slug: &'static str,
    title: &'static str,
    detail: &str,
    with: impl FnOnce(&mut HttpResponseBuilder),
) -> (HttpResponse, &'static str) {
    let problem = ProblemDocument { slug, title, status: Some(status.as_u16()), detail: detail.into(), errors: &[] };
    (render(status, &problem, with), slug)
}

fn render(
    status: StatusCode,
    problem: &ProblemDocument<'_>,
    with: impl FnOnce(&mut HttpResponseBuilder),
) -> HttpResponse {
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let mut response = HttpResponse::build(status);
    response.content_type(PROBLEM_JSON);
    with(&mut response);
    response.body(body)
}
