//! From the bytes of a file to its events, one at a time and in bounded memory.
//!
//! What a file holds is told by its content: `[` begins an array; a first line that is not yet a whole object, with no
//! new object on the next one, is an object spread over several lines; anything else is one event a line. Nothing is
//! parsed here beyond brackets and strings: what is wrong inside an event is for the service to say.

use std::io::{self, BufRead, BufReader, Read};

use bytes::Bytes;
use memchr::memchr;

/// Bytes of one event, at most.
pub const MAX_EVENT_BYTES: usize = 64 << 20;

/// An event as it is sent, on one line, and the line of the file on which it begins, from 1.
pub type Found = (Bytes, u64);

#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error("line {line}: an event of more than {} MiB", MAX_EVENT_BYTES >> 20)]
    TooLarge { line: u64 },
    #[error("line {line}: the array goes on with neither `,` nor `]`")]
    NoComma { line: u64 },
    #[error("line {line}: an element is missing")]
    Missing { line: u64 },
    #[error("line {line}: something follows the end of the array")]
    Trailing { line: u64 },
    #[error("line {line}: the array is not closed")]
    Unclosed { line: u64 },
}

pub struct Splitter<R> {
    input: BufReader<R>,
    form: Form,
    /// The line that the next byte is on.
    line: u64,
    /// Lines that had to be seen to tell the form.
    ahead: Option<(Vec<u8>, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Unknown,
    Lines,
    /// Objects one after the other, each over several lines.
    Objects,
    Array {
        first: bool,
    },
    End,
}

impl<R: Read> Splitter<R> {
    pub fn new(input: BufReader<R>) -> Self {
        Splitter { input, form: Form::Unknown, line: 1, ahead: None }
    }

    /// Whether the next event has to be waited for: no end of one has been read yet.
    pub fn may_block(&self) -> bool {
        let end = if self.form == Form::Lines { b'\n' } else { b'}' };
        memchr(end, self.input.buffer()).is_none()
    }

    /// The next event; none at the end.
    pub fn next(&mut self) -> Result<Option<Found>, SplitError> {
        if self.form == Form::Unknown {
            self.tell_form()?;
        }
        match self.form {
            Form::Lines => self.next_line(),
            Form::Objects => self.next_object(),
            Form::Array { first } => self.next_element(first),
            Form::Unknown | Form::End => Ok(None),
        }
    }

    fn tell_form(&mut self) -> Result<(), SplitError> {
        if self.input.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            self.input.consume(3);
        }
        self.form = match self.skip_space()? {
            None => Form::End,
            Some(b'[') => {
                self.input.consume(1);
                Form::Array { first: true }
            }
            Some(b'{') => self.lines_or_objects()?,
            Some(_) => Form::Lines,
        };
        Ok(())
    }

    fn lines_or_objects(&mut self) -> Result<Form, SplitError> {
        let start = self.line;
        let mut first = Vec::new();
        self.read_line(&mut first)?;
        let mut depth = Depth::default();
        let whole = first.iter().any(|byte| depth.closes(*byte));
        let form = match self.skip_space()? {
            // A second object although the first line has not ended one: that line is broken.
            _ if whole => Form::Lines,
            Some(b'{') | None => Form::Lines,
            Some(_) => Form::Objects,
        };
        self.ahead = Some((first, start));
        Ok(form)
    }

    fn next_line(&mut self) -> Result<Option<Found>, SplitError> {
        loop {
            let (line, start) = match self.ahead.take() {
                Some(ahead) => ahead,
                None => {
                    let start = self.line;
                    let mut line = Vec::new();
                    if !self.read_line(&mut line)? {
                        return Ok(None);
                    }
                    (line, start)
                }
            };
            let text = line.trim_ascii();
            if !text.is_empty() {
                return Ok(Some((Bytes::copy_from_slice(text), start)));
            }
        }
    }

    fn next_object(&mut self) -> Result<Option<Found>, SplitError> {
        let (mut text, start) = match self.ahead.take() {
            Some(ahead) => ahead,
            None if self.skip_space()?.is_none() => return Ok(None),
            None => (Vec::new(), self.line),
        };
        let mut depth = Depth::default();
        if !text.iter().any(|byte| depth.closes(*byte)) {
            self.read_while(&mut text, start, |byte| match depth.closes(byte) {
                true => Go::EndWith,
                false => Go::On,
            })?;
        }
        Ok(Some((on_one_line(text), start)))
    }

    fn next_element(&mut self, first: bool) -> Result<Option<Found>, SplitError> {
        match self.skip_space()? {
            None => return Err(SplitError::Unclosed { line: self.line }),
            Some(b']') => {
                self.input.consume(1);
                self.form = Form::End;
                return match self.skip_space()? {
                    None => Ok(None),
                    Some(_) => Err(SplitError::Trailing { line: self.line }),
                };
            }
            Some(b',') if !first => self.input.consume(1),
            Some(_) if !first => return Err(SplitError::NoComma { line: self.line }),
            Some(_) => {}
        }
        self.form = Form::Array { first: false };
        self.skip_space()?;
        let start = self.line;
        let (mut text, mut depth) = (Vec::new(), Depth::default());
        let ended = self.read_while(&mut text, start, |byte| {
            let outside = depth.is_outside();
            match byte {
                b',' | b']' if outside => Go::EndBefore,
                _ if depth.closes(byte) => Go::EndWith,
                _ => Go::On,
            }
        })?;
        match ended {
            true if text.is_empty() => Err(SplitError::Missing { line: start }),
            true => Ok(Some((on_one_line(text), start))),
            false => Err(SplitError::Unclosed { line: self.line }),
        }
    }

    /// The next byte that is no white space, which stays.
    fn skip_space(&mut self) -> Result<Option<u8>, SplitError> {
        loop {
            let buffer = self.input.fill_buf()?;
            let Some(found) = buffer.iter().position(|byte| !byte.is_ascii_whitespace()) else {
                let length = buffer.len();
                if length == 0 {
                    return Ok(None);
                }
                self.consume_counted(length);
                continue;
            };
            let byte = buffer.get(found).copied();
            self.consume_counted(found);
            return Ok(byte);
        }
    }

    /// Up to and with the end of the line; whether there was anything.
    fn read_line(&mut self, line: &mut Vec<u8>) -> Result<bool, SplitError> {
        loop {
            let buffer = self.input.fill_buf()?;
            let (taken, ends) = match memchr(b'\n', buffer) {
                Some(at) => (at + 1, true),
                None => (buffer.len(), false),
            };
            if taken == 0 {
                return Ok(!line.is_empty());
            }
            line.extend_from_slice(buffer.get(..taken).unwrap_or_default());
            self.input.consume(taken);
            if line.len() > MAX_EVENT_BYTES {
                return Err(SplitError::TooLarge { line: self.line });
            }
            if ends {
                self.line += 1;
                return Ok(true);
            }
        }
    }

    /// Appends bytes until `go` ends it; whether it did before the end of the file.
    fn read_while(&mut self, text: &mut Vec<u8>, start: u64, mut go: impl FnMut(u8) -> Go) -> Result<bool, SplitError> {
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return Ok(false);
            }
            let end = buffer.iter().enumerate().find_map(|(at, byte)| match go(*byte) {
                Go::On => None,
                Go::EndWith => Some(at + 1),
                Go::EndBefore => Some(at),
            });
            let taken = end.unwrap_or(buffer.len());
            text.extend_from_slice(buffer.get(..taken).unwrap_or_default());
            self.consume_counted(taken);
            if text.len() > MAX_EVENT_BYTES {
                return Err(SplitError::TooLarge { line: start });
            }
            if end.is_some() {
                return Ok(true);
            }
        }
    }

    fn consume_counted(&mut self, length: usize) {
        if let Ok(buffer) = self.input.fill_buf() {
            self.line += memchr::memchr_iter(b'\n', buffer.get(..length).unwrap_or_default()).count() as u64;
        }
        self.input.consume(length);
    }
}

enum Go {
    On,
    /// The byte belongs to it.
    EndWith,
    EndBefore,
}

/// Brackets that are open, looking past strings.
#[derive(Default)]
struct Depth {
    open: u64,
    in_string: bool,
    escaped: bool,
}

impl Depth {
    fn is_outside(&self) -> bool {
        self.open == 0 && !self.in_string
    }

    /// Takes the next byte; whether it closes the outermost bracket.
    fn closes(&mut self, byte: u8) -> bool {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_string => self.escaped = true,
            b'"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            b'{' | b'[' => self.open += 1,
            b'}' | b']' => {
                self.open = self.open.saturating_sub(1);
                return self.open == 0;
            }
            _ => {}
        }
        false
    }
}

/// Line ends stand between JSON's tokens only, where a blank does as well.
fn on_one_line(mut text: Vec<u8>) -> Bytes {
    text.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    Bytes::copy_from_slice(text.trim_ascii())
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// Events with their lines, read through buffers of several sizes.
    #[track_caller]
    fn split(text: &str) -> Result<Vec<(String, u64)>, String> {
        let with = |size: usize| {
            let mut splitter = Splitter::new(BufReader::with_capacity(size, text.as_bytes()));
            let mut found = Vec::new();
            while let Some((text, line)) = splitter.next().map_err(|error| error.to_string())? {
                found.push((String::from_utf8(text.to_vec()).unwrap(), line));
            }
            Ok(found)
        };
        let found = with(1 << 16);
        for size in [3, 4, 7, 64] {
            assert_eq!(with(size), found, "a buffer of {size}");
        }
        found
    }

    fn events(text: &str) -> Vec<(String, u64)> {
        split(text).unwrap()
    }

    fn expected(events: &[(&str, u64)]) -> Vec<(String, u64)> {
        events.iter().map(|(text, line)| (text.to_string(), *line)).collect()
    }

    #[test]
    fn one_event_a_line_with_blank_lines_between() {
        let text = "\u{feff}\n{\"a\":1}\r\n\n  \n{\"b\":\"}\"} \nnonsense\n{\"c\":3}";
        assert_eq!(
            events(text),
            expected(&[("{\"a\":1}", 2), ("{\"b\":\"}\"}", 5), ("nonsense", 6), ("{\"c\":3}", 7)])
        );
        assert_eq!(events(""), []);
        assert_eq!(events(" \n\n"), []);
        assert_eq!(events("7\n8"), expected(&[("7", 1), ("8", 2)]));
    }

    #[test]
    fn a_broken_first_line_does_not_swallow_the_others() {
        let text = "{\"key\":\"SET\",\"value\":\n{\"b\":1}\n{\"c\":1}\n";
        assert_eq!(events(text), expected(&[("{\"key\":\"SET\",\"value\":", 1), ("{\"b\":1}", 2), ("{\"c\":1}", 3)]));
    }

    #[test]
    fn an_object_over_several_lines_is_one_event_and_so_is_each_after_it() {
        let text = "{\n  \"a\": \"}\\\"\",\n  \"b\": {}\n}\n";
        assert_eq!(events(text), expected(&[("{ \"a\": \"}\\\"\",   \"b\": {} }", 1)]));
        let twice = format!("\n{text}{text}");
        assert_eq!(events(&twice).iter().map(|(_, line)| *line).collect::<Vec<_>>(), [2, 6]);
        assert_eq!(events("{\n\"a\":"), expected(&[("{ \"a\":", 1)]), "what does not end is sent as it is");
    }

    #[test]
    fn an_array_is_one_event_an_element() {
        let text = " [ {\"a\":[1,2]},\n{\"b\":\"],\"} , 7,\n\"x,]\",[[]]\n]\n";
        let all = [("{\"a\":[1,2]}", 1), ("{\"b\":\"],\"}", 2), ("7", 2), ("\"x,]\"", 3), ("[[]]", 3)];
        assert_eq!(events(text), expected(&all));
        assert_eq!(events("[]"), []);
    }

    #[test]
    fn an_array_that_is_not_well_is_told_after_what_came_before() {
        for (text, reason) in [
            ("[{},\n{}", "line 2: the array is not closed"),
            ("[{}\n", "line 2: the array is not closed"),
            ("[{\"a\":", "line 1: the array is not closed"),
            ("[{} {}]", "line 1: the array goes on with neither `,` nor `]`"),
            ("[,{}]", "line 1: an element is missing"),
            ("[{},\n]", "line 2: an element is missing"),
            ("[{}]\n{}", "line 2: something follows the end of the array"),
        ] {
            assert_eq!(split(text), Err(reason.to_owned()), "{text}");
        }
    }
}
