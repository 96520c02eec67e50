//! A table with columns as events: each row of a CSV file (RFC 4180, a header line first) is one SET.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use csv::{ByteRecord, Reader, ReaderBuilder};
use serde_json::{Map, Value};

use super::event::InputPlace;
use super::made::{self, Made, MadeStep};
use super::split::MAX_EVENT_BYTES;

/// What the command line says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The CSV file, with a header line.
    pub path: PathBuf,
    /// The key of a row: text with `{column}` in it.
    pub key: String,
    /// The column that is the value. None: the whole row, as a JSON object.
    pub value: Option<String>,
    /// In seconds.
    pub ttl: Option<u32>,
}

/// The rows of an open table as events.
pub struct Rows<R> {
    name: Arc<str>,
    reader: Reader<R>,
    columns: Vec<String>,
    key: Vec<Part>,
    value: Option<usize>,
    ttl: Option<u32>,
    record: ByteRecord,
    /// Lines that the reader's count is behind: it takes the LF of a CRLF for the beginning of the next row.
    lag: u64,
}

enum Part {
    Text(String),
    Column(usize),
}

impl Table {
    /// # Errors
    /// Why its rows are of no use, for a person: no header, a column that it lacks.
    pub fn rows<R: Read>(&self, input: R) -> Result<Rows<R>, String> {
        let mut reader = ReaderBuilder::new().from_reader(input);
        let header = reader.byte_headers().map_err(|error| told(&error))?;
        let name =
            |field: &[u8]| String::from_utf8_lossy(field.strip_prefix(b"\xef\xbb\xbf").unwrap_or(field)).into_owned();
        let columns: Vec<String> = header.iter().map(name).collect();
        if columns.is_empty() {
            return Err("the first line must name the columns".to_owned());
        }
        let within: usize = columns.iter().map(|column| column.matches('\n').count()).sum();
        let lag = (within as u64 + 2).saturating_sub(reader.position().line());
        let find = |wanted: &str| {
            let lacks = || format!("there is no column {wanted:?}; there are {}", columns.join(", "));
            columns.iter().position(|column| column == wanted).ok_or_else(lacks)
        };
        let key = parts(&self.key, find)?;
        let value = self.value.as_deref().map(find).transpose()?;
        let name = self.path.display().to_string().into();
        Ok(Rows { name, reader, columns, key, value, ttl: self.ttl, record: ByteRecord::new(), lag })
    }
}

/// Whether the template of a key can be read, whatever the columns are.
///
/// # Errors
/// What is wrong with it.
pub fn check_template(text: &str) -> Result<(), String> {
    parts(text, |_| Ok(0)).map(drop)
}

fn parts(text: &str, find: impl Fn(&str) -> Result<usize, String>) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        let (column, behind) = behind.split_once('}').ok_or("a `{` without its `}`")?;
        parts.extend([Part::Text(before.to_owned()), Part::Column(find(column)?)]);
        rest = behind;
    }
    if parts.is_empty() {
        return Err("it names no column, such as user:{id}: all rows would have one key".to_owned());
    }
    parts.push(Part::Text(rest.to_owned()));
    Ok(parts)
}

/// An error says why the file cannot be read any further.
impl<R: Read> Iterator for Rows<R> {
    type Item = Result<MadeStep, String>;

    fn next(&mut self) -> Option<Self::Item> {
        // On which the row begins, from 1.
        let line = self.reader.position().line() + self.lag;
        let event = match self.reader.read_byte_record(&mut self.record) {
            Ok(false) => return None,
            Ok(true) => self.event(),
            Err(error) => match error.kind() {
                csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                    Err(format!("the row has {len} fields, the header {expected_len}"))
                }
                _ => return Some(Err(told(&error))),
            },
        };
        let place = InputPlace { file: self.name.clone(), line };
        let event = event.map_err(|why| (made::set_without_value("", &place.to_string()), why));
        Some(Ok(MadeStep::Made(Made { place, event })))
    }
}

impl<R: Read> Rows<R> {
    fn event(&self) -> Result<Bytes, String> {
        let field = |column: usize| self.record.get(column).unwrap_or_default();
        let mut key = String::new();
        for part in &self.key {
            match part {
                Part::Text(text) => key.push_str(text),
                Part::Column(column) => match std::str::from_utf8(field(*column)) {
                    Ok("") => return Err("a column of its key is empty".to_owned()),
                    Ok(text) => key.push_str(text),
                    Err(_) => return Err("a column of its key is not UTF-8".to_owned()),
                },
            }
        }
        let value = match self.value {
            Some(column) => field(column).to_vec(),
            None => self.as_object()?,
        };
        let text = made::set(&key, value, self.ttl);
        let is_small = text.len() <= MAX_EVENT_BYTES;
        is_small.then_some(text).ok_or_else(|| format!("more than {} MiB", MAX_EVENT_BYTES >> 20))
    }

    fn as_object(&self) -> Result<Vec<u8>, String> {
        let mut row = Map::new();
        for (column, field) in self.columns.iter().zip(&self.record) {
            let text = std::str::from_utf8(field)
                .map_err(|_| format!("column {column:?} is not UTF-8: name it with --value"))?;
            row.insert(column.clone(), Value::from(text));
        }
        serde_json::to_vec(&row).map_err(|error| error.to_string())
    }
}

fn told(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Io(error) => error.to_string(),
        _ => format!("it is no CSV: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(key: &str, value: Option<&str>) -> Table {
        Table { path: "t".into(), key: key.to_owned(), value: value.map(str::to_owned), ttl: None }
    }

    fn events(table: &Table, text: &str) -> Vec<(u64, Result<String, String>)> {
        let made = table.rows(text.as_bytes()).unwrap().map(|step| match step.unwrap() {
            MadeStep::Made(made) => made,
            MadeStep::Pause => panic!("rows follow at once"),
        });
        let text = |event: Bytes| String::from_utf8(event.to_vec()).unwrap();
        made.map(|made| (made.place.line, made.event.map(text).map_err(|(_, why)| why))).collect()
    }

    #[test]
    fn each_row_is_a_set_of_a_column_or_of_the_whole_row() {
        let text = "\u{feff}id,name,note\r\n7,\"Ada, \"\"A\"\"\",x\r\n8,\"two\nlines\",\n";
        let set =
            |key: &str, value: &str| format!(r#"{{"key":"SET","value":{{"data":{{"key":"{key}","value":{value}}}}}}}"#);
        let expected = [(2, Ok(set("user:7", r#""Ada, \"A\"""#))), (3, Ok(set("user:8", r#""two\nlines""#)))];
        assert_eq!(events(&table("user:{id}", Some("name")), text), expected);
        let whole = events(&table("{id}/{note}", None), text);
        assert_eq!(whole[0].1, Ok(set("7/x", r#""{\"id\":\"7\",\"name\":\"Ada, \\\"A\\\"\",\"note\":\"x\"}""#)));
        assert_eq!(whole[1].1, Err("a column of its key is empty".to_owned()));
    }

    #[test]
    fn what_is_wrong_with_a_table_is_said() {
        let faults = |table: &Table, text: &str| table.rows(text.as_bytes()).err().unwrap_or_default();
        assert_eq!(faults(&table("{no}", None), "a,b\n"), "there is no column \"no\"; there are a, b");
        assert_eq!(faults(&table("{a}", Some("c")), "a,b\n"), "there is no column \"c\"; there are a, b");
        assert!(faults(&table("{a}", None), "").contains("name the columns"));
        assert!(check_template("x").is_err() && check_template("{a").is_err() && check_template("{a}").is_ok());
        let rows = events(&table("{a}", Some("b")), "a,b\n1\n2,x\n");
        assert_eq!(rows[0], (2, Err("the row has 1 fields, the header 2".to_owned())));
        assert!(rows[1].1.is_ok());
    }
}
