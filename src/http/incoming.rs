//! What comes in on a connection, taken apart as far as need be to tell one request's bytes from the next one's.
//!
//! Promises: each byte is looked at once, as it comes, and none is copied but those of a line that is not whole. As long as a
//! request has no answer, nothing that lies behind it is let through: what is wrong with the next one cannot harm it.
//! What asks for another protocol is spoiled in passing (`Connection: Upgrade`, `Upgrade: h2c`), however it is cut into
//! pieces: it is to be ignored, and actix-http would end the connection behind it. What is not well-formed is let through:
//! actix-http refuses it, and that ends the connection.

use std::iter;
use std::ops::Range;

use memchr::memchr;

/// actix-http holds no more that it has not understood yet.
const MAX_LINE_BYTES: usize = 128 * 1024;

/// What is kept of a line between chunks or behind them: a size stands at its beginning, and actix-http keeps nothing of it.
const CHUNK_LINE_BYTES: usize = 32;

/// Bytes of blank lines that are no beginning of a head: some senders leave a few behind a body.
const FEW_BLANK_BYTES: usize = 16;

/// A longer line asks for nothing. One that comes byte by byte is looked at anew for each.
const MAX_ASKING_BYTES: usize = 1024;

#[derive(Debug, Default)]
pub struct HeadReader {
    next: Next,
    /// What has come of a line that is not whole.
    line: Vec<u8>,
    /// What has arrived of the head in progress.
    head: Option<Head>,
    /// Bytes of the last head that have arrived, with the blank lines before it: actix-http holds those, too.
    head_bytes: usize,
    /// Those lines are all that has come.
    is_blank: bool,
    /// A request has come whole as far as its head, and its answer has not left.
    awaits_answer: bool,
}

/// What the next byte belongs to.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Next {
    #[default]
    Head,
    /// So many bytes are still to come of it.
    Body(u64),
    /// The line with a chunk's size.
    ChunkSize,
    /// The same, and the line end behind them.
    Chunk(u64),
    /// Lines behind the last chunk, up to an empty one.
    Trailer,
    /// It is not known: nothing is looked at any more.
    Unknown,
}

/// What a head says of the body.
#[derive(Debug, Default)]
struct Head {
    /// None: it says so twice, or in no number.
    length: Option<u64>,
    has_length: bool,
    is_chunked: bool,
    /// It speaks of what is none of ours: `CONNECT`, or another coding than chunks.
    is_strange: bool,
}

impl HeadReader {
    /// Whether a part of a head has come, and not all of it.
    pub fn is_within_head(&self) -> bool {
        let is_begun = || self.head.is_some() || !self.line.is_empty();
        self.next == Next::Head && (is_begun() || self.is_blank && self.head_bytes > FEW_BLANK_BYTES)
    }

    /// Bytes of the last head, as far as it has come.
    pub fn head_bytes(&self) -> usize {
        self.head_bytes
    }

    /// Its request is over: what may still come of a body is not counted with it.
    pub fn forget_head(&mut self) {
        self.head_bytes = 0;
    }

    /// Whether what comes next has to wait for an answer.
    pub fn is_held(&self) -> bool {
        self.awaits_answer && self.next == Next::Head
    }

    /// The answer has left: the next request may come.
    pub fn answered(&mut self) {
        self.awaits_answer = false;
    }

    /// How many of these bytes may go on now. Those behind are another request's.
    pub fn take(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && !self.is_held() {
            let rest = &mut bytes[at..];
            at += match self.next {
                Next::Unknown => rest.len(),
                Next::Body(left) => self.pass(left, rest.len(), Next::Body, Next::Head),
                Next::Chunk(left) => self.pass(left, rest.len(), Next::Chunk, Next::ChunkSize),
                Next::Head | Next::ChunkSize | Next::Trailer => self.take_line(rest),
            };
        }
        at
    }

    /// Passes over bytes of which `left` are due.
    fn pass(&mut self, left: u64, here: usize, more: fn(u64) -> Next, then: Next) -> usize {
        let passed = usize::try_from(left).map_or(here, |left| left.min(here));
        self.next = match left - passed as u64 {
            0 => then,
            left => more(left),
        };
        passed
    }

    /// Takes a line, or the beginning of one; how many bytes that is.
    fn take_line(&mut self, bytes: &mut [u8]) -> usize {
        let (here, is_whole) = memchr(b'\n', bytes).map_or((bytes.len(), false), |end| (end + 1, true));
        let (bytes, before) = (&mut bytes[..here], self.line.len());
        if self.next == Next::Head {
            let begins = self.head.is_none() && before == 0 && !self.is_blank;
            self.head_bytes = if begins { here } else { self.head_bytes + here };
        }
        let most = if self.next == Next::Head { MAX_LINE_BYTES } else { CHUNK_LINE_BYTES };
        if before + here > most && self.next == Next::Head {
            self.lose();
            return here;
        }
        if before > 0 || !is_whole {
            self.line.extend_from_slice(&bytes[..here.min(most - before)]);
        }
        if self.head.is_some() {
            // What has gone on already cannot be spoiled any more: so a line that is not whole is looked at, too.
            for asked in asked_of(if before > 0 { &self.line } else { bytes }) {
                let (from, to) = (asked.start.saturating_sub(before), asked.end.saturating_sub(before));
                bytes[from..to].fill(b'x');
            }
        }
        if is_whole {
            let line = if before > 0 { std::mem::take(&mut self.line) } else { Vec::new() };
            self.end_line(if before > 0 { &line } else { bytes });
        }
        here
    }

    fn end_line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match (self.next, &mut self.head) {
            (Next::Head, None) if line.is_empty() => self.is_blank = true,
            (Next::Head, None) => {
                self.head = Some(Head::begin(line));
                self.is_blank = false;
            }
            (Next::Head, Some(head)) if line.is_empty() => {
                self.next = head.what_follows();
                self.head = None;
                self.awaits_answer = true;
            }
            (Next::Head, Some(head)) => head.field(line),
            (Next::ChunkSize, _) => match chunk_size(line) {
                Some(0) => self.next = Next::Trailer,
                // With the line end behind it.
                Some(size) => self.next = Next::Chunk(size + 2),
                None => self.lose(),
            },
            (Next::Trailer, _) if line.is_empty() => self.next = Next::Head,
            _ => {}
        }
    }

    fn lose(&mut self) {
        *self = HeadReader { next: Next::Unknown, ..HeadReader::default() };
    }
}

impl Head {
    fn begin(first: &[u8]) -> Self {
        Head { is_strange: first.starts_with(b"CONNECT "), ..Head::default() }
    }

    fn field(&mut self, line: &[u8]) {
        if !matches!(line, [b'c' | b'C' | b't' | b'T', ..]) {
            return;
        }
        let Some((name, value)) = memchr(b':', line).map(|colon| (&line[..colon], line[colon + 1..].trim_ascii()))
        else {
            return;
        };
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = str::from_utf8(value).ok().and_then(|value| value.parse().ok());
            self.length = length.filter(|_| !self.has_length);
            self.has_length = true;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.is_strange |= self.is_chunked || !value.eq_ignore_ascii_case(b"chunked");
            self.is_chunked = true;
        }
    }

    fn what_follows(&self) -> Next {
        match (self.has_length, self.is_chunked, self.length) {
            _ if self.is_strange => Next::Unknown,
            (false, true, _) => Next::ChunkSize,
            (true, true, _) | (true, false, None) => Next::Unknown,
            (true, false, Some(1..)) => Next::Body(self.length.unwrap_or_default()),
            (_, false, _) => Next::Head,
        }
    }
}

/// The size at the beginning of a chunk's first line; None: there is none, or more digits than are kept.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits >= CHUNK_LINE_BYTES {
        return None;
    }
    let size = u64::from_str_radix(str::from_utf8(&line[..digits]).ok()?, 16).ok()?;
    (size < u64::MAX - 2).then_some(size)
}

/// Where a line of a head asks for another protocol.
fn asked_of(line: &[u8]) -> Vec<Range<usize>> {
    // Most lines begin with something else.
    if !matches!(line, [b'c' | b'C' | b'u' | b'U', ..]) || line.len() > MAX_ASKING_BYTES {
        return Vec::new();
    }
    let Some(colon) = memchr(b':', line) else { return Vec::new() };
    let (name, value) = line.split_at(colon + 1);
    if name.eq_ignore_ascii_case(b"upgrade:") {
        let length = value.trim_ascii_end().len();
        let from = length - value[..length].trim_ascii_start().len();
        return iter::once(colon + 1 + from..colon + 1 + length).collect();
    }
    if !name.eq_ignore_ascii_case(b"connection:") {
        return Vec::new();
    }
    let mut at = colon + 1;
    let options = value.split(|byte| *byte == b',').map(|option| {
        let from = at + (option.len() - option.trim_ascii_start().len());
        at += option.len() + 1;
        (option.trim_ascii(), from)
    });
    let asking = options.filter(|(option, _)| option.eq_ignore_ascii_case(b"upgrade"));
    asking.map(|(option, from)| from..from + option.len()).collect()
}

#[cfg(test)]
mod tests;
