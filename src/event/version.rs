//! The source's own order of what it says about a key.

mod placed;

use std::sync::Arc;

use smallvec::SmallVec;

use self::placed::Placed;
pub use self::placed::{Place, Rank, is_reapplied};

/// Bytes of a version that is a text, at most.
pub const MAX_TEXT_BYTES: usize = 128;
/// Digits of the largest number, 2^63-1.
const MAX_NUMBER: u64 = i64::MAX as u64;
const DIGITS: usize = 19;
const NUMBER: u8 = b'n';
const PLACED: u8 = b's';
const TEXT: u8 = b't';
/// Bytes of a stored version that need no allocation: of a number, and of most places.
const STORED: usize = 28;

/// A version of a key. All numbers order before all places of a storage's own, those before all texts, and texts byte by
/// byte. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(VersionForm);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum VersionForm {
    Number(u64),
    Placed(Placed),
    Text(Arc<str>),
}

impl Version {
    /// None beyond 2^63-1.
    pub fn from_number(number: u64) -> Option<Self> {
        (number <= MAX_NUMBER).then_some(Version(VersionForm::Number(number)))
    }

    /// None beyond [`MAX_TEXT_BYTES`].
    pub fn from_text(text: &str) -> Option<Self> {
        (text.len() <= MAX_TEXT_BYTES).then(|| Version(VersionForm::Text(text.into())))
    }

    /// A place in a storage's own order; `rank` orders what stands at the same place. None where there is no order.
    pub fn from_place(place: &Place, rank: Rank) -> Option<Self> {
        Placed::new(place, rank).map(|placed| Version(VersionForm::Placed(placed)))
    }

    /// A place from the form in which it is stored; None if that is no place.
    pub fn from_stored_place(stored: &[u8]) -> Option<Self> {
        let place = stored.strip_prefix(&[PLACED])?;
        Some(Version(VersionForm::Placed(Placed::from_bytes(place))))
    }

    /// The number, if it is one.
    pub fn number(&self) -> Option<u64> {
        match &self.0 {
            VersionForm::Number(number) => Some(*number),
            VersionForm::Placed(_) | VersionForm::Text(_) => None,
        }
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.0 {
            VersionForm::Text(text) => Some(text),
            VersionForm::Number(_) | VersionForm::Placed(_) => None,
        }
    }

    /// Whether it is a place in a storage's own order, for which JSON has no form.
    pub fn is_place(&self) -> bool {
        matches!(self.0, VersionForm::Placed(_))
    }

    /// Whether it is the place of a write: a deletion at the same place is later.
    pub fn is_place_of_a_write(&self) -> bool {
        matches!(&self.0, VersionForm::Placed(placed) if placed.is_of_a_write())
    }

    /// For a write of what a storage was seen to hold, to a key that has no version: it comes before every place, so that any
    /// notification is later.
    pub fn before_any_place() -> Self {
        Version(VersionForm::Placed(Placed::before_any()))
    }

    /// For a write of what a storage was seen to hold over a deletion with this version, or a deletion of what it was seen not to hold:
    /// later than it, and earlier than any other place. A version that is no storage's place has nothing between it and the next, and stays as it is.
    #[must_use]
    pub fn as_seen(&self) -> Self {
        match &self.0 {
            VersionForm::Placed(placed) => Version(VersionForm::Placed(placed.as_seen())),
            VersionForm::Number(_) | VersionForm::Text(_) => self.clone(),
        }
    }

    /// A version from the form in which it is stored; None for what is none.
    pub fn from_stored(stored: &[u8]) -> Option<Self> {
        let (kind, rest) = stored.split_first()?;
        Some(Version(match *kind {
            NUMBER => VersionForm::Number(str::from_utf8(rest).ok()?.parse().ok()?),
            PLACED => VersionForm::Placed(Placed::from_bytes(rest)),
            TEXT => VersionForm::Text(str::from_utf8(rest).ok()?.into()),
            _ => return None,
        }))
    }

    /// The form in which it is stored. Its bytes have the same order: a letter for the kind, then a number's digits in fixed
    /// width, a place's own form, or the text as it is.
    pub fn stored(&self) -> SmallVec<[u8; STORED]> {
        let mut stored = SmallVec::new();
        match &self.0 {
            VersionForm::Number(number) => {
                let mut digits = itoa::Buffer::new();
                let digits = digits.format(*number).as_bytes();
                stored.push(NUMBER);
                stored.resize(1 + DIGITS - digits.len(), b'0');
                stored.extend_from_slice(digits);
            }
            VersionForm::Placed(placed) => {
                stored.push(PLACED);
                stored.extend_from_slice(placed.as_bytes());
            }
            VersionForm::Text(text) => {
                stored.push(TEXT);
                stored.extend_from_slice(text.as_bytes());
            }
        }
        stored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_before_texts_and_each_has_its_own_order() {
        let numbers = [0, 1, 9, 10, 99, 1 << 53, (1 << 53) + 1, MAX_NUMBER - 1, MAX_NUMBER].map(Version::from_number);
        let texts = ["", "\0", "0", "10", "9", "A", "a", "a\0", "aa", "b", "é", "\u{10ffff}"].map(Version::from_text);
        let all: Vec<Version> = numbers.into_iter().chain(texts).map(Option::unwrap).collect();
        assert!(
            all.is_sorted() && all.windows(2).all(|pair| pair[0] < pair[1] && pair[0].stored() < pair[1].stored()),
            "{all:?}"
        );
    }

    #[test]
    fn what_was_seen_in_a_storage_comes_after_the_last_place_and_before_any_other() {
        let at = |number, rank| Version::from_place(&Place::Number(number), rank).expect("a version");
        let seen = at(7, Rank::Set).as_seen();
        assert!(at(7, Rank::Delete) < seen && seen < at(8, Rank::Set) && seen == seen.as_seen());
        let hex = Version::from_place(&Place::Hex("0".into()), Rank::Set).expect("a version");
        assert!(Version::from_number(MAX_NUMBER).expect("a version") < Version::before_any_place());
        assert!(Version::before_any_place() < hex && Version::before_any_place().as_seen() < hex);
        for own in [Version::from_number(7), Version::from_text("a")] {
            assert_eq!(own.clone().map(|own| own.as_seen()), own);
        }
    }

    #[test]
    fn a_version_is_read_from_its_stored_form() {
        let placed = Version::from_place(&Place::Text("a".into()), Rank::Delete);
        for version in [Version::from_number(0), Version::from_number(MAX_NUMBER), Version::from_text("é"), placed] {
            let version = version.expect("a version");
            assert_eq!(Version::from_stored(&version.stored()), Some(version));
        }
        for none in [&b""[..], b"n", b"nx", b"t\xff", b"x1"] {
            assert_eq!(Version::from_stored(none), None);
        }
    }

    #[test]
    fn what_is_too_large_is_no_version() {
        assert_eq!(Version::from_number(MAX_NUMBER + 1), None);
        assert!(Version::from_text(&"é".repeat(MAX_TEXT_BYTES / 2)).is_some());
        assert_eq!(Version::from_text(&"a".repeat(MAX_TEXT_BYTES + 1)), None);
    }
}
