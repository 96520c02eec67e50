//! Blobs that go to Redis as they come in: how fast, what others notice, and what stays in memory.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command as Process, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

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
const BY_HAND: &str = "redis-cli -x";
const SETTLE: Duration = Duration::from_millis(300);
/// Longer than either takes to replace a value, since a stall counts by its share of the time.
const REPLACING: Duration = Duration::from_secs(5);

pub const LONG: &[Figure] =
    &[Figure { name: "blob-512m", unit: "MB/s", reference: BY_HAND, must: AtLeast(0.8), aim: AtLeast(1.0) }];

pub const BESIDE: &[Figure] = &[
    Figure {
        name: "set-p99-during-512m",
        unit: "µs p99",
        reference: "the same, nothing else",
        must: AtMost(2.0),
        aim: AtMost(1.5),
    },
    Figure { name: "set-p99-replacing-512m", unit: "µs p99", reference: BY_HAND, must: AtMost(1.0), aim: AtMost(0.8) },
];

pub const MEMORY: &[Figure] = &[
    Figure { name: "memory-512m", unit: "MiB over idle", reference: "", must: AtMost(24.0), aim: AtMost(16.0) },
    Figure { name: "memory-64-of-64m", unit: "MiB over idle", reference: "", must: AtMost(96.0), aim: AtMost(64.0) },
];

/// Megabytes in a second.
fn rate(bytes: usize, took: Duration) -> Sample {
    Sample::plain(bytes as f64 / 1e6 / took.as_secs_f64())
}

/// `redis-cli -x SET` of the longest value, from a file.
struct ByHand {
    port: String,
    file: PathBuf,
    _dir: TempDir,
}

impl ByHand {
    fn new(redis: &Cache) -> Self {
        let dir = scratch();
        let file = dir.path().join("value");
        File::create(&file).and_then(|file| file.set_len(LARGEST as u64)).expect("a file");
        ByHand { port: redis.port().to_string(), file, _dir: dir }
    }

    fn set(&self) {
        let mut command = Process::new("redis-cli");
        command.args(["-p", &self.port, "-x", "SET", "by-hand"]).stdin(File::open(&self.file).expect("a file"));
        assert!(command.stdout(Stdio::null()).status().expect("redis-cli").success());
    }
}

fn post(service: &Service, key: &str, url: String) {
    let event = Command::SetBlob(key.to_owned(), url).event();
    let answer = service.post("application/json", event.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

pub fn long(figures: &[&'static Figure]) -> Vec<Row> {
    let (redis, nginx) = (Cache::start(), Nginx::blobs(&[LARGEST]));
    let service = Service::streaming(&redis);
    let by_hand = ByHand::new(&redis);
    let passed_on = || {
        let begun = Instant::now();
        post(&service, "passed-on", nginx.url(LARGEST));
        rate(LARGEST, begun.elapsed())
    };
    let by_hand = || {
        let begun = Instant::now();
        by_hand.set();
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

/// A key that is new, and then one that holds as many bytes, which Redis has to give back.
pub fn beside(figures: &[&'static Figure]) -> Vec<Row> {
    let (redis, nginx) = (Cache::start(), Nginx::long_blobs(&[LARGEST]));
    let service = Service::streaming(&redis);
    let bodies = one_by_one(&sets(KEYS));
    let by_hand = ByHand::new(&redis);
    let mut rows: Vec<Row> =
        figures.iter().map(|figure| Row { figure, ours: Vec::new(), reference: Vec::new() }).collect();
    for _ in 0..PAIRS {
        redis.empty();
        let load = Paced::start(service.address(), &bodies);
        let window = |least: Duration, work: &dyn Fn()| {
            thread::sleep(SETTLE);
            let begin = Instant::now();
            work();
            thread::sleep(least.saturating_sub(begin.elapsed()));
            Window { begin, end: Instant::now() }
        };
        let passed_on = || post(&service, "passed-on", nginx.url(LARGEST));
        let new = window(Duration::ZERO, &passed_on);
        let calm = window(new.length(), &|| {});
        let again = window(REPLACING, &passed_on);
        by_hand.set();
        let again_by_hand = window(REPLACING, &|| by_hand.set());
        let latencies = load.stop();
        let p99 = |window| Sample::plain(latencies.p99_us(&[window]));
        let measured = [(p99(new), p99(calm)), (p99(again), p99(again_by_hand))];
        for row in &mut rows {
            let (ours, reference) = measured[usize::from(row.figure.reference == BY_HAND)];
            row.ours.push(ours);
            row.reference.push(reference);
        }
    }
    rows
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
