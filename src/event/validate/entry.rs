//! The entries of a SET: a key with a value, a key with a blob's URL, or a URL alone.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use bytestring::ByteString;
use smallvec::smallvec;

use super::faults::{At, Others, Slot};
use super::{Check, Kind, Node, Ttl, url};
use crate::event::{BlobUrl, CacheKey, Few, SetEntry, Source};

impl Check<'_> {
    pub(super) fn entries(&mut self, data: Node<'_>, at: &At<'_>, ttl: Option<Ttl>) -> Option<Few<SetEntry>> {
        let at_most = self.limits.max_keys;
        match data.kind() {
            Kind::Array => self.list(data, at, at_most, |check, item, at| check.entry(item, at, ttl)),
            _ => self.entry(data, at, ttl).map(|entry| smallvec![entry]),
        }
    }

    /// `ttl` is for an entry without one of its own.
    fn entry(&mut self, entry: Node<'_>, at: &At<'_>, ttl: Option<Ttl>) -> Option<SetEntry> {
        match entry.kind() {
            Kind::Object => self.entry_object(entry, at, ttl),
            Kind::String => {
                let url = self.url(entry, at)?;
                let key = self.key_of_url(&url, at)?;
                Some(SetEntry { key, source: Source::Blob(url), ttl })
            }
            _ => self.faults.refuse(at, "must be an entry: an object with `key` and `value` or with `url`, or a URL"),
        }
    }

    fn entry_object(&mut self, entry: Node<'_>, at: &At<'_>, ttl: Option<Ttl>) -> Option<SetEntry> {
        let names = ["key", "value", "url", "encoding", "ttl"];
        let [key, value, url, encoding, own_ttl] = self.faults.members(entry, names, Others::Refused, at);
        let ttl = self.ttl(own_ttl, at).or(ttl);
        let named = key.given().and_then(|node| self.key(node, &at.name("key")));
        let blob = url.given().and_then(|node| self.url(node, &at.name("url")));
        let is_base64 = self.encoding(encoding, value, url, &at.name("encoding"));
        let inline = value.given().and_then(|node| self.inline(node, &at.name("value"), is_base64));
        match (value.is_absent(), url.is_absent()) {
            (true, true) => return self.faults.refuse(at, "must have `value` or `url`"),
            (false, false) => return self.faults.refuse(at, "must have only one of `value` and `url`"),
            (true, false) => {
                let url = blob?;
                let key = if key.is_absent() { self.key_of_url(&url, &at.name("url")) } else { named };
                return Some(SetEntry { key: key?, source: Source::Blob(url), ttl });
            }
            (false, true) => {}
        }
        if key.is_absent() {
            self.faults.add(&at.name("key"), "is missing: only a blob may go without");
        }
        Some(SetEntry { key: named?, source: Source::Inline(inline?), ttl })
    }

    /// Whether the value is base64; None if that cannot be told.
    fn encoding(&mut self, encoding: Slot<'_>, value: Slot<'_>, url: Slot<'_>, at: &At<'_>) -> Option<bool> {
        let encoding = match encoding {
            Slot::Given(node) => node,
            Slot::Absent => return Some(false),
            Slot::Twice => return None,
        };
        if !encoding.string().is_ok_and(|text| text == "base64") {
            return self.faults.refuse(at, "must be `base64`, or be left out");
        }
        if !url.is_absent() {
            return self.faults.refuse(at, "is for an inline value: a blob is stored byte for byte");
        }
        if value.given().is_some_and(|node| node.kind() != Kind::String) {
            return self.faults.refuse(at, "is for a value that is a string");
        }
        Some(true)
    }

    /// The bytes to be stored for an inline value.
    fn inline(&mut self, value: Node<'_>, at: &At<'_>, is_base64: Option<bool>) -> Option<Bytes> {
        match value.kind() {
            Kind::Null => self.faults.refuse(at, "must not be null: DELETE removes a key"),
            Kind::String => {
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
            return self.faults.refuse(at, "has a path that is not UTF-8, so it is no key: give a `key`");
        };
        match self.key_fault(&path) {
            None => self.once(CacheKey(ByteString::from(path)), at),
            Some(detail) => self.faults.refuse(at, format!("has a path that is no key, so give a `key`: it {detail}")),
        }
    }
}
