//! Blobs that go to Redis as they come in: how fast, what others notice, and what stays in memory.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command as Process, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::commands::Cache;
use crate::guard::scratch;
use crate::nginx::Nginx;
use crate::pace::{Paced, Window};
use crate::process::{memory_mib, reset_peak};
use crate::report::Bound::{AtLeast, AtMost};
use crate::report::{Figure, Row, Sample};
use crate::requests::{Command, KEYS, one_by_one, sets};
use crate::service::Service;

const LARGEST: usize = 512 << 20;
const LARGE: usize = 64 << 20;
const MANY: usize = 64;
const PAIRS: usize = 5;
const SETTLE: Duration = Duration::from_millis(300);

pub const LONG: &[Figure] =
    &[Figure { name: "blob-512m", unit: "MB/s", reference: "redis-cli -x", must: AtLeast(0.8), aim: AtLeast(1.0) }];

pub const BESIDE: &[Figure] = &[Figure {
    name: "set-p99-during-512m",
    unit: "µs p99",
    reference: "the same, nothing else",
    must: AtMost(2.0),
    aim: AtMost(1.5),
}];

pub const MEMORY: &[Figure] = &[
    Figure { name: "memory-512m", unit: "MiB over idle", reference: "", must: AtMost(24.0), aim: AtMost(16.0) },
    Figure { name: "memory-64-of-64m", unit: "MiB over idle", reference: "", must: AtMost(96.0), aim: AtMost(64.0) },
];

/// Megabytes in a second.
fn rate(bytes: usize, took: Duration) -> Sample {
    Sample::plain(bytes as f64 / 1e6 / took.as_secs_f64())
}

fn post(service: &Service, key: &str, url: String) {
    let event = Command::SetBlob(key.to_owned(), url).event();
    let answer = service.post("application/json", event.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

pub fn long(figures: &[&'static Figure]) -> Vec<Row> {
    let (redis, nginx) = (Cache::start(), Nginx::blobs(&[LARGEST]));
    let service = Service::streaming(&redis);
    let dir = scratch();
    let file: PathBuf = dir.path().join("value");
    File::create(&file).and_then(|file| file.set_len(LARGEST as u64)).expect("a file");
    let port = redis.port().to_string();
    let by_hand = || {
        let begun = Instant::now();
        let mut command = Process::new("redis-cli");
        command.args(["-p", &port, "-x", "SET", "by-hand"]).stdin(File::open(&file).expect("a file"));
        assert!(command.stdout(Stdio::null()).status().expect("redis-cli").success());
        rate(LARGEST, begun.elapsed())
    };
    let passed_on = || {
        let begun = Instant::now();
        post(&service, "passed-on", nginx.url(LARGEST));
        rate(LARGEST, begun.elapsed())
    };
    passed_on();
    by_hand();
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        redis.empty();
        ours.push(passed_on());
        redis.empty();
        reference.push(by_hand());
    }
    vec![Row { figure: figures[0], ours, reference }]
}

pub fn beside(figures: &[&'static Figure]) -> Vec<Row> {
    let (redis, nginx) = (Cache::start(), Nginx::blobs(&[LARGEST]));
    let service = Service::streaming(&redis);
    let bodies = one_by_one(&sets(KEYS));
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let load = Paced::start(service.address(), &bodies);
        thread::sleep(SETTLE);
        let begin = Instant::now();
        post(&service, "passed-on", nginx.url(LARGEST));
        let busy = Window { begin, end: Instant::now() };
        thread::sleep(SETTLE);
        let begin = Instant::now();
        thread::sleep(busy.length());
        let calm = Window { begin, end: Instant::now() };
        let latencies = load.stop();
        ours.push(Sample::plain(latencies.p99_us(&[busy])));
        reference.push(Sample::plain(latencies.p99_us(&[calm])));
    }
    vec![Row { figure: figures[0], ours, reference }]
}

pub fn memory(figures: &[&'static Figure]) -> Vec<Row> {
    // All of them take it four gigabytes.
    let redis = Cache::start();
    let nginx = Nginx::blobs(&[LARGE, LARGEST]);
    let measured = |name: &str, blobs: usize, size: usize| {
        let service = Service::streaming(&redis);
        post(&service, "warm", nginx.url(LARGE));
        reset_peak(service.pid());
        let idle = memory_mib(service.pid(), "VmRSS");
        thread::scope(|scope| {
            for number in 0..blobs {
                let (service, nginx) = (&service, &nginx);
                scope.spawn(move || post(service, &format!("{name}:{number}"), nginx.url(size)));
            }
        });
        Sample::plain(memory_mib(service.pid(), "VmHWM") - idle)
    };
    let row = |figure: &&'static Figure| {
        let (blobs, size) = if figure.name == "memory-512m" { (1, LARGEST) } else { (MANY, LARGE) };
        Row { figure, ours: vec![measured(figure.name, blobs, size)], reference: Vec::new() }
    };
    figures.iter().map(row).collect()
}
