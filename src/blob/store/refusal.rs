//! Why a store refused a request. The head says only 400, 401, 403 or 404; the cause is a code in the body, XML or JSON. Nothing
//! of the body is repeated but that code: its other texts hold access keys and what was signed.

use std::time::{Duration, SystemTime};

use awc::ClientResponse;
use awc::http::header;
use futures::StreamExt;
use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::signing_key::Credential;
use crate::blob::{FetchError, FetchErrorKind};

/// Bytes of a refusal that are read, at most.
const MAX_BODY_BYTES: usize = 16 * 1024;
/// How long its body is waited for: the head has said already that there will be no blob.
const BODY_WITHIN: Duration = Duration::from_secs(2);
/// Bytes of a code, at most.
const MAX_CODE: usize = 64;
/// Stores take requests that are up to 15 minutes old.
const CLOCKS_APART: Duration = Duration::from_secs(10 * 60);

/// What the codes of the stores mean to who operates the service.
const MEANINGS: &[(&[&str], &str)] = &[
    (&["RequestTimeTooSkewed"], "this machine's clock differs too much from the store's"),
    (&["ExpiredToken", "TokenRefreshRequired"], "the credential has expired"),
    (&["InvalidToken", "authError", "InvalidAuthenticationInfo"], "the token is not valid, or has expired"),
    (&["InvalidAccessKeyId"], "the store does not know the access key id"),
    (&["SignatureDoesNotMatch"], "the signature is wrong: the secret does not belong to the access key id"),
    (&["AuthenticationFailed"], "the signature is wrong or has expired: the key does not belong to the account"),
    (
        &["AccessDenied", "AllAccessDisabled", "AuthorizationFailure", "AuthorizationPermissionMismatch", "forbidden"],
        "the credential does not have the permission",
    ),
    (
        &["NoAuthenticationInformation", "PublicAccessNotPermitted", "ResourceNotFound", "required"],
        "access is not public, and the request had no credential",
    ),
    (&["AuthorizationHeaderMalformed", "PermanentRedirect"], "the bucket is in another region than stores.NAME.region"),
    (&["InvalidObjectState", "BlobArchived"], "the object is archived: restore it first"),
    (&["AccountIsDisabled"], "the account is disabled"),
    (&["AuthorizationSourceIPMismatch"], "the SAS token is not valid from this address"),
];
const NO_BUCKET: &[&str] = &["NoSuchBucket", "ContainerNotFound"];

/// Completes what a head that was no success meant, by what its body says. `credential` is what the request was signed with.
pub async fn explained(
    mut response: ClientResponse,
    error: FetchError,
    credential: &Credential,
    until: Instant,
) -> FetchError {
    let status = response.status().as_u16();
    if !matches!(status, 301 | 400 | 401 | 403 | 404 | 405) {
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
    let with = |kind, meaning: &str| {
        let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
        FetchError { kind, detail: format!("{}: {meaning}{code}", error.detail), ..error.clone() }
    };
    let is_one_of = |codes: &[&str]| code.is_some_and(|code| codes.contains(&code));
    match status {
        404 if is_one_of(NO_BUCKET) => with(FetchErrorKind::Denied, "the bucket does not exist"),
        404 => error,
        // The object's newest version is the mark that it was deleted.
        405 => with(FetchErrorKind::NotFound, "the object was deleted"),
        _ if has_expired(credential, SystemTime::now()) => with(error.kind, "the SAS token has expired"),
        _ => {
            let meaning = MEANINGS.iter().find(|(codes, _)| is_one_of(codes)).map(|(_, meaning)| *meaning);
            match (meaning, clock) {
                (Some(meaning), Some(apart)) if status != 400 || is_one_of(&["RequestTimeTooSkewed"]) => with(
                    error.kind,
                    &format!("{meaning}; the store's clock differs from this machine's by {} s", apart.as_secs()),
                ),
                (Some(meaning), _) => with(error.kind, meaning),
                (None, _) if status == 401 => with(error.kind, "the store does not accept the credential"),
                (None, _) if code.is_some() => with(error.kind, "the store refused the request"),
                (None, _) => error,
            }
        }
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

/// The text of the first element `Code`.
fn of_xml(body: &[u8]) -> Option<String> {
    let mut reader = Reader::from_reader(body);
    let mut is_inside = false;
    loop {
        match reader.read_event().ok()? {
            Event::Start(element) => is_inside = element.local_name().as_ref() == "Code",
            Event::Text(text) if is_inside => return clean(&text),
            Event::Eof => return None,
            _ => is_inside = false,
        }
    }
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
    let end = token.split('&').find_map(|pair| pair.strip_prefix("se="));
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
        let sas = |end: &str| Credential::Sas(format!("sv=2021-12-02&se={end}&sig=x"));
        let now = SystemTime::now();
        assert!(has_expired(&sas("2020-01-01T00%3A00%3A00Z"), now) && has_expired(&sas("2020-01-01T00:00:00Z"), now));
        assert!(!has_expired(&sas("2999-01-01T00:00:00Z"), now) && !has_expired(&sas("soon"), now));
    }
}
