//! Puts the store's credential on one request.

use std::sync::Arc;
use std::time::SystemTime;

use awc::http::Method;
use awc::http::header::{HeaderMap, HeaderName, HeaderValue};
use reqsign_aws_v4::{EMPTY_STRING_SHA256, RequestSigner};
use reqsign_core::{Context, SignRequest};

use super::secret::{AccessKey, Credential};
use super::{Store, StoreKind, StorePlace, azure};
use crate::blob::caller::host_header;
use crate::blob::{FetchError, FetchErrorKind};

/// What is added to a request so that the store knows who asks.
#[derive(Debug)]
pub struct Signed {
    /// The path and query to send.
    pub target: String,
    /// To be sent with the request.
    pub headers: HeaderMap,
    /// What it was signed with, to be compared if the store refuses it.
    pub credential: Arc<Credential>,
}

/// Signs by AWS Signature Version 4.
pub struct AwsSigner(RequestSigner);

impl AwsSigner {
    pub fn new(service: &str, region: &str) -> Self {
        AwsSigner(RequestSigner::new(service, region).with_standard_session_token())
    }
}

impl Store {
    /// Signs a request without a body. `headers` are those that a signature may have to cover.
    ///
    /// # Errors
    ///
    /// The credential cannot be had, or is of no use.
    pub async fn sign(&self, method: &Method, place: &StorePlace, headers: HeaderMap) -> Result<Signed, FetchError> {
        let credential = self.credentials.current().await?;
        let mut signed = Signed { target: place.target.clone(), headers, credential: credential.clone() };
        if self.kind == StoreKind::Azure {
            azure::add_version(&mut signed.headers);
        }
        match &*credential {
            Credential::Anonymous => {}
            Credential::AccessKey(key) => self.aws.sign(method, place, key, &mut signed.headers).await?,
            Credential::AccountKey(key) => {
                let account = self.account.as_deref().unwrap_or_default();
                azure::sign(method, &place.target, (account, key), SystemTime::now(), &mut signed.headers)
                    .map_err(|reason| unusable(&reason))?;
            }
            Credential::Sas(token) => {
                let separator = if place.target.contains('?') { '&' } else { '?' };
                signed.target = format!("{}{separator}{}", place.target, token.query());
            }
            Credential::Header(header) => {
                signed.headers.insert(header.name.clone(), header.value.clone());
            }
        }
        Ok(signed)
    }

    /// The store refused a request that was signed with this. Whether another attempt would be signed with something else.
    pub async fn has_other_credential(&self, refused: &Credential) -> bool {
        self.credentials.has_other_than(refused).await
    }
}

impl AwsSigner {
    async fn sign(
        &self,
        method: &Method,
        place: &StorePlace,
        key: &AccessKey,
        headers: &mut HeaderMap,
    ) -> Result<(), FetchError> {
        let uri = [place.url.scheme(), "://", &host_header(&place.url), &place.target].concat();
        let request = http1::Request::builder()
            .method(method.as_str())
            .uri(uri)
            .header("x-amz-content-sha256", EMPTY_STRING_SHA256)
            .body(());
        let (mut parts, ()) = request.map_err(|_| unusable("the request is too long to sign"))?.into_parts();
        let done = self.0.sign_request(&Context::new(), &mut parts, Some(&key.key), None).await;
        // The library's own words are for whoever writes a program.
        done.map_err(|_| unusable("it cannot sign a request"))?;
        parts.headers.remove("host");
        carry_over(&parts.headers, headers);
        Ok(())
    }
}

/// Puts a library's headers among ours; what nobody is to print stays so.
pub(super) fn carry_over(from: &http1::HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        let given = (HeaderName::try_from(name.as_str()), HeaderValue::from_bytes(value.as_bytes()));
        if let (Ok(name), Ok(mut ours)) = given {
            ours.set_sensitive(value.is_sensitive());
            to.insert(name, ours);
        }
    }
}

fn unusable(reason: &str) -> FetchError {
    FetchError::new(FetchErrorKind::Denied, format!("the store's credential cannot be used: {reason}"))
}
