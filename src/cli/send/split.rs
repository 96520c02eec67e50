//! From the bytes of a file to its events, one at a time and in bounded memory.
//!
//! What a file holds is told by its content: `[` begins an array; a first line that is not yet a whole object, with no
//! new object on the next one, is an object spread over several lines; anything else is one event a line. Nothing is
//! parsed here beyond brackets and strings: what is wrong inside an event is for the service to say. An object that lacks
//! a bracket ends where the next one begins, which JSON allows nowhere, so it costs no event but itself.

mod brackets;

use std::io::{self, BufRead, BufReader, Read};

use bytes::Bytes;
use memchr::memchr;

use self::brackets::{Depth, Part};

/// Bytes of one event, at most.
pub const MAX_EVENT_BYTES: usize = 64 << 20;

/// An event as it is sent, on one line, and the line of the file on which it begins, from 1.
pub type EventLine = (Bytes, u64);

#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error(transparent)]
    Read(#[from] io::Error),
    /// This event is left out; the next call goes on behind it.
    #[error("an event of more than {} MiB: store large values by their URL", MAX_EVENT_BYTES >> 20)]
    TooLarge { line: u64 },
    #[error("line {line}: an event begins with `{{` or `[`; send a table with columns with --csv")]
    NoEvents { line: u64 },
    #[error("line {line}: the array must continue with `,` or `]`")]
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
    pub fn next(&mut self) -> Result<Option<EventLine>, InputError> {
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

    fn tell_form(&mut self) -> Result<(), InputError> {
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
                return Err(InputError::NoEvents { line: self.line });
            }
        };
        Ok(())
    }

    fn lines_or_objects(&mut self) -> Result<(), InputError> {
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

    fn next_line(&mut self) -> Result<Option<EventLine>, InputError> {
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

    fn next_object(&mut self) -> Result<Option<EventLine>, InputError> {
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

    fn next_element(&mut self, comma: bool) -> Result<Option<EventLine>, InputError> {
        match self.skip_space()? {
            None => return Err(InputError::Unclosed { line: self.line }),
            Some(b']') => {
                self.input.consume(1);
                self.form = Form::End;
                return match self.skip_space()? {
                    None => Ok(None),
                    Some(_) => Err(InputError::Trailing { line: self.line }),
                };
            }
            Some(b',') if comma => self.input.consume(1),
            Some(_) if comma => return Err(InputError::NoComma { line: self.line }),
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
            true if text.is_empty() => Err(InputError::Missing { line: start }),
            true => Ok(Some((on_one_line(text), start))),
            false => Err(InputError::Unclosed { line: self.line }),
        }
    }

    /// The next byte that is no white space, which stays.
    fn skip_space(&mut self) -> Result<Option<u8>, InputError> {
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
    fn read_line(&mut self, line: &mut Vec<u8>) -> Result<bool, InputError> {
        let mut is_too_large = false;
        loop {
            let buffer = self.input.fill_buf()?;
            let (taken, ends) = match memchr(b'\n', buffer) {
                Some(at) => (at + 1, true),
                None => (buffer.len(), false),
            };
            if taken == 0 && is_too_large {
                return Err(InputError::TooLarge { line: self.line });
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
                return if is_too_large { Err(InputError::TooLarge { line }) } else { Ok(true) };
            }
        }
    }

    /// Appends bytes until `go` ends it; whether it did before the end of the file.
    fn read_while(&mut self, text: &mut Vec<u8>, start: u64, mut go: impl FnMut(u8) -> Go) -> Result<bool, InputError> {
        let mut is_too_large = false;
        let ended = |is_too_large, by_go| match is_too_large {
            true => Err(InputError::TooLarge { line: start }),
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

/// A control character, which JSON's strings do not hold as it is.
const NO_CHARACTER: u8 = 0x1f;

/// Between JSON's tokens a blank does as well as a line end. Within a string JSON knows no line end, and what takes its place here is as
/// wrong: so the service refuses the event.
fn on_one_line(mut text: Vec<u8>) -> Bytes {
    let (mut in_string, mut is_escaped) = (false, false);
    for byte in &mut text {
        match *byte {
            b'\n' | b'\r' => (*byte, is_escaped) = (if in_string { NO_CHARACTER } else { b' ' }, false),
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = in_string,
            b'"' => in_string = !in_string,
            _ => {}
        }
    }
    Bytes::copy_from_slice(text.trim_ascii())
}

#[cfg(test)]
mod tests;
