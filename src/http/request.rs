//! What every request gets, whatever its route: an id, a line in the log and a place in the metrics.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpResponse, web};
use log::{Level, info, log_enabled, warn};

use super::problem::{Turned, turned_away};
use super::shared::Shared;
use super::stream::{InRequest, Progress};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Visible characters of a request id that is taken over, at most.
const MAX_ID: usize = 128;
/// Characters of an unknown path that are logged, at most.
const MAX_PATH: usize = 100;

/// Found in a request's extensions.
#[derive(Clone)]
pub struct RequestId(pub HeaderValue);

impl RequestId {
    fn of(request: &ServiceRequest) -> Self {
        let given = request.headers().get(X_REQUEST_ID).filter(|value| {
            let bytes = value.as_bytes();
            (1..=MAX_ID).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
        });
        given.map_or_else(RequestId::made, |given| RequestId(given.clone()))
    }

    /// One of our own.
    pub fn made() -> Self {
        let made = HeaderValue::try_from(format!("{:032x}", fastrand::u128(..)));
        RequestId(made.unwrap_or_else(|_| HeaderValue::from_static("none")))
    }

    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

/// What was asked and what came of it; found in a response's extensions.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// The event's type, or `batch`.
    pub asked: &'static str,
    pub events: usize,
    pub keys: usize,
    /// A class, or the last part of a problem's type.
    pub outcome: &'static str,
    pub bytes_in: usize,
    /// Why it was turned away, if it was.
    pub turned_away: Option<String>,
}

/// The answer to a request that never became work.
pub fn turn_away(why: &Turned, asked: &'static str) -> HttpResponse {
    let (mut response, outcome) = turned_away(why);
    let turned_away = Some(why.cause().to_owned());
    response.extensions_mut().insert(Summary { asked, outcome, turned_away, ..Summary::default() });
    response
}

/// Wraps every route.
pub async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let id = RequestId::of(&request);
    request.extensions_mut().insert(id.clone());
    let shared = request.app_data::<web::Data<Shared>>().cloned();
    let on_connection = request.conn_data::<Rc<Progress>>().map(Progress::begin);
    let line = Line {
        method: request.method().clone(),
        path: request.path().chars().take(MAX_PATH).collect(),
        id,
        begun: Instant::now(),
        told: Cell::new(false),
    };
    let has_body = has_body(request.headers());
    let mut response = next.call(request).await?;
    response.headers_mut().insert(X_REQUEST_ID, line.id.0.clone());
    let summary = response.response_mut().extensions_mut().remove::<Summary>().unwrap_or_default();
    if has_body && summary.turned_away.is_some() {
        on_connection.inspect(InRequest::leave_unread);
    }
    if let Some(shared) = shared {
        let route = route(&line.path);
        shared.metrics.request_done(route, response.status().as_u16(), line.begun.elapsed());
    }
    let bytes_out = match response.response().body().size() {
        BodySize::Sized(bytes) => bytes,
        BodySize::None | BodySize::Stream => 0,
    };
    line.tell(response.status(), &summary, bytes_out);
    Ok(response)
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0") || headers.contains_key(TRANSFER_ENCODING)
}

fn route(path: &str) -> &'static str {
    ["/events", "/live", "/ready", "/metrics"].into_iter().find(|route| *route == path).unwrap_or("other")
}

/// The request's line in the log; told at the latest when the sender has hung up.
struct Line {
    method: Method,
    path: String,
    id: RequestId,
    begun: Instant,
    told: Cell<bool>,
}

impl Line {
    fn tell(&self, status: StatusCode, summary: &Summary, bytes_out: u64) {
        self.told.set(true);
        let (method, path, request_id) = (self.method.as_str(), self.path.as_str(), self.id.as_str());
        if let Some(cause) = &summary.turned_away {
            warn!(method, path, outcome = summary.outcome, cause, request_id; "request turned away");
        }
        if !log_enabled!(Level::Info) {
            return;
        }
        let (ms, is_success, status) = (self.milliseconds(), status.is_success(), status.as_u16());
        if summary.asked.is_empty() {
            let outcome = match summary.outcome {
                "" if is_success => "ok",
                "" => "unavailable",
                outcome => outcome,
            };
            info!(method, path, status, outcome, ms, bytes_out, request_id; "request");
            return;
        }
        let Summary { asked, events, keys, outcome, bytes_in, .. } = *summary;
        info!(method, path, status, asked, events, keys, outcome, ms, bytes_in, bytes_out, request_id; "request");
    }

    /// To a tenth.
    fn milliseconds(&self) -> f64 {
        (self.begun.elapsed().as_secs_f64() * 10_000.0).round() / 10.0
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.told.get() {
            let (method, path, request_id) = (self.method.as_str(), self.path.as_str(), self.id.as_str());
            let (outcome, ms) = ("hung-up", self.milliseconds());
            info!(method, path, outcome, ms, request_id; "request");
        }
    }
}
