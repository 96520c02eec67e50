//! Google Cloud Storage by a Pub/Sub push: wrapped in its JSON, or unwrapped, with the attributes as headers.
//!
//! An overwrite is announced twice: the new generation is finalized, and the old one was deleted or archived by that. The
//! second changes nothing. What was deleted carries the generation of the object that went.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use super::json::{read_object, read_part};
use super::scalar::{Scalar, number, unquoted};
use super::{Change, Facts, Headers, Ignored, Message, Notified, ObjectChange, Parsed, Place, SourceFault, media};
use crate::event::time::unix_millis;

/// What attributes stand behind in the headers of some pushes.
const PREFIX: &str = "x-goog-pubsub-";

/// Whether the message is of this format: for `auto`.
pub fn looks_like(message: &Message) -> bool {
    is_unwrapped(message) || read_object::<Push>(message.body).is_ok_and(|push| push.message.is_some())
}

/// Takes a notification apart.
///
/// # Errors
/// When the body is none of this format.
pub fn parse<'a>(message: &Message<'a>) -> Result<Parsed<'a>, SourceFault> {
    if is_unwrapped(message) {
        let attributes = Attributes::of_headers(message.headers);
        let id = header(message.headers, "x-goog-pubsub-message-id");
        // Whatever else was published there is no notification, and none of ours.
        let resource = resource(message.body).unwrap_or_default();
        return attributes.notified(resource, id).map(|notified| Parsed::Elements(vec![notified]));
    }
    media::expect_json(message, "Cloud Storage")?;
    wrapped(read_object(message.body)?)
}

/// A push as Pub/Sub wraps it, wherever it stands.
///
/// # Errors
/// When it is none.
pub(super) fn of_push(text: &str) -> Result<Parsed<'_>, SourceFault> {
    read_object(text.as_bytes()).and_then(wrapped)
}

fn wrapped(push: Push<'_>) -> Result<Parsed<'_>, SourceFault> {
    let Some(message) = push.message else {
        return Err(SourceFault::Malformed("the body is not a Pub/Sub push: `message` is missing".to_owned()));
    };
    let id = message.id.text().or_else(|| message.id_too.text());
    let attributes = message.attributes.unwrap_or_default();
    let notified = match message.data.as_str() {
        None => attributes.notified(Resource::default(), id),
        Some(data) => {
            let bytes = BASE64.decode(data);
            let bytes = bytes.map_err(|_| SourceFault::Malformed("`message.data` is not base64".to_owned()))?;
            let resource = resource(&bytes).unwrap_or_default();
            attributes.notified(resource, id).map(Notified::into_owned)
        }
    };
    notified.map(|notified| Parsed::Elements(vec![notified]))
}

fn is_unwrapped(message: &Message) -> bool {
    [PREFIX, ""].iter().any(|prefix| message.headers.get(&format!("{prefix}eventtype")).is_some())
        || message.headers.get("x-goog-pubsub-message-id").is_some()
}

/// What is published of an object, if anything is (`payload_format`).
fn resource(body: &[u8]) -> Result<Resource<'_>, SourceFault> {
    match media::first_byte(body) {
        None => Ok(Resource::default()),
        Some(_) => read_object(body),
    }
}

#[derive(Deserialize)]
struct Push<'a> {
    #[serde(borrow, default)]
    message: Option<PubSub<'a>>,
}

#[derive(Deserialize)]
struct PubSub<'a> {
    #[serde(borrow, default)]
    attributes: Option<Attributes<'a>>,
    #[serde(borrow, default)]
    data: Scalar<'a>,
    #[serde(borrow, default, rename = "messageId")]
    id: Scalar<'a>,
    #[serde(borrow, default, rename = "message_id")]
    id_too: Scalar<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Attributes<'a> {
    #[serde(borrow)]
    event_type: Scalar<'a>,
    #[serde(borrow)]
    bucket_id: Scalar<'a>,
    #[serde(borrow)]
    object_id: Scalar<'a>,
    #[serde(borrow)]
    object_generation: Scalar<'a>,
    #[serde(borrow)]
    event_time: Scalar<'a>,
    #[serde(borrow)]
    overwritten_by_generation: Scalar<'a>,
}

/// An object as Cloud Storage describes it.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Resource<'a> {
    #[serde(borrow)]
    bucket: Scalar<'a>,
    #[serde(borrow)]
    name: Scalar<'a>,
    #[serde(borrow)]
    generation: Scalar<'a>,
    #[serde(borrow)]
    size: Scalar<'a>,
    #[serde(borrow)]
    content_type: Scalar<'a>,
    #[serde(borrow)]
    etag: Scalar<'a>,
    #[serde(borrow)]
    media_link: Scalar<'a>,
}

impl<'a> Attributes<'a> {
    fn of_headers(headers: &'a dyn Headers) -> Self {
        let attribute =
            |name: &str| Scalar::from(header(headers, &format!("{PREFIX}{name}")).or_else(|| header(headers, name)));
        Attributes {
            event_type: attribute("eventtype"),
            bucket_id: attribute("bucketid"),
            object_id: attribute("objectid"),
            object_generation: attribute("objectgeneration"),
            event_time: attribute("eventtime"),
            overwritten_by_generation: attribute("overwrittenbygeneration"),
        }
    }

    fn notified(self, resource: Resource<'a>, id: Option<Cow<'a, str>>) -> Result<Notified<'a>, SourceFault> {
        let is_replaced = self.overwritten_by_generation.as_str().is_some();
        let change = match self.event_type.as_str() {
            Some("OBJECT_FINALIZE") => Change::Set,
            Some("OBJECT_DELETE" | "OBJECT_ARCHIVE") if is_replaced => {
                return Ok(Notified::Ignored(Ignored::Overwritten));
            }
            Some("OBJECT_DELETE" | "OBJECT_ARCHIVE") => Change::Delete,
            Some("OBJECT_METADATA_UPDATE") => return Ok(Notified::Ignored(Ignored::Metadata)),
            _ => return Ok(Notified::Ignored(Ignored::UnknownEvent)),
        };
        let Attributes { bucket_id, object_id, object_generation, event_time, .. } = self;
        let about = GcsEnvelope {
            bucket: bucket_id.text(),
            object: object_id.text(),
            generation: object_generation.text(),
            time: event_time.text(),
            id,
            place: Place::None,
        };
        object(change, about, resource)
    }
}

/// What stands around the description of an object.
pub(super) struct GcsEnvelope<'a> {
    pub bucket: Option<Cow<'a, str>>,
    pub object: Option<Cow<'a, str>>,
    pub generation: Option<Cow<'a, str>>,
    pub time: Option<Cow<'a, str>>,
    pub id: Option<Cow<'a, str>>,
    /// The envelope's own order, for objects without a generation.
    pub place: Place<'a>,
}

/// A change of an object of Cloud Storage, however it was announced. The description says it best: headers cannot hold
/// every name.
///
/// # Errors
/// When neither names an object.
pub(super) fn object<'a>(
    change: Change,
    about: GcsEnvelope<'a>,
    resource: Resource<'a>,
) -> Result<Notified<'a>, SourceFault> {
    let missing = |what: &str| SourceFault::Malformed(format!("nothing names the {what}"));
    let bucket = resource.bucket.text().or(about.bucket).ok_or_else(|| missing("bucket"))?;
    let object = resource.name.text().or(about.object).ok_or_else(|| missing("object"))?;
    if object.ends_with('/') {
        return Ok(Notified::Ignored(Ignored::Folder));
    }
    let generation = resource.generation.text().or(about.generation);
    let place = generation.as_deref().and_then(number).map_or(about.place, Place::Number);
    let time_ms = about.time.as_deref().and_then(unix_millis);
    let facts = Facts {
        size: resource.size.number(),
        etag: resource.etag.text().map(unquoted),
        content_type: resource.content_type.text(),
        time: about.time,
        version: generation,
    };
    let url = resource.media_link.text();
    Ok(Notified::Change(ObjectChange { change, bucket, object, url, place, facts, id: about.id, time_ms }))
}

/// The description of an object, from JSON.
///
/// # Errors
/// When it is none.
pub(super) fn described(text: &str) -> Result<Resource<'_>, SourceFault> {
    read_part("`data`", text)
}

fn header<'a>(headers: &'a dyn Headers, name: &str) -> Option<Cow<'a, str>> {
    headers.get(name).map(media::header_text)
}

#[cfg(test)]
#[path = "gcs/tests.rs"]
mod tests;
