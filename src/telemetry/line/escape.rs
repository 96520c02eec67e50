//! What makes any text safe to stand in a line, and numbers in few instructions.

use std::fmt::{self, Write as _};
use std::io::Write as _;

/// Bytes of a message or of one field, at most; what goes beyond is cut and marked by `…`.
pub(super) const MAX_PART_BYTES: usize = 8 * 1024;

pub(super) fn write_args(out: &mut Vec<u8>, args: fmt::Arguments<'_>) {
    let _ = out.write_fmt(args);
}

pub(super) fn write_integer(out: &mut Vec<u8>, value: u64) {
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

/// Writes the number as `Display` does. Milliseconds to a tenth, which stand on every request's line, need no search for the
/// shortest form.
pub(super) fn write_float(out: &mut Vec<u8>, value: f64) {
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

pub(super) fn write_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    Escaping::new(out, true).write(text);
    out.push(b'"');
}

pub(super) fn write_quoted_args(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    out.push(b'"');
    Escaping::new(out, true).write_args(text);
    out.push(b'"');
}

/// Whether each byte can stand in any place of a line, but for the end of a bare value.
static PLAIN: [bool; 256] = plain();
/// Whether each byte can stand in a bare value too.
static BARE: [bool; 256] = {
    let mut bare = plain();
    (bare[b' ' as usize], bare[b'=' as usize]) = (false, false);
    bare
};

const fn plain() -> [bool; 256] {
    let (mut plain, mut byte) = ([false; 256], b' ');
    while byte <= b'~' {
        plain[byte as usize] = byte != b'"' && byte != b'\\';
        byte += 1;
    }
    plain
}

pub(super) fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| PLAIN[usize::from(byte)])
}

/// Whether a value needs no quotes.
pub(super) fn is_bare(value: &str) -> bool {
    (1..=MAX_PART_BYTES).contains(&value.len()) && value.bytes().all(|byte| BARE[usize::from(byte)])
}

/// Passes text on with everything escaped that could break a line, a JSON string or a terminal.
pub(super) struct Escaping<'a> {
    out: &'a mut Vec<u8>,
    quotes: bool,
    left: usize,
}

impl<'a> Escaping<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, quotes: bool) -> Self {
        Escaping { out, quotes, left: MAX_PART_BYTES }
    }

    pub(super) fn write(&mut self, text: &str) {
        let _ = self.write_str(text);
    }

    pub(super) fn write_args(&mut self, text: fmt::Arguments<'_>) {
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
        if !is_plain(text) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
