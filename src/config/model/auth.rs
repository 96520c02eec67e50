//! Who may post events (`[auth]`).

use std::collections::HashSet;
use std::hash::Hash;
use std::path::PathBuf;

use serde::Deserialize;

use crate::config::secret::{Secret, WebhookSecret};

/// Who may post events (`[auth]`). Without any token, secret or client certificate, everybody may.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct AuthConfig {
    /// The start is refused while nothing is asked for.
    #[serde(default)]
    pub required: bool,
    /// The tokens of `auth.tokens`.
    #[serde(default)]
    pub tokens: Vec<Secret>,
    /// The file of further tokens (`auth.tokens_file`); a change of the file takes effect without a restart.
    pub tokens_file: Option<PathBuf>,
    /// What that file held at the start; it may hold others since.
    #[serde(skip)]
    pub tokens_of_file: Vec<Secret>,
    /// The same for signatures.
    #[serde(default)]
    pub webhook_secrets: Vec<WebhookSecret>,
    /// The file of further webhook secrets (`auth.webhook_secrets_file`); a change of the file takes effect without a
    /// restart.
    pub webhook_secrets_file: Option<PathBuf>,
    /// What that file held at the start.
    #[serde(skip)]
    pub webhook_secrets_of_file: Vec<WebhookSecret>,
}

impl AuthConfig {
    /// Those of the start, and none twice.
    pub fn all_tokens(&self) -> Vec<Secret> {
        each_once(&self.tokens, &self.tokens_of_file)
    }

    /// Those of the start, and none twice.
    pub fn all_webhook_secrets(&self) -> Vec<WebhookSecret> {
        each_once(&self.webhook_secrets, &self.webhook_secrets_of_file)
    }
}

/// Both lists as one, without repeats.
pub fn each_once<T: Clone + Eq + Hash>(own: &[T], of_file: &[T]) -> Vec<T> {
    let mut seen = HashSet::new();
    own.iter().chain(of_file).filter(|secret| seen.insert(*secret)).cloned().collect()
}
