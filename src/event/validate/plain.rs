//! Events whose parts are known already: only what they say is left to be judged.

use std::ops::Range;

use bytestring::ByteString;
use smallvec::smallvec;

use super::{Action, Check, Event, EventType, MAX_ID_BYTES, Version, parse_url};
use crate::event::wire::{self, PlainEvent};
use crate::event::{CacheKey, FetchTarget, SetEntry, Source};

impl Check<'_> {
    /// The event, if nothing is wrong with it.
    pub(super) fn plain(&self, text: &ByteString, plain: &PlainEvent) -> Option<Event> {
        let part = |range: &Range<usize>| text.get(range.clone()).map(|part| text.slice_ref(part));
        let id = match &plain.id {
            Some(id) if id.len() <= MAX_ID_BYTES => Some(part(id)?),
            Some(_) => return None,
            None => None,
        };
        let version = match plain.version.filter(|_| plain.event != EventType::Get) {
            Some(number) => Some(Version::from_number(number)?),
            None => None,
        };
        let key = part(&plain.key)?;
        if self.key_fault(&key).is_some() {
            return None;
        }
        let key = CacheKey(key);
        let action = match &plain.source {
            Some(source) => {
                let ttl = match plain.ttl {
                    Some(seconds) => Some(self.ttl_of(seconds)?),
                    None => self.limits.default_ttl,
                };
                let source = match source {
                    wire::PlainSource::Value(value) => Source::Inline(part(value)?.into_bytes()),
                    wire::PlainSource::Url(url) => {
                        Source::Blob(FetchTarget::Url(parse_url(text.get(url.clone())?).ok()?))
                    }
                };
                Action::Set(smallvec![SetEntry { key, source, ttl, expected: None }])
            }
            None if plain.event == EventType::Get => Action::Get(smallvec![key]),
            None => Action::Delete(smallvec![key]),
        };
        Some(Event { id, version, time: None, action })
    }
}
