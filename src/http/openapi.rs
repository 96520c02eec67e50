//! `GET /openapi.json`: the contract for programs.
//!
//! The frame is a template, `openapi.json`, which is JSON itself. What the code knows better, it says: the bounds of the
//! running service, and every set of names (types, statuses, problems), from the very values that answers are made of.

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use bytes::Bytes;
use serde_json::{Value, json};

use super::HttpSettings;
use super::problem::{DOCUMENTS, DocumentKind};
use crate::event::outcome::{Class, MAX_SAMPLE, Origin, ProblemKind};
use crate::event::sources::Format;
use crate::event::validate::{MAX_FAULTS, MAX_URL_BYTES};
use crate::event::version::MAX_TEXT_BYTES;
use crate::event::wire::{FORBIDDEN, INVALID, MALFORMED, PROBLEM_TYPE_PREFIX};
use crate::event::{EventType, Limits, MAX_ID_BYTES, MAX_OBJECT_BYTES, MAX_PATTERNS, OwnKeys};
use crate::telemetry::ActorKind;
use crate::telemetry::history::MAX_FAILURES;

const TEMPLATE: &str = include_str!("openapi.json");

/// The document while nothing is asked for, and while something is: the door may be shut later.
pub struct Documents {
    open: Bytes,
    shut: Bytes,
}

impl Documents {
    pub fn new(settings: &HttpSettings, limits: &Limits) -> Self {
        let [open, shut] = [true, false].map(|is_open| document(settings, limits, is_open).into());
        Documents { open, shut }
    }

    /// The one for now.
    pub fn answer(&self, is_open: bool) -> HttpResponse {
        HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, "application/json"))
            .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .insert_header((CACHE_CONTROL, "no-cache"))
            .body(if is_open { self.open.clone() } else { self.shut.clone() })
    }
}

/// A place `"{{name}}"` becomes the value, quotes and all; within a longer text the value stands as it is.
fn document(settings: &HttpSettings, limits: &Limits, is_open: bool) -> String {
    let mut text = TEMPLATE.to_owned();
    for (name, value) in facts(settings, limits, is_open) {
        let (place, value) = (format!("{{{{{name}}}}}"), value.to_string());
        text = text.replace(&format!("\"{place}\""), &value).replace(&place, &value);
    }
    text
}

fn facts(settings: &HttpSettings, limits: &Limits, is_open: bool) -> Vec<(String, Value)> {
    let named = |(name, value): (&str, Value)| (name.to_owned(), value);
    let mut facts: Vec<(String, Value)> = bounds(settings, limits).into_iter().map(named).collect();
    facts.extend(
        [
            ("version", json!(env!("CARGO_PKG_VERSION"))),
            ("security", security(is_open, &["bearer", "webhook"])),
            ("reading_security", security(is_open, &["bearer"])),
            ("event_types", json!(EventType::ALL.map(EventType::as_str))),
            ("store", store(limits)),
            ("classes", json!(Class::ALL.map(Class::as_str))),
            ("formats", json!(Format::ALL.map(Format::as_str))),
            ("origins", json!(Origin::ALL.map(Origin::as_str))),
            ("actors", json!(ActorKind::ALL.map(ActorKind::as_str))),
            ("event_problems", json!([MALFORMED.slug, INVALID.slug, FORBIDDEN.slug].map(urn))),
            ("problem_documents", json!(DOCUMENTS.map(problem_document))),
            ("result_problems", json!(ProblemKind::ALL.map(result_problem))),
        ]
        .map(named),
    );
    for event in EventType::ALL {
        facts.push((format!("statuses.{}", event.as_str()), json!(event.statuses())));
    }
    for class in Class::ALL {
        let of_class = ProblemKind::ALL.into_iter().filter(|kind| kind.class() == class);
        facts.push((format!("result_problems.{}", class.as_str()), of_class.map(|kind| urn(kind.slug())).collect()));
    }
    for DocumentKind(status, ..) in DOCUMENTS {
        let of_status = DOCUMENTS.iter().filter(|kind| kind.0 == status).map(|kind| urn(kind.1));
        facts.push((format!("problems.{status}"), of_status.collect()));
    }
    facts
}

/// The stores that an entry may name. Without any there is no entry that does.
fn store(limits: &Limits) -> Value {
    let description = "The name of a store that is set up (`stores.NAME`): the object is fetched from there, with the store's credentials.";
    match limits.stores.as_deref().unwrap_or_default() {
        [] => json!({ "not": {}, "description": description }),
        names => json!({ "enum": names, "description": description }),
    }
}

fn bounds(settings: &HttpSettings, limits: &Limits) -> [(&'static str, Value); 14] {
    [
        ("http.max_body_bytes", json!(settings.max_body_bytes)),
        ("event.max_events", json!(limits.max_events)),
        ("event.max_keys", json!(limits.max_keys)),
        ("event.max_key_bytes", json!(limits.max_key_bytes)),
        ("event.max_ttl_seconds", json!(limits.max_ttl_seconds)),
        ("event.max_id_bytes", json!(MAX_ID_BYTES)),
        ("event.max_patterns", json!(MAX_PATTERNS)),
        ("event.max_url_bytes", json!(MAX_URL_BYTES)),
        ("event.max_version_bytes", json!(MAX_TEXT_BYTES)),
        ("event.max_object_bytes", json!(MAX_OBJECT_BYTES)),
        ("max_sample", json!(MAX_SAMPLE)),
        ("max_faults", json!(MAX_FAULTS)),
        ("max_failures", json!(MAX_FAILURES)),
        ("own_keys", json!(pattern_of(&limits.own_keys))),
    ]
}

fn urn(slug: &str) -> Value {
    json!(format!("{PROBLEM_TYPE_PREFIX}{slug}"))
}

fn problem_document(DocumentKind(status, slug, title): DocumentKind) -> Value {
    // An event that is not JSON is told from a body that is not.
    let titles = if slug == MALFORMED.slug { vec![title, MALFORMED.title] } else { vec![title] };
    json!({"properties": {"type": {"const": urn(slug)}, "title": {"enum": titles}, "status": {"const": status}}})
}

fn result_problem(kind: ProblemKind) -> Value {
    json!({"properties": {"type": {"const": urn(kind.slug())}, "title": {"const": kind.title()}}})
}

/// Any of these will do; if nothing is asked for, none will do too.
fn security(is_open: bool, ways: &[&str]) -> Value {
    let way = |way: &&str| match *way {
        "webhook" => json!({"webhookId": [], "webhookTimestamp": [], "webhookSignature": []}),
        way => json!({way: []}),
    };
    is_open.then(|| json!({})).into_iter().chain(ways.iter().map(way)).collect()
}

/// A regular expression for these keys.
fn pattern_of(own: &OwnKeys) -> String {
    let journal = literal(own.journal());
    format!(r"^({}|{journal}$|\{{{journal}\}}:)", literal(own.version_prefix()))
}

fn literal(text: &str) -> String {
    let mut pattern = String::new();
    for character in text.chars() {
        if r"^$\.*+?()[]{}|/".contains(character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}
