//! The pages for a person: `/`, what is going on, and `/docs`, the contract to be read. `/status.json` is what the first
//! shows.
//!
//! A page is one file without data of its own: what it shows it asks for with the token that is typed in. It lets in
//! nothing from elsewhere, and runs no script but its own (its hash is in the policy).

mod status;

use std::time::Duration;

use actix_rt::time::interval;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::digest::{SHA256, digest};
use tokio_util::sync::CancellationToken;

use self::status::Status;
use super::problem::Turned;
use super::request::turn_away;
use super::shared::Shared;
use crate::telemetry::ActorKind;
use crate::telemetry::history::{History, STEP, Sample};

const STYLE: &str = include_str!("page/style.css");
const OVERVIEW: (&str, &str) = (include_str!("page/overview.html"), include_str!("page/overview.js"));
const DOCS: (&str, &str) = (include_str!("page/docs.html"), include_str!("page/docs.js"));

const GUARDS: [(HeaderName, &str); 4] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// What is there unless `http.page` is off.
pub struct Pages {
    pub history: History,
    overview: Page,
    docs: Page,
}

struct Page {
    html: Bytes,
    policy: HeaderValue,
}

impl Pages {
    pub fn new() -> Self {
        Pages { history: History::default(), overview: Page::new(OVERVIEW), docs: Page::new(DOCS) }
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

    fn show(&self) -> HttpResponse {
        guarded()
            .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
            .insert_header((CONTENT_SECURITY_POLICY, self.policy.clone()))
            .insert_header((CACHE_CONTROL, "no-cache"))
            .body(self.html.clone())
    }
}

/// As a source of the Content-Security-Policy.
fn hash(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, text.as_bytes())))
}

fn guarded() -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    for guard in GUARDS {
        response.insert_header(guard);
    }
    response
}

pub fn overview(shared: &Shared, _: &[ActorKind], _: &HttpRequest) -> HttpResponse {
    shared.pages.as_ref().map_or_else(|| HttpResponse::NotFound().finish(), |pages| pages.overview.show())
}

pub fn docs(shared: &Shared, _: &[ActorKind], _: &HttpRequest) -> HttpResponse {
    shared.pages.as_ref().map_or_else(|| HttpResponse::NotFound().finish(), |pages| pages.docs.show())
}

/// Beside the routes of a port without TLS, where there is one with it.
#[derive(Clone, Copy)]
pub struct Plain;

const ONLY_CERTIFICATES: &str = "clients show a certificate, which this port does not ask for: set a token to read the state here, or ask on the main port";

/// For whoever may post events, too.
pub fn status(shared: &Shared, stuck: &[ActorKind], request: &HttpRequest) -> HttpResponse {
    let Some(pages) = &shared.pages else { return HttpResponse::NotFound().finish() };
    // Whoever gets in by a certificate cannot show it on a port without TLS.
    let is_locked_out = request.app_data::<Plain>().is_some()
        && shared.settings.asks_for_certificates
        && shared.settings.auth.is_open();
    if is_locked_out {
        return turn_away(request, &Turned::Unauthorized { detail: ONLY_CERTIFICATES }, "");
    }
    match shared.settings.auth.admit_reader(request.headers()) {
        Ok(_) => guarded().insert_header((CACHE_CONTROL, "no-store")).json(Status::of(shared, &pages.history, stuck)),
        Err(turned) => turn_away(request, &turned, ""),
    }
}

/// Keeps the history, until the server closes. Must be called within an actix system.
pub fn keep_history(shared: &Data<Shared>, closing: &CancellationToken) {
    if shared.pages.is_none() {
        return;
    }
    let (shared, closing) = (shared.clone(), closing.clone());
    actix_rt::spawn(async move { closing.run_until_cancelled(sample(&shared, STEP)).await });
}

async fn sample(shared: &Shared, step: Duration) {
    let mut steps = interval(step);
    steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while let Some(pages) = &shared.pages {
        steps.tick().await;
        let (admission_events, admission_bytes) = shared.pipeline.admission.in_use();
        pages.history.keep(Sample { reading: shared.metrics.read(), admission_events, admission_bytes });
    }
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
