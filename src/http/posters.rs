//! Who may post to a source: whoever shows one of its tokens (in a header, or in the URL where a producer can send no
//! header), or a token of its issuer, or signs what it sends; and SNS, for topics that are let in.
//!
//! What a source is told itself holds in place of `auth.*`; a source that is told nothing is guarded as `/events` is.
//! Topics stand beside either.

use std::sync::Arc;
use std::time::SystemTime;

use actix_web::http::header::HeaderMap;
use bytes::Bytes;
use url::form_urlencoded;

use super::auth::{self, Admittance, Auth};
use super::trust::{Issuer, Sns, Unproven};
use crate::event::rejection::Rejection;
use crate::event::sources::envelope::{Purpose, SnsEnvelope};

/// Where a token stands in a URL.
const PARAMETERS: [&str; 2] = ["token", "access_token"];

const NOBODY: Rejection = Rejection::Unauthorized {
    detail: "The sender is not authorized to post here. Send a token (Authorization: Bearer, or ?token=), or sign the \
             request as the source expects.",
};
const NO_ENVELOPE: Rejection = Rejection::Unauthorized {
    detail: "Without a token, only signed messages of SNS are accepted. Raw delivery has no signature.",
};

/// What a source asks for.
pub struct Posters {
    /// Tokens and secrets: its own, or those of `/events`.
    pub auth: Arc<Auth>,
    /// Whose tokens are accepted beside them.
    pub issuer: Option<Issuer>,
    /// Topics that may publish and subscribe; none, and SNS has to show something else.
    pub topics: Vec<String>,
    pub sns: Arc<Sns>,
}

/// A sender that is let in, or will be if its body proves what is left to prove.
pub struct Admitted {
    pub entry: Admittance,
    by_sns: bool,
}

impl Admitted {
    pub fn by(entry: Admittance) -> Self {
        Admitted { entry, by_sns: false }
    }

    /// Whether SNS must have signed its body.
    pub fn is_by_sns(&self) -> bool {
        self.by_sns
    }

    /// Whether its body has still to prove something.
    pub fn is_unproven(&mut self) -> bool {
        self.by_sns || self.entry.claim().is_some()
    }
}

impl Posters {
    /// Whether nothing is asked for.
    pub fn is_open(&self) -> bool {
        self.auth.is_open() && self.issuer.is_none() && self.topics.is_empty()
    }

    /// What headers and URL are good for.
    ///
    /// # Errors
    /// The answer to a sender that cannot be let in, whatever its body.
    pub async fn admit(&self, headers: &HeaderMap, query: &str, now: SystemTime) -> Result<Admitted, Rejection> {
        if self.is_open() {
            return Ok(Admitted::by(Admittance::Open(None)));
        }
        let in_url = tokens_of_url(query);
        if let Some(holder) = self.auth.token_of(headers, &in_url) {
            return Ok(Admitted::by(Admittance::Open(Some(holder))));
        }
        if self.by_issuer(headers, &in_url).await? {
            return Ok(Admitted::by(Admittance::Open(None)));
        }
        // Where `/events` is open and a source is not, what opens that does not open this.
        let claimed = if self.auth.is_open() { Err(NOBODY) } else { self.auth.admit(headers, || now) };
        match claimed {
            Ok(entry) => Ok(Admitted::by(entry)),
            Err(_) if !self.topics.is_empty() => Ok(Admitted { entry: Admittance::Open(None), by_sns: true }),
            Err(why) => Err(if self.has_one_way() { why } else { NOBODY }),
        }
    }

    /// Whether it shows a token of the issuer.
    async fn by_issuer(&self, headers: &HeaderMap, in_url: &[String]) -> Result<bool, Rejection> {
        let Some(issuer) = &self.issuer else { return Ok(false) };
        let in_header = auth::bearer_of(headers).and_then(|token| std::str::from_utf8(token).ok());
        let mut shown = in_header.into_iter().chain(in_url.iter().map(String::as_str));
        let Some(token) = shown.find(|token| Issuer::is_token(token)) else { return Ok(false) };
        issuer.verify(token).await.map(|()| true).map_err(rejection)
    }

    /// Whether tokens and secrets are all that is accepted, so that their own words say what is missing.
    fn has_one_way(&self) -> bool {
        self.issuer.is_none() && self.topics.is_empty()
    }

    /// Asks for what was left open, once the body has come in and its claims are confirmed. `body` is without its content
    /// coding.
    ///
    /// # Errors
    /// The answer to a sender that is not let in after all.
    pub async fn prove(&self, by_sns: bool, body: &Bytes) -> Result<(), Rejection> {
        if self.topics.is_empty() {
            return Ok(());
        }
        match SnsEnvelope::read(body) {
            Some(envelope) if by_sns => self.sns.verify(&envelope, &self.topics).await.map_err(rejection),
            Some(envelope) => Sns::is_of(&envelope, &self.topics).map_err(rejection),
            None if by_sns => Err(NO_ENVELOPE),
            None => Ok(()),
        }
    }

    /// Confirms the subscription that a body asks for. Its signature and its topic must be good, whatever else was shown.
    ///
    /// # Errors
    /// If it cannot be confirmed, or not now.
    pub async fn subscribe(&self, body: &Bytes) -> Result<(), Rejection> {
        let envelope = SnsEnvelope::read(body).filter(|envelope| envelope.purpose() == Some(Purpose::Subscription));
        let envelope = envelope.ok_or(NO_ENVELOPE)?;
        self.sns.verify(&envelope, &self.topics).await.map_err(rejection)?;
        self.sns.confirm(&envelope, &self.topics).await.map_err(rejection)
    }

    /// Whether a question without a body may be answered: a signature over nothing cannot be asked for.
    ///
    /// # Errors
    /// The answer to a sender that should have shown a token.
    pub async fn admit_question(&self, headers: &HeaderMap, query: &str, now: SystemTime) -> Result<(), Rejection> {
        if !self.auth.has_tokens() && self.issuer.is_none() {
            return Ok(());
        }
        let mut admitted = self.admit(headers, query, now).await?;
        if admitted.is_unproven() { Err(NOBODY) } else { Ok(()) }
    }
}

fn rejection(unproven: Unproven) -> Rejection {
    match unproven {
        Unproven::Refused(detail) => Rejection::Unauthorized { detail },
        Unproven::Unavailable(detail) => Rejection::KeysUnavailable { detail },
    }
}

/// The tokens in a URL, as they are decoded: a plus sign is a space there, though those who paste a token in forget it.
fn tokens_of_url(query: &str) -> Vec<String> {
    let given = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| PARAMETERS.contains(&name.as_ref()));
    given.flat_map(|(_, token)| [token.replace(' ', "+"), token.into_owned()]).collect()
}
