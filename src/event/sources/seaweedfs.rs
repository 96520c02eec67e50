//! The webhook of a SeaweedFS filer.
//!
//! - It tells of entries of the filer, by paths: objects stand below `/buckets/BUCKET/`, unescaped. Folders, parts of uploads
//!   (below `.uploads/`) and what the filer keeps for itself change nothing.
//! - In a versioned bucket a PUT creates `KEY.versions/v_ID`, and so does a DELETE, which only the mark in `extended` tells.
//! - There is no sequencer. The finest time is that of the newest chunk; of a version it is in its id, which counts down. What
//!   has neither, an empty object, has a time in whole seconds.
//! - A rename has no time of its own: the object comes to its new name with the time of its bytes. What it took the place of
//!   there is told of behind it, as a deletion like any other, with the time of the bytes that went.

mod entry;
mod path;

use serde::Deserialize;

use self::entry::FilerEntry;
use self::path::ObjectPath;
use super::json::{read_object, trimmed};
use super::scalar::Scalar;
use super::{Change, Ignored, Message, Notified, ObjectChange, Parsed, Place, SourceFault, media};

const NANOS: u128 = 1_000_000_000;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    event_type: Scalar<'a>,
    #[serde(borrow, default)]
    key: Scalar<'a>,
    #[serde(borrow, default)]
    message: Option<Inside<'a>>,
}

#[derive(Default, Deserialize)]
struct Inside<'a> {
    #[serde(borrow, default)]
    old_entry: Option<FilerEntry<'a>>,
    #[serde(borrow, default)]
    new_entry: Option<FilerEntry<'a>>,
    #[serde(borrow, default)]
    new_parent_path: Scalar<'a>,
}

/// Whether the message is of this format: for `auto`.
pub fn looks_like(message: &Message) -> bool {
    let body = trimmed(message.body);
    body.starts_with(b"{\"event_type\"")
        || body.starts_with(b"{")
            && read_object::<Body>(body).is_ok_and(|body| {
                body.event_type.as_str().is_some() && body.key.as_str().is_some_and(|key| key.starts_with('/'))
            })
}

/// Takes a notification apart. An empty body is a probe.
///
/// # Errors
/// When the body is not JSON, or lacks what such an event has.
pub fn parse<'a>(message: &Message<'a>) -> Result<Parsed<'a>, SourceFault> {
    media::expect_json(message, "SeaweedFS")?;
    if trimmed(message.body).is_empty() {
        return Ok(Parsed::Elements(vec![Notified::Ignored(Ignored::Test)]));
    }
    let missing = |what| SourceFault::Malformed(format!("the event has no `{what}`"));
    let Body { event_type, key, message } = read_object(message.body)?;
    let path = key.text().ok_or_else(|| missing("key"))?;
    let Inside { old_entry, new_entry, new_parent_path } = message.ok_or_else(|| missing("message"))?;
    let elements = match event_type.as_str().ok_or_else(|| missing("event_type"))? {
        "create" | "update" => {
            vec![set(&path, new_entry.ok_or_else(|| missing("message.new_entry"))?, old_entry.as_ref())]
        }
        "delete" => vec![delete(&path, old_entry.ok_or_else(|| missing("message.old_entry"))?)],
        "rename" => {
            let old = old_entry.ok_or_else(|| missing("message.old_entry"))?;
            let new = new_entry.ok_or_else(|| missing("message.new_entry"))?;
            let parent = new_parent_path.as_str().ok_or_else(|| missing("message.new_parent_path"))?;
            let new_path = format!("{}/{}", parent.trim_end_matches('/'), new.name());
            vec![delete(&path, old), renamed(&new_path, new)]
        }
        _ => vec![Notified::Ignored(Ignored::UnknownEvent)],
    };
    Ok(Parsed::Elements(elements))
}

/// An entry that is new or written anew. One whose bytes are those of before has other metadata.
fn set(path: &str, entry: FilerEntry, old: Option<&FilerEntry>) -> Notified<'static> {
    let named = match path::object(path, &entry) {
        Ok(named) => named,
        Err(ignored) => return Notified::Ignored(ignored),
    };
    if entry.is_delete_marker() {
        return change(Change::Delete, named, Place::Number(entry.nanos()), entry);
    }
    if old.is_some_and(|old| old.has_bytes_of(&entry)) {
        return Notified::Ignored(Ignored::Metadata);
    }
    // An empty object has no time but whole seconds, and comes after what it took the place of.
    let least = old.map_or(0, |old| old.nanos() + 1);
    let nanos = if entry.is_timed() { entry.nanos() } else { entry.nanos().max(least) };
    change(Change::Set, named, Place::Number(nanos), entry)
}

fn delete(path: &str, entry: FilerEntry) -> Notified<'static> {
    match path::object(path, &entry) {
        Err(ignored) => Notified::Ignored(ignored),
        // What was below a mark that is taken away is told nowhere.
        Ok(_) if entry.is_delete_marker() => Notified::Ignored(Ignored::Metadata),
        Ok(named) => {
            let nanos = if entry.is_timed() { entry.nanos() } else { entry.nanos() + NANOS - 1 };
            change(Change::Delete, named, Place::Number(nanos), entry)
        }
    }
}

/// An entry under its new name. When its bytes were written says nothing of when that happened.
fn renamed(path: &str, entry: FilerEntry) -> Notified<'static> {
    match set(path, entry, None) {
        Notified::Change(change) => Notified::Change(ObjectChange { time_ms: None, ..change }),
        ignored => ignored,
    }
}

/// In memory of its own: a path may have been put together.
fn change(change: Change, named: ObjectPath, place: Place, entry: FilerEntry) -> Notified<'static> {
    let time_ms = i64::try_from(entry.nanos() / 1_000_000).ok();
    let (bucket, object) = (named.bucket.into(), named.object.into());
    let facts = entry.facts();
    Notified::Change(ObjectChange { change, bucket, object, url: None, place, facts, id: None, time_ms }.into_owned())
}
