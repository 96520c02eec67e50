//! `POST /sources/NAME`: notifications of storage, in the producer's own words. A request is let in, read and bounded as one to
//! `/events`; then it is taken apart, and each change that it tells of goes its way as an event of its own.
//!
//! Who may post says [`posters`](super::posters), what producers ask before they do, [`handshake`].
//!
//! The status is for the producer, who would send again whatever is no success; what became of each event says the body.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use actix_web::http::Method;
use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, HttpResponse, web};
use arc_swap::ArcSwap;

use super::auth::Auth;
use super::events::{Done, Taken, answer_to, take_in};
use super::posters::Posters;
use super::problem::{Turned, status_for_producer};
use super::request::{About, turn_away};
use super::trust::{Fetch, Issuer, IssuerSettings, Sns};
use super::under_way::UnderWay;
use super::worker::Worker;
use super::{body, handshake};
use crate::event::outcome::{Class, Outcome};
use crate::event::sources::{
    Format, Handshake, Headers, Ignored, Mapped, Mapping, Message, Notified, Parsed, SourceFault, parse,
};
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
    /// None of them, nor of the secrets, nor an issuer: who may post events may notify.
    pub tokens: Vec<String>,
    pub webhook_secrets: Vec<Vec<u8>>,
    pub issuer: Option<IssuerSettings>,
    /// Of SNS, by their ARNs: beside the others.
    pub topics: Vec<String>,
}

/// A source in force.
pub struct Source {
    mapping: Mapping,
    posters: Posters,
    metrics: SourceMetrics,
}

/// All of them, by name. They may change while requests come in.
pub struct Sources {
    by_name: ArcSwap<HashMap<String, Arc<Source>>>,
    /// Of `/events`.
    auth: Arc<Auth>,
    keys: Arc<dyn Fetch>,
    sns: Arc<Sns>,
    metrics: Metrics,
    changing: Mutex<()>,
}

impl Sources {
    pub fn new(settings: Vec<SourceSettings>, auth: Arc<Auth>, keys: Arc<dyn Fetch>, metrics: Metrics) -> Self {
        let sns = Arc::new(Sns::new(keys.clone()));
        let sources = Sources { by_name: ArcSwap::default(), auth, keys, sns, metrics, changing: Mutex::default() };
        sources.adopt(settings);
        sources
    }

    /// From now on there are these. What a source asked for it goes on asking for, though the last of it be gone.
    pub fn adopt(&self, settings: Vec<SourceSettings>) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.by_name.load_full();
        let source = |settings: SourceSettings| {
            let name = settings.mapping.name.clone();
            let posters = self.posters(old.get(&name).map(|source| &source.posters), &settings);
            let source = Source { posters, metrics: self.metrics.source(&name), mapping: settings.mapping };
            (name, Arc::new(source))
        };
        self.by_name.store(Arc::new(settings.into_iter().map(source).collect()));
    }

    /// This of each source, in the order of their names.
    pub fn each<T>(&self, of: impl Fn(&str, &Source) -> T) -> Vec<T> {
        let by_name = self.by_name.load();
        let mut sources: Vec<(&String, &Arc<Source>)> = by_name.iter().collect();
        sources.sort_unstable_by_key(|(name, _)| *name);
        sources.into_iter().map(|(name, source)| of(name, source)).collect()
    }

    /// The source of this name.
    pub fn find(&self, name: &str) -> Option<Arc<Source>> {
        self.by_name.load().get(name).cloned()
    }

    fn posters(&self, old: Option<&Posters>, settings: &SourceSettings) -> Posters {
        let SourceSettings { tokens, webhook_secrets, issuer, topics, .. } = settings;
        let own = old.map(|old| old.auth.clone()).filter(|auth| !Arc::ptr_eq(auth, &self.auth));
        let auth = match own {
            Some(own) => {
                own.replace_tokens(tokens.clone());
                own.replace_webhook_secrets(webhook_secrets.clone());
                own
            }
            None if tokens.is_empty() && webhook_secrets.is_empty() && issuer.is_none() => self.auth.clone(),
            None => Arc::new(Auth::shut(tokens.clone(), webhook_secrets.clone())),
        };
        let issuer = issuer.as_ref().map(|issuer| self.issuer(old, issuer));
        Posters { auth, issuer, topics: topics.clone(), sns: self.sns.clone() }
    }

    /// The one in force with its keys, if it is the same.
    fn issuer(&self, old: Option<&Posters>, settings: &IssuerSettings) -> Issuer {
        let same = old.and_then(|old| old.issuer.as_ref()).filter(|old| old.is(settings));
        let made = || Issuer::new(settings.clone(), self.keys.clone());
        same.cloned().unwrap_or_else(made)
    }
}

/// The name of the source that a path means, as it was sent: actix undoes percent-encoding before it compares.
pub fn name(path: &str) -> Option<&str> {
    path.strip_prefix(PREFIX)
}

impl Source {
    pub fn format(&self) -> Format {
        self.mapping.format
    }

    pub fn metrics(&self) -> &SourceMetrics {
        &self.metrics
    }

    /// Whether it asks its posters for nothing.
    pub fn is_open(&self) -> bool {
        self.posters.is_open()
    }

    /// A verdict as the source sees it, counted. An object that is gone or another one by the time it is fetched is no
    /// fault: what made it so has a notification of its own.
    pub fn settled(&self, mut verdict: Verdict) -> Verdict {
        let Verdict::Batch(elements) = &mut verdict else { return verdict };
        for element in elements {
            let Element::Answered(answered) = element else { continue };
            for outcome in answered.outcomes.iter_mut().filter(|outcome| is_overtaken(outcome)) {
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

fn is_overtaken(outcome: &Outcome) -> bool {
    outcome.problem().is_some_and(|problem| problem.is_overtaken)
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
        Ok(Reply::Events(done)) => answer_to(done, &request, shared, |class, _| status_for_producer(class)),
        Ok(Reply::Question(response)) => response,
        Err(turned) => {
            // Behind broken chunks the connection is gone with this very look at it.
            if !matches!(turned, Turned::BrokenChunks) {
                body::skim(&mut payload).await;
            }
            turn_away(&request, &turned, ASKED)
        }
    }
}

/// What a request comes to.
enum Reply {
    /// Its events, and what became of them.
    Events(Done),
    /// The answer to what it asked.
    Question(HttpResponse),
}

async fn carry_out(request: &HttpRequest, payload: &mut web::Payload, worker: &Rc<Worker>) -> Result<Reply, Turned> {
    let shared = &worker.shared;
    let source = name(request.uri().path()).and_then(|name| shared.sources.find(name)).ok_or(Turned::NotFound)?;
    let (headers, query) = (request.headers(), request.uri().query().unwrap_or_default());
    if request.method() != Method::POST {
        return asked(request, &source, query).await.map(Reply::Question);
    }
    let mut stay = worker.stay();
    let admitted = source.posters.admit(headers, query, SystemTime::now()).await?;
    let by_sns = admitted.is_by_sns();
    let taken = take_in(request, payload, worker, &mut stay, admitted, body::kind_of_notification).await?;
    source.posters.prove(by_sns, &taken.body).await?;
    let Taken { body, permit, unproven, .. } = taken;
    drop(unproven);
    let given = Given(headers);
    let elements = match parse(source.mapping.format, &Message { headers: &given, body: &body }) {
        Ok(Parsed::Elements(elements)) => elements,
        Ok(Parsed::Handshake(Handshake::EventGridValidation { code })) => {
            return Ok(Reply::Question(handshake::validated(&code)));
        }
        Ok(Parsed::Handshake(Handshake::SnsConfirmation { .. })) => {
            source.posters.subscribe(&body).await?;
            Vec::new()
        }
        Err(_) if handshake::is_probe(&body) => vec![Notified::Ignored(Ignored::Test)],
        Err(SourceFault::Malformed(detail)) => return Err(Turned::Malformed { detail }),
        Err(SourceFault::MediaType(detail)) => return Err(Turned::ForeignMediaType { detail }),
    };
    if elements.len() > shared.max_events {
        let verdict = Verdict::Refused(Refusal::TooManyEvents);
        return Ok(Reply::Events(Done { verdict, waiter: None, bytes_in: body.len() }));
    }
    source.metrics.received(elements.len());
    let Mapped { events, ignored } = source.mapping.events(elements, shared.pipeline.limits());
    source.metrics.ignored(&ignored);
    let trace = About::of(request).and_then(|about| about.marks.trace.clone());
    let waiter = worker.submitter.submit_events(events, permit, trace);
    let (verdict, waiter) = UnderWay::new(waiter, worker, request, Some(source)).verdict(&mut stay).await;
    Ok(Reply::Events(Done { verdict, waiter, bytes_in: body.len() }))
}

/// The answer to a request without a notification.
async fn asked(request: &HttpRequest, source: &Source, query: &str) -> Result<HttpResponse, Turned> {
    let is_probe = matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_probe && !handshake::asks_for_leave(request) {
        return Err(Turned::MethodNotAllowed { allow: handshake::METHODS });
    }
    source.posters.admit_question(request.headers(), query, SystemTime::now()).await?;
    Ok(match is_probe {
        true => handshake::probe(&source.mapping.name, source.mapping.format),
        false => handshake::leave(request.headers()),
    })
}
