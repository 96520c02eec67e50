//! The key file of an account of Google Cloud, and what is sent in exchange for a token.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use url::Url;
use url::form_urlencoded::Serializer;

use crate::secret::MASK;

const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_only";
const TOKENS: &str = "https://oauth2.googleapis.com/token";
/// How long a service account asks a token for.
const TOKEN_FOR: Duration = Duration::from_secs(3600);

/// A key file, parsed. Cheap to clone.
#[derive(Clone)]
pub struct ServiceAccount(Arc<Parsed>);

struct Parsed {
    text: Box<str>,
    token_url: Url,
    proof: Proof,
}

/// What is shown for a token.
enum Proof {
    /// A service account signs.
    Key { email: String, pair: RsaKeyPair },
    /// A person has logged in once: `client_id`, `client_secret` and `refresh_token`.
    Refresh([(&'static str, String); 3]),
}

impl ServiceAccount {
    /// Where tokens are given out.
    pub(super) fn token_url(&self) -> &Url {
        &self.0.token_url
    }

    /// The form that asks for a token.
    ///
    /// # Errors
    ///
    /// The key signs nothing.
    pub(super) fn form(&self, now: SystemTime) -> Result<String, String> {
        let mut form = Serializer::new(String::new());
        match &self.0.proof {
            Proof::Key { email, pair } => {
                form.append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
                form.append_pair("assertion", &assertion(email, pair, self.0.token_url.as_str(), now)?);
            }
            Proof::Refresh(members) => {
                form.append_pair("grant_type", "refresh_token").extend_pairs(members);
            }
        }
        Ok(form.finish())
    }
}

impl FromStr for ServiceAccount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let key: Value = serde_json::from_str(text).map_err(|_| "it is not JSON")?;
        let member = |name: &str| key.get(name).and_then(Value::as_str).filter(|member| !member.is_empty());
        let needed = |name: &str| member(name).map(str::to_owned).ok_or_else(|| format!("it has no {name}"));
        let token_url = Url::parse(member("token_uri").unwrap_or(TOKENS)).ok().filter(Url::has_host);
        let token_url = token_url.ok_or("its token_uri is not a URL")?;
        let proof = match member("type") {
            Some("service_account") => {
                Proof::Key { email: needed("client_email")?, pair: key_pair(&needed("private_key")?)? }
            }
            Some("authorized_user") => {
                let pair = |name| Ok::<_, String>((name, needed(name)?));
                Proof::Refresh([pair("client_id")?, pair("client_secret")?, pair("refresh_token")?])
            }
            _ => return Err("it is for neither a service account nor an authorized user".to_owned()),
        };
        Ok(ServiceAccount(Arc::new(Parsed { text: text.into(), token_url, proof })))
    }
}

impl PartialEq for ServiceAccount {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for ServiceAccount {}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

fn key_pair(pem: &str) -> Result<RsaKeyPair, String> {
    let pair = match PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
        Ok(PrivateKeyDer::Pkcs8(der)) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok(),
        Ok(PrivateKeyDer::Pkcs1(der)) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok(),
        _ => None,
    };
    pair.ok_or_else(|| "its private_key is not an RSA key in PEM".to_owned())
}

/// What a service account shows for a token: a JWT, signed by its key (RFC 7523).
fn assertion(email: &str, pair: &RsaKeyPair, audience: &str, now: SystemTime) -> Result<String, String> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let claims = json!({
        "iss": email, "scope": SCOPE, "aud": audience,
        "iat": now.as_secs(), "exp": (now + TOKEN_FOR).as_secs(),
    });
    let encoded = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let text = format!("{}.{}", encoded(json!({ "alg": "RS256", "typ": "JWT" })), encoded(claims));
    let mut signature = vec![0; pair.public().modulus_len()];
    match pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature) {
        Ok(()) => Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))),
        Err(_) => Err("its private_key cannot sign".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    const PEM: &str = include_str!("../../../tests/keys/rsa.pem");

    fn account(kind: &str, key: &str, url: &str) -> Result<ServiceAccount, String> {
        json!({"type": kind, "client_email": "a@p.test", "private_key": key, "token_uri": url}).to_string().parse()
    }

    #[test]
    fn a_service_account_signs_what_it_asks_for() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let account = account("service_account", PEM, "https://t.test/token").unwrap();
        let form = account.form(now).unwrap();
        let (_, jwt) = url::form_urlencoded::parse(form.as_bytes()).find(|(name, _)| name == "assertion").unwrap();
        let parts: Vec<&str> = jwt.split('.').collect();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        assert_eq!((&claims["aud"], &claims["exp"]), (&json!("https://t.test/token"), &json!(1_700_003_600)));
        let public = key_pair(PEM).unwrap().public().as_ref().to_vec();
        let signed = format!("{}.{}", parts[0], parts[1]);
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public);
        public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(parts[2]).unwrap()).unwrap();
    }

    #[test]
    fn a_key_file_that_no_token_can_be_asked_with_is_none() {
        for (bad, why) in [
            (account("service_account", "x", "https://t.test/"), "private_key"),
            (account("service_account", PEM, "no URL"), "token_uri"),
            (account("external_account", PEM, "https://t.test/"), "neither"),
            (account("authorized_user", PEM, "https://t.test/"), "client_id"),
            ("{".parse(), "JSON"),
        ] {
            let reason = bad.expect_err(why);
            assert!(reason.contains(why), "{reason}");
        }
    }
}
