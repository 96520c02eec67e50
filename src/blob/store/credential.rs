//! What requests of a store are signed with: as the operator gave it, or as it is lent.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::lent::CredentialLender;
use super::platform::Platform;
use super::renewal::Renewal;
use super::secret::{Credential, StoreSecret};
use crate::blob::FetchError;

/// Files are read because a store refused what they held, no oftener than this.
const READ_EVERY: Duration = Duration::from_secs(1);

/// Where a store's credential comes from.
#[derive(Debug, Clone)]
pub enum CredentialSource {
    /// The operator gave it, by settings or by files.
    Given(StoreSecret, Option<SecretFiles>, Platform),
    /// Lent by the platform that the service runs on.
    Platform(CredentialLender, Platform),
    /// Requests go unsigned.
    Anonymous,
}

/// Reads the files that hold a store's secret.
#[derive(Clone)]
pub struct SecretFiles(Arc<dyn Fn() -> Result<StoreSecret, String> + Send + Sync>);

impl SecretFiles {
    /// `read` says why they are of no use; its reason holds no secret.
    pub fn new(read: impl Fn() -> Result<StoreSecret, String> + Send + Sync + 'static) -> Self {
        SecretFiles(Arc::new(read))
    }

    /// What they hold now. It may take as long as a file system does.
    ///
    /// # Errors
    ///
    /// Why they are of no use.
    pub fn read(&self) -> Result<StoreSecret, String> {
        (self.0)()
    }
}

impl fmt::Debug for SecretFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("files")
    }
}

/// The credential of one store.
pub struct Credentials {
    now: Now,
    files: Option<SecretFiles>,
    /// When the files were last read because of a refusal.
    read: Mutex<Option<Instant>>,
}

enum Now {
    Given(ArcSwap<Credential>),
    Lent(Arc<Renewal>),
}

impl Credentials {
    pub fn new(source: CredentialSource) -> Self {
        let (now, files) = match source {
            CredentialSource::Given(StoreSecret::Credential(credential), files, _) => (Now::given(credential), files),
            CredentialSource::Given(StoreSecret::ServiceAccount(account), files, platform) => {
                (Now::Lent(Renewal::new(CredentialLender::To(account), platform)), files)
            }
            CredentialSource::Platform(lender, platform) => (Now::Lent(Renewal::new(lender, platform)), None),
            CredentialSource::Anonymous => (Now::given(Credential::Anonymous), None),
        };
        Credentials { now, files, read: Mutex::default() }
    }

    /// The files that hold it.
    pub fn files(&self) -> Option<&SecretFiles> {
        self.files.as_ref()
    }

    /// What the files hold from now on. They are of the kind that they were at the start, as the settings say which.
    pub fn adopt(&self, secret: StoreSecret) {
        match (&self.now, secret) {
            (Now::Given(given), StoreSecret::Credential(credential)) => given.store(Arc::new(credential)),
            (Now::Lent(renewal), StoreSecret::ServiceAccount(account)) => {
                renewal.ask_from_now_on(CredentialLender::To(account))
            }
            _ => {}
        }
    }

    /// What to sign with now.
    pub async fn current(&self) -> Result<Arc<Credential>, FetchError> {
        match &self.now {
            Now::Given(given) => Ok(given.load_full()),
            Now::Lent(renewal) => renewal.current().await,
        }
    }

    /// The store refused what was signed with this. Whether there is another by now.
    pub async fn has_other_than(&self, refused: &Credential) -> bool {
        match &self.now {
            Now::Given(given) => {
                if **given.load() == *refused {
                    self.read_again().await;
                }
                **given.load() != *refused
            }
            Now::Lent(renewal) => {
                self.read_again().await;
                renewal.has_other_than(refused).await
            }
        }
    }

    /// Takes what the files hold now. What they are of no use for is told by who follows them.
    async fn read_again(&self) {
        let Some(files) = self.files.clone() else { return };
        let mut read = self.read.lock().await;
        if read.is_some_and(|read| read.elapsed() < READ_EVERY) {
            return;
        }
        if let Ok(Ok(secret)) = tokio::task::spawn_blocking(move || files.read()).await {
            self.adopt(secret);
        }
        *read = Some(Instant::now());
    }
}

impl Now {
    fn given(credential: Credential) -> Self {
        Now::Given(ArcSwap::from_pointee(credential))
    }
}
