//! From the settings of stores to the stores that are called.

use std::path::PathBuf;
use std::time::Instant;

use url::Url;

use crate::blob::store::{CredentialLender, CredentialSource, Platform, SecretText, StoreKind, StoreSettings, Stores};
use crate::blob::{BlobClient, BlobSettings, FetchError, FetchErrorKind};
use crate::config::{self, Config, Secret, SourceConfig, StoreConfig};

/// The region where none is set beside an endpoint: servers that are no cloud take it.
const REGION: &str = "us-east-1";

/// How blobs are fetched, as the settings say.
pub fn blob_settings(config: &Config) -> BlobSettings {
    let fetch = &config.fetch;
    let settings = BlobSettings {
        allowed_hosts: fetch.allowed_hosts.clone(),
        extra_roots: fetch.extra_roots.clone(),
        connect_timeout: fetch.connect_timeout,
        attempt_timeout: fetch.timeout,
        max_blob_bytes: fetch.max_blob_bytes,
        max_connections: fetch.concurrency,
        proxy: fetch.proxy.clone(),
        stores: Stores::default(),
        propagate_trace: fetch.propagate_trace,
    };
    BlobSettings { stores: stores(config, &settings), ..settings }
}

/// All stores of the settings. Files are read when a credential is needed, and again when they may have changed. `blob` says
/// through what proxy credentials are asked for, and which authorities are trusted.
fn stores(config: &Config, blob: &BlobSettings) -> Stores {
    let platform = Platform::new(blob.clone());
    let stores = config.stores.iter().filter_map(|(name, store)| Some((name.clone(), settings(store, &platform)?)));
    Stores::new(stores)
}

/// Asks each store for next to nothing: what was asked, and why it failed.
pub async fn probe(config: &Config) -> Vec<(String, Option<String>)> {
    let client = match BlobClient::new(blob_settings(config)) {
        Ok(client) => client,
        Err(error) => return vec![("stores".to_owned(), Some(error.to_string()))],
    };
    let mut results = Vec::new();
    for name in config.stores.keys() {
        let of_store = |source: &&SourceConfig| source.store.as_ref() == Some(name);
        let bucket = config.sources.values().filter(of_store).find_map(|source| source.buckets().into_iter().next());
        let what = match &bucket {
            Some(bucket) => format!("store {name}: address and credential, by a listing of bucket {bucket}"),
            None => format!("store {name}: address and credential"),
        };
        let result = client.probe(name, bucket.as_deref(), (Instant::now() + config.fetch.timeout).into()).await;
        let failure = result.err().filter(|error| !is_answer(error, bucket.is_some()));
        results.push((what, failure.map(|error| error.detail)));
    }
    results
}

/// Whether a refusal shows that the store knows who asks: what was asked for need not be there, nor be for this credential.
fn is_answer(error: &FetchError, has_bucket: bool) -> bool {
    let is_unlisted = !has_bucket && error.detail.ends_with("(AccessDenied)");
    error.kind == FetchErrorKind::NotFound || is_unlisted
}

/// None for a store without an endpoint, which the checks of the settings let nobody have.
fn settings(store: &StoreConfig, platform: &Platform) -> Option<StoreSettings> {
    Some(StoreSettings {
        kind: store.kind,
        endpoint: endpoint(store)?,
        region: store.region.clone().unwrap_or_else(|| REGION.to_owned()),
        path_style: store.path_style.unwrap_or(store.endpoint.is_some()),
        account: store.account.clone(),
        credential: credential(store, platform),
    })
}

/// The one that is set, or that of the cloud.
fn endpoint(store: &StoreConfig) -> Option<Url> {
    let own = || {
        let url = match store.kind {
            StoreKind::S3 => format!("https://s3.{}.amazonaws.com{}", store.region.as_deref()?, suffix(store)),
            StoreKind::Azure => format!("https://{}.blob.core.windows.net", store.account.as_deref()?),
            StoreKind::Gcs => "https://storage.googleapis.com".to_owned(),
            StoreKind::Http => return None,
        };
        Url::parse(&url).ok()
    };
    let mut endpoint = store.endpoint.clone().or_else(own)?;
    // An emulator of Azure has the account in the path, and Azure itself in the host's name.
    if let (StoreKind::Azure, Some(account), "/") = (store.kind, &store.account, endpoint.path()) {
        let is_emulator = endpoint.domain().is_none_or(|domain| !domain.contains('.'));
        if is_emulator {
            endpoint.set_path(account);
        }
    }
    Some(endpoint)
}

/// China's regions have a domain of their own.
fn suffix(store: &StoreConfig) -> &'static str {
    if store.region.as_deref().is_some_and(|region| region.starts_with("cn-")) { ".cn" } else { "" }
}

fn credential(store: &StoreConfig, platform: &Platform) -> CredentialSource {
    let text = |value: &Option<Secret>, file: &Option<PathBuf>| secret(value.clone(), file.clone());
    let access_key = text(&store.access_key_id, &store.access_key_id_file)
        .zip(text(&store.secret_access_key, &store.secret_access_key_file));
    if let Some((id, secret)) = access_key {
        let session_token = text(&store.session_token, &store.session_token_file);
        return CredentialSource::AccessKey { id, secret, session_token };
    }
    if let Some(key) = text(&store.account_key, &store.account_key_file) {
        return CredentialSource::AccountKey(key);
    }
    if let Some(token) = text(&store.sas_token, &store.sas_token_file) {
        return CredentialSource::Sas(token);
    }
    if let Some(header) = text(&store.header, &store.header_file) {
        return CredentialSource::Header(header);
    }
    if let Some(path) = store.service_account_file.clone() {
        let read = move || config::text_in(&path).map(|key| key.expose().to_owned());
        return CredentialSource::ServiceAccount(SecretText::new(read), platform.clone());
    }
    let lender = match store.kind {
        StoreKind::S3 if !store.anonymous => CredentialLender::Aws,
        StoreKind::Azure if !store.anonymous => CredentialLender::Azure,
        StoreKind::Gcs if !store.anonymous => CredentialLender::Google,
        _ => return CredentialSource::Anonymous,
    };
    CredentialSource::Platform(lender, platform.clone())
}

fn secret(value: Option<Secret>, file: Option<PathBuf>) -> Option<SecretText> {
    match (value, file) {
        (Some(value), _) => Some(SecretText::new(move || Ok(value.expose().to_owned()))),
        (None, Some(path)) => {
            Some(SecretText::new(move || config::password_in(&path).map(|secret| secret.expose().to_owned())))
        }
        (None, None) => None,
    }
}
