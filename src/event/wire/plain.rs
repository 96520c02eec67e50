//! The form that nearly all events have, read in one pass.
//!
//! Plain is an event that sets, reads or deletes one key and needs nothing decoded: its strings have no escapes, a SET has
//! a value that is a string or a URL, each member is there once and is one of those that are known. Any other text is no
//! plain event, for whatever reason; what it is then is found by who looks closely. So nothing here has to know of faults.

use std::ops::Range;

use memchr::memchr2;

use crate::event::EventType;

/// Where the parts of a plain event are in its text. Nothing is judged: lengths and numbers are as they were sent.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::event) struct PlainEvent {
    pub event: EventType,
    pub id: Option<Range<usize>>,
    pub version: Option<u64>,
    pub key: Range<usize>,
    /// What a SET stores; other events have none.
    pub source: Option<PlainSource>,
    pub ttl: Option<u32>,
}

/// Where what is to be stored comes from.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::event) enum PlainSource {
    Value(Range<usize>),
    Url(Range<usize>),
}

/// What `data` names.
struct Data {
    key: Range<usize>,
    source: Option<PlainSource>,
}

/// A place in a text.
pub(in crate::event) struct TextCursor<'a> {
    text: &'a [u8],
    pub at: usize,
}

impl PlainEvent {
    /// Reads the plain event at the cursor, if there is one; where the cursor is left otherwise says nothing.
    pub fn read(cursor: &mut TextCursor<'_>) -> Option<Self> {
        let start = cursor.at;
        let (mut event, mut id, mut version, mut value) = (None, None, None, None);
        cursor.object([r#""key":"#, r#""value":"#, r#""id":"#, r#""version":"#], |cursor, name| match name {
            0 => once(&mut event, cursor.event_type()),
            1 => once(&mut value, cursor.value()),
            2 => once(&mut id, cursor.string()),
            _ => once(&mut version, cursor.number()),
        })?;
        let (event, (data, ttl)) = (event?, value?);
        let is_set = event == EventType::Set;
        let from_start = |range: Range<usize>| range.start - start..range.end - start;
        (is_set == data.source.is_some()).then(|| PlainEvent {
            event,
            id: id.map(from_start),
            version,
            key: from_start(data.key),
            source: data.source.map(|source| match source {
                PlainSource::Value(value) => PlainSource::Value(from_start(value)),
                PlainSource::Url(url) => PlainSource::Url(from_start(url)),
            }),
            ttl,
        })
    }
}

impl<'a> TextCursor<'a> {
    pub fn new(text: &'a str) -> Self {
        TextCursor { text: text.as_bytes(), at: 0 }
    }

    /// Past white space and this byte, if that is what stands here.
    pub fn token(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Goes past white space; the byte that stands there.
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.text.get(self.at)? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    /// Whether there is nothing more but white space.
    pub fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// The members of an object of at least one, through `each`, which is told which of the `names` one has and reads its value. Names
    /// are given as they mostly stand in a text: one comparison then takes the place of a look at each byte.
    #[inline(always)]
    fn object<const N: usize>(
        &mut self,
        names: [&str; N],
        mut each: impl FnMut(&mut Self, usize) -> Option<()>,
    ) -> Option<()> {
        self.token(b'{')?;
        loop {
            let name = self.name(names)?;
            each(self, name)?;
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// Past a member's name and colon: which of these it is.
    #[inline(always)]
    fn name<const N: usize>(&mut self, names: [&str; N]) -> Option<usize> {
        self.peek()?;
        let rest = self.text.get(self.at..)?;
        for (number, name) in names.into_iter().enumerate() {
            if rest.starts_with(name.as_bytes()) {
                self.at += name.len();
                return Some(number);
            }
        }
        // There may be white space before the colon.
        let own = self.word()?;
        self.token(b':')?;
        names.into_iter().position(|name| name.as_bytes().get(1..name.len() - 2) == Some(own))
    }

    fn event_type(&mut self) -> Option<EventType> {
        match self.word()? {
            b"SET" => Some(EventType::Set),
            b"GET" => Some(EventType::Get),
            b"DELETE" => Some(EventType::Delete),
            _ => None,
        }
    }

    /// `data` and the `ttl` beside it.
    fn value(&mut self) -> Option<(Data, Option<u32>)> {
        let (mut data, mut ttl) = (None, None);
        self.object([r#""data":"#, r#""ttl":"#], |cursor, name| match name {
            0 => once(&mut data, cursor.data()),
            _ => once(&mut ttl, cursor.number().and_then(|seconds| u32::try_from(seconds).ok())),
        })?;
        Some((data?, ttl))
    }

    fn data(&mut self) -> Option<Data> {
        if self.peek()? == b'"' {
            let key = self.string()?;
            // It may be JSON once more.
            let may_be_json = matches!(self.text.get(key.clone())?.trim_ascii_start(), [b'{' | b'[', ..]);
            return (!may_be_json).then_some(Data { key, source: None });
        }
        let (mut key, mut source) = (None, None);
        self.object([r#""key":"#, r#""value":"#, r#""url":"#], |cursor, name| match name {
            0 => once(&mut key, cursor.string()),
            1 => once(&mut source, cursor.string().map(PlainSource::Value)),
            _ => once(&mut source, cursor.string().map(PlainSource::Url)),
        })?;
        Some(Data { key: key?, source })
    }

    /// What a string says that has no escapes.
    fn string(&mut self) -> Option<Range<usize>> {
        self.token(b'"')?;
        let start = self.at;
        let rest = self.text.get(start..)?;
        let end = memchr2(b'"', b'\\', rest)?;
        let inside = rest.get(..end)?;
        let is_whole = rest.get(end) == Some(&b'"') && least(inside) >= b' ';
        self.at += end + 1;
        is_whole.then_some(start..start + end)
    }

    /// The same, for one that is short.
    fn word(&mut self) -> Option<&'a [u8]> {
        self.token(b'"')?;
        let start = self.at;
        loop {
            let byte = *self.text.get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => return self.text.get(start..self.at - 1),
                b'a'..=b'z' | b'A'..=b'Z' => {}
                _ => return None,
            }
        }
    }

    /// A whole number without sign, fraction and exponent.
    fn number(&mut self) -> Option<u64> {
        self.peek()?;
        let rest = self.text.get(self.at..)?;
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = str::from_utf8(rest.get(..length)?).ok()?;
        let is_whole = matches!(rest.get(length)?, b',' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
        let is_json = is_whole && (length == 1 || !digits.starts_with('0'));
        self.at += length;
        digits.parse().ok().filter(|_| is_json)
    }
}

/// The least of all bytes, found for many of them at once: whether there are control characters costs no look at each.
pub(super) fn least(bytes: &[u8]) -> u8 {
    bytes.iter().fold(u8::MAX, |least, byte| least.min(*byte))
}

/// Puts what was read in its place; None if that is taken, or nothing was read.
fn once<T>(place: &mut Option<T>, read: Option<T>) -> Option<()> {
    match place {
        None => {
            *place = Some(read?);
            Some(())
        }
        Some(_) => None,
    }
}
