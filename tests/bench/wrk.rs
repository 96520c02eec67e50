//! Load from wrk: a closed loop over some connections, each sending its next request with the answer to the last.

use std::process::Command;
use std::thread;

use crate::commands::Cache;
use crate::process::{Meter, run};
use crate::report::Sample;
use crate::requests::Bodies;
use crate::service::Service;
use crate::support::find_program;

/// With one thread wrk itself is the limit of the fastest reference; each takes a connection at least.
const THREADS: u32 = 2;
/// wrk takes whole seconds only; short ones, so that neighbours in time are compared.
const SECONDS: u32 = 1;

pub struct Load<'a> {
    pub bodies: &'a Bodies,
    pub connections: u32,
    /// In one body.
    pub events: usize,
}

pub struct Measured {
    pub events_per_second: f64,
    /// An event, of the service and Redis.
    pub cpu_us: f64,
    /// Of a request.
    pub median_us: f64,
    pub events: f64,
}

impl Measured {
    pub fn throughput(&self) -> Sample {
        Sample { value: self.events_per_second, cpu_us: Some(self.cpu_us) }
    }
}

/// What wrk itself saw of a service.
pub struct Seen {
    pub events: f64,
    events_per_second: f64,
    median_us: f64,
}

impl Load<'_> {
    pub fn measure(&self, service: &Service, redis: &Cache) -> Measured {
        self.measure_for(SECONDS, service, redis)
    }

    pub fn measure_for(&self, seconds: u32, service: &Service, redis: &Cache) -> Measured {
        let mut pids = service.pids();
        pids.push(redis.pid());
        let meter = Meter::start(&pids);
        let Seen { events, events_per_second, median_us } = self.run(seconds, service);
        Measured { events_per_second, cpu_us: meter.microseconds() / events, median_us, events }
    }

    /// The same load on each of these at once.
    pub fn on_all(&self, services: &[Service]) -> Vec<Seen> {
        thread::scope(|scope| {
            let runs: Vec<_> = services.iter().map(|service| scope.spawn(|| self.run(SECONDS, service))).collect();
            runs.into_iter().map(|run| run.join().expect("wrk ran")).collect()
        })
    }

    fn run(&self, seconds: u32, service: &Service) -> Seen {
        let wrk = find_program("wrk").expect("wrk is not installed: run `make bench`, which installs it");
        let threads = THREADS.min(self.connections).to_string();
        let [script, requests] = self.bodies.files();
        let mut command = Command::new(wrk);
        command
            .args(["-t", &threads, "-c", &self.connections.to_string(), "-d", &seconds.to_string()])
            .args(["--timeout", "10s", "-s"])
            .arg(script)
            .arg(format!("http://127.0.0.1:{}", service.port))
            .arg("--")
            .arg(requests)
            .arg(self.bodies.count().to_string());
        service.forget_log();
        let output = run(&mut command, None);
        let text = String::from_utf8_lossy(&output.stdout);
        let [requests, duration_us, failed, median_us] = figures(&text);
        let warnings = service.warnings();
        assert!(failed == 0.0 && requests > 0.0, "{}: requests failed\n{text}\n{warnings}", service.name);
        service.check();
        let events = requests * self.events as f64;
        Seen { events, events_per_second: events / duration_us * 1e6, median_us }
    }
}

/// From the line that the script prints in the end.
fn figures(text: &str) -> [f64; 4] {
    let line = text.lines().find_map(|line| line.strip_prefix("measured "));
    let numbers = line.map(|line| line.split(' ').filter_map(|word| word.parse().ok()).collect::<Vec<f64>>());
    numbers.and_then(|numbers| numbers.try_into().ok()).unwrap_or_else(|| panic!("wrk said:\n{text}"))
}
