//! A line for people: time, level, message, and fields under short names.

use std::fmt::Write as _;
use std::time::SystemTime;

use log::kv::{Error as KvError, Key, Value, VisitSource, VisitValue};
use log::{Level, Record};

use super::escape::{Escaping, is_bare, write_float, write_integer, write_quoted};
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
    let is_own = record.target().starts_with(OWN_TARGET);
    visit_fields(record, &mut Fields { out, is_own });
    if !is_own {
        write_key(out, "target");
        write_value(out, record.target());
    }
    if !cluster.is_empty() {
        write_key(out, "cluster");
        write_value(out, cluster);
    }
}

struct Fields<'a> {
    out: &'a mut Vec<u8>,
    /// The names of the fields are those in our source.
    is_own: bool,
}

impl<'k> VisitSource<'k> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'k>, value: Value<'k>) -> Result<(), KvError> {
        match self.is_own {
            true => write_key(self.out, key.as_str()),
            false => write_foreign_key(self.out, key.as_str()),
        }
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

fn write_key(out: &mut Vec<u8>, key: &str) {
    out.push(b' ');
    out.extend_from_slice(key.as_bytes());
    out.push(b'=');
}

fn write_foreign_key(out: &mut Vec<u8>, key: &str) {
    out.push(b' ');
    Escaping::new(out, true).write(key);
    out.push(b'=');
}

fn write_value(out: &mut Vec<u8>, value: &str) {
    if is_bare(value) {
        return out.extend_from_slice(value.as_bytes());
    }
    write_quoted(out, value);
}
