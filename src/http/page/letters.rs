//! Dead letters, for the page and for programs: `GET /dead-letters.json` lists them, or shows one with its event, and
//! `POST /dead-letters/replay` and `/dead-letters/drop` run some again or take them away. All of it is behind the token, which
//! must permit reading or writing; one with prefixes shows only letters whose keys are within them.
//!
//! A letter's event is shown with its values. Of URLs the query is left out: it carries signatures.
//!
//! Letters are large: two requests are at work at a time, others wait, and what an answer holds is taken from admission until it
//! is written.

mod queries;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::queries::{may_have_queries, without_queries};
use super::admit;
use super::html::guarded;
use crate::event::outcome::ProblemKind;
use crate::event::rejection::Rejection;
use crate::event::rights::{Access, Rights};
use crate::http::body::{self, BodyLimits};
use crate::http::progress::ConnectionProgress;
use crate::http::request::{RequestContext, reject};
use crate::http::routes::{exactly, only, readable_async};
use crate::http::state::HttpState;
use crate::journal::dead::DeadLetter;
use crate::journal::{LetterFilter, LetterId, LetterWalk, Letters, LinkError};
use crate::pipeline::work::admission::Permit;

/// Letters of one answer, and of one request to change them.
const MAX_LISTED: usize = 50;
const MAX_CHANGED: usize = 500;
/// Letters that one request looks at for those that a filter lets through.
const MAX_LOOKED_AT: usize = 4000;
/// Bytes of a request to change letters.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Bytes after which an answer takes no more letters: one may name many keys.
const MAX_LISTED_BYTES: usize = 1 << 20;
/// Requests at work at one time, a connection each; others wait.
const MAX_AT_WORK: usize = 2;
/// What the answer with an event takes while it is made: at most this many times the event's bytes, and more of it where a query may
/// have to be cut out of JSON in texts.
const EVENT_COPIES: usize = 2;
const CUT_EVENT_COPIES: usize = 6;
/// For what a request asks, with its wait for others. Its body has the time of any other.
const WITHIN: Duration = Duration::from_secs(25);
/// Why a letter stays that the token has no right to.
const OUTSIDE: &str = "its event is outside of the token's prefixes";
const LIST: &str = "/dead-letters.json";
const REPLAY: &str = "/dead-letters/replay";
const DROP: &str = "/dead-letters/drop";

static AT_WORK: Semaphore = Semaphore::const_new(MAX_AT_WORK);

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

/// What `GET /dead-letters.json` answers.
#[derive(Serialize)]
struct Page<'a, L> {
    letters: &'a [L],
    /// What to ask for letters behind.
    next: Option<String>,
}

async fn list(shared: Data<HttpState>, request: HttpRequest) -> HttpResponse {
    let mut room = shared.pipeline.admission.permit();
    let listing = async {
        let (letters, rights) = letters(&shared, &request, Access::Read)?;
        within(found(letters, rights.as_deref(), &request, &mut room)).await
    };
    let listed = unless_cut_off(&shared, listing).await;
    if let (Ok(_), Some(context)) = (&listed, RequestContext::of(&request)) {
        context.keep(room.into());
    }
    answer(&request, listed)
}

/// `room`: what the answer takes is added to it.
async fn found(
    mut letters: Letters,
    rights: Option<&Rights>,
    request: &HttpRequest,
    room: &mut Permit,
) -> Result<String, Rejection> {
    let query = web::Query::<Query>::from_query(request.query_string());
    let Query { id, after, source, problem, key, age } = query.map_err(|error| bad(error.to_string()))?.into_inner();
    let filter = LetterFilter::new(&source, &problem, &key, &age).map_err(bad)?;
    let _place = AT_WORK.acquire().await;
    if let Some(id) = id {
        let letter = letters.find(id).await?.filter(|letter| letter.is_within(rights)).ok_or(Rejection::NotFound)?;
        let copies = if may_have_queries(&letter.event) { CUT_EVENT_COPIES } else { EVENT_COPIES };
        if !room.try_grow_to_limit(0, letter.event.len().saturating_mul(copies)) {
            return Err(Rejection::Overloaded);
        }
        let text = whole(id, &letter);
        room.shrink_to(text.len());
        return Ok(text);
    }
    let mut walk = LetterWalk::new(filter, after, MAX_LOOKED_AT);
    let (mut listed, mut bytes): (Vec<Box<RawValue>>, usize) = (Vec::new(), 0);
    while listed.len() < MAX_LISTED
        && bytes < MAX_LISTED_BYTES
        && let Some((id, letter)) = walk.next(&mut letters).await?
    {
        if letter.is_within(rights)
            && let Ok(told) = to_raw_value(&letter.to_json(id))
        {
            bytes += told.get().len();
            listed.push(told);
        }
    }
    if !room.try_grow_to_limit(0, bytes) {
        return Err(Rejection::Overloaded);
    }
    let next = walk.rest().map(|id| id.to_string());
    Ok(serde_json::to_string(&Page { letters: &listed, next }).unwrap_or_default())
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

async fn changed(
    shared: Data<HttpState>,
    change: Change,
    request: HttpRequest,
    mut payload: web::Payload,
) -> HttpResponse {
    let _busy = shared.others.enter();
    let changing = async {
        let (letters, rights) = to_change(&shared, &request, &mut payload).await?;
        let asked = asked(&shared, &request, payload).await?;
        within(each(letters, rights.as_deref(), change, asked)).await
    };
    let changed = unless_cut_off(&shared, changing).await;
    answer(&request, changed)
}

async fn each(
    mut letters: Letters,
    rights: Option<&Rights>,
    change: Change,
    Asked { ids, force }: Asked,
) -> Result<String, Rejection> {
    let _place = AT_WORK.acquire().await;
    let (mut done, mut stays) = (0, Vec::new());
    for id in ids {
        let Some(letter) = letters.find(id).await? else { continue };
        if !letter.is_within(rights) {
            stays.push(json!({"id": id.to_string(), "why": OUTSIDE}));
            continue;
        }
        done += match (change, letters.guard(&letter, force)) {
            (Change::Drop, _) => u64::from(letters.drop(id).await?),
            (Change::Replay, Ok(held)) => u64::from(letters.replay(id, &letter, held).await?),
            (Change::Replay, Err(why)) => {
                stays.push(json!({"id": id.to_string(), "why": why}));
                0
            }
        };
    }
    Ok(json!({"done": done, "stays": stays}).to_string())
}

/// A page elsewhere cannot send this media type without leave, which it does not get.
async fn asked(shared: &HttpState, request: &HttpRequest, mut payload: web::Payload) -> Result<Asked, Rejection> {
    let headers = request.headers();
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return Err(Rejection::UnsupportedMediaType { detail: "Send application/json.".into() });
    }
    let kind = body::kind(headers)?;
    let mut room = shared.pipeline.admission.permit();
    let bounds = BodyLimits { max_bytes: MAX_BODY_BYTES, permit: &mut room, unproven: None };
    let connection = request.conn_data::<Rc<ConnectionProgress>>().map(Rc::as_ref);
    let reading = body::read(&mut payload, headers, kind, bounds, None, connection);
    let body = match timeout(shared.settings.body_timeout, reading).await {
        Ok(Err(Rejection::BodyTooLarge { max_bytes })) => return Err(Rejection::TooManyLetters { max_bytes }),
        Ok(body) => body?,
        Err(_) => return Err(Rejection::BodyTooSlow { is_unproven: false }),
    };
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

/// As [`letters`], while anything may be changed. The body of whoever may not is not read.
async fn to_change(
    shared: &HttpState,
    request: &HttpRequest,
    payload: &mut web::Payload,
) -> Result<(Letters, Option<Arc<Rights>>), Rejection> {
    let letters = match letters(shared, request, Access::Write) {
        Ok(_) if shared.pipeline.readiness.is_draining() => Err(Rejection::Unavailable(ProblemKind::ShuttingDown)),
        letters => letters,
    };
    if letters.is_err() {
        body::skim(payload).await;
    }
    letters
}

/// What is under way is answered when the service has no more time for it.
async fn unless_cut_off(
    shared: &HttpState,
    work: impl Future<Output = Result<String, Rejection>>,
) -> Result<String, Rejection> {
    tokio::select! {
        biased;
        done = work => done,
        () = shared.until_cut_off() => Err(Rejection::Unavailable(ProblemKind::ShuttingDown)),
    }
}

async fn within(work: impl Future<Output = Result<String, Rejection>>) -> Result<String, Rejection> {
    timeout(WITHIN, work).await.unwrap_or(Err(Rejection::Unavailable(ProblemKind::Timeout)))
}

fn answer(request: &HttpRequest, result: Result<String, Rejection>) -> HttpResponse {
    match result {
        Ok(told) => guarded().insert_header((CACHE_CONTROL, "no-store")).content_type("application/json").body(told),
        Err(why) => reject(request, &why, ""),
    }
}

/// A letter with its event, but for the queries of the event's URLs.
#[derive(Serialize)]
struct WholeLetter<'a> {
    #[serde(flatten)]
    facts: Value,
    /// None: it is not JSON.
    event: Option<&'a RawValue>,
}

/// The answer with this letter alone. No tree of the event is made: that would take many times the memory of its text.
fn whole(id: LetterId, letter: &DeadLetter) -> String {
    let event = serde_json::from_slice::<&RawValue>(&letter.event).ok();
    let shown = event.map(|event| without_queries(event.get()));
    let event = shown.as_deref().and_then(|shown| serde_json::from_str(shown).ok());
    let whole = WholeLetter { facts: letter.to_json(id), event };
    serde_json::to_string(&Page { letters: &[whole], next: None }).unwrap_or_default()
}
