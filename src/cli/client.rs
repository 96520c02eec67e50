//! The HTTP client of the commands that call a running service.

use std::sync::Arc;
use std::time::Duration;

use awc::{Client, Connector};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// For name, connection and TLS.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const USER_AGENT: &str = concat!("redis-cache-sync/", env!("CARGO_PKG_VERSION"));

/// A client with at most this number of connections. The heads of answers must arrive within that time. It follows no
/// redirect: one that is not meant would take the token along.
pub fn client(tls: ClientConfig, connections: usize, answer_within: Duration) -> Client {
    let connector = Connector::new().limit(connections).timeout(CONNECT_WITHIN).rustls_0_23(Arc::new(tls));
    let builder = Client::builder().connector(connector).timeout(answer_within).disable_redirects();
    builder.add_default_header(("User-Agent", USER_AGENT)).finish()
}

/// What is shown to a server that asks for a certificate: with its chain, and its key.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// TLS towards servers that these authorities vouch for; none: the usual ones.
///
/// # Errors
/// One of them is no usable certificate, or the key is not that of the identity.
pub fn tls(
    authorities: Option<Vec<CertificateDer<'static>>>,
    identity: Option<Identity>,
) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    match authorities {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(authorities) => authorities.into_iter().try_for_each(|authority| roots.add(authority))?,
    }
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
