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

    /// Of what this service does for the request.
    pub fn span_id(&self) -> &str {
        self.part(SPAN_ID)
    }

    /// Of the caller.
    pub fn parent_span_id(&self) -> &str {
        str::from_utf8(&self.parent).unwrap_or_default()
    }

    /// The trace's flags, two hexadecimal digits: `01` if the caller samples it.
    pub fn flags(&self) -> &str {
        self.part(FLAGS)
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

/// As many of the lowest digits as there is room.
fn write_hex(room: &mut [u8], mut number: u64) {
    for place in room.iter_mut().rev() {
        *place = b"0123456789abcdef"[(number & 0xf) as usize];
        number >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const CALLER: &str = "00f067aa0ba902b7";

    fn follow(traceparent: &str) -> Option<Trace> {
        Trace::follow(traceparent.as_bytes(), NonZeroU64::new(0xb7ad_6b71_6920_3331).unwrap())
    }

    fn states(headers: &[&[u8]]) -> String {
        let trace = follow(&format!("00-{TRACE}-{CALLER}-01")).unwrap();
        trace.with_state(headers.iter().copied()).tracestate().to_owned()
    }

    #[test]
    fn a_valid_traceparent_is_followed_with_a_span_of_our_own() {
        let trace = follow(&format!("00-{TRACE}-{CALLER}-01")).unwrap();
        assert_eq!((trace.trace_id(), trace.parent_span_id()), (TRACE, CALLER));
        assert_eq!((trace.span_id(), trace.flags()), ("b7ad6b7169203331", "01"));
        assert_eq!(trace.traceparent(), format!("00-{TRACE}-b7ad6b7169203331-01"));
        let small = Trace::follow(trace.traceparent().as_bytes(), NonZeroU64::MIN).unwrap();
        assert_eq!((small.span_id(), small.parent_span_id()), ("0000000000000001", "b7ad6b7169203331"));
    }

    /// The cases of the specification's own test suite, and those that its text names.
    #[test]
    fn what_is_not_valid_is_as_good_as_absent() {
        let zeros = "0".repeat(32);
        for wrong in [
            String::new(),
            "00".into(),
            TRACE.into(),
            format!("00-{TRACE}-{CALLER}"),
            format!("00-{TRACE}-{CALLER}-"),
            format!("00-{TRACE}-{CALLER}-1"),
            format!("00-{TRACE}-{CALLER}-011"),
            format!("00-{TRACE}-{CALLER}-01-"),
            format!("00-{TRACE}-{CALLER}-01.what-the-future-will-be-like"),
            format!("00-{TRACE}-{CALLER}-01-what-the-future-will-be-like"),
            format!("ff-{TRACE}-{CALLER}-01"),
            format!("ff-{TRACE}-{CALLER}-01-more"),
            format!("FF-{TRACE}-{CALLER}-01"),
            format!("0-{TRACE}-{CALLER}-01"),
            format!("000-{TRACE}-{CALLER}-01"),
            format!(".0-{TRACE}-{CALLER}-01"),
            format!("0.-{TRACE}-{CALLER}-01"),
            format!("0G-{TRACE}-{CALLER}-01"),
            format!("CC-{TRACE}-{CALLER}-01"),
            format!("00-{zeros}-{CALLER}-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-{CALLER}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{}-01", CALLER.to_uppercase()),
            format!("00-.bf92f3577b34da6a3ce929d0e0e4736-{CALLER}-01"),
            format!("00-{TRACE}-.0f067aa0ba902b7-01"),
            format!("00-{TRACE}1-{CALLER}-01"),
            format!("00-{}-{CALLER}-01", &TRACE[1..]),
            format!("00-{TRACE}-{CALLER}1-01"),
            format!("00-{TRACE}-{}-01", &CALLER[1..]),
            format!("00-{TRACE}-{CALLER}-.0"),
            format!("00-{TRACE}-{CALLER}-0."),
            format!("00-{TRACE}-{CALLER}-0A"),
            format!("00_{TRACE}-{CALLER}-01"),
            format!("00-{TRACE}_{CALLER}-01"),
            format!("00-{TRACE}-{CALLER}_01"),
            format!("01-{TRACE}-{CALLER}"),
            format!("cc-{TRACE}-{CALLER}-01.what-the-future-will-be-like"),
            format!("cc-{TRACE}-{CALLER}-011"),
            format!("00-{TRACE}-{CALLER}-é1"),
        ] {
            assert_eq!(follow(&wrong), None, "{wrong}");
        }
        assert_eq!(Trace::follow(&[0xff; 55], NonZeroU64::MIN), None);
    }

    #[test]
    fn a_version_to_come_is_read_by_its_first_four_parts_and_goes_on_as_the_one_we_know() {
        for later in ["", "-", "-what-the-future-will-be-like", "-4bf92f35"] {
            let trace = follow(&format!("cc-{TRACE}-{CALLER}-01{later}")).unwrap();
            assert_eq!(trace.traceparent(), format!("00-{TRACE}-b7ad6b7169203331-01"), "{later}");
        }
    }

    #[test]
    fn flags_without_a_meaning_are_not_passed_on() {
        for (given, onward) in [("00", "00"), ("01", "01"), ("02", "02"), ("03", "03"), ("ff", "03"), ("fc", "00")] {
            assert_eq!(follow(&format!("00-{TRACE}-{CALLER}-{given}")).unwrap().flags(), onward, "{given}");
        }
    }

    #[test]
    fn white_space_around_the_value_is_none_of_it() {
        assert_eq!(follow(&format!(" \t00-{TRACE}-{CALLER}-01\t ")), follow(&format!("00-{TRACE}-{CALLER}-01")));
    }

    #[test]
    fn a_tracestate_goes_on_as_it_came_and_several_as_one() {
        assert_eq!(states(&[]), "");
        assert_eq!(states(&[b""]), "");
        assert_eq!(states(&[b"foo=1 \t , \t bar=2"]), "foo=1 \t , \t bar=2");
        assert_eq!(states(&[b"foo=1", b"", b"bar=2,rojo=00f067aa0ba902b7"]), "foo=1,bar=2,rojo=00f067aa0ba902b7");
        let longest = "x".repeat(512);
        assert_eq!(states(&[longest.as_bytes()]), longest);
    }

    #[test]
    fn a_tracestate_beyond_all_bounds_or_that_nobody_could_read_is_dropped() {
        let (half, long) = ("x".repeat(256), "x".repeat(513));
        for wrong in [&[long.as_bytes()][..], &[half.as_bytes(), half.as_bytes()], &[b"a=1", b"b=\xff"], &[b"a=\x7f"]] {
            assert_eq!(states(wrong), "");
        }
    }
}
