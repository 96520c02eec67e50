//! Sends single requests to hosts that one rule allows, over connections of its own.
//!
//! awc tells connections apart by host and port alone. So each scheme has a pool of its own, and so has whatever is judged by
//! other rules or called with credentials.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::body;
use actix_http::error::ParseError;
use awc::error::{ConnectError, SendRequestError};
use awc::http::header::{HeaderMap, HeaderValue};
use awc::http::{Method, Uri, header};
use awc::{Client, ClientResponse};
use bytes::Bytes;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::Instant;
use url::Url;

use super::connector::BlobConnector;
use super::dial::{NameResolver, USER_AGENT, fault};
use super::guard::{AllowedHosts, Forbidden};
use super::signs::Signs;
use super::{BlobSettings, FetchError, FetchErrorKind, SetupError};

/// After this a pool is left behind with its idle connections: awc looks at those of a host only when it is called again.
const POOL_LIFETIME: Duration = Duration::from_secs(60);

/// Calls the hosts that one list allows. One a thread.
pub(super) struct Caller {
    /// The connector for plain connections; the one for TLS differs only in that.
    connector: BlobConnector,
    tls: Arc<ClientConfig>,
    /// Connections kept open, at most.
    max_connections: usize,
    pool: RefCell<Pool>,
}

/// One request.
pub(super) struct HttpCall<'a> {
    pub method: Method,
    pub url: &'a Url,
    /// The path and query as they are sent.
    pub target: &'a str,
    /// Beside those that every request has.
    pub headers: HeaderMap,
    pub body: Bytes,
    pub signs: &'a Rc<Signs>,
}

#[derive(Clone)]
struct Pool {
    plain: Client,
    tls: Client,
    made: Instant,
}

impl Caller {
    /// `tls` is what [`tls_config`] made of the settings.
    pub fn new(settings: &BlobSettings, allowed: AllowedHosts, tls: Arc<ClientConfig>, resolve: NameResolver) -> Self {
        let (timeout, proxy) = (settings.connect_timeout, settings.proxy.clone().map(Rc::new));
        let connector =
            BlobConnector { allowed: Rc::new(allowed), timeout, proxy, tls: None, open: Rc::default(), resolve };
        let pool = RefCell::new(Pool::new(&connector, &tls));
        Caller { connector, tls, max_connections: settings.max_connections, pool }
    }

    /// Whether the URL may be called, as far as it shows.
    pub fn judge(&self, url: &Url) -> Result<(), Forbidden> {
        self.connector.allowed.judge(url).map(drop)
    }

    #[cfg(test)]
    pub fn open_connections(&self) -> usize {
        self.connector.open.get()
    }

    /// Sends the request; a second time, on a connection of its own, if the first went out on one from the pool that the
    /// server had closed. That was no attempt: the host never saw it.
    pub async fn ask(&self, question: &HttpCall<'_>) -> Result<ClientResponse, FetchError> {
        question.signs.begin_request();
        match self.send(question).await {
            Err(_) if question.signs.stale() => {
                self.renew_pool();
                self.send(question).await
            }
            result => result,
        }
    }

    async fn send(&self, question: &HttpCall<'_>) -> Result<ClientResponse, FetchError> {
        let HttpCall { method, url, target, headers, body, signs } = question;
        let secure = url.scheme() == "https";
        let pool = self.pool();
        let client = if secure { pool.tls } else { pool.plain };
        let mut request = client
            .request(method.clone(), request_uri(url, target, secure)?)
            .insert_header((header::HOST, host_header(url)))
            .insert_header((header::ACCEPT, HeaderValue::from_static("*/*")))
            .insert_header((header::ACCEPT_ENCODING, HeaderValue::from_static("identity")))
            .insert_header((header::USER_AGENT, HeaderValue::from_static(USER_AGENT)))
            .no_decompress();
        for (name, value) in headers {
            request = request.insert_header((name.clone(), value.clone()));
        }
        let sent = match body.is_empty() {
            true => signs.watch(request.send_body(body::None::new())).await,
            false => signs.watch(request.send_body(body.clone())).await,
        };
        sent.map_err(send_fault)
    }

    fn pool(&self) -> Pool {
        let old = self.pool.borrow().made.elapsed() > POOL_LIFETIME;
        if old || self.connector.open.get() > self.max_connections {
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
    fn new(connector: &BlobConnector, tls: &Arc<ClientConfig>) -> Pool {
        let client = |tls| {
            let connector = BlobConnector { tls, ..connector.clone() };
            let timeout = connector.timeout + Duration::from_secs(1);
            // Our own limits come first: the connector's on time, the permits on number.
            let connector = awc::Connector::new().connector(connector).timeout(timeout).limit(0);
            Client::builder().connector(connector).disable_timeout().disable_redirects().no_default_headers().finish()
        };
        Pool { plain: client(None), tls: client(Some(Arc::clone(tls))), made: Instant::now() }
    }
}

/// TLS as every connection to a blob's host speaks it.
///
/// # Errors
///
/// One of `extra_roots` is no usable certificate.
pub(super) fn tls_config(settings: &BlobSettings) -> Result<ClientConfig, SetupError> {
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

/// The `Host` header, which signatures cover.
pub(super) fn host_header(url: &Url) -> String {
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
        SendRequestError::Response(_) => FetchError::unavailable("the answer is malformed"),
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
