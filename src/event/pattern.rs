//! Redis globs: parsed once, matched exactly as Redis matches them. Owns the grammar and the refusal of unclosed classes
//! and of patterns that name nothing; how long a pattern may be is for [`super::validate`].
//!
//! Redis matches bytes, so `?` and a class stand for one byte of a multi-byte character, and a class has its own rules:
//! `[]` matches nothing, `[^]` any byte, the end of a range may be any byte, `]` and `\` included, and a range is
//! compared as the C type `char`, which is signed on x86 and unsigned on ARM. The platform this runs on decides, as it
//! does for a Redis beside it.

use std::ffi::c_char;
use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;

/// Runs of `*` with something after them beyond which Redis gives up and matches nothing (since 6.2.16, 7.2.6, 7.4.1).
const MAX_STARS: usize = 1000;

/// A glob, matched exactly as Redis matches it. Cheap to clone.
#[derive(Clone)]
pub struct Pattern {
    text: ByteString,
    /// Never two stars in a row.
    tokens: Arc<[Token]>,
}

/// Why a text is no pattern that we carry out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("has a `[` that is not closed")]
    UnclosedClass,
    #[error("must hold at least one literal character: nothing but `*`, `?` and classes could match every key")]
    MatchesAll,
}

impl Pattern {
    /// Parses a glob. One of nothing but wildcards and classes is let through only with `allow_match_all`.
    ///
    /// # Errors
    ///
    /// [`PatternError`], for what Redis would take but nobody means.
    pub fn parse(text: impl Into<ByteString>, allow_match_all: bool) -> Result<Pattern, PatternError> {
        let text = text.into();
        let tokens = parse_tokens(text.as_bytes())?;
        if !allow_match_all && !tokens.iter().any(|token| matches!(token, Token::Byte(_))) {
            return Err(PatternError::MatchesAll);
        }
        Ok(Pattern { text, tokens: tokens.into() })
    }

    /// The pattern as it was sent.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The pattern's text, shared.
    pub fn text(&self) -> &ByteString {
        &self.text
    }

    /// Whether Redis would say that the pattern matches this key. At worst the product of both lengths.
    pub fn matches(&self, key: &[u8]) -> bool {
        if key.is_empty() {
            // Redis compares nothing with an empty key; only a lone `*` never gets as far as a comparison.
            return matches!(self.text.as_bytes().as_ref(), b"" | b"*");
        }
        // Going back to the last star alone is enough: what an earlier one could still take, the last one can too.
        let mut restart: Option<(usize, usize)> = None;
        let (mut token, mut byte) = (0, 0);
        loop {
            match (self.tokens.get(token), key.get(byte)) {
                (Some(Token::Star), _) => {
                    token += 1;
                    if token == self.tokens.len() {
                        return !self.has_too_many_stars();
                    }
                    restart = Some((token, byte));
                }
                (Some(single), Some(&next)) if single.accepts(next) => {
                    token += 1;
                    byte += 1;
                }
                (None, None) => return !self.has_too_many_stars(),
                // What is left of the pattern wants a byte, and a longer star would leave even fewer.
                (Some(_), None) => return false,
                (_, Some(_)) => match restart {
                    Some((after_star, from)) => {
                        token = after_star;
                        byte = from + 1;
                        restart = Some((token, byte));
                    }
                    None => return false,
                },
            }
        }
    }

    /// Whether a key might match both; false only if surely none can. Compares lengths and what stands before the first
    /// star and after the last.
    pub fn may_overlap(&self, other: &Pattern) -> bool {
        self.lengths_meet(other)
            && other.lengths_meet(self)
            && ends_meet(self.tokens.iter(), other.tokens.iter())
            && ends_meet(self.tokens.iter().rev(), other.tokens.iter().rev())
    }

    /// False if every key of `other` is longer than every key of `self`.
    fn lengths_meet(&self, other: &Pattern) -> bool {
        self.stars() > 0 || other.tokens.len() - other.stars() <= self.tokens.len()
    }

    fn stars(&self) -> usize {
        self.tokens.iter().filter(|token| matches!(token, Token::Star)).count()
    }

    fn has_too_many_stars(&self) -> bool {
        if self.tokens.len() <= MAX_STARS {
            return false;
        }
        let trailing = usize::from(matches!(self.tokens.last(), Some(Token::Star)));
        self.stars() - trailing > MAX_STARS
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

enum Token {
    /// Any number of bytes.
    Star,
    /// Any byte.
    Any,
    Byte(u8),
    /// Boxed, so that the common tokens stay small.
    Class(Box<ByteSet>),
}

impl Token {
    fn accepts(&self, byte: u8) -> bool {
        match self {
            Token::Star | Token::Any => true,
            Token::Byte(own) => *own == byte,
            Token::Class(set) => set.contains(byte),
        }
    }

    /// Whether one byte is accepted by both; neither is a star.
    fn meets(&self, other: &Token) -> bool {
        match (self, other) {
            (Token::Byte(byte), single) | (single, Token::Byte(byte)) => single.accepts(*byte),
            (Token::Class(one), Token::Class(two)) => one.0.iter().zip(two.0).any(|(a, b)| a & b != 0),
            (Token::Class(set), _) | (_, Token::Class(set)) => set.0 != [0; 4],
            _ => true,
        }
    }
}

#[derive(Default)]
struct ByteSet([u64; 4]);

impl ByteSet {
    fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    fn insert_range(&mut self, one: u8, two: u8) {
        let (one, two) = (one as c_char, two as c_char);
        let range = one.min(two)..=one.max(two);
        (0..=u8::MAX).filter(|&byte| range.contains(&(byte as c_char))).for_each(|byte| self.insert(byte));
    }

    fn contains(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] & (1 << (byte & 63)) != 0
    }

    fn negated(self) -> Self {
        ByteSet(self.0.map(|word| !word))
    }
}

fn parse_tokens(mut rest: &[u8]) -> Result<Vec<Token>, PatternError> {
    let mut tokens = Vec::with_capacity(rest.len());
    loop {
        let (token, after) = match rest {
            [] => return Ok(tokens),
            [b'*', after @ ..] if matches!(tokens.last(), Some(Token::Star)) => {
                rest = after;
                continue;
            }
            [b'*', after @ ..] => (Token::Star, after),
            [b'?', after @ ..] => (Token::Any, after),
            [b'[', after @ ..] => parse_class(after)?,
            [b'\\', escaped, after @ ..] => (Token::Byte(*escaped), after),
            [byte, after @ ..] => (Token::Byte(*byte), after),
        };
        tokens.push(token);
        rest = after;
    }
}

/// The class whose `[` has just been read, and what follows its `]`. The order of the arms is Redis's: an escape cannot
/// begin a range, but a range may end in `]` or `\`.
fn parse_class(class: &[u8]) -> Result<(Token, &[u8]), PatternError> {
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
            [b']', after @ ..] => {
                let set = if negated { set.negated() } else { set };
                return Ok((Token::Class(Box::new(set)), after));
            }
            [] => return Err(PatternError::UnclosedClass),
            [from, b'-', to, rest @ ..] => {
                set.insert_range(*from, *to);
                rest
            }
            [byte, rest @ ..] => {
                set.insert(*byte);
                rest
            }
        };
    }
}

/// Whether two runs of tokens can accept the same bytes up to the first star or end of either.
fn ends_meet<'a>(one: impl Iterator<Item = &'a Token>, two: impl Iterator<Item = &'a Token>) -> bool {
    one.zip(two)
        .take_while(|(one, two)| !matches!(one, Token::Star) && !matches!(two, Token::Star))
        .all(|(one, two)| one.meets(two))
}

#[cfg(test)]
mod tests;
