//! The time of a line.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

thread_local! {
    /// A second, and how a time in it is written: lines come by the thousand in one.
    static LAST: Cell<Option<(u64, [u8; 24])>> = const { Cell::new(None) };
}

/// RFC 3339, UTC, with milliseconds.
pub(super) fn timestamp(now: SystemTime) -> [u8; 24] {
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (second, last) = (since_epoch.as_secs(), LAST.try_with(Cell::get).unwrap_or_default());
    let mut text = match last {
        Some((last, text)) if last == second => text,
        _ => written(second),
    };
    write_digits(&mut text[20..23], since_epoch.subsec_millis().into());
    let _ = LAST.try_with(|last| last.set(Some((second, text))));
    text
}

fn write_digits(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// A second's beginning.
fn written(second: u64) -> [u8; 24] {
    let (days, second_of_day) = (second / 86_400, second % 86_400);
    let (year, month, day) = civil_date(days);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    for (place, value) in [
        (0..4, year),
        (5..7, month),
        (8..10, day),
        (11..13, second_of_day / 3600),
        (14..16, second_of_day / 60 % 60),
        (17..19, second_of_day % 60),
    ] {
        write_digits(&mut text[place], value);
    }
    text
}

/// Year, month and day of a day since 1970-01-01 (Gregorian). Years are counted from March, so that the leap day is the
/// last of its year and months fall into a fixed pattern of 153 days for every five.
fn civil_date(days_since_epoch: u64) -> (u64, u64, u64) {
    const DAYS_FROM_MARCH_YEAR_0: u64 = 719_468;
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let days = days_since_epoch + DAYS_FROM_MARCH_YEAR_0;
    let (era, day_of_era) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_right_at_their_edges() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.123Z"),
            (951_782_399, "2000-02-28T23:59:59.123Z"),
            (951_782_400, "2000-02-29T00:00:00.123Z"),
            (951_868_800, "2000-03-01T00:00:00.123Z"),
            (1_709_164_800, "2024-02-29T00:00:00.123Z"),
            (1_735_689_599, "2024-12-31T23:59:59.123Z"),
            (4_107_542_400, "2100-03-01T00:00:00.123Z"),
        ] {
            let at = |nanoseconds| UNIX_EPOCH + Duration::new(seconds, nanoseconds);
            assert_eq!(str::from_utf8(&timestamp(at(123_456_789))).unwrap(), expected);
            let later = expected.replace(".123Z", ".007Z");
            assert_eq!(str::from_utf8(&timestamp(at(7_999_999))).unwrap(), later, "another time of the same second");
        }
    }
}
