//! `Prefer` (RFC 7240): what the sender would rather have. Preferences are comma-separated, and may stand in several headers; of
//! one given twice the first counts.

use actix_web::body::BoxBody;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use actix_web::{HttpResponse, HttpResponseBuilder};

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const RETURN_MINIMAL: &str = "return=minimal";
const RESPOND_ASYNC: &str = "respond-async";

/// The preferences that mean something here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Preferences {
    /// To have the events kept rather than to wait for their end.
    pub is_async: bool,
    /// To be told of a batch only what is not well.
    pub is_minimal: bool,
    /// To be answered with an event. Brokers of Knative ask for one, and take any other body for a failure.
    pub wants_event: bool,
}

impl Preferences {
    /// Those of a request.
    pub fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(PREFER).filter_map(|value| value.to_str().ok());
        let (mut is_async, mut wants_event, mut returns) = (false, false, None);
        for preference in values.flat_map(|value| value.split(',')) {
            let preference = preference.split(';').next().unwrap_or_default();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            match name.trim() {
                name if name.eq_ignore_ascii_case(RESPOND_ASYNC) => is_async = true,
                name if name.eq_ignore_ascii_case("reply") => wants_event = true,
                name if name.eq_ignore_ascii_case("return") => {
                    returns.get_or_insert(value.trim().trim_matches('"'));
                }
                _ => {}
            }
        }
        Preferences { is_async, is_minimal: returns == Some("minimal"), wants_event }
    }

    /// The answer to a notification: without its body where only an event would do. What is refused keeps it, because the broker
    /// passes it on.
    pub fn answered(self, mut response: HttpResponse) -> HttpResponse {
        if !self.wants_event || !response.status().is_success() {
            return response;
        }
        response.headers_mut().remove(CONTENT_TYPE);
        response.set_body(BoxBody::new(()))
    }

    /// Says which of them the answer follows; none: nothing.
    pub fn applied(self, response: &mut HttpResponseBuilder) {
        let applied = match (self.is_async, self.is_minimal) {
            (true, true) => "respond-async, return=minimal",
            (true, false) => RESPOND_ASYNC,
            (false, true) => RETURN_MINIMAL,
            (false, false) => return,
        };
        response.insert_header((PREFERENCE_APPLIED, applied));
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn preferences_are_found_in_any_form_and_the_first_counts() {
        let of = |lines: &[&'static str]| {
            let lines = lines.iter().map(|line| (PREFER, HeaderValue::from_static(line)));
            let Preferences { is_async, is_minimal, .. } = Preferences::of(&lines.collect());
            (is_async, is_minimal)
        };
        assert_eq!(of(&[]), (false, false));
        assert_eq!(of(&["respond-async"]), (true, false));
        assert_eq!(of(&["wait=5, Respond-Async;x=y", "return=\"minimal\";q"]), (true, true));
        assert_eq!(of(&["return=representation", "return=minimal"]), (false, false));
        assert_eq!(of(&["RETURN = minimal , respond-async=1"]), (true, true));
        assert_eq!(of(&["respond-asynchronously, returns=minimal"]), (false, false));
    }
}
