//! What a producer asks before it sends notifications, or to see whether somebody is there: CloudEvents' `OPTIONS`, Event
//! Grid's validation, and the probes of MinIO and others. (A subscription of SNS is [`posters`](super::posters)'s.)

use actix_web::http::Method;
use actix_web::http::header::{ALLOW, HeaderMap, HeaderName};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use crate::event::sources::Format;

const ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");
const RATE: HeaderName = HeaderName::from_static("webhook-request-rate");
const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
const ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");
/// What a source takes.
pub const METHODS: &str = "POST, OPTIONS, GET, HEAD";
/// Bytes of an origin that is let in, at most.
const MAX_ORIGIN_BYTES: usize = 256;

/// Whether the request asks for leave to send CloudEvents (HTTP 1.1 Web Hooks for Event Delivery, section 4.1). A browser's
/// preflight names no such origin, and gets no leave.
pub fn asks_for_leave(request: &HttpRequest) -> bool {
    let origin = request.headers().get(ORIGIN).map_or(&b""[..], |origin| origin.as_bytes());
    request.method() == Method::OPTIONS && (1..=MAX_ORIGIN_BYTES).contains(&origin.len())
}

/// Gives leave: to this origin, at any rate that it asks for.
pub fn leave(headers: &HeaderMap) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.insert_header((ALLOW, METHODS));
    if let Some(origin) = headers.get(ORIGIN) {
        response.insert_header((ALLOWED_ORIGIN, origin.clone()));
    }
    if headers.contains_key(RATE) {
        // Whoever sends more than is taken on is told so, request by request.
        response.insert_header((ALLOWED_RATE, "*"));
    }
    response.finish()
}

/// The answer to a producer that looks whether the source is there.
pub fn probe(name: &str, format: Format) -> HttpResponse {
    #[derive(Serialize)]
    struct Source<'a> {
        status: &'static str,
        source: &'a str,
        format: &'static str,
    }
    HttpResponse::Ok().json(Source { status: "ok", source: name, format: format.as_str() })
}

/// Whether a body that is no notification is none because somebody only looks whether the source is there.
pub fn is_probe(body: &[u8]) -> bool {
    matches!(body.trim_ascii(), b"" | b"{}")
}

/// Sends Event Grid's code back.
pub fn validated(code: &str) -> HttpResponse {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Validation<'a> {
        validation_response: &'a str,
    }
    HttpResponse::Ok().json(Validation { validation_response: code })
}
