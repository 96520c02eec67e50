//! Why a store refused a request. The head says only 400, 401, 403, 404 or 409; the cause is a code in the body, XML or JSON. Nothing
//! of the body is repeated but that code: its other texts hold access keys and what was signed.

use std::time::{Duration, SystemTime};

use awc::ClientResponse;
use awc::http::header;
use futures::StreamExt;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::secret::Credential;
use super::xml::elements;
use crate::blob::{FetchError, FetchErrorKind};

/// Bytes of a refusal that are read, at most.
const MAX_BODY_BYTES: usize = 16 * 1024;
/// How long its body is waited for: the head has said already that there will be no blob.
const BODY_WITHIN: Duration = Duration::from_secs(2);
/// Bytes of a code, at most.
const MAX_CODE: usize = 64;
/// Stores take requests that are up to 15 minutes old.
const CLOCKS_APART: Duration = Duration::from_secs(10 * 60);

/// Why a store refuses a request, whatever it is called there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The clocks are too far apart.
    ClockOff,
    /// The store does not know the credential, or the secret is not the one that belongs to it.
    CredentialRefused,
    /// The credential was good until its end.
    CredentialExpired,
    /// The store knows who asks, and does not permit this.
    NoPermission,
    /// The request had no credential, and needs one.
    NotPublic,
    /// The bucket is in another region than requests are signed for.
    OtherRegion,
    /// There is no such bucket.
    BucketMissing,
    /// The object is there, and cannot be read as it is: it is archived.
    Archived,
    /// The account is not in use.
    AccountDisabled,
    /// None that is known.
    Other,
}

impl Refusal {
    /// Whether another credential may be let through.
    pub(in crate::blob) fn is_for_credential(self) -> bool {
        !matches!(self, Refusal::BucketMissing | Refusal::Archived | Refusal::OtherRegion | Refusal::AccountDisabled)
    }
}

/// What the codes of the stores mean, and in words for who operates the service.
const MEANINGS: &[(&[&str], Refusal, &str)] = &[
    (&["RequestTimeTooSkewed"], Refusal::ClockOff, "this machine's clock differs too much from the store's"),
    (&["ExpiredToken", "TokenRefreshRequired"], Refusal::CredentialExpired, "the credential has expired"),
    (
        &["InvalidToken", "authError", "InvalidAuthenticationInfo"],
        Refusal::CredentialRefused,
        "the token is not valid, or has expired",
    ),
    (&["InvalidAccessKeyId"], Refusal::CredentialRefused, "the store does not know the access key id"),
    (
        &["SignatureDoesNotMatch"],
        Refusal::CredentialRefused,
        "the signature is wrong: the secret does not belong to the access key id",
    ),
    (
        &["AuthenticationFailed"],
        Refusal::CredentialRefused,
        "the signature is wrong or has expired: the key does not belong to the account",
    ),
    (
        &[
            "AccessDenied",
            "AllAccessDisabled",
            "AuthorizationFailure",
            "AuthorizationPermissionMismatch",
            "AuthorizationProtocolMismatch",
            "AuthorizationResourceTypeMismatch",
            "AuthorizationServiceMismatch",
            "InsufficientAccountPermissions",
            "forbidden",
        ],
        Refusal::NoPermission,
        "the credential does not have the permission",
    ),
    (&["AuthorizationSourceIPMismatch"], Refusal::NoPermission, "the SAS token is not valid from this address"),
    (
        &["NoAuthenticationInformation", "PublicAccessNotPermitted", "ResourceNotFound", "required"],
        Refusal::NotPublic,
        "access is not public, and the request had no credential",
    ),
    (
        &["AuthorizationHeaderMalformed", "PermanentRedirect"],
        Refusal::OtherRegion,
        "the bucket is in another region than stores.NAME.region",
    ),
    (&["NoSuchBucket", "ContainerNotFound"], Refusal::BucketMissing, "the bucket does not exist"),
    (&["InvalidObjectState", "BlobArchived"], Refusal::Archived, "the object is archived: restore it first"),
    (&["AccountIsDisabled"], Refusal::AccountDisabled, "the account is disabled"),
];

/// Completes what a head that was no success meant, by what its body says. `credential` is what the request was signed with.
pub async fn explained(
    mut response: ClientResponse,
    error: FetchError,
    credential: &Credential,
    until: Instant,
) -> FetchError {
    let status = response.status().as_u16();
    if !matches!(status, 301 | 400 | 401 | 403 | 404 | 405 | 409) {
        return error;
    }
    let clock = clock_apart(&response, SystemTime::now());
    let named = response.headers().get("x-ms-error-code").and_then(|code| code.to_str().ok()).and_then(clean);
    let body = match named {
        Some(_) => Vec::new(),
        None => body(&mut response, until.min(Instant::now() + BODY_WITHIN)).await,
    };
    let code = named.or_else(|| code_of(&body));
    judge(status, code.as_deref(), clock, credential, error)
}

fn judge(
    status: u16,
    code: Option<&str>,
    clock: Option<Duration>,
    credential: &Credential,
    error: FetchError,
) -> FetchError {
    let with = |kind, refusal, meaning: &str| {
        let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
        let detail = format!("{}: {meaning}{code}", error.detail);
        FetchError { kind, detail, refusal: Some(refusal), ..error.clone() }
    };
    let known = MEANINGS.iter().find(|(codes, ..)| code.is_some_and(|code| codes.contains(&code)));
    let known = known.map(|(_, refusal, meaning)| (*refusal, *meaning));
    match (status, known) {
        (404, Some((Refusal::BucketMissing, meaning))) => with(FetchErrorKind::Denied, Refusal::BucketMissing, meaning),
        // Azure says by a conflict too that an object is archived, or not public.
        (409, Some((refusal, meaning))) => with(FetchErrorKind::Denied, refusal, meaning),
        (404 | 409, _) => error,
        // The object's newest version is the mark that it was deleted.
        (405, _) => FetchError {
            kind: FetchErrorKind::NotFound,
            detail: format!("{}: the object was deleted", error.detail),
            ..error
        },
        _ if has_expired(credential, SystemTime::now()) => {
            with(error.kind, Refusal::CredentialExpired, "the SAS token has expired")
        }
        (_, Some((refusal, meaning))) => match clock.filter(|_| status != 400 || refusal == Refusal::ClockOff) {
            Some(apart) => {
                let apart = apart.as_secs();
                with(
                    error.kind,
                    refusal,
                    &format!("{meaning}; the store's clock differs from this machine's by {apart} s"),
                )
            }
            None => with(error.kind, refusal, meaning),
        },
        (401, None) => with(error.kind, Refusal::CredentialRefused, "the store does not accept the credential"),
        (_, None) if code.is_some() => with(error.kind, Refusal::Other, "the store refused the request"),
        (_, None) => error,
    }
}

async fn body(response: &mut ClientResponse, until: Instant) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(Ok(chunk))) = timeout_at(until, response.next()).await {
        let room = MAX_BODY_BYTES - body.len();
        body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if body.len() >= MAX_BODY_BYTES {
            break;
        }
    }
    body
}

/// The code that a body of XML or JSON names.
fn code_of(body: &[u8]) -> Option<String> {
    match body.trim_ascii_start().first()? {
        b'{' => of_json(body),
        _ => of_xml(body),
    }
}

/// The text of the first element `Code`. The body may have been cut off behind it.
fn of_xml(body: &[u8]) -> Option<String> {
    let mut code = None;
    let _ = elements(body, |path, _, text| {
        if code.is_none() && path.last() == Some(&"Code") {
            code = Some(text.to_owned());
        }
    });
    clean(&code?)
}

fn of_json(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let error = body.get("error")?;
    let reason = error.pointer("/errors/0/reason").or_else(|| error.get("status"))?;
    let message = error.get("message").and_then(Value::as_str).unwrap_or_default();
    if message.starts_with("The specified bucket does not exist") {
        return Some("NoSuchBucket".to_owned());
    }
    clean(reason.as_str()?)
}

/// A code as it may be shown; None for what is none.
fn clean(code: &str) -> Option<String> {
    let code = code.trim();
    let is_code = (1..=MAX_CODE).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_code.then(|| code.to_owned())
}

/// How far the store's clock is from ours, if that is too far.
fn clock_apart(response: &ClientResponse, now: SystemTime) -> Option<Duration> {
    let date = response.headers().get(header::DATE)?.to_str().ok()?;
    let theirs = httpdate::parse_http_date(date).ok()?;
    let apart = now.duration_since(theirs).unwrap_or_else(|early| early.duration());
    (apart > CLOCKS_APART).then_some(apart)
}

/// Whether it is a SAS token whose end, its parameter `se`, has passed.
fn has_expired(credential: &Credential, now: SystemTime) -> bool {
    let Credential::Sas(token) = credential else { return false };
    let end = token.query().split('&').find_map(|pair| pair.strip_prefix("se="));
    let end = end.map(|end| percent_encoding::percent_decode_str(end).decode_utf8_lossy().into_owned());
    let end = end.and_then(|end| crate::event::unix_millis(&end));
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    end.is_some_and(|end| i128::from(end) < i128::try_from(now).unwrap_or(i128::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> FetchError {
        let kind = if status == 404 { FetchErrorKind::NotFound } else { FetchErrorKind::Denied };
        let error = FetchError::new(kind, format!("the server answered {status}"));
        judge(status, code_of(body.as_bytes()).as_deref(), None, &Credential::Anonymous, error)
    }

    #[test]
    fn the_cause_is_told_by_the_code_and_nothing_else_of_the_body() {
        for (status, body, cause) in [
            (
                403,
                "<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>AKID</Message></Error>",
                "secret",
            ),
            (403, "<Error><Message>AKID</Message><Code>InvalidAccessKeyId</Code></Error>", "does not know"),
            (400, "<Error>\n <Code> ExpiredToken </Code></Error>", "has expired"),
            (403, "\u{feff}<Error><Code>RequestTimeTooSkewed</Code></Error>", "clock"),
            (403, "<x:Error xmlns:x='u'><x:Code>AccessDenied</x:Code></x:Error>", "have the permission"),
            (401, r#"{"error":{"code":401,"message":"AKID","errors":[{"reason":"authError"}]}}"#, "not valid"),
            (401, "", "does not accept the credential"),
        ] {
            let error = refused(status, body);
            assert!(error.detail.contains(cause) && !error.detail.contains("AKID"), "{body}: {}", error.detail);
            assert_eq!(error.kind, FetchErrorKind::Denied);
        }
    }

    #[test]
    fn a_bucket_that_does_not_exist_is_no_object_that_is_gone() {
        let bucket = "<Error><Code>NoSuchBucket</Code></Error>";
        assert_eq!(refused(404, bucket).kind, FetchErrorKind::Denied);
        assert_eq!(refused(404, "<Error><Code>NoSuchKey</Code></Error>").kind, FetchErrorKind::NotFound);
        assert_eq!(refused(404, "").detail, "the server answered 404");
        assert_eq!(refused(405, "<Error><Code>MethodNotAllowed</Code></Error>").kind, FetchErrorKind::NotFound);
    }

    #[test]
    fn what_is_no_code_is_not_repeated() {
        let long = format!("<Error><Code>{}</Code></Error>", "a".repeat(65));
        for body in
            ["<Error><Code>a b</Code></Error>", &long, "<Error><Code/>", "<<<", "{", "[]", "<a><Code>&lt;</Code>", "{}"]
        {
            assert_eq!(refused(403, body).detail, "the server answered 403", "{body}");
        }
    }

    #[test]
    fn an_expired_sas_token_is_told_as_such() {
        let sas = |end: &str| Credential::Sas(format!("sv=2021-12-02&se={end}&sig=x").parse().unwrap());
        let now = SystemTime::now();
        assert!(has_expired(&sas("2020-01-01T00%3A00%3A00Z"), now) && has_expired(&sas("2020-01-01T00:00:00Z"), now));
        assert!(!has_expired(&sas("2999-01-01T00:00:00Z"), now) && !has_expired(&sas("soon"), now));
    }
}
