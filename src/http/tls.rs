//! TLS on the listener: what clients are shown, and asked for.
//!
//! Certificates may change while connections come in: each handshake takes what is in force then, the authorities of
//! client certificates included, and no session outlives a change. HTTP/1.1 alone is offered.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_rt::net::TcpStream;
use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring;
use rustls::pki_types::UnixTime;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What a session keeps of answers that the other side does not take: a record. Nothing else counts it.
const MAX_UNSENT_BYTES: usize = 16 * 1024;

/// PEM files, as they were read.
#[derive(Clone, Copy)]
pub struct Pems<'a> {
    /// The certificate chain that clients see, the server's own certificate first (`http.tls_cert`).
    pub cert: &'a [u8],
    /// The private key to it (`http.tls_key`).
    pub key: &'a [u8],
    /// Clients must show a certificate of one of these authorities.
    pub client_ca: Option<&'a [u8]>,
}

/// Why the listener's PEM files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of the files is no PEM, or lacks what it should hold.
    #[error("a certificate, key or authority of the listener is not valid PEM")]
    Pem,
    /// The key is not that of the certificate, or its kind is not supported.
    #[error("the listener's certificates cannot be used: {0}")]
    Useless(#[from] rustls::Error),
    /// The authorities cannot be made into a check of client certificates.
    #[error("the authorities of client certificates cannot be used: {0}")]
    Clients(#[from] rustls::server::VerifierBuilderError),
}

/// What the listener speaks.
pub struct ServerTls(ArcSwap<ServerConfig>);

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl ServerTls {
    /// TLS with these files, for connections to come.
    ///
    /// # Errors
    ///
    /// [`TlsError`]: nothing can be listened to with them.
    pub fn new(pems: Pems<'_>) -> Result<Self, TlsError> {
        Ok(ServerTls(ArcSwap::from(config(pems)?)))
    }

    /// New connections get this one; those that are open keep what they have.
    pub fn replace(&self, pems: Pems<'_>) -> Result<(), TlsError> {
        self.0.store(config(pems)?);
        Ok(())
    }

    /// The handshake, which must end within this time. It begins with the first byte: who sends none is gone without a warning.
    pub async fn accept(&self, io: TcpStream, within: Duration) -> io::Result<Io> {
        let until = Instant::now() + within;
        let nothing = |_| io::Error::new(io::ErrorKind::UnexpectedEof, "nothing was sent");
        timeout_at(until, io.peek(&mut [0])).await.map_err(nothing)??;
        let handshake = TlsAcceptor::from(self.0.load_full())
            .accept_with(io, |session| session.set_buffer_limit(Some(MAX_UNSENT_BYTES)));
        let stream = timeout_at(until, handshake).await.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(Io::Tls(Box::new(stream)))
    }
}

fn config(pems: Pems<'_>) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let chain = certificates(pems.cert)?;
    let builder = match pems.client_ca {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(pem)? {
                roots.add(authority)?;
            }
            let authorities = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            let own = chain.first().ok_or(TlsError::Pem)?.clone();
            builder.with_client_cert_verifier(Arc::new(Clients { authorities, own }))
        }
    };
    let key = PrivateKeyDer::from_pem_slice(pems.key).map_err(|_| TlsError::Pem)?;
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| TlsError::Pem)
}

/// Whose certificates are accepted: those of the authorities, and the listener's own. With that the health check of this
/// machine gets in, which has no certificate of a client but can read the listener's key.
#[derive(Debug)]
struct Clients {
    authorities: Arc<dyn ClientCertVerifier>,
    own: CertificateDer<'static>,
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authorities.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if *shown == self.own {
            return Ok(ClientCertVerified::assertion());
        }
        self.authorities.verify_client_cert(shown, between, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// A connection, with TLS or without.
pub enum Io {
    Plain(TcpStream),
    /// Boxed: it is large, and most connections have none.
    Tls(Box<TlsStream<TcpStream>>),
    /// It was taken away.
    Gone,
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(io) => Pin::new(io).poll_read(context, buffer),
            Io::Tls(io) => Pin::new(io).poll_read(context, buffer),
            Io::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Io::Plain(io) => Pin::new(io).poll_write(context, bytes),
            Io::Tls(io) => Pin::new(io).poll_write(context, bytes),
            Io::Gone => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(io) => Pin::new(io).poll_flush(context),
            Io::Tls(io) => Pin::new(io).poll_flush(context),
            Io::Gone => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(io) => Pin::new(io).poll_shutdown(context),
            Io::Tls(io) => Pin::new(io).poll_shutdown(context),
            Io::Gone => Poll::Ready(Ok(())),
        }
    }
}
