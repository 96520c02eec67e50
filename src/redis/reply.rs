//! What Redis answers, read with bounds.
//!
//! A server may be hostile or merely broken, so nothing that it declares is believed beyond a limit: not the length of
//! a string, not the number of elements. Arrays are not built up but handed out flat, a [`Frame::Array`] announcing
//! how many frames follow; so nesting costs no stack. Of an error only the code word is kept, and of a redirection where
//! it points: the text may repeat keys and arguments, and need not even be UTF-8.

use bytes::{Buf, Bytes, BytesMut};

use super::error::Error;
use super::error_code::Code;

/// A status or error line, at most.
const MAX_LINE_BYTES: usize = 16 * 1024;
/// A length or number with its type byte and line end, at most.
const MAX_HEADER_BYTES: usize = 32;
/// Elements of one array. `SCAN … COUNT 1000` brings a few thousand at the very most.
const MAX_ELEMENTS: usize = 1 << 18;
/// From this size on a string is handed out as a part of the read buffer, below as a copy that pins nothing.
const SHARED_FROM_BYTES: usize = 16 * 1024;
/// A buffer that grew beyond this is given up once it is empty.
const KEPT_BYTES: usize = 256 * 1024;
const READ_BYTES: usize = 16 * 1024;

/// One reply, or one element of an array.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Frame {
    /// `+OK` and other status lines.
    Status,
    Number(i64),
    Text(Bytes),
    Nil,
    /// So many frames follow as elements.
    Array(usize),
    Error(Code),
}

/// The server broke the protocol, or a limit.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("redis sent a reply that breaks the protocol or a limit")]
pub(crate) struct Malformed;

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Error::Unavailable(malformed.to_string().into())
    }
}

/// Bytes that were read and not yet taken as frames.
#[derive(Default)]
pub(crate) struct ReplyDecoder {
    buffer: BytesMut,
    missing: usize,
}

impl ReplyDecoder {
    /// The next frame, if all of it has been read; a string may have up to `max_bytes`.
    pub(crate) fn next(&mut self, max_bytes: usize) -> Result<Option<Frame>, Malformed> {
        let Some(&kind) = self.buffer.first() else {
            if self.buffer.capacity() > KEPT_BYTES {
                self.buffer = BytesMut::new();
            }
            return Ok(None);
        };
        let longest = if matches!(kind, b'+' | b'-') { MAX_LINE_BYTES } else { MAX_HEADER_BYTES };
        let Some(end) = self.line_end(longest)? else {
            return Ok(None);
        };
        let line = self.buffer.get(1..end).ok_or(Malformed)?;
        let frame = match kind {
            b'+' => Frame::Status,
            b'-' => Frame::Error(Code::from_line(line)),
            b':' => Frame::Number(number(line)?),
            b'*' => match number(line)? {
                -1 => Frame::Nil,
                count => Frame::Array(usize::try_from(count).ok().filter(|&n| n <= MAX_ELEMENTS).ok_or(Malformed)?),
            },
            b'$' => match number(line)? {
                -1 => Frame::Nil,
                length => {
                    let length = usize::try_from(length).ok().filter(|&n| n <= max_bytes).ok_or(Malformed)?;
                    return self.text(end + 2, length);
                }
            },
            _ => return Err(Malformed),
        };
        self.buffer.advance(end + 2);
        Ok(Some(frame))
    }

    /// Whether something was read that nobody asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer
    }

    /// Where to read to. Room for the rest of a string that has begun, so that it grows once and no further.
    pub(crate) fn room(&mut self) -> &mut BytesMut {
        self.buffer.reserve(self.missing.max(READ_BYTES));
        &mut self.buffer
    }

    fn line_end(&self, longest: usize) -> Result<Option<usize>, Malformed> {
        let seen = self.buffer.get(..longest).unwrap_or(&self.buffer);
        match seen.windows(2).position(|pair| pair == b"\r\n") {
            Some(end) => Ok(Some(end)),
            None if self.buffer.len() >= longest => Err(Malformed),
            None => Ok(None),
        }
    }

    fn text(&mut self, start: usize, length: usize) -> Result<Option<Frame>, Malformed> {
        let whole = start + length + 2;
        if self.buffer.len() < whole {
            self.missing = whole - self.buffer.len();
            return Ok(None);
        }
        self.missing = 0;
        let closed = self.buffer.get(start + length..whole) == Some(b"\r\n");
        let text = if length >= SHARED_FROM_BYTES {
            self.buffer.advance(start);
            let text = self.buffer.split_to(length).freeze();
            self.buffer.advance(2);
            text
        } else {
            let copy = Bytes::copy_from_slice(self.buffer.get(start..start + length).ok_or(Malformed)?);
            self.buffer.advance(whole);
            copy
        };
        if length > KEPT_BYTES && self.buffer.is_empty() {
            // Otherwise what is left of the buffer would keep the string's memory alive.
            self.buffer = BytesMut::new();
        }
        if closed { Ok(Some(Frame::Text(text))) } else { Err(Malformed) }
    }
}

fn number(line: &[u8]) -> Result<i64, Malformed> {
    std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], step: usize, max_bytes: usize) -> Result<Vec<Frame>, Malformed> {
        let mut decoder = ReplyDecoder::default();
        let mut frames = Vec::new();
        for chunk in bytes.chunks(step) {
            decoder.room().extend_from_slice(chunk);
            while let Some(frame) = decoder.next(max_bytes)? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn frames_come_out_the_same_however_the_bytes_arrive() {
        let large = vec![0xfe; SHARED_FROM_BYTES + 1];
        let mut bytes =
            b"+OK\r\n:-7\r\n$-1\r\n$0\r\n\r\n$4\r\na\r\n\0\r\n*2\r\n$1\r\n0\r\n*0\r\n-LOADING wait\r\n".to_vec();
        bytes.extend_from_slice(format!("${}\r\n", large.len()).as_bytes());
        bytes.extend_from_slice(&large);
        bytes.extend_from_slice(b"\r\n:1\r\n");
        let expected = vec![
            Frame::Status,
            Frame::Number(-7),
            Frame::Nil,
            Frame::Text(Bytes::new()),
            Frame::Text(Bytes::from_static(b"a\r\n\0")),
            Frame::Array(2),
            Frame::Text(Bytes::from_static(b"0")),
            Frame::Array(0),
            Frame::Error(Code::from_line(b"LOADING")),
            Frame::Text(large.into()),
            Frame::Number(1),
        ];
        for step in [1, 2, 3, 7, 1000, usize::MAX] {
            assert_eq!(all(&bytes, step, 1 << 20).as_ref(), Ok(&expected), "in steps of {step}");
        }
    }

    #[test]
    fn nothing_is_believed_beyond_its_limit() {
        let long_line = [b"-".as_slice(), &[b'x'; MAX_LINE_BYTES]].concat();
        for bytes in [
            b"$5\r\nabcde\r\n".as_slice(),
            b"$99999999999999999999\r\n",
            b"$-2\r\n",
            b"*-2\r\n",
            b"*999999999\r\n",
            b":1x\r\n",
            b":11111111111111111111111111111111111111",
            b"$1\r\nabc",
            b"%1\r\n",
            b"HTTP/1.1 400 Bad Request\r\n",
            &long_line,
        ] {
            assert_eq!(all(bytes, usize::MAX, 4), Err(Malformed), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
