//! A client of S3: signed requests for one private bucket.

use std::time::{Duration, Instant};

use actix_rt::time::sleep;
use awc::http::Method;
use reqsign_aws_v4::{Credential, RequestSigner};
use reqsign_core::{Context, SignRequest};

use super::Failure;

pub(super) const BUCKET: &str = "files";
pub(super) const REGION: &str = "us-east-1";
/// Key and secret of whoever writes objects.
pub(super) const WRITER: (&str, &str) = ("demo-writer", "a-secret-of-the-writer");
/// Those that the daemon has: they may only read.
pub(super) const READER: (&str, &str) = ("demo-reader", "a-secret-of-the-reader");

/// A store that has just started may not know yet where to put an object.
const RETRY_FOR: Duration = Duration::from_secs(30);
const RETRY_EVERY: Duration = Duration::from_millis(100);

pub(super) struct Bucket {
    client: awc::Client,
    signer: RequestSigner,
    key: Credential,
    endpoint: String,
}

impl Bucket {
    pub fn new(client: awc::Client, endpoint: String) -> Self {
        let key = Credential {
            access_key_id: WRITER.0.to_owned(),
            secret_access_key: WRITER.1.to_owned(),
            session_token: None,
            expires_in: None,
        };
        Bucket { client, signer: RequestSigner::new("s3", REGION), key, endpoint }
    }

    /// Where an object is; an empty name stands for the bucket.
    pub fn url(&self, object: &str) -> String {
        format!("{}/{BUCKET}/{object}", self.endpoint)
    }

    /// What has curl sign a request for it.
    pub fn curl_signature() -> String {
        format!("--aws-sigv4 aws:amz:{REGION}:s3 --user {}:{}", WRITER.0, WRITER.1)
    }

    pub async fn create(&self) -> Result<(), Failure> {
        self.once(&Method::PUT, "", b"").await
    }

    pub async fn put(&self, object: &str, body: &'static [u8]) -> Result<(), Failure> {
        self.call(&Method::PUT, object, body).await
    }

    pub async fn delete(&self, object: &str) -> Result<(), Failure> {
        self.call(&Method::DELETE, object, b"").await
    }

    async fn call(&self, method: &Method, object: &str, body: &'static [u8]) -> Result<(), Failure> {
        let end = Instant::now() + RETRY_FOR;
        loop {
            match self.once(method, object, body).await {
                Err(_) if Instant::now() < end => sleep(RETRY_EVERY).await,
                done => return done,
            }
        }
    }

    async fn once(&self, method: &Method, object: &str, body: &'static [u8]) -> Result<(), Failure> {
        let url = self.url(object);
        let request = http1::Request::builder().method(method.as_str()).uri(&url);
        let request = request.header("x-amz-content-sha256", "UNSIGNED-PAYLOAD").body(())?;
        let (mut signed, ()) = request.into_parts();
        let done = self.signer.sign_request(&Context::new(), &mut signed, Some(&self.key), None).await;
        done.map_err(|error| error.to_string())?;
        let mut request = self.client.request(method.clone(), &url);
        for (name, value) in signed.headers.iter().filter(|(name, _)| *name != "host") {
            request = request.insert_header((name.as_str(), value.as_bytes()));
        }
        let answer = request.send_body(body).await.map_err(|error| format!("{method} {url}: {error}"))?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("{method} {url}: {}", answer.status()).into()) }
    }
}
