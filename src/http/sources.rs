//! The sources in force: who may post to each, and how its notifications become events.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::auth::Auth;
use super::posters::Posters;
use super::trust::{FetchDocument, Issuer, IssuerSettings, Sns};
use crate::event::outcome::Class;
use crate::event::sources::{Format, Mapping};
use crate::event::wire::EventResult;
use crate::pipeline::work::reply::Verdict;
use crate::telemetry::metrics::{Metrics, SourceMetrics};

/// Where the sources are: their names follow.
pub const SOURCES_PATH: &str = "/sources/";

/// A source as the settings have it.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// What becomes of its notifications.
    pub mapping: Mapping,
    /// None of them, nor of the secrets, nor an issuer: who may post events may notify.
    pub tokens: Vec<String>,
    /// Secrets that it may sign with, decoded (Standard Webhooks).
    pub webhook_secrets: Vec<Vec<u8>>,
    /// Who issues the JSON Web Tokens that it may show; None: none are accepted.
    pub issuer: Option<IssuerSettings>,
    /// Topics of SNS, by their ARNs, that may post besides the others.
    pub topics: Vec<String>,
    /// Whether it is answered once the journal has its events; otherwise once the cache has them.
    pub is_journaled: bool,
}

/// A source in force.
pub struct ActiveSource {
    pub(super) mapping: Mapping,
    pub(super) posters: Posters,
    pub(super) metrics: SourceMetrics,
    pub(super) is_journaled: bool,
}

/// All of them, by name. They may change while requests come in.
pub struct Sources {
    by_name: ArcSwap<HashMap<String, Arc<ActiveSource>>>,
    /// What `/events` requires.
    auth: Arc<Auth>,
    keys: Arc<dyn FetchDocument>,
    sns: Arc<Sns>,
    metrics: Metrics,
    changing: Mutex<()>,
}

impl Sources {
    pub fn new(settings: Vec<SourceSettings>, auth: Arc<Auth>, keys: Arc<dyn FetchDocument>, metrics: Metrics) -> Self {
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
            let (metrics, is_journaled) = (self.metrics.source(&name), settings.is_journaled);
            let source = ActiveSource { posters, metrics, mapping: settings.mapping, is_journaled };
            (name, Arc::new(source))
        };
        self.by_name.store(Arc::new(settings.into_iter().map(source).collect()));
    }

    /// This of each source, in the order of their names.
    pub fn each<T>(&self, of: impl Fn(&str, &ActiveSource) -> T) -> Vec<T> {
        let by_name = self.by_name.load();
        let mut sources: Vec<(&String, &Arc<ActiveSource>)> = by_name.iter().collect();
        sources.sort_unstable_by_key(|(name, _)| *name);
        sources.into_iter().map(|(name, source)| of(name, source)).collect()
    }

    /// The source of this name.
    pub fn find(&self, name: &str) -> Option<Arc<ActiveSource>> {
        self.by_name.load().get(name).cloned()
    }

    fn posters(&self, old: Option<&Posters>, settings: &SourceSettings) -> Posters {
        let SourceSettings { tokens, webhook_secrets, issuer, topics, .. } = settings;
        let asks = !(tokens.is_empty() && webhook_secrets.is_empty() && issuer.is_none());
        // With nothing of its own it asks for what `/events` asks for, unless that is nothing.
        let own = old.map(|old| old.auth.clone()).filter(|auth| !Arc::ptr_eq(auth, &self.auth));
        let own = own.filter(|_| asks || self.auth.is_open());
        let has_asked = old.is_some_and(|old| !old.topics.is_empty()) && self.auth.is_open();
        let auth = match own {
            Some(own) => {
                own.replace_tokens(tokens.clone());
                own.replace_webhook_secrets(webhook_secrets.clone());
                own
            }
            None if !asks && !has_asked => self.auth.clone(),
            None => Arc::new(Auth::shut(tokens.clone(), webhook_secrets.clone(), self.metrics.clone())),
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
    path.strip_prefix(SOURCES_PATH)
}

impl ActiveSource {
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

    /// A verdict as the source sees it, counted.
    pub fn settled(&self, mut verdict: Verdict) -> Verdict {
        let Verdict::Batch(elements) = &mut verdict else { return verdict };
        let mut ended = [0; Class::ALL.len()];
        for element in elements.iter_mut() {
            if let EventResult::Answered(answered) = element {
                answered.supersede_changed_objects();
            }
        }
        elements.iter().for_each(|element| ended[element.class() as usize] += 1);
        self.metrics.ended(ended);
        self.metrics.lags(elements.iter().filter_map(|element| match element {
            EventResult::Answered(answered) if answered.class() == Class::Ok => answered.age(),
            _ => None,
        }));
        verdict
    }
}
