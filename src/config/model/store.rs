//! The settings of one store.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use url::Url;

use super::read::parsed;
use crate::blob::store::{AccessKey, Credential, StoreKind, StoreSecret};
use crate::config::files::{password_in, text_in};
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
    /// What the key file of a service account of Google Cloud holds.
    #[serde(skip)]
    pub service_account: Option<Secret>,
    /// The file.
    pub service_account_file: Option<PathBuf>,
    /// A header of each request to an http store, `Name: value`.
    pub header: Option<Secret>,
    /// The file with it.
    pub header_file: Option<PathBuf>,
    /// Whether requests go without a credential.
    pub anonymous: bool,
}

impl StoreConfig {
    /// What requests are signed with, if the operator gave anything.
    ///
    /// # Errors
    /// Which secret is of no use, and why: nothing that was checked at the start.
    pub fn secret(&self) -> Result<Option<StoreSecret>, String> {
        let text = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
        if let (Some(id), Some(secret)) = (text(&self.access_key_id), text(&self.secret_access_key)) {
            let key = AccessKey::new(&id, &secret, text(&self.session_token).as_deref())?;
            return Ok(Some(StoreSecret::Credential(Credential::AccessKey(key))));
        }
        if let Some(account) = text(&self.service_account) {
            let account = account.parse().map_err(|reason| format!("service_account_file: {reason}"))?;
            return Ok(Some(StoreSecret::ServiceAccount(account)));
        }
        let of = |name: &str, reason: &str| format!("{name}: {reason}");
        let key = text(&self.account_key).map(|key| key.parse().map(Credential::AccountKey));
        let token = text(&self.sas_token).map(|token| token.parse().map(Credential::Sas));
        let header = text(&self.header).map(|header| header.parse().map(Credential::Header));
        let given = [("account_key", key), ("sas_token", token), ("header", header)];
        let given = given.into_iter().find_map(|(name, given)| Some(given?.map_err(|reason| of(name, reason))));
        Ok(given.transpose()?.map(StoreSecret::Credential))
    }

    /// The same with what its files hold now.
    ///
    /// # Errors
    /// Which file is of no use, and why.
    pub fn with_files(&self) -> Result<StoreConfig, String> {
        let mut now = self.clone();
        let read = |name: &str, path: &Option<PathBuf>, read: fn(&Path) -> Result<Secret, String>| {
            let read = path.as_deref().map(read).transpose();
            read.map_err(|reason| format!("{name}: {reason}"))
        };
        for (name, path, secret) in [
            ("access_key_id_file", &self.access_key_id_file, &mut now.access_key_id),
            ("secret_access_key_file", &self.secret_access_key_file, &mut now.secret_access_key),
            ("session_token_file", &self.session_token_file, &mut now.session_token),
            ("account_key_file", &self.account_key_file, &mut now.account_key),
            ("sas_token_file", &self.sas_token_file, &mut now.sas_token),
            ("header_file", &self.header_file, &mut now.header),
        ] {
            *secret = read(name, path, password_in)?.or(secret.take());
        }
        now.service_account = read("service_account_file", &self.service_account_file, text_in)?;
        Ok(now)
    }

    /// Whether a file holds a secret of it.
    pub fn has_files(&self) -> bool {
        let one_line = [&self.access_key_id_file, &self.secret_access_key_file, &self.session_token_file];
        let others = [&self.account_key_file, &self.sas_token_file, &self.header_file, &self.service_account_file];
        one_line.into_iter().chain(others).any(Option::is_some)
    }
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| Url::parse(&text).map_err(serde::de::Error::custom)).transpose()
}
