//! Credentials that are lent for a time: by the platform that the service runs on, or to a service account.

use std::fmt;
use std::time::{Duration, SystemTime};

use awc::http::header::AUTHORIZATION;
use bytes::Bytes;
use reqsign_aws_v4::DefaultCredentialProvider;
use reqsign_core::{Context, ProvideCredential};
use serde_json::Value;
use url::Url;
use url::form_urlencoded::Serializer;

use super::platform::Platform;
use super::secret::{AccessKey, Credential, RequestHeader};
use super::service_account::ServiceAccount;

/// What Azure's storage asks its tokens to be for.
const AZURE: &str = "https://storage.azure.com/";
const GOOGLE_METADATA: &str = "http://metadata.google.internal";

/// Why nothing was lent, for who operates the service; it holds no secret.
pub type Reason = String;

/// A credential, and when it ends.
pub struct Lent {
    pub credential: Credential,
    /// None: nobody said.
    pub until: Option<SystemTime>,
}

/// Who lends.
#[derive(Clone, PartialEq)]
pub enum CredentialLender {
    /// Environment, shared files, web identity, container and instance of AWS, in that order.
    Aws,
    /// Environment, workload identity, App Service and instance of Azure.
    Azure,
    /// `GOOGLE_APPLICATION_CREDENTIALS`, and the metadata service.
    Google,
    /// Google's token service, in exchange for a key file.
    To(ServiceAccount),
}

impl CredentialLender {
    pub(super) async fn lend(&self, platform: &Platform) -> Result<Lent, Reason> {
        match self {
            CredentialLender::Aws => aws(platform).await,
            CredentialLender::Azure => azure(platform).await,
            CredentialLender::Google => google(platform).await,
            CredentialLender::To(account) => exchanged(platform, account).await,
        }
    }
}

impl fmt::Debug for CredentialLender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a lender")
    }
}

async fn aws(platform: &Platform) -> Result<Lent, Reason> {
    // Programs are not run for a credential.
    let provider = DefaultCredentialProvider::builder().no_sso().no_process().build();
    let given = provider.provide_credential(&platform.context()).await;
    // The library's words may repeat what a service answered.
    let given = given.map_err(|error| format!("AWS lends none ({})", error.kind()))?;
    let given = given.ok_or("there is none in the environment, and no service of AWS lends one")?;
    let key = AccessKey::new(&given.access_key_id, &given.secret_access_key, given.session_token.as_deref());
    let key = key.map_err(|reason| format!("what AWS lends is of no use: {reason}"))?;
    let until = given.expires_in.map(|until| until.as_system_time());
    Ok(Lent { credential: Credential::AccessKey(key), until })
}

async fn azure(platform: &Platform) -> Result<Lent, Reason> {
    let context = platform.context();
    let variable = |name: &str| context.env_var(name).filter(|value| !value.is_empty());
    for name in ["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN"] {
        let Some(text) = variable(name) else { continue };
        let credential = match name {
            "AZURE_STORAGE_SAS_TOKEN" => text.parse().map(Credential::Sas),
            _ => text.parse().map(Credential::AccountKey),
        };
        let credential = credential.map_err(|reason| format!("the variable {name}: {reason}"))?;
        return Ok(Lent { credential, until: None });
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
        let account = read(&context, &file).await?.parse().map_err(|reason| format!("the file {file}: {reason}"))?;
        return exchanged(platform, &account).await;
    }
    let host = context.env_var("GCE_METADATA_HOST").map(|host| format!("http://{host}"));
    let host = host.unwrap_or_else(|| GOOGLE_METADATA.to_owned());
    let url = parsed(&format!("{host}/computeMetadata/v1/instance/service-accounts/default/token"))?;
    let request = http1::Request::get(url.as_str()).header("metadata-flavor", "Google").body(Bytes::new());
    token(platform, request, url, "the metadata service").await
}

/// A token in exchange for a key file.
async fn exchanged(platform: &Platform, account: &ServiceAccount) -> Result<Lent, Reason> {
    let (url, form) = (account.token_url(), account.form(SystemTime::now())?);
    token(platform, post(url, form), url.clone(), "Google's token service").await
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
    let header = RequestHeader::new(AUTHORIZATION, &format!("Bearer {token}"));
    let header = header.map_err(|_| format!("{who} answered with what is no token"))?;
    Ok(Lent { credential: Credential::Header(header), until })
}

async fn read(context: &Context, path: &str) -> Result<String, Reason> {
    let text = context.file_read_as_string(path).await;
    text.map_err(|_| format!("the file {path} cannot be read"))
}

fn parsed(url: &str) -> Result<Url, Reason> {
    Url::parse(url).map_err(|_| "the URL of the token service is not valid".to_owned())
}
