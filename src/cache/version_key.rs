//! Version keys: where the version of a key is kept, beside the key and in the same slot of a Redis Cluster.
//!
//! The version key of `KEY` is `PREFIX{TAG}KEY`. Cluster takes the slot of a key from what stands between its first braces if
//! that is not empty, so a version key is where its tag is, whatever braces the key has itself. There is one tag for each
//! slot, the smallest number whose decimal digits belong there: a fixed table, since version keys outlive the process.
//! What begins with the prefix belongs to the service: it is never matched by a pattern and never returned.
//!
//! It holds the version as it is stored, and behind that of a SET stands [`WRITTEN`]. Without the mark it is a tombstone: of a
//! DELETE or DELETE_PATTERN with that version, or left by a release that did not tell them apart. No version has the mark
//! inside, and for releases that do not know it a version with it comes right after the same without it. Behind the mark may
//! stand what is remembered of a blob ([`super::remembered`]).

use std::sync::LazyLock;

use crate::redis::slot::{SLOTS, slot, slot_of_tag};

/// Stands behind the version of a SET. Its second byte is none of UTF-8, and its first comes before those of any text.
pub const WRITTEN: &[u8] = b"\0\xff";

/// In their braces.
static TAGS: LazyLock<Box<[String]>> = LazyLock::new(|| {
    let mut tags = vec![None; SLOTS.into()].into_boxed_slice();
    let mut missing = tags.len();
    for number in 0.. {
        let place = &mut tags[usize::from(slot_of_tag(itoa::Buffer::new().format(number).as_bytes()))];
        if place.is_none() {
            *place = Some(number);
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    tags.into_iter().flatten().map(|number: u32| format!("{{{number}}}")).collect()
});

/// The version key of a key in this slot, in pieces. That of the empty key is one of the service's own.
pub fn version_key<'a>(prefix: &'a str, slot: u16, key: &'a [u8]) -> [&'a [u8]; 3] {
    let tag = TAGS.get(usize::from(slot)).map(String::as_bytes).unwrap_or_default();
    [prefix.as_bytes(), tag, key]
}

/// Whose version key it is; None if it is nobody's.
pub fn owner<'a>(prefix: &str, version_key: &'a [u8]) -> Option<&'a [u8]> {
    let rest = version_key.strip_prefix(prefix.as_bytes())?.strip_prefix(b"{")?;
    let end = rest.iter().position(|&byte| byte == b'}')?;
    let (tag, key) = (rest.get(..end)?, rest.get(end + 1..)?);
    (!key.is_empty() && tag.iter().all(u8::is_ascii_digit) && slot_of_tag(tag) == slot(key)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_a_tag_of_its_own_and_it_never_changes() {
        let slots = TAGS.iter().map(|tag| slot(tag.as_bytes()));
        assert!(slots.eq(0..SLOTS));
        let own = version_key("rcs:v:", slot(b"user:42"), b"user:42").concat();
        assert_eq!(String::from_utf8_lossy(&own), "rcs:v:{7486}user:42");
    }

    #[test]
    fn a_version_key_is_in_the_slot_of_its_key_and_tells_whose_it_is() {
        for key in ["a", "{a}b", "a}b{c", "{}x", "}{", "{", "}", "{{a}}", "rcs:v:", "rcs:v:{0}a", "\0\r\n", "é{ü}"] {
            let own = version_key("rcs:v:", slot(key.as_bytes()), key.as_bytes()).concat();
            assert_eq!(slot(&own), slot(key.as_bytes()), "{key}");
            assert_eq!(owner("rcs:v:", &own), Some(key.as_bytes()));
        }
        for other in ["", "rcs:v:", "rcs:v:{1}", "rcs:v:{x}a", "rcs:v:1}a", "rcs:v:{1}a", "other:{1}a"] {
            assert_eq!(owner("rcs:v:", other.as_bytes()), None, "{other}");
        }
    }
}
