//! What one entry of the journal's stream holds: the events of one request, in the order sent.
//!
//! The form is our own, compact, and begins with its version. An event stands in it as the JSON that `POST /events` takes, so
//! it means the same to any release. Beside it stand what that JSON cannot say: a storage's own place in its order, the entity
//! tag that a notification names, and, of a dead letter that is run again, what its keys held when it died.
//!
//! ```text
//! entry   = 1 (version), accepted (u64, milliseconds since 1970), source (u8 length, text), request id (u8 length, text), record*
//! record  = flags (u8), [place (u8 length, bytes)], [digest (32 bytes)], [attempts (u32)], [tag (u8 length, text)], JSON (u32 length, text)
//! ```
//!
//! Numbers are little-endian.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use crate::event::expected::Expected;
use crate::event::invalid::Invalid;
use crate::event::validate::{MAX_FAULTS, validate};
use crate::event::version::Version;
use crate::event::wire::{BodyForm, Split, event_text, split};
use crate::event::{Action, EntityTag, Event, Limits};

/// The only version there has been.
const VERSION: u8 = 1;
const HAS_PLACE: u8 = 1;
const HAS_DIGEST: u8 = 2;
const HAS_ATTEMPTS: u8 = 4;
const HAS_TAG: u8 = 8;

/// SHA-256 of a key and what it held. A letter of an older release has one of all its keys together.
pub type Digest = [u8; 32];
/// Stands in a record for the digests of several keys, which are in the field `d` of the stream's entry.
pub const SEVERAL_DIGESTS: Digest = [0; 32];

/// Digests that stand one behind another.
pub fn digests(bytes: &[u8]) -> Vec<Digest> {
    bytes.as_chunks().0.to_vec()
}

/// One event of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The event as `POST /events` takes it.
    pub json: Bytes,
    /// Its version, if that is a place that JSON cannot say: in the form in which Redis stores it.
    pub place: Option<Bytes>,
    /// Of a replayed letter: the digest of what its key must hold, or [`SEVERAL_DIGESTS`]. None: that is not compared.
    pub unless_changed: Option<Digest>,
    /// Attempts that were made before it was put here.
    pub attempts: u32,
    /// The entity tag of its one blob, if a notification names it.
    pub tag: Option<Bytes>,
}

/// The events of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When the request was accepted, in milliseconds since 1970.
    pub accepted_ms: u64,
    /// The source's name; empty: it came to `POST /events`.
    pub source: String,
    /// Of the request.
    pub request_id: String,
    /// At least one.
    pub records: Vec<Record>,
}

/// Why an entry cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// A later release wrote it: one of that release must do it.
    Newer,
    /// It is no entry, or was cut off.
    Broken,
}

impl Record {
    /// An event as it was sent.
    pub fn of_json(json: Bytes) -> Self {
        Record { json, place: None, unless_changed: None, attempts: 0, tag: None }
    }

    /// An event that was made here, of a notification.
    pub fn of_event(event: &Event) -> Self {
        let place = event.version.as_ref().filter(|version| version.is_place());
        let place = place.map(|version| Bytes::copy_from_slice(&version.stored()));
        let tag = match &event.action {
            Action::Set(entries) => entries.first().and_then(|entry| entry.expected.as_ref()?.notified.as_ref()),
            _ => None,
        };
        let tag = tag.map(|tag| Bytes::from(tag.to_string()));
        Record { place, tag, ..Record::of_json(event_text(event).into()) }
    }

    /// Gives the event what its JSON cannot say.
    pub fn complete(&self, event: &mut Event) {
        if let Some(version) = self.place.as_ref().and_then(|place| Version::from_stored_place(place)) {
            event.version = Some(version);
        }
        let tag = self.tag.as_ref().and_then(|tag| EntityTag::parse(str::from_utf8(tag).ok()?));
        if let (Some(notified), Action::Set(entries)) = (tag, &mut event.action)
            && let [entry] = &mut entries[..]
        {
            let expected = entry.expected.take().map(Arc::unwrap_or_clone).unwrap_or_default();
            entry.expected = Some(Arc::new(Expected { notified: Some(notified), ..expected }));
        }
    }

    /// The event by these bounds, which may be others than when it was accepted.
    ///
    /// # Errors
    /// Why it is no valid event, for a person.
    pub fn event(&self, limits: &Limits) -> Result<Event, String> {
        let told = |invalid: Invalid| invalid.problem().detail.into_owned();
        match split(&self.json, BodyForm::Json, 1) {
            Ok(Split::One(raw)) => {
                let mut event = validate(&raw, limits, MAX_FAULTS).map_err(told)?;
                self.complete(&mut event);
                Ok(event)
            }
            _ => Err("it is not the JSON of one event".to_owned()),
        }
    }

    /// Bytes that it takes in an entry, about.
    pub fn bytes(&self) -> usize {
        self.json.len() + 48
    }

    fn write(&self, out: &mut Vec<u8>) {
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        out.put_u8(
            flag(self.place.is_some(), HAS_PLACE)
                | flag(self.unless_changed.is_some(), HAS_DIGEST)
                | flag(self.attempts > 0, HAS_ATTEMPTS)
                | flag(self.tag.is_some(), HAS_TAG),
        );
        if let Some(place) = &self.place {
            write_short(out, place);
        }
        out.extend_from_slice(self.unless_changed.as_ref().map_or(&[], |digest| &digest[..]));
        if self.attempts > 0 {
            out.put_u32_le(self.attempts);
        }
        if let Some(tag) = &self.tag {
            write_short(out, tag);
        }
        out.put_u32_le(u32::try_from(self.json.len()).unwrap_or(u32::MAX));
        out.extend_from_slice(&self.json);
    }

    fn read(from: &mut Bytes) -> Option<Self> {
        let flags = from.try_get_u8().ok()?;
        let place = if flags & HAS_PLACE != 0 { Some(read_short(from)?) } else { None };
        let mut digest = [0; 32];
        if flags & HAS_DIGEST != 0 {
            from.try_copy_to_slice(&mut digest).ok()?;
        }
        let attempts = if flags & HAS_ATTEMPTS != 0 { from.try_get_u32_le().ok()? } else { 0 };
        let tag = if flags & HAS_TAG != 0 { Some(read_short(from)?) } else { None };
        let length = from.try_get_u32_le().ok()? as usize;
        let json = (from.len() >= length).then(|| from.split_to(length))?;
        Some(Record { json, place, unless_changed: (flags & HAS_DIGEST != 0).then_some(digest), attempts, tag })
    }
}

impl Entry {
    /// The bytes of the stream's entry.
    pub fn write(&self) -> Vec<u8> {
        let records: usize = self.records.iter().map(Record::bytes).sum();
        let mut out = Vec::with_capacity(32 + self.source.len() + self.request_id.len() + records);
        out.put_u8(VERSION);
        out.put_u64_le(self.accepted_ms);
        write_short(&mut out, self.source.as_bytes());
        write_short(&mut out, self.request_id.as_bytes());
        self.records.iter().for_each(|record| record.write(&mut out));
        out
    }

    /// The entry that these bytes are.
    ///
    /// # Errors
    /// A later release wrote it, or it is damaged.
    pub fn read(mut from: Bytes) -> Result<Self, Unreadable> {
        match from.try_get_u8() {
            Ok(VERSION) => Self::read_first(from).ok_or(Unreadable::Broken),
            Ok(newer) if newer > VERSION => Err(Unreadable::Newer),
            _ => Err(Unreadable::Broken),
        }
    }

    fn read_first(mut from: Bytes) -> Option<Self> {
        let accepted_ms = from.try_get_u64_le().ok()?;
        let (source, request_id) = (read_text(&mut from)?, read_text(&mut from)?);
        let mut records = Vec::new();
        while !from.is_empty() {
            records.push(Record::read(&mut from)?);
        }
        Some(Entry { accepted_ms, source, request_id, records })
    }
}

/// A text of at most 255 bytes; of a longer one the beginning.
fn write_short(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = bytes.get(..usize::from(u8::MAX)).unwrap_or(bytes);
    out.put_u8(bytes.len() as u8);
    out.extend_from_slice(bytes);
}

fn read_short(from: &mut Bytes) -> Option<Bytes> {
    let length = usize::from(from.try_get_u8().ok()?);
    (from.len() >= length).then(|| from.split_to(length))
}

fn read_text(from: &mut Bytes) -> Option<String> {
    String::from_utf8(read_short(from)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::event::version::{Place, Rank};
    use crate::event::{BlobUrl, CacheKey, FetchTarget, SetEntry, Source};

    fn entry() -> Entry {
        let json = |text: &'static str| Record::of_json(Bytes::from_static(text.as_bytes()));
        let replayed = Record { unless_changed: Some([7; 32]), attempts: 11, ..json("{}") };
        let (place, tag) = (Some(Bytes::from_static(b"sn011\x1f0")), Some(Bytes::from_static(b"\"a\"")));
        let placed = Record { place, tag, ..json("{\"key\":\"SET\"}") };
        let (source, request_id) = ("minio".to_owned(), "r-1".to_owned());
        Entry { accepted_ms: 1_795_903_463_933, source, request_id, records: vec![json("[1]"), replayed, placed] }
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(Entry::read(entry().write().into()), Ok(entry()));
    }

    #[test]
    fn what_is_cut_off_or_newer_is_told_apart_and_nothing_panics() {
        let whole = entry().write();
        let ends: Vec<usize> =
            (0..whole.len()).filter(|end| Entry::read(whole[..*end].to_vec().into()).is_ok()).collect();
        let mut shorter = entry();
        let mut expected = Vec::new();
        while shorter.records.pop().is_some() {
            expected.insert(0, shorter.write().len());
        }
        assert_eq!(ends, expected, "an entry may end behind each record only");
        let newer = [&[2], &whole[1..]].concat();
        assert_eq!(Entry::read(newer.into()), Err(Unreadable::Newer));
        assert_eq!(Entry::read(Bytes::from_static(b"\0")), Err(Unreadable::Broken));
    }

    #[test]
    fn what_json_cannot_say_of_an_event_stands_beside_it() {
        let version = Version::from_place(&Place::Number(1), Rank::Set);
        let expected = Expected { notified: EntityTag::parse("a"), ..Expected::default() };
        let event = |version, expected| {
            let source = Source::Blob(FetchTarget::Url(BlobUrl::parse("http://h.test/x").expect("a URL")));
            let entry = SetEntry { key: CacheKey::new_unchecked("k"), source, ttl: None, expected };
            Event { id: None, version, time: None, action: Action::Set(smallvec![entry]) }
        };
        let whole = event(version, Some(Arc::new(expected)));
        let mut read = event(None, None);
        Record::of_event(&whole).complete(&mut read);
        assert_eq!(read, whole);
    }
}
