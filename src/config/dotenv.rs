//! `.env`: lines of NAME=value, read as they stand.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// What is looked for beside the file of settings.
pub const DOTENV: &str = ".env";

/// Names and values of the text, in its order; the number of a line that is neither that nor a comment, in place of the
/// library's message, which quotes the line, and that may hold a secret.
pub fn pairs(text: &[u8]) -> Vec<Result<(String, String), usize>> {
    let line = Rc::new(Cell::new(0));
    let text = as_it_stands(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text));
    let items = dotenvy::from_read_iter(LineByLine { rest: &text, line: line.clone() });
    items.map(|item| item.map_err(|_| line.get())).collect()
}

/// The text of a `.env` in a form whose values dotenvy leaves as they stand here. Alone, it would put a variable in place of `$NAME`, take
/// backslashes for escapes, and refuse blanks and quotes within a value.
fn as_it_stands(text: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len() * 2), text);
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |newline| newline + 1);
        let line = &rest[..end];
        let is_comment = line.trim_ascii_start().first() == Some(&b'#');
        let Some(equals) = line.iter().position(|byte| *byte == b'=').filter(|_| !is_comment) else {
            out.extend_from_slice(line);
            rest = &rest[end..];
            continue;
        };
        out.extend_from_slice(&line[..=equals]);
        let value = &rest[equals + 1..];
        let blanks = value.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        rest = match value.get(blanks) {
            Some(quote @ (b'"' | b'\'')) => quoted(&value[blanks..], *quote, &mut out),
            _ => unquoted(value, &mut out),
        };
    }
    out
}

/// A value in quotes, which may go over lines, and what follows it on its line. Returns what is left.
fn quoted<'a>(value: &'a [u8], quote: u8, out: &mut Vec<u8>) -> &'a [u8] {
    let (mut is_open, mut is_escaped) = (true, false);
    out.push(quote);
    for (place, &byte) in value.iter().enumerate().skip(1) {
        match byte {
            b'\n' if !is_open => return &value[place..],
            _ if is_escaped || !is_open => {}
            byte if byte == quote => is_open = false,
            b'$' if quote == b'"' => out.push(b'\\'),
            _ => {}
        }
        is_escaped = is_open && quote == b'"' && byte == b'\\' && !is_escaped;
        out.push(byte);
    }
    &[]
}

/// A value without quotes: the rest of the line, up to a `#` behind a blank. Returns what is left.
fn unquoted<'a>(value: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let end = value.iter().position(|byte| *byte == b'\n').unwrap_or(value.len());
    let comment = value[..end].windows(2).position(|pair| pair[0].is_ascii_whitespace() && pair[1] == b'#');
    let text = value[..comment.unwrap_or(end)].trim_ascii();
    out.push(b'"');
    for &byte in text {
        if matches!(byte, b'"' | b'\\' | b'$') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
    &value[end..]
}

/// Hands out one line a call, so that `line` is the number of the line that is being parsed.
struct LineByLine<'a> {
    rest: &'a [u8],
    line: Rc<Cell<usize>>,
}

impl Read for LineByLine<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.rest.iter().position(|byte| *byte == b'\n').map_or(self.rest.len(), |newline| newline + 1);
        let taken = end.min(buffer.len());
        let (line, rest) = self.rest.split_at(taken);
        if taken == end && taken > 0 {
            self.line.set(self.line.get() + 1);
        }
        buffer[..taken].copy_from_slice(line);
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dollar_in_a_dotenv_is_a_character_like_any_other() {
        let text = "A=$x\nB=\"a$HOME b\"\nC='$y'\nD=p$q # it's $z\n# don't\nE=${A}$\nF=\"two\n$lines\" # x\n\nG=$";
        let read: Vec<String> = pairs(text.as_bytes()).into_iter().map(|item| item.unwrap().1).collect();
        assert_eq!(read, ["$x", "a$HOME b", "$y", "p$q", "${A}$", "two\n$lines", "$"]);
    }

    #[test]
    fn a_value_without_quotes_is_the_rest_of_its_line() {
        let text = r#"
            A=a\nb\t\\c\d
            export B = two words
            C=it's "so"
            D=#1
            E=
            F = x#y #z
            G="a\nb \" c"
            H='a\nb'
        "#;
        let read: Vec<(String, String)> = pairs(text.as_bytes()).into_iter().map(Result::unwrap).collect();
        let expected = [
            ("A", r"a\nb\t\\c\d"),
            ("B", "two words"),
            ("C", r#"it's "so""#),
            ("D", "#1"),
            ("E", ""),
            ("F", "x#y"),
            ("G", "a\nb \" c"),
            ("H", r"a\nb"),
        ];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(pairs(b"A=1\nnothing\nB=\"open\n"), [Ok(("A".to_owned(), "1".to_owned())), Err(2), Err(3)]);
    }
}
