//! How the changes that a source tells of become events: under which key, with what value, in which order.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

use bytestring::ByteString;
use smallvec::smallvec;

use super::made::MadeTexts;
use super::{Change, Format, Ignored, KeyTemplate, Notified, ObjectChange, Place};
use crate::event::expected::Expected;
use crate::event::invalid::{Fault, Invalid, InvalidKind};
use crate::event::pattern::Pattern;
use crate::event::validate::key_fault;
use crate::event::version::{Rank, Version};
use crate::event::{
    Action, BlobUrl, CacheKey, EntityTag, Event, EventType, FetchTarget, Limits, MAX_ID_BYTES, SetEntry,
    Source as ValueSource, StoreObject, Ttl,
};

/// What is stored of an object (`sources.NAME.value`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueMode {
    /// The bytes of the object.
    Object,
    /// What the notification says of it, as a JSON object.
    Facts,
    /// Nothing: any change deletes the key, for caches that readers fill.
    None,
}

impl FromStr for ValueMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "object" => Ok(ValueMode::Object),
            "facts" => Ok(ValueMode::Facts),
            "none" => Ok(ValueMode::None),
            _ => Err("not a kind of value"),
        }
    }
}

/// The settings of a source that say what becomes of a change.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// The source's name, as it stands in its route.
    pub name: String,
    /// What its notifications look like (`sources.NAME.format`).
    pub format: Format,
    /// The key of an object (`sources.NAME.key`).
    pub key: KeyTemplate,
    /// None: that of the service, if it has one.
    pub ttl: Option<Ttl>,
    /// Globs on `bucket/object`; none: all.
    pub include: Vec<Pattern>,
    /// Globs on `bucket/object` that are not followed, even if `include` has them.
    pub exclude: Vec<Pattern>,
    /// What is stored for an object (`sources.NAME.value`).
    pub value: ValueMode,
    /// The store that objects are fetched from (`sources.NAME.store`); None: the notification's own URL.
    pub store: Option<String>,
}

/// What a notification comes to.
#[derive(Debug, Default)]
pub struct Mapped {
    /// One for each change and each malformed element, in the order in which they were sent. Each is an event of its own, so a key may be named twice.
    pub events: Vec<Result<Event, Invalid>>,
    /// How many elements change nothing, by [`Ignored::ALL`].
    pub ignored: [u64; Ignored::ALL.len()],
}

impl Mapping {
    /// The events that a notification's elements come to.
    pub fn events(&self, elements: Vec<Notified<'_>>, limits: &Limits) -> Mapped {
        let mut mapped = Mapped { events: Vec::with_capacity(elements.len()), ..Mapped::default() };
        let mut texts = MadeTexts::of_events(elements.len());
        for element in elements {
            match element {
                Notified::Change(change) if !self.concerns(&change) => mapped.ignored[Ignored::Filtered as usize] += 1,
                Notified::Change(change) => mapped.events.push(self.event(&change, limits, &mut texts)),
                Notified::Ignored(why) => mapped.ignored[why as usize] += 1,
                Notified::Malformed(detail) => mapped.events.push(Err(malformed(&detail))),
            }
        }
        mapped
    }

    fn concerns(&self, change: &ObjectChange) -> bool {
        self.follows(&change.bucket, &change.object)
    }

    /// Whether this object is followed: in `include` and not in `exclude`.
    pub fn follows(&self, bucket: &str, object: &str) -> bool {
        if self.include.is_empty() && self.exclude.is_empty() {
            return true;
        }
        let path = [bucket.as_bytes(), b"/", object.as_bytes()].concat();
        let is_matched = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(&path));
        (self.include.is_empty() || is_matched(&self.include)) && !is_matched(&self.exclude)
    }

    fn event(&self, change: &ObjectChange, limits: &Limits, texts: &mut MadeTexts) -> Result<Event, Invalid> {
        let id = change.id.as_deref().filter(|id| id.len() <= MAX_ID_BYTES).map(ByteString::from);
        let is_set = change.change == Change::Set && self.value != ValueMode::None;
        let event = if is_set { EventType::Set } else { EventType::Delete };
        let invalid = |pointer: &str, detail: Cow<'static, str>| {
            let faults = vec![Fault { pointer: pointer.to_owned(), detail }];
            Invalid { id: id.clone(), event: Some(event), kind: InvalidKind::Faults(faults) }
        };
        let key = texts.key(self.key.parts(&self.name, &change.bucket, &change.object));
        if let Some(detail) = key_fault(&key, limits) {
            let pointer = if is_set { "/value/data/key" } else { "/value/data" };
            return Err(invalid(pointer, detail.into()));
        }
        let key = CacheKey(key);
        let action = match is_set {
            false => Action::Delete(smallvec![key]),
            true => {
                let source = self.value(change, texts).map_err(|detail| invalid("/value/data/url", detail))?;
                let (ttl, expected) = (self.ttl.or(limits.default_ttl), notified(change, &source));
                Action::Set(smallvec![SetEntry { key, source, ttl, expected }])
            }
        };
        let version = version(change);
        Ok(Event { id, version, time: change.time_ms, action })
    }

    fn value(&self, change: &ObjectChange, texts: &mut MadeTexts) -> Result<ValueSource, Cow<'static, str>> {
        if self.value == ValueMode::Facts {
            return Ok(ValueSource::Inline(texts.facts(change)));
        }
        if let Some(store) = &self.store {
            let object = StoreObject::parse(store, &format!("{}/{}", change.bucket, change.object));
            return Ok(ValueSource::Blob(FetchTarget::Object(object.map_err(Cow::Borrowed)?)));
        }
        let url = change.url.as_deref().ok_or(
            "is missing: the notification says nowhere where the object's bytes are, and the source has no store to fetch \
             them from; set sources.NAME.value to facts or none",
        )?;
        let url = BlobUrl::parse(url).ok_or(Cow::Borrowed("is not a URL from which a blob can be fetched"))?;
        Ok(ValueSource::Blob(FetchTarget::Url(url)))
    }
}

/// What is said of the blob that is to be fetched.
fn notified(change: &ObjectChange, source: &ValueSource) -> Option<Arc<Expected>> {
    let etag = change.facts.etag.as_deref().filter(|_| matches!(source, ValueSource::Blob(_)))?;
    let notified = Some(EntityTag::parse(etag)?);
    Some(Arc::new(Expected { notified, ..Expected::default() }))
}

fn malformed(detail: &str) -> Invalid {
    let fault = Fault { pointer: String::new(), detail: format!("cannot be read: {detail}").into() };
    Invalid { id: None, event: None, kind: InvalidKind::Faults(vec![fault]) }
}

fn version(change: &ObjectChange) -> Option<Version> {
    let rank = match change.change {
        Change::Set => Rank::Set,
        Change::Delete => Rank::Delete,
    };
    let by_time = || {
        let nanos = change.time_ms?.checked_mul(1_000_000)?;
        Version::from_place(&Place::Time(nanos), rank)
    };
    Version::from_place(&change.place, rank).or_else(by_time)
}
