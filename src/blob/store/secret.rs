//! What a store's requests are signed with, ready for use: each kind is parsed once, and whatever has its type can be signed
//! with. The settings, the files that they name and the platform's environment are all checked by the same parsers. `Debug`
//! shows nothing of a secret, and no reason quotes one.

use std::fmt;
use std::str::FromStr;

use awc::http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, IF_NONE_MATCH, TRANSFER_ENCODING,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use super::service_account::ServiceAccount;
use crate::secret::MASK;

/// Bytes of a secret of one line, at most.
const MAX_BYTES: usize = 4096;
/// Headers that every request has from us, or from the HTTP client.
const OWN_HEADERS: [HeaderName; 6] =
    [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, ACCEPT_ENCODING, IF_NONE_MATCH];

/// Why a text is no such secret; it is not quoted.
pub type SecretFault = &'static str;

/// What one request is signed with, wherever it came from.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// Of S3.
    AccessKey(AccessKey),
    /// Of Azure.
    AccountKey(AccountKey),
    /// Of Azure.
    Sas(SasToken),
    /// A header, such as a bearer token.
    Header(RequestHeader),
    /// Requests go unsigned.
    Anonymous,
}

/// What the operator gave a store, by its settings or by files that they name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreSecret {
    /// Requests are signed with this very credential.
    Credential(Credential),
    /// It is exchanged for tokens, and requests are signed with these.
    ServiceAccount(ServiceAccount),
}

/// An access key of S3.
#[derive(Clone)]
pub struct AccessKey {
    pub(super) key: reqsign_aws_v4::Credential,
}

impl AccessKey {
    /// # Errors
    ///
    /// Which part is of no use, and why.
    pub fn new(id: &str, secret: &str, session_token: Option<&str>) -> Result<Self, String> {
        let part = |name: &str, result: Result<(), SecretFault>| result.map_err(|reason| format!("{name}: {reason}"));
        part("access key id", visible(id))?;
        part("secret access key", one_line(secret))?;
        part("session token", session_token.map_or(Ok(()), visible))?;
        let key = reqsign_aws_v4::Credential {
            access_key_id: id.to_owned(),
            secret_access_key: secret.to_owned(),
            session_token: session_token.map(str::to_owned),
            expires_in: None,
        };
        Ok(AccessKey { key })
    }
}

impl PartialEq for AccessKey {
    fn eq(&self, other: &Self) -> bool {
        let parts = |of: &Self| {
            let key = of.key.clone();
            (key.access_key_id, key.secret_access_key, key.session_token)
        };
        parts(self) == parts(other)
    }
}

impl Eq for AccessKey {}

/// Checks what stands in a header as it is: an access key's id, a session token.
///
/// # Errors
///
/// Why it cannot.
pub fn visible(text: &str) -> Result<(), SecretFault> {
    let is_visible = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_visible { one_line(text) } else { Err("not visible ASCII characters alone") }
}

/// Checks what is only computed with: a secret access key.
///
/// # Errors
///
/// Why it is of no use.
pub fn one_line(text: &str) -> Result<(), SecretFault> {
    match text {
        _ if text.len() > MAX_BYTES => Err("more than 4096 bytes"),
        _ if text.chars().any(char::is_control) => Err("a control character"),
        _ => Ok(()),
    }
}

/// The key of an Azure storage account, decoded.
#[derive(Clone)]
pub struct AccountKey {
    bytes: Box<[u8]>,
    key: hmac::Key,
}

impl AccountKey {
    /// The signature of a text, in base64.
    pub(super) fn sign(&self, text: &str) -> String {
        STANDARD.encode(hmac::sign(&self.key, text.as_bytes()))
    }
}

impl PartialEq for AccountKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for AccountKey {}

impl FromStr for AccountKey {
    type Err = SecretFault;

    fn from_str(text: &str) -> Result<Self, SecretFault> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| "not base64")?;
        if bytes.is_empty() || text.len() > MAX_BYTES {
            return Err("not the key of an account");
        }
        Ok(AccountKey { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), bytes: bytes.into() })
    }
}

/// A shared access signature of Azure: a query, without its question mark.
#[derive(Clone, PartialEq, Eq)]
pub struct SasToken(Box<str>);

impl SasToken {
    pub(super) fn query(&self) -> &str {
        &self.0
    }
}

impl FromStr for SasToken {
    type Err = SecretFault;

    fn from_str(text: &str) -> Result<Self, SecretFault> {
        let query = text.trim_start_matches('?');
        let is_query = query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') && query.contains("sig=");
        if text.len() <= MAX_BYTES && is_query {
            Ok(SasToken(query.into()))
        } else {
            Err("not the query of a shared access signature")
        }
    }
}

/// A header that each request carries.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestHeader {
    pub(super) name: HeaderName,
    /// Marked as one that nobody prints.
    pub(super) value: HeaderValue,
}

impl RequestHeader {
    /// # Errors
    ///
    /// The text cannot stand in a header.
    pub(super) fn new(name: HeaderName, value: &str) -> Result<Self, SecretFault> {
        let is_text = !value.is_empty() && value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        let mut value = HeaderValue::from_str(value).ok().filter(|_| is_text).ok_or("it cannot stand in a header")?;
        value.set_sensitive(true);
        Ok(RequestHeader { name, value })
    }
}

impl FromStr for RequestHeader {
    type Err = SecretFault;

    /// Of the form `Name: value`.
    fn from_str(text: &str) -> Result<Self, SecretFault> {
        let form = "not of the form Name: value";
        let (name, value) = text.split_once(':').filter(|_| text.len() <= MAX_BYTES).ok_or(form)?;
        let name = HeaderName::try_from(name.trim()).map_err(|_| "a header without a name")?;
        if OWN_HEADERS.contains(&name) {
            return Err("a header that requests have already");
        }
        RequestHeader::new(name, value.trim()).map_err(|_| form)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_signed_with_has_a_type() {
        assert!("a2V5\n".parse::<AccountKey>().is_ok() && "?sv=1&sig=x".parse::<SasToken>().is_ok());
        for bad in ["", "no base64!", "a2V5a"] {
            assert!(bad.parse::<AccountKey>().is_err(), "{bad}");
        }
        for bad in ["", "sv=1", "sig=a b", "sig=x#y", "sig=\u{1}"] {
            assert!(bad.parse::<SasToken>().is_err(), "{bad}");
        }
        let header: RequestHeader = "X-Api-Key :  a b ".parse().unwrap();
        assert_eq!((header.name.as_str(), header.value.as_bytes()), ("x-api-key", &b"a b"[..]));
        assert!(header.value.is_sensitive());
        for bad in ["", "x", "x:", ": x", "a b: x", "Host: x", "x: \u{7f}", "x: é", "x: a\tb"] {
            assert!(bad.parse::<RequestHeader>().is_err(), "{bad:?}");
        }
        assert!(AccessKey::new("AKID", "s é/+", Some("t")).is_ok());
        for (id, secret, token) in [("A B", "s", None), ("", "s", None), ("A", "s\u{1}", None), ("A", "s", Some("é"))]
        {
            assert!(AccessKey::new(id, secret, token).is_err(), "{id} {secret} {token:?}");
        }
    }
}
