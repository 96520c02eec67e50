//! W3C Trace Context: the trace that a request belongs to, as its caller says. Pure; the id of our own span is passed in.
//!
//! Owns the form of `traceparent` and `tracestate`. Promises: what is not valid by the specification is as good as absent,
//! what comes from a version that is not known yet is read as far as it is promised to stay, and what goes onward is
//! version 00. No trace is begun here: nothing in this service samples one.

use std::num::NonZeroU64;

/// Bytes of `tracestate`, at most; a longer one is dropped as a whole.
const MAX_STATE_BYTES: usize = 512;
/// `00-` trace id `-` span id `-` flags.
const LENGTH: usize = 55;
const TRACE_ID: std::ops::Range<usize> = 3..35;
const SPAN_ID: std::ops::Range<usize> = 36..52;
const FLAGS: std::ops::Range<usize> = 53..55;
/// Sampled, and whether the trace id is random. The others mean nothing yet, and must not be passed on.
const KNOWN_FLAGS: u8 = 0b11;

/// A request's place in a trace that somebody else began. Kept as text: that is how it is logged and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// With our own span.
    onward: [u8; LENGTH],
    parent: [u8; SPAN_ID.end - SPAN_ID.start],
    state: String,
}

impl Trace {
    /// None unless the header is valid.
    pub fn follow(traceparent: &[u8], span: NonZeroU64) -> Option<Trace> {
        let (known, rest) = traceparent.trim_ascii().split_first_chunk::<LENGTH>()?;
        let separated = [2, 35, 52].into_iter().all(|at| known.get(at) == Some(&b'-'));
        let (trace, parent) = (&known[TRACE_ID], &known[SPAN_ID]);
        let flags = hex_byte(&known[FLAGS])?;
        // A later version may have more to say, behind another dash.
        let ends_well = match hex_byte(&known[..2])? {
            0x00 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|next| *next == b'-'),
        };
        if !separated || !ends_well || !is_id(trace) || !is_id(parent) {
            return None;
        }
        let mut onward = *known;
        onward[..2].copy_from_slice(b"00");
        write_hex(&mut onward[SPAN_ID], span.get());
        write_hex(&mut onward[FLAGS], u64::from(flags & KNOWN_FLAGS));
        Some(Trace { onward, parent: parent.try_into().ok()?, state: String::new() })
    }

    /// Takes over `tracestate`, given as one header or as several.
    #[must_use]
    pub fn with_state<'a>(mut self, headers: impl Iterator<Item = &'a [u8]>) -> Trace {
        for header in headers {
            let is_readable = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t');
            let fits = self.state.len() + 1 + header.len() <= MAX_STATE_BYTES + usize::from(self.state.is_empty());
            let text = str::from_utf8(header).ok().filter(|text| fits && text.as_bytes().iter().all(is_readable));
            let Some(text) = text.map(str::trim) else {
                self.state.clear();
                return self;
            };
            if !self.state.is_empty() && !text.is_empty() {
                self.state.push(',');
            }
            self.state.push_str(text);
        }
        self
    }

    /// The trace's id, 32 lower-case hexadecimal digits: the log field `trace_id`.
    pub fn trace_id(&self) -> &str {
        self.part(TRACE_ID)
    }

    /// The span of this service's work for the request.
    pub fn span_id(&self) -> &str {
        self.part(SPAN_ID)
    }

    /// The span of the caller.
    pub fn parent_span_id(&self) -> &str {
        str::from_utf8(&self.parent).unwrap_or_default()
    }

    /// The trace's flags, two hexadecimal digits: `01` if the caller samples it.
    pub fn flags(&self) -> &str {
        self.part(FLAGS)
    }

    /// Whether the caller samples the trace.
    pub fn is_sampled(&self) -> bool {
        hex_byte(self.flags().as_bytes()).is_some_and(|flags| flags & 1 == 1)
    }

    /// `traceparent` of a request made on behalf of this one.
    pub fn traceparent(&self) -> &str {
        self.part(0..LENGTH)
    }

    /// `tracestate` of it; empty if there is none.
    pub fn tracestate(&self) -> &str {
        &self.state
    }

    fn part(&self, range: std::ops::Range<usize>) -> &str {
        str::from_utf8(&self.onward[range]).unwrap_or_default()
    }
}

/// Lower case alone, and not all zeros.
fn is_id(digits: &[u8]) -> bool {
    digits.iter().all(|digit| hex_digit(*digit).is_some()) && digits.iter().any(|digit| *digit != b'0')
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let [high, low] = digits else { return None };
    Some(hex_digit(*high)? << 4 | hex_digit(*low)?)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Writes as many of the lowest digits as there is room for.
fn write_hex(room: &mut [u8], mut number: u64) {
    for place in room.iter_mut().rev() {
        *place = b"0123456789abcdef"[(number & 0xf) as usize];
        number >>= 4;
    }
}

#[cfg(test)]
mod tests;
