//! The sentinels: whom they name as the master, and what is remembered of those that were.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout};

use crate::redis::MAX_OWN_BYTES;
use crate::redis::address::Address;
use crate::redis::cause::NO_CREDENTIALS;
use crate::redis::deadline::Deadline;
use crate::redis::encode::Encoder;
use crate::redis::error::{Error, unavailable, unexpected};
use crate::redis::reply::Frame;
use crate::redis::server::{Role, Server};
use crate::redis::session::ServerSession;
use crate::redis::settings::{SentinelAccess, Settings, SetupError, TlsClient};

/// How long the other sentinels may take after the first answer.
pub(crate) const GRACE: Duration = Duration::from_millis(50);
/// Former masters whose abandoned connections are remembered.
const MAX_MASTERS: usize = 64;
/// If all sentinels report the same older epoch for this long, they were set up anew.
const TRUST: Duration = Duration::from_secs(15);

pub(crate) struct SentinelGroup {
    pub(crate) settings: Settings,
    tls: Option<TlsClient>,
    pub(crate) name: String,
    pub(crate) sentinels: Vec<SentinelNode>,
    /// Servers that are or were masters, the last named one at the end.
    masters: Mutex<Vec<(Address, Arc<Server>)>>,
    trusted: Mutex<TrustedEpoch>,
    /// The epoch in `trusted`, for readers that take no lock.
    epoch: AtomicU64,
}

/// The epoch whose answers count: the greatest that any session has seen. A sentinel that was cut off during an election
/// names the old master, which may still accept writes that are lost later.
#[derive(Default)]
struct TrustedEpoch {
    epoch: u64,
    /// An older epoch that all sentinels report, and since when.
    older: Option<(u64, Instant)>,
}

impl TrustedEpoch {
    /// Takes note of the epochs that sentinels reported; `is_all`: all of them answered.
    fn note(&mut self, epochs: &[u64], is_all: bool, now: Instant) {
        let Some(greatest) = epochs.iter().copied().max() else { return };
        if greatest >= self.epoch {
            *self = TrustedEpoch { epoch: greatest, older: None };
            return;
        }
        let agree = is_all && epochs.iter().all(|epoch| *epoch == greatest);
        self.older = match self.older {
            Some((epoch, since)) if agree && epoch == greatest => Some((epoch, since)),
            _ => agree.then_some((greatest, now)),
        };
        if let Some((epoch, since)) = self.older
            && now - since >= TRUST
        {
            *self = TrustedEpoch { epoch, older: None };
        }
    }
}

/// Masters that sentinels name, the best first, and the epoch in which they were elected.
pub(crate) struct NamedMasters {
    pub(crate) addresses: Vec<Address>,
    pub(crate) epoch: u64,
}

/// A sentinel. Without credentials for sentinels, those of the master are used if it asks for some.
pub(crate) struct SentinelNode {
    pub(crate) address: Address,
    with: Arc<Server>,
    without: Arc<Server>,
}

impl SentinelGroup {
    /// `settings` are for the master, but for its address, which the `sentinels` know. Connects to nothing.
    ///
    /// # Errors
    /// No sentinels or no name, or what TLS cannot use.
    pub(crate) fn new(settings: Settings, addresses: Vec<Address>, name: String) -> Result<Self, SetupError> {
        if addresses.is_empty() || name.is_empty() {
            return Err(SetupError::NoSentinels);
        }
        let tls = settings.tls_client()?;
        let theirs = of_sentinels(&settings);
        let their_tls = theirs.tls_client()?;
        let bare = Settings { username: None, password: None, reread: None, ..theirs.clone() };
        let has_own = settings.sentinels.as_ref().is_some_and(SentinelAccess::has_login);
        let mut sentinels = Vec::new();
        for address in addresses {
            let at = |settings| Server::at(settings, their_tls.as_ref(), &address, Role::Sentinel).map(Arc::new);
            let with = at(&theirs)?;
            let without = if has_own { with.clone() } else { at(&bare)? };
            sentinels.push(SentinelNode { address, with, without });
        }
        Ok(SentinelGroup {
            settings,
            tls,
            name,
            sentinels,
            masters: Mutex::default(),
            trusted: Mutex::default(),
            epoch: AtomicU64::new(0),
        })
    }

    /// What to call the master in a message, without secrets.
    pub(crate) fn describe(&self) -> String {
        let tls = if self.settings.tls.is_some() { " with TLS" } else { "" };
        let at: Vec<String> = self.sentinels.iter().map(|sentinel| sentinel.address.to_string()).collect();
        format!("redis master {}{tls} by sentinels at {}", self.name, at.join(","))
    }

    fn masters(&self) -> MutexGuard<'_, Vec<(Address, Arc<Server>)>> {
        self.masters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The epoch of the masters that are believed in.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// A session to a master that sentinels name now.
    ///
    /// What is owed to masters of the past is remembered while they are few, the last named first. More were each followed
    /// by a newer one: a sentinel that makes a replica of an old master closes its connections, and it drops what it
    /// alone had.
    pub(crate) fn session(&self, address: &Address) -> Result<ServerSession, Error> {
        let mut masters = self.masters();
        let known = masters.iter().position(|(known, _)| known == address);
        let server = match known {
            Some(place) => masters.remove(place).1,
            None => Server::at(&self.settings, self.tls.as_ref(), address, Role::Master)
                .map(Arc::new)
                .map_err(|error| unavailable(format!("the master cannot be reached: {error}")))?,
        };
        let is_used = |server: &Arc<Server>| Arc::strong_count(server) > 1;
        masters.retain(|(_, server)| is_used(server) || server.has_abandoned());
        if masters.len() >= MAX_MASTERS
            && let Some(oldest) = masters.iter().position(|(_, server)| !is_used(server))
        {
            masters.remove(oldest);
        }
        masters.push((address.clone(), server.clone()));
        Ok(ServerSession::new(server))
    }

    /// What to make of the answers of one round.
    fn choose(&self, told: Vec<(Address, u64)>) -> Result<NamedMasters, Error> {
        let epochs: Vec<u64> = told.iter().map(|(_, epoch)| *epoch).collect();
        let epoch = {
            let mut trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
            trusted.note(&epochs, epochs.len() == self.sentinels.len(), Instant::now());
            self.epoch.store(trusted.epoch, Ordering::Release);
            trusted.epoch
        };
        // By address: how many say so.
        let mut named: HashMap<Address, usize> = HashMap::new();
        for (address, _) in told.into_iter().filter(|(_, own)| *own == epoch) {
            *named.entry(address).or_default() += 1;
        }
        if named.is_empty() {
            return Err(unavailable("the sentinels that answer have not heard of the last election"));
        }
        let mut named: Vec<_> = named.into_iter().collect();
        named.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Ok(NamedMasters { addresses: named.into_iter().map(|(address, _)| address).collect(), epoch })
    }
}

/// How the sentinels are reached: as the master, but for what is theirs alone.
fn of_sentinels(settings: &Settings) -> Settings {
    let mut theirs = Settings { db: 0, ..settings.clone() };
    if let Some(SentinelAccess { username, password, reread, tls }) = settings.sentinels.clone() {
        theirs.tls = tls;
        if username.is_some() || password.is_some() {
            (theirs.username, theirs.password, theirs.reread) = (username, password, reread);
        }
    }
    theirs
}

/// Lines to the sentinels.
pub(crate) struct MasterDiscovery {
    group: Arc<SentinelGroup>,
    lines: HashMap<Address, ServerSession>,
}

impl MasterDiscovery {
    pub(crate) fn new(group: Arc<SentinelGroup>) -> Self {
        MasterDiscovery { group, lines: HashMap::new() }
    }

    /// Whom the sentinels name.
    pub(crate) async fn ask(&mut self) -> Result<NamedMasters, Error> {
        let mut calls = FuturesUnordered::new();
        for sentinel in &self.group.sentinels {
            let line = self.lines.remove(&sentinel.address);
            calls.push(ask_one(&self.group, sentinel, line));
        }
        let mut failure = unavailable("no sentinel answered in time");
        let mut answers = Vec::new();
        let mut until = Instant::now() + self.group.settings.connect_timeout;
        while let Ok(Some((sentinel, line, result))) =
            timeout(until.saturating_duration_since(Instant::now()), calls.next()).await
        {
            match result {
                Ok(told) => {
                    until = until.min(Instant::now() + GRACE);
                    answers.push(told);
                    self.lines.insert(sentinel, line);
                }
                Err(error) => failure = error,
            }
        }
        if answers.is_empty() { Err(failure) } else { self.group.choose(answers) }
    }
}

type MasterReply = Result<(Address, u64), Error>;

async fn ask_one(
    group: &SentinelGroup,
    sentinel: &SentinelNode,
    line: Option<ServerSession>,
) -> (Address, ServerSession, MasterReply) {
    let within = group.settings.connect_timeout;
    let mut line = line.unwrap_or_else(|| ServerSession::new(sentinel.without.clone()).only_asks());
    let mut opened = line.open(within).await;
    if asks_for_a_password(&opened) && group.settings.password.is_some() {
        line = ServerSession::new(sentinel.with.clone()).only_asks();
        opened = line.open(within).await;
    }
    let named = match opened {
        Ok(()) => {
            let mut encoder = Encoder::new();
            // The epoch first: should an election end between the two, the old master must not pass for the new epoch's.
            encoder.pack(&[b"SENTINEL", b"MASTER", group.name.as_bytes()]);
            encoder.pack(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", group.name.as_bytes()]);
            line.call(encoder, MAX_OWN_BYTES, Deadline::new(within)).await.and_then(|frames| read(frames, sentinel))
        }
        Err(error) => Err(error),
    };
    (sentinel.address.clone(), line, named)
}

fn asks_for_a_password(opened: &Result<(), Error>) -> bool {
    matches!(opened, Err(Error::Unavailable(detail)) if detail.ends_with(NO_CREDENTIALS))
}

/// The address, and the epoch that it was given in: 0 if the sentinel does not tell.
fn read(frames: Vec<Frame>, sentinel: &SentinelNode) -> MasterReply {
    let mut frames = frames.into_iter();
    let mut epoch = 0;
    if let Some(Frame::Array(elements)) = frames.next() {
        let fields: Vec<Frame> = frames.by_ref().take(elements).collect();
        let told = fields.chunks(2).find_map(|field| match field {
            [Frame::Text(name), Frame::Text(value)] if &name[..] == b"config-epoch" => {
                std::str::from_utf8(value).ok()?.parse().ok()
            }
            _ => None,
        });
        epoch = told.unwrap_or(0);
    }
    let (host, port) = match (frames.next(), frames.next(), frames.next()) {
        (Some(Frame::Array(2)), Some(Frame::Text(host)), Some(Frame::Text(port))) => (host, port),
        (Some(Frame::Nil), ..) => return Err(unavailable("the sentinels do not know a master of that name")),
        (Some(Frame::Error(code)), ..) => {
            return Err(unavailable(format!("a sentinel answered {}", code.as_str())));
        }
        _ => return Err(unexpected()),
    };
    let host = Address::read_host(&host).ok_or_else(unexpected)?;
    let port = std::str::from_utf8(&port).ok().and_then(|port| port.parse().ok()).filter(|port| *port != 0);
    let address = Address::new(host.as_deref().unwrap_or(&sentinel.address.host), port.ok_or_else(unexpected)?);
    Ok((address, epoch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_that_is_believed_goes_back_only_if_all_sentinels_were_set_up_anew() {
        let (mut trusted, start) = (TrustedEpoch::default(), Instant::now());
        let mut hear = |epochs: &[u64], is_all: bool, after: Duration| {
            trusted.note(epochs, is_all, start + after);
            trusted.epoch
        };
        let second = Duration::from_secs(1);
        assert_eq!(hear(&[3, 5], false, Duration::ZERO), 5);
        assert_eq!(hear(&[3], false, TRUST * 9), 5);
        assert_eq!(hear(&[3, 4], true, TRUST * 9), 5);
        assert_eq!(hear(&[1, 1], true, TRUST * 9), 5);
        assert_eq!(hear(&[1], false, TRUST * 10), 5);
        assert_eq!(hear(&[1, 1], true, TRUST * 10), 5);
        assert_eq!(hear(&[1, 1], true, TRUST * 11 - second), 5);
        assert_eq!(hear(&[1, 1], true, TRUST * 11), 1);
        assert_eq!(hear(&[2], false, TRUST * 11), 2);
    }
}
