//! What the daemon may cost in memory. The figures hold for a release build; a debug build is allowed more.

#![cfg(target_os = "linux")]

use std::fs;

use serde_json::json;

use crate::support::{Blob, Daemon, Stage, delete_pattern, get, ndjson, set_blob, set_inline};

const MIB: u64 = 1 << 20;

/// A line of `/proc/PID/status`, in bytes.
pub fn memory(daemon: &Daemon, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("the daemon runs");
    let value = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')).expect("a line of that name");
    value.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of KiB") * 1024
}

#[test]
fn an_idle_daemon_is_small() {
    let stage = Stage::new();
    stage.ok(&get(json!("k")));
    let resident = memory(&stage.daemon, "VmRSS");
    let limit = if cfg!(debug_assertions) { 60 * MIB } else { 20 * MIB };
    assert!(resident < limit, "{} KiB resident, allowed are {}", resident / 1024, limit / 1024);
}

#[test]
fn the_largest_blob_is_not_copied_again_and_again() {
    let stage = Stage::new();
    let size = 64 * MIB;
    let body: Vec<u8> = (0..size).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    stage.blobs.put("/declared", Blob::bytes(&body));
    stage.blobs.put("/undeclared", Blob::bytes(&body).chunked());
    for path in ["/declared", "/undeclared"] {
        stage.ok(&set_blob("k", &stage.blobs.url(path)));
        assert!(stage.redis.value("k").as_deref() == Some(&body), "{path}");
        let peak = memory(&stage.daemon, "VmHWM");
        assert!(peak < 4 * size, "{path}: {} MiB at the peak for a blob of 64 MiB", peak / MIB);
    }
}

#[test]
fn keys_behind_many_patterns_cost_little() {
    let daemon = Daemon::embedded();
    let mut events = vec![delete_pattern(json!("k:*")); 1000];
    events.extend((0..4000).map(|n| set_inline(&format!("k:{n}"), "v")));
    let answer = daemon.post_ndjson(&ndjson(&events));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let peak = memory(&daemon, "VmHWM");
    assert!(peak < 150 * MIB, "{} MiB at the peak for a request of half a megabyte", peak / MIB);
}
