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

/// These seconds since 1970 in the form of RFC 3339; None beyond the year 9999.
pub fn rfc3339(seconds: i64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    let (date, (hour, minute, second)) = (time.date(), time.to_hms());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
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

    #[test]
    fn seconds_are_a_time() {
        assert_eq!(rfc3339(1_795_903_463).as_deref(), Some("2026-11-28T22:04:23Z"));
        assert_eq!(rfc3339(i64::MAX), None);
    }
}
