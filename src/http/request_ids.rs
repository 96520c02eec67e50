//! By what a request is found again, here and elsewhere: its id and its trace, and the log lines that carry both.

use std::cell::OnceCell;
use std::num::NonZeroU64;
use std::sync::Arc;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::event::sources::cloudevents;
use crate::event::trace::Trace;

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The extension of CloudEvents for distributed tracing, in its binary form.
const CE_TRACEPARENT: HeaderName = HeaderName::from_static("ce-traceparent");
const CE_TRACESTATE: HeaderName = HeaderName::from_static("ce-tracestate");
/// Visible characters of a request id that is taken over, at most.
const MAX_ID: usize = 128;

pub struct RequestId(HeaderValue);

impl RequestId {
    fn of(request: &ServiceRequest) -> Self {
        let given = request.headers().get(X_REQUEST_ID).filter(|value| {
            let bytes = value.as_bytes();
            (1..=MAX_ID).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
        });
        given.map_or_else(RequestId::made, |given| RequestId(given.clone()))
    }

    /// One of our own: 32 hexadecimal digits.
    pub fn made() -> Self {
        let mut bits = fastrand::u128(..);
        let digits: [u8; 32] = std::array::from_fn(|_| {
            let digit = b"0123456789abcdef"[(bits & 0xf) as usize];
            bits >>= 4;
            digit
        });
        RequestId(HeaderValue::from_bytes(&digits).unwrap_or_else(|_| HeaderValue::from_static("none")))
    }

    /// For the answer.
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

/// A new id of a span.
pub fn span_id() -> NonZeroU64 {
    NonZeroU64::new(fastrand::u64(..)).unwrap_or(NonZeroU64::MIN)
}

/// The ids by which a request is found again, here and elsewhere.
pub struct RequestIds {
    pub id: RequestId,
    trace: OnceCell<Arc<Trace>>,
}

impl RequestIds {
    pub fn of(request: &ServiceRequest) -> Self {
        let trace = OnceCell::new();
        // Most requests bring none, which one look at the names tells sooner than to ask for each.
        let brings_some = |name: &HeaderName| [X_REQUEST_ID, TRACEPARENT, CE_TRACEPARENT].contains(name);
        if !request.headers().keys().any(brings_some) {
            return RequestIds { id: RequestId::made(), trace };
        }
        if let Some(named) = trace_of_head(request.headers()) {
            let _ = trace.set(Arc::new(named));
        }
        RequestIds { id: RequestId::of(request), trace }
    }

    /// The trace, as far as it is known: the head names it, or the body once it was looked at.
    pub fn trace(&self) -> Option<&Arc<Trace>> {
        self.trace.get()
    }

    /// Takes the trace that the body names, unless the head has named one.
    pub fn follow(&self, of_body: impl FnOnce() -> Option<Trace>) {
        if self.trace.get().is_none()
            && let Some(named) = of_body()
        {
            let _ = self.trace.set(Arc::new(named));
        }
    }

    /// The trace, if the caller samples it.
    pub fn sampled(&self) -> Option<&Arc<Trace>> {
        self.trace().filter(|trace| trace.is_sampled())
    }
}

/// The trace of a request; without a valid one of its own, that of the CloudEvent in it, where that is in headers.
fn trace_of_head(headers: &HeaderMap) -> Option<Trace> {
    let own = only(headers, TRACEPARENT).and_then(|parent| Trace::follow(parent, span_id()));
    if let Some(own) = own {
        return Some(own.with_state(headers.get_all(TRACESTATE).map(HeaderValue::as_bytes)));
    }
    let of_event = Trace::follow(cloudevents::attribute(only(headers, CE_TRACEPARENT)?).as_bytes(), span_id())?;
    let state = only(headers, CE_TRACESTATE).map(cloudevents::attribute).unwrap_or_default();
    Some(of_event.with_state([state.as_bytes()].into_iter()))
}

/// The value of a header that is there once: two count as none.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&[u8]> {
    let mut given = headers.get_all(name);
    let (only, None) = (given.next()?, given.next()) else { return None };
    Some(only.as_bytes())
}

/// A line about a request: `log_request!(warn of ids; problem, detail; "body rejected")`. Its ids stand on it as well, and
/// behind the message may stand what else is to be told of its trace. Two calls, so that most lines pay nothing for it.
macro_rules! log_request {
    ($level:ident of $ids:expr; $($key:ident $(:$capture:tt)? $(= $value:expr)?),+; $message:literal $(, $more:ident)?) => {
        match $ids.trace() {
            None => log::$level!($($key $(:$capture)? $(= $value)?),+, request_id = $ids.id.as_str(); $message),
            Some(trace) => log::$level!(
                $($key $(:$capture)? $(= $value)?),+,
                request_id = $ids.id.as_str(),
                trace_id = trace.trace_id(),
                span_id = trace.span_id(),
                $($more = trace.$more(),)?
                trace_flags = trace.flags();
                $message
            ),
        }
    };
}
pub(super) use log_request;
