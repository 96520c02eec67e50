//! What stays resident, and the most that ever was.

use std::thread;
use std::time::Duration;

use crate::batches::{BATCH, CONNECTIONS};
use crate::commands::{Cache, ask};
use crate::nginx::Nginx;
use crate::process::{memory_mib, reset_peak};
use crate::report::Bound::AtMost;
use crate::report::{Figure, Row, Sample};
use crate::requests::{Bodies, Command, KEYS, arrays, sets};
use crate::service::Service;
use crate::wrk::Load;

const EVENTS: f64 = 5_000_000.0;
const IDLE_FOR: Duration = Duration::from_secs(3);

const BLOBS: usize = 256;
const BLOB_BYTES: usize = 16 << 20;
/// `intake.max_in_flight_bytes` by default.
const ADMISSION_MIB: f64 = 256.0;

pub const IDLE: &[Figure] =
    &[Figure { name: "memory-idle", unit: "MiB", reference: "", must: AtMost(24.0), aim: AtMost(16.0) }];

pub const PEAK: &[Figure] = &[Figure {
    name: "memory-peak",
    unit: "MiB",
    reference: "intake.max_in_flight_bytes",
    must: AtMost(2.0),
    aim: AtMost(1.4),
}];

pub fn idle(figures: &[&'static Figure]) -> Vec<Row> {
    let redis = Cache::start();
    let service = Service::ours(&redis);
    let bodies = Bodies::json(&arrays(&sets(KEYS), BATCH));
    let load = Load { bodies: &bodies, connections: CONNECTIONS, events: BATCH };
    let mut events = 0.0;
    while events < EVENTS {
        events += load.measure_for(2, &service, &redis).events;
    }
    thread::sleep(IDLE_FOR);
    let resident = memory_mib(service.pid(), "VmRSS");
    vec![Row { figure: figures[0], ours: vec![Sample::plain(resident)], reference: Vec::new() }]
}

pub fn peak(figures: &[&'static Figure]) -> Vec<Row> {
    let (redis, nginx) = (Cache::start(), Nginx::blobs(&[BLOB_BYTES]));
    // All of them would take Redis four gigabytes.
    ask(&redis, &["CONFIG", "SET", "maxmemory", "1gb"]);
    ask(&redis, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let service = Service::ours(&redis);
    reset_peak(service.pid());
    let one = |number: usize| {
        let event = Command::SetBlob(format!("large:{number}"), nginx.url(BLOB_BYTES)).event();
        let mut wire = service.wire();
        thread::spawn(move || {
            wire.send_request("POST", "/events", &[("content-type", "application/json")], event.as_bytes());
            let answer = wire.answer();
            assert_eq!(answer.status, 200, "{}", answer.text());
        })
    };
    let posts: Vec<_> = (0..BLOBS).map(one).collect();
    posts.into_iter().for_each(|post| post.join().expect("every blob is stored"));
    let peak = memory_mib(service.pid(), "VmHWM");
    let reference = vec![Sample::plain(ADMISSION_MIB)];
    vec![Row { figure: figures[0], ours: vec![Sample::plain(peak)], reference }]
}
