//! Tokens and secrets from settings and files, each of which may change while the daemon runs.

use std::sync::{Arc, Mutex, PoisonError};

use log::warn;

use crate::config::{AuthConfig, Secret, WebhookSecret};
use crate::http::Auth;
use crate::telemetry::Metrics;

/// What is held of each origin; all of it together opens the door.
pub struct AuthReload {
    pub auth: Arc<Auth>,
    held: Mutex<AuthConfig>,
}

impl AuthReload {
    pub fn new(held: AuthConfig, metrics: Metrics) -> Arc<Self> {
        let auth = Arc::new(Auth::new(tokens(&held), webhook_keys(&held), metrics));
        Arc::new(AuthReload { auth, held: Mutex::new(held) })
    }

    /// What the file of tokens holds now.
    pub fn adopt_tokens_of_file(&self, tokens: &[Secret]) {
        self.change(|held| held.tokens_of_file = tokens.to_vec());
    }

    /// The same of the webhook secrets.
    pub fn adopt_webhook_secrets_of_file(&self, secrets: &[WebhookSecret]) {
        self.change(|held| held.webhook_secrets_of_file = secrets.to_vec());
    }

    /// What the settings themselves say now. The files are followed by themselves.
    pub fn adopt_settings(&self, from: &AuthConfig) {
        self.change(|held| {
            held.tokens.clone_from(&from.tokens);
            held.webhook_secrets.clone_from(&from.webhook_secrets);
        });
    }

    fn change(&self, change: impl FnOnce(&mut AuthConfig)) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut held);
        let (tokens, keys) = (tokens(&held), webhook_keys(&held));
        if tokens.is_empty() && keys.is_empty() && !self.auth.is_open() {
            warn!(
                "no token and no webhook secret is left: all requests are rejected now; after a restart all would be accepted"
            );
        }
        self.auth.replace_tokens(tokens);
        self.auth.replace_webhook_secrets(keys);
    }
}

fn tokens(auth: &AuthConfig) -> Vec<String> {
    auth.all_tokens().iter().map(|token| token.expose().to_owned()).collect()
}

fn webhook_keys(auth: &AuthConfig) -> Vec<Vec<u8>> {
    auth.all_webhook_secrets().iter().map(|secret| secret.expose().to_owned()).collect()
}
