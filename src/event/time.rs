//! Times in texts.

use std::ops::Range;

use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime, Time};

/// Bytes of a time that is looked into: all its digits, and more behind the second's point than anybody sends.
const MAX_TIME_BYTES: usize = 64;

/// The milliseconds since 1970 of an RFC 3339 text; None for any other.
pub fn unix_millis(time: &str) -> Option<i64> {
    if time.len() > MAX_TIME_BYTES {
        return None;
    }
    usual_millis(time.as_bytes()).or_else(|| {
        let time = OffsetDateTime::parse(time, &Rfc3339).ok()?;
        i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
    })
}

/// The same of the form that producers send, `2026-11-28T22:10:23Z` or `2026-11-28T22:10:23.403Z`, in a fifth of the time.
fn usual_millis(time: &[u8]) -> Option<i64> {
    let is_separator = |(at, byte): (usize, u8)| time.get(at) == Some(&byte);
    let are_good = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')].into_iter().all(is_separator);
    let millis = match time.get(19..)? {
        b"Z" => 0,
        [b'.', _, _, _, b'Z'] => digits(time, 20..23)?,
        _ => return None,
    };
    let part = |range| u8::try_from(digits(time, range)?).ok();
    let year = i32::from(digits(time, 0..4)?);
    let date = Date::from_calendar_date(year, part(5..7)?.try_into().ok()?, part(8..10)?).ok()?;
    let clock = Time::from_hms_milli(part(11..13)?, part(14..16)?, part(17..19)?, millis).ok()?;
    let seconds = date.with_time(clock).assume_utc().unix_timestamp();
    are_good.then(|| seconds * 1000 + i64::from(millis))
}

/// A number of a few digits.
fn digits(text: &[u8], at: Range<usize>) -> Option<u16> {
    text.get(at)?.iter().try_fold(0, |number: u16, byte| {
        let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// These seconds since 1970 in the form of RFC 3339; None beyond the year 9999.
pub fn rfc3339(seconds: i64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    let (date, (hour, minute, second)) = (time.date(), time.to_hms());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

/// The same with these milliseconds since 1970.
pub fn rfc3339_millis(millis: i64) -> Option<String> {
    let seconds = rfc3339(millis.div_euclid(1000))?;
    Some(format!("{}.{:03}Z", seconds.trim_end_matches('Z'), millis.rem_euclid(1000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rfc_3339() {
        assert_eq!(unix_millis("2026-11-28T22:44:51.4118Z"), Some(1_795_905_891_411));
        assert_eq!(unix_millis("2026-11-28T22:44:51+01:00"), Some(1_795_902_291_000));
        for none in ["", "yesterday", "2026-11-28", "1795905891", "2026-02-30T00:00:00Z", "2026-11-28T22:44:51.4é1Z"] {
            assert_eq!(unix_millis(none), None, "{none}");
        }
    }

    #[test]
    fn the_usual_form_is_read_as_any_other() {
        for time in [
            "2026-11-28T22:44:51.411Z",
            "2026-11-28T22:44:51Z",
            "2024-02-29T23:59:59.999Z",
            "1970-01-01T00:00:00.000Z",
            "1969-12-31T23:59:59.001Z",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999Z",
        ] {
            let expected =
                OffsetDateTime::parse(time, &Rfc3339).expect(time).unix_timestamp_nanos().div_euclid(1_000_000);
            assert_eq!(usual_millis(time.as_bytes()).map(i128::from), Some(expected), "{time}");
        }
        let near = ["2026-11-28t22:44:51Z", "2026-11-28T22:44:51.41Z", "2026-11-28T22:44:60Z", "2026-13-28T22:44:51Z"];
        for other in near.into_iter().chain(["+026-11-28T22:44:51Z", "2026-11-28T22:44:51+Z", "2026-11-28 22:44:51Z"]) {
            assert_eq!(usual_millis(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn seconds_are_a_time() {
        assert_eq!(rfc3339(1_795_903_463).as_deref(), Some("2026-11-28T22:04:23Z"));
        assert_eq!(rfc3339(i64::MAX), None);
        for millis in [1_795_905_891_411, 0, -1, -62_135_596_800_000] {
            assert_eq!(rfc3339_millis(millis).and_then(|time| unix_millis(&time)), Some(millis));
        }
    }
}
