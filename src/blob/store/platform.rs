//! Credentials of the platform that the service runs on: from its environment, its files, and services at fixed addresses that
//! nothing but the platform answers.
//!
//! These requests go out on a thread of their own, never because of what an event says, and never through the proxy of blobs
//! where the address is one of the platform's own.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use awc::http::Method;
use awc::http::header::{HeaderMap, HeaderValue};
use bytes::Bytes;
use futures::StreamExt;
use reqsign_core::{Context, Error, FileRead, HttpSend, OsEnv, Result};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

use crate::blob::BlobSettings;
use crate::blob::caller::{Caller, HttpCall, tls_config};
use crate::blob::dial::by_the_system;
use crate::blob::guard::{AllowedHosts, is_public};
use crate::blob::own_thread;
use crate::blob::signs::Signs;
use crate::blob::store::sign::carry_over;

/// One request, up to its last byte. Where there is no such service, nobody answers.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Requests that wait, at most.
const MAX_WAITING: usize = 64;
/// Bytes of an answer, at most.
const MAX_ANSWER_BYTES: usize = 256 * 1024;
/// Bytes of a file with a credential, at most.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Clients for different hosts that are kept.
const MAX_CALLERS: usize = 16;

/// The name of Google's metadata service, and the address it always has.
const GOOGLE: (&str, Ipv4Addr) = ("metadata.google.internal", Ipv4Addr::new(169, 254, 169, 254));
/// Where platforms lend credentials: instances, tasks and pods.
const OWN_ADDRESSES: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];
/// The variable that names AWS's token service, for web identities.
const STS_NAMED_BY: &str = "AWS_ENDPOINT_URL_STS";
/// Variables of the process by which its operator says where else a credential is lent.
const NAMED_BY: [&str; 7] = [
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    STS_NAMED_BY,
    "AZURE_AUTHORITY_HOST",
    "IDENTITY_ENDPOINT",
    "MSI_ENDPOINT",
    "GCE_METADATA_HOST",
];

/// What asks for credentials. Cheap to clone; the thread starts with the first request.
#[derive(Clone)]
pub struct Platform(Arc<Inner>);

struct Inner {
    settings: BlobSettings,
    jobs: OnceLock<Option<Sender<Job>>>,
}

struct Job {
    request: http1::Request<Bytes>,
    /// What the operator named beside the platform's own addresses.
    named: Option<Url>,
    reply: oneshot::Sender<Result<http1::Response<Bytes>>>,
}

impl Platform {
    /// `settings` say through what proxy, and which authorities are trusted.
    pub fn new(settings: BlobSettings) -> Self {
        let settings = BlobSettings { connect_timeout: CONNECT_WITHIN, max_connections: 4, ..settings };
        Platform(Arc::new(Inner { settings, jobs: OnceLock::new() }))
    }

    /// The process's environment, its files, and this for HTTP.
    pub fn context(&self) -> Context {
        Context::new().with_env(OsEnv).with_file_read(Files).with_http_send(self.clone())
    }

    /// Sends one request to the platform, to a public host, or to `named`.
    pub async fn send(&self, request: http1::Request<Bytes>, named: Option<Url>) -> Result<http1::Response<Bytes>> {
        let start = || {
            let settings = self.0.settings.clone();
            own_thread::start("credentials", MAX_WAITING, |jobs| carry_out(settings, jobs)).ok()
        };
        let gone = || Error::unexpected("nobody sends any more");
        let jobs = self.0.jobs.get_or_init(start).as_ref().ok_or_else(gone)?;
        let (reply, answer) = oneshot::channel();
        jobs.send(Job { request, named, reply }).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl Platform {
    /// Where the operator wants AWS's token service to be called: the library knows its public name alone.
    fn token_service(&self, request: &http1::Request<Bytes>) -> Option<http1::Uri> {
        let is_asked = request.uri().host()?.starts_with("sts.");
        let named = self.context().env_var(STS_NAMED_BY).filter(|named| is_asked && !named.is_empty())?;
        [named.trim_end_matches('/'), request.uri().path()].concat().parse().ok()
    }
}

impl HttpSend for Platform {
    async fn http_send(&self, mut request: http1::Request<Bytes>) -> Result<http1::Response<Bytes>> {
        if let Some(uri) = self.token_service(&request) {
            *request.uri_mut() = uri;
        }
        let host = request.uri().authority().map(|authority| authority.as_str().to_owned());
        let named = NAMED_BY.iter().filter_map(|name| self.context().env_var(name)).find_map(|text| {
            let text = if text.contains("://") { text } else { format!("http://{text}") };
            let url = Url::parse(&text).ok()?;
            let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
            (Some(authority) == host.as_deref()).then(|| url.clone())
        });
        self.send(request, named).await
    }
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the platform")
    }
}

/// Files as they are, bounded. They are small, and seldom read.
#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> Result<Vec<u8>> {
        use io::Read;
        let mut bytes = Vec::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes));
        read.map(|_| bytes).map_err(|error| Error::config_invalid(format!("{path} cannot be read: {}", error.kind())))
    }
}

async fn carry_out(settings: BlobSettings, mut jobs: Receiver<Job>) {
    let mut callers: HashMap<String, Rc<Caller>> = HashMap::new();
    while let Some(Job { request, named, reply }) = jobs.recv().await {
        let Some((url, host)) = address(&request) else {
            let _ = reply.send(Err(Error::config_invalid("the credential's URL is not allowed")));
            continue;
        };
        let is_own = is_platform(&url) || named.is_some();
        let key = if is_own { url.authority().to_owned() } else { String::new() };
        if callers.len() >= MAX_CALLERS && !callers.contains_key(&key) {
            callers.clear();
        }
        let caller = match callers.get(&key) {
            Some(caller) => Ok(caller.clone()),
            None => caller(&settings, is_own.then_some(&url)).map(Rc::new),
        };
        match caller {
            Err(reason) => drop(reply.send(Err(Error::config_invalid(reason)))),
            Ok(caller) => {
                callers.insert(key, caller.clone());
                actix_rt::spawn(async move {
                    let _ = reply.send(call(&caller, request, url, host).await);
                });
            }
        }
    }
}

/// Where a request goes, and what its `Host` header says.
fn address(request: &http1::Request<Bytes>) -> Option<(Url, Option<String>)> {
    let mut url = Url::parse(&request.uri().to_string()).ok()?;
    if url.host_str() == Some(GOOGLE.0) {
        url.set_ip_host(IpAddr::V4(GOOGLE.1)).ok()?;
        return Some((url, Some(GOOGLE.0.to_owned())));
    }
    Some((url, None))
}

fn is_platform(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => OWN_ADDRESSES.contains(&IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => OWN_ADDRESSES.contains(&IpAddr::V6(ip)),
        _ => false,
    }
}

/// Whether it is on this machine or in its network: no proxy leads there.
fn is_near(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => !is_public(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => !is_public(IpAddr::V6(ip)),
        Some(Host::Domain(name)) => !name.contains('.'),
        None => false,
    }
}

/// For this host alone, whatever its address is; without one for any public host.
fn caller(settings: &BlobSettings, own: Option<&Url>) -> std::result::Result<Caller, String> {
    let allowed = own.map_or_else(AllowedHosts::default, |url| AllowedHosts::of_store(url, false));
    let proxy = settings.proxy.clone().filter(|_| !own.is_some_and(is_near));
    let settings = BlobSettings { proxy, ..settings.clone() };
    let tls = tls_config(&settings).map_err(|error| error.to_string())?;
    Ok(Caller::new(&settings, allowed, Arc::new(tls), by_the_system()))
}

async fn call(
    caller: &Caller,
    request: http1::Request<Bytes>,
    url: Url,
    host: Option<String>,
) -> Result<http1::Response<Bytes>> {
    let until = Instant::now() + REQUEST_WITHIN;
    let (parts, body) = request.into_parts();
    let failed = |reason: String| Error::unexpected(reason).set_retryable(true);
    let mut headers = HeaderMap::new();
    carry_over(&parts.headers, &mut headers);
    if let Some(host) = host.and_then(|host| HeaderValue::try_from(host).ok()) {
        headers.insert(awc::http::header::HOST, host);
    }
    let method = Method::from_bytes(parts.method.as_str().as_bytes()).unwrap_or(Method::GET);
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let signs = Rc::new(Signs::default());
    caller.judge(&url).map_err(|error| Error::config_invalid(error.to_string()))?;
    let question = HttpCall { method, url: &url, target, headers, body, signs: &signs };
    let asked = timeout_at(until, caller.ask(&question)).await;
    let mut response = match asked {
        Ok(asked) => asked.map_err(|error| failed(error.to_string()))?,
        Err(_) => return Err(failed("the answer did not arrive in time".to_owned())),
    };
    let status = response.status().as_u16();
    let mut body = Vec::new();
    if let Some(aside) = signs.take_aside() {
        if aside.length() > MAX_ANSWER_BYTES {
            return Err(failed("the answer is too large".to_owned()));
        }
        while let Ok(Some(Ok(_))) = timeout_at(until, response.next()).await {}
        body = aside.take().ok_or_else(|| failed("the answer was cut short".to_owned()))?.to_vec();
    } else {
        while let Ok(Some(chunk)) = timeout_at(until, response.next()).await {
            body.extend_from_slice(&chunk.map_err(|_| failed("the answer was cut short".to_owned()))?);
            if body.len() > MAX_ANSWER_BYTES {
                return Err(failed("the answer is too large".to_owned()));
            }
        }
    }
    let response = http1::Response::builder().status(status).body(Bytes::from(body));
    response.map_err(|error| Error::unexpected(error.to_string()))
}
