//! What patterns cost those that they do not concern: the service's other work, and Redis.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::commands::{Cache, ask};
use crate::pace::{Paced, Window};
use crate::patterns::Keys;
use crate::report::Bound::{AtLeast, AtMost};
use crate::report::{Figure, Row, Sample};
use crate::requests::{Command, KEYS, one_by_one, sets};
use crate::service::Service;

const PAIRS: usize = 5;
const MEASURED: Duration = Duration::from_secs(2);
const EVENTS: usize = 6;
const PATTERNS: usize = 64;
/// Keys on which a hostile pattern goes far before it fails.
const LONG_KEYS: usize = 20_000;
const PREVIEWING: Duration = Duration::from_millis(1600);

pub const RATE: &[Figure] = &[Figure {
    name: "set-1-beside-waiting-patterns",
    unit: "requests/s",
    reference: "the same, nothing else",
    must: AtLeast(0.8),
    aim: AtLeast(0.95),
}];

pub const STEP: &[Figure] =
    &[Figure { name: "longest-scan-step", unit: "ms of Redis", reference: "", must: AtMost(20.0), aim: AtMost(10.0) }];

pub const PREVIEW: &[Figure] = &[Figure {
    name: "get-p99-during-preview",
    unit: "µs p99",
    reference: "the same, nothing else",
    must: AtMost(4.0),
    aim: AtMost(2.0),
}];

/// Six events of 64 long patterns each wait behind one blob that does not come.
pub fn rate(figures: &[&'static Figure]) -> Vec<Row> {
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    let bodies = one_by_one(&sets(KEYS));
    for _ in 0..PAIRS {
        let redis = Cache::start();
        let service = Service::ours(&redis);
        post_one_by_one(&service, &bodies);
        reference.push(Sample::plain(post_one_by_one(&service, &bodies)));
        // Accepts connections and never answers.
        let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/blob", silent.local_addr().expect("it listens"));
        let blob = Command::SetBlob(format!("wait:{}", "a".repeat(900)), url).event();
        let patterns: Vec<String> = (0..PATTERNS).map(|number| format!("*a{}{number}*", "a*?".repeat(250))).collect();
        let pattern = json!({"key": "DELETE_PATTERN", "value": {"data": patterns}}).to_string();
        let first = json!({"key": "DELETE_PATTERN", "value": {"data": ["wait:*"]}}).to_string();
        let mut waiting = Vec::new();
        for event in [&blob, &first].into_iter().chain(std::iter::repeat_n(&pattern, EVENTS)) {
            let mut wire = service.wire();
            wire.send_request("POST", "/events", &[("content-type", "application/json")], event.as_bytes());
            waiting.push(wire);
            thread::sleep(Duration::from_millis(50));
        }
        ours.push(Sample::plain(post_one_by_one(&service, &bodies)));
        drop(waiting);
    }
    vec![Row { figure: figures[0], ours, reference }]
}

/// One connection, one request after the other: requests in a second.
fn post_one_by_one(service: &Service, bodies: &[String]) -> f64 {
    let (mut wire, begun) = (service.wire(), Instant::now());
    let mut done = 0;
    for body in bodies.iter().cycle() {
        wire.send_request("POST", "/events", &[("content-type", "application/json")], body.as_bytes());
        let answer = wire.answer();
        assert_eq!(answer.status, 200, "{}", answer.text());
        done += 1;
        if begun.elapsed() >= MEASURED {
            break;
        }
    }
    f64::from(done) / begun.elapsed().as_secs_f64()
}

/// One pattern that a matcher which goes back has much to do with, on long keys.
pub fn step(figures: &[&'static Figure]) -> Vec<Row> {
    let redis = Cache::start();
    let fill = "for i = 1, ARGV[1] do redis.call('SET', string.rep('a', 990) .. i, '') end";
    ask(&redis, &["EVAL", fill, "0", &LONG_KEYS.to_string()]);
    let service = Service::ours(&redis);
    let event = json!({"key": "DELETE_PATTERN", "value": {"data": format!("*{}b*", "a*".repeat(400))}}).to_string();
    ask(&redis, &["CONFIG", "SET", "slowlog-log-slower-than", "100"]);
    let longest = || {
        ask(&redis, &["SLOWLOG", "RESET"]);
        let answer = service.post("application/json", event.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        let log: Vec<redis::Value> = redis::cmd("SLOWLOG").arg("GET").arg(-1).query(&mut redis.conn()).expect("a log");
        let took_us = |entry: &redis::Value| match entry {
            redis::Value::Array(fields) => match fields.get(2) {
                Some(redis::Value::Int(us)) => *us,
                _ => 0,
            },
            _ => 0,
        };
        Sample::plain(log.iter().map(took_us).max().unwrap_or_default() as f64 / 1e3)
    };
    vec![Row { figure: figures[0], ours: (0..PAIRS).map(|_| longest()).collect(), reference: Vec::new() }]
}

pub fn preview(figures: &[&'static Figure]) -> Vec<Row> {
    let (redis, keys) = (Cache::start(), Keys::new());
    keys.fill(&redis);
    let service = Service::ours(&redis);
    let gets: Vec<Command> = (0..10_000).map(|number| Command::Get(Keys::other(number))).collect();
    let bodies = one_by_one(&gets);
    let event =
        json!({"key": "DELETE_PATTERN", "value": {"data": {"pattern": "other:*", "dry_run": true}}}).to_string();
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let load = Paced::start(service.address(), &bodies);
        let (mut previewing, mut calm) = (Vec::new(), Vec::new());
        while previewing.iter().copied().map(Window::length).sum::<Duration>() < PREVIEWING {
            let begin = Instant::now();
            let answer = service.post("application/json", event.as_bytes());
            assert_eq!(answer.status, 200, "{}", answer.text());
            let window = Window { begin, end: Instant::now() };
            previewing.push(window);
            thread::sleep(Duration::from_millis(150));
            let begin = Instant::now();
            thread::sleep(window.length());
            calm.push(Window { begin, end: Instant::now() });
        }
        let latencies = load.stop();
        ours.push(Sample::plain(latencies.p99_us(&previewing)));
        reference.push(Sample::plain(latencies.p99_us(&calm)));
    }
    vec![Row { figure: figures[0], ours, reference }]
}
