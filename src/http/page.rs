//! The pages for a person: `/`, what is going on, and `/docs`, the contract to be read. `/status.json` is what the first
//! shows.
//!
//! A page is one file without data of its own: what it shows it asks for with the token that is typed in. It lets in
//! nothing from elsewhere, and runs no script but its own (its hash is in the policy).

pub mod html;
pub mod key;
pub mod letters;
pub mod peers;
mod replica;
pub mod replicas;
mod status;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix_rt::time::interval;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use tokio_util::sync::CancellationToken;

use self::html::guarded;
use self::status::{Reader, Status};
use super::request::reject;
use super::state::HttpState;
use crate::event::rejection::Rejection;
use crate::event::rights::{Access, Rights};
use crate::telemetry::ActorKind;
use crate::telemetry::history::{STEP, Sample, Span, millis};

pub fn overview(shared: &HttpState, _: &[ActorKind], _: &HttpRequest) -> HttpResponse {
    shared.pages.as_ref().map_or_else(|| HttpResponse::NotFound().finish(), |pages| pages.overview.show())
}

pub fn docs(shared: &HttpState, _: &[ActorKind], _: &HttpRequest) -> HttpResponse {
    shared.pages.as_ref().map_or_else(|| HttpResponse::NotFound().finish(), |pages| pages.docs.show())
}

/// Beside the routes of a port without TLS, where there is one with it.
#[derive(Clone, Copy)]
pub struct PlainPort;

const ONLY_CERTIFICATES: &str = "clients show a certificate, which this port does not ask for: set a token to read the state here, or ask on the main port";

/// For whoever may post events, too.
pub fn status(shared: &HttpState, stuck: &[ActorKind], request: &HttpRequest) -> HttpResponse {
    let Some(pages) = &shared.pages else { return HttpResponse::NotFound().finish() };
    let asked = admit(shared, request, Access::Read).and_then(|rights| Ok((rights, span(request.query_string())?)));
    match asked {
        Ok((rights, span)) => {
            let status = Status::of(shared, &pages.history, stuck, (span, Reader::of(rights.as_deref())));
            guarded().insert_header((CACHE_CONTROL, "no-store")).json(status)
        }
        Err(why) => reject(request, &why, ""),
    }
}

/// How far back the history is to go: a quarter of an hour, unless `span` says something else.
fn span(query: &str) -> Result<Span, Rejection> {
    let named = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "span");
    let Some((_, value)) = named else { return Ok(Span::default()) };
    let span = Span::ALL.into_iter().find(|span| span.as_str() == value);
    span.ok_or_else(|| Rejection::BadRequest { detail: "span must be 15m, 1h or 1d".to_owned() })
}

/// Whoever may post events may read what is going on, if the token permits it. The rights of the token, if they are limited.
fn admit(shared: &HttpState, request: &HttpRequest, access: Access) -> Result<Option<Arc<Rights>>, Rejection> {
    // Whoever gets in by a certificate cannot show it on a port without TLS.
    let is_locked_out = request.app_data::<PlainPort>().is_some()
        && shared.settings.asks_for_certificates
        && shared.settings.auth.is_open();
    if is_locked_out {
        return Err(Rejection::Unauthorized { detail: ONLY_CERTIFICATES });
    }
    shared.settings.auth.admit_token(request.headers(), access)
}

/// Keeps the history, until the server closes. Must be called within an actix system.
pub fn keep_history(shared: &Data<HttpState>, closing: &CancellationToken) {
    if shared.pages.is_none() {
        return;
    }
    let (shared, closing) = (shared.clone(), closing.clone());
    actix_rt::spawn(async move { closing.run_until_cancelled(sample(&shared, STEP)).await });
}

async fn sample(shared: &HttpState, step: Duration) {
    let mut steps = interval(step);
    steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while let Some(pages) = &shared.pages {
        steps.tick().await;
        let (admission_events, admission_bytes) = shared.pipeline.admission.in_use();
        let (at_ms, reading) = (millis(SystemTime::now()), shared.metrics.read());
        pages.history.keep(Sample { at_ms, reading, admission_events, admission_bytes });
    }
}
