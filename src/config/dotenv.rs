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

/// The text of a `.env` with each `$` as a character like any other: dotenvy would put a variable in its place, or nothing.
/// Within single quotes it does not, and knows no escapes.
fn as_it_stands(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let (mut quote, mut is_escaped, mut is_comment, mut last) = (None, false, false, b'\n');
    for &byte in text {
        let begins_word = last.is_ascii_whitespace();
        match byte {
            b'\n' if quote.is_none() => is_comment = false,
            _ if is_comment || is_escaped => {}
            b'#' if quote.is_none() && begins_word => is_comment = true,
            b'\'' | b'"' if quote == Some(byte) => quote = None,
            b'\'' | b'"' if quote.is_none() => quote = Some(byte),
            b'$' if quote != Some(b'\'') => out.push(b'\\'),
            _ => {}
        }
        is_escaped = byte == b'\\' && !is_escaped && !is_comment && quote != Some(b'\'');
        last = byte;
        out.push(byte);
    }
    out
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
        let text = "A=$x\nB=\"a$HOME b\"\nC='$y'\nD=p\\$q # it's $z\n# don't\nE=${A}$\nF=\"two\n$lines\"\n";
        let read: Vec<String> = pairs(text.as_bytes()).into_iter().map(|item| item.unwrap().1).collect();
        assert_eq!(read, ["$x", "a$HOME b", "$y", "p$q", "${A}$", "two\n$lines"]);
    }
}
