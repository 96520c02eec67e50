//! The daemon's priority beside a Redis on the same machine.
//!
//! Redis carries out commands on one thread, and all of its users wait for that thread. When a thread of the daemon wakes on the same
//! core, the kernel usually preempts Redis for it, and Redis waits although another core may be idle: Linux is slow to move a thread
//! that ran a moment ago, because its data is in the old core's cache. At a higher nice value (a lower priority) the kernel lets Redis finish first.
//! Nice values are compared only within a scheduling group, such as a session or a container: to others this makes no difference.

use std::net::IpAddr;

use crate::config::{CacheBackend, Config, RedisConfig, RedisMode};

/// The nice value beside a local Redis: where both want one core, the daemon gets half of what a process at 0 gets.
const BESIDE_REDIS: i32 = 3;

/// Lowers the priority of the calling thread, and so of all threads that it starts from now on, if Redis is on this machine. Linux keeps a
/// nice value for each thread, so threads that are there already (the allocator's) stay as they are. Returns the nice value; None: nothing was
/// changed. A nice value other than 0 is somebody's choice and stays.
pub fn yield_to_local_redis(config: &Config) -> Option<i32> {
    let is_beside_redis = config.cache.backend == CacheBackend::Redis && is_local(&config.redis);
    if !is_beside_redis || rustix::process::getpriority_process(None) != Ok(0) {
        return None;
    }
    rustix::process::setpriority_process(None, BESIDE_REDIS).ok()?;
    Some(BESIDE_REDIS)
}

/// Whether the settings name a Redis at a loopback address.
fn is_local(redis: &RedisConfig) -> bool {
    let is_loopback = |host: &str| {
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
    };
    match redis.mode {
        RedisMode::Standalone => is_loopback(&redis.host),
        RedisMode::Cluster => redis.nodes.iter().any(|(host, _)| is_loopback(host)),
        // Often there is one on each machine, and Redis elsewhere.
        RedisMode::Sentinel => false,
    }
}
