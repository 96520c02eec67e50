//! The pages as they are served, made once.

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use actix_web::{HttpResponse, HttpResponseBuilder};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::digest::{SHA256, digest};

use super::peers::PeerRounds;
use crate::telemetry::history::History;

const STYLE: &str = include_str!("style.css");
const OVERVIEW: (&str, &str) = (
    include_str!("overview.html"),
    concat!(
        include_str!("shared.js"),
        include_str!("overview/base.js"),
        include_str!("overview/health.js"),
        include_str!("overview/failures.js"),
        include_str!("overview/charts.js"),
        include_str!("overview/tables.js"),
        include_str!("overview/replicas.js"),
        include_str!("overview/form.js"),
        include_str!("overview/letters.js"),
    ),
);
const DOCS: (&str, &str) = (
    include_str!("docs.html"),
    concat!(
        include_str!("shared.js"),
        include_str!("docs/schemas.js"),
        include_str!("docs/routes.js"),
        include_str!("docs/try.js"),
        include_str!("docs/search.js"),
    ),
);

const GUARDS: [(HeaderName, &str); 4] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// What is there unless `http.page` is off.
pub struct Pages {
    pub history: History,
    pub rounds: PeerRounds,
    pub overview: Page,
    pub docs: Page,
}

/// One page, whole.
pub struct Page {
    html: Bytes,
    policy: HeaderValue,
}

impl Pages {
    pub fn new() -> Self {
        Pages {
            history: History::default(),
            rounds: PeerRounds::default(),
            overview: Page::new(OVERVIEW),
            docs: Page::new(DOCS),
        }
    }
}

impl Page {
    fn new((html, script): (&str, &str)) -> Self {
        let policy = format!(
            "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            hash(script),
            hash(STYLE)
        );
        Page {
            html: html.replace("{{style}}", STYLE).replace("{{script}}", script).into(),
            policy: HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'")),
        }
    }

    pub fn show(&self) -> HttpResponse {
        guarded()
            .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
            .insert_header((CONTENT_SECURITY_POLICY, self.policy.clone()))
            .insert_header((CACHE_CONTROL, "no-cache"))
            .body(self.html.clone())
    }
}

/// The hash as a source in the Content-Security-Policy.
fn hash(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, text.as_bytes())))
}

/// An answer with the headers that every page has.
pub fn guarded() -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    for guard in GUARDS {
        response.insert_header(guard);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_lets_in_what_it_is_made_of_and_nothing_else() {
        for (page, (_, script)) in [(Page::new(OVERVIEW), OVERVIEW), (Page::new(DOCS), DOCS)] {
            let html = str::from_utf8(&page.html).unwrap();
            let between = |from: &str, to: &str| html.split_once(from).unwrap().1.split_once(to).unwrap().0;
            assert_eq!(between("<script>", "</script>"), script);
            assert_eq!(between("<style>", "</style>"), STYLE);
            assert_eq!((html.matches("<script").count(), html.matches("<style").count()), (1, 1));
            let policy = page.policy.to_str().unwrap();
            assert!(policy.contains(&hash(script)) && policy.contains(&hash(STYLE)), "{policy}");
            assert!(!html.contains("http://") || html.matches("http://").count() == html.matches("www.w3.org").count());
            assert!(!script.contains("innerHTML") && !script.contains("eval("));
        }
    }
}
