//! Changes that outlive the text that they were read from: what stands in a string of JSON, or in base64, is decoded first.

use std::borrow::Cow;

use super::{Facts, Handshake, Notified, ObjectChange, Parsed, Place};

fn text(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

impl Parsed<'_> {
    pub(super) fn into_owned(self) -> Parsed<'static> {
        match self {
            Parsed::Elements(elements) => Parsed::Elements(elements.into_iter().map(Notified::into_owned).collect()),
            Parsed::Handshake(Handshake::EventGridValidation { code }) => {
                Parsed::Handshake(Handshake::EventGridValidation { code: text(code) })
            }
            Parsed::Handshake(Handshake::SnsConfirmation { topic, subscribe_url }) => {
                let (topic, subscribe_url) = (text(topic), text(subscribe_url));
                Parsed::Handshake(Handshake::SnsConfirmation { topic, subscribe_url })
            }
        }
    }
}

impl Notified<'_> {
    pub(super) fn into_owned(self) -> Notified<'static> {
        match self {
            Notified::Change(change) => Notified::Change(change.into_owned()),
            Notified::Ignored(why) => Notified::Ignored(why),
            Notified::Malformed(detail) => Notified::Malformed(detail),
        }
    }
}

impl ObjectChange<'_> {
    pub(super) fn into_owned(self) -> ObjectChange<'static> {
        let Facts { size, etag, content_type, time, version } = self.facts;
        let facts = Facts {
            size,
            etag: etag.map(text),
            content_type: content_type.map(text),
            time: time.map(text),
            version: version.map(text),
        };
        let place = match self.place {
            Place::Hex(digits) => Place::Hex(text(digits)),
            Place::Text(words) => Place::Text(text(words)),
            Place::Number(number) => Place::Number(number),
            Place::Time(nanos) => Place::Time(nanos),
            Place::None => Place::None,
        };
        ObjectChange {
            change: self.change,
            bucket: text(self.bucket),
            object: text(self.object),
            url: self.url.map(text),
            place,
            facts,
            id: self.id.map(text),
            time_ms: self.time_ms,
        }
    }
}
