//! What storage says when an object changes: notifications in the producers' own formats, taken apart.
//!
//! One file a format. [`parse`] turns the bytes and the headers of a request into [`ObjectChange`]s: pure data, in which
//! nothing was fetched and nothing is judged against the service's limits.

mod azure;
#[cfg(test)]
mod captured;
pub mod cloudevents;
pub mod envelope;
pub mod event_grid;
pub mod eventbridge;
pub mod gcs;
mod json;
mod made;
mod mapping;
mod media;
mod owned;
pub mod s3;
mod scalar;
pub mod seaweedfs;
pub mod sns;
mod template;

pub use self::mapping::{Mapped, Mapping, ValueMode};
pub use self::template::{KeyTemplate, TemplateError};
pub use crate::event::version::Place;

use std::borrow::Cow;
use std::str::FromStr;

/// The formats that a source may have (`sources.NAME.format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Told by headers and body, request by request.
    Auto,
    /// `Records`, as AWS, MinIO, Ceph, LocalStack and moto send them.
    S3,
    /// Amazon EventBridge, one event a request.
    EventBridge,
    /// Amazon SNS around `s3`, in its envelope or raw.
    Sns,
    /// Azure Event Grid, in its own schema or as CloudEvents.
    EventGrid,
    /// Google Cloud Storage by a Pub/Sub push, wrapped or not.
    Gcs,
    /// CloudEvents 1.0: binary, structured or a batch.
    CloudEvents,
    /// The webhook of a SeaweedFS filer.
    SeaweedFs,
}

impl Format {
    /// Every format, in the order in which the OpenAPI document lists them.
    pub const ALL: [Format; 8] = [
        Format::Auto,
        Format::S3,
        Format::EventBridge,
        Format::Sns,
        Format::EventGrid,
        Format::Gcs,
        Format::CloudEvents,
        Format::SeaweedFs,
    ];

    /// The name of the format in the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Auto => "auto",
            Format::S3 => "s3",
            Format::EventBridge => "eventbridge",
            Format::Sns => "sns",
            Format::EventGrid => "event-grid",
            Format::Gcs => "gcs",
            Format::CloudEvents => "cloudevents",
            Format::SeaweedFs => "seaweedfs",
        }
    }

    /// Whether its notifications may name a URL that the object can be fetched from. Where not, the bytes come from a store only.
    pub fn may_name_url(self) -> bool {
        match self {
            Format::S3 | Format::Sns | Format::EventBridge | Format::SeaweedFs => false,
            Format::Auto | Format::EventGrid | Format::Gcs | Format::CloudEvents => true,
        }
    }
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Format::ALL.into_iter().find(|format| format.as_str() == text).ok_or("not a format")
    }
}

/// The headers of a request, as a format looks at them.
pub trait Headers {
    /// The first value of this header; `name` is in lower case. A value may hold any bytes.
    fn get(&self, name: &str) -> Option<&[u8]>;
}

/// Headers as pairs of a name in lower case and a value.
impl Headers for [(&str, &str)] {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_bytes())
    }
}

impl<const N: usize> Headers for [(&str, &str); N] {
    fn get(&self, name: &str) -> Option<&[u8]> {
        Headers::get(self.as_slice(), name)
    }
}

/// The parts of a request that a format looks at.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// The headers of the request, by lower-case name.
    pub headers: &'a dyn Headers,
    /// The whole body, decompressed.
    pub body: &'a [u8],
    /// Elements that it may have; more are not read.
    pub max_elements: usize,
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is there, with new bytes.
    Set,
    /// It is gone.
    Delete,
}

/// What a notification says of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectChange<'a> {
    /// Whether the object was written or deleted.
    pub change: Change,
    /// Decoded.
    pub bucket: Cow<'a, str>,
    /// The name of the object within the bucket, decoded, without a leading slash.
    pub object: Cow<'a, str>,
    /// Where the object's bytes are, if the notification says.
    pub url: Option<Cow<'a, str>>,
    /// Where the change stands among those of the same object; it becomes the event's version.
    pub place: Place<'a>,
    /// Size, etag and the like, where the notification has them.
    pub facts: Facts<'a>,
    /// The producer's id of the notification: for logs and answers alone, never to tell repeats.
    pub id: Option<Cow<'a, str>>,
    /// When it happened at the storage, in milliseconds since 1970: for the metrics, and the order where there is no better.
    pub time_ms: Option<i64>,
}

/// What else a notification says of the object: what `value = "facts"` stores, beside bucket and object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts<'a> {
    /// In bytes.
    pub size: Option<u64>,
    /// Without quotes.
    pub etag: Option<Cow<'a, str>>,
    /// The media type that the object was stored with.
    pub content_type: Option<Cow<'a, str>>,
    /// When it happened, as RFC 3339.
    pub time: Option<Cow<'a, str>>,
    /// The storage's own version or generation of the object.
    pub version: Option<Cow<'a, str>>,
}

/// One element of a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "nearly every element is a change, and none outlives its request")]
pub enum Notified<'a> {
    /// An object was written or deleted: it becomes an event.
    Change(ObjectChange<'a>),
    /// Nothing that a cache would have to follow: it is only counted.
    Ignored(Ignored),
    /// It is not what its format says, though others beside it are: its result is an invalid event. The text says which
    /// element, and what is wrong with it.
    Malformed(String),
}

/// Why an element changes nothing. A label of the metrics: few, and fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// A test or a probe of the producer.
    Test,
    /// Metadata, tags, rights or tiers: the object's bytes stay.
    Metadata,
    /// A folder, which has no bytes.
    Folder,
    /// A part of an upload that is not finished.
    Part,
    /// A kind of event that is not known.
    UnknownEvent,
    /// What went was overwritten: the new object's own notification says the rest.
    Overwritten,
    /// Not in `include`, or in `exclude`.
    Filtered,
}

impl Ignored {
    /// Every reason, in the order of the discriminants: counters index their arrays by it.
    pub const ALL: [Ignored; 7] = [
        Ignored::Test,
        Ignored::Metadata,
        Ignored::Folder,
        Ignored::Part,
        Ignored::UnknownEvent,
        Ignored::Overwritten,
        Ignored::Filtered,
    ];

    /// The reason as the label `reason` of the metrics names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Ignored::Test => "test",
            Ignored::Metadata => "metadata",
            Ignored::Folder => "folder",
            Ignored::Part => "part",
            Ignored::UnknownEvent => "unknown-event",
            Ignored::Overwritten => "overwritten",
            Ignored::Filtered => "filtered",
        }
    }
}

/// What a request is: changes of objects, or a question that is to be answered before any come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// In the order in which they were sent.
    Elements(Vec<Notified<'a>>),
    /// A question that must be answered before the producer sends changes.
    Handshake(Handshake<'a>),
}

impl<'a> Parsed<'a> {
    /// The elements; a handshake has none.
    fn elements(self) -> Vec<Notified<'a>> {
        match self {
            Parsed::Elements(elements) => elements,
            Parsed::Handshake(_) => Vec::new(),
        }
    }
}

/// What a producer asks for before it sends notifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handshake<'a> {
    /// Event Grid's `SubscriptionValidationEvent`: the code is to be sent back.
    EventGridValidation {
        /// The code that the answer repeats.
        code: Cow<'a, str>,
    },
    /// SNS's `SubscriptionConfirmation`: its URL is to be called once topic and signature are found good.
    SnsConfirmation {
        /// The ARN of the topic, which `sources.NAME.topics` must list.
        topic: Cow<'a, str>,
        /// The URL that confirms the subscription. It carries a token: never for the log.
        subscribe_url: Cow<'a, str>,
    },
}

/// Why a request is no notification of its format. Its `Display` is the detail of the problem that answers it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceFault {
    /// 400: the body is not JSON, or not what the format says.
    #[error("{0}")]
    Malformed(String),
    /// 415: a media type that the format does not have.
    #[error("{0}")]
    MediaType(String),
    /// 413: more elements than [`Message::max_elements`].
    #[error("the notification has too many elements")]
    TooMany,
}

impl SourceFault {
    /// The same, in this element of several.
    fn of_element(self, index: usize) -> Self {
        match self {
            SourceFault::Malformed(detail) => SourceFault::Malformed(format!("element {index}: {detail}")),
            SourceFault::MediaType(_) | SourceFault::TooMany => self,
        }
    }
}

/// The elements of a batch, each taken apart by itself: one that is malformed does not lose the others.
struct Gathered<'a> {
    elements: Vec<Notified<'a>>,
    /// Elements that there may be.
    max: usize,
    /// What has been added, malformed or not.
    count: usize,
    first_fault: Option<SourceFault>,
    is_any_good: bool,
}

impl<'a> Gathered<'a> {
    fn within(max: usize) -> Self {
        Gathered { elements: Vec::new(), max, count: 0, first_fault: None, is_any_good: false }
    }

    /// All of these, read while they are added: an element may hold a notification of many.
    fn of<E: IntoIterator<Item = Notified<'a>>>(
        max: usize,
        elements: impl IntoIterator<Item = Result<E, SourceFault>>,
    ) -> Self {
        let mut gathered = Gathered::within(max);
        for element in elements {
            gathered.add(element);
            if gathered.has_too_many() {
                break;
            }
        }
        gathered
    }

    fn has_too_many(&self) -> bool {
        self.elements.len() > self.max || self.first_fault == Some(SourceFault::TooMany)
    }

    fn add(&mut self, element: Result<impl IntoIterator<Item = Notified<'a>>, SourceFault>) {
        match element {
            Ok(notified) => {
                self.is_any_good = true;
                self.elements.extend(notified);
            }
            Err(SourceFault::TooMany) => self.first_fault = Some(SourceFault::TooMany),
            Err(fault) => {
                let fault = fault.of_element(self.count);
                self.elements.push(Notified::Malformed(fault.to_string()));
                self.first_fault.get_or_insert(fault);
            }
        }
        self.count += 1;
    }

    /// # Errors
    /// When there are too many, or all of them are malformed: then the request is no notification of its format.
    fn finish(self) -> Result<Vec<Notified<'a>>, SourceFault> {
        if self.has_too_many() {
            return Err(SourceFault::TooMany);
        }
        match self.first_fault {
            Some(fault) if !self.is_any_good => Err(fault),
            _ => Ok(self.elements),
        }
    }
}

/// Takes a request apart.
///
/// # Errors
/// When it is no notification of this format; with [`Format::Auto`], of any. When it has too many elements.
pub fn parse<'a>(format: Format, message: &Message<'a>) -> Result<Parsed<'a>, SourceFault> {
    let parsed = match format {
        Format::Auto => parse(recognised(message)?, message),
        Format::S3 => s3::parse(message),
        Format::EventBridge => eventbridge::parse(message),
        Format::Sns => sns::parse(message),
        Format::EventGrid => event_grid::parse(message),
        Format::Gcs => gcs::parse(message),
        Format::CloudEvents => cloudevents::parse(message),
        Format::SeaweedFs => seaweedfs::parse(message),
    }?;
    match &parsed {
        Parsed::Elements(elements) if elements.len() > message.max_elements => Err(SourceFault::TooMany),
        _ => Ok(parsed),
    }
}

/// Whether a message has the looks of one format.
type LooksLike = fn(&Message) -> bool;

/// Which format a message has: the most particular first.
fn recognised(message: &Message) -> Result<Format, SourceFault> {
    if s3::begins_as(message.body) {
        return Ok(Format::S3);
    }
    let known: [(Format, LooksLike); 7] = [
        (Format::EventGrid, event_grid::looks_like),
        (Format::CloudEvents, cloudevents::looks_like),
        (Format::Sns, sns::looks_like),
        (Format::SeaweedFs, seaweedfs::looks_like),
        (Format::EventBridge, eventbridge::looks_like),
        (Format::Gcs, gcs::looks_like),
        (Format::S3, s3::looks_like),
    ];
    let found = known.into_iter().find(|(_, looks_like)| looks_like(message)).map(|(format, _)| format);
    found.ok_or_else(|| match media::is_text_or_json(message) {
        true => SourceFault::Malformed("the body is no notification of a format that is known here".to_owned()),
        false => SourceFault::MediaType("notifications are JSON: Content-Type is application/json".to_owned()),
    })
}
