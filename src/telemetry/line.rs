//! One log record as one line, in text or JSON. Pure: the clock is passed in.
//!
//! Promises: whatever a message or a field holds, the record stays one line, holds no control or direction-changing
//! character, and in JSON parses as one object in which no member is given twice by a field's name. Strings without
//! anything to escape, and numbers, take no detour over `fmt`: there is a line for every request.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use log::kv::{Error as KvError, Key, Value, VisitSource, VisitValue};
use log::{Level, Record};

use super::logging::Format;

/// Bytes of a message or of one field, at most; what goes beyond is cut and marked by `…`.
const MAX_PART_BYTES: usize = 8 * 1024;

/// Members of a JSON line that no field may take for itself.
const RESERVED: [&str; 5] = ["time", "level", "target", "message", "cluster"];

/// Lines of this crate need no target in text.
const OWN_TARGET: &str = env!("CARGO_CRATE_NAME");

/// How lines look, for the life of the process.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub format: Format,
    /// Stands on every line unless it is empty.
    pub cluster: String,
}

impl Layout {
    /// Appends the record and the line end.
    pub fn write(&self, out: &mut Vec<u8>, record: &Record<'_>, now: SystemTime) {
        match self.format {
            Format::Text => self.write_text(out, record, now),
            Format::Json => self.write_json(out, record, now),
        }
        out.push(b'\n');
    }

    fn write_text(&self, out: &mut Vec<u8>, record: &Record<'_>, now: SystemTime) {
        out.extend_from_slice(&timestamp(now));
        out.extend_from_slice(match record.level() {
            Level::Error => b" ERROR ",
            Level::Warn => b" WARN  ",
            Level::Info => b" INFO  ",
            Level::Debug => b" DEBUG ",
            Level::Trace => b" TRACE ",
        });
        Escaping::new(out, false).write_args(*record.args());
        visit_fields(record, &mut TextFields { out });
        if !record.target().starts_with(OWN_TARGET) {
            write_text_field(out, "target", record.target());
        }
        if !self.cluster.is_empty() {
            write_text_field(out, "cluster", &self.cluster);
        }
    }

    fn write_json(&self, out: &mut Vec<u8>, record: &Record<'_>, now: SystemTime) {
        out.extend_from_slice(b"{\"time\":\"");
        out.extend_from_slice(&timestamp(now));
        out.extend_from_slice(match record.level() {
            Level::Error => b"\",\"level\":\"error\",\"target\":",
            Level::Warn => b"\",\"level\":\"warn\",\"target\":",
            Level::Info => b"\",\"level\":\"info\",\"target\":",
            Level::Debug => b"\",\"level\":\"debug\",\"target\":",
            Level::Trace => b"\",\"level\":\"trace\",\"target\":",
        });
        write_quoted(out, record.target());
        out.extend_from_slice(b",\"message\":");
        write_quoted_args(out, *record.args());
        if !self.cluster.is_empty() {
            out.extend_from_slice(b",\"cluster\":");
            write_quoted(out, &self.cluster);
        }
        visit_fields(record, &mut JsonFields { out });
        out.push(b'}');
    }
}

/// A field that cannot be visited costs itself, not the line.
fn visit_fields<'k>(record: &'k Record<'k>, visitor: &mut dyn VisitSource<'k>) {
    let _ = record.key_values().visit(visitor);
}

struct TextFields<'a> {
    out: &'a mut Vec<u8>,
}

impl<'k> VisitSource<'k> for TextFields<'_> {
    fn visit_pair(&mut self, key: Key<'k>, value: Value<'k>) -> Result<(), KvError> {
        write_text_key(self.out, key.as_str());
        value.visit(TextValue { out: self.out })
    }
}

/// Bare where it can be, everything else in quotes.
struct TextValue<'a> {
    out: &'a mut Vec<u8>,
}

impl<'v> VisitValue<'v> for TextValue<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), KvError> {
        let mut text = String::new();
        // A `Display` that fails by itself costs its own text, not the line.
        let _ = write!(text, "{value}");
        self.visit_str(&text)
    }

    fn visit_str(&mut self, value: &str) -> Result<(), KvError> {
        write_text_value(self.out, value);
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), KvError> {
        write_integer(self.out, value);
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), KvError> {
        write_float(self.out, value);
        Ok(())
    }
}

fn write_text_field(out: &mut Vec<u8>, key: &str, value: &str) {
    write_text_key(out, key);
    write_text_value(out, value);
}

fn write_text_key(out: &mut Vec<u8>, key: &str) {
    out.push(b' ');
    Escaping::new(out, true).write(key);
    out.push(b'=');
}

fn write_text_value(out: &mut Vec<u8>, value: &str) {
    let is_bare = |b: u8| is_plain(b) && b != b' ' && b != b'=';
    if !value.is_empty() && value.len() <= MAX_PART_BYTES && all(value, is_bare) {
        return out.extend_from_slice(value.as_bytes());
    }
    write_quoted(out, value);
}

struct JsonFields<'a> {
    out: &'a mut Vec<u8>,
}

impl<'k> VisitSource<'k> for JsonFields<'_> {
    fn visit_pair(&mut self, key: Key<'k>, value: Value<'k>) -> Result<(), KvError> {
        let key = key.as_str();
        self.out.push(b',');
        match RESERVED.contains(&key) {
            true => write_quoted_args(self.out, format_args!("{key}_")),
            false => write_quoted(self.out, key),
        }
        self.out.push(b':');
        value.visit(JsonValue { out: self.out })
    }
}

/// Numbers, booleans and null as such, everything else as a string.
struct JsonValue<'a> {
    out: &'a mut Vec<u8>,
}

impl<'v> VisitValue<'v> for JsonValue<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), KvError> {
        write_quoted_args(self.out, format_args!("{value}"));
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), KvError> {
        self.out.extend_from_slice(b"null");
        Ok(())
    }

    fn visit_str(&mut self, value: &str) -> Result<(), KvError> {
        write_quoted(self.out, value);
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), KvError> {
        write_integer(self.out, value);
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), KvError> {
        write_args(self.out, format_args!("{value}"));
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), KvError> {
        match value.is_finite() {
            true => write_float(self.out, value),
            false => write_quoted_args(self.out, format_args!("{value}")),
        }
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), KvError> {
        write_args(self.out, format_args!("{value}"));
        Ok(())
    }
}

fn write_args(out: &mut Vec<u8>, args: fmt::Arguments<'_>) {
    let _ = out.write_fmt(args);
}

fn write_integer(out: &mut Vec<u8>, value: u64) {
    let mut digits = [0; 20];
    let mut from = digits.len();
    let mut left = value;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
        from -= 1;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[from..]);
}

/// As `Display` has it. Milliseconds to a tenth, which stand on every request's line, need no search for the shortest
/// form.
fn write_float(out: &mut Vec<u8>, value: f64) {
    const EXACT: f64 = 1e12;
    let tenths = (value * 10.0).round();
    if !(0.0..EXACT).contains(&tenths) || value.is_sign_negative() || tenths / 10.0 != value {
        return write_args(out, format_args!("{value}"));
    }
    let (whole, tenth) = (tenths as u64 / 10, (tenths as u64 % 10) as u8);
    write_integer(out, whole);
    if tenth > 0 {
        out.extend_from_slice(&[b'.', b'0' + tenth]);
    }
}

fn write_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    Escaping::new(out, true).write(text);
    out.push(b'"');
}

fn write_quoted_args(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    out.push(b'"');
    Escaping::new(out, true).write_args(text);
    out.push(b'"');
}

/// Whether a byte can stand in any place of a line, but for the end of a bare value.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// Looks at every byte, whatever the first ones are: that can be done many at a time.
fn all(text: &str, test: impl Fn(u8) -> bool) -> bool {
    text.bytes().fold(true, |so_far, byte| so_far & test(byte))
}

/// Passes text on with everything escaped that could break a line, a JSON string or a terminal.
struct Escaping<'a> {
    out: &'a mut Vec<u8>,
    quotes: bool,
    left: usize,
}

impl<'a> Escaping<'a> {
    fn new(out: &'a mut Vec<u8>, quotes: bool) -> Self {
        Escaping { out, quotes, left: MAX_PART_BYTES }
    }

    fn write(&mut self, text: &str) {
        let _ = self.write_str(text);
    }

    fn write_args(&mut self, text: fmt::Arguments<'_>) {
        let _ = match text.as_str() {
            Some(text) => self.write_str(text),
            None => self.write_fmt(text),
        };
    }

    fn is_safe(&self, c: char) -> bool {
        match c {
            '"' => !self.quotes,
            '\\' => false,
            ' '..='~' => true,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => false,
            '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' => false,
            c => !c.is_control(),
        }
    }

    fn write_escaped(&mut self, c: char) {
        match c {
            '"' => self.out.extend_from_slice(b"\\\""),
            '\\' => self.out.extend_from_slice(b"\\\\"),
            '\n' => self.out.extend_from_slice(b"\\n"),
            '\r' => self.out.extend_from_slice(b"\\r"),
            '\t' => self.out.extend_from_slice(b"\\t"),
            c => write_args(self.out, format_args!("\\u{:04x}", u32::from(c))),
        }
    }

    fn write_part(&mut self, text: &str) {
        let mut rest = text;
        if !all(text, is_plain) {
            while let Some((at, unsafe_char)) = rest.char_indices().find(|&(_, c)| !self.is_safe(c)) {
                let (safe, tail) = rest.split_at(at);
                self.out.extend_from_slice(safe.as_bytes());
                self.write_escaped(unsafe_char);
                rest = &tail[unsafe_char.len_utf8()..];
            }
        }
        self.out.extend_from_slice(rest.as_bytes());
    }
}

impl fmt::Write for Escaping<'_> {
    /// Fails once it has cut, so that an endless `Display` is not asked for more.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let kept = cut(text, self.left);
        self.left -= kept.len();
        self.write_part(kept);
        if kept.len() < text.len() {
            self.out.extend_from_slice("…".as_bytes());
            return Err(fmt::Error);
        }
        Ok(())
    }
}

/// The longest beginning of `text` that has at most `max_bytes`.
fn cut(text: &str, max_bytes: usize) -> &str {
    let mut end = max_bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// RFC 3339, UTC, with milliseconds.
fn timestamp(now: SystemTime) -> [u8; 24] {
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second_of_day) = (since_epoch.as_secs() / 86_400, since_epoch.as_secs() % 86_400);
    let (year, month, day) = civil_date(days);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    for (place, mut value) in [
        (0..4, year),
        (5..7, month),
        (8..10, day),
        (11..13, second_of_day / 3600),
        (14..16, second_of_day / 60 % 60),
        (17..19, second_of_day % 60),
        (20..23, u64::from(since_epoch.subsec_millis())),
    ] {
        for digit in text[place].iter_mut().rev() {
            *digit += (value % 10) as u8;
            value /= 10;
        }
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

    const NASTY: &str = "a\r\nb\t\"c\\\u{1b}[31m\u{0}\u{7f}\u{85}\u{2028}\u{2029}\u{202e}é🦀";

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::new(seconds, 123_456_789)
    }

    fn line(format: Format, cluster: &str, target: &str, message: &str, fields: &[(&str, Value<'_>)]) -> String {
        let layout = Layout { format, cluster: cluster.into() };
        let mut out = Vec::new();
        let fields = fields.to_vec();
        let mut builder = Record::builder();
        builder.level(log::Level::Info).target(target).key_values(&fields);
        layout.write(&mut out, &builder.args(format_args!("{message}")).build(), at(1_795_404_840));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_text_line_has_time_level_message_fields_and_cluster() {
        let fields =
            [("address", Value::from("127.0.0.1:8080")), ("keys", Value::from(3_u64)), ("id", Value::from(""))];
        assert_eq!(
            line(Format::Text, "prod", "redis_cache_sync::http", "listening", &fields),
            "2026-11-23T03:34:00.123Z INFO  listening address=127.0.0.1:8080 keys=3 id=\"\" cluster=prod\n"
        );
        assert_eq!(
            line(Format::Text, "", "awc::client", "a b", &[("note", Value::from("x y=z"))]),
            "2026-11-23T03:34:00.123Z INFO  a b note=\"x y=z\" target=awc::client\n"
        );
    }

    #[test]
    fn a_json_line_is_one_object_with_typed_fields() {
        let fields = [
            ("n", Value::from(-7_i64)),
            ("big", Value::from(u64::MAX)),
            ("ratio", Value::from(0.5)),
            ("nan", Value::from(f64::NAN)),
            ("ok", Value::from(true)),
            ("none", Value::null()),
            ("message", Value::from("mine")),
        ];
        let line = line(Format::Json, "prod", "redis_cache_sync", "done", &fields);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({
            "time": "2026-11-23T03:34:00.123Z", "level": "info", "target": "redis_cache_sync", "message": "done",
            "cluster": "prod", "n": -7, "big": u64::MAX, "ratio": 0.5, "nan": "NaN", "ok": true, "none": null,
            "message_": "mine",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn hostile_text_stays_one_line_in_both_formats() {
        for format in [Format::Text, Format::Json] {
            let line = line(format, NASTY, NASTY, NASTY, &[(NASTY, Value::from(NASTY))]);
            let body = line.strip_suffix('\n').unwrap();
            assert!(!body.contains(|c: char| c.is_control() || "\u{2028}\u{2029}\u{202e}".contains(c)), "{body:?}");
            assert!(body.contains("é🦀"), "{body}");
        }
    }

    #[test]
    fn hostile_text_survives_a_json_round_trip() {
        let line = line(Format::Json, NASTY, NASTY, NASTY, &[(NASTY, Value::from(NASTY))]);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        for member in ["message", "target", "cluster", NASTY] {
            assert_eq!(json[member], NASTY);
        }
    }

    #[test]
    fn an_endless_field_is_cut_at_a_character() {
        let long = "é".repeat(MAX_PART_BYTES);
        for format in [Format::Text, Format::Json] {
            let line = line(format, "", OWN_TARGET, "m", &[("long", Value::from_display(&long))]);
            assert!(line.len() < MAX_PART_BYTES + 200 && line.contains("é…\""), "{} bytes", line.len());
        }
    }

    #[test]
    fn numbers_look_as_display_has_them() {
        for number in [0, 7, 10, 99, 1_000_000_007, u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            write_integer(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
        let tenths = (0..100_000).map(|tenths| f64::from(tenths) / 10.0);
        let odd = [-0.0, -1.5, 0.05, 0.1 + 0.2, 1e12, 1e300, 123_456_789_012.3, f64::INFINITY, f64::NAN, f64::EPSILON];
        for number in tenths.chain(odd) {
            let mut out = Vec::new();
            write_float(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

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
            assert_eq!(str::from_utf8(&timestamp(at(seconds))).unwrap(), expected);
        }
    }
}
