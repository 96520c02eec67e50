//! Asks the other replicas for their state, for the page of this one ([`http::AskPeers`](crate::http::AskPeers)): those of
//! `http.peers`, and no others. Runs on a thread of its own, which begins when somebody first looks.
//!
//! Every address of a URL's host is a replica: the name may be that of a headless Service, or there is a URL for each. Whether
//! one of them is this replica itself shows in its answer. Redirects are not followed: they would take the token along.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use rustls::ClientConfig;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use url::{Host, Url};

use super::client::{client, pinned, tls};
use crate::blob::{lookups, own_thread};
use crate::config::{self, Config, TlsFiles};
use crate::http::{AllPeers, AskPeers, PeerAnswer, PeerAnswers};

/// Replicas that are asked, at most.
const MAX_PEERS: usize = 32;
/// For one name, and then for one replica up to the last byte of its answer.
const WITHIN: Duration = Duration::from_millis(1500);
/// How long the addresses of a name are kept.
const FRESH: Duration = Duration::from_secs(5);
/// Readers whose questions are carried out at once; others wait.
const MAX_ROUNDS: usize = 4;
/// Bytes of one answer.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Below each URL.
const PATH: &str = "/replica.json";

struct Order {
    authorization: Option<String>,
    reply: oneshot::Sender<AllPeers>,
}

struct Peers {
    settings: PeerSettings,
    /// Set when somebody first looks.
    orders: OnceLock<Option<Sender<Order>>>,
}

#[derive(Clone)]
struct PeerSettings {
    urls: Vec<Url>,
    /// Where this replica listens: of a name with addresses of both families, those of this one count.
    bind: IpAddr,
    /// The certificate that all replicas share; None: they have none of their own.
    tls: Option<TlsFiles>,
}

/// One address of a URL.
struct Peer {
    /// For a person.
    shown: String,
    /// Its page.
    page: String,
    url: String,
    address: SocketAddr,
}

/// None: no peers are set.
pub fn peers(config: &Config) -> Option<Arc<dyn AskPeers>> {
    let urls: Vec<Url> = urls(config).collect();
    let tls = config.http.tls.as_ref().map(|tls| tls.files.clone());
    let settings = PeerSettings { urls, bind: config.bind, tls };
    (!settings.urls.is_empty()).then(|| Arc::new(Peers { settings, orders: OnceLock::new() }) as Arc<dyn AskPeers>)
}

/// The names of the peers: the service may be called by them.
pub fn names(config: &Config) -> impl Iterator<Item = String> {
    urls(config).filter_map(|url| url.domain().map(str::to_owned))
}

fn urls(config: &Config) -> impl Iterator<Item = Url> {
    config.http.peers.iter().filter_map(|url| Url::parse(url).ok())
}

impl AskPeers for Peers {
    fn ask(&self, authorization: Option<String>) -> PeerAnswers {
        let start = || {
            let settings = self.settings.clone();
            own_thread::start("peers", MAX_ROUNDS, |orders| carry_out(settings, orders)).ok()
        };
        let orders = self.orders.get_or_init(start).clone();
        Box::pin(async move {
            let (reply, answers) = oneshot::channel();
            if let Some(orders) = orders {
                let _ = orders.send(Order { authorization, reply }).await;
            }
            answers.await.unwrap_or_default()
        })
    }
}

async fn carry_out(settings: PeerSettings, mut orders: Receiver<Order>) {
    let asker = Rc::new(Asker { settings, known: RefCell::default() });
    let places = Arc::new(Semaphore::new(MAX_ROUNDS));
    while let Some(Order { authorization, reply }) = orders.recv().await {
        let (asker, place) = (asker.clone(), places.clone().acquire_owned().await);
        actix_rt::spawn(async move {
            let _ = reply.send(asker.ask_all(authorization.as_deref()).await);
            drop(place);
        });
    }
}

struct Asker {
    settings: PeerSettings,
    /// The addresses of names, and when they were looked up.
    known: RefCell<HashMap<String, (Instant, Vec<IpAddr>)>>,
}

impl Asker {
    async fn ask_all(&self, authorization: Option<&str>) -> AllPeers {
        let (urls, beyond) = self.settings.urls.split_at(self.settings.urls.len().min(MAX_PEERS));
        let found = join_all(urls.iter().map(|url| self.find(url))).await;
        let (mut peers, mut answers) = (Vec::new(), Vec::new());
        for found in found {
            match found {
                Ok(found) => peers.extend(found),
                Err(unknown) => answers.push(unknown),
            }
        }
        let left_out = beyond.len() + peers.len().saturating_sub(MAX_PEERS);
        peers.truncate(MAX_PEERS);
        match self.tls() {
            Ok(tls) => answers.extend(join_all(peers.iter().map(|peer| peer.ask(&tls, authorization))).await),
            Err(why) => answers.extend(peers.iter().map(|peer| peer.answered(Err(why.clone())))),
        }
        AllPeers { answers, left_out }
    }

    /// One for each address of the URL.
    async fn find(&self, url: &Url) -> Result<Vec<Peer>, PeerAnswer> {
        let unknown = |why: String| PeerAnswer { address: authority(url), page: None, body: Err(why) };
        let port = url.port_or_known_default().unwrap_or_default();
        let addresses = match url.host() {
            Some(Host::Ipv4(address)) => vec![IpAddr::V4(address)],
            Some(Host::Ipv6(address)) => vec![IpAddr::V6(address)],
            Some(Host::Domain(name)) => self.look_up(name).await.map_err(unknown)?,
            None => Vec::new(),
        };
        let is_one = addresses.len() == 1;
        let shown = |address| if is_one { authority(url) } else { SocketAddr::new(address, port).to_string() };
        let (asked, below) =
            (format!("{}{PATH}", url.as_str().trim_end_matches('/')), url.path().trim_end_matches('/'));
        let peer = |address| {
            let (shown, address) = (shown(address), SocketAddr::new(address, port));
            Peer { page: format!("{}://{shown}{below}/", url.scheme()), shown, url: asked.clone(), address }
        };
        Ok(addresses.into_iter().map(peer).collect())
    }

    async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        if let Some((at, known)) = self.known.borrow().get(name)
            && at.elapsed() < FRESH
        {
            return Ok(known.clone());
        }
        let found = timeout(WITHIN, lookups::addresses(name)).await;
        let found = found.map_err(|_| format!("its name was not resolved within {} ms", WITHIN.as_millis()))?;
        let found = found.map_err(|_| "its name cannot be resolved".to_owned())?;
        let found = of_family(self.settings.bind, &found);
        self.known.borrow_mut().insert(name.to_owned(), (Instant::now(), found.clone()));
        Ok(found)
    }

    /// As the replicas of one deployment share their certificate, an `https` peer must show that of this one, and is shown it.
    /// Without one of its own, something before the replicas speaks TLS, and the usual authorities vouch for it.
    fn tls(&self) -> Result<ClientConfig, String> {
        let Some(files) = &self.settings.tls else { return tls(None, None).map_err(|error| error.to_string()) };
        let held = config::tls_in(files).map_err(|why| format!("http.tls_cert and its key: {why}"))?;
        pinned(held.cert.expose(), held.key.expose()).map_err(|error| error.to_string())
    }
}

impl Peer {
    async fn ask(&self, tls: &ClientConfig, authorization: Option<&str>) -> PeerAnswer {
        let late = |_| Err(format!("no answer within {} ms", WITHIN.as_millis()));
        self.answered(timeout(WITHIN, self.body(tls, authorization)).await.unwrap_or_else(late))
    }

    /// Over a connection of its own: a client tells connections apart by the name alone, which several addresses have.
    async fn body(&self, tls: &ClientConfig, authorization: Option<&str>) -> Result<Bytes, String> {
        let request = client(tls.clone(), 1, 2 * WITHIN).get(&self.url).address(self.address).force_close();
        let request = match authorization {
            Some(authorization) => request.insert_header(("Authorization", authorization)),
            None => request,
        };
        let mut response = request.send().await.map_err(|error| error.to_string())?;
        match response.status().as_u16() {
            200 => {}
            401 => return Err("it does not accept this token".to_owned()),
            403 => return Err("this token may not read its state".to_owned()),
            404 => return Err("it has no /replica.json: http.page is off there, or its version is older".to_owned()),
            status => return Err(format!("it answered {status}")),
        }
        let body = response.body().limit(MAX_ANSWER_BYTES).await;
        body.map_err(|_| format!("its answer is cut short, or larger than {} KiB", MAX_ANSWER_BYTES / 1024))
    }

    fn answered(&self, body: Result<Bytes, String>) -> PeerAnswer {
        PeerAnswer { address: self.shown.clone(), page: Some(self.page.clone()), body }
    }
}

/// Host and port.
fn authority(url: &Url) -> String {
    url[url::Position::BeforeHost..url::Position::AfterPort].to_owned()
}

/// The addresses that are of the same family as this one, each once; all of them if there are none.
fn of_family(own: IpAddr, found: &[IpAddr]) -> Vec<IpAddr> {
    let of_family: BTreeSet<IpAddr> =
        found.iter().copied().filter(|address| address.is_ipv4() == own.is_ipv4()).collect();
    let all = || found.iter().copied().collect::<BTreeSet<IpAddr>>();
    let addresses = if of_family.is_empty() { all() } else { of_family };
    addresses.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_name_with_addresses_of_both_families_those_of_the_listener_count() {
        let all = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let both = all(&["10.0.0.2", "::1", "10.0.0.1", "10.0.0.2"]);
        assert_eq!(of_family("0.0.0.0".parse().unwrap(), &both), all(&["10.0.0.1", "10.0.0.2"]));
        assert_eq!(of_family("::".parse().unwrap(), &both), all(&["::1"]));
        assert_eq!(of_family("::".parse().unwrap(), &both[..1]), all(&["10.0.0.2"]));
    }
}
