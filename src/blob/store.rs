//! Stores that the operator set up (`stores.NAME`): where an object of one is, and how a request to it is signed.
//!
//! - [`place`] turns bucket and name into the path that the store's kind asks for.
//! - [`secret`] has what requests are signed with, by type; [`credential`] is which of it holds now.
//! - [`renewal`] keeps what is lent for a time, and renews it; [`lent`] asks whoever lends, through [`platform`].
//! - [`sign`] puts a signature on one request.
//! - [`listing`] reads what a store holds, page by page.
//! - [`refusal`] reads why a store refused a request.
//!
//! Requests to a store go out over connections of its own, to its endpoint alone. So the endpoint may be private without any
//! event's URL being let through to it, and no credential ever leaves for another host.

mod azure;
mod credential;
mod lent;
mod listing;
mod place;
mod platform;
mod refusal;
mod renewal;
mod secret;
mod service_account;
mod sign;
mod xml;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use url::Url;

pub use self::credential::{CredentialSource, SecretFiles};
pub use self::lent::CredentialLender;
pub use self::listing::{Listed, ListedPage};
pub(super) use self::place::StorePlace;
pub use self::platform::Platform;
pub use self::refusal::Refusal;
pub(super) use self::refusal::explained;
pub use self::secret::{AccessKey, AccountKey, Credential, RequestHeader, SasToken, StoreSecret, one_line, visible};
pub use self::service_account::ServiceAccount;
pub(super) use self::sign::Signed;

use self::credential::Credentials;
use self::sign::AwsSigner;
use super::guard::AllowedHosts;
use super::resource::resource;
use crate::event::FetchTarget;

/// The kinds of store (`stores.NAME.kind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// Amazon S3, and what speaks like it: MinIO, SeaweedFS, Ceph, R2.
    S3,
    /// Azure Blob Storage.
    Azure,
    /// Google Cloud Storage, by its JSON API.
    Gcs,
    /// Any HTTP server: an object is at `endpoint/bucket/name`.
    Http,
}

impl FromStr for StoreKind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "s3" => Ok(StoreKind::S3),
            "azure" => Ok(StoreKind::Azure),
            "gcs" => Ok(StoreKind::Gcs),
            "http" => Ok(StoreKind::Http),
            _ => Err("not a kind of store"),
        }
    }
}

/// One store, as the settings have it.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// What the store speaks.
    pub kind: StoreKind,
    /// Where it is called: `http` or `https`, without a query.
    pub endpoint: Url,
    /// The region that S3 requests are signed for; empty for other kinds.
    pub region: String,
    /// Whether the bucket stands in the path, and not in the host's name (S3).
    pub path_style: bool,
    /// The storage account (Azure).
    pub account: Option<String>,
    /// What requests are signed with.
    pub credential: CredentialSource,
}

/// All stores, by name. Shared by all threads; cheap to clone.
#[derive(Clone, Default)]
pub struct Stores(Arc<BTreeMap<String, Arc<Store>>>);

impl Stores {
    /// Nobody is called before the first request.
    pub fn new(stores: impl IntoIterator<Item = (String, StoreSettings)>) -> Self {
        let stores = stores.into_iter().map(|(name, settings)| {
            let store = Store::new(&name, settings);
            (name, Arc::new(store))
        });
        Stores(Arc::new(stores.collect()))
    }

    /// The store of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Store>> {
        self.0.get(name)
    }

    /// What a blob is remembered by beside its entity tag ([`Download::resource`](super::Download::resource)), if no redirect
    /// leads away from here. None for an object that has no place.
    pub fn resource_of(&self, target: &FetchTarget) -> Option<u64> {
        match target {
            FetchTarget::Url(url) => Some(resource(url.expose(), url.target())),
            FetchTarget::Object(object) => {
                let StorePlace { url, target } = self.get(object.store())?.place(object).ok()?;
                Some(resource(&url, &target))
            }
        }
    }

    /// All stores with their names, in the order of these.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Store>)> {
        self.0.iter().map(|(name, store)| (name.as_str(), store))
    }

    /// The names of all stores, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// The very same stores: what they were made of is not compared.
impl PartialEq for Stores {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// One store with the credential that it is called with at present.
pub struct Store {
    name: Box<str>,
    kind: StoreKind,
    endpoint: Url,
    path_style: bool,
    account: Option<Box<str>>,
    credentials: Credentials,
    aws: AwsSigner,
}

impl Store {
    fn new(name: &str, settings: StoreSettings) -> Self {
        let StoreSettings { kind, endpoint, region, path_style, account, credential } = settings;
        let (account, aws) = (account.map(String::into_boxed_str), AwsSigner::new("s3", &region));
        Store { name: name.into(), kind, endpoint, path_style, account, credentials: Credentials::new(credential), aws }
    }

    /// The files that hold what requests are signed with; None: there are none.
    pub fn secret_files(&self) -> Option<&SecretFiles> {
        self.credentials.files()
    }

    /// Requests are signed with this from now on: what the files of the secret hold.
    pub fn adopt(&self, secret: StoreSecret) {
        self.credentials.adopt(secret);
    }

    /// The store's own hosts: the endpoint, and for S3 the buckets' names before it.
    pub(super) fn hosts(&self) -> AllowedHosts {
        AllowedHosts::of_store(&self.endpoint, self.kind == StoreKind::S3 && !self.path_style)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store {}", self.name)
    }
}
