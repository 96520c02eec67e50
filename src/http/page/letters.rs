//! Dead letters, for the page and for programs: `GET /dead-letters.json` lists them, or shows one with its event, and
//! `POST /dead-letters/replay` and `/dead-letters/drop` run some again or take them away. All of it is behind the token, which
//! must permit reading or writing; one with prefixes shows only letters whose keys are within them.
//!
//! A letter's event is shown with its values. Of URLs the query is left out: it carries signatures.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::admit;
use super::html::guarded;
use crate::event::outcome::ProblemKind;
use crate::event::rejection::Rejection;
use crate::event::rights::{Access, Rights};
use crate::http::request::reject;
use crate::http::routes::{exactly, only, readable_async};
use crate::http::state::HttpState;
use crate::journal::dead::DeadLetter;
use crate::journal::{LetterFilter, LetterId, LetterWalk, Letters, LinkError};

/// Letters of one answer, and of one request to change them.
const MAX_LISTED: usize = 50;
const MAX_CHANGED: usize = 500;
/// Letters that one request looks at for those that a filter lets through.
const MAX_LOOKED_AT: usize = 4000;
/// Bytes of a request to change letters.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// For a request as a whole.
const WITHIN: Duration = Duration::from_secs(25);
/// Why a letter stays that the token has no right to.
const OUTSIDE: &str = "its event is outside of the token's prefixes";
const LIST: &str = "/dead-letters.json";
const REPLAY: &str = "/dead-letters/replay";
const DROP: &str = "/dead-letters/drop";

/// Adds the routes.
pub fn routes(shared: &Data<HttpState>) -> impl FnOnce(&mut ServiceConfig) + use<> {
    let shared = shared.clone();
    move |config| {
        let listing = shared.clone();
        config.service(readable_async(LIST, move |request| list(listing.clone(), request)));
        for (path, change) in [(REPLAY, Change::Replay), (DROP, Change::Drop)] {
            let shared = shared.clone();
            let post = move |request, payload| changed(shared.clone(), change, request, payload);
            config.service(only(exactly(path).route(web::post().to(post)), "POST"));
        }
    }
}

#[derive(Clone, Copy)]
enum Change {
    Replay,
    Drop,
}

fn bad(detail: impl Into<String>) -> Rejection {
    Rejection::BadRequest { detail: detail.into() }
}

impl From<LinkError> for Rejection {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Full => Rejection::JournalFull,
            error => Rejection::JournalUnavailable { detail: error.to_string() },
        }
    }
}

/// What of the letters is asked for. All of it is optional.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Query {
    /// This letter alone, with its event.
    id: Option<LetterId>,
    /// Letters behind this one.
    after: Option<LetterId>,
    source: String,
    problem: String,
    key: String,
    age: String,
}

async fn list(shared: Data<HttpState>, request: HttpRequest) -> HttpResponse {
    let listed = match letters(&shared, &request, Access::Read) {
        Ok((letters, rights)) => within(found(letters, rights.as_deref(), &request)).await,
        Err(why) => Err(why),
    };
    answer(&request, listed)
}

async fn found(mut letters: Letters, rights: Option<&Rights>, request: &HttpRequest) -> Result<Value, Rejection> {
    let query = web::Query::<Query>::from_query(request.query_string());
    let Query { id, after, source, problem, key, age } = query.map_err(|error| bad(error.to_string()))?.into_inner();
    if let Some(id) = id {
        let letter = letters.find(id).await?.filter(|letter| letter.is_within(rights)).ok_or(Rejection::NotFound)?;
        return Ok(json!({"letters": [whole(id, &letter)], "next": null}));
    }
    let filter = LetterFilter::new(&source, &problem, &key, &age).map_err(bad)?;
    let (mut walk, mut listed) = (LetterWalk::new(filter, after, MAX_LOOKED_AT), Vec::new());
    while listed.len() < MAX_LISTED
        && let Some((id, letter)) = walk.next(&mut letters).await?
    {
        if letter.is_within(rights) {
            listed.push(letter.to_json(id));
        }
    }
    Ok(json!({"letters": listed, "next": walk.rest().map(|id| id.to_string())}))
}

/// The letters that are to be changed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    ids: Vec<LetterId>,
    /// Runs again what may overwrite something newer.
    #[serde(default)]
    force: bool,
}

async fn changed(shared: Data<HttpState>, change: Change, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let _busy = shared.others.enter();
    let changed = match letters(&shared, &request, Access::Write) {
        Ok((letters, rights)) => within(each(letters, rights.as_deref(), change, &request, payload)).await,
        Err(why) => Err(why),
    };
    answer(&request, changed)
}

async fn each(
    mut letters: Letters,
    rights: Option<&Rights>,
    change: Change,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<Value, Rejection> {
    let Asked { ids, force } = asked(request, payload).await?;
    let (mut done, mut stays) = (0, Vec::new());
    for id in ids {
        let Some(letter) = letters.find(id).await? else { continue };
        if !letter.is_within(rights) {
            stays.push(json!({"id": id.to_string(), "why": OUTSIDE}));
            continue;
        }
        let hindrance = letter.hindrance(force);
        done += match (change, hindrance) {
            (Change::Drop, _) => u64::from(letters.drop(id).await?),
            (Change::Replay, None) => u64::from(letters.replay(id, &letter, !force).await?),
            (Change::Replay, Some(why)) => {
                stays.push(json!({"id": id.to_string(), "why": why}));
                0
            }
        };
    }
    Ok(json!({"done": done, "stays": stays}))
}

/// A page elsewhere cannot send this media type without leave, which it does not get.
async fn asked(request: &HttpRequest, payload: web::Payload) -> Result<Asked, Rejection> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return Err(Rejection::UnsupportedMediaType { detail: "Send application/json.".into() });
    }
    let too_large = Rejection::BodyTooLarge { max_bytes: MAX_BODY_BYTES };
    let body = payload.to_bytes_limited(MAX_BODY_BYTES).await.map_err(|_| too_large)?;
    let body = body.map_err(|_| Rejection::BrokenChunks)?;
    let asked: Asked = serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))?;
    if asked.ids.is_empty() || asked.ids.len() > MAX_CHANGED {
        return Err(bad(format!("ids: from one to {MAX_CHANGED} IDs")));
    }
    Ok(asked)
}

fn letters(
    shared: &HttpState,
    request: &HttpRequest,
    access: Access,
) -> Result<(Letters, Option<Arc<Rights>>), Rejection> {
    let rights = admit(shared, request, access)?;
    let journal = shared.journal.clone().ok_or(Rejection::NotFound)?;
    Ok((Letters::new(journal), rights))
}

async fn within(work: impl Future<Output = Result<Value, Rejection>>) -> Result<Value, Rejection> {
    timeout(WITHIN, work).await.unwrap_or(Err(Rejection::Unavailable(ProblemKind::Timeout)))
}

fn answer(request: &HttpRequest, result: Result<Value, Rejection>) -> HttpResponse {
    match result {
        Ok(told) => guarded().insert_header((CACHE_CONTROL, "no-store")).json(told),
        Err(why) => reject(request, &why, ""),
    }
}

/// With the event, but for the queries of its URLs.
fn whole(id: LetterId, letter: &DeadLetter) -> Value {
    let mut told = letter.to_json(id);
    let mut event = serde_json::from_slice(&letter.event).unwrap_or(Value::Null);
    without_queries(&mut event);
    told["event"] = event;
    told
}

/// Whether there were any.
fn without_queries(value: &mut Value) -> bool {
    match value {
        Value::String(text) => match inside(text) {
            Some(mut inside) => {
                let is_cut = without_queries(&mut inside);
                if is_cut {
                    *text = inside.to_string();
                }
                is_cut
            }
            None => cut_query(text),
        },
        Value::Array(items) => items.iter_mut().fold(false, |is_cut, item| without_queries(item) | is_cut),
        Value::Object(members) => members.values_mut().fold(false, |is_cut, member| without_queries(member) | is_cut),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The JSON in a text that is an object or an array, as the `data` of an event may be: its URLs may have escapes.
fn inside(text: &str) -> Option<Value> {
    let is_container = text.trim_start().starts_with(['{', '[']);
    is_container.then(|| serde_json::from_str(text).ok()).flatten()
}

fn cut_query(text: &mut String) -> bool {
    let query = text.contains("://").then(|| text.find('?')).flatten();
    if let Some(query) = query {
        text.truncate(query + 1);
        text.push('…');
    }
    query.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_left_out_of_json_within_texts() {
        let shown = |data: &str| {
            let mut event = json!({"value": {"data": data}});
            without_queries(&mut event);
            event["value"]["data"].as_str().unwrap_or_default().to_owned()
        };
        assert_eq!(shown(r#"{"url":"https:\/\/h\/b?sig=secret"}"#), r#"{"url":"https://h/b?…"}"#);
        assert_eq!(shown(r#" ["https://h/b\u003fsig=secret"]"#), r#"["https://h/b?…"]"#);
        assert_eq!(shown(r#"[{"url":"https://h/b?sig=secret"}]"#), r#"[{"url":"https://h/b?…"}]"#);
        assert_eq!(shown(r#"{ "key" : "a?", "value": 1.0 }"#), r#"{ "key" : "a?", "value": 1.0 }"#);
    }

    #[test]
    fn queries_are_left_out_wherever_a_url_stands() {
        let mut event =
            json!({"value": {"data": ["http://h/a?sig=secret", {"url": "https://h/b?x", "value": "what?"}]}});
        without_queries(&mut event);
        assert_eq!(event, json!({"value": {"data": ["http://h/a?…", {"url": "https://h/b?…", "value": "what?"}]}}));
    }
}
