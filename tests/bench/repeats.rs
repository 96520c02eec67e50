//! Notifications of objects that are stored already: how often their storage is asked.

use serde_json::{Value, json};

use crate::batches::BATCH;
use crate::commands::Cache;
use crate::report::Bound::AtMost;
use crate::report::{Figure, Row, Sample};
use crate::service::Service;
use crate::support::{Blob, BlobServer};

const OBJECTS: usize = 10_000;
/// Each object is told of so many times.
const TIMES: usize = 10;

pub const REPEATS: &[Figure] =
    &[Figure { name: "repeats", unit: "requests/event", reference: "", must: AtMost(0.1), aim: AtMost(0.1) }];

fn tag(path: &str) -> String {
    path.replace('/', "-")
}

fn record(number: usize) -> Value {
    let (key, etag) = (format!("n{number}"), tag(&format!("/photos/n{number}")));
    let object = json!({"key": key, "size": 9, "eTag": etag, "sequencer": format!("{:X}", 0x1000_0000 + number)});
    json!({"eventName": "ObjectCreated:Put", "eventTime": "2026-11-28T22:10:23.403Z", "s3": {"bucket": {"name": "photos"}, "object": object}})
}

pub fn repeats(figures: &[&'static Figure]) -> Vec<Row> {
    let (redis, blobs) = (Cache::start(), BlobServer::start());
    blobs.fallback(|path| Some(Blob::bytes(path).etag(&format!("\"{}\"", tag(path)))));
    let service = Service::with_store(&redis, blobs.url(""));
    let numbers: Vec<usize> = (0..OBJECTS).collect();
    for status in ["stored"].into_iter().chain(["unchanged"; TIMES - 1]) {
        for numbers in numbers.chunks(BATCH) {
            let records: Vec<Value> = numbers.iter().map(|number| record(*number)).collect();
            let body = json!({"Records": records}).to_string();
            let answer = service.post_to("/sources/photos", "application/json", body.as_bytes());
            let answer = answer.text();
            assert_eq!(answer.matches(&format!("\"status\":\"{status}\"")).count(), numbers.len(), "{answer}");
        }
    }
    let asked = blobs.targets().len() as f64 / (OBJECTS * TIMES) as f64;
    figures.iter().map(|figure| Row { figure, ours: vec![Sample::plain(asked)], reference: Vec::new() }).collect()
}
