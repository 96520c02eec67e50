//! Redis's own tools as references, and what is asked of Redis itself.

use std::ops::Deref;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::guard;
use crate::process::{Meter, ended_children, run};
use crate::report::Sample;
use crate::requests::Piped;
use crate::support::Redis;

/// The redis-server of a figure.
pub struct Cache {
    redis: Redis,
    pid: u32,
}

impl Cache {
    pub fn start() -> Self {
        let redis = Redis::start();
        let info: String = redis::cmd("INFO").arg("server").query(&mut redis.conn()).expect("INFO");
        let pid = info.lines().find_map(|line| line.strip_prefix("process_id:"));
        let pid = pid.and_then(|pid| pid.trim().parse().ok()).expect("a process id");
        guard::started(pid);
        Cache { redis, pid }
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Nothing is in it, and its memory is given back: what comes is new to it.
    pub fn empty(&self) {
        ask(self, &["FLUSHALL", "SYNC"]);
        ask(self, &["MEMORY", "PURGE"]);
    }
}

impl Deref for Cache {
    type Target = Redis;

    fn deref(&self) -> &Redis {
        &self.redis
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.redis.kill();
        guard::ended(self.pid);
    }
}

pub fn ask(redis: &Cache, words: &[&str]) {
    let mut command = redis::cmd(words[0]);
    words[1..].iter().for_each(|word| {
        command.arg(*word);
    });
    command.exec(&mut redis.conn()).unwrap_or_else(|error| panic!("{words:?}: {error}"));
}

/// `redis-cli --pipe`, from its start to its end: commands in a second.
pub fn pipe(redis: &Cache, piped: &Piped) -> Sample {
    let meter = Meter::start(&[redis.pid()]);
    let (begun, children) = (Instant::now(), ended_children());
    let output = run(cli(redis).arg("--pipe"), Some(&piped.open()));
    let took = begun.elapsed();
    let cpu_us = meter.microseconds() + (ended_children() - children).as_micros() as f64;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(&format!("errors: 0, replies: {}", piped.count)), "redis-cli --pipe: {text}");
    Sample { value: piped.count as f64 / took.as_secs_f64(), cpu_us: Some(cpu_us / piped.count as f64) }
}

/// `redis-benchmark`'s SET of values so large, hardly ever of the same key: requests in a second.
pub fn benchmark_set(redis: &Cache, bytes: usize, connections: u32, requests: usize) -> Sample {
    let meter = Meter::start(&[redis.pid()]);
    let children = ended_children();
    let mut command = Command::new("redis-benchmark");
    command.args(["-p", &redis.port().to_string(), "-t", "set", "-d", &bytes.to_string(), "--csv"]);
    command.args(["-r", "1000000", "-c", &connections.to_string(), "-n", &requests.to_string()]);
    let output = run(&mut command, None);
    let cpu_us = meter.microseconds() + (ended_children() - children).as_micros() as f64;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with("\"SET\""));
    let rate = line.and_then(|line| line.split(',').nth(1)?.trim_matches('"').parse().ok());
    let value = rate.unwrap_or_else(|| panic!("redis-benchmark: {text}"));
    Sample { value, cpu_us: Some(cpu_us / requests as f64) }
}

/// The usual way to delete by pattern from a shell.
pub fn scan_and_unlink(redis: &Cache, pattern: &str) -> Duration {
    let port = redis.port();
    let line =
        format!("redis-cli -p {port} --scan --pattern '{pattern}' | xargs -n 1000 redis-cli -p {port} unlink >&2");
    let begun = Instant::now();
    run(Command::new("sh").args(["-c", &line]), None);
    begun.elapsed()
}

fn cli(redis: &Cache) -> Command {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &redis.port().to_string()]);
    command
}
