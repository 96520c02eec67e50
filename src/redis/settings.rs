//! How Redis is reached: address, TLS, credentials, limits in time. Nothing here connects.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::secret::{Pem, Secret};

/// Everything a connection needs to know. [`Settings::new`] gives the defaults of the `redis.*` settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// The TCP port (`redis.port`).
    pub port: u16,
    /// None: without TLS.
    pub tls: Option<TlsSettings>,
    /// The ACL user (`redis.username`); None: the default user.
    pub username: Option<String>,
    /// What `CLIENT LIST` shows as the name of the connections: no spaces and no control characters.
    pub client_name: String,
    /// The password to log in with; None: no login, unless `reread` gives one.
    pub password: Option<Secret>,
    /// Where the password is read anew for each login; if that fails, `password` is tried.
    pub reread: Option<PasswordReader>,
    /// How sentinels are reached, where that differs; None: as the master, and with its credentials if they ask for some.
    pub sentinels: Option<SentinelAccess>,
    /// The number of the database (`redis.db`); 0 in a Cluster.
    pub db: u32,
    /// For the connection to be ready: name, TCP, TLS, login and what an earlier connection left behind.
    pub connect_timeout: Duration,
    /// For a pipeline to be answered; 1 s more for every 4 MiB of values sent or asked for.
    pub response_timeout: Duration,
    /// A node of a cluster that has not answered for this time counts as down ([`Error::Down`](super::Error::Down)).
    pub down_after: Duration,
}

/// Reads a password; the error is for a person, and quotes nothing.
#[derive(Clone)]
pub struct PasswordReader(Arc<dyn Fn() -> Result<Secret, String> + Send + Sync>);

impl PasswordReader {
    /// `read` is called for each login, on a thread that may block.
    pub fn new(read: impl Fn() -> Result<Secret, String> + Send + Sync + 'static) -> Self {
        PasswordReader(Arc::new(read))
    }

    /// May block on a file.
    pub(crate) fn read(&self) -> Result<Secret, String> {
        (self.0)()
    }
}

impl fmt::Debug for PasswordReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordReader")
    }
}

/// How sentinels are reached.
#[derive(Debug, Clone, Default)]
pub struct SentinelAccess {
    /// The ACL user of the sentinels (`redis.sentinel_username`).
    pub username: Option<String>,
    /// Their password (`redis.sentinel_password`).
    pub password: Option<Secret>,
    /// Where that password is read anew for each login (`redis.sentinel_password_file`).
    pub reread: Option<PasswordReader>,
    /// None: without TLS.
    pub tls: Option<TlsSettings>,
}

impl SentinelAccess {
    pub(crate) fn has_login(&self) -> bool {
        self.username.is_some() || self.password.is_some()
    }
}

/// TLS, with what the operator's PEM files hold.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// Certificates to trust, in place of the usual roots.
    pub ca: Option<Pem>,
    /// The client's own certificate chain; goes with `key`.
    pub cert: Option<Pem>,
    /// The private key to `cert`.
    pub key: Option<Pem>,
}

/// Why no connection can be made from these settings. Never repeats a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// A PEM file of `redis.tls_*` that TLS cannot use; the text says which and why.
    #[error("TLS: {0}")]
    Tls(&'static str),
    /// `redis.db` is not 0 while `redis.mode` is cluster.
    #[error("a Redis Cluster has only database 0")]
    Database,
    /// `redis.mode` is sentinel, but `redis.nodes` or `redis.sentinel_master` is unset.
    #[error("Sentinel needs sentinels and the name of a master")]
    NoSentinels,
}

impl Settings {
    /// The name of connections that are given no other.
    pub const CLIENT_NAME: &str = env!("CARGO_PKG_NAME");

    /// The defaults, for this address.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Settings {
            host: host.into(),
            port,
            tls: None,
            username: None,
            client_name: Settings::CLIENT_NAME.to_owned(),
            password: None,
            reread: None,
            sentinels: None,
            db: 0,
            connect_timeout: Duration::from_millis(1000),
            response_timeout: Duration::from_millis(2000),
            down_after: Duration::from_millis(5000),
        }
    }

    /// What TLS needs towards their host; None: without TLS.
    pub(super) fn tls_client(&self) -> Result<Option<TlsClient>, SetupError> {
        self.tls.as_ref().map(|tls| TlsClient::new(tls, &self.host)).transpose()
    }

    /// The address as an URL, without credentials.
    pub fn describe(&self) -> String {
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        format!("{scheme}://{open}{}{close}:{}/{}", self.host, self.port, self.db)
    }
}

/// What a TLS handshake needs, made once.
#[derive(Clone)]
pub(crate) struct TlsClient {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

impl TlsClient {
    pub(crate) fn new(tls: &TlsSettings, host: &str) -> Result<Self, SetupError> {
        let name = server_name(host)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| SetupError::Tls("the TLS provider supports none of the protocol versions"))?
            .with_root_certificates(roots(tls.ca.as_ref().map(Pem::expose))?);
        let config = match (&tls.cert, &tls.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => {
                let (chain, key) = identity(cert, key)?;
                let misfit = |_| SetupError::Tls("the client certificate and key do not belong together");
                builder.with_client_auth_cert(chain, key).map_err(misfit)?
            }
            _ => return Err(SetupError::Tls("a client certificate and a client key go together")),
        };
        Ok(TlsClient { config: Arc::new(config), name })
    }

    /// The same for another host.
    pub(crate) fn towards(&self, host: &str) -> Result<Self, SetupError> {
        Ok(TlsClient { config: self.config.clone(), name: server_name(host)? })
    }
}

/// The client certificate with those that signed it, and its key.
fn identity(cert: &Pem, key: &Pem) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), SetupError> {
    let chain = certificates(cert.expose(), SetupError::Tls("the client certificate is not PEM"))?;
    let key = PrivateKeyDer::from_pem_slice(key.expose());
    Ok((chain, key.map_err(|_| SetupError::Tls("the client key is not PEM"))?))
}

fn server_name(host: &str) -> Result<ServerName<'static>, SetupError> {
    ServerName::try_from(host.to_owned()).map_err(|_| SetupError::Tls("the host is not a valid server name"))
}

fn roots(ca: Option<&[u8]>) -> Result<RootCertStore, SetupError> {
    let mut store = RootCertStore::empty();
    match ca {
        None => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(pem) => {
            const WRONG: SetupError = SetupError::Tls("the CA file holds no usable PEM certificate");
            for certificate in certificates(pem, WRONG)? {
                store.add(certificate).map_err(|_| WRONG)?;
            }
        }
    }
    Ok(store)
}

fn certificates(pem: &[u8], wrong: SetupError) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_described_without_credentials() {
        let mut settings = Settings { password: Some(Secret::new("hunter2")), db: 3, ..Settings::new("::1", 6379) };
        assert_eq!(settings.describe(), "redis://[::1]:6379/3");
        settings.tls = Some(TlsSettings::default());
        assert_eq!(settings.describe(), "rediss://[::1]:6379/3");
    }

    #[test]
    fn debug_shows_no_secret() {
        let password = Some(Secret::new("hunter2"));
        let tls = Some(TlsSettings { key: Some(Pem::new(b"hunter2".to_vec())), ..TlsSettings::default() });
        let settings = Settings { password, tls, ..Settings::new("host", 6379) };
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
