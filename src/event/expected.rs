//! What an event says of a blob: what it must be, so that its version means these bytes and no others, and what a storage
//! called it when it told of it.

use ring::digest::{Context, SHA256};

use super::EntityTag;

/// Bytes of a SHA-256 digest.
pub const SHA256_BYTES: usize = 32;

/// What is known of a blob before it is fetched. None: anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// The entity tag that its host gives it.
    pub etag: Option<EntityTag>,
    /// The entity tag that a notification names. A blob with another is as good: it has changed since.
    pub notified: Option<EntityTag>,
    /// The SHA-256 of its bytes, content codings undone.
    pub sha256: Option<[u8; SHA256_BYTES]>,
    /// How many bytes it has, content codings undone.
    pub bytes: Option<u64>,
}

/// How a blob differs from what it must be; for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// The host names another tag, or none.
    #[error("the host has a state with another entity tag than the event's `etag`")]
    ETag,
    /// The bytes differ.
    #[error("its SHA-256 is not the event's `sha256`")]
    Sha256,
    /// It is longer or shorter.
    #[error("its length is not the event's `bytes`")]
    Bytes,
}

/// Compares a value that comes in parts.
pub struct Comparison<'a> {
    expected: &'a Expected,
    digest: Option<Context>,
    bytes: u64,
}

impl Expected {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Expected::default()
    }

    /// The tag of the state that the event is about.
    pub fn named(&self) -> Option<&EntityTag> {
        self.etag.as_ref().or(self.notified.as_ref())
    }

    /// What the head of a response already shows.
    ///
    /// # Errors
    ///
    /// The first difference.
    pub fn check_head(&self, etag: Option<&EntityTag>, bytes: Option<u64>) -> Result<(), Difference> {
        let is_other = |expected: &EntityTag| !etag.is_some_and(|etag| etag.matches(expected));
        if self.etag.as_ref().is_some_and(is_other) {
            return Err(Difference::ETag);
        }
        match (self.bytes, bytes) {
            (Some(expected), Some(bytes)) if expected != bytes => Err(Difference::Bytes),
            _ => Ok(()),
        }
    }

    /// Whether a value with this tag and length may be what is asked for, as far as they tell.
    pub fn allows(&self, etag: &EntityTag, bytes: u64) -> bool {
        self.sha256.is_none() && self.check_head(Some(etag), Some(bytes)).is_ok()
    }

    /// For a value of which nothing is known yet.
    pub fn compare(&self) -> Comparison<'_> {
        Comparison { expected: self, digest: self.sha256.map(|_| Context::new(&SHA256)), bytes: 0 }
    }
}

impl Comparison<'_> {
    /// The next bytes of the value.
    pub fn add(&mut self, part: &[u8]) {
        self.bytes += part.len() as u64;
        if let Some(digest) = &mut self.digest {
            digest.update(part);
        }
    }

    /// The value has ended.
    ///
    /// # Errors
    ///
    /// The first difference.
    pub fn finish(self) -> Result<(), Difference> {
        if self.expected.bytes.is_some_and(|expected| expected != self.bytes) {
            return Err(Difference::Bytes);
        }
        let is_other =
            |digest: Context| self.expected.sha256.as_ref().is_some_and(|sha256| digest.finish().as_ref() != sha256);
        if self.digest.is_some_and(is_other) { Err(Difference::Sha256) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_as_early_as_it_shows() {
        let tag = |text: &str| EntityTag::parse(text).expect("a tag");
        let expected = |etag: Option<&str>, bytes| Expected { etag: etag.map(tag), bytes, ..Expected::default() };
        let head = |expected: Expected, etag: Option<&str>, bytes| expected.check_head(etag.map(tag).as_ref(), bytes);
        assert_eq!(head(expected(None, None), None, None), Ok(()));
        assert_eq!(head(expected(Some("a"), None), Some("\"a\""), None), Ok(()));
        assert_eq!(head(expected(Some("a"), None), Some("\"b\""), None), Err(Difference::ETag));
        assert_eq!(head(expected(Some("a"), None), None, None), Err(Difference::ETag));
        assert_eq!(head(expected(None, Some(5)), None, None), Ok(()));
        assert_eq!(head(expected(None, Some(5)), None, Some(6)), Err(Difference::Bytes));
    }

    #[test]
    fn bytes_are_compared_in_whatever_parts_they_come() {
        let digest = ring::digest::digest(&SHA256, b"value");
        let sha256 = digest.as_ref().try_into().ok();
        let compared = |expected: &Expected, parts: &[&[u8]]| {
            let mut comparison = expected.compare();
            parts.iter().for_each(|part| comparison.add(part));
            comparison.finish()
        };
        let expected = Expected { sha256, bytes: Some(5), ..Expected::default() };
        assert_eq!(compared(&expected, &[b"va", b"", b"lue"]), Ok(()));
        assert_eq!(compared(&expected, &[b"valuE"]), Err(Difference::Sha256));
        assert_eq!(compared(&expected, &[b"val"]), Err(Difference::Bytes));
        assert!(!expected.allows(&EntityTag::parse("a").expect("a tag"), 5), "a tag says nothing of a digest");
        assert!(Expected::default().is_empty() && !expected.is_empty());
    }
}
