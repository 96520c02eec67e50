//! Which node a key goes to, and what a cache says of a cluster that is not there.

use std::time::Duration;

use bytes::Bytes;
use redis_cache_sync::cache::redis::{ClusterCache, SentinelCache};
use redis_cache_sync::cache::{Cache, CacheError, Command, Reply};
use redis_cache_sync::event::CacheKey;
use redis_cache_sync::event::version::Version;
use redis_cache_sync::redis::{Address, Settings};

use crate::servers::*;

pub const WITHIN: Duration = Duration::from_secs(5);

pub fn cache(cluster: &Cluster) -> ClusterCache {
    let server = &cluster.servers[0];
    ClusterCache::new(Settings::new("127.0.0.1", server.port), Vec::new()).unwrap()
}

pub fn set(key: &str, value: &str, version: Option<u64>) -> Command {
    let version = version.and_then(Version::from_number);
    let key = CacheKey::new_unchecked(key.to_owned());
    Command::Set { key, value: Bytes::from(value.to_owned()), ttl: None, version, remembered: None }
}

pub fn get(key: &str) -> Command {
    Command::Get { key: CacheKey::new_unchecked(key.to_owned()), max_bytes: 1 << 20 }
}

#[tokio::test]
async fn every_key_goes_where_it_belongs() {
    let cluster = Cluster::start(3, 0);
    let mut keys: Vec<String> =
        ["{a}b", "a}b{c", "{}x", "}{", "{", "}", "{{a}}", "x{a}{b}", "{a", "rcs:v:", "ü{é}", "foo{}{bar}"]
            .map(str::to_owned)
            .to_vec();
    keys.extend((0..500).map(|n| format!("key:{n}")));
    let mut session = cache(&cluster).session();
    for version in [None, Some(1), Some(2)] {
        let batch: Vec<Command> = keys.iter().map(|key| set(key, &format!("{key} {version:?}"), version)).collect();
        let stored = session.apply(&batch, WITHIN).await;
        assert!(stored.iter().all(|result| *result == Ok(Reply::Stored)), "{stored:?}");
        for key in &keys {
            // A node that has not got the key answers MOVED.
            let found: Vec<Option<String>> =
                cluster.servers.iter().filter_map(|server| server.try_ask(&["GET", key])).collect();
            assert_eq!(found, [Some(format!("{key} {version:?}"))], "{key}");
        }
    }
    let late: Vec<Command> = keys.iter().map(|key| set(key, "late", Some(2))).collect();
    assert!(session.apply(&late, WITHIN).await.iter().all(|result| *result == Ok(Reply::Superseded)));
    assert_eq!(session.reconnects(), 0);
    for (slot, key) in [(12182, "foo"), (0, "")] {
        assert_eq!(cluster.servers[0].ask::<u16>(&["CLUSTER", "KEYSLOT", key]), slot);
    }
}

#[tokio::test]
async fn what_cannot_be_is_said_and_names_no_secret() {
    let password = Some(redis_cache_sync::secret::Secret::new("hunter2"));
    let settings = Settings { password, ..Settings::new("::1", 1) };
    let seeds = vec![Address::new("a", 1), Address::new("::1", 2)];
    assert!(ClusterCache::new(Settings { db: 1, ..settings.clone() }, seeds.clone()).is_err());
    let cluster = ClusterCache::new(settings.clone(), seeds.clone()).unwrap();
    assert_eq!(cluster.describe(), "redis cluster at a:1,[::1]:2");
    assert_eq!(ClusterCache::new(settings.clone(), Vec::new()).unwrap().describe(), "redis cluster at [::1]:1");
    let watched = SentinelCache::new(settings.clone(), seeds, MASTER.to_owned()).unwrap();
    assert_eq!(watched.describe(), "redis master mymaster by sentinels at a:1,[::1]:2");
    assert!(SentinelCache::new(settings, Vec::new(), MASTER.to_owned()).is_err());

    let nobody = ClusterCache::new(Settings::new("127.0.0.1", crate::harness::closed_port()), Vec::new()).unwrap();
    let failed = nobody.session().apply(&[get("k"), set("l", "v", None)], WITHIN).await;
    assert!(failed.len() == 2 && failed.iter().all(|result| matches!(result, Err(CacheError::Unavailable(_)))));
    assert!(nobody.session().ping(WITHIN).await.is_err_and(|error| error.is_worth_retrying()));
    // One that is no cluster.
    let alone = crate::harness::Redis::start();
    let alone = ClusterCache::new(Settings::new("127.0.0.1", alone.port()), Vec::new()).unwrap();
    assert!(alone.session().ping(WITHIN).await.is_err_and(|error| error.is_worth_retrying()));
}
