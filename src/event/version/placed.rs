//! A place in a storage's own order, in the form in which it is stored.
//!
//! A letter for the kind of place, the place itself so that its bytes have the storage's order, [`END`], and the rank. No
//! place has [`END`] or anything before it inside, so of two places one of which begins the other the shorter comes first.
//!
//! - Sequencers are hexadecimal, and of unequal length. Gateways print a number of 64 bits without its leading zeros: up to 16
//!   digits they are numbers. Longer ones are compared from the left, as AWS and Azure say: the shorter as if zeros followed.
//! - Numbers are their digits behind the number of digits.
//! - Times are nanoseconds since 1970 in fixed width. They come before all other places: a change whose place is not known never wins
//!   over one whose place is.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::MAX_TEXT_BYTES;

/// Comes before every byte of a place.
const END: u8 = 0x1f;
/// The rank of what a storage was seen to hold, or no longer held, behind those of [`Rank`].
const SEEN: u8 = b'2';
/// Digits of a sequencer that is a number of 64 bits.
const NUMBER_DIGITS: usize = 16;
/// Decimal digits of such a number.
const DECIMAL_DIGITS: usize = 20;
/// Decimal digits of nanoseconds since 1970.
const TIME_DIGITS: usize = 19;

/// The place of a change in its producer's own order of what happened to that object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place<'a> {
    /// The hexadecimal sequencers of S3 and Event Grid, of unequal lengths.
    Hex(Cow<'a, str>),
    /// A number that grows with each change, such as a generation of GCS.
    Number(u128),
    /// A `sequence` of CloudEvents that is no number: compared byte by byte.
    Text(Cow<'a, str>),
    /// Nanoseconds since 1970.
    Time(i64),
    /// The notification says nothing: the time of the event decides, if it has one.
    None,
}

/// Which of two changes at the same place is later: the one of higher rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// The object was written.
    Set,
    /// The object was deleted: it wins over a write at the same place.
    Delete,
}

impl Rank {
    const fn byte(self) -> u8 {
        match self {
            Rank::Set => b'0',
            Rank::Delete => b'1',
        }
    }
}

/// Whether an operation with this version, in its stored form, is applied though the key has that very version: where a
/// storage's places repeat, nobody can say which came first, and what is fetched last stands.
pub fn is_reapplied(stored: &[u8]) -> bool {
    stored.first() == Some(&super::PLACED)
}

/// Most places need no allocation.
type Form = SmallVec<[u8; super::STORED]>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Placed(Form);

impl Placed {
    pub(super) fn new(place: &Place, rank: Rank) -> Option<Self> {
        let mut form = Form::new();
        match place {
            Place::Hex(digits) => hexadecimal(&mut form, digits)?,
            Place::Number(number) => numeric(&mut form, *number),
            Place::Text(text) => textual(&mut form, text)?,
            // What lies before 1970 has no order among itself.
            Place::Time(nanoseconds) => {
                form.push(b'd');
                padded(&mut form, TIME_DIGITS, (*nanoseconds).max(0).unsigned_abs());
            }
            Place::None => return None,
        }
        form.extend_from_slice(&[END, rank.byte()]);
        Some(Placed(form))
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        Placed(Form::from_slice(bytes))
    }

    pub(super) fn is_of_a_write(&self) -> bool {
        self.0.last() == Some(&Rank::Set.byte())
    }

    /// A place that no storage tells of, with the rank of what was seen.
    pub(super) fn before_any() -> Self {
        Placed(Form::from_slice(&[END, SEEN]))
    }

    /// The same place with the rank of what was seen, which is behind all others.
    pub(super) fn as_seen(&self) -> Self {
        let place = self.0.strip_suffix(&[SEEN]).or_else(|| Some(self.0.split_last()?.1)).unwrap_or_default();
        let mut seen = Form::from_slice(place);
        seen.push(SEEN);
        Placed(seen)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Decimal digits alone, which every locale of Redis orders alike: those of the first 16, and two for each one behind.
fn hexadecimal(form: &mut Form, digits: &str) -> Option<()> {
    let is_good = (1..=MAX_TEXT_BYTES).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_good {
        return None;
    }
    let (number, rest) = digits.split_at(digits.len().min(NUMBER_DIGITS));
    form.push(b'h');
    padded(form, DECIMAL_DIGITS, u64::from_str_radix(number, 16).ok()?);
    for digit in rest.trim_end_matches('0').chars().filter_map(|digit| digit.to_digit(16)) {
        padded(form, 2, digit.into());
    }
    Some(())
}

/// A number of 128 bits has 39 digits at most.
fn numeric(form: &mut Form, number: u128) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(number).as_bytes();
    form.push(b'n');
    padded(form, 2, digits.len() as u64);
    form.extend_from_slice(digits);
}

/// A number behind the zeros that it lacks to so many digits.
fn padded(form: &mut Form, width: usize, number: u64) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(number).as_bytes();
    form.resize((form.len() + width).saturating_sub(digits.len()).max(form.len()), b'0');
    form.extend_from_slice(digits);
}

/// None for a text that has no form: too long, or with control characters.
fn textual(form: &mut Form, text: &str) -> Option<()> {
    if text.len() > MAX_TEXT_BYTES || text.bytes().any(|byte| byte <= END) {
        return None;
    }
    form.push(b'x');
    form.extend_from_slice(text.as_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::Version;
    use super::*;

    fn at(place: Place, rank: Rank) -> Version {
        Version::from_place(&place, rank).unwrap_or_else(|| panic!("{place:?} has no order"))
    }

    /// Each comes after the one before it, as a value and as it is stored.
    fn assert_ascending(places: Vec<Place>) {
        let all: Vec<Version> =
            places.iter().flat_map(|place| [Rank::Set, Rank::Delete].map(|rank| at(place.clone(), rank))).collect();
        for pair in all.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].stored() < pair[1].stored(), "{pair:?}");
        }
    }

    #[test]
    fn sequencers_are_numbers_up_to_16_digits_and_compared_from_the_left_beyond() {
        let ascending = ["0", "9", "10", "FF", "617f08299329d189", "617F08299329D18A", "FFFFFFFFFFFFFFFF"];
        assert_ascending(ascending.map(|digits| Place::Hex(digits.into())).to_vec());
        let ascending = ["0055AED6DCD90281E4", "0055AED6DCD90281E5", "0055AED6DCD90281E500F", "0055AED6DCD90281F"];
        assert_ascending(ascending.map(|digits| Place::Hex(digits.into())).to_vec());
        let same = |a: &str, b: &str| {
            at(Place::Hex(a.to_owned().into()), Rank::Set) == at(Place::Hex(b.to_owned().into()), Rank::Set)
        };
        assert!(same("A", "0a") && same("0055AED6DCD90281E5", "0055aed6dcd90281e5000"), "zeros follow the shorter");
        assert!(!same("0055AED6DCD90281E5", "0055AED6DCD9028100"));
    }

    #[test]
    fn numbers_times_and_texts_have_an_order_of_their_own() {
        let numbers = [0, 1, 9, 10, 99, u64::MAX.into(), 1 << 100, u128::MAX];
        assert_ascending(numbers.map(Place::Number).to_vec());
        assert_ascending([0, 1, 10, 1_795_903_463_933_850_106, i64::MAX].map(Place::Time).to_vec());
        assert_ascending(["", " ", "1", "10", "9", "a", "a!", "aa", "é"].map(|text| Place::Text(text.into())).to_vec());
        assert_eq!(at(Place::Time(-5), Rank::Set), at(Place::Time(0), Rank::Set));
    }

    #[test]
    fn what_is_no_order_is_no_version() {
        for none in ["", "xyz", "-1", " 1"] {
            assert_eq!(Version::from_place(&Place::Hex(none.into()), Rank::Set), None, "{none}");
        }
        assert_eq!(Version::from_place(&Place::Hex("1".repeat(MAX_TEXT_BYTES + 1).into()), Rank::Set), None);
        assert_eq!(Version::from_place(&Place::Text("a\nb".into()), Rank::Set), None);
        assert_eq!(Version::from_place(&Place::None, Rank::Set), None);
    }

    #[test]
    fn only_what_a_storage_tells_is_applied_again_at_its_own_place() {
        for rank in [Rank::Set, Rank::Delete] {
            assert!(is_reapplied(&at(Place::Number(7), rank).stored()));
        }
        for other in [Version::from_number(0), Version::from_text("s0"), Version::from_text("0")] {
            assert!(!is_reapplied(&other.expect("a version").stored()));
        }
    }

    #[test]
    fn places_stand_between_numbers_and_texts() {
        let placed = at(Place::Time(i64::MAX), Rank::Delete);
        assert!(Version::from_number(i64::MAX as u64).expect("a number") < placed);
        assert!(placed < Version::from_text("").expect("a text"));
    }
}
