//! From the bytes of a file to its events, one at a time and in bounded memory.
//!
//! What a file holds is told by its content: `[` begins an array; a first line that is not yet a whole object, with no
//! new object on the next one, is an object spread over several lines; anything else is one event a line. Nothing is
//! parsed here beyond brackets and strings: what is wrong inside an event is for the service to say. An object that lacks
//! a bracket ends where the next one begins, which JSON allows nowhere, so it costs no event but itself.

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
    /// This event is left out; the next call goes on behind it.
    #[error("an event of more than {} MiB: store large values by their URL", MAX_EVENT_BYTES >> 20)]
    TooLarge { line: u64 },
    #[error("line {line}: it begins like no event (`{{` or `[`); a table with columns is sent with --csv")]
    NoEvents { line: u64 },
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
    /// `comma`: one must stand before the next element.
    Array {
        comma: bool,
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
            Form::Array { comma } => self.next_element(comma),
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
                Form::Array { comma: false }
            }
            Some(b'{') => return self.lines_or_objects(),
            Some(_) => {
                self.form = Form::End;
                return Err(SplitError::NoEvents { line: self.line });
            }
        };
        Ok(())
    }

    fn lines_or_objects(&mut self) -> Result<(), SplitError> {
        // What is larger than an event may be is one line: nothing else is that long.
        self.form = Form::Lines;
        let start = self.line;
        let mut first = Vec::new();
        self.read_line(&mut first)?;
        let mut depth = Depth::default();
        let whole = first.iter().any(|byte| depth.take(*byte) == Part::Closing);
        // A second object although the first line has not ended one: that line is broken.
        if !whole && !matches!(self.skip_space()?, Some(b'{') | None) {
            self.form = Form::Objects;
        }
        self.ahead = Some((first, start));
        Ok(())
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
        if !text.iter().any(|byte| depth.take(*byte) == Part::Closing) {
            self.read_while(&mut text, start, |byte| match depth.take(byte) {
                Part::Closing => Go::EndWith,
                Part::NextObject => Go::EndBefore,
                Part::Inside => Go::On,
            })?;
        }
        Ok(Some((on_one_line(text), start)))
    }

    fn next_element(&mut self, comma: bool) -> Result<Option<Found>, SplitError> {
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
            Some(b',') if comma => self.input.consume(1),
            Some(_) if comma => return Err(SplitError::NoComma { line: self.line }),
            Some(_) => {}
        }
        self.form = Form::Array { comma: true };
        self.skip_space()?;
        let start = self.line;
        let (mut text, mut depth, mut is_broken) = (Vec::new(), Depth::default(), false);
        let ended = self.read_while(&mut text, start, |byte| {
            if depth.is_outside() && matches!(byte, b',' | b']') {
                return Go::EndBefore;
            }
            match depth.take(byte) {
                Part::Closing => Go::EndWith,
                Part::Inside => Go::On,
                Part::NextObject => {
                    is_broken = true;
                    Go::EndBefore
                }
            }
        });
        if is_broken {
            self.form = Form::Array { comma: false };
        }
        let ended = ended?;
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
        let mut is_too_large = false;
        loop {
            let buffer = self.input.fill_buf()?;
            let (taken, ends) = match memchr(b'\n', buffer) {
                Some(at) => (at + 1, true),
                None => (buffer.len(), false),
            };
            if taken == 0 && is_too_large {
                return Err(SplitError::TooLarge { line: self.line });
            }
            if taken == 0 {
                return Ok(!line.is_empty());
            }
            is_too_large |= line.len() + taken > MAX_EVENT_BYTES;
            if is_too_large {
                *line = Vec::new();
            } else {
                line.extend_from_slice(buffer.get(..taken).unwrap_or_default());
            }
            self.input.consume(taken);
            if ends {
                self.line += 1;
                let line = self.line - 1;
                return if is_too_large { Err(SplitError::TooLarge { line }) } else { Ok(true) };
            }
        }
    }

    /// Appends bytes until `go` ends it; whether it did before the end of the file.
    fn read_while(&mut self, text: &mut Vec<u8>, start: u64, mut go: impl FnMut(u8) -> Go) -> Result<bool, SplitError> {
        let mut is_too_large = false;
        let ended = |is_too_large, by_go| match is_too_large {
            true => Err(SplitError::TooLarge { line: start }),
            false => Ok(by_go),
        };
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return ended(is_too_large, false);
            }
            let end = buffer.iter().enumerate().find_map(|(at, byte)| match go(*byte) {
                Go::On => None,
                Go::EndWith => Some(at + 1),
                Go::EndBefore => Some(at),
            });
            let taken = end.unwrap_or(buffer.len());
            is_too_large |= text.len() + taken > MAX_EVENT_BYTES;
            if is_too_large {
                *text = Vec::new();
            } else {
                text.extend_from_slice(buffer.get(..taken).unwrap_or_default());
            }
            self.consume_counted(taken);
            if end.is_some() {
                return ended(is_too_large, true);
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

/// What a byte is to the object that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Inside,
    /// It closes the outermost bracket.
    Closing,
    /// It opens an object where JSON allows none: the one before lacks a bracket.
    NextObject,
}

/// Brackets that are open, looking past strings.
#[derive(Default)]
struct Depth {
    /// Whether each is an object's.
    open: Vec<bool>,
    /// Brackets within those, deeper than the service takes.
    deeper: u64,
    in_string: bool,
    escaped: bool,
    /// The last byte that is no white space, outside of strings.
    last: u8,
}

/// More than the service takes.
const MAX_DEPTH: usize = 256;

impl Depth {
    fn is_outside(&self) -> bool {
        self.open.is_empty() && !self.in_string
    }

    fn take(&mut self, byte: u8) -> Part {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return Part::Inside;
        }
        let last = self.last;
        if !byte.is_ascii_whitespace() {
            self.last = byte;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' if !self.may_open(last) => return Part::NextObject,
            b'{' | b'[' if self.open.len() < MAX_DEPTH => self.open.push(byte == b'{'),
            b'{' | b'[' => self.deeper += 1,
            b'}' | b']' if self.deeper > 0 => self.deeper -= 1,
            b'}' | b']' => {
                self.open.pop();
                if self.open.is_empty() {
                    return Part::Closing;
                }
            }
            _ => {}
        }
        Part::Inside
    }

    /// Whether an object may begin after this byte: as a value of the one around it, as an element, or as the first.
    fn may_open(&self, last: u8) -> bool {
        match self.open.last() {
            None => true,
            Some(_) if self.deeper > 0 => true,
            Some(true) => last == b':',
            Some(false) => matches!(last, b'[' | b','),
        }
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
    fn an_object_without_its_bracket_costs_no_event_but_itself() {
        let broken = "{\n  \"a\": 1\n}\n{\n  \"b\": {\"x\": 2}\n{\n  \"c\": 3\n}\n";
        let all = [("{\"a\":1}", 1), ("{\"b\":{\"x\":2}", 4), ("{\"c\":3}", 6)];
        let squeezed = |events: Vec<(String, u64)>| -> Vec<(String, u64)> {
            events.into_iter().map(|(text, line)| (text.replace(' ', ""), line)).collect()
        };
        assert_eq!(squeezed(events(broken)), expected(&all));
        let array = "[{\"a\":1},\n{\"b\":[{}],\n{\"c\":3},{\"d\":4}]";
        let all = [("{\"a\":1}", 1), ("{\"b\":[{}],", 2), ("{\"c\":3}", 3), ("{\"d\":4}", 3)];
        assert_eq!(events(array), expected(&all));
    }

    #[test]
    fn an_event_that_is_too_large_is_left_out_and_the_next_one_found() {
        let large = "x".repeat(MAX_EVENT_BYTES);
        for (text, line) in [
            (format!("{{\"a\":1}}\n{{\"b\":\"{large}\"}}\n{{\"c\":3}}\n"), 2),
            (format!("[{{\"a\":1}},\n{{\"b\":\"{large}\"}},\n{{\"c\":3}}]"), 2),
            (format!("{{\n\"a\":1}}\n{{\n\"b\":\"{large}\"}}\n{{\"c\":\n3}}"), 3),
        ] {
            let mut splitter = Splitter::new(BufReader::new(text.as_bytes()));
            assert!(splitter.next().unwrap().is_some());
            let error = splitter.next().unwrap_err();
            assert!(matches!(error, SplitError::TooLarge { line: found } if found == line), "{error:?}");
            assert!(splitter.next().unwrap().is_some_and(|(text, _)| text.starts_with(b"{\"c\"")));
            assert!(splitter.next().unwrap().is_none());
        }
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
