//! Redis globs: parsed once, matched exactly as Redis matches them. Owns the grammar and the refusal of unclosed classes
//! and of patterns that name nothing; how long a pattern may be is for [`super::validate`].
//!
//! Redis matches bytes, so `?` and a class stand for one byte of a multi-byte character, and a class has its own rules:
//! `[]` matches nothing, `[^]` any byte, the end of a range may be any byte, `]` and `\` included, and a range is
//! compared as the C type `char`, which is signed on x86 and unsigned on ARM. The platform this runs on decides, as it
//! does for a Redis beside it.
//!
//! Stars cut a pattern into segments (`segments`). The first and the last stand at the ends of a key, those between
//! are looked for from left to right, each in linear time: a hostile pattern costs no more than a long one.

mod index;
mod parse;
mod segments;
mod wider;

use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;

pub use self::index::PatternIndex;
use self::segments::Compiled;
pub use self::wider::Wider;

/// A glob, matched exactly as Redis matches it. Cheap to clone.
#[derive(Clone)]
pub struct Pattern {
    text: ByteString,
    compiled: Arc<Compiled>,
}

/// Why a text is no pattern that we carry out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A `[` without its `]`: Redis would read the rest of the pattern as the class.
    #[error("has a `[` that is not closed")]
    UnclosedClass,
    /// No literal character at all, while `event.allow_match_all` is off.
    #[error("must hold at least one literal character: nothing but `*`, `?` and classes could match every key")]
    MatchesAll,
}

/// Whether it stands for something else than itself, outside of a class.
fn is_special(byte: u8) -> bool {
    matches!(byte, b'*' | b'?' | b'[' | b'\\')
}

/// A glob that matches this text alone.
pub fn escaped(text: &str) -> String {
    let is_escaped = |c: char| u8::try_from(c).is_ok_and(is_special);
    text.chars().flat_map(|c| is_escaped(c).then_some('\\').into_iter().chain([c])).collect()
}

impl Pattern {
    /// Parses a glob. One of nothing but wildcards and classes is let through only with `allow_match_all`.
    ///
    /// # Errors
    ///
    /// [`PatternError`], for what Redis would take but nobody means.
    pub fn parse(text: impl Into<ByteString>, allow_match_all: bool) -> Result<Pattern, PatternError> {
        let text = text.into();
        let compiled = parse::parse(text.as_bytes())?;
        if !allow_match_all && !compiled.has_literal() {
            return Err(PatternError::MatchesAll);
        }
        Ok(Pattern { text, compiled: Arc::new(compiled) })
    }

    /// The pattern as it was sent.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The pattern's text, shared.
    pub fn text(&self) -> &ByteString {
        &self.text
    }

    /// Bytes that it holds in memory, its text included, once it has been used.
    pub fn held_bytes(&self) -> usize {
        size_of::<Pattern>() + self.text.len() + self.compiled.held_bytes()
    }

    /// Whether Redis would say that the pattern matches this key. Linear in the lengths of both.
    pub fn matches(&self, key: &[u8]) -> bool {
        if key.is_empty() {
            // Redis compares nothing with an empty key; only a lone `*` never gets as far as a comparison.
            return matches!(self.text.as_bytes().as_ref(), b"" | b"*");
        }
        self.compiled.matches(key)
    }

    /// Whether a key might match both; false only if surely none can. Compares lengths, and the literal bytes at both
    /// ends.
    pub fn may_overlap(&self, other: &Pattern) -> bool {
        self.compiled.may_overlap(&other.compiled)
    }

    /// The literal bytes with which every matching key begins.
    pub fn prefix(&self) -> &[u8] {
        self.compiled.prefix()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A set of bytes: a class, or the bytes of a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct ByteSet([u64; 4]);

impl ByteSet {
    fn of(bytes: &[u8]) -> Self {
        let mut set = ByteSet::default();
        bytes.iter().for_each(|byte| set.insert(*byte));
        set
    }

    fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    fn contains(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] & (1 << (byte & 63)) != 0
    }

    fn is_within(&self, other: &ByteSet) -> bool {
        self.0.iter().zip(other.0).all(|(own, other)| own & !other == 0)
    }

    fn negated(self) -> Self {
        ByteSet(self.0.map(|word| !word))
    }
}

#[cfg(test)]
mod tests;
