//! Blobs that go to the cache as they come in: past admission, for no more than a piece of each is held.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use futures::future::ready;
use futures::{FutureExt, StreamExt, stream};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::task::yield_now;
use tokio::time::timeout_at;

use super::request::{FetchRequest, FetchResult};
use super::shared::WritePermission;
use crate::blob::{Download, FetchError};
use crate::cache::remembered::Fingerprinter;
use crate::cache::{Cache, CacheError, Command, Incoming, Remembered, Reply, Session, StreamError};

/// Blobs that are passed on at once in the whole process, each over a connection to the cache of its own.
pub const MAX_STREAMS: usize = 32;
/// Of those, blobs of one host: one that sends slowly leaves places to the others.
const MAX_OF_HOST: usize = 24;
/// Connections that a fetcher keeps for the next ones.
const MAX_IDLE: usize = 2;

/// Which blobs are passed on, and how many at once; the same for all fetchers.
#[derive(Clone)]
pub struct Passage {
    /// Takes them.
    pub cache: Arc<dyn Cache>,
    /// Blobs of a known length above this are streamed (`fetch.stream_bytes`).
    pub from_bytes: usize,
    /// A place for each at once.
    pub places: Arc<StreamPlaces>,
}

/// The places of blobs that are passed on: [`MAX_STREAMS`] in all, [`MAX_OF_HOST`] for each host.
pub struct StreamPlaces {
    all: Semaphore,
    /// Of the hosts of which something is passed on, or waits for a place.
    of_hosts: Mutex<HashMap<Arc<str>, Weak<Semaphore>>>,
}

impl StreamPlaces {
    /// All are free.
    pub fn new() -> Arc<Self> {
        Arc::new(StreamPlaces { all: Semaphore::new(MAX_STREAMS), of_hosts: Mutex::default() })
    }

    /// Waits for a place, up to then.
    async fn take(
        &self,
        host: &Arc<str>,
        until: Instant,
    ) -> Result<(OwnedSemaphorePermit, SemaphorePermit<'_>), FetchError> {
        let taken =
            async { Ok::<_, AcquireError>((self.of_host(host).acquire_owned().await?, self.all.acquire().await?)) };
        timeout_at(until.into(), taken).await.ok().and_then(Result::ok).ok_or_else(FetchError::no_place)
    }

    /// The same for what needs nothing of a host.
    async fn take_any(&self, until: Instant) -> Result<SemaphorePermit<'_>, FetchError> {
        timeout_at(until.into(), self.all.acquire()).await.ok().and_then(Result::ok).ok_or_else(FetchError::no_place)
    }

    fn of_host(&self, host: &Arc<str>) -> Arc<Semaphore> {
        let mut of_hosts = self.of_hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = of_hosts.get(host).and_then(Weak::upgrade) {
            return places;
        }
        of_hosts.retain(|_, places| places.strong_count() > 0);
        let places = Arc::new(Semaphore::new(MAX_OF_HOST));
        of_hosts.insert(host.clone(), Arc::downgrade(&places));
        places
    }
}

/// A fetcher's way to the cache.
pub(super) struct Streaming {
    passage: Passage,
    idle: RefCell<Vec<Box<dyn Session>>>,
}

impl Streaming {
    pub(super) fn new(passage: Passage) -> Self {
        Streaming { passage, idle: RefCell::default() }
    }

    /// Whether a blob of this length is passed on.
    pub(super) fn takes(&self, length: Option<usize>) -> bool {
        self.passage.cache.takes_streams() && length.is_some_and(|length| length > self.passage.from_bytes)
    }

    /// Whether a blob that its host calls the same is too long to be let stand with others ([`Command::Refresh`]).
    pub(super) fn lets_stand(&self, request: &FetchRequest) -> bool {
        self.passage.cache.takes_streams() && request.is_long()
    }

    /// Lets the value stand that the key has, if it is what is remembered. `permit_write` is asked before anything is sent.
    pub(super) async fn let_stand<'s>(
        &self,
        request: &FetchRequest,
        until: Instant,
        permit_write: impl Fn() -> Option<WritePermission<'s>>,
    ) -> FetchResult {
        let _place = match self.passage.places.take_any(until).await {
            Ok(place) => place,
            Err(error) => return FetchResult::Failed(error),
        };
        let (Some(remembered), Some(version)) = (request.known.clone(), request.version.clone()) else {
            return FetchResult::Lost;
        };
        let refresh = Command::Refresh { key: request.key.clone(), ttl: request.ttl, version, remembered };
        let Some(_let_through) = permit_write() else { return FetchResult::Lost };
        let mut session = self.session();
        match session.refresh_long(&refresh, until.saturating_duration_since(Instant::now())).await {
            Ok(reply) => {
                self.keep(session);
                FetchResult::LetStand(reply)
            }
            // It can be written anew without what was refused.
            Err(CacheError::Refused(_)) => FetchResult::LetStand(Reply::Changed),
            Err(error) => FetchResult::NotWritten(error),
        }
    }

    fn session(&self) -> Box<dyn Session> {
        let kept = self.idle.borrow_mut().pop();
        kept.unwrap_or_else(|| self.passage.cache.streaming_session())
    }

    fn keep(&self, session: Box<dyn Session>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE {
            idle.push(session);
        }
    }

    /// Closes the connections that nothing is sent over.
    pub(super) fn close_idle(&self) {
        self.idle.borrow_mut().clear();
    }

    /// Has the cache take the blob in while it is downloaded. `permit_write` is asked before the last of it is sent.
    pub(super) async fn store<'s>(
        &self,
        download: Download,
        length: usize,
        request: &FetchRequest,
        until: Instant,
        permit_write: impl Fn() -> Option<WritePermission<'s>>,
    ) -> FetchResult {
        let _place = match self.passage.places.take(&request.host, until).await {
            Ok(place) => place,
            Err(error) => return FetchResult::Failed(error),
        };
        // What was let through counts until the session is done with it, or has been given up.
        let (passing, mut session) = (RefCell::new(None), self.session());
        let (failure, comparison) = (Cell::new(None), RefCell::new(request.expected.as_deref().map(|it| it.compare())));
        let etag = download.etag().filter(|etag| request.version.is_some() && !etag.is_weak()).cloned();
        let (resource, print) = (download.resource(), RefCell::new(etag.is_some().then(Fingerprinter::new)));
        let remembered = || {
            let (etag, print) = (etag.clone()?, print.take()?.finish());
            Some(Remembered { etag, resource, print })
        };
        // Where host and cache are fast, neither is ever waited for: each piece gives way to what else is ready.
        let given_way = download.into_pieces().then(|piece| yield_now().map(|()| piece));
        let passed = given_way.map(|piece| match piece {
            Ok(piece) => {
                print.borrow_mut().iter_mut().for_each(|print| print.add(&piece));
                comparison.borrow_mut().iter_mut().for_each(|comparison| comparison.add(&piece));
                Some(piece)
            }
            Err(error) => {
                failure.set(Some(error));
                None
            }
        });
        // The cache runs nothing before the end is let through.
        let end = stream::once(ready(())).filter_map(|()| {
            let ended = comparison.take().map_or(Ok(()), |comparison| comparison.finish());
            let is_good = ended.map_err(|difference| failure.set(Some(FetchError::differs(difference)))).is_ok();
            // A process that was stopped may come back long after its time.
            let is_late = Instant::now() >= until;
            if is_late {
                failure.set(Some(FetchError::too_late()));
            }
            if is_good && !is_late {
                *passing.borrow_mut() = permit_write();
            }
            ready(passing.borrow().is_none().then_some(None))
        });
        let pieces = pin!(passed.chain(end));
        let (key, ttl, version) = (&request.key, request.ttl, request.version.as_ref());
        let incoming = Incoming { key, bytes: length, ttl, version, remembered: &remembered, pieces };
        match session.store_incoming(incoming, until.saturating_duration_since(Instant::now())).await {
            Ok(reply) => {
                self.keep(session);
                FetchResult::Written { reply, bytes: length }
            }
            Err(StreamError::BrokeOff) => failure.take().map_or(FetchResult::Lost, FetchResult::Failed),
            Err(StreamError::Cache(error)) => FetchResult::NotWritten(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[actix_web::test]
    async fn a_host_that_sends_slowly_leaves_places_to_others() {
        let (places, until) = (StreamPlaces::new(), Instant::now() + Duration::from_secs(60));
        let take = |host: &Arc<str>| places.take(host, until).now_or_never().and_then(Result::ok);
        let [slow, other, third] = ["slow", "other", "third"].map(Arc::from);
        let of_slow: Vec<_> = std::iter::from_fn(|| take(&slow)).collect();
        let of_other: Vec<_> = std::iter::from_fn(|| take(&other)).collect();
        assert_eq!((of_slow.len(), of_other.len()), (MAX_OF_HOST, MAX_STREAMS - MAX_OF_HOST));
        drop(of_slow);
        assert!(take(&third).is_some() && places.of_hosts.lock().expect("no panic").len() == 2, "others are forgotten");
    }
}
