//! An entry of the filer, as far as it is looked into.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use super::NANOS;
use crate::event::hex::hex;
use crate::event::sources::Facts;
use crate::event::sources::json::null_as_default;
use crate::event::sources::scalar::Scalar;
use crate::event::time::rfc3339;

/// Digits of a version's id that are a time.
const TIME_DIGITS: usize = 16;
/// Times of ids are below this, and ids that count down above.
const COUNTS_DOWN: u64 = 1 << 62;

#[derive(Default, Deserialize)]
pub struct FilerEntry<'a> {
    #[serde(borrow, default)]
    name: Scalar<'a>,
    #[serde(default, deserialize_with = "null_as_default")]
    is_directory: bool,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    chunks: Vec<Chunk<'a>>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    attributes: Attributes<'a>,
    #[serde(borrow, default, deserialize_with = "null_as_default")]
    extended: Extended<'a>,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    modified_ts_ns: Scalar<'a>,
    #[serde(borrow, default)]
    e_tag: Scalar<'a>,
}

#[derive(Default, Deserialize)]
struct Attributes<'a> {
    #[serde(borrow, default)]
    file_size: Scalar<'a>,
    /// Seconds since 1970.
    #[serde(borrow, default)]
    mtime: Scalar<'a>,
    #[serde(borrow, default)]
    mtime_ns: Scalar<'a>,
    #[serde(borrow, default)]
    mime: Scalar<'a>,
    /// Base64 of the digest.
    #[serde(borrow, default)]
    md5: Scalar<'a>,
}

/// Texts in base64.
#[derive(Default, Deserialize)]
struct Extended<'a> {
    #[serde(rename = "Seaweed-X-Amz-ETag", borrow, default)]
    etag: Scalar<'a>,
    #[serde(rename = "Seaweed-X-Amz-Version-Id", borrow, default)]
    version_id: Scalar<'a>,
    #[serde(rename = "Seaweed-X-Amz-Delete-Marker", borrow, default)]
    delete_marker: Scalar<'a>,
}

impl<'a> FilerEntry<'a> {
    pub fn name(&self) -> &str {
        self.name.as_str().unwrap_or_default()
    }

    pub fn is_directory(&self) -> bool {
        self.is_directory
    }

    pub fn is_delete_marker(&self) -> bool {
        decoded(&self.extended.delete_marker).is_some_and(|mark| mark == "true")
    }

    pub fn version_id(&self) -> Option<String> {
        decoded(&self.extended.version_id)
    }

    /// Whether both have the same chunks, as far as can be told.
    pub fn has_bytes_of(&self, other: &FilerEntry) -> bool {
        let chunks = |entry: &FilerEntry| -> Vec<(Option<u64>, Option<String>)> {
            let of = |chunk: &Chunk| (chunk.modified_ts_ns.number(), chunk.e_tag.as_str().map(str::to_owned));
            entry.chunks.iter().map(of).collect()
        };
        chunks(self) == chunks(other) && self.etag() == other.etag() && self.size() == other.size()
    }

    /// Whether its time is finer than whole seconds.
    pub fn is_timed(&self) -> bool {
        self.fine_nanos().is_some()
    }

    /// When it was written, in nanoseconds since 1970.
    pub fn nanos(&self) -> u128 {
        let seconds = || u128::from(self.attributes.mtime.number::<u64>().unwrap_or_default()) * NANOS;
        self.fine_nanos().unwrap_or_else(seconds)
    }

    fn fine_nanos(&self) -> Option<u128> {
        let of_version = self.version_id().and_then(|id| nanos_of_version(&id));
        let of_chunks = || self.chunks.iter().filter_map(|chunk| chunk.modified_ts_ns.number::<u64>()).max();
        let of_entry = || {
            let nanos = self.attributes.mtime_ns.number::<u64>().filter(|nanos| *nanos > 0)?;
            self.attributes.mtime.number::<u64>()?.checked_mul(NANOS as u64)?.checked_add(nanos)
        };
        of_version.or_else(of_chunks).or_else(of_entry).map(u128::from)
    }

    fn size(&self) -> u64 {
        self.attributes.file_size.number().unwrap_or_default()
    }

    fn etag(&self) -> Option<String> {
        let of_md5 = || {
            let digest = BASE64.decode(self.attributes.md5.as_str()?).ok()?;
            Some(hex(&digest))
        };
        decoded(&self.extended.etag).map(|etag| etag.trim_matches('"').to_owned()).or_else(of_md5)
    }

    pub fn facts(self) -> Facts<'a> {
        let seconds = self.attributes.mtime.number::<i64>();
        Facts {
            size: (!self.is_delete_marker()).then(|| self.size()),
            etag: self.etag().map(Cow::Owned),
            time: seconds.and_then(rfc3339).map(Cow::Owned),
            version: self.version_id().map(Cow::Owned),
            content_type: self.attributes.mime.text(),
        }
    }
}

/// The time in a version's id, which counts down from the largest number, as older ones count up.
fn nanos_of_version(id: &str) -> Option<u64> {
    let number = u64::from_str_radix(id.get(..TIME_DIGITS)?, 16).ok()?;
    if number < COUNTS_DOWN { Some(number) } else { (i64::MAX as u64).checked_sub(number) }
}

fn decoded(text: &Scalar) -> Option<String> {
    String::from_utf8(BASE64.decode(text.as_str()?).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_versions_id_tells_its_time_whichever_way_it_counts() {
        assert_eq!(nanos_of_version("6713ab4a8bcfd9ff2b29bdb36dfa7568"), Some(1_795_903_489_729_111_552));
        assert_eq!(nanos_of_version("18ec54b57430260048d1be2a11111111"), Some(0x18ec_54b5_7430_2600));
        for none in ["", "null", "xyzw", "6713ab4a"] {
            assert_eq!(nanos_of_version(none), None, "{none}");
        }
    }
}
