//! What every request gets, whatever its route: an id, the trace that it says it belongs to, a line in the log and a place
//! in the metrics.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderValue};
use actix_web::http::{ConnectionType, Method, StatusCode, Version};
use actix_web::web::Data;
use actix_web::{HttpMessage, HttpRequest, HttpResponse};

use super::auth::Holder;
use super::problem::rejection_answer;
use super::progress::{ConnectionProgress, InRequest, KnownAnswer, Untaken};
use super::request_ids::{RequestIds, X_REQUEST_ID, log_request};
use super::state::HttpState;
use super::traced::{self, RequestSpan};
use super::{body, host, sources};
use crate::event::rejection::Rejection;
use crate::pipeline::work::reply::{Unwritten, Verdict};
use crate::telemetry::history::Failed;
use crate::telemetry::metrics::{ROUTES, SOURCES_ROUTE};
use crate::telemetry::spans::SpanData;

/// Characters of an unknown path that are logged, at most.
const MAX_PATH: usize = 100;

/// What is known of a request; found in its extensions.
pub struct RequestContext {
    pub ids: RequestIds,
    /// When its head was there.
    pub begun: Instant,
    shared: Rc<Data<HttpState>>,
    /// Where it comes from.
    client: Rc<str>,
    holder: RefCell<Option<Arc<Holder>>>,
    summary: Cell<Summary>,
    /// When its body was whole; only where spans are exported.
    received: Cell<Option<Instant>>,
    spans: RefCell<Vec<SpanData>>,
    unwritten: Cell<Option<Unwritten>>,
}

impl RequestContext {
    /// The context of a request that has been through [`observe`].
    pub fn of(request: &HttpRequest) -> Option<Rc<RequestContext>> {
        request.extensions().get().cloned()
    }

    /// Whose token it showed.
    pub fn note_holder(&self, holder: Arc<Holder>) {
        self.holder.replace(Some(holder));
    }

    /// Whose token it showed, if it showed one.
    pub fn holder(&self) -> Option<Arc<Holder>> {
        self.holder.borrow().clone()
    }

    /// Its body is whole.
    pub fn note_received(&self, now: Instant) {
        self.received.set(Some(now));
    }

    /// Makes the spans of what was done for it, if its caller samples it.
    pub fn trace(&self, verdict: &Verdict, accepted: impl FnOnce() -> Option<Instant>) {
        if let Some((_, trace)) = traced::sampled(&self.ids, self.shared.settings.tracer.as_ref()) {
            self.spans.replace(traced::of_verdict(verdict, trace, self.received.get(), accepted()));
        }
    }

    /// The spans made so far.
    pub fn take_spans(&self) -> Vec<SpanData> {
        self.spans.take()
    }

    /// Keeps this until the answer is written.
    pub fn keep(&self, unwritten: Unwritten) {
        self.unwritten.set(Some(unwritten));
    }

    /// Puts down what its line in the log is to say.
    pub fn sum_up(&self, summary: Summary) {
        self.summary.set(summary);
    }
}

impl Untaken for RequestContext {
    fn log_untaken(&self) {
        let (ids, client) = (&self.ids, &*self.client);
        log_request!(warn of ids; client; "client did not read its answer in time");
    }
}

/// What was asked and what came of it.
#[derive(Debug, Default)]
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
pub fn reject(request: &HttpRequest, why: &Rejection, asked: &'static str) -> HttpResponse {
    let context = RequestContext::of(request);
    let (response, outcome) =
        rejection_answer(why, || context.as_ref().map_or(1, |context| context.shared.retry_after()));
    if let Some(context) = context {
        context.sum_up(Summary { asked, outcome, turned_away: Some(why.cause().to_owned()), ..Summary::default() });
    }
    response
}

/// Wraps every route; `answer` finds it. An `Rc`, because a request must not touch a counter that all threads share.
pub async fn observe(
    shared: Rc<Data<HttpState>>,
    mut request: ServiceRequest,
    answer: impl AsyncFnOnce(ServiceRequest) -> Result<ServiceResponse, actix_web::Error>,
) -> Result<ServiceResponse, actix_web::Error> {
    let connection = request.conn_data::<Rc<ConnectionProgress>>().cloned();
    if connection.as_ref().is_some_and(|connection| connection.is_buffer_large()) {
        detach(request.headers_mut());
    }
    let context = Rc::new(RequestContext {
        ids: RequestIds::of(&request),
        begun: Instant::now(),
        shared: shared.clone(),
        client: client(request.headers(), connection.as_deref(), &shared),
        holder: RefCell::default(),
        summary: Cell::default(),
        received: Cell::default(),
        spans: RefCell::default(),
        unwritten: Cell::default(),
    });
    request.extensions_mut().insert(context.clone());
    let is_last = request.head().connection_type() != ConnectionType::KeepAlive;
    let on_connection = connection.as_ref().map(ConnectionProgress::begin);
    let mut line = RequestLine::of(&request, context);
    let is_foreign = || !host::is_ours(&request, connection.as_deref(), &shared.settings.hosts);
    let mut response = match shared.is_open_at(request.uri().path()) && is_foreign() {
        false => answer(request).await?,
        true => misdirected(request).await,
    };
    response.headers_mut().insert(X_REQUEST_ID, line.context.ids.id.header());
    let summary = line.context.summary.take();
    if summary.turned_away.is_some() {
        shared.metrics.request_refused(summary.outcome);
    }
    // The rest of its body may still arrive. Nobody reads it, so neither its bytes nor its time have a bound any more.
    if connection.is_some_and(|connection| !connection.is_held()) {
        on_connection.iter().for_each(InRequest::leave_unread);
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    let took = line.context.begun.elapsed();
    line.count(response.status(), took);
    let bytes_out = match response.response().body().size() {
        BodySize::Sized(bytes) => bytes,
        BodySize::None | BodySize::Stream => 0,
    };
    // The stream below sees only bytes: it learns here how long the answer is and whether another may follow.
    if let Some(on_connection) = on_connection {
        on_connection.answered(announce(&mut response, &line, is_last));
    }
    line.tell(response.status(), &summary, bytes_out, took);
    if let (Some(cause), "events" | "notification") = (&summary.turned_away, summary.asked) {
        let (problem, request_id) = (summary.outcome, line.context.ids.id.as_str());
        // A path of no source is anybody's text.
        let source = sources::name(response.request().uri().path()).filter(|name| shared.sources.find(name).is_some());
        let source = source.unwrap_or_default();
        shared.failed(&Failed { problem, detail: cause, request_id, source, ..Failed::default() });
    }
    Ok(response)
}

async fn misdirected(mut request: ServiceRequest) -> ServiceResponse {
    body::skim(request.take_payload()).await;
    let response = reject(request.request(), &Rejection::Misdirected, "");
    request.into_response(response)
}

/// Copies the values of these headers. As they come they are slices of the buffer into which the connection was read, and
/// actix-http keeps the heads of the last 128 requests of each thread, values included, until it uses them again.
fn detach(headers: &mut HeaderMap) {
    let copied = headers.drain().scan(None, |last, (name, value)| {
        *last = name.or(last.take());
        Some((last.clone()?, HeaderValue::from_bytes(value.as_bytes()).unwrap_or(value)))
    });
    let copied = copied.collect::<HeaderMap>();
    *headers = copied;
}

fn client(headers: &HeaderMap, connection: Option<&ConnectionProgress>, shared: &HttpState) -> Rc<str> {
    let Some(connection) = connection else { return Rc::from("") };
    match connection.address.filter(|_| !shared.settings.proxies.are_none()) {
        None => connection.client.clone(),
        Some(address) => shared.settings.proxies.client(address, headers).to_string().into(),
    }
}

/// What the connection has to know of an answer. A request that asked to be the last one gets an answer that says so,
/// whatever is pipelined behind it; so does one that asked for another protocol and could not be kept from it.
fn announce(response: &mut ServiceResponse<impl MessageBody>, line: &RequestLine, is_last: bool) -> KnownAnswer {
    let size = response.response().body().size();
    // Where it ends is not known here, so nothing can come behind it.
    let is_last = is_last || size == BodySize::Stream;
    let body_bytes = match size {
        _ if line.method == Method::HEAD => 0,
        BodySize::None => 0,
        BodySize::Sized(bytes) => bytes,
        BodySize::Stream => u64::MAX,
    };
    let head = response.response_mut().head_mut();
    // actix-http uses heads again and leaves an earlier answer's version in them, HTTP/1.0 perhaps, which reads as the wish to
    // close. It puts the right one there when it writes.
    head.version = Version::HTTP_11;
    if is_last {
        head.set_connection_type(ConnectionType::Close);
    }
    let is_last = head.connection_type() == ConnectionType::Close;
    KnownAnswer { body_bytes, is_last, unwritten: line.context.unwritten.take(), request: Some(line.context.clone()) }
}

/// The request's line in the log; told at the latest when the sender has hung up.
struct RequestLine {
    method: Method,
    /// One of ours, or `other`.
    route: &'static str,
    /// The path of one that is not ours, or of a source.
    other: String,
    context: Rc<RequestContext>,
    told: bool,
}

impl RequestLine {
    fn of(request: &ServiceRequest, context: Rc<RequestContext>) -> Self {
        let path = request.uri().path();
        let is_source = path.starts_with(sources::SOURCES_PATH);
        let route = ROUTES.into_iter().find(|route| *route == path || is_source && *route == SOURCES_ROUTE);
        let other = match route.filter(|_| !is_source) {
            Some(_) => String::new(),
            None => path[..path.char_indices().nth(MAX_PATH).map_or(path.len(), |(end, _)| end)].to_owned(),
        };
        let (method, route) = (request.method().clone(), route.unwrap_or("other"));
        RequestLine { method, route, other, context, told: false }
    }

    fn count(&self, status: StatusCode, took: Duration) {
        let (metrics, status) = (&self.context.shared.metrics, status.as_u16());
        metrics.request_done(self.route, status, took);
        if let Some(trace) = self.context.ids.sampled() {
            metrics.request_sampled(self.route, status, took, trace);
        }
    }

    fn path(&self) -> &str {
        if self.other.is_empty() { self.route } else { &self.other }
    }

    fn hand_over_spans(&self, status: StatusCode, summary: &Summary) {
        let (context, tracer) = (&*self.context, self.context.shared.settings.tracer.as_ref());
        if tracer.is_some() {
            let (status, outcome, begun) = (status.as_u16(), summary.outcome, context.begun);
            let span = RequestSpan { method: self.method.as_str(), path: self.path(), status, outcome, begun };
            traced::hand_over(&context.ids, context.take_spans(), tracer, &span);
        }
    }

    fn tell(&mut self, status: StatusCode, summary: &Summary, bytes_out: u64, took: Duration) {
        self.told = true;
        self.hand_over_spans(status, summary);
        let (method, path, ids, client) = (self.method.as_str(), self.path(), &self.context.ids, &*self.context.client);
        let holder = self.context.holder.borrow();
        let token = holder.as_ref().and_then(|holder| holder.name.as_deref()).unwrap_or("-");
        if let Some(cause) = &summary.turned_away {
            log_request!(warn of ids; method, path, outcome = summary.outcome, cause, client; "request rejected");
        }
        let (ms, is_success, status) = (milliseconds(took), status.is_success(), status.as_u16());
        let went_well = is_success && matches!(summary.outcome, "" | "ok" | "accepted");
        if went_well && !self.context.shared.lines.is_next() {
            return;
        }
        if summary.asked.is_empty() {
            let outcome = match summary.outcome {
                "" if is_success => "ok",
                "" => "unavailable",
                outcome => outcome,
            };
            log_request!(info of ids; method, path, status, outcome, ms, bytes_out, client, token; "request", parent_span_id);
            return;
        }
        let Summary { asked, events, keys, outcome, bytes_in, .. } = *summary;
        log_request!(info of ids; method, path, status, asked, events, keys, outcome, ms, bytes_in, bytes_out, client, token;
            "request", parent_span_id);
    }
}

/// To a tenth.
fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 10_000.0).round() / 10.0
}

impl Drop for RequestLine {
    fn drop(&mut self) {
        if !self.told {
            let (method, path, ids) = (self.method.as_str(), self.path(), &self.context.ids);
            let (outcome, ms, client) = ("hung-up", milliseconds(self.context.begun.elapsed()), &*self.context.client);
            log_request!(info of ids; method, path, outcome, ms, client; "request", parent_span_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{ACCEPT, HOST};
    use bytes::Bytes;

    use super::*;

    #[test]
    fn headers_keep_what_they_say_and_nothing_of_the_buffer() {
        let buffer = Bytes::from(b"localhost|a|b".to_vec());
        let value = |from, to| HeaderValue::from_maybe_shared(buffer.slice(from..to)).expect("a value");
        let mut headers: HeaderMap =
            [(HOST, value(0, 9)), (ACCEPT, value(10, 11)), (ACCEPT, value(12, 13))].into_iter().collect();
        assert!(!buffer.is_unique());
        detach(&mut headers);
        assert!(buffer.is_unique());
        assert_eq!(headers.get(HOST).expect("it is there"), "localhost");
        assert_eq!(headers.get_all(ACCEPT).collect::<Vec<_>>(), ["a", "b"]);
    }
}
