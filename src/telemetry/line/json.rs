//! A line for programs: one flat object by the names of OpenTelemetry, its log record's, its resources' and its attributes'.

use std::time::SystemTime;

use log::kv::{Error as KvError, Key, Value, VisitSource, VisitValue};
use log::{Level, Record};

use super::escape::{write_args, write_float, write_integer, write_quoted, write_quoted_args};
use super::names::{Name, RESERVED, otel};
use super::time::timestamp;
use super::visit_fields;

const SERVICE: &[u8] = concat!(
    ",\"service.name\":\"",
    env!("CARGO_PKG_NAME"),
    "\",\"service.version\":\"",
    env!("CARGO_PKG_VERSION"),
    "\",\"otel.scope.name\":"
)
.as_bytes();

pub(super) fn write(out: &mut Vec<u8>, cluster: &str, record: &Record<'_>, now: SystemTime) {
    out.extend_from_slice(b"{\"timestamp\":\"");
    out.extend_from_slice(&timestamp(now));
    out.extend_from_slice(match record.level() {
        Level::Error => b"\",\"severity_text\":\"ERROR\",\"severity_number\":17,\"body\":",
        Level::Warn => b"\",\"severity_text\":\"WARN\",\"severity_number\":13,\"body\":",
        Level::Info => b"\",\"severity_text\":\"INFO\",\"severity_number\":9,\"body\":",
        Level::Debug => b"\",\"severity_text\":\"DEBUG\",\"severity_number\":5,\"body\":",
        Level::Trace => b"\",\"severity_text\":\"TRACE\",\"severity_number\":1,\"body\":",
    });
    write_quoted_args(out, *record.args());
    out.extend_from_slice(SERVICE);
    write_quoted(out, record.target());
    if !cluster.is_empty() {
        out.extend_from_slice(b",\"k8s.cluster.name\":");
        write_quoted(out, cluster);
    }
    visit_fields(record, &mut Fields { out });
    out.push(b'}');
}

struct Fields<'a> {
    out: &'a mut Vec<u8>,
}

impl<'k> VisitSource<'k> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'k>, value: Value<'k>) -> Result<(), KvError> {
        match (otel(key.as_str()), key.as_str()) {
            (Name::As(name), _) => {
                self.out.extend_from_slice(b",\"");
                self.out.extend_from_slice(name.as_bytes());
                self.out.extend_from_slice(b"\":");
            }
            (Name::Own, key) => {
                self.out.push(b',');
                match RESERVED.contains(&key) {
                    true => write_quoted_args(self.out, format_args!("{key}_")),
                    false => write_quoted(self.out, key),
                }
                self.out.push(b':');
            }
            (Name::Parts(names), _) => {
                write_parts(self.out, names, &value.to_string());
                return Ok(());
            }
            (Name::Said, _) => return Ok(()),
        }
        value.visit(Field { out: self.out })
    }
}

/// A text that does not end in these numbers stands under the first name as a whole.
fn write_parts(out: &mut Vec<u8>, names: &[&str], text: &str) {
    let parts: Vec<&str> = text.rsplitn(names.len(), ':').collect();
    let is_number = |part: &&str| !part.is_empty() && part.len() < 10 && part.bytes().all(|b| b.is_ascii_digit());
    let is_whole = parts.len() < names.len() || !parts.iter().rev().skip(1).all(is_number);
    for (index, name) in names.iter().enumerate() {
        let part = match index {
            0 if is_whole => text,
            0 => parts.last().copied().unwrap_or_default().trim_start_matches('[').trim_end_matches(']'),
            _ if is_whole => return,
            _ => parts.iter().rev().nth(index).copied().unwrap_or_default(),
        };
        out.push(b',');
        write_quoted(out, name);
        out.push(b':');
        match index {
            0 => write_quoted(out, part),
            _ => write_integer(out, part.parse().unwrap_or_default()),
        }
    }
}

/// Numbers, booleans and null as such, everything else as a string.
struct Field<'a> {
    out: &'a mut Vec<u8>,
}

impl<'v> VisitValue<'v> for Field<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), KvError> {
        write_quoted_args(self.out, format_args!("{value}"));
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), KvError> {
        self.out.extend_from_slice(b"null");
        Ok(())
    }

    fn visit_str(&mut self, value: &str) -> Result<(), KvError> {
        write_quoted(self.out, value);
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), KvError> {
        write_integer(self.out, value);
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), KvError> {
        write_args(self.out, format_args!("{value}"));
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), KvError> {
        match value.is_finite() {
            true => write_float(self.out, value),
            false => write_quoted_args(self.out, format_args!("{value}")),
        }
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), KvError> {
        write_args(self.out, format_args!("{value}"));
        Ok(())
    }
}
