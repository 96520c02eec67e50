//! The settings of one store.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};
use url::Url;

use super::read::parsed;
use crate::blob::store::StoreKind;
use crate::config::secret::Secret;

/// Where objects are fetched from, and with what credential (`[stores.NAME]`). What goes together was checked.
#[derive(Debug, Clone, Deserialize)]
pub struct StoreConfig {
    /// What the store speaks (`stores.NAME.kind`).
    #[serde(deserialize_with = "parsed")]
    pub kind: StoreKind,
    /// Where it is called; None: the cloud's own place.
    #[serde(default, deserialize_with = "url")]
    pub endpoint: Option<Url>,
    /// The region that S3 requests are signed for.
    pub region: Option<String>,
    /// Whether the bucket stands in the path; None: if there is an endpoint.
    pub path_style: Option<bool>,
    /// The access key of S3.
    pub access_key_id: Option<Secret>,
    /// The file with it.
    pub access_key_id_file: Option<PathBuf>,
    /// The secret to the access key.
    pub secret_access_key: Option<Secret>,
    /// The file with it.
    pub secret_access_key_file: Option<PathBuf>,
    /// The session token to an access key that was lent for a time.
    pub session_token: Option<Secret>,
    /// The file with it.
    pub session_token_file: Option<PathBuf>,
    /// The storage account of Azure.
    pub account: Option<String>,
    /// The account's key.
    pub account_key: Option<Secret>,
    /// The file with it.
    pub account_key_file: Option<PathBuf>,
    /// A shared access signature.
    pub sas_token: Option<Secret>,
    /// The file with it.
    pub sas_token_file: Option<PathBuf>,
    /// The key file of a service account of Google Cloud.
    pub service_account_file: Option<PathBuf>,
    /// A header of each request to an http store, `Name: value`.
    pub header: Option<Secret>,
    /// The file with it.
    pub header_file: Option<PathBuf>,
    /// Whether requests go without a credential.
    pub anonymous: bool,
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| Url::parse(&text).map_err(serde::de::Error::custom)).transpose()
}
