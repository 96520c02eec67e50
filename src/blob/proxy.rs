//! `fetch.proxy`: an HTTP proxy between us and the hosts of blobs.
//!
//! A host's name is resolved and its addresses are judged here, as without a proxy. The proxy is then asked for a tunnel
//! (`CONNECT`) to the address that was judged, for `http` as for `https`: a request that named the host would have the
//! proxy resolve the name once more, and what was judged would not be what is called.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use url::{Host, Url};

use super::dial::{NameResolver, USER_AGENT, connect, connect_to_one, fault, resolve};
use super::{FetchError, FetchErrorKind};

/// Bytes of the head of a proxy's answer, at most.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Headers of it, at most.
const MAX_HEADERS: usize = 96;

/// Where the proxy is, and what it wants to be told.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    host: Host,
    port: u16,
    /// The value of `Proxy-Authorization`.
    authorization: Option<String>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({}:{})", self.host, self.port)
    }
}

/// `http://[user:password@]host:port`, user and password percent-encoded. The error holds no part of it.
impl FromStr for Proxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|_| "not a URL")?;
        if url.scheme() != "http" {
            return Err("another scheme than http".to_owned());
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err("a path, query or fragment".to_owned());
        }
        let (Some(host), Some(port @ 1..)) = (url.host(), url.port_or_known_default()) else {
            return Err("port 0, or no host".to_owned());
        };
        Ok(Proxy { host: host.to_owned(), port, authorization: authorization(&url)? })
    }
}

/// RFC 7617: the user ends at the first colon.
fn authorization(url: &Url) -> Result<Option<String>, String> {
    let user: Vec<u8> = percent_decode_str(url.username()).collect();
    let password: Vec<u8> = percent_decode_str(url.password().unwrap_or_default()).collect();
    if user.contains(&b':') {
        return Err("a user with a colon".to_owned());
    }
    let is_given = !user.is_empty() || !password.is_empty();
    Ok(is_given.then(|| format!("Basic {}", STANDARD.encode([&user, &b":"[..], &password].concat()))))
}

impl Proxy {
    /// A connection to `address` through the proxy, of which nothing has been read or written yet.
    ///
    /// # Errors
    ///
    /// `Denied` if the proxy refuses the address for good; whatever else goes wrong is `Unavailable`.
    pub(super) async fn tunnel(
        &self,
        resolver: &NameResolver,
        address: SocketAddr,
        until: Instant,
    ) -> Result<TcpStream, FetchError> {
        let blamed = |error: FetchError| FetchError { detail: format!("{PROXY}: {}", error.detail), ..error };
        let addresses = resolve(resolver, &self.host, self.port).await.map_err(blamed)?;
        let mut stream = connect_to_one(&addresses, until, async |to, _| connect(to).await).await.map_err(blamed)?;
        stream.write_all(self.request(address).as_bytes()).await.map_err(|error| broken(&error))?;
        match read_status(&mut stream).await? {
            200..=299 => Ok(stream),
            status => Err(refused(status, address)),
        }
    }

    fn request(&self, address: SocketAddr) -> String {
        let authorization = match &self.authorization {
            Some(value) => format!("Proxy-Authorization: {value}\r\n"),
            None => String::new(),
        };
        format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: {USER_AGENT}\r\n{authorization}\r\n")
    }
}

/// How messages call it: where it is, is the operator's alone to know.
const PROXY: &str = "the proxy (fetch.proxy)";

/// The status of the answer, of which the body is left unread.
async fn read_status(stream: &mut TcpStream) -> Result<u16, FetchError> {
    let mut head = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut head).await.map_err(|error| broken(&error))? == 0 {
            return Err(broken(&io::ErrorKind::UnexpectedEof.into()));
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut answer = httparse::Response::new(&mut headers);
        match answer.parse(&head) {
            Ok(httparse::Status::Partial) if head.len() < MAX_HEAD_BYTES => {}
            Ok(httparse::Status::Complete(length)) => match answer.code {
                // Hosts wait for our request: none has said anything yet.
                Some(200..=299) if head.len() > length => break,
                Some(status) => return Ok(status),
                None => break,
            },
            _ => break,
        }
    }
    Err(broken(&io::ErrorKind::InvalidData.into()))
}

fn broken(error: &io::Error) -> FetchError {
    FetchError::unavailable(format!("{PROXY}: {}", fault(error.kind())))
}

/// The proxy's own answers, which are not the host's.
fn refused(status: u16, address: SocketAddr) -> FetchError {
    let (kind, what) = match status {
        // Some say 401 to a wrong password.
        401 | 407 => (FetchErrorKind::Unavailable, "rejected the user and password of fetch.proxy".to_owned()),
        408 | 425 | 429 | 500..=599 => (FetchErrorKind::Unavailable, format!("could not connect to {address}")),
        400..=499 => (FetchErrorKind::Denied, format!("refused to connect to {address}")),
        _ => (FetchErrorKind::Unavailable, "did not answer CONNECT as a proxy".to_owned()),
    };
    FetchError::new(kind, format!("{PROXY} {what}: it answered {status}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_named_by_a_url_and_its_credentials_are_shown_nowhere() {
        let proxy: Proxy = "http://us%40er:hunter%2F2@Proxy.example:3128".parse().expect("a good URL");
        let request = proxy.request("192.0.2.1:443".parse().expect("an address"));
        let credentials = STANDARD.encode("us@er:hunter/2");
        assert!(request.starts_with("CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\n"), "{request}");
        assert!(request.contains(&format!("\r\nProxy-Authorization: Basic {credentials}\r\n\r\n")), "{request}");
        assert_eq!(format!("{proxy:?}"), "Proxy(proxy.example:3128)");

        let open: Proxy = "http://[::1]:8080/".parse().expect("a good URL");
        let request = open.request("[2001:db8::1]:80".parse().expect("an address"));
        assert!(request.starts_with("CONNECT [2001:db8::1]:80 HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n"), "{request}");
        assert!(!request.contains("Authorization"), "{request}");
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_being_quoted() {
        for bad in [
            "hunter2",
            "hunter2:3128",
            "https://u:hunter2@p:1",
            "socks5://u:hunter2@p:1",
            "http://u:hunter2@p:0",
            "http://u:hunter2@",
            "http://u:hunter2@p:1/path",
            "http://p:1/?hunter2",
            "http://hunter%3a2:x@p:1",
        ] {
            let reason = bad.parse::<Proxy>().expect_err(bad);
            assert!(!reason.contains("hunter"), "{reason}");
        }
    }
}
