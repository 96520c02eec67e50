//! A certificate of SNS: the key that signs, and when it does.

use ring::signature::{
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RsaParameters, UnparsedPublicKey,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::parse_x509_certificate;

/// The signatures that SNS makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CertificateVersion {
    /// SHA-1: the default of a topic.
    One,
    /// SHA-256.
    Two,
}

impl CertificateVersion {
    /// The version with this name in a message.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "1" => Some(CertificateVersion::One),
            "2" => Some(CertificateVersion::Two),
            _ => None,
        }
    }

    fn algorithm(self) -> &'static RsaParameters {
        match self {
            CertificateVersion::One => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
            CertificateVersion::Two => &RSA_PKCS1_2048_8192_SHA256,
        }
    }
}

/// The part of a certificate that matters here. Whose it is, is known from where it was fetched.
pub(super) struct Certificate {
    /// RSA, as PKCS #1 has it.
    key: Vec<u8>,
    /// Seconds since 1970, both included.
    valid: (i64, i64),
}

impl Certificate {
    /// The first certificate of a PEM text. None: there is none.
    pub fn of_pem(pem: &[u8]) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(pem).ok()?;
        let (_, certificate) = parse_x509_certificate(&der).ok()?;
        let validity = certificate.validity();
        let valid = (validity.not_before.timestamp(), validity.not_after.timestamp());
        Some(Certificate { key: certificate.public_key().subject_public_key.data.to_vec(), valid })
    }

    /// `now` in seconds since 1970.
    pub fn is_valid(&self, now: i64) -> bool {
        (self.valid.0..=self.valid.1).contains(&now)
    }

    /// Whether this key made the signature.
    pub fn has_signed(&self, version: CertificateVersion, text: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(version.algorithm(), &self.key).verify(text, signature).is_ok()
    }
}
