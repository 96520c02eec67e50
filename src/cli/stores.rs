//! From the settings of stores to the stores that are called.

use std::time::Instant;

use url::Url;

use super::reload::Reloader;
use crate::blob::store::{
    CredentialLender, CredentialSource, Platform, Refusal, SecretFiles, StoreKind, StoreSecret, StoreSettings, Stores,
};
use crate::blob::{BlobClient, BlobSettings, FetchError, FetchErrorKind};
use crate::config::{Config, SourceConfig, StoreConfig};

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

/// All stores of the settings. `blob` says
/// through what proxy credentials are asked for, and which authorities are trusted.
fn stores(config: &Config, blob: &BlobSettings) -> Stores {
    let platform = Platform::new(blob.clone());
    let stores = config.stores.iter().filter_map(|(name, store)| Some((name.clone(), settings(store, &platform)?)));
    Stores::new(stores)
}

/// Has what the files of secrets come to hold used from then on.
pub fn follow(config: &Config, stores: &Stores, reloader: &mut Reloader) {
    for (name, store) in stores.iter() {
        let current = config.stores.get(name).and_then(|store| store.secret().ok()?);
        let (Some(files), Some(current)) = (store.secret_files().cloned(), current) else { continue };
        let store = store.clone();
        let adopt = move |secret: &StoreSecret| {
            store.adopt(secret.clone());
            Ok(())
        };
        reloader.follow(format!("stores.{name}"), current, move || files.read(), adopt);
    }
}

/// Asks each store for next to nothing: what was asked, and why it failed.
pub async fn probe(config: &Config) -> Vec<(String, Option<String>)> {
    let client = match BlobClient::new(blob_settings(config)) {
        Ok(client) => client,
        Err(error) => return vec![("stores".to_owned(), Some(error.to_string()))],
    };
    let mut results = Vec::new();
    for (name, store) in &config.stores {
        let of_store = |source: &&SourceConfig| source.store.as_ref() == Some(name);
        let bucket = config.sources.values().filter(of_store).find_map(|source| source.buckets().into_iter().next());
        let what = match &bucket {
            Some(bucket) => format!("store {name}: address and credential, by a listing of bucket {bucket}"),
            None => format!("store {name}: address and credential"),
        };
        let result = client.probe(name, bucket.as_deref(), (Instant::now() + config.fetch.timeout).into()).await;
        let failure = result.err().filter(|error| !is_answer(error, store, bucket.is_some()));
        results.push((what, failure.map(|error| error.detail)));
    }
    results
}

/// Whether a refusal shows that the store knows who asks. Where no bucket is named, what was asked for need not be there, nor be
/// for this credential; and a store that is asked without one may say that it is not public.
fn is_answer(error: &FetchError, store: &StoreConfig, has_bucket: bool) -> bool {
    let is_expected = match error.refusal {
        Some(Refusal::NoPermission | Refusal::BucketMissing) => true,
        Some(Refusal::NotPublic) => store.anonymous,
        _ => false,
    };
    error.kind == FetchErrorKind::NotFound || !has_bucket && is_expected
}

/// None for a store without an endpoint or a usable secret, which the checks of the settings let nobody have.
fn settings(store: &StoreConfig, platform: &Platform) -> Option<StoreSettings> {
    Some(StoreSettings {
        kind: store.kind,
        endpoint: endpoint(store)?,
        region: store.region.clone().unwrap_or_else(|| REGION.to_owned()),
        path_style: store.path_style.unwrap_or(store.endpoint.is_some()),
        account: store.account.clone(),
        credential: credential(store, platform)?,
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

/// None for a secret that is of no use, which the checks of the settings let nobody have.
fn credential(store: &StoreConfig, platform: &Platform) -> Option<CredentialSource> {
    if let Some(secret) = store.secret().ok()? {
        let files = store.has_files().then(|| {
            let store = store.clone();
            SecretFiles::new(move || store.with_files()?.secret()?.ok_or_else(|| "there is no secret".to_owned()))
        });
        return Some(CredentialSource::Given(secret, files, platform.clone()));
    }
    let lender = match store.kind {
        StoreKind::S3 if !store.anonymous => CredentialLender::Aws,
        StoreKind::Azure if !store.anonymous => CredentialLender::Azure,
        StoreKind::Gcs if !store.anonymous => CredentialLender::Google,
        _ => return Some(CredentialSource::Anonymous),
    };
    Some(CredentialSource::Platform(lender, platform.clone()))
}
