//! Answers where no request is known: to a head that is refused, and in place of what actix-http answers by itself.

use log::warn;

use crate::event::wire::ProblemDocument;
use crate::http::problem::{HEAD_TOO_LARGE, NO_ROOM_FOR_HEAD, NOT_HTTP};
use crate::http::progress::HeadFault;
use crate::http::request_ids::RequestId;
use crate::telemetry::metrics::Metrics;

/// Who is refused for want of room may find some soon.
const RETRY_AFTER: &str = "retry-after: 2\r\n";

/// The whole answer to a request of which nothing is known.
pub(super) fn in_place_of_request(problem: &ProblemDocument<'_>, metrics: &Metrics) -> Vec<u8> {
    metrics.request_refused(problem.slug);
    let id = RequestId::made();
    warn!(outcome = problem.slug, request_id = id.as_str(); "request head rejected");
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let retry_after = if problem.status == Some(503) { RETRY_AFTER } else { "" };
    let (status, length, id) = (problem.status.unwrap_or_default(), body.len(), id.as_str());
    let mut answer = format!(
        "HTTP/1.1 {status} {}\r\nconnection: close\r\n{retry_after}content-type: application/problem+json\r\n\
         x-request-id: {id}\r\ncontent-length: {length}\r\n\r\n",
        problem.title
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    answer
}

pub(super) fn problem_of_head(fault: HeadFault) -> &'static ProblemDocument<'static> {
    match fault {
        HeadFault::TooLarge => &HEAD_TOO_LARGE,
        HeadFault::NoRoom => &NO_ROOM_FOR_HEAD,
    }
}

/// What to say in place of an answer that actix-http gives by itself, without a body.
pub(super) fn problem_of_bare(answer: &[u8]) -> Option<&'static ProblemDocument<'static>> {
    match answer.get(8..13)? {
        b" 400 " => Some(&NOT_HTTP),
        b" 431 " => Some(&HEAD_TOO_LARGE),
        _ => None,
    }
}
