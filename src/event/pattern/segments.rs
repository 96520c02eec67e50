//! A glob as what lies between its stars, and how that is looked for.
//!
//! Going from left to right and taking the first place for each segment is enough: what a later place could leave for
//! those behind it, the first place leaves too.

use std::sync::OnceLock;

use memchr::{memchr, memmem};

use super::ByteSet;

/// Runs of `*` with something after them beyond which Redis gives up and matches nothing (since 6.2.16, 7.2.6, 7.4.1).
pub(super) const MAX_STARS: usize = 1000;
/// Up to this length a literal is looked for by its first byte: setting up a better search takes longer.
const SHORT_LITERAL: usize = 4;
/// Up to this length a segment with `?` or classes is tried at each place; longer ones get a table of masks.
const SHORT_MIXED: usize = 16;
/// A word of masks for each byte.
const WORD: usize = u64::BITS as usize;

#[derive(Debug)]
pub(super) struct Compiled {
    /// One byte for each single of the pattern, stars left out; zero where that is no literal.
    literals: Box<[u8]>,
    /// The same singles; empty if all are literals.
    singles: Box<[Single]>,
    classes: Box<[ByteSet]>,
    /// One more than there are runs of stars.
    segments: Box<[Segment]>,
    /// For each long segment with `?` or classes: of each byte, the places at which it may stand. Made at first use.
    masks: Box<[OnceLock<Box<[u64]>>]>,
    prefix: u32,
    suffix: u32,
    /// Bytes that every matching key has.
    requires: ByteSet,
    /// It has more stars than Redis follows.
    matches_nothing: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Single {
    Any,
    Byte(u8),
    Class(u32),
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    from: u32,
    to: u32,
    kind: SegmentKind,
}

#[derive(Debug, Clone, Copy)]
enum SegmentKind {
    Literal,
    Mixed,
    /// Which of the masks are its own.
    Long(u32),
}

impl Segment {
    fn len(&self) -> usize {
        (self.to - self.from) as usize
    }

    fn range(&self) -> std::ops::Range<usize> {
        self.from as usize..self.to as usize
    }
}

impl Compiled {
    pub(super) fn has_literal(&self) -> bool {
        self.singles.is_empty() && !self.literals.is_empty()
            || self.singles.iter().any(|single| matches!(single, Single::Byte(_)))
    }

    /// The masks are counted as if they were made.
    pub(super) fn held_bytes(&self) -> usize {
        let long = self.segments.iter().filter(|segment| matches!(segment.kind, SegmentKind::Long(_)));
        let masks: usize = long.map(|segment| segment.len().div_ceil(WORD) * 256 * size_of::<u64>()).sum();
        size_of::<Compiled>()
            + self.literals.len()
            + size_of_val(&*self.singles)
            + size_of_val(&*self.classes)
            + size_of_val(&*self.segments)
            + size_of_val(&*self.masks)
            + masks
    }

    pub(super) fn prefix(&self) -> &[u8] {
        &self.literals[..self.prefix as usize]
    }

    pub(super) fn suffix(&self) -> &[u8] {
        &self.literals[self.literals.len() - self.suffix as usize..]
    }

    pub(super) fn requires(&self) -> &ByteSet {
        &self.requires
    }

    /// The shortest key that matches.
    pub(super) fn min_len(&self) -> usize {
        self.literals.len()
    }

    pub(super) fn has_star(&self) -> bool {
        self.segments.len() > 1
    }

    /// The first literals in a row between two stars, for those that look for a part of a pattern.
    pub(super) fn middle(&self) -> Option<&[u8]> {
        let middle = self.segments.get(1..self.segments.len() - 1)?;
        middle
            .iter()
            .find(|segment| matches!(segment.kind, SegmentKind::Literal))
            .map(|segment| &self.literals[segment.range()])
    }

    /// Whether it matches a key that is not empty.
    pub(super) fn matches(&self, key: &[u8]) -> bool {
        if key.len() < self.min_len() || self.matches_nothing {
            return false;
        }
        let [first, middle @ .., last] = &*self.segments else {
            return key.len() == self.min_len() && self.segments.iter().all(|only| self.fits(only, key));
        };
        let (head, rest) = key.split_at(first.len());
        let (mut rest, tail) = rest.split_at(rest.len() - last.len());
        if !(self.fits(first, head) && self.fits(last, tail)) {
            return false;
        }
        for segment in middle {
            let Some(end) = self.find(segment, rest) else { return false };
            rest = &rest[end..];
        }
        true
    }

    pub(super) fn may_overlap(&self, other: &Compiled) -> bool {
        let fits = |one: &Compiled, two: &Compiled| one.has_star() || two.min_len() <= one.min_len();
        let begins = |one: &[u8], two: &[u8]| one.iter().zip(two).all(|(one, two)| one == two);
        let ends = |one: &[u8], two: &[u8]| one.iter().rev().zip(two.iter().rev()).all(|(one, two)| one == two);
        fits(self, other)
            && fits(other, self)
            && begins(self.prefix(), other.prefix())
            && ends(self.suffix(), other.suffix())
    }

    /// Whether the segment stands exactly there; `bytes` has its length.
    fn fits(&self, segment: &Segment, bytes: &[u8]) -> bool {
        match segment.kind {
            SegmentKind::Literal => self.literals[segment.range()] == *bytes,
            SegmentKind::Mixed | SegmentKind::Long(_) => {
                self.singles[segment.range()].iter().zip(bytes).all(|(single, byte)| self.accepts(single, *byte))
            }
        }
    }

    fn accepts(&self, single: &Single, byte: u8) -> bool {
        match single {
            Single::Any => true,
            Single::Byte(own) => *own == byte,
            Single::Class(class) => self.classes[*class as usize].contains(byte),
        }
    }

    /// Where the segment's first place ends.
    fn find(&self, segment: &Segment, bytes: &[u8]) -> Option<usize> {
        let len = segment.len();
        match segment.kind {
            SegmentKind::Literal => {
                let literal = &self.literals[segment.range()];
                let place =
                    if len <= SHORT_LITERAL { find_short(literal, bytes) } else { memmem::find(bytes, literal) };
                place.map(|place| place + len)
            }
            SegmentKind::Mixed => {
                let place = bytes.windows(len).position(|window| self.fits(segment, window));
                place.map(|place| place + len)
            }
            SegmentKind::Long(number) => {
                let masks = self.masks.get(number as usize)?.get_or_init(|| self.make_masks(segment));
                shift_and(masks, len, bytes)
            }
        }
    }

    fn make_masks(&self, segment: &Segment) -> Box<[u64]> {
        let words = segment.len().div_ceil(WORD);
        let mut masks = vec![0; 256 * words].into_boxed_slice();
        for (place, single) in self.singles[segment.range()].iter().enumerate() {
            for byte in (0..=u8::MAX).filter(|byte| self.accepts(single, *byte)) {
                masks[usize::from(byte) * words + place / WORD] |= 1 << (place % WORD);
            }
        }
        masks
    }
}

fn find_short(literal: &[u8], bytes: &[u8]) -> Option<usize> {
    let first = *literal.first()?;
    let mut from = 0;
    loop {
        let place = from + memchr(first, bytes.get(from..)?)?;
        if bytes.get(place..place + literal.len())? == literal {
            return Some(place);
        }
        from = place + 1;
    }
}

/// A bit for each place up to which the segment has matched so far, moved on by each byte.
fn shift_and(masks: &[u64], len: usize, bytes: &[u8]) -> Option<usize> {
    let words = len.div_ceil(WORD);
    let (last_word, last_bit) = ((len - 1) / WORD, 1 << ((len - 1) % WORD));
    let mut state = vec![0u64; words];
    for (place, byte) in bytes.iter().enumerate() {
        let mut carry = 1;
        for (word, mask) in state.iter_mut().zip(&masks[usize::from(*byte) * words..]) {
            let out = *word >> (WORD - 1);
            *word = (*word << 1 | carry) & mask;
            carry = out;
        }
        if state[last_word] & last_bit != 0 {
            return Some(place + 1);
        }
    }
    None
}

/// Takes a pattern in, token by token.
#[derive(Default)]
pub(super) struct Builder {
    literals: Vec<u8>,
    singles: Vec<Single>,
    classes: Vec<ByteSet>,
    /// Where each run of stars stands.
    stars: Vec<usize>,
}

impl Builder {
    pub(super) fn star(&mut self) {
        if self.stars.last() != Some(&self.singles.len()) {
            self.stars.push(self.singles.len());
        }
    }

    pub(super) fn any(&mut self) {
        self.push(0, Single::Any);
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.push(byte, Single::Byte(byte));
    }

    pub(super) fn class(&mut self, class: ByteSet) {
        self.push(0, Single::Class(self.classes.len() as u32));
        self.classes.push(class);
    }

    fn push(&mut self, literal: u8, single: Single) {
        self.literals.push(literal);
        self.singles.push(single);
    }

    pub(super) fn build(self) -> Compiled {
        let Builder { literals, mut singles, classes, stars } = self;
        let mut long = 0;
        let bounds = std::iter::once(0).chain(stars.iter().copied());
        let ends = stars.iter().copied().chain(std::iter::once(singles.len()));
        let number = stars.len();
        let segment = |(index, (from, to)): (usize, (usize, usize))| {
            let is_literal = singles[from..to].iter().all(|single| matches!(single, Single::Byte(_)));
            let is_between = index > 0 && index < number;
            let kind = match is_literal {
                true => SegmentKind::Literal,
                false if is_between && to - from > SHORT_MIXED => {
                    long += 1;
                    SegmentKind::Long(long - 1)
                }
                false => SegmentKind::Mixed,
            };
            Segment { from: from as u32, to: to as u32, kind }
        };
        let segments: Box<[Segment]> = bounds.zip(ends).enumerate().map(segment).collect();
        let is_byte = |single: &&Single| matches!(single, Single::Byte(_));
        let edge = |segment: Option<&Segment>, run: &dyn Fn(&[Single]) -> usize| {
            segment.map_or(0, |segment| run(&singles[segment.range()])) as u32
        };
        let prefix = edge(segments.first(), &|singles| singles.iter().take_while(is_byte).count());
        let suffix = edge(segments.last(), &|singles| singles.iter().rev().take_while(is_byte).count());
        let mut requires = ByteSet::default();
        for (byte, single) in literals.iter().zip(&singles) {
            if matches!(single, Single::Byte(_)) {
                requires.insert(*byte);
            }
        }
        let trailing = usize::from(stars.last() == Some(&singles.len()));
        let matches_nothing = stars.len() - trailing > MAX_STARS;
        if segments.iter().all(|segment| matches!(segment.kind, SegmentKind::Literal)) {
            singles = Vec::new();
        }
        Compiled {
            literals: literals.into(),
            singles: singles.into(),
            classes: classes.into(),
            segments,
            masks: (0..long).map(|_| OnceLock::new()).collect(),
            prefix,
            suffix,
            requires,
            matches_nothing,
        }
    }
}
