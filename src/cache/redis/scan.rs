//! One step of a scan.

use super::batch::unexpected;
use super::encode::Outbox;
use super::reply::Frame;
use crate::cache::{CacheError, Cursor, ScanStep};
use crate::event::pattern::Pattern;

/// A key in the answer to a SCAN, at most: what others wrote may have keys of any size.
pub(super) const MAX_KEY_BYTES: usize = 16 * 1024 * 1024;
/// What a SCAN looks at in one step.
const SCAN_COUNT: u32 = 1000;

pub(super) fn encode(from: Option<Cursor>, only: Option<&Pattern>) -> Outbox {
    let mut outbox = Outbox::new();
    outbox.command(|cmd| {
        cmd.arg("SCAN").arg(from.map_or(0, |cursor| cursor.0));
        if let Some(pattern) = only {
            cmd.arg("MATCH").arg(pattern.as_str());
        }
        cmd.arg("COUNT").arg(SCAN_COUNT)
    });
    outbox
}

/// Leaves out the keys that begin with `hidden`, if that is not empty.
pub(super) fn decode(frames: Vec<Frame>, hidden: &[u8]) -> Result<ScanStep, CacheError> {
    let mut frames = frames.into_iter();
    let next = match (frames.next(), frames.next(), frames.next()) {
        (Some(Frame::Array(2)), Some(Frame::Text(cursor)), Some(Frame::Array(_))) => {
            let cursor = std::str::from_utf8(&cursor).ok().and_then(|text| text.parse().ok());
            Cursor(cursor.ok_or_else(unexpected)?)
        }
        (Some(Frame::Error(code)), _, _) => return Err(code.to_error()),
        _ => return Err(unexpected()),
    };
    let mut keys = Vec::with_capacity(frames.len());
    for frame in frames {
        let Frame::Text(key) = frame else {
            return Err(unexpected());
        };
        if hidden.is_empty() || !key.starts_with(hidden) {
            keys.push(key);
        }
    }
    Ok(ScanStep { keys, next: (next.0 != 0).then_some(next) })
}
