//! A reply as a whole.

use std::vec;

use bytes::Bytes;

use super::error_code::Code;
use super::reply::{Frame, Malformed};

/// Arrays inside of arrays, at most: `XREAD` and `XINFO STREAM FULL` have 5.
const MAX_DEPTH: usize = 16;

/// A reply to a command, or an element of an array.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `+OK` and other status lines, whose text is not kept.
    Status,
    /// An integer.
    Integer(i64),
    /// A string; one of less than 16 KiB shares no memory with others.
    Bulk(Bytes),
    /// No string, or no array: a key or an element that is not there, or a blocking read that brought nothing.
    Nil,
    /// The elements in their order.
    Array(Vec<Value>),
    /// The command was refused.
    Error(Code),
}

impl Value {
    /// The number, be it written as a string; None if it is none.
    pub fn number(&self) -> Option<i64> {
        match self {
            Value::Integer(number) => Some(*number),
            Value::Bulk(text) => str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// The string; None: it is none.
    pub fn text(&self) -> Option<&Bytes> {
        if let Value::Bulk(text) = self { Some(text) } else { None }
    }

    /// The elements; of anything else none.
    pub fn list(&self) -> &[Value] {
        if let Value::Array(list) = self { list } else { &[] }
    }

    /// Why the command was refused; None: it was not.
    pub fn as_error(&self) -> Option<&Code> {
        if let Value::Error(code) = self { Some(code) } else { None }
    }

    /// The replies to a pipeline. One that did not arrive as a whole is left out, with all behind it.
    ///
    /// # Errors
    /// Arrays deeper inside of each other than is read.
    pub(super) fn read_all(frames: Vec<Frame>) -> Result<Vec<Value>, Malformed> {
        let mut frames = frames.into_iter();
        let mut values = Vec::with_capacity(frames.len());
        while let Some(value) = read(&mut frames, MAX_DEPTH)? {
            values.push(value);
        }
        Ok(values)
    }
}

fn read(frames: &mut vec::IntoIter<Frame>, depth: usize) -> Result<Option<Value>, Malformed> {
    let Some(frame) = frames.next() else { return Ok(None) };
    let value = match frame {
        Frame::Status => Value::Status,
        Frame::Number(number) => Value::Integer(number),
        Frame::Text(text) => Value::Bulk(text),
        Frame::Nil => Value::Nil,
        Frame::Error(code) => Value::Error(code),
        Frame::Array(_) if depth == 0 => return Err(Malformed),
        Frame::Array(count) => {
            // What is still to come is at most what was read: a length that a server declares reserves nothing.
            let mut elements = Vec::with_capacity(count.min(frames.len()));
            for _ in 0..count {
                let Some(element) = read(frames, depth - 1)? else { return Ok(None) };
                elements.push(element);
            }
            Value::Array(elements)
        }
    };
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_put_together_and_what_is_not_whole_is_left_out() {
        let text = |text: &'static str| Frame::Text(Bytes::from_static(text.as_bytes()));
        let frames = vec![
            Frame::Array(2),
            Frame::Array(1),
            text("a"),
            Frame::Nil,
            Frame::Array(0),
            Frame::Number(7),
            Frame::Array(2),
            Frame::Status,
        ];
        let bulk = |text: &'static str| Value::Bulk(Bytes::from_static(text.as_bytes()));
        let whole =
            [Value::Array(vec![Value::Array(vec![bulk("a")]), Value::Nil]), Value::Array(vec![]), Value::Integer(7)];
        assert_eq!(Value::read_all(frames).as_deref(), Ok(&whole[..]));
        let deep = |depth| Value::read_all([vec![Frame::Array(1); depth], vec![Frame::Nil]].concat());
        assert!(deep(MAX_DEPTH).is_ok() && deep(MAX_DEPTH + 1).is_err());
    }
}
