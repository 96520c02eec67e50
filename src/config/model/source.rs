//! The settings of one source.

use std::path::PathBuf;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{each_once, parsed};
use crate::config::secret::{Secret, WebhookSecret};
use crate::event::Ttl;
use crate::event::pattern::Pattern;
use crate::event::sources::{Format, KeyTemplate, Mapping, ValueMode};

/// One producer of notifications. What may post is empty where that of [`AuthConfig`] holds.
#[derive(Debug, Clone, Deserialize)]
pub struct SourceConfig {
    #[serde(deserialize_with = "parsed")]
    pub format: Format,
    #[serde(deserialize_with = "parsed")]
    pub key: KeyTemplate,
    /// In seconds, at most `event.max_ttl_seconds`. None: `event.default_ttl_seconds`.
    pub ttl: Option<u32>,
    #[serde(default, deserialize_with = "globs")]
    pub include: Vec<Pattern>,
    #[serde(default, deserialize_with = "globs")]
    pub exclude: Vec<Pattern>,
    #[serde(deserialize_with = "parsed")]
    pub value: ValueMode,
    #[serde(default)]
    pub tokens: Vec<Secret>,
    pub tokens_file: Option<PathBuf>,
    /// What that file held when the settings were read.
    #[serde(skip)]
    pub tokens_of_file: Vec<Secret>,
    #[serde(default)]
    pub webhook_secrets: Vec<WebhookSecret>,
    pub oidc_issuer: Option<String>,
    pub oidc_audience: Option<String>,
    /// Accounts; none: any that the issuer has.
    #[serde(default)]
    pub oidc_subjects: Vec<String>,
    /// ARNs.
    #[serde(default)]
    pub topics: Vec<String>,
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
        }
    }

    /// Those of the setting and of the file, and none twice.
    pub fn all_tokens(&self) -> Vec<Secret> {
        each_once(&self.tokens, &self.tokens_of_file)
    }
}

fn globs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Pattern>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.into_iter().map(|text| Pattern::parse(text, true).map_err(D::Error::custom)).collect()
}
