//! What a large value costs in memory on its way to Redis and back. On its own, because the measure is the process's.
#![cfg(target_os = "linux")]

#[path = "cache/support.rs"]
#[allow(dead_code)]
mod support;

use bytes::Bytes;
use redis_cache_sync::cache::Reply;
use support::{RedisServer, get, one, set};

const VALUE_KIB: usize = 64 * 1024;

/// The most memory that was ever resident since the last call, in KiB.
fn peak_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let peak = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    peak
}

#[tokio::test]
async fn a_large_value_is_sent_without_a_copy_and_read_into_one() {
    let server = RedisServer::start(&[]);
    let mut session = server.session();
    assert_eq!(one(&mut session, set("warm", "up")).await, Ok(Reply::Stored));
    let value = Bytes::from(vec![1; VALUE_KIB * 1024]);

    peak_kib();
    let before = peak_kib();
    assert_eq!(one(&mut session, set("k", value.clone())).await, Ok(Reply::Stored));
    let sent = peak_kib() - before;
    assert!(sent < VALUE_KIB / 4, "sending took {sent} KiB beside the value");

    let before = peak_kib();
    let result = one(&mut session, get("k")).await;
    let read = peak_kib() - before;
    assert!(result == Ok(Reply::Hit(value)));
    assert!(read < VALUE_KIB * 5 / 4, "reading took {read} KiB");
}
