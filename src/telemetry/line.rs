//! One log record as one line, in text or JSON. Pure: the clock is passed in.
//!
//! Promises: whatever a message or a field holds, the record stays one line, holds no control or direction-changing
//! character, and in JSON parses as one object in which no member is given twice by a field's name. Strings without
//! anything to escape, and numbers, take no detour over `fmt`: there is a line for every request.

mod escape;
mod json;
mod names;
mod text;
mod time;

use std::time::SystemTime;

use log::Record;
use log::kv::VisitSource;

/// `log_format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LineFormat {
    /// `key=value` text, for a person at a terminal.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// How lines look, for the life of the process.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    pub format: LineFormat,
    /// Stands on every line unless it is empty.
    pub cluster: String,
}

impl Layout {
    /// Appends the record and the line end.
    pub fn write(&self, out: &mut Vec<u8>, record: &Record<'_>, now: SystemTime) {
        match self.format {
            LineFormat::Text => text::write(out, &self.cluster, record, now),
            LineFormat::Json => json::write(out, &self.cluster, record, now),
        }
        out.push(b'\n');
    }
}

/// A field that cannot be visited costs itself, not the line.
fn visit_fields<'k>(record: &'k Record<'k>, visitor: &mut dyn VisitSource<'k>) {
    let _ = record.key_values().visit(visitor);
}

#[cfg(test)]
mod tests;
