//! What hosts that hang cost the blobs of one that does not.

use std::thread;
use std::time::{Duration, Instant};

use crate::commands::Cache;
use crate::nginx::Nginx;
use crate::pace::{Paced, Window};
use crate::report::Bound::AtMost;
use crate::report::{Figure, Row, Sample};
use crate::requests::{Command, KEYS, one_by_one};
use crate::service::Service;
use crate::support::{HungHosts, PATIENCE, eventually};

const SAMPLES: usize = 5;
const HUNG_HOSTS: usize = 10_000;
const BLOB_BYTES: usize = 4 << 10;
const WINDOW: Duration = Duration::from_millis(1600);

pub const HUNG: &[Figure] = &[Figure {
    name: "blob-p99-beside-hung-hosts",
    unit: "µs p99",
    reference: "the same, nothing else",
    must: AtMost(2.0),
    aim: AtMost(1.3),
}];

/// One event for each of many hosts that answer nothing, all in one request; it is still under way when the last window ends.
pub fn beside_hung(figures: &[&'static Figure]) -> Vec<Row> {
    let (redis, nginx, hung) = (Cache::start(), Nginx::blobs(&[BLOB_BYTES]), HungHosts::start(HUNG_HOSTS));
    let service = Service::allowed(&redis, hung.allowed());
    let blob = |number: usize| Command::SetBlob(format!("blob:{number:05}"), nginx.url(BLOB_BYTES));
    let load = Paced::start(service.address(), &one_by_one(&(0..KEYS).map(blob).collect::<Vec<_>>()));
    thread::sleep(WINDOW);
    let calm = windows();
    let mut wire = service.wire();
    let events = hung.events(0..HUNG_HOSTS);
    wire.send_request("POST", "/events", &[("content-type", "application/x-ndjson")], events.as_bytes());
    assert!(eventually(PATIENCE, || hung.connections() > 0), "no host was asked");
    let beside = windows();
    let latencies = load.stop();
    assert_eq!(service.events("unavailable"), 0.0, "the hosts that hang were done with before the last window ended");
    let samples = |windows: &[Window]| {
        windows.iter().map(|window| Sample::plain(latencies.p99_us(std::slice::from_ref(window)))).collect()
    };
    vec![Row { figure: figures[0], ours: samples(&beside), reference: samples(&calm) }]
}

/// One after the other, from now on.
fn windows() -> Vec<Window> {
    let one = |_| {
        let begin = Instant::now();
        thread::sleep(WINDOW);
        Window { begin, end: Instant::now() }
    };
    (0..SAMPLES).map(one).collect()
}
