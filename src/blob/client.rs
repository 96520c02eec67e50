//! One attempt at a blob: asks, follows redirects, and judges the head. Whether to try again is [`super::retry`]'s to say,
//! and the pipeline's to do.
//!
//! HTTP/1.1 only, over plain TCP or TLS with HTTP/1.1. `Accept-Encoding: identity`: with it a length is known beforehand,
//! and nobody compresses what is decompressed a moment later; codings that come all the same are undone. No cookie,
//! token or other state is ever sent, so a redirect from https to http gives nothing away and is followed. Where the
//! trace is told of at all (`fetch.propagate_trace`), it is told to the host of the URL: a redirect to another host or
//! port goes without it, since that one was not named by who sent the event.

use std::borrow::Cow;
use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::body;
use actix_http::error::ParseError;
use awc::error::{ConnectError, SendRequestError};
use awc::http::header::{HeaderName, HeaderValue};
use awc::http::{Uri, header};
use awc::{Client, ClientResponse};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::answer::{Answer, judge};
use super::connector::Connector;
use super::decoding::Decoding;
use super::dial::{Resolve, USER_AGENT, by_the_system, fault};
use super::resource::resource;
use super::signs::Signs;
use super::{BlobSettings, Download, FetchError, FetchErrorKind, SetupError};
use crate::event::trace::Trace;
use crate::event::{EntityTag, FetchTarget};

/// Redirects followed in one attempt, at most.
pub const MAX_REDIRECTS: u32 = 3;
/// After this a pool is left behind with its idle connections: awc looks at those of a host only when it is called again.
const POOL_LIFETIME: Duration = Duration::from_secs(60);
/// How often an attempt that has heard nothing asks whether to make room for others.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Fetches blobs. One a thread; clones share their connections.
#[derive(Clone)]
pub struct BlobClient {
    inner: Rc<Inner>,
}

struct Inner {
    settings: BlobSettings,
    /// Of plain connections; those of TLS have the same but for that.
    connector: Connector,
    tls: Arc<ClientConfig>,
    permits: Arc<Semaphore>,
    decoding: Rc<Decoding>,
    pool: RefCell<Pool>,
}

/// What an attempt is to bring.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
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
pub enum Opened {
    /// The head of the blob; its body is still to be read.
    Body(Download),
    /// The blob is the one that [`Asked::unless`] names.
    NotModified,
    /// Nothing was heard of the host, and the attempt was told to give up.
    GaveUp,
}

/// One request of an attempt.
struct Question<'a> {
    url: &'a Url,
    /// The path and query as they are sent.
    target: &'a str,
    unless: Option<&'a EntityTag>,
    trace: Option<&'a Trace>,
    signs: &'a Rc<Signs>,
}

/// What an attempt begins with.
#[derive(Clone, Copy)]
struct First<'a> {
    url: &'a Url,
    /// The path and query as they are sent.
    target: &'a str,
    unless: Option<Unless<'a>>,
    trace: Option<&'a Trace>,
}

/// awc's pool tells connections apart by host and port alone, so each scheme has one of its own.
#[derive(Clone)]
struct Pool {
    plain: Client,
    tls: Client,
    made: Instant,
}

impl BlobClient {
    /// # Errors
    ///
    /// One of `extra_roots` is no usable certificate.
    pub fn new(settings: BlobSettings) -> Result<Self, SetupError> {
        Self::resolving(settings, by_the_system())
    }

    pub(super) fn resolving(settings: BlobSettings, resolve: Resolve) -> Result<Self, SetupError> {
        let tls = Arc::new(tls_config(&settings)?);
        let (allowed, timeout) = (Rc::new(settings.allowed_hosts.clone()), settings.connect_timeout);
        let proxy = settings.proxy.clone().map(Rc::new);
        let connector = Connector { allowed, timeout, proxy, tls: None, open: Rc::default(), resolve };
        let permits = settings.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        let pool = RefCell::new(Pool::new(&connector, &tls));
        let (permits, decoding) = (Arc::new(Semaphore::new(permits)), Rc::default());
        let inner = Inner { settings, connector, tls, permits, decoding, pool };
        Ok(BlobClient { inner: Rc::new(inner) })
    }

    /// Resolves, judges, connects, follows redirects and reads the head. `until` ends the attempt, the body included.
    /// As long as nothing is heard of the host, `gives_up` is asked four times a second.
    ///
    /// # Errors
    ///
    /// Of every kind. `TooLarge` if the announced length is beyond the cap.
    pub async fn open(
        &self,
        asked: Asked<'_>,
        until: Instant,
        gives_up: impl FnMut() -> bool,
    ) -> Result<Opened, FetchError> {
        let trace = asked.trace.filter(|_| self.inner.settings.propagate_trace);
        match asked.target {
            FetchTarget::Url(url) => {
                let first = First { url: url.expose(), target: url.target(), unless: asked.unless, trace };
                self.open_head(first, until, gives_up).await
            }
            FetchTarget::Object(_) => {
                Err(FetchError::new(FetchErrorKind::Forbidden, "no store of this name is set up"))
            }
        }
    }

    #[cfg(test)]
    pub(super) fn open_connections(&self) -> usize {
        self.inner.connector.open.get()
    }

    #[cfg(test)]
    pub(super) async fn open_url(
        &self,
        url: &Url,
        trace: Option<&Trace>,
        until: Instant,
    ) -> Result<Download, FetchError> {
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        match self.open_head(First { url, target, unless: None, trace }, until, || false).await? {
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
        let timed_out = || FetchError { silent: true, ..FetchError::unavailable("no answer came in time") };
        let mut head = pin!(self.inner.follow(first, until, &signs));
        let result = loop {
            let look = until.min(Instant::now() + LOOK_EVERY);
            match timeout_at(look, &mut head).await {
                Ok(result) => break result,
                Err(_) if look == until => break Err(timed_out()),
                Err(_) if signs.silent() && gives_up() => return Ok(Opened::GaveUp),
                Err(_) => {}
            }
        };
        // A host that sent a redirect was not silent, whatever its target is.
        result.map_err(|error| FetchError { silent: error.silent && signs.silent(), ..error })
    }
}

impl Inner {
    async fn follow(
        &self,
        First { url: first, target, unless, trace }: First<'_>,
        until: Instant,
        signs: &Rc<Signs>,
    ) -> Result<Opened, FetchError> {
        let closed = |_| FetchError::unavailable("the client is closed");
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(closed)?;
        let (mut url, mut target) = (Cow::Borrowed(first), Cow::Borrowed(target));
        for _ in 0..=MAX_REDIRECTS {
            self.connector.allowed.judge(&url)?;
            let trace = trace.filter(|_| is_same_host(&url, first));
            let elsewhere = !is_same_host(&url, first);
            let resource = resource(&url, &target);
            let unless = unless.filter(|unless| unless.resource == resource).map(|unless| unless.etag);
            let question = Question { url: &url, target: &target, unless, trace, signs };
            let asked = self.ask(&question).await.and_then(|response| judge(response, &url, unless.is_some()));
            match asked.map_err(|error| FetchError { elsewhere, ..error })? {
                Answer::Body(response) => {
                    let (aside, cap) = (signs.take_aside(), self.settings.max_blob_bytes);
                    let download = Download::new(response, aside, cap, until, self.decoding.clone(), permit, resource);
                    return download.map(Opened::Body);
                }
                Answer::NotModified => return Ok(Opened::NotModified),
                Answer::Redirect(next) => {
                    target = Cow::Owned(next[url::Position::BeforePath..url::Position::AfterQuery].to_owned());
                    url = Cow::Owned(next);
                }
            }
        }
        Err(FetchError::new(FetchErrorKind::Forbidden, format!("more than {MAX_REDIRECTS} redirects")))
    }

    /// Sends the request; a second time, on a connection of its own, if the first went out on one from the pool that the
    /// server had closed. That was no attempt: the host never saw it.
    async fn ask(&self, question: &Question<'_>) -> Result<ClientResponse, FetchError> {
        question.signs.begin_request();
        match self.send(question).await {
            Err(_) if question.signs.stale() => {
                self.renew_pool();
                self.send(question).await
            }
            result => result,
        }
    }

    async fn send(&self, question: &Question<'_>) -> Result<ClientResponse, FetchError> {
        let Question { url, target, unless, trace, signs } = question;
        let secure = url.scheme() == "https";
        let pool = self.pool();
        let client = if secure { pool.tls } else { pool.plain };
        let mut request = client
            .get(request_uri(url, target, secure)?)
            .insert_header((header::HOST, host_header(url)))
            .insert_header((header::ACCEPT, HeaderValue::from_static("*/*")))
            .insert_header((header::ACCEPT_ENCODING, HeaderValue::from_static("identity")))
            .insert_header((header::USER_AGENT, HeaderValue::from_static(USER_AGENT)))
            .no_decompress();
        if let Some(tag) = unless {
            request = request.insert_header((header::IF_NONE_MATCH, tag.to_string()));
        }
        if let Some(trace) = trace {
            request = request.insert_header((TRACEPARENT, trace.traceparent()));
            if !trace.tracestate().is_empty() {
                request = request.insert_header((TRACESTATE, trace.tracestate()));
            }
        }
        signs.watch(request.send_body(body::None::new())).await.map_err(send_fault)
    }

    fn pool(&self) -> Pool {
        let old = self.pool.borrow().made.elapsed() > POOL_LIFETIME;
        if old || self.connector.open.get() > self.settings.max_connections {
            self.renew_pool();
        }
        self.pool.borrow().clone()
    }

    /// Leaves the idle connections behind; those in use are finished with.
    fn renew_pool(&self) {
        let pool = Pool::new(&self.connector, &self.tls);
        let old = self.pool.replace(pool);
        drop(old);
    }
}

impl Pool {
    fn new(connector: &Connector, tls: &Arc<ClientConfig>) -> Pool {
        let client = |tls| {
            let connector = Connector { tls, ..connector.clone() };
            let timeout = connector.timeout + Duration::from_secs(1);
            // Our own limits come first: the connector's on time, the permits on number.
            let connector = awc::Connector::new().connector(connector).timeout(timeout).limit(0);
            Client::builder().connector(connector).disable_timeout().disable_redirects().no_default_headers().finish()
        };
        Pool { plain: client(None), tls: client(Some(Arc::clone(tls))), made: Instant::now() }
    }
}

fn tls_config(settings: &BlobSettings) -> Result<ClientConfig, SetupError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for (index, root) in settings.extra_roots.iter().enumerate() {
        let bad = |error: rustls::Error| SetupError::Root { number: index + 1, reason: error.to_string() };
        roots.add(root.clone()).map_err(bad)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(|error| SetupError::Tls(error.to_string()))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The URL as awc takes it. TLS is the connector's work, so to awc every URL is `http`; the port is always given, since it
/// would be taken from the scheme. `target` is the path and query as they are sent.
fn request_uri(url: &Url, target: &str, secure: bool) -> Result<Uri, FetchError> {
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let port = match url.port() {
        Some(_) => "",
        None if secure => ":443",
        None => ":80",
    };
    let uri = Uri::try_from(["http://", authority, port, target].concat());
    uri.map_err(|_| FetchError::new(FetchErrorKind::Forbidden, "the URL is too long or cannot stand in a request"))
}

fn is_same_host(url: &Url, other: &Url) -> bool {
    url.host() == other.host() && url.port_or_known_default() == other.port_or_known_default()
}

fn host_header(url: &Url) -> String {
    url[url::Position::BeforeHost..url::Position::AfterPort].to_owned()
}

fn send_fault(error: SendRequestError) -> FetchError {
    match error {
        SendRequestError::Connect(ConnectError::Io(error)) => match error.downcast::<FetchError>() {
            Ok(own) => own,
            Err(error) => FetchError::unavailable(fault(error.kind())),
        },
        SendRequestError::Connect(ConnectError::Timeout) | SendRequestError::Timeout => {
            FetchError { silent: true, ..FetchError::unavailable("connecting took too long") }
        }
        SendRequestError::Send(error) | SendRequestError::Response(ParseError::Io(error)) => {
            FetchError::unavailable(fault(error.kind()))
        }
        SendRequestError::Response(_) => FetchError::unavailable("the answer is not well-formed"),
        _ => FetchError::unavailable("the request failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_url_that_parses_can_be_asked_for() {
        let printable: String = (' '..='~').filter(|c| !matches!(c, '?' | '#')).collect();
        let url = Url::parse(&format!("http://a.example/{printable}?{printable}?é")).unwrap();
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        for secure in [false, true] {
            for target in [target, "/a?it's", "/a?", "//a?{`^|}"] {
                assert_eq!(request_uri(&url, target, secure).unwrap().path_and_query().unwrap(), target);
            }
        }
        let v6 = Url::parse("https://[::1]/").unwrap();
        assert_eq!(request_uri(&v6, "/", true).unwrap().to_string(), "http://[::1]:443/");
    }

    #[test]
    fn a_url_beyond_all_bounds_is_an_error() {
        let url = Url::parse("http://a.example/").unwrap();
        assert_eq!(
            request_uri(&url, &format!("/{}", "x".repeat(70_000)), false).unwrap_err().kind,
            FetchErrorKind::Forbidden
        );
    }

    #[test]
    fn the_host_header_names_the_port_only_where_the_url_does() {
        for (url, host) in [
            ("http://a.example/", "a.example"),
            ("https://a.example:443/", "a.example"),
            ("http://a.example:443/", "a.example:443"),
            ("https://a.example:80/", "a.example:80"),
            ("http://[::1]:8080/x", "[::1]:8080"),
        ] {
            assert_eq!(host_header(&Url::parse(url).unwrap()), host, "{url}");
        }
    }
}
