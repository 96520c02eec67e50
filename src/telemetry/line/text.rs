//! A line for people: time, level, message, and fields under short names.

use std::fmt::Write as _;
use std::time::SystemTime;

use log::kv::{Error as KvError, Key, Value, VisitSource, VisitValue};
use log::{Level, Record};

use super::escape::{Escaping, MAX_PART_BYTES, all, is_plain, write_float, write_integer, write_quoted};
use super::time::timestamp;
use super::visit_fields;

/// Lines of this crate need no target.
const OWN_TARGET: &str = env!("CARGO_CRATE_NAME");

pub(super) fn write(out: &mut Vec<u8>, cluster: &str, record: &Record<'_>, now: SystemTime) {
    out.extend_from_slice(&timestamp(now));
    out.extend_from_slice(match record.level() {
        Level::Error => b" ERROR ",
        Level::Warn => b" WARN  ",
        Level::Info => b" INFO  ",
        Level::Debug => b" DEBUG ",
        Level::Trace => b" TRACE ",
    });
    Escaping::new(out, false).write_args(*record.args());
    visit_fields(record, &mut Fields { out });
    if !record.target().starts_with(OWN_TARGET) {
        write_field(out, "target", record.target());
    }
    if !cluster.is_empty() {
        write_field(out, "cluster", cluster);
    }
}

/// Whether a byte of a name can stand as it is. Names are so short that to look each byte up is the fastest.
static PLAIN: [bool; 256] = {
    let (mut plain, mut byte) = ([false; 256], 0);
    while byte < plain.len() {
        plain[byte] = is_plain(byte as u8);
        byte += 1;
    }
    plain
};

struct Fields<'a> {
    out: &'a mut Vec<u8>,
}

impl<'k> VisitSource<'k> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'k>, value: Value<'k>) -> Result<(), KvError> {
        write_key(self.out, key.as_str());
        value.visit(Field { out: self.out })
    }
}

/// Bare where it can be, everything else in quotes.
struct Field<'a> {
    out: &'a mut Vec<u8>,
}

impl<'v> VisitValue<'v> for Field<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), KvError> {
        let mut text = String::new();
        // A `Display` that fails by itself costs its own text, not the line.
        let _ = write!(text, "{value}");
        self.visit_str(&text)
    }

    fn visit_str(&mut self, value: &str) -> Result<(), KvError> {
        write_value(self.out, value);
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), KvError> {
        write_integer(self.out, value);
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), KvError> {
        write_float(self.out, value);
        Ok(())
    }
}

fn write_field(out: &mut Vec<u8>, key: &str, value: &str) {
    write_key(out, key);
    write_value(out, value);
}

/// Whether all eight bytes are small letters, `_` or a backquote.
fn are_letters(bytes: u64) -> bool {
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES << 7;
    // A top bit stays where nothing has to be borrowed, and comes about where a byte goes beyond 127.
    let reach_the_first = ((bytes | TOPS) - ONES * u64::from(b'_')) & TOPS == TOPS;
    let pass_the_last = (bytes & !TOPS) + ONES * u64::from(127 - b'z');
    reach_the_first && (bytes | pass_the_last) & TOPS == 0
}

/// Names of fields are nearly all made of letters, and looked at eight bytes at a time.
fn is_plain_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let by_eight = (bytes.first_chunk(), bytes.last_chunk());
    let by_four = (bytes.first_chunk(), bytes.last_chunk());
    let is_made_of_letters = match (bytes.len(), by_eight, by_four) {
        (8..=16, (Some(first), Some(last)), _) => {
            are_letters(u64::from_le_bytes(*first)) && are_letters(u64::from_le_bytes(*last))
        }
        (4..=8, _, (Some(first), Some(last))) => {
            let [first, last] = [first, last].map(|half| u64::from(u32::from_le_bytes(*half)));
            are_letters(first << 32 | last)
        }
        _ => false,
    };
    is_made_of_letters || bytes.iter().all(|byte| PLAIN[usize::from(*byte)])
}

fn write_key(out: &mut Vec<u8>, key: &str) {
    out.push(b' ');
    // Names are short and plain, but for those that somebody else made.
    if key.len() <= MAX_PART_BYTES && is_plain_name(key) {
        out.extend_from_slice(key.as_bytes());
    } else {
        Escaping::new(out, true).write(key);
    }
    out.push(b'=');
}

fn write_value(out: &mut Vec<u8>, value: &str) {
    let is_bare = |b: u8| is_plain(b) && b != b' ' && b != b'=';
    if !value.is_empty() && value.len() <= MAX_PART_BYTES && all(value, is_bare) {
        return out.extend_from_slice(value.as_bytes());
    }
    write_quoted(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain_if_each_byte_of_it_is() {
        for length in 1..20 {
            assert!(is_plain_name(&"outcome_of_requests_z"[..length]));
            for (place, byte) in (0..length).flat_map(|place| (0..=127u8).map(move |byte| (place, byte))) {
                let mut name = vec![b'a'; length];
                name[place] = byte;
                let name = String::from_utf8(name).unwrap();
                assert_eq!(is_plain_name(&name), is_plain(byte), "{name:?}");
            }
        }
        assert!(!is_plain_name("größe_des_wertes"));
    }
}
