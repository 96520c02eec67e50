//! Credentials that are lent for a time: by the platform that the service runs on, or to a service account.

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use reqsign_aws_v4::DefaultCredentialProvider;
use reqsign_core::{Context, ProvideCredential};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use url::Url;
use url::form_urlencoded::Serializer;

use super::platform::Platform;
use super::signing_key::Credential;

/// What Azure's storage asks its tokens to be for, and Google's.
const AZURE: &str = "https://storage.azure.com/";
const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_only";
const GOOGLE_TOKENS: &str = "https://oauth2.googleapis.com/token";
const GOOGLE_METADATA: &str = "http://metadata.google.internal";
/// How long a service account asks a token for.
const TOKEN_FOR: Duration = Duration::from_secs(3600);

/// Why nothing was lent, for who operates the service; it holds no secret.
pub type Reason = String;

/// A credential, and when it ends.
pub struct Lent {
    pub credential: Credential,
    /// None: nobody said.
    pub until: Option<SystemTime>,
}

/// Who lends.
#[derive(Clone)]
pub enum CredentialLender {
    /// Environment, shared files, web identity, container and instance of AWS, in that order.
    Aws,
    /// Environment, workload identity, App Service and instance of Azure.
    Azure,
    /// `GOOGLE_APPLICATION_CREDENTIALS`, and the metadata service.
    Google,
}

impl CredentialLender {
    pub(super) async fn lend(&self, platform: &Platform) -> Result<Lent, Reason> {
        match self {
            CredentialLender::Aws => aws(platform).await,
            CredentialLender::Azure => azure(platform).await,
            CredentialLender::Google => google(platform).await,
        }
    }
}

impl fmt::Debug for CredentialLender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the platform")
    }
}

async fn aws(platform: &Platform) -> Result<Lent, Reason> {
    // Programs are not run for a credential.
    let provider = DefaultCredentialProvider::builder().no_sso().no_process().build();
    let given = provider.provide_credential(&platform.context()).await;
    // The library's words may repeat what a service answered.
    let given = given.map_err(|error| format!("AWS provides none ({})", error.kind()))?;
    let given = given.ok_or("the environment has none, and no AWS service provides one")?;
    let (id, secret, session_token) = (given.access_key_id, given.secret_access_key, given.session_token);
    let until = given.expires_in.map(|until| until.as_system_time());
    Ok(Lent { credential: Credential::AccessKey { id, secret, session_token }, until })
}

async fn azure(platform: &Platform) -> Result<Lent, Reason> {
    let context = platform.context();
    let variable = |name: &str| context.env_var(name).filter(|value| !value.is_empty());
    if let Some(key) = variable("AZURE_STORAGE_ACCOUNT_KEY").or_else(|| variable("AZURE_STORAGE_KEY")) {
        return Ok(Lent { credential: Credential::AccountKey(key), until: None });
    }
    if let Some(token) = variable("AZURE_STORAGE_SAS_TOKEN") {
        let token = token.trim_start_matches('?').to_owned();
        return Ok(Lent { credential: Credential::Sas(token), until: None });
    }
    let client = variable("AZURE_CLIENT_ID");
    if let (Some(client), Some(tenant)) = (&client, variable("AZURE_TENANT_ID")) {
        let secret = variable("AZURE_CLIENT_SECRET").map(|secret| ("client_secret", secret));
        let proof = match (secret, variable("AZURE_FEDERATED_TOKEN_FILE")) {
            (Some(secret), _) => Some(secret),
            (None, Some(file)) => Some(("client_assertion", read(&context, &file).await?)),
            (None, None) => None,
        };
        if let Some(proof) = proof {
            return azure_client(platform, &context, client, &tenant, proof).await;
        }
    }
    let mut url = match variable("IDENTITY_ENDPOINT") {
        Some(endpoint) => parsed(&format!("{endpoint}?api-version=2019-08-01"))?,
        None => parsed("http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01")?,
    };
    url.query_pairs_mut().append_pair("resource", AZURE);
    if let Some(client) = &client {
        url.query_pairs_mut().append_pair("client_id", client);
    }
    let header = match variable("IDENTITY_HEADER") {
        Some(proof) => ("x-identity-header", proof),
        None => ("metadata", "true".to_owned()),
    };
    let request = http1::Request::get(url.as_str()).header(header.0, header.1).body(Bytes::new());
    token(platform, request, url, "the instance's identity service").await
}

async fn azure_client(
    platform: &Platform,
    context: &Context,
    client: &str,
    tenant: &str,
    (kind, proof): (&str, String),
) -> Result<Lent, Reason> {
    let authority = context.env_var("AZURE_AUTHORITY_HOST");
    let authority = authority.unwrap_or_else(|| "https://login.microsoftonline.com".to_owned());
    let url = parsed(&format!("{}/{tenant}/oauth2/v2.0/token", authority.trim_end_matches('/')))?;
    let scope = format!("{AZURE}.default");
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials").append_pair("client_id", client).append_pair("scope", &scope);
    if kind == "client_assertion" {
        form.append_pair("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    }
    form.append_pair(kind, proof.trim());
    token(platform, post(&url, form.finish()), url, "Microsoft Entra").await
}

async fn google(platform: &Platform) -> Result<Lent, Reason> {
    let context = platform.context();
    if let Some(file) = context.env_var("GOOGLE_APPLICATION_CREDENTIALS").filter(|file| !file.is_empty()) {
        return google_key(platform, &read(&context, &file).await?).await;
    }
    let host = context.env_var("GCE_METADATA_HOST").map(|host| format!("http://{host}"));
    let host = host.unwrap_or_else(|| GOOGLE_METADATA.to_owned());
    let url = parsed(&format!("{host}/computeMetadata/v1/instance/service-accounts/default/token"))?;
    let request = http1::Request::get(url.as_str()).header("metadata-flavor", "Google").body(Bytes::new());
    token(platform, request, url, "the metadata service").await
}

/// A token for the account or the person whose key file this is.
pub async fn google_key(platform: &Platform, text: &str) -> Result<Lent, Reason> {
    let key: Value = serde_json::from_str(text).map_err(|_| "the key file is not JSON")?;
    let member = |name: &str| key.get(name).and_then(Value::as_str);
    let url = parsed(member("token_uri").unwrap_or(GOOGLE_TOKENS))?;
    let mut form = Serializer::new(String::new());
    match member("type") {
        Some("service_account") => {
            let email = member("client_email").ok_or("the key file has no client_email")?;
            let private = member("private_key").ok_or("the key file has no private_key")?;
            let assertion = assertion(email, private, url.as_str(), SystemTime::now())?;
            form.append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
            form.append_pair("assertion", &assertion);
        }
        Some("authorized_user") => {
            form.append_pair("grant_type", "refresh_token");
            for name in ["client_id", "client_secret", "refresh_token"] {
                form.append_pair(name, member(name).ok_or_else(|| format!("the key file has no {name}"))?);
            }
        }
        _ => return Err("the key file is for neither a service account nor an authorized user".to_owned()),
    }
    token(platform, post(&url, form.finish()), url, "Google's token service").await
}

/// What a service account shows for a token: a JWT, signed by its key (RFC 7523).
fn assertion(email: &str, private_key: &str, audience: &str, now: SystemTime) -> Result<String, Reason> {
    let bad = "the private_key of the key file is not an RSA key in PEM";
    let der = PrivateKeyDer::from_pem_slice(private_key.as_bytes()).map_err(|_| bad)?;
    let pair = match &der {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err(bad.to_owned()),
    };
    let pair = pair.map_err(|_| bad)?;
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let claims = json!({
        "iss": email, "scope": GOOGLE_SCOPE, "aud": audience,
        "iat": now.as_secs(), "exp": (now + TOKEN_FOR).as_secs(),
    });
    let encoded = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let text = format!("{}.{}", encoded(json!({ "alg": "RS256", "typ": "JWT" })), encoded(claims));
    let mut signature = vec![0; pair.public().modulus_len()];
    let signed = pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature);
    signed.map_err(|_| "the private_key cannot sign")?;
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn post(url: &Url, form: String) -> http1::Result<http1::Request<Bytes>> {
    http1::Request::post(url.as_str()).header("content-type", "application/x-www-form-urlencoded").body(form.into())
}

/// Asks for a bearer token.
async fn token(
    platform: &Platform,
    request: http1::Result<http1::Request<Bytes>>,
    url: Url,
    who: &str,
) -> Result<Lent, Reason> {
    let request = request.map_err(|_| format!("no request to {who} could be made"))?;
    let answer = platform.send(request, Some(url)).await.map_err(|_| format!("{who} does not answer"))?;
    if answer.status() != 200 {
        return Err(format!("{who} answered with status {}", answer.status().as_u16()));
    }
    let answer: Value =
        serde_json::from_slice(answer.body()).map_err(|_| format!("the answer of {who} is not JSON"))?;
    let token = answer.get("access_token").and_then(Value::as_str);
    let token = token.ok_or_else(|| format!("the answer of {who} has no token"))?;
    // Azure's services write the number as a text.
    let seconds = answer.get("expires_in");
    let seconds = seconds.and_then(|given| given.as_u64().or_else(|| given.as_str()?.parse().ok()));
    let until = seconds.and_then(|seconds| SystemTime::now().checked_add(Duration::from_secs(seconds)));
    Ok(Lent { credential: Credential::Bearer(token.to_owned()), until })
}

async fn read(context: &Context, path: &str) -> Result<String, Reason> {
    let text = context.file_read_as_string(path).await;
    text.map_err(|_| format!("the file {path} cannot be read"))
}

fn parsed(url: &str) -> Result<Url, Reason> {
    Url::parse(url).map_err(|_| "the URL of the token service is not valid".to_owned())
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_service_account_signs_what_it_asks_for() {
        let pem = include_str!("../../../tests/keys/rsa.pem");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let jwt = assertion("a@p.iam.gserviceaccount.com", pem, "https://t.test/token", now).unwrap();
        let parts: Vec<&str> = jwt.split('.').collect();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        assert_eq!((&claims["aud"], &claims["exp"]), (&json!("https://t.test/token"), &json!(1_700_003_600)));
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        let pair = match &der {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap(),
            _ => RsaKeyPair::from_der(der.secret_der()).unwrap(),
        };
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public().as_ref().to_vec());
        let signed = format!("{}.{}", parts[0], parts[1]);
        public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(parts[2]).unwrap()).unwrap();
        let not_rsa = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode("x"));
        for bad in ["", "x", not_rsa.as_str()] {
            assert!(assertion("a", bad, "https://t.test/token", now).is_err());
        }
    }
}
