//! Outcome → status code and problem document (RFC 9457). The one place where an error becomes an HTTP status.

use std::borrow::Cow;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, HttpResponseBuilder};

use super::answer::with_text;
use crate::event::outcome::{Class, ProblemKind};
use crate::event::rejection::Rejection;
use crate::event::wire::{FORBIDDEN as NO_RIGHT, INVALID, MALFORMED, ProblemDocument};

const PROBLEM_JSON: &str = "application/problem+json";

const NOT_FOUND: DocumentKind = DocumentKind(404, "not-found", "The route does not exist");
const METHOD_NOT_ALLOWED: DocumentKind = DocumentKind(405, "method-not-allowed", "The route does not take this method");
const MISDIRECTED: DocumentKind = DocumentKind(421, "misdirected-request", "The service does not have this name");
const UNAUTHORIZED: DocumentKind = DocumentKind(401, "unauthorized", "The sender is not authorized");
const FORBIDDEN: DocumentKind = DocumentKind(403, NO_RIGHT.slug, NO_RIGHT.title);
const REQUEST_TIMEOUT: DocumentKind = DocumentKind(408, "request-timeout", "The request took too long to arrive");
const HEAD_LARGE: DocumentKind = DocumentKind(431, "head-too-large", "The head of the request is too large");
const MALFORMED_REQUEST: DocumentKind = DocumentKind(400, "malformed-request", "The request is not HTTP");
const BAD_REQUEST: DocumentKind = DocumentKind(400, "invalid-request", "The request is not valid");
const MALFORMED_JSON: DocumentKind = DocumentKind(400, MALFORMED.slug, "The body is not JSON");
const TOO_LARGE: DocumentKind = DocumentKind(413, "payload-too-large", "The request is too large");
const MEDIA_TYPE: DocumentKind = DocumentKind(415, "unsupported-media-type", "The body's media type is not supported");
const INVALID_EVENT: DocumentKind = DocumentKind(422, INVALID.slug, INVALID.title);
const OVERLOADED: DocumentKind = DocumentKind(503, "overloaded", "The service is overloaded");
const JOURNAL_FULL: DocumentKind = DocumentKind(503, "journal-full", "The journal is full");
const NO_JOURNAL: DocumentKind = DocumentKind(503, "journal-unavailable", "The journal is unavailable");
const NO_KEYS: DocumentKind = DocumentKind(503, "keys-unavailable", "The keys that prove the sender are unavailable");

/// A kind of problem document: its status, the last part of its type, its title.
#[derive(Clone, Copy)]
pub struct DocumentKind(pub u16, pub &'static str, pub &'static str);

/// Every problem document that there is.
pub const DOCUMENTS: [DocumentKind; 20] = [
    MALFORMED_JSON,
    BAD_REQUEST,
    MALFORMED_REQUEST,
    UNAUTHORIZED,
    FORBIDDEN,
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
    JOURNAL_FULL,
    NO_JOURNAL,
    DocumentKind::unavailable(ProblemKind::ShuttingDown),
    DocumentKind::unavailable(ProblemKind::Interrupted),
    DocumentKind::unavailable(ProblemKind::Timeout),
];

/// The answer to a head that did not arrive in time: nothing of the request is known.
pub static HEAD_TOO_SLOW: ProblemDocument<'static> =
    REQUEST_TIMEOUT.headless("The head did not arrive within http.head_timeout_ms.");
pub static HEAD_TOO_LARGE: ProblemDocument<'static> =
    HEAD_LARGE.headless("The head has too many headers, or more than 32 KiB.");
pub static NO_ROOM_FOR_HEAD: ProblemDocument<'static> = OVERLOADED
    .headless("The head is large, and other requests use all of intake.max_in_flight_bytes. Send it again later.");
pub static NOT_HTTP: ProblemDocument<'static> = MALFORMED_REQUEST.headless("The head is not that of an HTTP request.");

impl DocumentKind {
    const fn unavailable(kind: ProblemKind) -> Self {
        DocumentKind(503, kind.slug(), kind.title())
    }

    const fn headless(self, detail: &'static str) -> ProblemDocument<'static> {
        let DocumentKind(status, slug, title) = self;
        ProblemDocument { slug, title, status: Some(status), detail: Cow::Borrowed(detail), errors: &[] }
    }
}

/// The answer to a request that became no work, and the last part of its problem's type. `retry_after`, in seconds, is
/// asked for where the answer names it.
pub fn rejection_answer(why: &Rejection, retry_after: impl FnOnce() -> u64) -> (HttpResponse, &'static str) {
    use Rejection::*;
    match why {
        Invalid(invalid) => {
            let problem = invalid.problem();
            (render(&problem, |_| {}), problem.slug)
        }
        MethodNotAllowed { allow } => document(METHOD_NOT_ALLOWED, &detail(why), |response| {
            response.insert_header((ALLOW, *allow));
        }),
        Unauthorized { detail } => document(UNAUTHORIZED, detail, |response| {
            response.insert_header((WWW_AUTHENTICATE, "Bearer"));
        }),
        BodyTooSlow { .. } | BrokenChunks => document(kind(why), &detail(why), |response| {
            response.force_close();
        }),
        Overloaded | KeysUnavailable { .. } | JournalFull | JournalUnavailable { .. } => {
            document(kind(why), &detail(why), |response| add_retry_after(response, retry_after()))
        }
        Unavailable(problem) => unavailable(*problem, retry_after()),
        Misdirected
        | NotFound
        | Forbidden { .. }
        | UnsupportedMediaType { .. }
        | Malformed { .. }
        | BadRequest { .. }
        | BodyTooLarge { .. }
        | TooManyLetters { .. }
        | TooManyEvents { .. }
        | TooLargeToAdmit
        | TooManyPatterns
        | TooManyForJournal { .. } => document(kind(why), &detail(why), |_| {}),
    }
}

/// The last part of the type of a rejection's problem, as the metrics and the log name it.
pub fn slug(why: &Rejection) -> &'static str {
    match why {
        Rejection::Invalid(invalid) => invalid.problem().slug,
        why => kind(why).1,
    }
}

fn kind(why: &Rejection) -> DocumentKind {
    use Rejection::*;
    match why {
        Misdirected => MISDIRECTED,
        NotFound => NOT_FOUND,
        MethodNotAllowed { .. } => METHOD_NOT_ALLOWED,
        Unauthorized { .. } => UNAUTHORIZED,
        Forbidden { .. } => FORBIDDEN,
        KeysUnavailable { .. } => NO_KEYS,
        UnsupportedMediaType { .. } => MEDIA_TYPE,
        BodyTooLarge { .. }
        | TooManyLetters { .. }
        | TooManyEvents { .. }
        | TooLargeToAdmit
        | TooManyPatterns
        | TooManyForJournal { .. } => TOO_LARGE,
        BodyTooSlow { .. } => REQUEST_TIMEOUT,
        BrokenChunks => MALFORMED_REQUEST,
        Malformed { .. } => MALFORMED_JSON,
        BadRequest { .. } => BAD_REQUEST,
        Invalid(_) => INVALID_EVENT,
        Overloaded => OVERLOADED,
        JournalFull => JOURNAL_FULL,
        JournalUnavailable { .. } => NO_JOURNAL,
        Unavailable(problem) => DocumentKind::unavailable(*problem),
    }
}

/// What happened, to what, and what to do.
fn detail(why: &Rejection) -> Cow<'_, str> {
    use Rejection::*;
    match why {
        Misdirected => {
            "The service has no tokens, secrets or client certificates, so Host must be an IP address, localhost \
                        or one of http.hosts."
                .into()
        }
        NotFound => {
            "See POST /events and GET /openapi.json, and GET /live, /ready and /metrics, which may be on a port of \
                     their own."
                .into()
        }
        MethodNotAllowed { allow } => format!("Allowed: {allow}.").into(),
        BodyTooLarge { max_bytes } => {
            format!("The body has more than {max_bytes} bytes (http.max_body_bytes). Send fewer events at once.").into()
        }
        TooManyLetters { max_bytes } => {
            format!("The body has more than {max_bytes} bytes. Name fewer dead letters at once.").into()
        }
        TooManyEvents { max_events } => {
            format!("The body has more than {max_events} events (event.max_events). Send fewer at once.").into()
        }
        TooLargeToAdmit => {
            "The request needs more than all of intake.max_in_flight or intake.max_in_flight_bytes: its \
                            entries, patterns and faults count beside its body. Send fewer events at once."
                .into()
        }
        TooManyPatterns => "The request has more patterns than event.max_patterns. Send fewer at once.".into(),
        TooManyForJournal { events, max_events } => format!(
            "The request has {events} events to keep, and the journal holds at most {max_events} (journal.max_events). Send fewer at once."
        )
        .into(),
        BodyTooSlow { is_unproven: false } => "The body did not arrive within http.body_timeout_ms.".into(),
        BodyTooSlow { is_unproven: true } => {
            "The body did not arrive within a third of http.body_timeout_ms, which is what a body has whose signature is still to be \
             proven."
                .into()
        }
        Overloaded => {
            "The service is at its limits (intake.max_in_flight, intake.max_in_flight_bytes), or work would wait \
                       too long. Nothing of this request was done; send it again later."
                .into()
        }
        other => other.cause().into(),
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

fn unavailable(kind: ProblemKind, retry_after: u64) -> (HttpResponse, &'static str) {
    let detail = match kind {
        ProblemKind::ShuttingDown => "The service is stopping. Send the request again; another replica will accept it.",
        ProblemKind::Timeout => "The request did not end within event.deadline_ms.",
        _ => "A part of the service failed and restarts. Send the request again.",
    };
    document(DocumentKind::unavailable(kind), detail, |response| {
        add_retry_after(response, retry_after);
        if kind == ProblemKind::ShuttingDown {
            response.force_close();
        }
    })
}

fn document(
    DocumentKind(status, slug, title): DocumentKind,
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
        let mut documents: Vec<&str> = DOCUMENTS.iter().map(|DocumentKind(_, slug, _)| *slug).collect();
        documents.sort_unstable();
        let mut counted = REFUSALS[..REFUSALS.len() - 1].to_vec();
        counted.sort_unstable();
        assert_eq!(documents, counted);
    }
}
