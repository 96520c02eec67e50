//! Times in texts.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Bytes of a time that is looked into: all its digits, and more behind the second's point than anybody sends.
const MAX_TIME_BYTES: usize = 64;

/// The milliseconds since 1970 of an RFC 3339 text; None for any other.
pub fn unix_millis(time: &str) -> Option<i64> {
    if time.len() > MAX_TIME_BYTES {
        return None;
    }
    let time = OffsetDateTime::parse(time, &Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rfc_3339() {
        assert_eq!(unix_millis("2026-11-28T22:44:51.4118Z"), Some(1_795_905_891_411));
        assert_eq!(unix_millis("2026-11-28T22:44:51+01:00"), Some(1_795_902_291_000));
        for none in ["", "yesterday", "2026-11-28", "1795905891"] {
            assert_eq!(unix_millis(none), None, "{none}");
        }
    }
}
