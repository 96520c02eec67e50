//! The grammar of globs, as Redis reads it.

use std::ffi::c_char;

use super::segments::{Builder, Compiled};
use super::{ByteSet, PatternError};

pub(super) fn parse(mut rest: &[u8]) -> Result<Compiled, PatternError> {
    let mut builder = Builder::default();
    loop {
        rest = match rest {
            [] => return Ok(builder.build()),
            [b'*', after @ ..] => {
                builder.star();
                after
            }
            [b'?', after @ ..] => {
                builder.any();
                after
            }
            [b'[', after @ ..] => {
                let (class, after) = parse_class(after)?;
                builder.class(class);
                after
            }
            [b'\\', byte, after @ ..] | [byte, after @ ..] => {
                builder.byte(*byte);
                after
            }
        };
    }
}

/// The class whose `[` has just been read, and what follows its `]`. The order of the arms is Redis's: an escape cannot
/// begin a range, but a range may end in `]` or `\`.
fn parse_class(class: &[u8]) -> Result<(ByteSet, &[u8]), PatternError> {
    let (negated, mut rest) = match class {
        [b'^', rest @ ..] => (true, rest),
        _ => (false, class),
    };
    let mut set = ByteSet::default();
    loop {
        rest = match rest {
            [b'\\', escaped, rest @ ..] => {
                set.insert(*escaped);
                rest
            }
            [b']', after @ ..] => return Ok((if negated { set.negated() } else { set }, after)),
            [] => return Err(PatternError::UnclosedClass),
            [from, b'-', to, rest @ ..] => {
                insert_range(&mut set, *from, *to);
                rest
            }
            [byte, rest @ ..] => {
                set.insert(*byte);
                rest
            }
        };
    }
}

fn insert_range(set: &mut ByteSet, one: u8, two: u8) {
    let (one, two) = (one as c_char, two as c_char);
    let range = one.min(two)..=one.max(two);
    (0..=u8::MAX).filter(|&byte| range.contains(&(byte as c_char))).for_each(|byte| set.insert(byte));
}
