//! Making a connection: resolves the host, has every address judged, connects to one of those, directly or through the
//! proxy, and speaks TLS if the URL does. The address that was judged is the address that is connected to. One time limit
//! covers all of it.

use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection as Connected, Host as _};
use awc::http::Uri;
use futures::future::LocalBoxFuture;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use url::Host;

use super::dial::{NameResolver, connect, connect_to_one, fault, resolve, timed_out};
use super::framing::{BlobConnection, Transport};
use super::guard::AllowedHosts;
use super::proxy::Proxy;
use super::{FetchError, signs};

/// awc's way to a connection. It carries our own [`FetchError`] out inside an [`io::Error`].
#[derive(Clone)]
pub(super) struct BlobConnector {
    pub(super) allowed: Rc<AllowedHosts>,
    pub(super) timeout: Duration,
    /// None: hosts are called directly.
    pub(super) proxy: Option<Rc<Proxy>>,
    /// None: this connector's connections are plain.
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// Connections alive, idle ones too.
    pub(super) open: Rc<Cell<usize>>,
    /// Asked once for each connection: what it says is judged, and connected to.
    pub(super) resolve: NameResolver,
}

impl Service<ConnectInfo<Uri>> for BlobConnector {
    type Response = Connected<Uri, BlobConnection>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, ConnectError>>;

    actix_service::always_ready!();

    fn call(&self, request: ConnectInfo<Uri>) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            signs::note_fresh_connection();
            let uri = request.request().clone();
            match timeout(connector.timeout, connector.connect(&uri)).await {
                Ok(Ok(transport)) => Ok(Connected::new(uri, BlobConnection::new(transport, connector.open))),
                Ok(Err(error)) => Err(ConnectError::Io(io::Error::other(error))),
                Err(_) => Err(ConnectError::Io(io::Error::other(timed_out()))),
            }
        })
    }
}

impl BlobConnector {
    async fn connect(&self, uri: &Uri) -> Result<Transport, FetchError> {
        let host = Host::parse(uri.hostname()).map_err(|_| FetchError::unavailable("the host name is not valid"))?;
        let port = uri.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let judged = self.allowed.judge_host(&host, port)?;

        let addresses = resolve(&self.resolve, &host, port).await?;
        for address in &addresses {
            AllowedHosts::judge_address(judged, &host, address.ip())?;
        }
        let until = Instant::now() + self.timeout;
        let stream = match &self.proxy {
            None => connect_to_one(&addresses, until, async |address, _| connect(address).await).await?,
            Some(proxy) => {
                let tunnel = async |address, until| proxy.tunnel(&self.resolve, address, until).await;
                connect_to_one(&addresses, until, tunnel).await?
            }
        };
        // A request is one small write: there is nothing to wait for.
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => Ok(Transport::Plain(stream)),
            Some(config) => {
                let handshake = TlsConnector::from(Arc::clone(config)).connect(server_name(host)?, stream);
                Ok(Transport::Tls(Box::new(handshake.await.map_err(|error| tls_fault(&error))?)))
            }
        }
    }
}

fn server_name(host: Host) -> Result<ServerName<'static>, FetchError> {
    match host {
        Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(&name).to_owned();
            ServerName::try_from(name).map_err(|_| FetchError::unavailable("the host name is not valid for TLS"))
        }
        Host::Ipv4(ip) => Ok(ServerName::IpAddress(IpAddr::V4(ip).into())),
        Host::Ipv6(ip) => Ok(ServerName::IpAddress(IpAddr::V6(ip).into())),
    }
}

/// The library's own words may quote the certificate, which is the peer's text.
fn tls_fault(error: &io::Error) -> FetchError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let certificate = match tls {
        Some(rustls::Error::InvalidCertificate(certificate)) => certificate,
        Some(_) => return FetchError::unavailable("the TLS handshake failed"),
        None => return FetchError::unavailable(format!("the TLS handshake failed: {}", fault(error.kind()))),
    };
    use CertificateError::*;
    FetchError::unavailable(match certificate {
        UnknownIssuer => "the server's certificate is from an unknown authority",
        Expired | ExpiredContext { .. } => "the server's certificate has expired",
        NotValidYet | NotValidYetContext { .. } => "the server's certificate is not valid yet",
        NotValidForName | NotValidForNameContext { .. } => "the server's certificate is for another name",
        _ => "the server's certificate is not valid",
    })
}
