//! The head of a response, as far as it decides where the body ends and whether awc sees it.

use std::io;
use std::rc::Rc;

use super::broken;
use crate::blob::aside::Aside;
use crate::event::EntityTag;

/// Headers that most responses stay below, and awc's parser too.
const FEW_HEADERS: usize = 96;
/// Headers of a response, at most.
const MAX_HEADERS: usize = 4096;
/// The headers that somebody looks at.
const KEPT_HEADERS: [&str; 7] =
    ["connection", "content-encoding", "content-length", "etag", "location", "retry-after", "transfer-encoding"];

/// What an end of the connection means now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// The body ends with it.
    Proper,
    /// The body was cut short.
    Early,
    /// Nothing more is to be read, whatever comes.
    Now,
}

/// What decides where a body ends.
#[derive(Default)]
pub struct Head {
    minor_version: u8,
    status: u16,
    has_length: bool,
    has_coding: bool,
    chunked: bool,
    is_encoded: bool,
    closes: bool,
    keeps_alive: bool,
    /// What the one length says.
    length: Option<usize>,
    /// What a body that goes past awc is called.
    etag: Option<EntityTag>,
}

impl Head {
    /// A whole head; and what awc gets in its place if it has more headers than awc's parser holds.
    pub fn parse(bytes: &[u8]) -> io::Result<(Head, Option<Vec<u8>>)> {
        let mut few = [httparse::EMPTY_HEADER; FEW_HEADERS];
        let mut response = httparse::Response::new(&mut few);
        match lenient().parse_response(&mut response, bytes) {
            Ok(parsed) if parsed.is_complete() => Ok((Head::of(&response)?, None)),
            Err(httparse::Error::TooManyHeaders) => {
                let mut many = vec![httparse::EMPTY_HEADER; MAX_HEADERS];
                let mut response = httparse::Response::new(&mut many);
                match lenient().parse_response(&mut response, bytes) {
                    Ok(parsed) if parsed.is_complete() => Ok((Head::of(&response)?, Some(shortened(&response)))),
                    _ => Err(broken("the answer is not HTTP")),
                }
            }
            _ => Err(broken("the answer is not HTTP")),
        }
    }

    fn of(response: &httparse::Response<'_, '_>) -> io::Result<Head> {
        let (Some(minor_version), Some(status)) = (response.version, response.code) else {
            return Err(broken("the answer is not HTTP"));
        };
        let mut head = Head { minor_version, status, ..Head::default() };
        for header in response.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                head.length = if head.has_length { None } else { length(header.value) };
                head.has_length = true;
            } else if header.name.eq_ignore_ascii_case("etag") {
                head.etag = std::str::from_utf8(header.value).ok().and_then(EntityTag::parse);
            } else if header.name.eq_ignore_ascii_case("content-encoding") {
                head.is_encoded = true;
            } else if header.name.eq_ignore_ascii_case("connection") {
                let says = |what: &[u8]| {
                    header.value.split(|b| *b == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(what))
                };
                head.closes |= says(b"close");
                head.keeps_alive |= says(b"keep-alive");
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                let coding = header.value.trim_ascii();
                head.chunked = coding.eq_ignore_ascii_case(b"chunked");
                if head.has_coding || !(head.chunked || coding.eq_ignore_ascii_case(b"identity")) {
                    return Err(broken("the Transfer-Encoding is not supported"));
                }
                head.has_coding = true;
            }
        }
        Ok(head)
    }

    /// Whether the answer is still to come. After a switch of protocols (101), for which nobody asked, none is.
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// Says what the connection's end will mean, and alters the head where awc would draw the wrong conclusion.
    pub fn prepare(&self, bytes: &mut [u8]) -> io::Result<ConnectionEnd> {
        if self.status < 200 {
            return Ok(ConnectionEnd::Now);
        }
        if self.minor_version == 0 && self.has_coding {
            return Err(broken("the response is HTTP/1.0 but chunked"));
        }
        if self.chunked || self.has_length || matches!(self.status, 204 | 304) {
            return Ok(ConnectionEnd::Early);
        }
        // awc reads to the end of the connection under HTTP/1.0 alone.
        if let Some(front) = bytes.first_chunk_mut() {
            *front = *b"HTTP/1.0";
        }
        Ok(ConnectionEnd::Proper)
    }

    /// Where the body is to go, if it can be read past awc.
    pub fn aside(&self) -> Option<Rc<Aside>> {
        let length = self.length.filter(|length| *length > 0)?;
        let fits = self.status == 200 && !self.has_coding && !self.is_encoded;
        fits.then(|| Rc::new(Aside::new(length, self.etag.clone())))
    }

    fn is_last(&self) -> bool {
        self.closes || (self.minor_version == 0 && !self.keeps_alive)
    }

    /// What awc gets in place of a 304, which tells the length of a body that does not come: awc would wait for it.
    pub fn not_modified(&self) -> Option<&'static [u8]> {
        let stand_in: &[u8] = match self.is_last() {
            false => b"HTTP/1.1 304 -\r\n\r\n",
            true => b"HTTP/1.1 304 -\r\nconnection: close\r\n\r\n",
        };
        (self.status == 304).then_some(stand_in)
    }

    /// All that awc has to know of such a response: whether there is more to come, and whether the connection can be used
    /// again. Nobody asks for its other headers, so awc need not take them apart.
    pub fn stand_in(&self, is_whole: bool) -> &'static [u8] {
        match (is_whole, self.is_last()) {
            (true, false) => b"HTTP/1.1 200 OK\r\n\r\n",
            (true, true) => b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n",
            (false, false) => b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n",
            (false, true) => b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\n",
        }
    }
}

/// The head with the headers alone that somebody looks at.
fn shortened(response: &httparse::Response<'_, '_>) -> Vec<u8> {
    let (minor, status) = (response.version.unwrap_or(1), response.code.unwrap_or_default());
    let mut short = format!("HTTP/1.{minor} {status:03} -\r\n").into_bytes();
    let is_kept =
        |header: &&httparse::Header<'_>| KEPT_HEADERS.iter().any(|kept| header.name.eq_ignore_ascii_case(kept));
    for header in response.headers.iter().filter(is_kept) {
        short.extend_from_slice(header.name.as_bytes());
        short.extend_from_slice(b": ");
        short.extend_from_slice(header.value);
        short.extend_from_slice(b"\r\n");
    }
    short.extend_from_slice(b"\r\n");
    short
}

/// A length that is written in digits alone.
fn length(value: &[u8]) -> Option<usize> {
    let digits = value.trim_ascii();
    let is_number = digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

fn lenient() -> httparse::ParserConfig {
    let mut config = httparse::ParserConfig::default();
    config.allow_spaces_after_header_name_in_responses(true);
    config
}
