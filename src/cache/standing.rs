//! Whether a write that is still to be made would take effect, judged by what was applied to its key before.

use std::cmp::Ordering;

use super::remembered::Remembered;
use super::version_key::WRITTEN;
use crate::event::version::{Version, is_reapplied};

/// Whether a write with a version would take effect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Standing {
    /// It would, as far as is known now.
    #[default]
    Open,
    /// It would not, because the key has a value of that very version; it would if that value were deleted before.
    Present,
    /// It would not, whatever comes.
    Superseded,
}

/// What a key's version says of a write that is to come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether it would take effect.
    pub standing: Standing,
    /// What is remembered of the value that the key was given with its version. None: nothing, or the key is gone.
    pub remembered: Option<Remembered>,
    /// The version that was applied to the key last.
    pub version: Option<Version>,
    /// Whether the key has a value.
    pub holds: bool,
}

/// A version as it is stored, taken apart.
pub(super) struct Held<'a> {
    pub(super) version: &'a [u8],
    /// It is that of a SET.
    pub(super) is_of_a_write: bool,
    /// What stands behind the mark.
    remembered: &'a [u8],
}

impl<'a> Held<'a> {
    pub(super) fn parse(stored: &'a [u8]) -> Self {
        match memchr::memmem::find(stored, WRITTEN) {
            Some(mark) => Held {
                version: &stored[..mark],
                is_of_a_write: true,
                remembered: stored.get(mark + WRITTEN.len()..).unwrap_or_default(),
            },
            None => Held { version: stored, is_of_a_write: false, remembered: &[] },
        }
    }

    /// Where a write with the version `new` stands against this one. `holds`: the key has a value.
    pub(super) fn standing(&self, new: &[u8], holds: bool) -> Standing {
        match self.version.cmp(new) {
            Ordering::Less => Standing::Open,
            Ordering::Greater => Standing::Superseded,
            Ordering::Equal if is_reapplied(new) => Standing::Open,
            Ordering::Equal if !self.is_of_a_write => Standing::Superseded,
            Ordering::Equal if holds => Standing::Present,
            Ordering::Equal => Standing::Open,
        }
    }

    pub(super) fn remembered(&self) -> Option<Remembered> {
        Remembered::parse(self.remembered)
    }
}

impl Seen {
    /// For a write with the version `new`, if one is to come; `stored` is that of its key.
    pub(super) fn of(stored: &[u8], new: Option<&[u8]>, holds: bool) -> Self {
        let held = Held::parse(stored);
        let remembered = if holds { held.remembered() } else { None };
        let version = Version::from_stored(held.version);
        let standing = new.map_or(Standing::Open, |new| held.standing(new, holds));
        Seen { standing, remembered, version, holds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_supersedes_for_good_is_told_from_what_a_deletion_may_still_undo() {
        let number = |number| Version::from_number(number).expect("a version").stored().to_vec();
        let written = |number_: u64| [&number(number_)[..], WRITTEN].concat();
        for (stored, new, holds, expected) in [
            (written(5), 6, true, Standing::Open),
            (written(5), 4, true, Standing::Superseded),
            (written(5), 4, false, Standing::Superseded),
            (written(5), 5, true, Standing::Present),
            (written(5), 5, false, Standing::Open),
            (number(5), 5, true, Standing::Superseded),
            (number(5), 5, false, Standing::Superseded),
            (number(5), 6, false, Standing::Open),
        ] {
            assert_eq!(Seen::of(&stored, Some(&number(new)), holds).standing, expected, "{stored:?}, {new}, {holds}");
        }
    }
}
