//! What comes in on a connection, taken apart as far as need be to tell one request's bytes from the next one's.
//!
//! Promises: each byte is looked at once, as it comes, and none is copied but those of a line that is not whole. Behind a body
//! that is chunked nothing is known. What asks for another protocol is spoiled in passing (`Connection: Upgrade`,
//! `Upgrade: h2c`): it is to be ignored, and actix-http would end the connection behind it.

use std::mem;

use memchr::memchr;

/// actix-http holds no more that it has not understood yet.
const MAX_LINE_BYTES: usize = 128 * 1024;

#[derive(Debug, Default)]
pub struct Incoming {
    /// Heads that are whole, of requests that have not begun.
    heads: usize,
    next: Next,
    /// Of the head under way: what has come of a line that is not whole, and whether there were others before it.
    line: Vec<u8>,
    has_begun: bool,
    /// Of its body, as far as the head has told. None: that cannot be known.
    body_bytes: Option<u64>,
}

/// What the next byte belongs to.
#[derive(Debug, Default, PartialEq)]
enum Next {
    #[default]
    Head,
    /// So many bytes are still to come of it.
    Body(u64),
    Unknown,
}

impl Incoming {
    /// Whether anything has come that belongs to no request that has begun, as far as that is known.
    pub fn is_ahead(&self) -> bool {
        self.heads > 0 || self.has_begun || !self.line.is_empty()
    }

    /// A request has begun: its head has come whole.
    pub fn begin(&mut self) {
        match self.heads.checked_sub(1) {
            Some(left) => self.heads = left,
            None => self.lose(),
        }
    }

    /// No request is under way: what comes now can only be the beginning of one, unless something is known to be before it.
    pub fn expect_head(&mut self) {
        if self.next == Next::Unknown && self.heads == 0 {
            self.next = Next::Head;
        }
    }

    pub fn add(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            bytes = match &mut self.next {
                Next::Unknown => return,
                Next::Head => self.add_line(bytes),
                Next::Body(left) => {
                    let here = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    *left -= here as u64;
                    if *left == 0 {
                        self.next = Next::Head;
                    }
                    &mut bytes[here..]
                }
            };
        }
    }

    /// Takes a line, or the beginning of one. What is behind it.
    fn add_line<'a>(&mut self, bytes: &'a mut [u8]) -> &'a mut [u8] {
        let Some(end) = memchr(b'\n', bytes) else {
            if self.line.len() + bytes.len() > MAX_LINE_BYTES {
                self.lose();
            } else {
                self.line.extend_from_slice(bytes);
            }
            return &mut [];
        };
        let (here, behind) = bytes.split_at_mut(end + 1);
        if self.line.is_empty() {
            self.end_line(here);
        } else {
            let mut line = mem::take(&mut self.line);
            line.extend_from_slice(here);
            self.end_line(&mut line);
        }
        behind
    }

    fn end_line(&mut self, line: &mut [u8]) {
        match line {
            [b'\n'] | [b'\r', b'\n'] if self.has_begun => self.end_head(),
            // Before a head, blank lines are passed over.
            [b'\n'] | [b'\r', b'\n'] => {}
            _ if !self.has_begun => (self.has_begun, self.body_bytes) = (true, Some(0)),
            [b'c' | b'C' | b't' | b'T' | b'u' | b'U', ..] => self.field(line),
            _ => {}
        }
    }

    fn field(&mut self, line: &mut [u8]) {
        let Some(colon) = memchr(b':', line) else { return };
        let (name, value) = line.split_at_mut(colon);
        let value = &mut value[1..];
        if name.eq_ignore_ascii_case(b"content-length") {
            self.body_bytes = self.body_bytes.and_then(|_| str::from_utf8(value).ok()?.trim().parse().ok());
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.body_bytes = None;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            name[0] = b'x';
        } else if name.eq_ignore_ascii_case(b"connection") {
            let options = value.split_mut(|byte| *byte == b',');
            for option in options.filter(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade")) {
                option.iter_mut().filter(|byte| byte.is_ascii_alphabetic()).for_each(|byte| *byte = b'x');
            }
        }
    }

    fn end_head(&mut self) {
        self.heads += 1;
        self.has_begun = false;
        self.next = match self.body_bytes {
            None => Next::Unknown,
            Some(0) => Next::Head,
            Some(bytes) => Next::Body(bytes),
        };
    }

    fn lose(&mut self) {
        *self = Incoming { next: Next::Unknown, ..Incoming::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\n";

    fn incoming(sent: &[&[u8]]) -> Incoming {
        let mut incoming = Incoming::default();
        sent.iter().for_each(|bytes| incoming.add(&mut bytes.to_vec()));
        incoming
    }

    #[test]
    fn what_lies_beyond_a_request_is_known_however_it_comes() {
        let sent = [b"\r\n", HEAD, b"body", HEAD, b"body", b"POST"].concat();
        for cut in 1..sent.len() {
            let (first, second) = sent.split_at(cut);
            let mut incoming = incoming(&[first, second]);
            assert_eq!((incoming.heads, &*incoming.line), (2, &b"POST"[..]), "cut at {cut}");
            incoming.begin();
            incoming.begin();
            assert!(incoming.is_ahead(), "cut at {cut}");
        }
        let mut whole = incoming(&[&sent[..sent.len() - 4]]);
        whole.begin();
        assert!(whole.is_ahead());
        whole.begin();
        assert!(!whole.is_ahead());
    }

    #[test]
    fn behind_a_request_of_unknown_length_nothing_is_known_until_a_head_begins() {
        let chunked =
            b"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
        let mut incoming = incoming(&[chunked]);
        incoming.expect_head();
        assert_eq!((incoming.heads, &incoming.next), (1, &Next::Unknown), "its request has not begun yet");
        incoming.begin();
        incoming.add(&mut b"GET".to_vec());
        assert!(!incoming.is_ahead());
        incoming.expect_head();
        incoming.add(&mut b"GET".to_vec());
        assert!(incoming.is_ahead());
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let mut incoming = incoming(&[b"GET / HTTP/1.1\r\n"]);
        for _ in 0..=MAX_LINE_BYTES / 1024 {
            incoming.add(&mut [b'x'; 1024]);
        }
        assert_eq!((incoming.next, incoming.line.len()), (Next::Unknown, 0));
    }

    #[test]
    fn what_asks_for_another_protocol_is_spoiled_in_every_head_and_nothing_else_is() {
        let asking = "GET /upgrade HTTP/1.1\r\nuPGRADE: h2c\r\nConnection: keep-alive, UpGrade,close\r\nContent-Length: 7\r\n\r\n\
                      upgrade";
        let mut sent = asking.repeat(2).into_bytes();
        Incoming::default().add(&mut sent);
        let spoiled = asking.replace("uPGRADE", "xPGRADE").replace("UpGrade", "xxxxxxx");
        assert_eq!(String::from_utf8(sent).unwrap(), spoiled.repeat(2));
    }
}
