//! Notifications of S3, which say what is stored, beside native events that store the same with a version.

use serde_json::{Value, json};

use crate::batches::{BATCH, CONNECTIONS};
use crate::commands::Cache;
use crate::report::Bound::{AtLeast, AtMost};
use crate::report::{Figure, Row, Sample};
use crate::requests::{Bodies, KEYS, key};
use crate::service::Service;
use crate::wrk::{Load, Measured};

const PAIRS: usize = 7;
/// As many as are taken in a second: then they come again, and are late.
const EVENTS: usize = 200_000;
/// Of single ones.
const SINGLE_EVENTS: usize = 150_000;

pub const BATCHES: &[Figure] =
    &[Figure { name: "source-s3-batch", unit: "µs/event", reference: "native", must: AtMost(1.3), aim: AtMost(1.15) }];

pub const SINGLES: &[Figure] = &[Figure {
    name: "source-s3-single",
    unit: "events/s",
    reference: "native",
    must: AtLeast(0.9),
    aim: AtLeast(0.95),
}];

/// Later than any before it, of its key.
fn sequencer(number: usize) -> usize {
    1_795_903_463_933_850_106 + number
}

fn time(number: usize) -> String {
    format!("2026-11-28T22:10:{:02}.{:03}Z", number / 1000 % 60, number % 1000)
}

/// As AWS sends it.
fn record(number: usize) -> Value {
    json!({
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1", "eventTime": time(number),
        "eventName": "ObjectCreated:Put", "userIdentity": {"principalId": "AIDAJDPLRKLG7UEXAMPLE"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": "77427d92", "x-amz-id-2": "eftixk72aD6Ap51TnqcoF8eFidJG9Z/2"},
        "s3": {
            "s3SchemaVersion": "1.0", "configurationId": "cfg1",
            "bucket": {"name": "photos", "ownerIdentity": {"principalId": "A3NL1KOZZKExample"}, "arn": "arn:aws:s3:::photos"},
            "object": {
                "key": key(number % KEYS), "size": number, "eTag": "5d41402abc4b2a76b9719d911017c592",
                "sequencer": format!("{:X}", sequencer(number)),
            },
        },
    })
}

/// The event that stores the same.
fn native(number: usize) -> Value {
    let facts = json!({
        "bucket": "photos", "object": key(number % KEYS), "size": number, "etag": "5d41402abc4b2a76b9719d911017c592",
        "time": time(number),
    });
    let data = json!({"key": key(number % KEYS), "value": facts});
    json!({"key": "SET", "version": sequencer(number), "value": {"data": data}})
}

fn bodies(batch: usize, count: usize) -> [Bodies; 2] {
    let numbers: Vec<usize> = (0..count).collect();
    let all = |one: fn(usize) -> Value| -> Vec<Vec<Value>> {
        numbers.chunks(batch).map(|numbers| numbers.iter().map(|number| one(*number)).collect()).collect()
    };
    let notifications: Vec<String> =
        all(record).into_iter().map(|records| json!({"Records": records}).to_string()).collect();
    let events: Vec<String> = all(native).into_iter().map(|events| json!(events).to_string()).collect();
    [Bodies::json(&notifications).to("/sources/photos"), Bodies::json(&events)]
}

/// Both in turn, each on an empty Redis.
fn in_turn(
    figure: &'static Figure,
    (count, batch): (usize, usize),
    connections: u32,
    sample: fn(&Measured) -> Sample,
) -> Row {
    let redis = Cache::start();
    let service = Service::with_source(&redis);
    let bodies = bodies(batch, count);
    let measure = |bodies: &Bodies| {
        redis.empty();
        sample(&Load { bodies, connections, events: batch }.measure(&service, &redis))
    };
    for bodies in &bodies {
        measure(bodies);
    }
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..PAIRS {
        for (bodies, samples) in bodies.iter().zip(&mut samples) {
            samples.push(measure(bodies));
        }
    }
    let [ours, reference] = samples;
    Row { figure, ours, reference }
}

/// Processor time of the service and Redis.
pub fn batches(figures: &[&'static Figure]) -> Vec<Row> {
    let sample = |measured: &Measured| Sample::plain(measured.cpu_us);
    figures.iter().map(|figure| in_turn(figure, (EVENTS, BATCH), CONNECTIONS, sample)).collect()
}

pub fn singles(figures: &[&'static Figure]) -> Vec<Row> {
    figures.iter().map(|figure| in_turn(figure, (SINGLE_EVENTS, 1), 64, Measured::throughput)).collect()
}
