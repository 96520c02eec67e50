//! What a value is fetched from: a URL, or an object of a store that the operator set up.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::BlobUrl;

/// Bytes of an object with its bucket, at most: stores allow names of 1,024 characters.
pub const MAX_OBJECT_BYTES: usize = 4352;
/// Bytes of an entity tag, at most. Stores use less than 100.
pub const MAX_ENTITY_TAG_BYTES: usize = 256;

/// Where a blob is. `Debug` and `Display` show no query. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchTarget {
    /// A URL from an event, called without any credential.
    Url(BlobUrl),
    /// An object of a store, called with the store's credentials.
    Object(StoreObject),
}

impl FetchTarget {
    /// What shares a limit and a breaker: host and port of a URL, or the store, with a slash, which no host has.
    pub fn authority(&self) -> Cow<'_, str> {
        match self {
            FetchTarget::Url(url) => url.authority(),
            FetchTarget::Object(object) => Cow::Owned(format!("store/{}", object.store())),
        }
    }

    /// Bytes of its text, for what it holds of memory.
    pub fn text_bytes(&self) -> usize {
        match self {
            FetchTarget::Url(url) => url.expose().as_str().len(),
            FetchTarget::Object(object) => object.0.store.len() + object.0.path.len(),
        }
    }
}

impl fmt::Display for FetchTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchTarget::Url(url) => url.fmt(f),
            FetchTarget::Object(object) => object.fmt(f),
        }
    }
}

/// An object of a store: the store's name, the bucket (a container in Azure), and the object's name in it, decoded. Cheap to
/// clone.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreObject(Arc<NamedObject>);

#[derive(PartialEq, Eq)]
struct NamedObject {
    store: Box<str>,
    path: Box<str>,
    /// Where the slash between bucket and name is.
    slash: usize,
}

impl StoreObject {
    /// The object of `bucket/name`. The first slash ends the bucket; whatever follows is the name, slashes included.
    ///
    /// # Errors
    ///
    /// What is wrong with the path, as the end of a sentence that begins with what it is.
    pub fn parse(store: &str, path: &str) -> Result<Self, &'static str> {
        const FORM: &str = "must be `bucket/name`, neither of them empty";
        if path.len() > MAX_OBJECT_BYTES {
            return Err("must be at most 4352 bytes long");
        }
        let slash = path.find('/').ok_or(FORM)?;
        if slash == 0 || slash + 1 == path.len() {
            return Err(FORM);
        }
        if path.contains('\0') {
            return Err("must not hold a zero byte");
        }
        Ok(StoreObject(Arc::new(NamedObject { store: store.into(), path: path.into(), slash })))
    }

    /// The store's name, as it stands in `stores.NAME`.
    pub fn store(&self) -> &str {
        &self.0.store
    }

    /// All of it: `bucket/name`.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The bucket, or container.
    pub fn bucket(&self) -> &str {
        &self.0.path[..self.0.slash]
    }

    /// The object's name within its bucket, decoded. It may begin with a slash.
    pub fn name(&self) -> &str {
        &self.0.path[self.0.slash + 1..]
    }
}

impl fmt::Display for StoreObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from store {}", self.0.path, self.0.store)
    }
}

impl fmt::Debug for StoreObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An entity tag (RFC 9110, section 8.8.3): what a server calls one state of an object. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EntityTag {
    opaque: Arc<str>,
    is_weak: bool,
}

impl EntityTag {
    /// The tag of a header, a listing or a notification: with quotes or without them. None for what is no tag: empty, longer
    /// than [`MAX_ENTITY_TAG_BYTES`], or with a quote or anything but visible ASCII inside.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (text, is_weak) = text.strip_prefix("W/").map_or((text, false), |rest| (rest, true));
        let opaque = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
        let is_good = (1..=MAX_ENTITY_TAG_BYTES).contains(&opaque.len())
            && opaque.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
        is_good.then(|| EntityTag { opaque: opaque.into(), is_weak })
    }

    /// The tag without quotes and without the mark of a weak one.
    pub fn opaque(&self) -> &str {
        &self.opaque
    }

    /// Whether the server promises less than the same bytes.
    pub fn is_weak(&self) -> bool {
        self.is_weak
    }

    /// The weak comparison of RFC 9110, which is that of `If-None-Match`.
    pub fn matches(&self, other: &EntityTag) -> bool {
        self.opaque == other.opaque
    }
}

/// The form in which a header has it: `"abc"` or `W/"abc"`.
impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\"{}\"", if self.is_weak { "W/" } else { "" }, self.opaque)
    }
}

impl fmt::Debug for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_a_bucket_and_a_name_with_whatever_slashes() {
        for (path, bucket, name) in
            [("b/n", "b", "n"), ("b//n", "b", "/n"), ("b/a//c/", "b", "a//c/"), ("b/a b+%2F?#é", "b", "a b+%2F?#é")]
        {
            let object = StoreObject::parse("main", path).expect(path);
            assert_eq!((object.store(), object.bucket(), object.name()), ("main", bucket, name));
        }
        for path in ["", "/", "b", "b/", "/n", "b/a\0", &format!("b/{}", "n".repeat(MAX_OBJECT_BYTES))] {
            assert!(StoreObject::parse("main", path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_tag_is_the_same_with_quotes_and_without() {
        let tag = |text: &str| EntityTag::parse(text);
        for (text, header) in
            [("\"a-1\"", "\"a-1\""), ("a-1", "\"a-1\""), ("W/\"a\"", "W/\"a\""), (" \"0x8D\" ", "\"0x8D\"")]
        {
            assert_eq!(tag(text).expect(text).to_string(), header);
        }
        assert!(tag("\"a\"").zip(tag("W/\"a\"")).is_some_and(|(strong, weak)| strong.matches(&weak) && strong != weak));
        for none in ["", "\"\"", "W/\"\"", "\"a\"b\"", "a b", "é", &"a".repeat(MAX_ENTITY_TAG_BYTES + 1)] {
            assert_eq!(tag(none), None, "{none}");
        }
    }
}
