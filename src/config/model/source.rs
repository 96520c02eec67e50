//! The settings of one source.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::auth::each_once;
use super::read::parsed;
use crate::config::secret::{Secret, WebhookSecret};
use crate::event::Ttl;
use crate::event::pattern::Pattern;
use crate::event::sources::{Format, KeyTemplate, Mapping, ValueMode};

/// One producer of notifications. What may post is empty where that of [`AuthConfig`](super::AuthConfig) holds.
#[derive(Debug, Clone, Deserialize)]
pub struct SourceConfig {
    /// What the producer's notifications look like (`sources.NAME.format`); auto tells by headers and body. Live.
    #[serde(deserialize_with = "parsed")]
    pub format: Format,
    /// The cache key of an object, made of its name and bucket (`sources.NAME.key`). Live.
    #[serde(deserialize_with = "parsed")]
    pub key: KeyTemplate,
    /// In seconds, at most `event.max_ttl_seconds`. None: `event.default_ttl_seconds`.
    pub ttl: Option<u32>,
    /// The only objects that are followed, as globs on `bucket/object` (`sources.NAME.include`); empty: all. Live.
    #[serde(default, deserialize_with = "globs")]
    pub include: Vec<Pattern>,
    /// Objects that are not followed (`sources.NAME.exclude`); it wins over `include`. Live.
    #[serde(default, deserialize_with = "globs")]
    pub exclude: Vec<Pattern>,
    /// What is stored for an object: its bytes, the facts as JSON, or nothing (`sources.NAME.value`). Live.
    #[serde(deserialize_with = "parsed")]
    pub value: ValueMode,
    /// The store that objects are fetched from (`sources.NAME.store`); None: the URL in the notification. Live.
    pub store: Option<String>,
    /// Bearer tokens that the producer may show (`sources.NAME.tokens`). Live.
    #[serde(default)]
    pub tokens: Vec<Secret>,
    /// The file of further tokens (`sources.NAME.tokens_file`); a change of the file takes effect without a
    /// restart.
    pub tokens_file: Option<PathBuf>,
    /// What that file held when the settings were read.
    #[serde(skip)]
    pub tokens_of_file: Vec<Secret>,
    /// Secrets with which the producer may sign, Standard Webhooks (`sources.NAME.webhook_secrets`). Live.
    #[serde(default)]
    pub webhook_secrets: Vec<WebhookSecret>,
    /// The issuer of the JSON Web Tokens that the producer shows (`sources.NAME.oidc_issuer`), an https URL. Live.
    pub oidc_issuer: Option<String>,
    /// The audience that such a token must be made for (`sources.NAME.oidc_audience`). Live.
    pub oidc_audience: Option<String>,
    /// Accounts; none: any that the issuer has.
    #[serde(default)]
    pub oidc_subjects: Vec<String>,
    /// ARNs.
    #[serde(default)]
    pub topics: Vec<String>,
    /// When a notification is answered (`sources.NAME.accept`). Live.
    pub accept: Accept,
}

/// When a notification is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accept {
    /// When the cache has what it tells of.
    Done,
    /// When the journal has it.
    Journal,
}

impl SourceConfig {
    /// What becomes of the changes that this source tells of.
    pub fn mapping(&self, name: &str) -> Mapping {
        Mapping {
            name: name.to_owned(),
            format: self.format,
            key: self.key.clone(),
            ttl: self.ttl.and_then(Ttl::from_seconds),
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            value: self.value,
            store: self.store.clone(),
        }
    }

    /// The buckets that `include` names in full, each once, in their order.
    pub fn buckets(&self) -> Vec<String> {
        let named = self.include.iter().filter_map(|glob| glob.as_str().split_once('/').map(|(bucket, _)| bucket));
        let is_name = |bucket: &&str| !bucket.is_empty() && !bucket.contains(['*', '?', '[', '\\']);
        let named: BTreeSet<&str> = named.filter(is_name).collect();
        named.into_iter().map(str::to_owned).collect()
    }

    /// The tokens of the setting and of the file, each once.
    pub fn all_tokens(&self) -> Vec<Secret> {
        each_once(&self.tokens, &self.tokens_of_file)
    }
}

fn globs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Pattern>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.into_iter().map(|text| Pattern::parse(text, true).map_err(D::Error::custom)).collect()
}
