//! What requests are signed with: where it comes from, how long it is kept, and when it is got anew.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::lent::{CredentialLender, Lent, google_key};
use super::platform::Platform;
use super::signing_key::Credential;
use crate::blob::{FetchError, FetchErrorKind};

/// Secrets that were given by settings and files are read anew after this, so that a file that changed takes effect.
const READ_EVERY: Duration = Duration::from_secs(1);
/// How long before its end a lent credential is renewed.
const BEFORE_END: Duration = Duration::from_secs(5 * 60);
/// What is lent without an end is asked for again after this.
const ASK_EVERY: Duration = Duration::from_secs(10 * 60);
/// After a failure nobody is asked for this long.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// What is lent is asked for no oftener than this because a store refused it.
const LEND_EVERY: Duration = Duration::from_secs(30);
/// A credential with less time than this left is not used.
const LEAST_LEFT: Duration = Duration::from_secs(10);

/// Reads a secret as it is now, from a setting or a file.
#[derive(Clone)]
pub struct SecretText(Arc<dyn Fn() -> Result<String, String> + Send + Sync>);

impl SecretText {
    /// `read` says why it cannot be had; its reason holds no secret.
    pub fn new(read: impl Fn() -> Result<String, String> + Send + Sync + 'static) -> Self {
        SecretText(Arc::new(read))
    }

    fn read(&self) -> Result<String, String> {
        (self.0)()
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a store's credential comes from.
#[derive(Debug, Clone)]
pub enum CredentialSource {
    /// An access key of S3.
    AccessKey {
        /// The public half.
        id: SecretText,
        /// The secret half.
        secret: SecretText,
        /// With keys that were lent for a time.
        session_token: Option<SecretText>,
    },
    /// The key of an Azure storage account.
    AccountKey(SecretText),
    /// A shared access signature of Azure, with or without its question mark.
    Sas(SecretText),
    /// A header, `Name: value`.
    Header(SecretText),
    /// The JSON key file of a service account of Google Cloud, exchanged for tokens.
    ServiceAccount(SecretText, Platform),
    /// Lent by the platform that the service runs on.
    Platform(CredentialLender, Platform),
    /// Requests go unsigned.
    Anonymous,
}

/// A source with what it gave last.
pub struct Credentials {
    source: CredentialSource,
    held: Mutex<Held>,
}

/// What was given last, and when to ask again.
#[derive(Default)]
struct Held {
    credential: Option<Arc<Credential>>,
    /// When the credential ends; None: nobody said, or never.
    until: Option<SystemTime>,
    /// Until then nobody is asked.
    rests_until: Option<Instant>,
    /// When somebody was asked last.
    asked: Option<Instant>,
    /// Why nothing was given the last time.
    failure: Option<FetchError>,
}

impl Held {
    /// What may be used, if it does not end within `margin`.
    fn usable(&self, margin: Duration) -> Option<Arc<Credential>> {
        let ends = self.until.is_some_and(|until| until <= SystemTime::now() + margin);
        self.credential.clone().filter(|_| !ends)
    }
}

impl Credentials {
    pub fn new(source: CredentialSource) -> Self {
        Credentials { source, held: Mutex::default() }
    }

    /// What to sign with now. While it is renewed others wait, and then use the same.
    pub async fn current(&self) -> Result<Arc<Credential>, FetchError> {
        let mut held = self.held.lock().await;
        if held.rests_until.is_some_and(|rests| Instant::now() < rests)
            && let Some(result) = held.usable(LEAST_LEFT).map(Ok).or_else(|| held.failure.clone().map(Err))
        {
            return result;
        }
        self.renew(&mut held).await
    }

    /// The store refused what was signed with this. Whether there is another by now.
    pub async fn has_other_than(&self, refused: &Credential) -> bool {
        let mut held = self.held.lock().await;
        if held.credential.as_ref().is_some_and(|credential| **credential != *refused) {
            return true;
        }
        // Who lends is not asked for each object that is refused.
        if self.source.is_lent() && held.asked.is_some_and(|asked| asked.elapsed() < LEND_EVERY) {
            return false;
        }
        self.renew(&mut held).await.is_ok_and(|credential| *credential != *refused)
    }

    async fn renew(&self, held: &mut Held) -> Result<Arc<Credential>, FetchError> {
        let given = self.source.read().await;
        let now = Instant::now();
        held.asked = Some(now);
        match given {
            Ok(Lent { credential, until }) => {
                let credential = Arc::new(credential);
                let left = until.map(|until| until.duration_since(SystemTime::now()).unwrap_or_default());
                let rest = match (self.source.is_lent(), left) {
                    (false, _) => READ_EVERY,
                    (true, None) => ASK_EVERY,
                    (true, Some(left)) => left.saturating_sub(BEFORE_END).max(READ_EVERY),
                };
                let rests_until = now.checked_add(rest);
                *held =
                    Held { credential: Some(credential.clone()), until, rests_until, asked: held.asked, failure: None };
                Ok(credential)
            }
            Err(reason) => {
                let failure = unusable(&reason);
                held.rests_until = Some(now + ASK_AGAIN);
                held.failure = Some(failure.clone());
                // What was lent before may be good for a while yet; a secret that is gone from its file is not used on.
                held.credential.take_if(|_| !self.source.is_lent());
                held.usable(LEAST_LEFT).ok_or(failure)
            }
        }
    }
}

impl CredentialSource {
    /// Whether somebody has to be asked for it, and it ends by itself.
    fn is_lent(&self) -> bool {
        matches!(self, CredentialSource::ServiceAccount(..) | CredentialSource::Platform(..))
    }

    async fn read(&self) -> Result<Lent, String> {
        let credential = match self {
            CredentialSource::AccessKey { id, secret, session_token } => Credential::AccessKey {
                id: id.read()?,
                secret: secret.read()?,
                session_token: session_token.as_ref().map(SecretText::read).transpose()?,
            },
            CredentialSource::AccountKey(key) => Credential::AccountKey(key.read()?),
            CredentialSource::Sas(token) => Credential::Sas(token.read()?.trim_start_matches('?').to_owned()),
            CredentialSource::Header(header) => {
                let header = header.read()?;
                let (name, value) = header.split_once(':').ok_or("the header does not have the form `Name: value`")?;
                Credential::Header { name: name.trim().to_owned(), value: value.trim().to_owned() }
            }
            CredentialSource::ServiceAccount(key, platform) => return google_key(platform, &key.read()?).await,
            CredentialSource::Platform(lender, platform) => return lender.lend(platform).await,
            CredentialSource::Anonymous => Credential::Anonymous,
        };
        Ok(Lent { credential, until: None })
    }
}

/// It may be there in a moment: a file that is being replaced, a service that does not answer.
fn unusable(reason: &str) -> FetchError {
    FetchError::new(FetchErrorKind::Unavailable, format!("the store's credential is not available: {reason}"))
}
