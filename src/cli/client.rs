//! The HTTP client of whatever calls a running service: commands, and a replica that asks the others.

use std::sync::Arc;
use std::time::Duration;

use awc::{Client, Connector};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

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

/// TLS towards servers that have this very certificate; shows the same one where a client's is asked for.
///
/// # Errors
/// Certificate and key are of no use.
pub fn pinned(pem: &[u8], key: &[u8]) -> Result<ClientConfig, rustls::Error> {
    let certificate = CertificateDer::from_pem_slice(pem).map_err(|_| CertificateError::BadEncoding)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::BadEncoding)?;
    let own = vec![certificate.clone()];
    let provider = Arc::new(ring::default_provider());
    let pinned = Pinned { certificate, algorithms: provider.signature_verification_algorithms };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(pinned));
    let mut config = builder.with_client_auth_cert(own, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match *shown == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
