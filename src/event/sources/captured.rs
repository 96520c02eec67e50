//! Requests as real senders made them: what the tests of the formats read. Where they come from says
//! `tests/payloads/README.md`.

use super::{Format, Headers, Message, Parsed, SourceFault, parse};

/// Elements that a notification may have.
pub(super) const MAX_ELEMENTS: usize = 1000;

/// A request, taken apart.
pub(super) struct Captured {
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Headers for Captured {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_slice())
    }
}

impl Captured {
    /// The request of this file of `tests/payloads/`.
    pub fn named(name: &str) -> Self {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/payloads").join(name);
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let lines = bytes[..end].split(|byte| *byte == b'\n').skip(1);
        let header = |line: &[u8]| {
            let colon = line.iter().position(|byte| *byte == b':').expect("a header");
            let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
            (name, line[colon + 1..].trim_ascii().to_vec())
        };
        Captured { headers: lines.map(header).collect(), body: bytes[end + 4..].to_vec() }
    }

    pub fn new(headers: &[(&str, &str)], body: &[u8]) -> Self {
        let header = |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
        Captured { headers: headers.iter().map(header).collect(), body: body.to_vec() }
    }

    pub fn with(mut self, name: &str, value: &[u8]) -> Self {
        self.headers.push((name.to_owned(), value.to_vec()));
        self
    }

    pub fn parse(&self, format: Format) -> Result<Parsed<'_>, SourceFault> {
        parse(format, &Message { headers: self, body: &self.body, max_elements: MAX_ELEMENTS })
    }
}
