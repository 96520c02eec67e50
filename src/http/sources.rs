//! `POST /sources/NAME`: notifications of storage, in the producer's own words. A request is let in, read and bounded as one to
//! `/events`; then it is taken apart, and each change that it tells of goes its way as an event of its own.
//!
//! The status is for the producer, who would send again whatever is no success; what became of each event says the body.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::http::Method;
use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, HttpResponse, web};
use arc_swap::ArcSwap;

use super::auth::Auth;
use super::body;
use super::events::{Done, Taken, answer_to, take_in};
use super::problem::{Turned, status_for_producer};
use super::request::{About, turn_away};
use super::under_way::UnderWay;
use super::worker::Worker;
use crate::event::outcome::{Class, Outcome, ProblemKind};
use crate::event::sources::{Headers, Mapped, Mapping, Message, Parsed, SourceFault, parse};
use crate::event::wire::Element;
use crate::pipeline::work::job::{Refusal, Verdict};
use crate::telemetry::metrics::{Metrics, SourceMetrics};

/// Where the sources are: their names follow.
pub const PREFIX: &str = "/sources/";
/// What a notification is called in the log.
const ASKED: &str = "notification";

/// A source as the settings have it.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    pub mapping: Mapping,
    /// None of them, nor of the secrets: who may post events may notify.
    pub tokens: Vec<String>,
    pub webhook_secrets: Vec<Vec<u8>>,
}

/// A source in force.
pub struct Source {
    mapping: Mapping,
    /// None: that of `/events`.
    auth: Option<Arc<Auth>>,
    metrics: SourceMetrics,
}

/// All of them, by name. They may change while requests come in.
pub struct Sources {
    by_name: ArcSwap<HashMap<String, Arc<Source>>>,
    metrics: Metrics,
    changing: Mutex<()>,
}

impl Sources {
    pub fn new(settings: Vec<SourceSettings>, metrics: Metrics) -> Self {
        let sources = Sources { by_name: ArcSwap::default(), metrics, changing: Mutex::default() };
        sources.adopt(settings);
        sources
    }

    /// From now on there are these. What a source asked for it goes on asking for, though the last of it be gone.
    pub fn adopt(&self, settings: Vec<SourceSettings>) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.by_name.load_full();
        let source = |settings: SourceSettings| {
            let name = settings.mapping.name.clone();
            let auth = old.get(&name).and_then(|source| source.auth.clone());
            let source = Source {
                auth: renewed(auth, &settings),
                metrics: self.metrics.source(&name),
                mapping: settings.mapping,
            };
            (name, Arc::new(source))
        };
        self.by_name.store(Arc::new(settings.into_iter().map(source).collect()));
    }

    fn find(&self, name: &str) -> Option<Arc<Source>> {
        self.by_name.load().get(name).cloned()
    }
}

fn renewed(old: Option<Arc<Auth>>, settings: &SourceSettings) -> Option<Arc<Auth>> {
    let SourceSettings { tokens, webhook_secrets, .. } = settings;
    match old {
        Some(old) => {
            old.replace_tokens(tokens.clone());
            old.replace_webhook_secrets(webhook_secrets.clone());
            Some(old)
        }
        None if tokens.is_empty() && webhook_secrets.is_empty() => None,
        None => Some(Arc::new(Auth::new(tokens.clone(), webhook_secrets.clone()))),
    }
}

impl Source {
    /// A verdict as the source sees it, counted. An object that is gone by the time it is fetched is no fault: that it went has a
    /// notification of its own.
    pub fn settled(&self, mut verdict: Verdict) -> Verdict {
        let Verdict::Batch(elements) = &mut verdict else { return verdict };
        for element in elements {
            let Element::Answered(answered) = element else { continue };
            for outcome in answered.outcomes.iter_mut().filter(|outcome| is_gone(outcome)) {
                *outcome = Outcome::Superseded;
            }
            if answered.class() == Class::Ok
                && let Some(age) = answered.age()
            {
                self.metrics.lag(age);
            }
        }
        verdict
    }
}

fn is_gone(outcome: &Outcome) -> bool {
    outcome.problem().is_some_and(|problem| problem.kind == ProblemKind::BlobNotFound)
}

/// The headers of a request, for the formats.
struct Given<'a>(&'a HeaderMap);

impl Headers for Given<'_> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(|value| value.as_bytes())
    }
}

/// Answers any request to a path below [`PREFIX`].
pub async fn handle(worker: Rc<Worker>, request: HttpRequest, mut payload: web::Payload) -> HttpResponse {
    let shared = &worker.shared;
    let _busy = shared.enter();
    match carry_out(&request, &mut payload, &worker).await {
        Ok(done) => answer_to(done, &request, shared, |class, _| status_for_producer(class)),
        Err(turned) => {
            // Behind broken chunks the connection is gone with this very look at it.
            if !matches!(turned, Turned::BrokenChunks) {
                body::skim(&mut payload).await;
            }
            turn_away(&request, &turned, ASKED)
        }
    }
}

async fn carry_out(request: &HttpRequest, payload: &mut web::Payload, worker: &Rc<Worker>) -> Result<Done, Turned> {
    let shared = &worker.shared;
    // As it was sent: actix undoes percent-encoding before it compares.
    let name = request.uri().path().strip_prefix(PREFIX).unwrap_or_default();
    let source = shared.sources.find(name).ok_or(Turned::NotFound)?;
    if request.method() != Method::POST {
        return Err(Turned::MethodNotAllowed { allow: "POST" });
    }
    let mut stay = worker.stay();
    let auth = source.auth.as_deref().unwrap_or(&shared.settings.auth);
    let Taken { body, permit, .. } =
        take_in(request, payload, worker, &mut stay, auth, body::kind_of_notification).await?;
    let given = Given(request.headers());
    let elements = match parse(source.mapping.format, &Message { headers: &given, body: &body }) {
        Ok(Parsed::Elements(elements)) => elements,
        Ok(Parsed::Handshake(_)) => Vec::new(),
        Err(SourceFault::Malformed(detail)) => return Err(Turned::Malformed { detail }),
        Err(SourceFault::MediaType(detail)) => return Err(Turned::ForeignMediaType { detail }),
    };
    if elements.len() > shared.max_events {
        let verdict = Verdict::Refused(Refusal::TooManyEvents);
        return Ok(Done { verdict, waiter: None, bytes_in: body.len() });
    }
    source.metrics.received(elements.len());
    let Mapped { events, ignored } = source.mapping.events(elements, shared.pipeline.limits());
    source.metrics.ignored(&ignored);
    let trace = About::of(request).and_then(|about| about.marks.trace.clone());
    let waiter = worker.submitter.submit_events(events, permit, trace);
    let (verdict, waiter) = UnderWay::new(waiter, worker, request, Some(source)).verdict(&mut stay).await;
    Ok(Done { verdict, waiter, bytes_in: body.len() })
}
