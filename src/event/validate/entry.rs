//! The entries of a SET: a key with a value, a key with a blob's URL or with an object of a store, or a URL alone.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use bytestring::ByteString;
use smallvec::smallvec;

use super::faults::{At, EventMember, Others};
use super::{Check, JsonKind, Node, Ttl, digits, url};
use crate::event::expected::Expected;
use crate::event::hex::unhex;
use crate::event::{BlobUrl, CacheKey, EntityTag, FetchTarget, Few, SetEntry, Source, StoreObject};

const TAG_FORM: &str =
    "must be an entity tag: a string of 1 to 256 visible ASCII characters, with quotes around it or without";
const SHA256_FORM: &str = "must be a string of 64 hexadecimal digits";
const BYTES_FORM: &str = "must be a whole number of bytes, 0 or more";

impl Check<'_> {
    pub(super) fn entries(&mut self, data: Node<'_>, at: &At<'_>, ttl: Option<Ttl>) -> Option<Few<SetEntry>> {
        let at_most = self.limits.max_keys;
        match data.kind() {
            JsonKind::Array => self.list(data, at, at_most, |check, item, at| check.entry(item, at, ttl)),
            _ => self.entry(data, at, ttl).map(|entry| smallvec![entry]),
        }
    }

    /// `ttl` is for an entry without one of its own.
    fn entry(&mut self, entry: Node<'_>, at: &At<'_>, ttl: Option<Ttl>) -> Option<SetEntry> {
        match entry.kind() {
            JsonKind::Object => self.entry_object(entry, at, ttl),
            JsonKind::String => {
                let url = self.url(entry, at)?;
                let key = self.key_of_url(&url, at)?;
                Some(SetEntry { key, source: Source::Blob(FetchTarget::Url(url)), ttl, expected: None })
            }
            _ => self.faults.refuse(
                at,
                "must be an entry: an object with `key` and `value`, with `url`, or with `key`, `store` and `object`; or a URL",
            ),
        }
    }

    fn entry_object(&mut self, entry: Node<'_>, at: &At<'_>, ttl: Option<Ttl>) -> Option<SetEntry> {
        let names = ["key", "value", "url", "store", "object", "encoding", "ttl", "etag", "sha256", "bytes"];
        let [key, value, url, store, object, encoding, own_ttl, etag, sha256, bytes] =
            self.faults.members(entry, names, Others::Refused, at);
        let ttl = self.ttl(own_ttl, at).or(ttl);
        let named = key.given().and_then(|node| self.key(node, &at.name("key")));
        let blob = url.given().and_then(|node| self.url(node, &at.name("url")));
        let stored = self.store_object(store, object, at);
        let is_blob = !url.is_absent() || stored.is_some();
        let expected = self.expected([etag, sha256, bytes], !value.is_absent() && !is_blob, at);
        let is_base64 = self.encoding(encoding, value, is_blob, &at.name("encoding"));
        let inline = value.given().and_then(|node| self.inline(node, &at.name("value"), is_base64));
        let source = match (value.is_absent(), url.is_absent(), stored) {
            (true, true, None) => {
                return self.faults.refuse(at, "must have `value`, or `url`, or `store` and `object`");
            }
            (false, true, None) => inline.map(Source::Inline),
            (true, false, None) => blob.map(|url| Source::Blob(FetchTarget::Url(url))),
            (true, true, Some(object)) => object.map(|object| Source::Blob(FetchTarget::Object(object))),
            _ => return self.faults.refuse(at, "must have only one of `value`, `url`, and `store` with `object`"),
        };
        let key = match &source {
            Some(Source::Blob(FetchTarget::Url(url))) if key.is_absent() => self.key_of_url(url, &at.name("url")),
            _ if key.is_absent() && url.is_absent() => {
                self.faults.refuse(&at.name("key"), "is missing: only a blob's URL may go without")
            }
            _ => named,
        };
        Some(SetEntry { key: key?, source: source?, ttl, expected: expected? })
    }

    /// What a blob must be. None: a fault is reported; inside, None that nothing is asked for.
    fn expected(
        &mut self,
        [etag, sha256, bytes]: [EventMember<'_>; 3],
        is_inline: bool,
        at: &At<'_>,
    ) -> Option<Option<Arc<Expected>>> {
        let given = [(etag, "etag"), (sha256, "sha256"), (bytes, "bytes")];
        if is_inline {
            let mut is_good = true;
            for (_, name) in given.into_iter().filter(|(slot, _)| !slot.is_absent()) {
                is_good = false;
                self.faults.add(&at.name(name), "is for a blob: it says what must be fetched");
            }
            return is_good.then_some(None);
        }
        let etag = self.member(etag, &at.name("etag"), TAG_FORM, |node| EntityTag::parse(&node.string().ok()?));
        let sha256 = self.member(sha256, &at.name("sha256"), SHA256_FORM, |node| unhex(&node.string().ok()?));
        let bytes = self.member(bytes, &at.name("bytes"), BYTES_FORM, |node| {
            (node.kind() == JsonKind::Number).then(|| digits(node.text())).flatten()
        });
        let expected = Expected { etag: etag?, notified: None, sha256: sha256?, bytes: bytes? };
        Some((!expected.is_empty()).then(|| Arc::new(expected)))
    }

    /// A member that may be left out, by `parse`. None: a fault is reported.
    fn member<T>(
        &mut self,
        slot: EventMember<'_>,
        at: &At<'_>,
        form: &'static str,
        parse: impl FnOnce(Node<'_>) -> Option<T>,
    ) -> Option<Option<T>> {
        match slot {
            EventMember::Absent => Some(None),
            EventMember::Twice => None,
            EventMember::Given(node) => match parse(node) {
                Some(value) => Some(Some(value)),
                None => self.faults.refuse(at, form),
            },
        }
    }

    /// The object that `store` and `object` name. None if neither is there; inside, None that a fault is reported.
    fn store_object(
        &mut self,
        store: EventMember<'_>,
        object: EventMember<'_>,
        at: &At<'_>,
    ) -> Option<Option<StoreObject>> {
        if store.is_absent() && object.is_absent() {
            return None;
        }
        for (slot, name) in [(store, "store"), (object, "object")] {
            if slot.is_absent() {
                self.faults.add(&at.name(name), "is missing: `store` and `object` go together");
            }
        }
        let (at_store, at_object) = (at.name("store"), at.name("object"));
        let store = store.given().and_then(|node| self.text(node, &at_store, "must be a string: the name of a store"));
        let store = store.and_then(|name| match &self.limits.stores {
            Some(known) if !known.iter().any(|known| **known == *name) => {
                self.faults.refuse(&at_store, "is not the name of a configured store (`stores.NAME`)")
            }
            _ => Some(name),
        });
        let object = object.given().and_then(|node| self.text(node, &at_object, "must be a string: `bucket/name`"));
        // A fault of the object is told whatever the store is.
        let object = object.and_then(|path| match StoreObject::parse(store.as_deref().unwrap_or_default(), &path) {
            Ok(object) => Some(object),
            Err(detail) => self.faults.refuse(&at_object, detail),
        });
        Some(object.filter(|_| store.is_some()))
    }

    /// Whether the value is base64; None if that cannot be told.
    fn encoding(
        &mut self,
        encoding: EventMember<'_>,
        value: EventMember<'_>,
        is_blob: bool,
        at: &At<'_>,
    ) -> Option<bool> {
        let encoding = match encoding {
            EventMember::Given(node) => node,
            EventMember::Absent => return Some(false),
            EventMember::Twice => return None,
        };
        if !encoding.string().is_ok_and(|text| text == "base64") {
            return self.faults.refuse(at, "must be `base64`, or be left out");
        }
        if is_blob {
            return self.faults.refuse(at, "is for an inline value: a blob is stored byte for byte");
        }
        if value.given().is_some_and(|node| node.kind() != JsonKind::String) {
            return self.faults.refuse(at, "is for a value that is a string");
        }
        Some(true)
    }

    /// The bytes to be stored for an inline value.
    fn inline(&mut self, value: Node<'_>, at: &At<'_>, is_base64: Option<bool>) -> Option<Bytes> {
        match value.kind() {
            JsonKind::Null => self.faults.refuse(at, "must not be null: DELETE removes a key"),
            JsonKind::String => {
                let text = self.text(value, at, "must be a string")?;
                match is_base64? {
                    false => Some(text.into_bytes()),
                    true => match STANDARD.decode(text.as_bytes()) {
                        Ok(bytes) => Some(bytes.into()),
                        Err(_) => self.faults.refuse(at, "must be base64 (RFC 4648 section 4, padded)"),
                    },
                }
            }
            _ => Some(value.shared()),
        }
    }

    fn url(&mut self, node: Node<'_>, at: &At<'_>) -> Option<BlobUrl> {
        let text = self.text(node, at, "must be a string: an http or https URL")?;
        match url::parse(&text) {
            Ok(url) => Some(url),
            Err(error) => self.faults.refuse(at, error.to_string()),
        }
    }

    /// The key that a blob without one is stored under.
    fn key_of_url(&mut self, url: &BlobUrl, at: &At<'_>) -> Option<CacheKey> {
        let Some(path) = url::decoded_path(url) else {
            return self.faults.refuse(at, "has a path that is not UTF-8: give a `key`");
        };
        match self.key_fault(&path) {
            None => self.once(CacheKey(ByteString::from(path)), at),
            Some(detail) => {
                self.faults.refuse(at, format!("has a path that cannot be a key, so give a `key`: it {detail}"))
            }
        }
    }
}
