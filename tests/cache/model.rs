//! Any sequence of commands ends the same on Redis as on the embedded map.

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use redis_cache_sync::cache::embedded::EmbeddedCache;
use redis_cache_sync::cache::{Cache, Command};

use crate::support::*;

fn command() -> impl Strategy<Value = Command> {
    let name = prop::sample::select(vec!["a", "b", "c", "d"]);
    let size = prop::sample::select(vec![0usize, 1, 5, 16_384, 65_535, 65_536, 90_000]);
    let value = (size, any::<u8>()).prop_map(|(size, byte)| Bytes::from(vec![byte; size]));
    let limit = prop::sample::select(vec![0usize, 4, 65_535, 65_536, 1 << 20]);
    let (versioned, version) = (name.clone(), 0..20u64);
    prop_oneof![
        3 => (name.clone(), value.clone()).prop_map(|(name, value)| set(name, value)),
        4 => (versioned.clone(), value, version.clone()).prop_map(|(name, value, version)| at(version, set(name, value))),
        2 => (versioned, version).prop_map(|(name, version)| at(version, delete(name))),
        4 => (name.clone(), limit).prop_map(|(name, max_bytes)| Command::Get { key: key(name), max_bytes }),
        2 => name.prop_map(delete),
    ]
}

#[test]
fn both_backends_answer_any_sequence_alike() {
    let server = RedisServer::start(&[]);
    let (redis, embedded) =
        (server.cache(), EmbeddedCache::new(64 << 20, "rcs:v:", std::time::Duration::from_secs(60)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let batches = prop::collection::vec(prop::collection::vec(command(), 0..40), 1..4);
    let config = Config { cases: 64, failure_persistence: None, ..Config::default() };
    // The caches go on from case to case: what they hold is alike, or an earlier case has failed.
    let sessions = std::cell::RefCell::new((redis.session(), embedded.session()));
    TestRunner::new(config)
        .run(&batches, |batches| {
            for batch in batches {
                let (on_redis, on_embedded) = &mut *sessions.borrow_mut();
                let left = runtime.block_on(on_redis.apply(&batch, WITHIN));
                let right = runtime.block_on(on_embedded.apply(&batch, WITHIN));
                prop_assert!(left == right, "they differ");
            }
            Ok(())
        })
        .unwrap();
}
