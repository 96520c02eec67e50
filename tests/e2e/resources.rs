//! What the daemon may take of its machine: memory, and the processor beside Redis. The figures of memory hold for a release build; a debug
//! build is allowed more.

#![cfg(target_os = "linux")]

use std::fs;
use std::thread;

use rustix::process::{getpriority_process, setpriority_process};
use serde_json::json;

use crate::support::{Blob, Daemon, Redis, Stage, delete_pattern, get, ndjson, set_blob, set_inline};

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

/// The nice values of the daemon's threads, but for those of its allocator, which start before `main`.
fn nice_values(daemon: &Daemon) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("the daemon runs");
    let nice = |stat: String| {
        let (name, rest) = stat.rsplit_once(')')?;
        let value = rest.split_whitespace().nth(16)?.parse().ok();
        value.filter(|_| !name.contains("jemalloc"))
    };
    let threads = tasks.flatten().filter_map(|task| nice(fs::read_to_string(task.path().join("stat")).ok()?));
    threads.collect()
}

#[test]
fn a_redis_on_the_same_machine_goes_first() {
    let own = getpriority_process(None).expect("this thread has a priority");
    let redis = Redis::start();
    let is_said = |daemon: &Daemon| daemon.logs().iter().any(|line| line.contains("running at a lower priority"));
    let assert_nice = |daemon: &Daemon, expected: i32| {
        let values = nice_values(daemon);
        assert!(values.len() > 3 && values.iter().all(|nice| *nice == expected), "{values:?}, not {expected}");
    };

    let beside = Daemon::with_redis(&redis);
    assert_nice(&beside, if own == 0 { 3 } else { own });
    assert_eq!(is_said(&beside), own == 0);

    let alone = Daemon::embedded();
    assert_nice(&alone, own);
    assert!(!is_said(&alone));

    // A process has the nice value of the thread that starts it.
    let chosen = if own == -5 { 1 } else { (own + 5).min(19) };
    let start = || {
        setpriority_process(None, chosen).expect("the priority of a thread can be lowered");
        Daemon::with_redis(&redis)
    };
    let daemon = thread::scope(|scope| scope.spawn(start).join()).expect("it starts");
    assert_nice(&daemon, chosen);
    assert!(!is_said(&daemon));
}
