//! From entries of the stream to tasks of the window.

use std::sync::Arc;

use bytes::Bytes;

use crate::event::{Action, Event, Few, Limits};
use crate::journal::entry::{Entry, Record, SEVERAL_DIGESTS, Unreadable, digests};
use crate::journal::link::{Value, field};
use crate::journal::window::{Meta, Task};

/// An entry as the stream has it.
pub struct Raw {
    pub id: String,
    pub payload: Bytes,
    /// Of what each key of a letter held that is run again and has several.
    pub digests: Bytes,
}

/// An entry that was read.
pub struct Taken {
    pub id: String,
    pub tasks: Vec<Task>,
    /// Of the tasks, those that are no valid events, with why: nothing can be done but to bury them.
    pub invalid: Vec<(usize, String)>,
}

/// The entries in a reply to XRANGE, or to the script that reads.
pub fn entries(reply: &[Value]) -> Vec<Raw> {
    let entry = |entry: &Value| {
        let [id, fields] = entry.list() else { return None };
        let id = String::from_utf8(id.text()?.to_vec()).ok()?;
        let field = |name| field(fields.list(), name).cloned().unwrap_or_default();
        Some(Raw { id, payload: field("e"), digests: field("d") })
    };
    reply.iter().filter_map(entry).collect()
}

/// Reads an entry. What is no entry at all is one event that is invalid.
///
/// # Errors
/// A later release wrote it.
pub fn take_in(Raw { id, payload, digests: beside }: Raw, limits: &Limits) -> Result<Taken, Unreadable> {
    let (entry, broken) = match Entry::read(payload.clone()) {
        Ok(entry) => (entry, None),
        Err(Unreadable::Newer) => return Err(Unreadable::Newer),
        Err(Unreadable::Broken) => {
            let records = vec![Record::of_json(payload)];
            let entry = Entry { accepted_ms: 0, source: String::new(), request_id: String::new(), records };
            (entry, Some("the entry of the journal cannot be read"))
        }
    };
    let Entry { accepted_ms, source, request_id, records } = entry;
    let meta = Arc::new(Meta { id: id.clone(), source, request_id, accepted_ms });
    let (mut tasks, mut invalid) = (Vec::with_capacity(records.len()), Vec::new());
    for (place, record) in records.into_iter().enumerate() {
        let read = if broken.is_some() { Err(broken.unwrap_or_default().to_owned()) } else { record.event(limits) };
        let event = read.unwrap_or_else(|why| {
            invalid.push((place, why));
            Event { id: None, version: None, time: None, action: Action::Delete(Few::new()) }
        });
        let entries = event.action.entries();
        let held = match record.unless_changed {
            Some(SEVERAL_DIGESTS) => digests(&beside),
            one => one.into_iter().collect(),
        };
        tasks.push(Task { entry: 0, meta: meta.clone(), place, record, event, entries, held, attempts: 0 });
    }
    Ok(Taken { id, tasks, invalid })
}
