//! The files of the listener's TLS, and what they hold.

use std::path::PathBuf;

use super::secret::Pem;

/// Where they are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate chain that clients see (`http.tls_cert`).
    pub cert: PathBuf,
    /// The private key to it (`http.tls_key`).
    pub key: PathBuf,
    /// The authorities of client certificates (`http.tls_client_ca`); None: clients need no certificate.
    pub client_ca: Option<PathBuf>,
}

/// What they hold: the key is that of the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPems {
    /// The certificate chain that clients see.
    pub cert: Pem,
    /// The private key to it.
    pub key: Pem,
    /// The authorities of client certificates; None: clients need no certificate.
    pub client_ca: Option<Pem>,
}
