//! The client that fetches the keys of others for [`http::trust`](crate::http::trust): the one of blobs, on a thread of its
//! own, under the same rules about whom it may call. What the operator named as an issuer may be called wherever it is.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::oneshot;
use tokio::time::Instant;
use url::Url;

use crate::blob::guard::AllowedHosts;
use crate::blob::{BlobClient, BlobRequest, BlobSettings, Opened, own_thread};
use crate::event::{BlobUrl, FetchTarget};
use crate::http::trust::{FetchDocument, Fetched, MAX_DOCUMENT_BYTES};

/// A fetch that takes longer is given up: a request waits for it.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Fetches at once with one client, and orders that wait.
const MAX_FETCHES: usize = 8;
/// Clients that are kept: one for each issuer, and one for all else.
const MAX_CLIENTS: usize = 64;

struct Order {
    url: BlobUrl,
    named: String,
    reply: oneshot::Sender<Result<Bytes, String>>,
}

/// Fetches on a thread of its own. Its settings may change meanwhile.
pub struct KeyClient {
    settings: Arc<ArcSwap<BlobSettings>>,
    /// Set when somebody first asks: most daemons need no keys of others.
    orders: OnceLock<Option<Sender<Order>>>,
}

impl KeyClient {
    /// A client with the rules of blobs.
    pub fn new(settings: BlobSettings) -> Self {
        let settings = BlobSettings {
            attempt_timeout: TIMEOUT,
            max_blob_bytes: MAX_DOCUMENT_BYTES,
            max_connections: MAX_FETCHES,
            propagate_trace: false,
            ..settings
        };
        KeyClient { settings: Arc::new(ArcSwap::from_pointee(settings)), orders: OnceLock::new() }
    }

    /// From now on these hosts are let through.
    pub fn adopt(&self, allowed_hosts: &AllowedHosts) {
        let old = self.settings.load_full();
        if old.allowed_hosts != *allowed_hosts {
            let allowed_hosts = allowed_hosts.clone();
            self.settings.store(Arc::new(BlobSettings { allowed_hosts, ..(*old).clone() }));
        }
    }
}

async fn carry_out(current: Arc<ArcSwap<BlobSettings>>, mut orders: Receiver<Order>) {
    let mut settings = current.load_full();
    let mut clients: HashMap<String, BlobClient> = HashMap::new();
    while let Some(Order { url, named, reply }) = orders.recv().await {
        let newest = current.load_full();
        if !Arc::ptr_eq(&newest, &settings) {
            settings = newest;
            clients.clear();
        }
        if clients.len() >= MAX_CLIENTS && !clients.contains_key(&named) {
            clients.clear();
        }
        let client = match clients.get(&named) {
            Some(client) => client.clone(),
            None => match BlobClient::new(for_issuer(&settings, &named)) {
                Ok(client) => clients.entry(named).or_insert(client).clone(),
                Err(error) => {
                    let _ = reply.send(Err(error.to_string()));
                    continue;
                }
            },
        };
        actix_rt::spawn(async move {
            let _ = reply.send(fetch(&client, url).await);
        });
    }
}

fn for_issuer(settings: &BlobSettings, named: &str) -> BlobSettings {
    let allowed_hosts = settings.allowed_hosts.and_public(Url::parse(named).ok().as_ref());
    BlobSettings { allowed_hosts, ..settings.clone() }
}

async fn fetch(client: &BlobClient, url: BlobUrl) -> Result<Bytes, String> {
    let target = FetchTarget::Url(url);
    let asked = BlobRequest { target: &target, unless: None, trace: None };
    match client.open(asked, Instant::now() + TIMEOUT, || false).await.map_err(|error| error.to_string())? {
        Opened::Body(download) => download.read().await.map_err(|error| error.to_string()),
        Opened::NotModified | Opened::GaveUp => Err("the fetch was given up".to_owned()),
    }
}

impl FetchDocument for KeyClient {
    fn fetch(&self, url: &str, named: &str) -> Fetched {
        let start = || {
            let settings = self.settings.clone();
            own_thread::start("keys", MAX_FETCHES, |orders| carry_out(settings, orders)).ok()
        };
        let orders = self.orders.get_or_init(start).clone();
        let (url, named) = (BlobUrl::parse(url), named.to_owned());
        Box::pin(async move {
            let (url, orders) = (url.ok_or("its URL is not allowed")?, orders.ok_or("no thread can be started")?);
            let (reply, answer) = oneshot::channel();
            orders.send(Order { url, named, reply }).await.map_err(|_| "the service is stopping")?;
            answer.await.unwrap_or_else(|_| Err("the fetch was given up".to_owned()))
        })
    }
}
