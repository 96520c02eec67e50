//! The files that settings name: read bounded, and checked. Their contents reach no message.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::checks;
use super::effective::Effective;
use super::fault::SettingFault;
use super::kind::{items, may_hold_secret};
use super::named::{SOURCES, STORES, find, source_settings, store_settings};
use super::secret::{MASK, Pem, Secret, WebhookSecret};
use super::table::Setting;
use super::tls::{TlsFiles, TlsPems};
use crate::blob::store::ServiceAccount;

/// Bytes of a file at most.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// What the files held; none where no file is named.
#[derive(Default)]
pub struct Files {
    pub tokens: Vec<Secret>,
    pub webhook_secrets: Vec<WebhookSecret>,
    pub redis_password: Option<Secret>,
    pub sentinel_password: Option<Secret>,
    pub tls_ca: Option<Pem>,
    pub tls_cert: Option<Pem>,
    pub tls_key: Option<Pem>,
    pub listener: Option<TlsPems>,
    pub fetch_roots: Vec<CertificateDer<'static>>,
    /// The tokens in files, by the names of the sources.
    pub tokens_of_sources: Vec<(String, Vec<Secret>)>,
}

/// Reads every file that is named; each that is of no use is a fault.
pub fn read(settings: &Effective, faults: &mut Vec<SettingFault>) -> Files {
    let mut reader = Reader { settings, faults };
    let tokens_of_sources = settings.names(SOURCES).into_iter().filter_map(|name| {
        let setting = source_settings(name).iter().find(|setting| setting.leaf() == "tokens_file")?;
        Some((name.to_owned(), reader.read(setting.path, tokens)?))
    });
    let tokens_of_sources = tokens_of_sources.collect();
    for setting in settings.names(STORES).into_iter().flat_map(store_settings) {
        match setting.leaf() {
            "service_account_file" => {
                let _ = reader.read(setting.path, |bytes| text(bytes)?.parse::<ServiceAccount>().map(drop));
            }
            leaf if leaf.ends_with("_file") => {
                let _ = reader.read(setting.path, |bytes| as_set(setting, bytes));
            }
            _ => {}
        }
    }
    let (tls_cert, tls_key) = reader.pair("redis.tls_cert", "redis.tls_key");
    let (cert, key) = reader.pair("http.tls_cert", "http.tls_key");
    let client_ca = reader.read("http.tls_client_ca", |bytes| authorities(&bytes).map(|_| Pem::new(bytes)));
    Files {
        tokens: reader.read("auth.tokens_file", tokens).unwrap_or_default(),
        webhook_secrets: reader.read("auth.webhook_secrets_file", webhook_secrets).unwrap_or_default(),
        redis_password: reader.read("redis.password_file", password),
        sentinel_password: reader.read("redis.sentinel_password_file", password),
        tls_ca: reader.read("redis.tls_ca", |bytes| authorities(&bytes).map(|_| Pem::new(bytes))),
        tls_cert,
        tls_key,
        listener: cert.zip(key).map(|(cert, key)| TlsPems { cert, key, client_ca }),
        fetch_roots: reader.read("fetch.ca_file", |bytes| authorities(&bytes)).unwrap_or_default(),
        tokens_of_sources,
    }
}

/// The tokens that the file of `auth.tokens_file` holds now; at least one.
///
/// # Errors
/// Why it is of no use, for a person.
pub fn tokens_in(path: &Path) -> Result<Vec<Secret>, String> {
    contents(path).and_then(tokens)
}

/// The text of a file that holds a secret of several lines, such as a key in JSON.
///
/// # Errors
/// Why it is of no use, for a person.
pub fn text_in(path: &Path) -> Result<Secret, String> {
    contents(path).and_then(text).map(Secret::new)
}

/// The same of `auth.webhook_secrets_file`.
///
/// # Errors
/// Why it is of no use, for a person.
pub fn webhook_secrets_in(path: &Path) -> Result<Vec<WebhookSecret>, String> {
    contents(path).and_then(webhook_secrets)
}

/// The password that a file holds now.
///
/// # Errors
/// Why it is of no use, for a person.
pub fn password_in(path: &Path) -> Result<Secret, String> {
    contents(path).and_then(password)
}

/// What the files of the listener's TLS hold now.
///
/// # Errors
/// Why they are of no use, for a person.
pub fn tls_in(files: &TlsFiles) -> Result<TlsPems, String> {
    let (cert, key) = pair_in(&files.cert, &files.key)?;
    let client_ca = files.client_ca.as_ref().map(|path| {
        let bytes = contents(path)?;
        authorities(&bytes).map(|_| Pem::new(bytes))
    });
    Ok(TlsPems { cert, key, client_ca: client_ca.transpose()? })
}

/// A certificate to show with its chain, and its key.
///
/// # Errors
/// Why they are of no use, for a person.
pub fn identity_in(cert: &Path, key: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let (cert, key) = pair_in(cert, key)?;
    let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| "the key is not valid PEM".to_owned())?;
    Ok((certificates(cert.expose())?, key))
}

/// The certificates of a PEM file of authorities; at least one.
///
/// # Errors
/// Why it is of no use, for a person.
pub fn authorities_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    authorities(&contents(path)?)
}

/// The whole file, or an error of kind `FileTooLarge` beyond [`MAX_FILE_BYTES`].
pub fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Why a file could not be read, for a person.
pub fn what_failed(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::FileTooLarge => "larger than 1 MiB".to_owned(),
        io::ErrorKind::PermissionDenied => "it cannot be read: permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => format!("it cannot be read: {error}"),
    }
}

struct Reader<'a> {
    settings: &'a Effective,
    faults: &'a mut Vec<SettingFault>,
}

impl Reader<'_> {
    fn read<T>(&mut self, setting: &'static str, parse: impl FnOnce(Vec<u8>) -> Result<T, String>) -> Option<T> {
        let path = self.settings.text(setting)?;
        let parsed = contents(Path::new(path)).and_then(parse);
        parsed
            .map_err(|reason| {
                let origin = self.settings.origin(setting);
                let path = if may_hold_secret(path) { MASK } else { path }.to_owned();
                self.faults.push(SettingFault::NamedFile { setting, origin, path, reason });
            })
            .ok()
    }

    /// A certificate and the key to it.
    fn pair(&mut self, cert: &'static str, private: &'static str) -> (Option<Pem>, Option<Pem>) {
        let certificate = self.read(cert, |bytes| certificates(&bytes).map(|_| Pem::new(bytes)));
        let key = self.read(private, |bytes| match &certificate {
            Some(of) => {
                belong_together(of.expose(), &bytes, &format!("the certificate of {cert}")).map(|()| Pem::new(bytes))
            }
            None => key(&bytes).map(|_| Pem::new(bytes)),
        });
        (certificate, key)
    }
}

/// All of a file, or why it cannot be had.
fn contents(path: &Path) -> Result<Vec<u8>, String> {
    read_bounded(path).map_err(|error| what_failed(&error))
}

/// Why a certificate and a key are of no use: for those of a pair that was good at the start.
fn pair_in(cert: &Path, key: &Path) -> Result<(Pem, Pem), String> {
    let (certificate, private) = (contents(cert)?, contents(key)?);
    belong_together(&certificate, &private, "the certificate")?;
    Ok((Pem::new(certificate), Pem::new(private)))
}

fn tokens(bytes: Vec<u8>) -> Result<Vec<Secret>, String> {
    let text = text(bytes)?;
    let mut tokens = Vec::new();
    for (index, token) in items(&text).enumerate() {
        checks::token(token).map_err(|reason| format!("item {}: {reason}", index + 1))?;
        tokens.push(Secret::new(token));
    }
    if tokens.is_empty() { Err("it holds no token".to_owned()) } else { Ok(tokens) }
}

fn webhook_secrets(bytes: Vec<u8>) -> Result<Vec<WebhookSecret>, String> {
    let text = text(bytes)?;
    let secret = |(index, item): (usize, &str)| item.parse().map_err(|reason| format!("item {}: {reason}", index + 1));
    let secrets: Vec<WebhookSecret> = items(&text).enumerate().map(secret).collect::<Result<_, String>>()?;
    if secrets.is_empty() { Err("it holds no secret".to_owned()) } else { Ok(secrets) }
}

/// Checks what the file of a secret holds as the secret itself would be in a setting.
fn as_set(file: &Setting, bytes: Vec<u8>) -> Result<(), String> {
    let secret = password(bytes)?;
    let own = file.path.strip_suffix("_file").and_then(find);
    own.map_or(Ok(()), |own| own.kind.from_text(secret.expose(), false).map(drop))
}

/// Without the line's end that editors and `echo` put behind it.
fn password(bytes: Vec<u8>) -> Result<Secret, String> {
    let text = text(bytes)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    match line {
        "" => Err("it is empty".to_owned()),
        _ if line.len() > 4096 => Err("it holds more than 4096 bytes".to_owned()),
        _ if line.contains('\n') => Err("it holds more than one line".to_owned()),
        _ => Ok(Secret::new(line)),
    }
}

fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err("it holds no PEM certificate".to_owned()),
        Ok(certificates) => Ok(certificates),
        Err(_) => Err("it is not valid PEM".to_owned()),
    }
}

/// Certificates that can be trusted as roots: what TLS would refuse later is refused here.
fn authorities(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = certificates(bytes)?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|_| "it holds a certificate that cannot be read")?;
    }
    Ok(certificates)
}

fn key(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(bytes).map_err(|_| "it holds no PEM private key".to_owned())
}

fn belong_together(certificate: &[u8], private: &[u8], whose: &str) -> Result<(), String> {
    CertifiedKey::from_der(certificates(certificate)?, key(private)?, &ring::default_provider())
        .map(drop)
        .map_err(|_| format!("it is not the key to {whose}"))
}

fn text(bytes: Vec<u8>) -> Result<String, String> {
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
