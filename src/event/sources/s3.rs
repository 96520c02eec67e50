//! The `Records` of S3, as AWS, MinIO, Ceph, LocalStack and moto send them.
//!
//! - Names are escaped as in a form: `+` is a space, and so is `%20`. That reads what AWS, moto (`%2F` for a slash) and
//!   LocalStack (`%20` for a space) write alike.
//! - LocalStack and moto fill in the sequencer of AWS's own examples, the same in every notification. It is no order: the time
//!   of the event is.

use std::borrow::Cow;
use std::{fmt, mem};

use percent_encoding::percent_decode;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::json::{Members, may_have_more, one_by_one, read_object, trimmed};
use super::scalar::{Scalar, unquoted};
use super::{Change, Facts, Gathered, Ignored, Message, Notified, ObjectChange, Parsed, Place, SourceFault, media};
use crate::event::time::unix_millis;

/// Sequencers from AWS's documentation, which emulators send with everything.
const EXAMPLES: [&str; 3] = ["0055AED6DCD90281E5", "0062E99A88DC407460", "617f08299329d189"];

#[derive(Deserialize)]
struct Body<R> {
    #[serde(rename = "Records", default = "Option::default")]
    records: Option<R>,
}

/// Records, each of which becomes an element as soon as it is read.
struct Read<'a>(Gathered<'a>);

/// What the body of a test has.
#[derive(Deserialize)]
struct Test<'a> {
    #[serde(rename = "Event", borrow, default)]
    event: Scalar<'a>,
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(rename = "eventName", borrow, default)]
    event_name: Scalar<'a>,
    #[serde(rename = "eventTime", borrow, default)]
    event_time: Scalar<'a>,
    #[serde(borrow, default)]
    s3: Option<S3<'a>>,
}

#[derive(Deserialize)]
struct S3<'a> {
    #[serde(borrow, default)]
    bucket: Bucket<'a>,
    #[serde(borrow, default)]
    object: Object<'a>,
}

#[derive(Default, Deserialize)]
pub(super) struct Bucket<'a> {
    #[serde(borrow, default)]
    pub name: Scalar<'a>,
}

/// An object, as `Records` and EventBridge describe it.
#[derive(Default, Deserialize)]
pub(super) struct Object<'a> {
    #[serde(borrow, default)]
    pub key: Scalar<'a>,
    #[serde(borrow, default)]
    size: Scalar<'a>,
    #[serde(alias = "eTag", borrow, default)]
    etag: Scalar<'a>,
    /// MinIO has it here.
    #[serde(rename = "contentType", borrow, default)]
    content_type: Scalar<'a>,
    #[serde(rename = "versionId", alias = "version-id", borrow, default)]
    version: Scalar<'a>,
    #[serde(borrow, default)]
    sequencer: Scalar<'a>,
}

/// Whether the body begins as these producers begin theirs: told without reading it.
pub(super) fn begins_as(body: &[u8]) -> bool {
    [&b"{\"Records\""[..], b"{\"EventName\""].iter().any(|beginning| body.starts_with(beginning))
}

/// Whether the message is of this format: for `auto`.
pub fn looks_like(message: &Message) -> bool {
    let body = trimmed(message.body);
    body.is_empty()
        || read_object::<Body<Vec<IgnoredAny>>>(body).is_ok_and(|body| body.records.is_some())
        || is_test(body)
}

fn is_test(body: &[u8]) -> bool {
    read_object::<Test>(body).is_ok_and(|test| test.event.as_str() == Some("s3:TestEvent"))
}

/// Takes a notification apart. An empty body is a probe: MinIO looks whether somebody listens.
///
/// # Errors
/// When the body is not JSON, has no `Records`, or no record names an object.
pub fn parse<'a>(message: &Message<'a>) -> Result<Parsed<'a>, SourceFault> {
    media::expect_json_or_text(message, "S3")?;
    parse_body(message.body, message.max_elements)
}

/// [`parse`] of what stands where anybody may publish anything: if it is no notification of S3, it changes nothing.
///
/// # Errors
/// When it has too many records.
pub(super) fn parse_anything<'a>(message: &Message<'a>) -> Result<Parsed<'a>, SourceFault> {
    match parse(message) {
        Err(fault) if fault != SourceFault::TooMany => {
            Ok(Parsed::Elements(vec![Notified::Ignored(Ignored::UnknownEvent)]))
        }
        parsed => parsed,
    }
}

fn parse_body(body: &[u8], max_elements: usize) -> Result<Parsed<'_>, SourceFault> {
    let probe = || Parsed::Elements(vec![Notified::Ignored(Ignored::Test)]);
    if trimmed(body).is_empty() {
        return Ok(probe());
    }
    match records(body, max_elements)? {
        Some(gathered) => gathered.finish().map(Parsed::Elements),
        None if is_test(body) => Ok(probe()),
        None => Err(SourceFault::Malformed("the body is not a notification of S3: `Records` is missing".to_owned())),
    }
}

/// Each record is read by itself where not all have their shape.
fn records(body: &[u8], max: usize) -> Result<Option<Gathered<'_>>, SourceFault> {
    let count =
        || read_object::<Body<Vec<IgnoredAny>>>(body).map(|body| body.records.map_or(0, |records| records.len()));
    if may_have_more(body, max) && count()? > max {
        return Err(SourceFault::TooMany);
    }
    if let Ok(together) = read_object::<Body<Read>>(body) {
        return Ok(together.records.map(|Read(gathered)| gathered));
    }
    let body = read_object::<Body<Vec<&RawValue>>>(body)?;
    let each = |records| one_by_one::<Record>(records).into_iter().map(|record| record.and_then(element));
    Ok(body.records.map(|records| Gathered::of(max, each(records))))
}

impl<'de: 'a, 'a> Deserialize<'de> for Read<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Records).map(Read)
    }
}

struct Records;

impl<'de> Visitor<'de> for Records {
    type Value = Gathered<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut records: A) -> Result<Self::Value, A::Error> {
        // The caller looks at their number.
        let mut gathered = Gathered::within(usize::MAX);
        while let Some(Members(record)) = records.next_element::<Members<Record>>()? {
            gathered.add(element(record));
        }
        Ok(gathered)
    }
}

fn element(record: Record<'_>) -> Result<Option<Notified<'_>>, SourceFault> {
    let change = match change(record.event_name.as_str().unwrap_or_default()) {
        Ok(change) => change,
        Err(ignored) => return Ok(Some(Notified::Ignored(ignored))),
    };
    let missing = |what| SourceFault::Malformed(format!("it has no `{what}`"));
    let S3 { bucket, mut object } = record.s3.ok_or_else(|| missing("s3"))?;
    let bucket = bucket.name.text().ok_or_else(|| missing("s3.bucket.name"))?;
    let name = unescaped(mem::take(&mut object.key).text().ok_or_else(|| missing("s3.object.key"))?)
        .ok_or_else(|| SourceFault::Malformed("`s3.object.key` is not UTF-8 once decoded".to_owned()))?;
    Ok(Some(object.notified(change, bucket, name, record.event_time.text(), None)))
}

impl<'a> Object<'a> {
    /// The change of this object. `name` is its key, decoded.
    pub(super) fn notified(
        self,
        change: Change,
        bucket: Cow<'a, str>,
        name: Cow<'a, str>,
        time: Option<Cow<'a, str>>,
        id: Option<Cow<'a, str>>,
    ) -> Notified<'a> {
        if name.ends_with('/') {
            return Notified::Ignored(Ignored::Folder);
        }
        Notified::Change(ObjectChange {
            change,
            bucket,
            object: name,
            url: None,
            place: place(self.sequencer),
            time_ms: time.as_deref().and_then(unix_millis),
            id,
            facts: Facts {
                size: self.size.number(),
                etag: self.etag.text().map(unquoted),
                content_type: self.content_type.text(),
                time,
                version: version(self.version),
            },
        })
    }
}

/// What an event of S3 does to an object, by its name, with or without `s3:` before it.
fn change(name: &str) -> Result<Change, Ignored> {
    let (kind, detail) = name.strip_prefix("s3:").unwrap_or(name).split_once(':').unwrap_or((name, ""));
    match (kind, detail) {
        // MinIO tells so of what leaves the bytes as they are.
        ("ObjectCreated", "PutTagging" | "DeleteTagging" | "PutRetention" | "PutLegalHold" | "PutAcl") => {
            Err(Ignored::Metadata)
        }
        ("ObjectCreated", _) | ("ObjectRestore", "Completed") => Ok(Change::Set),
        // A delete of MinIO that found nothing to delete.
        ("ObjectRemoved", "NoOP") => Err(Ignored::Metadata),
        ("ObjectRemoved" | "LifecycleExpiration", _) | ("ObjectLifecycle", "Expiration" | "Expiration:Current") => {
            Ok(Change::Delete)
        }
        (
            "ObjectRestore"
            | "ObjectTagging"
            | "ObjectAcl"
            | "ObjectAccessed"
            | "ObjectTransition"
            | "LifecycleTransition"
            | "ObjectLifecycle"
            | "IntelligentTiering"
            | "Replication"
            | "ReducedRedundancyLostObject"
            | "ObjectSynced",
            _,
        ) => Err(Ignored::Metadata),
        ("TestEvent", _) => Err(Ignored::Test),
        _ => Err(Ignored::UnknownEvent),
    }
}

/// None for the sequencer of an example.
fn place(sequencer: Scalar<'_>) -> Place<'_> {
    sequencer.text().filter(|text| !is_example(text)).map_or(Place::None, Place::Hex)
}

fn is_example(sequencer: &str) -> bool {
    EXAMPLES.iter().any(|example| example.eq_ignore_ascii_case(sequencer))
}

/// What has no version of its own is said to have the version `null`.
fn version(version: Scalar<'_>) -> Option<Cow<'_, str>> {
    version.text().filter(|version| version != "null")
}

/// A name that is escaped as in a form; None if it is not UTF-8 then.
fn unescaped(name: Cow<'_, str>) -> Option<Cow<'_, str>> {
    if !name.bytes().any(|byte| matches!(byte, b'+' | b'%')) {
        return Some(name);
    }
    let spaced = name.replace('+', " ");
    percent_decode(spaced.as_bytes()).decode_utf8().ok().map(|name| Cow::Owned(name.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}"#;

    #[test]
    fn a_malformed_record_does_not_lose_those_beside_it() {
        for bad in [
            "7",
            r#"["ObjectCreated:Put",null,[["b"],["k"]]]"#,
            r#"{"eventName":"ObjectCreated:Put"}"#,
            r#"{"eventName":"ObjectCreated:Put","s3":{}}"#,
            r#"{"eventName":"ObjectCreated:Put","s3":{"bucket":"b","object":"k"}}"#,
            r#"{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"%ff"}}}"#,
        ] {
            let body = format!(r#"{{"Records":[{GOOD},{bad},{GOOD}]}}"#);
            let Ok(Parsed::Elements(found)) = parse_body(body.as_bytes(), 10) else { panic!("{bad}") };
            let [Notified::Change(_), Notified::Malformed(detail), Notified::Change(_)] = &found[..] else {
                panic!("{found:?}")
            };
            assert!(detail.starts_with("element 1: "), "{detail}");
            let alone = format!(r#"{{"Records":[{bad}]}}"#);
            assert!(matches!(parse_body(alone.as_bytes(), 10), Err(SourceFault::Malformed(_))), "{bad}");
        }
        assert_eq!(parse_body(br#"{"Records":[]}"#, 10), Ok(Parsed::Elements(Vec::new())));
        for bad in [r#"{"Records":[7"#, "[]", "[[]]", r#"{"Records":{}}"#] {
            assert!(parse_body(bad.as_bytes(), 10).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_leaves_the_bytes_as_they_are_changes_nothing() {
        for name in [
            "s3:ObjectCreated:PutTagging",
            "s3:ObjectCreated:DeleteTagging",
            "s3:ObjectCreated:PutRetention",
            "s3:ObjectCreated:PutLegalHold",
            "s3:ObjectLifecycle:Transition:Current",
            "s3:ObjectLifecycle:Expiration:NonCurrent",
            "s3:ObjectLifecycle:Expiration:AbortMultipartUpload",
        ] {
            assert_eq!(change(name), Err(Ignored::Metadata), "{name}");
        }
        assert_eq!(change("s3:ObjectLifecycle:Expiration:Current"), Ok(Change::Delete));
        assert_eq!(change("ObjectCreated:CompleteMultipartUpload"), Ok(Change::Set));
    }

    #[test]
    fn what_is_not_known_changes_nothing_whatever_it_says_of_its_object() {
        for s3 in ["{}", r#"{"bucket":{},"object":{"key":["k"]}}"#, "null"] {
            let body = format!(r#"{{"Records":[{{"eventName":"ObjectInvented:Now","s3":{s3}}}]}}"#);
            let ignored = vec![Notified::Ignored(Ignored::UnknownEvent)];
            assert_eq!(parse_body(body.as_bytes(), 10), Ok(Parsed::Elements(ignored)), "{s3}");
        }
    }
}
