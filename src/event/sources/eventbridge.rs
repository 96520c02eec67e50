//! Amazon EventBridge: one event of S3 a request, as its API destinations send it. Names stand there as they are; LocalStack
//! alone escapes them, and is known by the account that it gives everybody.

use std::borrow::Cow;

use memchr::memmem;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::json::{read_object, trimmed};
use super::s3::{Bucket, Object};
use super::scalar::Scalar;
use super::{Change, Ignored, Message, Notified, Parsed, SourceFault, media};

const SOURCE: &str = "aws.s3";
const ACCOUNT_OF_LOCALSTACK: &str = "000000000000";

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    id: Scalar<'a>,
    #[serde(borrow, default)]
    account: Scalar<'a>,
    #[serde(borrow, default)]
    time: Scalar<'a>,
    #[serde(borrow, default)]
    detail: Option<Detail<'a>>,
}

/// Looked into only where it is of S3: of other events it may have any shape.
#[derive(Default, Deserialize)]
struct Detail<'a> {
    #[serde(borrow, default)]
    bucket: Option<Bucket<'a>>,
    #[serde(borrow, default)]
    object: Option<Object<'a>>,
}

/// Whether the message is of this format: for `auto`.
pub fn looks_like(message: &Message) -> bool {
    trimmed(message.body).starts_with(b"{") && memmem::find(message.body, b"\"detail-type\"").is_some()
}

/// Takes a notification apart. What is not of S3 changes nothing.
///
/// # Errors
/// When the body is not JSON, is no event, or names no object.
pub fn parse<'a>(message: &Message<'a>) -> Result<Parsed<'a>, SourceFault> {
    media::expect_json(message, "EventBridge")?;
    parse_body(message.body)
}

pub(super) fn parse_body(body: &[u8]) -> Result<Parsed<'_>, SourceFault> {
    if trimmed(body).is_empty() {
        return Ok(Parsed::Elements(vec![Notified::Ignored(Ignored::Test)]));
    }
    let missing = |what| SourceFault::Malformed(format!("the event has no `{what}`"));
    let EventKind { source, kind } = read_object(body)?;
    let kind = kind.as_str().ok_or_else(|| missing("detail-type"))?;
    let change = match change(kind).filter(|_| source.as_str() == Some(SOURCE)) {
        Some(Ok(change)) => change,
        Some(Err(ignored)) => return Ok(Parsed::Elements(vec![Notified::Ignored(ignored)])),
        None => return Ok(Parsed::Elements(vec![Notified::Ignored(Ignored::UnknownEvent)])),
    };
    let Body { id, account, time, detail } = read_object(body)?;
    let Detail { bucket, object } = detail.unwrap_or_default();
    let bucket = bucket.and_then(|bucket| bucket.name.text()).ok_or_else(|| missing("detail.bucket.name"))?;
    let object = object.ok_or_else(|| missing("detail.object"))?;
    let name = object.key.clone().text().ok_or_else(|| missing("detail.object.key"))?;
    let is_localstack = account.as_str() == Some(ACCOUNT_OF_LOCALSTACK);
    let name = if is_localstack { unescaped(name) } else { name };
    Ok(Parsed::Elements(vec![object.notified(change, bucket, name, time.text(), id.text())]))
}

/// What kind of event it is, before its detail is looked into.
#[derive(Deserialize)]
struct EventKind<'a> {
    #[serde(borrow, default)]
    source: Scalar<'a>,
    #[serde(rename = "detail-type", borrow, default)]
    kind: Scalar<'a>,
}

fn change(kind: &str) -> Option<Result<Change, Ignored>> {
    match kind {
        "Object Created" | "Object Restore Completed" => Some(Ok(Change::Set)),
        "Object Deleted" => Some(Ok(Change::Delete)),
        "Object Restore Initiated"
        | "Object Restore Expired"
        | "Object Tags Added"
        | "Object Tags Deleted"
        | "Object ACL Updated"
        | "Object Storage Class Changed"
        | "Object Access Tier Changed" => Some(Err(Ignored::Metadata)),
        _ => None,
    }
}

fn unescaped(name: Cow<'_, str>) -> Cow<'_, str> {
    match percent_decode_str(&name).decode_utf8() {
        Ok(decoded) => Cow::Owned(decoded.into_owned()),
        Err(_) => name,
    }
}
