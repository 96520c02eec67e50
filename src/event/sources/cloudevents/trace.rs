//! The extension of CloudEvents for distributed tracing, where it stands in the JSON: of one event, and of a batch.

use std::num::NonZeroU64;

use memchr::memmem;
use serde::Deserialize;

use crate::event::sources::json::read_each;
use crate::event::sources::scalar::Scalar;
use crate::event::trace::Trace;

/// The trace that the events of this body name, followed with a span of our own; `tracestate` is that of the first of them. None
/// unless all that name one name the same: a request stands in one trace, and what is done for an event must not show in that of
/// another. A name that is not valid is none. Reads every element, so their number must be known to be bounded.
pub fn trace(body: &[u8], span: impl FnOnce() -> NonZeroU64) -> Option<Trace> {
    // Most bodies have none, and are not read again for that.
    memmem::find(body, b"\"traceparent\"")?;
    let (events, span) = (read_each::<Traced>(body, usize::MAX).ok()?, span());
    let mut named = events.iter().flatten().filter(|event| event.version.as_str().is_some()).filter_map(|event| {
        let trace = Trace::follow(event.parent.as_str()?.as_bytes(), span)?;
        Some((trace, event.state.as_str().unwrap_or_default()))
    });
    let (first, state) = named.next()?;
    let is_only = named.all(|(other, _)| other.trace_id() == first.trace_id());
    is_only.then(|| first.with_state([state.as_bytes()].into_iter()))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Traced<'a> {
    #[serde(borrow, rename = "specversion")]
    version: Scalar<'a>,
    #[serde(borrow, rename = "traceparent")]
    parent: Scalar<'a>,
    #[serde(borrow, rename = "tracestate")]
    state: Scalar<'a>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const A: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const A_ELSEWHERE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-00";
    const B: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn event(parent: &str) -> Value {
        json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "traceparent": parent, "tracestate": "a=1"})
    }

    /// The parent and the state, if there is a trace.
    fn of(body: &Value) -> Option<(String, String)> {
        let trace = trace(body.to_string().as_bytes(), || NonZeroU64::MIN)?;
        assert_eq!(trace.span_id(), "0000000000000001");
        Some((trace.parent_span_id().to_owned(), trace.tracestate().to_owned()))
    }

    fn followed(parent: &str) -> Option<(String, String)> {
        Some((parent.to_owned(), "a=1".to_owned()))
    }

    #[test]
    fn one_event_names_its_trace_and_a_batch_the_one_that_all_of_it_name() {
        let (first, untraced) = (followed("00f067aa0ba902b7"), json!({"specversion": "1.0", "id": "2"}));
        assert_eq!(of(&event(A)), first);
        assert_eq!(of(&json!([untraced, event(A), event(A), event(A_ELSEWHERE)])), first);
        assert_eq!(of(&json!([event(A), event(B)])), None);
        assert_eq!(of(&json!([event(A), event("nonsense"), {"traceparent": B}, 7])), first, "these name none");
    }

    #[test]
    fn what_is_not_valid_names_none() {
        let long = format!("{A}{}", "0".repeat(100_000));
        for parent in
            ["", "nonsense", &A.to_uppercase(), &long, "00-00000000000000000000000000000000-00f067aa0ba902b7-01"]
        {
            assert_eq!(of(&event(parent)), None, "{parent:.60}");
        }
        for parent in [json!(7), json!(null), json!([A]), json!({"a": A})] {
            assert_eq!(of(&json!({"specversion": "1.0", "traceparent": parent})), None, "{parent}");
        }
        assert_eq!(of(&json!({"traceparent": A})), None, "no CloudEvent");
        assert_eq!(of(&json!({"specversion": "1.0", "data": {"traceparent": A}})), None, "not of the event itself");
        let (twice, deep) =
            (event(A).to_string().replacen('{', &format!("{{\"traceparent\":\"{B}\","), 1), "[".repeat(9_000));
        for text in [&*twice, &format!("{deep}\"traceparent\""), "\"traceparent\""] {
            assert_eq!(trace(text.as_bytes(), || NonZeroU64::MIN), None, "{text:.60}");
        }
        let long = json!({"specversion": "1.0", "traceparent": A, "tracestate": format!("a={}", "x".repeat(600))});
        assert_eq!(of(&long), Some(("00f067aa0ba902b7".to_owned(), String::new())), "a trace without its state");
    }
}
