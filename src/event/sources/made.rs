//! Keys and values that are made of a notification: written one behind the other into shared memory, for a notification may
//! tell of hundreds of objects, and memory of its own for each costs more than to write it.

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use super::{Facts, ObjectChange};

/// What is set aside beforehand for the key and the facts of an event. Whatever is longer gets more.
const EVENT_BYTES: usize = 320;
/// Set aside at a time, at most: as long as one of the values in it is held, so is the whole.
const MAX_BLOCK_BYTES: usize = 64 * 1024;

/// The texts of one notification.
pub(super) struct MadeTexts {
    block: BytesMut,
}

impl MadeTexts {
    /// For so many events.
    pub fn of_events(events: usize) -> Self {
        MadeTexts { block: BytesMut::with_capacity(events.saturating_mul(EVENT_BYTES).min(MAX_BLOCK_BYTES)) }
    }

    /// A key of these parts.
    pub fn key<'a>(&mut self, parts: impl Iterator<Item = &'a str>) -> ByteString {
        parts.for_each(|part| self.block.extend_from_slice(part.as_bytes()));
        // Texts one behind the other are a text.
        ByteString::try_from(self.block.split().freeze()).unwrap_or_default()
    }

    /// What a notification says of its object, as a JSON object.
    pub fn facts(&mut self, change: &ObjectChange) -> Bytes {
        let Facts { size, etag, content_type, time, version } = &change.facts;
        self.text("{\"bucket\":", &change.bucket);
        self.text(",\"object\":", &change.object);
        if let Some(size) = size {
            self.block.extend_from_slice(b",\"size\":");
            self.block.extend_from_slice(itoa::Buffer::new().format(*size).as_bytes());
        }
        let rest = [
            (",\"etag\":", etag),
            (",\"content_type\":", content_type),
            (",\"time\":", time),
            (",\"version\":", version),
        ];
        for (before, text) in rest {
            if let Some(text) = text {
                self.text(before, text);
            }
        }
        self.block.extend_from_slice(b"}");
        self.block.split().freeze()
    }

    /// A JSON string, with what stands before it.
    fn text(&mut self, before: &str, text: &str) {
        self.block.extend_from_slice(before.as_bytes());
        if is_plain(text) {
            self.block.extend_from_slice(b"\"");
            self.block.extend_from_slice(text.as_bytes());
            return self.block.extend_from_slice(b"\"");
        }
        let written = serde_json::to_writer((&mut self.block).writer(), text);
        debug_assert!(written.is_ok(), "memory takes everything");
    }
}

/// Whether nothing in a JSON string of this text has to be escaped. All bytes are looked at, which is done many at a time.
fn is_plain(text: &str) -> bool {
    !text.bytes().fold(false, |is_any, byte| is_any | (byte < 0x20) | (byte == b'"') | (byte == b'\\'))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::event::sources::{Change, Place};

    fn change(object: &str) -> ObjectChange<'_> {
        let facts = Facts {
            size: Some(u64::MAX),
            etag: Some("e\"1".into()),
            content_type: Some("text/plain".into()),
            time: Some("2026-11-28T22:10:23Z".into()),
            version: Some("v\\1".into()),
        };
        let (bucket, place) = ("b\u{1}é".into(), Place::None);
        ObjectChange {
            change: Change::Set,
            bucket,
            object: object.into(),
            url: None,
            place,
            facts,
            id: None,
            time_ms: None,
        }
    }

    #[test]
    fn texts_that_share_memory_are_what_was_written_whatever_its_size() {
        let objects: Vec<String> = (0..400).map(|number| format!("o\n{number}{}", "ü".repeat(number * 3))).collect();
        let mut texts = MadeTexts::of_events(objects.len());
        let made: Vec<(ByteString, Bytes)> = objects
            .iter()
            .map(|object| (texts.key(["a:", object, "é"].into_iter()), texts.facts(&change(object))))
            .collect();
        for ((key, facts), object) in made.iter().zip(&objects) {
            assert_eq!(**key, format!("a:{object}é"));
            let expected = json!({
                "bucket": "b\u{1}é", "object": object, "size": u64::MAX, "etag": "e\"1", "content_type": "text/plain",
                "time": "2026-11-28T22:10:23Z", "version": "v\\1",
            });
            assert_eq!(serde_json::from_slice::<Value>(facts).ok(), Some(expected));
        }
    }

    #[test]
    fn what_a_notification_does_not_say_is_left_out() {
        let bare = ObjectChange { facts: Facts::default(), ..change("o") };
        assert_eq!(MadeTexts::of_events(1).facts(&bare), &b"{\"bucket\":\"b\\u0001\xc3\xa9\",\"object\":\"o\"}"[..]);
    }
}
