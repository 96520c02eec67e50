//! The daemon's share of the processor beside a Redis on the same machine.
//!
//! Redis carries out commands on one thread, and all of its users wait for that thread. When a thread of the daemon wakes on the same
//! core, the kernel runs it at once and Redis waits, often while another core is idle (Linux does not move a thread that has just run).
//! At a higher nice value the kernel lets Redis finish first. Containers and systemd units have a share of their own,
//! within which the nice value of their only process changes nothing.

use std::net::IpAddr;

use crate::config::{CacheBackend, Config, RedisConfig, RedisMode};

/// The nice value beside a local Redis: where both want one core, the daemon gets half of what a process at 0 gets.
const BESIDE_REDIS: i32 = 3;

/// Lowers the priority of the calling thread, and of all threads that it starts from now on, if Redis is on this machine. Returns the
/// nice value; None: nothing was changed. A nice value other than 0 is somebody's choice and stays.
pub fn yield_to_local_redis(config: &Config) -> Option<i32> {
    let is_beside_redis = config.cache.backend == CacheBackend::Redis && is_local(&config.redis);
    if !is_beside_redis || rustix::process::getpriority_process(None) != Ok(0) {
        return None;
    }
    rustix::process::setpriority_process(None, BESIDE_REDIS).ok()?;
    Some(BESIDE_REDIS)
}

/// Whether the settings name a loopback address.
fn is_local(redis: &RedisConfig) -> bool {
    let is_loopback = |host: &str| {
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
    };
    match redis.mode {
        RedisMode::Standalone => is_loopback(&redis.host),
        RedisMode::Cluster | RedisMode::Sentinel => redis.nodes.iter().any(|(host, _)| is_loopback(host)),
    }
}
