//! CloudEvents 1.0: binary, structured and batched. Which storage an event is of tells its type; its data is then the
//! storage's own.
//!
//! | types | data |
//! | --- | --- |
//! | `Microsoft.Storage.…` | as Event Grid has it |
//! | `google.cloud.storage.object.v1.…` | the object, as Cloud Storage describes it |
//! | `google.cloud.pubsub.topic.v1.messagePublished` | a Pub/Sub push |
//! | `com.amazonaws.s3.…` (the specification's adapter, MinIO), `com.amazon.s3.…` | one of S3's records |
//! | `aws.sqs.message`, `dev.knative.eventing.aws-sqs`, `dev.knative.eventing.aws-sns` | S3's notification, as the queue had it |

mod trace;

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::percent_decode;
use serde::Deserialize;
use serde_json::value::RawValue;

pub use self::trace::trace;
use super::json::read_each;
use super::scalar::{Scalar, number};
use super::{Change, Gathered, Ignored, Message, Notified, Parsed, Place, SourceFault, azure, gcs, media, s3};
use crate::event::time::unix_millis;

const STRUCTURED: &str = "application/cloudevents";
const BATCH: &str = "application/cloudevents-batch";
const GOOGLE: &str = "google.cloud.storage.object.v1.";
const PUBSUB: &str = "google.cloud.pubsub.topic.v1.messagePublished";
const AMAZON: [&str; 2] = ["com.amazonaws.s3.", "com.amazon.s3."];
const QUEUES: [&str; 3] = ["aws.sqs.message", "dev.knative.eventing.aws-sqs", "dev.knative.eventing.aws-sns"];

/// Whether the message is of this format: for `auto`.
pub fn looks_like(message: &Message) -> bool {
    is_declared(message)
        || read_each::<Event>(message.body, message.max_elements)
            .is_ok_and(|events| events.iter().flatten().any(|event| event.version.as_str().is_some()))
}

/// Whether the headers say that the message is of this format.
pub(super) fn is_declared(message: &Message) -> bool {
    is_binary(message) || media::essence(message).is_some_and(|essence| essence.starts_with(STRUCTURED))
}

fn is_binary(message: &Message) -> bool {
    message.headers.get("ce-specversion").is_some() || message.headers.get("ce-type").is_some()
}

/// Takes a notification apart.
///
/// # Errors
/// When the body is none of this format.
pub fn parse<'a>(message: &Message<'a>) -> Result<Parsed<'a>, SourceFault> {
    let essence = media::essence(message);
    let essence = essence.as_deref().unwrap_or_default();
    match essence.split_once('+') {
        Some((STRUCTURED | BATCH, "json")) => return many(message),
        Some((STRUCTURED | BATCH, _)) => {
            return Err(SourceFault::MediaType("CloudEvents must be in their JSON format".to_owned()));
        }
        _ if is_binary(message) => return binary(message).and_then(|event| event.read(true, message.max_elements)),
        _ => {}
    }
    if matches!(essence, STRUCTURED | BATCH) {
        return many(message);
    }
    media::expect_json(message, "CloudEvents without `ce-` headers")?;
    many(message)
}

fn many<'a>(message: &Message<'a>) -> Result<Parsed<'a>, SourceFault> {
    let max = message.max_elements;
    let events = read_each::<Event>(message.body, max)?;
    let elements = events.into_iter().map(|event| event?.read(false, max).map(Parsed::elements));
    Gathered::of(max, elements).finish().map(Parsed::Elements)
}

/// An event, in whichever mode it came.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Event<'a> {
    #[serde(borrow, rename = "specversion")]
    version: Scalar<'a>,
    #[serde(borrow)]
    id: Scalar<'a>,
    #[serde(borrow)]
    source: Scalar<'a>,
    #[serde(borrow, rename = "type")]
    kind: Scalar<'a>,
    #[serde(borrow)]
    subject: Scalar<'a>,
    #[serde(borrow)]
    time: Scalar<'a>,
    #[serde(borrow)]
    sequence: Scalar<'a>,
    /// An extension of Google's.
    #[serde(borrow)]
    bucket: Scalar<'a>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    data_base64: Scalar<'a>,
    /// The whole body, in binary mode.
    #[serde(skip)]
    body: &'a [u8],
}

fn binary<'a>(message: &Message<'a>) -> Result<Event<'a>, SourceFault> {
    let attribute = |name: &str| Scalar::from(message.headers.get(&format!("ce-{name}")).map(attribute));
    Ok(Event {
        version: attribute("specversion"),
        id: attribute("id"),
        source: attribute("source"),
        kind: attribute("type"),
        subject: attribute("subject"),
        time: attribute("time"),
        sequence: attribute("sequence"),
        bucket: attribute("bucket"),
        data: None,
        data_base64: Scalar::default(),
        body: message.body,
    })
}

/// The text of an attribute's header: it may be quoted, and whatever is not visible ASCII is percent-encoded, by those
/// who keep to the specification.
pub fn attribute(value: &[u8]) -> Cow<'_, str> {
    let value = value.trim_ascii();
    let inside = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let unescaped = match inside {
        Some(inside) if inside.contains(&b'\\') => Cow::Owned(unescaped(inside)),
        Some(inside) => Cow::Borrowed(inside),
        None => Cow::Borrowed(value),
    };
    match unescaped {
        Cow::Borrowed(bytes) if !bytes.contains(&b'%') => media::header_text(bytes),
        bytes => {
            let decoded: Vec<u8> = percent_decode(&bytes).collect();
            Cow::Owned(media::header_text(&decoded).into_owned())
        }
    }
}

/// A quoted text without its backslashes.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut escaped = false;
    let kept = text.iter().filter(|byte| {
        escaped = **byte == b'\\' && !escaped;
        !escaped
    });
    kept.copied().collect()
}

impl<'a> Event<'a> {
    fn read(self, is_binary: bool, max_elements: usize) -> Result<Parsed<'a>, SourceFault> {
        self.check(is_binary)?;
        let kind = self.kind.as_str().unwrap_or_default();
        let is_amazon = AMAZON.iter().any(|prefix| kind.starts_with(prefix));
        let is_storage = kind.starts_with(azure::STORAGE) || kind.starts_with(GOOGLE) || kind == PUBSUB;
        if !is_amazon && !is_storage && !QUEUES.contains(&kind) {
            return Ok(Parsed::Elements(vec![Notified::Ignored(Ignored::UnknownEvent)]));
        }
        match self.text()? {
            Cow::Borrowed(text) => self.of_storage(text, max_elements),
            Cow::Owned(text) => self.of_storage(&text, max_elements).map(Parsed::into_owned),
        }
    }

    fn check(&self, is_binary: bool) -> Result<(), SourceFault> {
        let prefix = if is_binary { "ce-" } else { "" };
        let required =
            [("specversion", &self.version), ("id", &self.id), ("source", &self.source), ("type", &self.kind)];
        if let Some((name, _)) = required.iter().find(|(_, value)| value.as_str().is_none()) {
            return Err(SourceFault::Malformed(format!("this is not a CloudEvent: `{prefix}{name}` is missing")));
        }
        let is_known = self.version.as_str().is_some_and(|version| version.starts_with("1.") || version == "0.3");
        let unknown = || SourceFault::Malformed(format!("`{prefix}specversion` must be 1.0"));
        is_known.then_some(()).ok_or_else(unknown)
    }

    /// The JSON of the data: as it stands, or within a string or base64.
    fn text(&self) -> Result<Cow<'a, str>, SourceFault> {
        let no_json = || SourceFault::Malformed("the data must be a JSON object for this type".to_owned());
        let utf8 = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| no_json());
        if let Some(coded) = self.data_base64.as_str() {
            return utf8(BASE64.decode(coded).map_err(|_| no_json())?).map(Cow::Owned);
        }
        let text = match self.data {
            Some(data) => data.get(),
            None => std::str::from_utf8(self.body).map_err(|_| no_json())?.trim(),
        };
        match text.as_bytes().first() {
            Some(b'{') => Ok(Cow::Borrowed(text)),
            Some(b'"') => serde_json::from_str(text).map(Cow::Owned).map_err(|_| no_json()),
            None => Ok(Cow::Borrowed("null")),
            _ => Err(no_json()),
        }
    }

    fn of_storage(self, text: &'a str, max_elements: usize) -> Result<Parsed<'a>, SourceFault> {
        let kind = self.kind.as_str().unwrap_or_default();
        if kind == PUBSUB {
            return gcs::of_push(text);
        }
        if QUEUES.contains(&kind) {
            return s3::parse_anything(&of_body(text, max_elements));
        }
        if AMAZON.iter().any(|prefix| kind.starts_with(prefix)) {
            return self.amazon(text).map(Parsed::Elements);
        }
        match kind.strip_prefix(GOOGLE).map(str::to_owned) {
            Some(kind) => self.google(&kind, text).map(|notified| Parsed::Elements(vec![notified])),
            None => self.azure(text).map(Parsed::Elements),
        }
    }

    fn azure(self, text: &'a str) -> Result<Vec<Notified<'a>>, SourceFault> {
        let kind = self.kind.text().unwrap_or_default();
        let place = place(self.sequence);
        let about =
            azure::AzureEnvelope { id: self.id.text(), subject: self.subject.text(), time: self.time.text(), place };
        azure::storage(&kind, about, text)
    }

    fn google(self, kind: &str, text: &'a str) -> Result<Notified<'a>, SourceFault> {
        let change = match kind {
            "finalized" => Change::Set,
            "deleted" | "archived" => Change::Delete,
            "metadataUpdated" => return Ok(Notified::Ignored(Ignored::Metadata)),
            _ => return Ok(Notified::Ignored(Ignored::UnknownEvent)),
        };
        let about = gcs::GcsEnvelope {
            bucket: self.bucket.text(),
            object: self.subject.text().and_then(|subject| without_prefix(subject, "objects/")),
            generation: None,
            time: self.time.text(),
            id: self.id.text(),
            place: place(self.sequence),
        };
        gcs::object(change, about, gcs::described(text)?)
    }

    fn amazon(self, text: &'a str) -> Result<Vec<Notified<'a>>, SourceFault> {
        let records = format!(r#"{{"Records":[{text}]}}"#);
        let Parsed::Elements(elements) = s3::parse(&of_body(&records, 1))?.into_owned() else { return Ok(Vec::new()) };
        let place = place(self.sequence);
        let completed = elements.into_iter().map(|notified| match notified {
            Notified::Change(mut change) => {
                if change.place == Place::None {
                    change.place = place.clone();
                }
                change.id = change.id.or_else(|| self.id.clone().text());
                change.time_ms = change.time_ms.or_else(|| unix_millis(self.time.as_str()?));
                Notified::Change(change)
            }
            other => other,
        });
        Ok(completed.collect())
    }
}

/// The extension `sequence`: its texts are made so that they can be compared, and numbers are compared as such.
fn place(sequence: Scalar<'_>) -> Place<'_> {
    match sequence.text() {
        None => Place::None,
        Some(text) => match number(&text) {
            Some(number) => Place::Number(number),
            None => Place::Text(text),
        },
    }
}

/// What stood in an event, as if it had come alone.
fn of_body(text: &str, max_elements: usize) -> Message<'_> {
    const NONE: &[(&str, &str); 0] = &[];
    Message { headers: NONE, body: text.as_bytes(), max_elements }
}

fn without_prefix<'a>(text: Cow<'a, str>, prefix: &str) -> Option<Cow<'a, str>> {
    match text {
        Cow::Borrowed(text) => text.strip_prefix(prefix).map(Cow::Borrowed),
        Cow::Owned(text) => text.strip_prefix(prefix).map(|rest| Cow::Owned(rest.to_owned())),
    }
}

#[cfg(test)]
#[path = "cloudevents/tests.rs"]
mod tests;
