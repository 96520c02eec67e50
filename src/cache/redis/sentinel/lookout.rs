//! The sentinels: whom they name as the master, and what is remembered of those that were.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout};

use crate::cache::CacheError;
use crate::cache::redis::address::Address;
use crate::cache::redis::batch::unexpected;
use crate::cache::redis::budget::Budget;
use crate::cache::redis::connection::{NO_CREDENTIALS, unavailable};
use crate::cache::redis::encode::Outbox;
use crate::cache::redis::reply::Frame;
use crate::cache::redis::settings::TlsClient;
use crate::cache::redis::{MAX_OWN_BYTES, Part, RedisSession, Settings, SetupError, Shared, checked};

/// After the first answer the other sentinels have so long.
pub(super) const GRACE: Duration = Duration::from_millis(50);
/// Masters whose debts are remembered.
const MAX_MASTERS: usize = 64;

pub(super) struct Finder {
    pub(super) settings: Settings,
    tls: Option<TlsClient>,
    pub(super) name: String,
    pub(super) watchers: Vec<Watcher>,
    /// What is known of each that was a master.
    masters: Mutex<HashMap<Address, Arc<Shared>>>,
}

/// A sentinel. It may have credentials of its own or none: ours are used if it asks for some.
pub(super) struct Watcher {
    pub(super) address: Address,
    with: Arc<Shared>,
    without: Arc<Shared>,
}

impl Finder {
    pub(super) fn new(settings: Settings, sentinels: Vec<Address>, name: String) -> Result<Self, SetupError> {
        if sentinels.is_empty() || name.is_empty() {
            return Err(SetupError::NoSentinels);
        }
        let tls = checked(&settings)?;
        let mut watchers = Vec::new();
        for address in sentinels {
            let with = Shared::at(&Settings { db: 0, ..settings.clone() }, tls.as_ref(), &address, Part::Alone)?;
            let bare = Settings { username: None, password: None, db: 0, ..settings.clone() };
            let without = Shared::at(&bare, tls.as_ref(), &address, Part::Alone)?;
            watchers.push(Watcher { address, with: Arc::new(with), without: Arc::new(without) });
        }
        Ok(Finder { settings, tls, name, watchers, masters: Mutex::default() })
    }

    fn masters(&self) -> MutexGuard<'_, HashMap<Address, Arc<Shared>>> {
        self.masters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn session(&self, address: &Address) -> Result<RedisSession, CacheError> {
        let mut masters = self.masters();
        if let Some(known) = masters.get(address) {
            return Ok(RedisSession::new(known.clone()));
        }
        masters.retain(|_, server| Arc::strong_count(server) > 1 || !server.debts().is_empty());
        if masters.len() >= MAX_MASTERS {
            return Err(unavailable("the sentinels have named too many masters"));
        }
        let server = Shared::at(&self.settings, self.tls.as_ref(), address, Part::Master)
            .map_err(|error| unavailable(format!("the master cannot be reached: {error}")))?;
        let server = Arc::new(server);
        masters.insert(address.clone(), server.clone());
        Ok(RedisSession::new(server))
    }
}

/// Lines to the sentinels.
pub(super) struct Lookout {
    finder: Arc<Finder>,
    lines: HashMap<Address, RedisSession>,
}

impl Lookout {
    pub(super) fn new(finder: Arc<Finder>) -> Self {
        Lookout { finder, lines: HashMap::new() }
    }

    /// Addresses the sentinels name, the best first.
    pub(super) async fn ask(&mut self) -> Result<Vec<Address>, CacheError> {
        let mut calls = FuturesUnordered::new();
        for watcher in &self.finder.watchers {
            let line = self.lines.remove(&watcher.address);
            calls.push(told(&self.finder, watcher, line));
        }
        let mut failure = unavailable("no sentinel answered in time");
        // By address: the epoch, and how many say so.
        let mut named: HashMap<Address, (u64, usize)> = HashMap::new();
        let mut until = Instant::now() + self.finder.settings.connect_timeout;
        while let Ok(Some((watcher, line, result))) =
            timeout(until.saturating_duration_since(Instant::now()), calls.next()).await
        {
            match result {
                Ok((address, epoch)) => {
                    until = until.min(Instant::now() + GRACE);
                    let (greatest, count) = named.entry(address).or_default();
                    (*greatest, *count) = (epoch.max(*greatest), *count + 1);
                    self.lines.insert(watcher, line);
                }
                Err(error) => failure = error,
            }
        }
        let mut named: Vec<_> = named.into_iter().collect();
        named.sort_by_key(|(_, rank)| std::cmp::Reverse(*rank));
        let addresses: Vec<Address> = named.into_iter().map(|(address, _)| address).collect();
        if addresses.is_empty() { Err(failure) } else { Ok(addresses) }
    }
}

type Named = Result<(Address, u64), CacheError>;

async fn told(finder: &Finder, watcher: &Watcher, line: Option<RedisSession>) -> (Address, RedisSession, Named) {
    let within = finder.settings.connect_timeout;
    let mut line = line.unwrap_or_else(|| RedisSession::new(watcher.without.clone()));
    let mut opened = line.open(within).await;
    if opened == Err(unavailable(NO_CREDENTIALS)) && finder.settings.password.is_some() {
        line = RedisSession::new(watcher.with.clone());
        opened = line.open(within).await;
    }
    let named = match opened {
        Ok(()) => {
            let mut outbox = Outbox::new();
            outbox.pack(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", finder.name.as_bytes()]);
            outbox.pack(&[b"SENTINEL", b"MASTER", finder.name.as_bytes()]);
            line.call(outbox, MAX_OWN_BYTES, Budget::new(within)).await.and_then(|frames| read(frames, watcher))
        }
        Err(error) => Err(error),
    };
    (watcher.address.clone(), line, named)
}

/// The address, and the epoch that it was given in: 0 if the sentinel does not tell.
fn read(frames: Vec<Frame>, watcher: &Watcher) -> Named {
    let mut frames = frames.into_iter();
    let (host, port) = match (frames.next(), frames.next(), frames.next()) {
        (Some(Frame::Array(2)), Some(Frame::Text(host)), Some(Frame::Text(port))) => (host, port),
        (Some(Frame::Nil), ..) => return Err(unavailable("the sentinels know no master of that name")),
        (Some(Frame::Error(code)), ..) => {
            return Err(unavailable(format!("a sentinel answered {}", code.as_str())));
        }
        _ => return Err(unexpected()),
    };
    let host = Address::read_host(&host).ok_or_else(unexpected)?;
    let port = std::str::from_utf8(&port).ok().and_then(|port| port.parse().ok()).filter(|port| *port != 0);
    let address = Address::new(host.as_deref().unwrap_or(&watcher.address.host), port.ok_or_else(unexpected)?);
    let fields: Vec<Frame> = frames.skip(1).collect();
    let epoch = fields.chunks(2).find_map(|field| match field {
        [Frame::Text(name), Frame::Text(value)] if &name[..] == b"config-epoch" => {
            std::str::from_utf8(value).ok()?.parse().ok()
        }
        _ => None,
    });
    Ok((address, epoch.unwrap_or(0)))
}
