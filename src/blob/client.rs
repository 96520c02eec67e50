//! One attempt at a blob: asks, follows redirects, and judges the head. Whether to try again is [`super::retry`]'s to say,
//! and the pipeline's to do.
//!
//! HTTP/1.1 only, over plain TCP or TLS with HTTP/1.1. `Accept-Encoding: identity`: with it a length is known beforehand,
//! and nobody compresses what is decompressed a moment later; codings that come all the same are undone. No cookie
//! or other state is ever sent, and a store's credential to its own host alone, so a redirect from https to http gives
//! nothing away and is followed. Where the trace is told of at all (`fetch.propagate_trace`), it is told to the host of the
//! URL: a redirect to another host or port goes without it, since that one was not named by who sent the event.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use awc::ClientResponse;
use awc::http::Method;
use awc::http::header::{HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH};
use bytes::Bytes;
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::answer::{HeadMeaning, judge};
use super::caller::{Caller, HttpCall, tls_config};
use super::decoding::Decoding;
use super::dial::{NameResolver, by_the_system};
use super::resource::resource;
use super::signs::Signs;
use super::store::{self, ListedPage, Refusal, Store, StorePlace};
use super::{BlobSettings, Download, FetchError, FetchErrorKind, SetupError};
use crate::event::trace::Trace;
use crate::event::{EntityTag, FetchTarget, StoreObject};

/// Redirects followed in one attempt, at most.
pub const MAX_REDIRECTS: u32 = 3;
/// How often an attempt that has heard nothing asks whether to make room for others.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What is behind the point of the golden ratio, in parts of 2^32.
const GOLDEN_RATIO: u32 = 0x9e37_79b9;
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Fetches blobs. One a thread; clones share their connections.
#[derive(Clone)]
pub struct BlobClient {
    inner: Rc<Inner>,
}

struct Inner {
    settings: BlobSettings,
    resolve: NameResolver,
    tls: Arc<ClientConfig>,
    permits: Arc<Semaphore>,
    decoding: Rc<Decoding>,
    /// Attempts so far.
    attempts: Cell<u32>,
    /// Calls what `fetch.allowed_hosts` lets through.
    caller: Caller,
    /// How to reach the stores that were called so far, by name.
    stores: RefCell<HashMap<String, Rc<StoreAccess>>>,
}

/// A store with connections to its own hosts.
struct StoreAccess {
    store: Arc<Store>,
    caller: Caller,
}

/// What an attempt is to bring.
#[derive(Debug, Clone, Copy)]
pub struct BlobRequest<'a> {
    /// Where the blob is.
    pub target: &'a FetchTarget,
    /// The blob is wanted only if it is another than this.
    pub unless: Option<Unless<'a>>,
    /// The trace that the fetch belongs to.
    pub trace: Option<&'a Trace>,
}

/// The state of a resource that is not wanted.
#[derive(Debug, Clone, Copy)]
pub struct Unless<'a> {
    /// Sent as `If-None-Match`.
    pub etag: &'a EntityTag,
    /// What the tag belongs to ([`Download::resource`]). Others are asked without it, a redirect's target among them.
    pub resource: u64,
}

/// What an attempt brought.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one an attempt, moved once, and nearly all are bodies")]
pub enum Opened {
    /// The head of the blob; its body is still to be read.
    Body(Download),
    /// The blob is the one that [`BlobRequest::unless`] names.
    NotModified,
    /// Nothing was heard of the host, and the attempt was told to give up.
    GaveUp,
}

/// What an attempt begins with.
#[derive(Clone, Copy)]
struct First<'a> {
    url: &'a Url,
    /// The path and query as they are sent.
    target: &'a str,
    unless: Option<Unless<'a>>,
    trace: Option<&'a Trace>,
    /// If it is a store that is called.
    access: Option<&'a StoreAccess>,
}

impl BlobClient {
    /// # Errors
    ///
    /// One of `extra_roots` is no usable certificate.
    pub fn new(settings: BlobSettings) -> Result<Self, SetupError> {
        Self::resolving(settings, by_the_system())
    }

    pub(super) fn resolving(settings: BlobSettings, resolve: NameResolver) -> Result<Self, SetupError> {
        let tls = Arc::new(tls_config(&settings)?);
        let caller = Caller::new(&settings, settings.allowed_hosts.clone(), tls.clone(), resolve.clone());
        let permits = Arc::new(Semaphore::new(settings.max_connections.clamp(1, Semaphore::MAX_PERMITS)));
        let (decoding, attempts, stores) = (Rc::default(), Cell::default(), RefCell::default());
        let inner = Inner { settings, resolve, tls, permits, decoding, attempts, caller, stores };
        Ok(BlobClient { inner: Rc::new(inner) })
    }

    /// Resolves, judges, connects, follows redirects and reads the head. `until` ends the attempt, the body included.
    /// As long as nothing is heard of the host, `gives_up` is asked four times a second, at other moments than those of
    /// attempts that began together.
    ///
    /// # Errors
    ///
    /// Of every kind. `TooLarge` if the announced length is beyond the cap.
    pub async fn open(
        &self,
        asked: BlobRequest<'_>,
        until: Instant,
        gives_up: impl FnMut() -> bool,
    ) -> Result<Opened, FetchError> {
        let trace = asked.trace.filter(|_| self.inner.settings.propagate_trace);
        match asked.target {
            FetchTarget::Url(url) => {
                let first =
                    First { url: url.expose(), target: url.target(), unless: asked.unless, trace, access: None };
                self.open_head(first, until, gives_up).await
            }
            FetchTarget::Object(object) => {
                let access = self.inner.access(object.store())?;
                let StorePlace { url, target } = access.store.place(object)?;
                let first = First { url: &url, target: &target, unless: asked.unless, trace, access: Some(&access) };
                self.open_head(first, until, gives_up).await
            }
        }
    }

    /// A page of what a bucket holds, of names with this prefix; `from` is what the page before said of the next.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); `Denied` also for a store that cannot be listed.
    pub async fn list(
        &self,
        store: &str,
        bucket: &str,
        (prefix, from): (&str, Option<&str>),
        until: Instant,
    ) -> Result<ListedPage, FetchError> {
        let denied = |what| FetchError::new(FetchErrorKind::Denied, what);
        let access = self.inner.access(store)?;
        let place = access.store.listing(bucket, prefix, from);
        let StorePlace { url, target } = place.ok_or_else(|| denied("a store of this kind cannot be listed"))?;
        let first = First { url: &url, target: &target, unless: None, trace: None, access: Some(&access) };
        match self.open_head(first, until, || false).await? {
            Opened::Body(download) => {
                let body = download.read().await?;
                access.store.page(&body).ok_or_else(|| denied("the store's answer is not a listing"))
            }
            Opened::NotModified | Opened::GaveUp => Err(denied("the store's answer has no listing")),
        }
    }

    /// Asks the store for next to nothing, signed: whether it answers, and takes the credential.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn probe(&self, store: &str, bucket: Option<&str>, until: Instant) -> Result<(), FetchError> {
        let access = self.inner.access(store)?;
        let StorePlace { url, target } = access.store.probe(bucket);
        let first = First { url: &url, target: &target, unless: None, trace: None, access: Some(&access) };
        self.open_head(first, until, || false).await.map(drop)
    }

    /// What an object of a store is remembered by beside its entity tag ([`Download::resource`]). None for one that has no place.
    pub fn resource_of(&self, object: &StoreObject) -> Option<u64> {
        self.inner.settings.stores.resource_of(&FetchTarget::Object(object.clone()))
    }

    #[cfg(test)]
    pub(super) fn open_connections(&self) -> usize {
        self.inner.caller.open_connections()
    }

    #[cfg(test)]
    pub(super) async fn open_url(
        &self,
        url: &Url,
        trace: Option<&Trace>,
        until: Instant,
    ) -> Result<Download, FetchError> {
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        match self.open_head(First { url, target, unless: None, trace, access: None }, until, || false).await? {
            Opened::Body(download) => Ok(download),
            other => Err(FetchError::unavailable(format!("no body: {other:?}"))),
        }
    }

    async fn open_head(
        &self,
        first: First<'_>,
        until: Instant,
        mut gives_up: impl FnMut() -> bool,
    ) -> Result<Opened, FetchError> {
        let signs = Rc::new(Signs::default());
        let timed_out = || FetchError { silent: true, ..FetchError::unavailable("the answer did not arrive in time") };
        let mut head = pin!(self.inner.follow(first, until, &signs));
        let mut next_look = Instant::now() + self.inner.first_look();
        let result = loop {
            let look = until.min(next_look);
            next_look += LOOK_EVERY;
            match timeout_at(look, &mut head).await {
                Ok(result) => break result,
                Err(_) if look == until => break Err(timed_out()),
                Err(_) if signs.may_give_up() && gives_up() => return Ok(Opened::GaveUp),
                Err(_) => {}
            }
        };
        // A host that sent a redirect was not silent, whatever its target is.
        result.map_err(|error| {
            let unasked = !signs.called() && error.kind == FetchErrorKind::Unavailable;
            FetchError { silent: error.silent && signs.silent(), unasked, ..error }
        })
    }
}

impl Inner {
    /// How long after its begin an attempt asks for the first time whether to make room: multiples of the golden ratio leave the
    /// widest gaps. Otherwise attempts that began together would make room together, again and again, and a thread that is busy
    /// with all of them and with those that follow holds up the others on it.
    fn first_look(&self) -> Duration {
        let number = self.attempts.get().wrapping_add(1);
        self.attempts.set(number);
        let part = f64::from(number.wrapping_mul(GOLDEN_RATIO)) / (f64::from(u32::MAX) + 1.0);
        LOOK_EVERY.mul_f64(part)
    }

    fn access(&self, name: &str) -> Result<Rc<StoreAccess>, FetchError> {
        if let Some(access) = self.stores.borrow().get(name) {
            return Ok(access.clone());
        }
        let unknown = || FetchError::new(FetchErrorKind::Forbidden, "no store of this name is set up");
        let store = self.settings.stores.get(name).ok_or_else(unknown)?.clone();
        let caller = Caller::new(&self.settings, store.hosts(), self.tls.clone(), self.resolve.clone());
        let access = Rc::new(StoreAccess { store, caller });
        self.stores.borrow_mut().insert(name.to_owned(), access.clone());
        Ok(access)
    }

    async fn follow(&self, first: First<'_>, until: Instant, signs: &Rc<Signs>) -> Result<Opened, FetchError> {
        let closed = |_| FetchError::unavailable("the client is closed");
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(closed)?;
        let (mut url, mut target) = (Cow::Borrowed(first.url), Cow::Borrowed(first.target));
        for _ in 0..=MAX_REDIRECTS {
            let elsewhere = !is_same_host(&url, first.url);
            let resource = resource(&url, &target);
            let unless = first.unless.filter(|unless| unless.resource == resource).map(|unless| unless.etag);
            let trace = first.trace.filter(|_| !elsewhere);
            let hop = Hop { url: &url, target: &target, unless, trace };
            // Another host or scheme never gets a credential.
            let access = first.access.filter(|_| !elsewhere && url.scheme() == first.url.scheme());
            let asked = match access {
                Some(access) => access.ask(&hop, until, signs).await,
                None => self.ask(&hop, signs).await,
            };
            match asked.map_err(|error| FetchError { elsewhere, ..error })? {
                (HeadMeaning::Body, response) => {
                    let (aside, cap) = (signs.take_aside(), self.settings.max_blob_bytes);
                    let download = Download::new(response, aside, cap, until, self.decoding.clone(), permit, resource);
                    return download.map(Opened::Body);
                }
                (HeadMeaning::NotModified, _) => return Ok(Opened::NotModified),
                (HeadMeaning::Redirect(next), _) => {
                    target = Cow::Owned(next[url::Position::BeforePath..url::Position::AfterQuery].to_owned());
                    url = Cow::Owned(next);
                }
            }
        }
        Err(FetchError::new(FetchErrorKind::Forbidden, format!("more than {MAX_REDIRECTS} redirects")))
    }

    /// Asks a host that no store's credential is for.
    async fn ask(&self, hop: &Hop<'_>, signs: &Rc<Signs>) -> Result<(HeadMeaning, ClientResponse), FetchError> {
        let Hop { url, target, .. } = *hop;
        self.caller.judge(url)?;
        let (method, headers, body) = (Method::GET, hop.headers(), Bytes::new());
        let response = self.caller.ask(&HttpCall { method, url, target, headers, body, signs }).await?;
        Ok((judge(&response, url, hop.unless.is_some())?, response))
    }
}

impl StoreAccess {
    /// Asks the store, signed. If it refuses the credential and there is another by now, once more with that.
    async fn ask(
        &self,
        hop: &Hop<'_>,
        until: Instant,
        signs: &Rc<Signs>,
    ) -> Result<(HeadMeaning, ClientResponse), FetchError> {
        let (url, place) = (hop.url, StorePlace { url: hop.url.clone(), target: hop.target.to_owned() });
        let mut is_second = false;
        loop {
            let signed = signs.await_credential(self.store.sign(&Method::GET, &place, hop.headers())).await?;
            let store::Signed { target, headers, credential } = signed;
            let (method, target, body) = (Method::GET, target.as_str(), Bytes::new());
            let response = self.caller.ask(&HttpCall { method, url, target, headers, body, signs }).await?;
            let error = match judge(&response, url, hop.unless.is_some()) {
                Ok(answer) => return Ok((answer, response)),
                Err(error) => store::explained(response, error, &credential, until).await,
            };
            let may_be_let_in = error.refusal.is_none_or(Refusal::is_for_credential);
            let is_final = is_second || error.kind != FetchErrorKind::Denied || !may_be_let_in;
            if is_final || !self.store.has_other_credential(&credential).await {
                return Err(error);
            }
            is_second = true;
        }
    }
}

/// One request of an attempt, before it is signed.
struct Hop<'a> {
    url: &'a Url,
    target: &'a str,
    unless: Option<&'a EntityTag>,
    trace: Option<&'a Trace>,
}

impl Hop<'_> {
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(tag) = self.unless.and_then(|tag| HeaderValue::try_from(tag.to_string()).ok()) {
            headers.insert(IF_NONE_MATCH, tag);
        }
        if let Some(trace) = self.trace {
            add_trace(&mut headers, trace);
        }
        headers
    }
}

fn add_trace(headers: &mut HeaderMap, trace: &Trace) {
    if let Ok(parent) = HeaderValue::try_from(trace.traceparent()) {
        headers.insert(TRACEPARENT, parent);
    }
    let state = trace.tracestate();
    if let Ok(state) = HeaderValue::try_from(state)
        && !state.is_empty()
    {
        headers.insert(TRACESTATE, state);
    }
}

fn is_same_host(url: &Url, other: &Url) -> bool {
    url.host() == other.host() && url.port_or_known_default() == other.port_or_known_default()
}
