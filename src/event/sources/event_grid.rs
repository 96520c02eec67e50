//! Azure Event Grid: arrays of events in its own schema; with the schema of CloudEvents they are
//! [`cloudevents`]'s.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::azure::{AzureEnvelope, storage};
use super::json::read_each;
use super::scalar::Scalar;
use super::{Gathered, cloudevents, media};
use super::{Handshake, Ignored, Message, Notified, Parsed, Place, SourceFault};

const VALIDATION: &str = "Microsoft.EventGrid.SubscriptionValidationEvent";
const DELETION: &str = "Microsoft.EventGrid.SubscriptionDeletedEvent";

/// Whether the message is of this format: for `auto`.
pub fn looks_like(message: &Message) -> bool {
    message.headers.get("aeg-event-type").is_some()
        || match read_each::<Envelope>(message.body, message.max_elements) {
            Ok(events) => events.iter().flatten().any(|event| event.kind.as_str().is_some()),
            // Whichever they are.
            Err(fault) => fault == SourceFault::TooMany,
        }
}

/// Takes a notification apart.
///
/// # Errors
/// When the body is none of this format.
pub fn parse<'a>(message: &Message<'a>) -> Result<Parsed<'a>, SourceFault> {
    if cloudevents::is_declared(message) {
        return cloudevents::parse(message);
    }
    media::expect_json(message, "Event Grid")?;
    let events = read_each::<Envelope>(message.body, message.max_elements)?;
    if events.iter().all(Result::is_err) && !events.is_empty() {
        // In the schema of CloudEvents, but declared as plain JSON.
        let no_events = |fault| if fault == SourceFault::TooMany { fault } else { no_events() };
        return cloudevents::parse(message).map_err(no_events);
    }
    let events: Vec<Result<Event, SourceFault>> = events.into_iter().map(|event| event?.read()).collect();
    let validation = events.iter().flatten().find_map(Event::validation_code).cloned();
    match validation {
        Some(code) => Ok(Parsed::Handshake(Handshake::EventGridValidation { code })),
        None => {
            let elements = events.into_iter().map(|event| event.map(Event::notified));
            Gathered::of(message.max_elements, elements).finish().map(Parsed::Elements)
        }
    }
}

fn no_events() -> SourceFault {
    SourceFault::Malformed("the body must be an array of Event Grid events, each with `eventType`".to_owned())
}

/// An event in Event Grid's own schema.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "eventType")]
    kind: Scalar<'a>,
    #[serde(borrow, default)]
    id: Scalar<'a>,
    #[serde(borrow, default)]
    subject: Scalar<'a>,
    #[serde(borrow, default, rename = "eventTime")]
    time: Scalar<'a>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

enum Event<'a> {
    Validation(Cow<'a, str>),
    Notified(Vec<Notified<'a>>),
}

#[derive(Deserialize)]
struct Validation<'a> {
    #[serde(borrow, rename = "validationCode")]
    code: Scalar<'a>,
}

impl<'a> Event<'a> {
    fn validation_code(&self) -> Option<&Cow<'a, str>> {
        match self {
            Event::Validation(code) => Some(code),
            Event::Notified(_) => None,
        }
    }

    fn notified(self) -> Vec<Notified<'a>> {
        match self {
            Event::Validation(_) => Vec::new(),
            Event::Notified(notified) => notified,
        }
    }
}

impl<'a> Envelope<'a> {
    fn read(self) -> Result<Event<'a>, SourceFault> {
        let data = self.data.map_or("null", RawValue::get);
        let kind = self.kind.text().unwrap_or_default();
        if kind == VALIDATION {
            let code = serde_json::from_str::<Validation>(data).ok().and_then(|data| data.code.text());
            let missing = || SourceFault::Malformed("`data.validationCode` is missing".to_owned());
            return code.map(Event::Validation).ok_or_else(missing);
        }
        let about = AzureEnvelope {
            id: self.id.text(),
            subject: self.subject.text(),
            time: self.time.text(),
            place: Place::None,
        };
        match kind == DELETION {
            true => Ok(Event::Notified(vec![Notified::Ignored(Ignored::Test)])),
            false => storage(&kind, about, data).map(Event::Notified),
        }
    }
}

#[cfg(test)]
#[path = "event_grid/tests.rs"]
mod tests;
