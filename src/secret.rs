//! Passwords and keys, which must never be shown.

use std::fmt;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::parse_x509_certificate;

/// What stands in place of a secret wherever settings are shown.
pub const MASK: &str = "***";

/// A password, a token or a key. `Debug` and `Display` print `***`; only [`Secret::expose`] gives the text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Box<str>);

impl Secret {
    /// Takes the text as it is; nothing is trimmed.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Secret(text.into())
    }

    /// The text itself: for a comparison or a handshake, never for a message.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// The PEM text of a certificate or key file. `Debug` shows its length alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem(Vec<u8>);

impl Pem {
    /// Takes the file as it was read; whoever builds TLS of it parses it.
    pub fn new(bytes: Vec<u8>) -> Self {
        Pem(bytes)
    }

    /// The file as it was read: for a TLS library, never for a message.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// When the first of its certificates runs out, in seconds since 1970. None: it has none that can be read.
    pub fn expires(&self) -> Option<i64> {
        let certificates = CertificateDer::pem_slice_iter(&self.0).filter_map(Result::ok);
        let expires =
            |der: CertificateDer<'_>| Some(parse_x509_certificate(&der).ok()?.1.validity().not_after.timestamp());
        certificates.filter_map(expires).min()
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pem({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints_its_text() {
        let secret = Secret::new("hunter2");
        let pem = Pem::new(b"hunter2".to_vec());
        let printed = format!("{secret} {secret:?} {:#?} {pem:?}", Some(&secret));
        assert!(!printed.contains("hunter2"), "{printed}");
        assert_eq!(secret.expose(), "hunter2");
    }
}
