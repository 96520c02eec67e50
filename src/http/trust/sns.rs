//! What SNS signed, and subscriptions that are confirmed.
//!
//! A message names the certificate that it was signed with, and a confirmation the URL that confirms it. Both are called
//! on the host of SNS in the topic's own region alone, and for topics alone that may publish here; and no more often than
//! so many times a minute, for anybody can send either.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use log::{info, warn};
use url::Url;

use super::certificate::{Certificate, CertificateVersion};
use super::pace::MinuteLimit;
use super::{FetchDocument, Unproven};
use crate::event::sources::envelope::SnsEnvelope;

/// Certificates that are kept.
const MAX_CERTIFICATES: usize = 32;
/// Certificates fetched in a minute, at most.
const CERTIFICATES_PER_MINUTE: u32 = 20;
/// Subscriptions confirmed in a minute, at most.
const CONFIRMATIONS_PER_MINUTE: u32 = 20;
/// What a certificate's path begins and ends with.
const CERTIFICATE: (&str, &str) = ("/SimpleNotificationService-", ".pem");

const NOT_SIGNED: Unproven = Unproven::Refused("The message of SNS has no signature of version 1 or 2.");
const FOREIGN: Unproven =
    Unproven::Refused("The certificate of the message is not on the host of SNS in the topic's region.");
const WRONG: Unproven = Unproven::Refused("The signature of SNS is wrong, or its certificate has expired.");
const TOPIC: Unproven = Unproven::Refused("The topic of the message is not in `topics`.");
const NO_CERTIFICATE: Unproven =
    Unproven::Unavailable("The certificate of SNS cannot be fetched now. Send the message again later.");
const NO_URL: Unproven =
    Unproven::Refused("`SubscribeURL` is not a confirmation on the host of SNS in the topic's region.");
const NOT_CONFIRMED: Unproven =
    Unproven::Unavailable("The subscription cannot be confirmed now. Send the message again later.");

/// The certificates of SNS, for all sources together.
pub struct Sns {
    fetch: Arc<dyn FetchDocument>,
    /// The certificates, by their URLs.
    certificates: Mutex<HashMap<String, Arc<Certificate>>>,
    fetches: MinuteLimit,
    confirmations: MinuteLimit,
}

impl Sns {
    /// No certificate is known yet; `fetch` gets them from the hosts of SNS, a bounded number each minute.
    pub fn new(fetch: Arc<dyn FetchDocument>) -> Self {
        let (fetches, confirmations) =
            (MinuteLimit::new(CERTIFICATES_PER_MINUTE), MinuteLimit::new(CONFIRMATIONS_PER_MINUTE));
        Sns { fetch, certificates: Mutex::default(), fetches, confirmations }
    }

    /// Whether SNS signed this, for one of these topics.
    ///
    /// # Errors
    /// Why not, or that nobody can tell at present.
    pub async fn verify(&self, envelope: &SnsEnvelope<'_>, topics: &[String]) -> Result<(), Unproven> {
        let topic = topic(envelope, topics)?;
        let version = envelope.version().and_then(CertificateVersion::named).ok_or(NOT_SIGNED)?;
        let signature = envelope.signature().and_then(|text| BASE64.decode(text).ok()).ok_or(NOT_SIGNED)?;
        let text = envelope.text_to_sign().ok_or(NOT_SIGNED)?;
        let url = envelope.certificate_url().and_then(|url| on_host_of(topic, url)).filter(is_certificate);
        let certificate = self.certificate(url.ok_or(FOREIGN)?).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let is_good = i64::try_from(now).is_ok_and(|now| certificate.is_valid(now))
            && certificate.has_signed(version, text.as_bytes(), &signature);
        if is_good { Ok(()) } else { Err(WRONG) }
    }

    /// Whether a message is one of these topics', as it says itself.
    ///
    /// # Errors
    /// If it is not.
    pub fn is_of(envelope: &SnsEnvelope<'_>, topics: &[String]) -> Result<(), Unproven> {
        topic(envelope, topics).map(drop)
    }

    /// Confirms the subscription that a message which is verified asks for.
    ///
    /// # Errors
    /// If it cannot be, or not now.
    pub async fn confirm(&self, envelope: &SnsEnvelope<'_>, topics: &[String]) -> Result<(), Unproven> {
        let topic = topic(envelope, topics)?;
        let url = envelope.subscribe_url().and_then(|url| on_host_of(topic, url));
        let url = url.filter(|url| is_confirmation(url, topic)).ok_or(NO_URL)?;
        if !self.confirmations.take(Instant::now()) {
            return Err(NOT_CONFIRMED);
        }
        match self.fetch.fetch(url.as_str(), "").await {
            Ok(_) => {
                info!(topic; "subscription confirmed");
                Ok(())
            }
            Err(cause) => {
                warn!(topic, cause = cause.as_str(); "subscription cannot be confirmed");
                Err(NOT_CONFIRMED)
            }
        }
    }

    async fn certificate(&self, url: Url) -> Result<Arc<Certificate>, Unproven> {
        let known = self.certificates.lock().unwrap_or_else(PoisonError::into_inner).get(url.as_str()).cloned();
        if let Some(certificate) = known {
            return Ok(certificate);
        }
        if !self.fetches.take(Instant::now()) {
            return Err(NO_CERTIFICATE);
        }
        let pem = self.fetch.fetch(url.as_str(), "").await.map_err(|cause| {
            warn!(url = url.as_str(), cause = cause.as_str(); "certificate of SNS cannot be fetched");
            NO_CERTIFICATE
        })?;
        let certificate = Arc::new(Certificate::of_pem(&pem).ok_or(WRONG)?);
        let mut certificates = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        if certificates.len() >= MAX_CERTIFICATES {
            // SNS has one a region and changes it once a year: what is in use is fetched again.
            certificates.clear();
        }
        certificates.insert(url.into(), certificate.clone());
        Ok(certificate)
    }
}

fn topic<'a>(envelope: &'a SnsEnvelope<'_>, topics: &[String]) -> Result<&'a str, Unproven> {
    envelope.topic().filter(|topic| topics.iter().any(|known| known == topic)).ok_or(TOPIC)
}

/// The URL, if it is on the host of SNS in the region of this topic.
fn on_host_of(topic: &str, url: &str) -> Option<Url> {
    let mut parts = topic.split(':');
    let (Some("arn"), Some(partition), Some("sns"), Some(region)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let is_region = !region.is_empty()
        && region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let domain = if partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
    let url = Url::parse(url).ok()?;
    let is_there = url.scheme() == "https"
        && url.host_str() == Some(&format!("sns.{region}.{domain}"))
        && url.port().is_none()
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none();
    (is_region && is_there).then_some(url)
}

fn is_certificate(url: &Url) -> bool {
    let (begin, end) = CERTIFICATE;
    let name = url.path().strip_prefix(begin).and_then(|rest| rest.strip_suffix(end));
    let is_name = name.is_some_and(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    is_name && url.query().is_none()
}

fn is_confirmation(url: &Url, topic: &str) -> bool {
    let has = |name: &str, value: &str| {
        let mut given = url.query_pairs().filter(|(own, _)| own == name);
        given.next().is_some_and(|(_, own)| own == value) && given.next().is_none()
    };
    url.path() == "/" && has("Action", "ConfirmSubscription") && has("TopicArn", topic)
}
