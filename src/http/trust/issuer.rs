//! Tokens of an OpenID Connect issuer, as Pub/Sub (Google) and Event Grid (Azure) send them: JWTs, verified with the keys
//! that the issuer publishes.
//!
//! Keys are kept. They are fetched anew when they are an hour old, beside the requests that use them; and when a token
//! names one that is not there, but no more often than every [`REFETCH`]: anybody can name a key.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use log::{info, warn};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use super::{FetchDocument, Unproven, crypto};

/// Keys this old are fetched anew.
const FRESH: Duration = Duration::from_secs(3600);
/// Keys this old are not believed any more.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// Between two fetches; less if the last one failed.
const REFETCH: Duration = Duration::from_secs(30);
const REFETCH_FAILED: Duration = Duration::from_secs(5);
/// Keys of one issuer, at most; what stands behind them is left out.
const MAX_KEYS: usize = 64;
/// How far clocks may differ.
const LEEWAY_SECONDS: u64 = 60;
/// Bytes of a token, at most.
const MAX_TOKEN_BYTES: usize = 8192;
/// Google's tokens may name it without the scheme.
const GOOGLE: &str = "https://accounts.google.com";

const NO_TOKEN: Unproven = Unproven::Refused("The bearer token is not a JWT signed with RS256 or ES256.");
const UNKNOWN_KEY: Unproven = Unproven::Refused("The token is signed with a key that its issuer does not publish.");
const STRANGER: Unproven = Unproven::Refused("The token's account is not in `oidc_subjects`.");
const NO_KEYS: Unproven = Unproven::Unavailable(
    "The keys of the token issuer (`oidc_issuer`) cannot be fetched now. Send the request again later.",
);

/// Whose tokens are accepted, for whom, and of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// The issuer's URL, as its tokens say it.
    pub name: String,
    /// A token must be meant for it.
    pub audience: String,
    /// A token must be of one of these accounts; none: of any.
    pub subjects: Vec<String>,
}

/// One issuer with its keys.
#[derive(Clone)]
pub struct Issuer {
    inner: Arc<Inner>,
}

struct Inner {
    settings: IssuerSettings,
    fetch: Arc<dyn FetchDocument>,
    keys: ArcSwapOption<Keys>,
    /// Held by whoever fetches. When that last ended, or began if it has not, and whether it failed.
    fetching: Arc<Mutex<Option<(Instant, bool)>>>,
}

struct Keys {
    keys: Vec<Key>,
    fetched: Instant,
}

struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// The issuer's discovery document.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// The claims that name the account of a token.
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: Value,
    #[serde(default)]
    email: Value,
    #[serde(default)]
    email_verified: Value,
    #[serde(default)]
    azp: Value,
    #[serde(default)]
    appid: Value,
}

impl Claims {
    fn accounts(&self) -> impl Iterator<Item = &str> {
        let is_verified = self.email_verified.as_bool() == Some(true) || self.email_verified.as_str() == Some("true");
        let email = Some(&self.email).filter(|_| is_verified);
        [Some(&self.sub), email, Some(&self.azp), Some(&self.appid)].into_iter().flatten().filter_map(Value::as_str)
    }
}

#[derive(Deserialize)]
struct Published {
    keys: Vec<Value>,
}

impl Issuer {
    /// An issuer. Its keys are fetched when a token first needs them.
    pub fn new(settings: IssuerSettings, fetch: Arc<dyn FetchDocument>) -> Self {
        crypto::install();
        let inner = Inner { settings, fetch, keys: ArcSwapOption::empty(), fetching: Arc::default() };
        Issuer { inner: Arc::new(inner) }
    }

    /// Whether it has these settings.
    pub fn is(&self, settings: &IssuerSettings) -> bool {
        self.inner.settings == *settings
    }

    /// Whether a bearer token may be one of an issuer's.
    pub fn is_token(text: &str) -> bool {
        text.len() <= MAX_TOKEN_BYTES && text.split('.').filter(|part| !part.is_empty()).count() == 3
    }

    /// Whether the token is this issuer's, for the audience, and of now.
    ///
    /// # Errors
    /// Why it is not, or that nobody can tell at present.
    pub async fn verify(&self, token: &str) -> Result<(), Unproven> {
        // Whoever does not understand what a header calls critical has to refuse it (RFC 7515, 4.1.11), and here nothing is.
        let is_understood = |header: &Header| crypto::ALGORITHMS.contains(&header.alg) && header.crit.is_none();
        let header = decode_header(token).ok().filter(is_understood);
        let header = header.ok_or(NO_TOKEN)?;
        let keys = self.keys_with(header.kid.as_deref(), header.alg).await?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_audience(&[&self.inner.settings.audience]);
        validation.set_issuer(&self.names());
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let mut verdict = Err(UNKNOWN_KEY);
        for key in keys.of(header.kid.as_deref(), header.alg) {
            let claims = decode::<Claims>(token, &key.key, &validation).map_err(|error| refused(error.kind()));
            verdict = claims.and_then(|token| self.judge(&token.claims));
            if verdict.is_ok() {
                break;
            }
        }
        verdict
    }

    fn judge(&self, claims: &Claims) -> Result<(), Unproven> {
        let subjects = &self.inner.settings.subjects;
        let is_let_in =
            subjects.is_empty() || claims.accounts().any(|account| subjects.iter().any(|own| own == account));
        if is_let_in { Ok(()) } else { Err(STRANGER) }
    }

    fn names(&self) -> Vec<&str> {
        let name = self.inner.settings.name.as_str();
        let bare = (name == GOOGLE).then(|| name.trim_start_matches("https://"));
        [name].into_iter().chain(bare).collect()
    }

    async fn keys_with(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Arc<Keys>, Unproven> {
        if let Some(keys) = self.held().filter(|keys| keys.has(id, algorithm)) {
            if keys.fetched.elapsed() > FRESH {
                let issuer = self.clone();
                actix_rt::spawn(async move { issuer.fetch().await });
            }
            return Ok(keys);
        }
        let is_known = self.fetch().await;
        // Behind a fetch that failed, a key that is not held may be one that was published since.
        self.held().filter(|keys| is_known || keys.has(id, algorithm)).ok_or(NO_KEYS)
    }

    fn held(&self) -> Option<Arc<Keys>> {
        self.inner.keys.load_full().filter(|keys| keys.fetched.elapsed() < MAX_AGE)
    }

    /// Fetches the keys, unless somebody just did. It goes on if whoever asked is gone. Whether the last fetch brought them.
    async fn fetch(&self) -> bool {
        let mut last = self.inner.fetching.clone().lock_owned().await;
        let wait = |failed: bool| if failed { REFETCH_FAILED } else { REFETCH };
        if let Some((at, failed)) = *last
            && at.elapsed() < wait(failed)
        {
            return !failed;
        }
        *last = Some((Instant::now(), true));
        let inner = self.inner.clone();
        let fetched = actix_rt::spawn(async move {
            let issuer = inner.settings.name.as_str();
            match inner.published().await {
                Ok(keys) => {
                    info!(issuer, keys = keys.len(); "keys fetched");
                    inner.keys.store(Some(Arc::new(Keys { keys, fetched: Instant::now() })));
                    *last = Some((Instant::now(), false));
                    true
                }
                Err(cause) => {
                    warn!(issuer, cause = cause.as_str(); "keys of a token issuer cannot be fetched");
                    // Whoever waited meanwhile is told the same, and does not wait for a fetch of its own.
                    *last = Some((Instant::now(), true));
                    false
                }
            }
        });
        fetched.await.unwrap_or(false)
    }

    /// As if the last fetch had been so long ago.
    #[cfg(test)]
    pub(super) async fn age(&self, by: Duration) {
        if let Some((at, _)) = self.inner.fetching.lock().await.as_mut() {
            *at -= by;
        }
    }
}

impl Inner {
    async fn published(&self) -> Result<Vec<Key>, String> {
        let name = self.settings.name.trim_end_matches('/');
        let document = self.fetch.fetch(&format!("{name}/.well-known/openid-configuration"), name).await?;
        let discovery: Discovery =
            serde_json::from_slice(&document).map_err(|_| "its openid-configuration cannot be read".to_owned())?;
        if discovery.issuer.trim_end_matches('/') != name {
            return Err("its openid-configuration names another issuer".to_owned());
        }
        if !discovery.jwks_uri.starts_with("https://") && !name.starts_with("http://") {
            return Err("its keys are not published over https".to_owned());
        }
        let document = self.fetch.fetch(&discovery.jwks_uri, name).await?;
        let published: Published =
            serde_json::from_slice(&document).map_err(|_| "its key set cannot be read".to_owned())?;
        let keys: Vec<Key> = published.keys.into_iter().take(MAX_KEYS).filter_map(Key::of).collect();
        if keys.is_empty() { Err("its key set has no key for RS256 or ES256".to_owned()) } else { Ok(keys) }
    }
}

impl Keys {
    fn has(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        self.of(id, algorithm).next().is_some()
    }

    /// The keys with this name; all keys for a token that names none.
    fn of<'a>(&'a self, id: Option<&'a str>, algorithm: Algorithm) -> impl Iterator<Item = &'a Key> {
        self.keys.iter().filter(move |key| key.algorithm == algorithm && (id.is_none() || key.id.as_deref() == id))
    }
}

impl Key {
    /// None: it is for something else.
    fn of(published: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(published).ok()?;
        let is_for_encryption = matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption));
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
            _ => return None,
        };
        let ours = if algorithm == Algorithm::RS256 { KeyAlgorithm::RS256 } else { KeyAlgorithm::ES256 };
        let is_ours = jwk.common.key_algorithm.is_none_or(|named| named == ours);
        let key = DecodingKey::from_jwk(&jwk).ok().filter(|_| is_ours && !is_for_encryption)?;
        Some(Key { id: jwk.common.key_id, algorithm, key })
    }
}

fn refused(kind: &ErrorKind) -> Unproven {
    Unproven::Refused(match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidIssuer => "the token is from another issuer than `oidc_issuer`",
        ErrorKind::InvalidAudience => "the token is for another audience than `oidc_audience`",
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks one of the claims `exp`, `iss` and `aud`",
        _ => return NO_TOKEN,
    })
}
