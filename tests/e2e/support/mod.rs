//! What every test stands on: a real Redis, the real daemon as a process, and a real blob server that misbehaves on
//! order. Nothing here knows the daemon's code; it is spoken to over HTTP, signals, its log and Redis alone.

#![allow(dead_code)]

pub mod blob;
pub mod daemon;
pub mod http;
pub mod hung;
pub mod journaled;
pub mod notices;
pub mod redis;
pub mod replicas;
pub mod stage;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

pub use self::blob::{Blob, BlobServer, Gate};
pub use self::daemon::{Builder, Daemon};
pub use self::http::{Answer, Wire};
pub use self::hung::HungHosts;
pub use self::redis::Redis;
pub use self::stage::{Stage, results};

/// The prefix of every problem's `type`.
pub const URN: &str = "urn:redis-cache-sync:";

/// Longer than anything may take; what waits this long has hung.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds, for `limit` at most; whether it came to hold.
pub fn eventually(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal (`TERM`, `KILL`, `STOP`, `CONT`) to a process that the test started.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{name} {pid}")])
        .stderr(Stdio::null())
        .status()
        .expect("sh can be run");
    assert!(status.success(), "signal {name} could not be sent to process {pid}");
}

/// A loopback port that is free and lies outside the range from which the system gives ports to clients, so that a
/// server can come back on it.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..2000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 12_000 + (std::process::id().wrapping_mul(37).wrapping_add(step) % 18_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 12000 and 30000");
}

/// Where a program lies, if it is installed.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// A port on which nobody listens.
pub fn closed_port() -> u16 {
    free_port()
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

/// A gzip stream that inflates to `size` zero bytes.
pub fn gzip_bomb(size: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    std::io::copy(&mut std::io::repeat(0).take(size as u64), &mut encoder).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

/// Small, seeded and the same on every machine.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn seeded(seed: u64) -> Self {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// A SET event of these `data`.
pub fn set(data: Value) -> Value {
    json!({"key": "SET", "value": {"data": data}})
}

pub fn set_inline(key: &str, value: &str) -> Value {
    set(json!({"key": key, "value": value}))
}

pub fn set_blob(key: &str, url: &str) -> Value {
    set(json!({"key": key, "url": url}))
}

pub fn get(data: Value) -> Value {
    json!({"key": "GET", "value": {"data": data}})
}

pub fn delete(data: Value) -> Value {
    json!({"key": "DELETE", "value": {"data": data}})
}

pub fn delete_pattern(data: Value) -> Value {
    json!({"key": "DELETE_PATTERN", "value": {"data": data}})
}

/// Events as NDJSON.
pub fn ndjson(events: &[Value]) -> String {
    events.iter().map(|event| format!("{event}\n")).collect()
}

/// The `type` of a problem document or of a result's problem, without its prefix.
pub fn problem_type(problem: &Value) -> &str {
    let full = problem["type"].as_str().unwrap_or_else(|| panic!("a problem without type: {problem}"));
    full.strip_prefix(URN).unwrap_or_else(|| panic!("a problem type without the prefix {URN}: {full}"))
}
