//! What a setting may be: from text (variables and flags) or TOML to one normal form, or why not.
//!
//! Normal forms: integers and byte sizes are `I64`, switches `Boolean`, texts and choices `String`, lists an `Array` of
//! `String`, and a setting that is given as empty and may be unset is `Nil`.

use config::{Value, ValueKind};

/// Characters of a bad value that a message shows, at most.
const MAX_SHOWN: usize = 80;
/// What stands in URLs with a password, in their queries, and in texts of names and values.
const SIGNS_OF_SECRETS: [&str; 4] = ["://", "@", "?", "="];
/// Items of a list, at most.
const MAX_ITEMS: usize = 1024;

/// The form of a setting and its bounds.
#[derive(Clone)]
pub enum SettingKind {
    /// A whole number; the unit is for a person.
    Integer {
        /// The smallest value that is accepted.
        min: u64,
        /// The largest value that is accepted.
        max: u64,
        /// What it counts, for messages and the docs: `milliseconds`, `seconds`; empty for plain counts.
        unit: &'static str,
    },
    /// A size in bytes: an integer, or text with `KiB`, `MiB`, `GiB` or `TiB`.
    Bytes {
        /// The smallest size that is accepted, in bytes.
        min: u64,
        /// The largest size that is accepted, in bytes.
        max: u64,
    },
    /// `true` or `false`.
    Switch,
    /// One of `allowed`.
    Choice {
        /// The choices, in the order in which messages list them.
        allowed: &'static [&'static str],
    },
    /// A text that a check of its own accepts: an address, a URL, a path.
    Text {
        /// Says why a text is not accepted, without quoting it.
        check: fn(&str) -> Result<(), String>,
        /// What is accepted, in words, for messages and the docs.
        allowed: &'static str,
    },
    /// Comma- or line-separated text, or in TOML also an array of texts; each item is checked.
    List {
        /// Says why an item is not accepted, without quoting it.
        check: fn(&str) -> Result<(), String>,
        /// What is accepted, in words, for messages and the docs.
        allowed: &'static str,
    },
}

impl SettingKind {
    /// The normal form of what a variable or a flag says. `optional`: empty means unset.
    pub fn from_text(&self, text: &str, optional: bool) -> Result<ValueKind, String> {
        match self {
            SettingKind::Integer { min, max, .. } => within(digits(text.trim())?, *min, *max),
            SettingKind::Bytes { min, max } => within(bytes(text.trim())?, *min, *max),
            SettingKind::Switch => match text.trim() {
                "true" => Ok(ValueKind::Boolean(true)),
                "false" => Ok(ValueKind::Boolean(false)),
                _ => Err("neither true nor false".to_owned()),
            },
            SettingKind::Choice { allowed } => choice(text.trim(), allowed),
            SettingKind::Text { .. } if text.is_empty() && optional => Ok(ValueKind::Nil),
            SettingKind::Text { check, .. } => check(text).map(|()| ValueKind::String(text.to_owned())),
            SettingKind::List { .. } if text.is_empty() => Ok(ValueKind::Array(Vec::new())),
            SettingKind::List { check, .. } => list(items(text), *check),
        }
    }

    /// The normal form of what the file says: the TOML type must fit, so a number in quotes is refused.
    pub fn from_toml(&self, value: &ValueKind, optional: bool) -> Result<ValueKind, String> {
        match (self, value) {
            (SettingKind::Integer { min, max, .. } | SettingKind::Bytes { min, max }, ValueKind::I64(number)) => {
                within(u64::try_from(*number).map_err(|_| "a negative number".to_owned())?, *min, *max)
            }
            (SettingKind::Bytes { .. }, ValueKind::String(text)) if digits(text.trim()).is_ok() => {
                Err("a number in quotes without a unit".to_owned())
            }
            (SettingKind::Switch, ValueKind::Boolean(_)) => Ok(value.clone()),
            (
                SettingKind::Bytes { .. }
                | SettingKind::Choice { .. }
                | SettingKind::Text { .. }
                | SettingKind::List { .. },
                ValueKind::String(text),
            ) => self.from_text(text, optional),
            (SettingKind::List { .. }, ValueKind::Array(values)) if values.is_empty() => Ok(value.clone()),
            (SettingKind::List { check, .. }, ValueKind::Array(values)) => {
                let texts: Option<Vec<&str>> = values.iter().map(as_text).collect();
                list(texts.ok_or("an array of something other than texts")?.into_iter().flat_map(items), *check)
            }
            _ => Err(format!("{} where {} belongs", type_name(value), self.type_wanted())),
        }
    }

    /// What is allowed, for a message and the docs.
    pub fn allowed(&self) -> String {
        match self {
            SettingKind::Integer { min, max, unit: "" } => format!("an integer from {min} to {max}"),
            SettingKind::Integer { min, max, unit } => format!("an integer from {min} to {max} ({unit})"),
            SettingKind::Bytes { min, max } => {
                let (min, max) = (human_bytes(*min), human_bytes(*max));
                format!("bytes from {min} to {max}, as an integer or with a unit like \"16 MiB\"")
            }
            SettingKind::Switch => "true or false".to_owned(),
            SettingKind::Choice { allowed } => any_of(allowed),
            SettingKind::Text { allowed, .. } | SettingKind::List { allowed, .. } => (*allowed).to_owned(),
        }
    }

    fn type_wanted(&self) -> &'static str {
        match self {
            SettingKind::Integer { .. } | SettingKind::Bytes { .. } => "an integer",
            SettingKind::Switch => "true or false",
            SettingKind::Choice { .. } | SettingKind::Text { .. } => "a text",
            SettingKind::List { .. } => "a text or an array of texts",
        }
    }
}

/// Items of a comma- or line-separated text, without the blanks around them.
pub fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', '\n', '\r']).map(str::trim).filter(|item| !item.is_empty())
}

/// A value as it is written in TOML, for `config/default.toml`, messages and `check-config`.
pub fn toml_literal(value: &ValueKind) -> String {
    match value {
        ValueKind::String(text) => quoted(text),
        ValueKind::Array(values) => {
            let values: Vec<String> = values.iter().map(|value| toml_literal(&value.kind)).collect();
            format!("[{}]", values.join(", "))
        }
        ValueKind::Table(_) => "{…}".to_owned(),
        other => other.to_string(),
    }
}

/// Whether a text that was set in a wrong place may hold a secret, so that no message may show it.
pub fn may_hold_secret(text: &str) -> bool {
    SIGNS_OF_SECRETS.iter().any(|sign| text.contains(sign))
}

/// A value for a message: cut to a length that fits a line. None for a text that may hold a secret, whatever setting it was given to.
pub fn for_message(value: &ValueKind) -> Option<String> {
    let literal = toml_literal(value);
    if may_hold_secret(&literal) {
        return None;
    }
    Some(match literal.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &literal[..end]),
        None => literal,
    })
}

/// `16 MiB` for 16777216; what is no whole number of a unit stays in bytes.
pub fn human_bytes(bytes: u64) -> String {
    let fits = UNITS.iter().find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size));
    match fits {
        Some((unit, size)) => format!("{} {unit}", bytes / size),
        None => bytes.to_string(),
    }
}

/// The largest first, so that the first that fits is the shortest to read.
const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

fn bytes(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number = digits(number).map_err(|_| "not a size in bytes".to_owned())?;
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Ok(number);
    }
    let (_, size) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or("an unknown unit")?;
    number.checked_mul(*size).ok_or_else(|| "too large".to_owned())
}

/// Digits alone: Rust's own parser would let a plus sign through.
fn digits(text: &str) -> Result<u64, String> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("not an integer".to_owned());
    }
    if unsigned.len() < text.len() {
        return Err("a negative number".to_owned());
    }
    text.parse().map_err(|_| "too large".to_owned())
}

fn within(number: u64, min: u64, max: u64) -> Result<ValueKind, String> {
    let normal = i64::try_from(number).map_err(|_| "too large".to_owned())?;
    match number {
        _ if number < min => Err("too small".to_owned()),
        _ if number > max => Err("too large".to_owned()),
        _ => Ok(ValueKind::I64(normal)),
    }
}

fn choice(text: &str, allowed: &[&str]) -> Result<ValueKind, String> {
    if allowed.contains(&text) {
        return Ok(ValueKind::String(text.to_owned()));
    }
    Err("not one of the choices".to_owned())
}

/// A list without any item is refused: it was meant to hold something.
fn list<'a>(items: impl Iterator<Item = &'a str>, check: fn(&str) -> Result<(), String>) -> Result<ValueKind, String> {
    let mut values = Vec::new();
    for (index, item) in items.enumerate() {
        if index >= MAX_ITEMS {
            return Err(format!("more than {MAX_ITEMS} items"));
        }
        check(item).map_err(|reason| format!("item {}: {reason}", index + 1))?;
        values.push(Value::from(item));
    }
    if values.is_empty() {
        return Err("an empty list".to_owned());
    }
    Ok(ValueKind::Array(values))
}

/// None for a value that is no text.
pub fn as_text(value: &Value) -> Option<&str> {
    match &value.kind {
        ValueKind::String(text) => Some(text),
        _ => None,
    }
}

fn any_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn type_name(value: &ValueKind) -> &'static str {
    match value {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "a boolean",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "an integer",
        ValueKind::Float(_) => "a number with a fraction",
        ValueKind::String(_) => "a text",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "an array",
    }
}

/// A TOML basic string. Control characters are escaped, so that a message stays one line.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: SettingKind = SettingKind::Bytes { min: 1, max: 1 << 40 };
    const SMALL: SettingKind = SettingKind::Integer { min: 1, max: 64, unit: "" };
    const LIST: SettingKind = SettingKind::List { check: |_| Ok(()), allowed: "" };

    #[test]
    fn byte_sizes_are_integers_or_carry_a_binary_unit() {
        for (text, want) in
            [("1024", 1024), ("64KiB", 65_536), ("16 MiB", 16 << 20), ("2gib", 2 << 30), ("1 TiB", 1 << 40)]
        {
            assert_eq!(BYTES.from_text(text, false), Ok(ValueKind::I64(want)), "{text}");
        }
        for text in ["", "MiB", "1.5 MiB", "16 MB", "-1", "2 TiB", "99999999999999999999", "99999999 TiB", "0"] {
            assert!(BYTES.from_text(text, false).is_err(), "{text}");
        }
    }

    #[test]
    fn integers_are_digits_within_their_bounds() {
        assert_eq!(SMALL.from_text(" 64 ", false), Ok(ValueKind::I64(64)));
        for text in ["", "0", "65", "+1", "-1", "1.0", "1e1", "0x1", "½", "18446744073709551616"] {
            assert!(SMALL.from_text(text, false).is_err(), "{text}");
        }
    }

    #[test]
    fn toml_types_must_fit() {
        let text = |text: &str| ValueKind::String(text.to_owned());
        assert!(SMALL.from_toml(&text("3"), false).is_err());
        assert!(SMALL.from_toml(&ValueKind::Float(3.0), false).is_err());
        assert!(SMALL.from_toml(&ValueKind::Boolean(true), false).is_err());
        assert!(SMALL.from_toml(&ValueKind::I64(-3), false).is_err());
        assert!(SettingKind::Switch.from_toml(&text("true"), false).is_err());
        assert!(SettingKind::Switch.from_toml(&ValueKind::I64(1), false).is_err());
        assert!(BYTES.from_toml(&text("1024"), false).is_err());
        assert_eq!(BYTES.from_toml(&text("1 KiB"), false), Ok(ValueKind::I64(1024)));
        assert!(LIST.from_toml(&ValueKind::Array(vec![Value::from(3_i64)]), false).is_err());
    }

    #[test]
    fn lists_are_split_at_commas_and_lines_and_are_never_empty_by_accident() {
        let want = |items: &[&str]| Ok(ValueKind::Array(items.iter().map(|item| Value::from(*item)).collect()));
        assert_eq!(LIST.from_text("a, b\r\nc,,\n", false), want(&["a", "b", "c"]));
        assert_eq!(LIST.from_text("", false), want(&[]));
        assert!(LIST.from_text(" , ", false).is_err());
        assert!(LIST.from_toml(&ValueKind::Array(vec![Value::from("")]), false).is_err());
        assert_eq!(
            LIST.from_toml(&ValueKind::Array(vec![Value::from("a"), Value::from("b")]), false),
            want(&["a", "b"])
        );
    }

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        for (bytes, want) in
            [(1, "1"), (1024, "1 KiB"), (1_048_577, "1048577"), (16 << 20, "16 MiB"), (1 << 40, "1 TiB")]
        {
            assert_eq!(human_bytes(bytes), want);
        }
    }

    #[test]
    fn a_long_or_multi_line_value_stays_one_short_line() {
        let shown = for_message(&ValueKind::String(format!("a\nb{}", "é".repeat(200)))).expect("no secret");
        assert!(shown.starts_with("\"a\\nb") && !shown.contains('\n') && shown.chars().count() <= 81, "{shown}");
    }
}
