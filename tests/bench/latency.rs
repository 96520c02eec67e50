//! What others notice while something heavy goes on: the 99th percentile of their latency, beside the same without.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use crate::commands::Cache;
use crate::pace::{Paced, Window};
use crate::patterns::Keys;
use crate::report::Bound::AtMost;
use crate::report::{Figure, Row, Sample};
use crate::requests::{Command, KEYS, one_by_one, sets};
use crate::service::Service;

const PAIRS: usize = 5;
/// Between a disturbance and the time that is compared with it.
const SETTLE: Duration = Duration::from_millis(150);
/// Deletes of one pair together: 3,000 requests of the others.
const DELETING: Duration = Duration::from_millis(1600);

const HANGING: usize = 64;
const HANG: Duration = Duration::from_secs(5);
/// Of the five seconds: from when all are surely under way until before the first ends.
const HANG_WINDOW: Duration = Duration::from_millis(4300);

pub const DURING_DELETE: &[Figure] = &[Figure {
    name: "get-p99-during-delete",
    unit: "µs p99",
    reference: "the same, nothing else",
    must: AtMost(2.5),
    aim: AtMost(1.5),
}];

pub const DURING_HANG: &[Figure] = &[Figure {
    name: "set-p99-during-hang",
    unit: "µs p99",
    reference: "the same, nothing else",
    must: AtMost(1.5),
    aim: AtMost(1.2),
}];

pub fn during_delete(figures: &[&'static Figure]) -> Vec<Row> {
    let (redis, keys) = (Cache::start(), Keys::new());
    keys.fill(&redis);
    let service = Service::ours(&redis);
    keys.sweep(&service);
    let gets: Vec<Command> = (0..10_000).map(|number| Command::Get(Keys::other(number))).collect();
    let bodies = one_by_one(&gets);
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let load = Paced::start(service.address(), &bodies);
        let (mut deleting, mut calm) = (Vec::new(), Vec::new());
        while deleting.iter().copied().map(Window::length).sum::<Duration>() < DELETING {
            keys.refill(&redis);
            thread::sleep(SETTLE);
            let begin = Instant::now();
            keys.sweep(&service);
            let window = Window { begin, end: Instant::now() };
            deleting.push(window);
            thread::sleep(SETTLE);
            calm.push(wait(window.length()));
        }
        let latencies = load.stop();
        ours.push(Sample::plain(latencies.p99_us(&deleting)));
        reference.push(Sample::plain(latencies.p99_us(&calm)));
    }
    vec![Row { figure: figures[0], ours, reference }]
}

pub fn during_hang(figures: &[&'static Figure]) -> Vec<Row> {
    let redis = Cache::start();
    let service = Service::ours(&redis);
    let (bodies, url) = (one_by_one(&sets(KEYS)), hanging_server());
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let load = Paced::start(service.address(), &bodies);
        thread::sleep(SETTLE);
        let calm = wait(HANG_WINDOW);
        let posts = post_hanging(&service, &url);
        thread::sleep(SETTLE);
        let hanging = wait(HANG_WINDOW);
        assert!(posts.iter().all(|post| !post.is_finished()), "a blob arrived before the window was over");
        posts.into_iter().for_each(|post| post.join().expect("a hanging blob arrives in the end"));
        let latencies = load.stop();
        ours.push(Sample::plain(latencies.p99_us(&[hanging])));
        reference.push(Sample::plain(latencies.p99_us(&[calm])));
    }
    vec![Row { figure: figures[0], ours, reference }]
}

fn wait(length: Duration) -> Window {
    let begin = Instant::now();
    thread::sleep(length);
    Window { begin, end: begin + length }
}

fn post_hanging(service: &Service, url: &str) -> Vec<thread::JoinHandle<()>> {
    let one = |number: usize| {
        let event = Command::SetBlob(format!("hanging:{number}"), url.to_owned()).event();
        let mut wire = service.wire();
        thread::spawn(move || {
            let begun = Instant::now();
            wire.send_request("POST", "/events", &[("content-type", "application/json")], event.as_bytes());
            let answer = wire.answer();
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(begun.elapsed() >= HANG, "a blob did not hang");
        })
    };
    (0..HANGING).map(one).collect()
}

/// Takes every request and answers five seconds later.
fn hanging_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it listens");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut head = [0; 4096];
                while stream.read(&mut head).is_ok_and(|count| count > 0) {
                    thread::sleep(HANG);
                    if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").is_err() {
                        return;
                    }
                }
            });
        }
    });
    format!("http://{address}/hangs")
}
