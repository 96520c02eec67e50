//! An open loop at a modest, fixed rate: requests are due at their times whatever becomes of the earlier ones, and
//! latency counts from the time a request was due. One thread a connection: sleeping threads wake within a tenth of a
//! millisecond, an event loop's timers only to the millisecond.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::Wire;
use crate::support::http::request;

const CONNECTIONS: u32 = 16;
const PER_SECOND: u32 = 2000;

/// A stretch of time whose requests are looked at.
#[derive(Clone, Copy)]
pub struct Window {
    pub begin: Instant,
    pub end: Instant,
}

impl Window {
    pub fn length(self) -> Duration {
        self.end - self.begin
    }
}

/// A load that runs until it is stopped.
pub struct Paced {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Timed>>>,
}

/// When a request was due, and how long its answer took from then on.
struct Timed {
    due: Instant,
    latency: Duration,
}

/// Everything that a load has seen.
pub struct Latencies(Vec<Timed>);

impl Paced {
    /// Posts the bodies in turn.
    pub fn start(address: SocketAddr, bodies: &[String]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let requests: Arc<[Vec<u8>]> = bodies.iter().map(|body| prepared(body)).collect();
        let begin = Instant::now() + Duration::from_millis(20);
        let every = Duration::from_secs(1) * CONNECTIONS / PER_SECOND;
        let one = |number: u32| {
            let (stop, requests) = (stop.clone(), requests.clone());
            let first = begin + every * number / CONNECTIONS;
            thread::spawn(move || post_in_time(address, &requests, number as usize, first, every, &stop))
        };
        let threads = (0..CONNECTIONS).map(one).collect();
        Paced { stop, threads }
    }

    pub fn stop(mut self) -> Latencies {
        self.stop.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut self.threads).into_iter();
        Latencies(threads.flat_map(|thread| thread.join().expect("the load goes on")).collect())
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Latencies {
    /// The 99th percentile in microseconds of what was due within the windows.
    pub fn p99_us(&self, windows: &[Window]) -> f64 {
        let within = |timed: &&Timed| windows.iter().any(|w| (w.begin..w.end).contains(&timed.due));
        let mut latencies: Vec<Duration> = self.0.iter().filter(within).map(|timed| timed.latency).collect();
        assert!(latencies.len() >= 1000, "only {} requests in the windows", latencies.len());
        latencies.sort_unstable();
        latencies[latencies.len() * 99 / 100].as_secs_f64() * 1e6
    }
}

fn prepared(body: &str) -> Vec<u8> {
    request("POST", "/events", &[("content-type", "application/json")], body.as_bytes())
}

fn post_in_time(
    address: SocketAddr,
    requests: &[Vec<u8>],
    start: usize,
    first: Instant,
    every: Duration,
    stop: &AtomicBool,
) -> Vec<Timed> {
    let mut wire = Wire::open(address);
    let mut seen = Vec::new();
    let mut due = first;
    for at in (start..).step_by(CONNECTIONS as usize) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        wire.send(&requests[at % requests.len()]);
        let answer = wire.answer();
        assert_eq!(answer.status, 200, "{}", answer.text());
        seen.push(Timed { due, latency: due.elapsed() });
        due += every;
    }
    seen
}
