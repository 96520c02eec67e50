//! What is remembered of a blob beside the version of its key, so that it need not be fetched again: the entity tag that its
//! host gave it, and by what the value is known again.
//!
//! Anybody may have written the key since. So nobody takes the tag's word for what the key holds: before a value counts as
//! unchanged it is compared with its [`Fingerprint`].

use std::fmt;

use sha1::{Digest, Sha1};

use crate::event::EntityTag;
use crate::event::hex::{hex, unhex};

/// Bytes of a value that are digested at once: Redis does nothing else meanwhile.
pub const PIECE_BYTES: usize = 1024 * 1024;
const DIGEST_BYTES: usize = 20;
const RESOURCE_DIGITS: usize = 16;

/// A value's length, and the SHA-1 of its bytes; of more than one piece, the SHA-1 of the hexadecimal SHA-1s of all pieces.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    bytes: u64,
    digest: [u8; DIGEST_BYTES],
}

/// An entity tag and the value that was stored for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// What the host called the value. Not a weak tag, which promises less than the same bytes.
    pub etag: EntityTag,
    /// What the tag belongs to: a hash of where the value came from. Elsewhere the same tag may stand for other bytes.
    pub resource: u64,
    /// What the value looks like.
    pub print: Fingerprint,
}

/// Makes the fingerprint of a value that comes in parts.
pub struct Fingerprinter {
    bytes: u64,
    /// Bytes of the piece that is being digested.
    filled: usize,
    piece: Sha1,
    /// The digest of the pieces before this one; None: it is the first.
    before: Option<Sha1>,
}

impl Fingerprint {
    /// That of a value.
    pub fn of(value: &[u8]) -> Self {
        let mut whole = Fingerprinter::new();
        whole.add(value);
        whole.finish()
    }

    /// The value's length in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether these are the digests of its pieces, of which there are several, one after the other.
    pub(super) fn is_of_pieces(&self, digests: Sha1) -> bool {
        digests.finalize()[..] == self.digest
    }

    /// The digest in the form in which Redis gives one.
    pub fn hex(&self) -> String {
        hex(&self.digest)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, {}", self.bytes, self.hex())
    }
}

impl Fingerprinter {
    /// That of the empty value, until more is added.
    pub fn new() -> Self {
        Fingerprinter { bytes: 0, filled: 0, piece: Sha1::new(), before: None }
    }

    /// The next bytes of the value.
    pub fn add(&mut self, mut part: &[u8]) {
        self.bytes += part.len() as u64;
        while !part.is_empty() {
            if self.filled == PIECE_BYTES {
                self.end_piece();
            }
            let (now, later) = part.split_at(part.len().min(PIECE_BYTES - self.filled));
            self.piece.update(now);
            self.filled += now.len();
            part = later;
        }
    }

    /// The fingerprint of all that was added.
    pub fn finish(mut self) -> Fingerprint {
        if self.before.is_some() {
            self.end_piece();
        }
        let digest = self.before.unwrap_or(self.piece).finalize().into();
        Fingerprint { bytes: self.bytes, digest }
    }

    fn end_piece(&mut self) {
        let piece = std::mem::take(&mut self.piece).finalize();
        self.before.get_or_insert_with(Sha1::new).update(hex(&piece));
        self.filled = 0;
    }
}

impl Default for Fingerprinter {
    fn default() -> Self {
        Self::new()
    }
}

impl Remembered {
    /// The form in which it stands behind a version: length, digest, resource and tag, with spaces between.
    pub(super) fn stored(&self) -> Vec<u8> {
        let Remembered { etag, resource, print } = self;
        format!("{} {} {resource:0RESOURCE_DIGITS$x} {}", print.bytes, print.hex(), etag.opaque()).into_bytes()
    }

    /// None for what is not in that form: nothing is remembered.
    pub(super) fn parse(stored: &[u8]) -> Option<Self> {
        let mut parts = str::from_utf8(stored).ok()?.splitn(4, ' ');
        let (bytes, digest, resource, etag) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let print = Fingerprint { bytes: bytes.parse().ok()?, digest: unhex(digest)? };
        let resource = Some(resource).filter(|digits| digits.len() == RESOURCE_DIGITS)?;
        let resource = u64::from_str_radix(resource, 16).ok()?;
        Some(Remembered { etag: EntityTag::parse(etag)?, resource, print })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_does_not_depend_on_how_the_value_came() {
        for length in [0, 1, 1000, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, 3 * PIECE_BYTES - 7]
        {
            let value: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let whole = Fingerprint::of(&value);
            let mut pieces: Vec<String> = value.chunks(PIECE_BYTES).map(|piece| hex(&Sha1::digest(piece))).collect();
            let expected = match pieces.len() {
                0 => hex(&Sha1::digest(b"")),
                1 => pieces.remove(0),
                _ => hex(&Sha1::digest(pieces.concat())),
            };
            assert_eq!((whole.bytes(), whole.hex()), (length as u64, expected));
            for step in [7919, 300_000, PIECE_BYTES] {
                let mut parts = Fingerprinter::new();
                value.chunks(step).for_each(|part| parts.add(part));
                assert!(parts.finish() == whole, "{length} bytes in parts of {step}");
            }
        }
        assert_ne!(Fingerprint::of(b"a"), Fingerprint::of(b"b"));
    }

    #[test]
    fn what_is_remembered_is_read_as_it_was_stored_and_anything_else_is_nothing() {
        let etag = EntityTag::parse("\"a-2\"").expect("a tag");
        let remembered = Remembered { etag, resource: 0xab, print: Fingerprint::of(b"value") };
        let stored = remembered.stored();
        assert_eq!(Remembered::parse(&stored), Some(remembered));
        for cut in 0..stored.len() - 3 {
            assert_eq!(Remembered::parse(&stored[..cut]), None, "cut to {cut}");
        }
        for other in [&b""[..], b"    ", b"5 xyz 0 \"a\"", b"\xff"] {
            assert_eq!(Remembered::parse(other), None);
        }
    }
}
