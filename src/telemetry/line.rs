//! One log record as one line, in text or JSON. Pure: the clock is passed in.
//!
//! Promises: whatever a message or a field holds, the record stays one line, holds no control or direction-changing
//! character, and in JSON parses as one object in which no member is given twice by a field's name.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use log::Record;
use log::kv::{Error as KvError, Key, Value, VisitSource, VisitValue};

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
    /// Writes the record and the line end.
    pub fn write(&self, out: &mut dyn Write, record: &Record<'_>, now: SystemTime) -> io::Result<()> {
        match self.format {
            Format::Text => self.write_text(out, record, now)?,
            Format::Json => self.write_json(out, record, now)?,
        }
        out.write_all(b"\n")
    }

    fn write_text(&self, out: &mut dyn Write, record: &Record<'_>, now: SystemTime) -> io::Result<()> {
        write!(out, "{} {:<5} ", Timestamp(now), record.level().as_str())?;
        Escaping::new(out, false).write_args(*record.args())?;
        visit_fields(record, &mut TextFields { out: &mut *out, scratch: String::new() })?;
        if !record.target().starts_with(OWN_TARGET) {
            write_text_field(out, "target", record.target())?;
        }
        if !self.cluster.is_empty() {
            write_text_field(out, "cluster", &self.cluster)?;
        }
        Ok(())
    }

    fn write_json(&self, out: &mut dyn Write, record: &Record<'_>, now: SystemTime) -> io::Result<()> {
        write!(out, "{{\"time\":\"{}\",\"level\":\"{}\",\"target\":", Timestamp(now), level_name(record.level()))?;
        write_quoted(out, format_args!("{}", record.target()))?;
        out.write_all(b",\"message\":")?;
        write_quoted(out, *record.args())?;
        if !self.cluster.is_empty() {
            out.write_all(b",\"cluster\":")?;
            write_quoted(out, format_args!("{}", self.cluster))?;
        }
        visit_fields(record, &mut JsonFields { out: &mut *out })?;
        out.write_all(b"}")
    }
}

fn level_name(level: log::Level) -> &'static str {
    match level {
        log::Level::Error => "error",
        log::Level::Warn => "warn",
        log::Level::Info => "info",
        log::Level::Debug => "debug",
        log::Level::Trace => "trace",
    }
}

fn visit_fields<'k>(record: &'k Record<'k>, visitor: &mut dyn VisitSource<'k>) -> io::Result<()> {
    record.key_values().visit(visitor).map_err(io::Error::other)
}

struct TextFields<'a> {
    out: &'a mut dyn Write,
    scratch: String,
}

impl<'k> VisitSource<'k> for TextFields<'_> {
    fn visit_pair(&mut self, key: Key<'k>, value: Value<'k>) -> Result<(), KvError> {
        self.scratch.clear();
        // A `Display` that fails by itself costs its own text, not the line.
        let _ = write!(self.scratch, "{value}");
        Ok(write_text_field(self.out, key.as_str(), &self.scratch)?)
    }
}

fn write_text_field(out: &mut dyn Write, key: &str, value: &str) -> io::Result<()> {
    out.write_all(b" ")?;
    Escaping::new(out, true).write_args(format_args!("{key}"))?;
    out.write_all(b"=")?;
    let is_plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'=');
    if !value.is_empty() && value.len() <= MAX_PART_BYTES && value.bytes().all(is_plain) {
        return out.write_all(value.as_bytes());
    }
    write_quoted(out, format_args!("{value}"))
}

struct JsonFields<'a> {
    out: &'a mut dyn Write,
}

impl<'k> VisitSource<'k> for JsonFields<'_> {
    fn visit_pair(&mut self, key: Key<'k>, value: Value<'k>) -> Result<(), KvError> {
        let key = key.as_str();
        let suffix = if RESERVED.contains(&key) { "_" } else { "" };
        self.out.write_all(b",")?;
        write_quoted(self.out, format_args!("{key}{suffix}"))?;
        self.out.write_all(b":")?;
        value.visit(JsonValue { out: &mut *self.out })
    }
}

/// Numbers, booleans and null as such, everything else as a string.
struct JsonValue<'a> {
    out: &'a mut dyn Write,
}

impl<'v> VisitValue<'v> for JsonValue<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), KvError> {
        Ok(write_quoted(self.out, format_args!("{value}"))?)
    }

    fn visit_null(&mut self) -> Result<(), KvError> {
        Ok(self.out.write_all(b"null")?)
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), KvError> {
        Ok(write!(self.out, "{value}")?)
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), KvError> {
        Ok(write!(self.out, "{value}")?)
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), KvError> {
        if value.is_finite() {
            return Ok(write!(self.out, "{value}")?);
        }
        Ok(write_quoted(self.out, format_args!("{value}"))?)
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), KvError> {
        Ok(write!(self.out, "{value}")?)
    }
}

fn write_quoted(out: &mut dyn Write, text: fmt::Arguments<'_>) -> io::Result<()> {
    out.write_all(b"\"")?;
    Escaping::new(out, true).write_args(text)?;
    out.write_all(b"\"")
}

/// Passes text on with everything escaped that could break a line, a JSON string or a terminal.
struct Escaping<'a> {
    out: &'a mut dyn Write,
    quotes: bool,
    left: usize,
    error: Option<io::Error>,
}

impl<'a> Escaping<'a> {
    fn new(out: &'a mut dyn Write, quotes: bool) -> Self {
        Escaping { out, quotes, left: MAX_PART_BYTES, error: None }
    }

    fn write_args(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        let _ = self.write_fmt(text);
        self.error.take().map_or(Ok(()), Err)
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

    fn write_escaped(&mut self, c: char) -> io::Result<()> {
        match c {
            '"' => self.out.write_all(b"\\\""),
            '\\' => self.out.write_all(b"\\\\"),
            '\n' => self.out.write_all(b"\\n"),
            '\r' => self.out.write_all(b"\\r"),
            '\t' => self.out.write_all(b"\\t"),
            c => write!(self.out, "\\u{:04x}", u32::from(c)),
        }
    }

    fn write_part(&mut self, text: &str) -> io::Result<()> {
        let mut rest = text;
        while let Some((at, unsafe_char)) = rest.char_indices().find(|&(_, c)| !self.is_safe(c)) {
            let (safe, tail) = rest.split_at(at);
            self.out.write_all(safe.as_bytes())?;
            self.write_escaped(unsafe_char)?;
            rest = &tail[unsafe_char.len_utf8()..];
        }
        self.out.write_all(rest.as_bytes())
    }
}

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let kept = cut(text, self.left);
        let is_cut = kept.len() < text.len();
        self.left -= kept.len();
        let mut result = self.write_part(kept);
        if is_cut && result.is_ok() {
            result = self.out.write_all("…".as_bytes());
        }
        if let Err(error) = result {
            self.error = Some(error);
            return Err(fmt::Error);
        }
        if is_cut { Err(fmt::Error) } else { Ok(()) }
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
struct Timestamp(SystemTime);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since_epoch = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second_of_day) = (since_epoch.as_secs() / 86_400, since_epoch.as_secs() % 86_400);
        let (year, month, day) = civil_date(days);
        let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
        let millis = since_epoch.subsec_millis();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
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
        layout.write(&mut out, &builder.args(format_args!("{message}")).build(), at(1_795_404_840)).unwrap();
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
            assert_eq!(Timestamp(at(seconds)).to_string(), expected);
        }
    }
}
