//! `GET /key.json?key=…`: what a key is beside its value, for who looks at it on the page: whether it is there, when it
//! expires, and the version that was last applied to it.
//!
//! It is told as the cache has it at this moment, over a connection of its own: what is still on its way is not waited for.

use std::time::Duration;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::admit;
use super::html::guarded;
use crate::event::rejection::Rejection;
use crate::event::rights::Access;
use crate::event::validate::key_fault;
use crate::event::version::Version;
use crate::event::{Action, CacheKey, Few};
use crate::http::request::reject;
use crate::http::routes::readable_async;
use crate::http::state::HttpState;

/// Looks at one time, a connection each; others wait.
const MAX_LOOKS: usize = 2;
/// For one look.
const WITHIN: Duration = Duration::from_secs(5);

static LOOKS: Semaphore = Semaphore::const_new(MAX_LOOKS);

/// Adds the route.
pub fn route(shared: &Data<HttpState>) -> impl FnOnce(&mut ServiceConfig) + use<> {
    let shared = shared.clone();
    move |config| {
        config.service(readable_async("/key.json", move |request| show(shared.clone(), request)));
    }
}

#[derive(Deserialize)]
struct Query {
    key: String,
}

/// A key as it is shown.
#[derive(Default, Serialize)]
struct ShownKey {
    key: String,
    /// None: that is not known.
    holds: Option<bool>,
    /// None: it does not expire, or it is not there.
    expires_in_ms: Option<u64>,
    /// None: it has none, or none is kept any more.
    version: Option<ShownVersion>,
    /// Why some of it is not known; empty: all of it is.
    trouble: String,
}

#[derive(Serialize)]
#[serde(tag = "kind", content = "value", rename_all = "snake_case")]
enum ShownVersion {
    /// As a text: it may be longer than a number of JavaScript.
    Number(String),
    Text(String),
    /// A storage's own place in its order.
    Place,
}

async fn show(shared: Data<HttpState>, request: HttpRequest) -> HttpResponse {
    let _busy = shared.others.enter();
    match asked(&shared, &request).await {
        Ok(shown) => guarded().insert_header((CACHE_CONTROL, "no-store")).json(shown),
        Err(why) => reject(&request, &why, ""),
    }
}

async fn asked(shared: &HttpState, request: &HttpRequest) -> Result<ShownKey, Rejection> {
    let rights = admit(shared, request, Access::Read)?;
    let bad = |detail: String| Rejection::BadRequest { detail };
    let query = web::Query::<Query>::from_query(request.query_string()).map_err(|error| bad(error.to_string()))?;
    let key = query.into_inner().key;
    if let Some(fault) = key_fault(&key, shared.pipeline.limits()) {
        return Err(bad(format!("key {fault}")));
    }
    if let Some(rights) = rights {
        let read = Action::Get(Few::from_elem(CacheKey::new_unchecked(key.as_str()), 1));
        rights.cover(&read).map_err(|detail| Rejection::Forbidden { detail })?;
    }
    let looked = timeout(WITHIN, look(shared, &key)).await;
    let late =
        |_| ShownKey { trouble: format!("Redis did not answer within {} s", WITHIN.as_secs()), ..ShownKey::default() };
    Ok(ShownKey { key, ..looked.unwrap_or_else(late) })
}

async fn look(shared: &HttpState, key: &str) -> ShownKey {
    let _place = LOOKS.acquire().await;
    let facts = shared.pipeline.look_at(CacheKey::new_unchecked(key), WITHIN).await;
    ShownKey {
        key: String::new(),
        holds: facts.holds,
        expires_in_ms: facts.expires_in.map(|after| after.as_millis() as u64),
        version: facts.version.map(shown),
        trouble: facts.trouble,
    }
}

fn shown(version: Version) -> ShownVersion {
    match (version.number(), version.text()) {
        (Some(number), _) => ShownVersion::Number(number.to_string()),
        (_, Some(text)) => ShownVersion::Text(text.to_owned()),
        _ => ShownVersion::Place,
    }
}
