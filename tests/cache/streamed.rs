//! Values that come in while they are stored: by Redis, alone and as a cluster.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use redis_cache_sync::cache::embedded::EmbeddedCache;
use redis_cache_sync::cache::redis::ClusterCache;
use redis_cache_sync::cache::{
    Cache, CacheError, Command, Fingerprint, Incoming, Remembered, Reply, Session, StreamError,
};
use redis_cache_sync::event::version::Version;
use redis_cache_sync::event::{EntityTag, Ttl};
use redis_cache_sync::redis::Settings;

use crate::servers::Cluster;
use crate::support::*;

const PIECE: usize = 64 * 1024;

fn value(bytes: usize) -> Bytes {
    (0..bytes).map(|n| (n % 251) as u8).collect::<Vec<u8>>().into()
}

/// What comes in of a value that is announced with this length.
async fn store(
    session: &mut Box<dyn Session>,
    name: &str,
    announced: usize,
    pieces: Vec<Option<Bytes>>,
    ttl: Option<u32>,
    version: Option<u64>,
) -> Result<Reply, StreamError> {
    let (key, version) = (key(name), version.and_then(Version::from_number));
    let pieces = pin!(stream::iter(pieces));
    let ttl = ttl.and_then(Ttl::from_seconds);
    let incoming =
        Incoming { key: &key, bytes: announced, ttl, version: version.as_ref(), remembered: &|| None, pieces };
    session.store_incoming(incoming, WITHIN).await
}

fn pieces(value: &Bytes) -> Vec<Option<Bytes>> {
    value.chunks(PIECE).map(|piece| Some(Bytes::copy_from_slice(piece))).collect()
}

async fn keeps_its_promises(cache: &dyn Cache) {
    let mut session = cache.session();
    for (name, bytes) in [("{a}empty", 0), ("small", 5), ("large", 3 * 1024 * 1024 + 7)] {
        let whole = value(bytes);
        for (version, ttl) in [(None, None), (Some(5), Some(1000)), (None, Some(1000)), (Some(6), None)] {
            let stored = store(&mut session, name, bytes, pieces(&whole), ttl, version).await;
            assert_eq!(stored, Ok(Reply::Stored), "{name}, {version:?}");
            assert!(one(&mut session, get(name)).await == hit(whole.clone()), "{name}, {version:?}");
        }
        for late in [5, 6] {
            let reply = store(&mut session, name, 3, vec![Some("new".into())], None, Some(late)).await;
            assert_eq!(reply, Ok(Reply::Superseded), "{name}, {late}");
        }
        assert_eq!(one(&mut session, at(6, set(name, "late"))).await, Ok(Reply::Superseded));
        assert!(one(&mut session, get(name)).await == hit(whole), "{name}");
    }
    // What breaks off, or is not as long as announced, has not happened; the session goes on.
    let whole = value(200_000);
    let cut = || pieces(&whole).into_iter().take(2);
    for version in [None, Some(7)] {
        for broken in [
            cut().collect(),
            cut().chain([None]).collect(),
            pieces(&whole).into_iter().chain([Some("x".into())]).collect(),
        ] {
            let reply = store(&mut session, "small", whole.len(), broken, None, version).await;
            assert_eq!(reply, Err(StreamError::BrokeOff), "{version:?}");
            assert_eq!(one(&mut session, get("small")).await, hit(value(5)), "{version:?}");
        }
    }
    assert_eq!(store(&mut session, "small", whole.len(), pieces(&whole), None, Some(7)).await, Ok(Reply::Stored));
    assert!(one(&mut session, get("small")).await == hit(whole));
}

/// Of a value that is longer than what is compared in one step.
async fn lets_long_values_stand(cache: &dyn Cache) {
    let mut session = cache.session();
    let whole = value(3 * 1024 * 1024 + 7);
    let known = Remembered { etag: EntityTag::parse("v1").unwrap(), resource: 7, print: Fingerprint::of(&whole) };
    let (key, version) = (key("k"), Version::from_number(1));
    let pieces = pin!(stream::iter(pieces(&whole)));
    let remembered = || Some(known.clone());
    let (bytes, version) = (whole.len(), version.as_ref());
    let incoming = Incoming { key: &key, bytes, ttl: None, version, remembered: &remembered, pieces };
    assert_eq!(session.store_incoming(incoming, WITHIN).await, Ok(Reply::Stored));
    let look = Command::Look { key: key.clone(), version: Version::from_number(2) };
    match one(&mut session, look).await {
        Ok(Reply::Seen(seen)) => assert_eq!(seen.remembered.as_ref(), Some(&known)),
        other => panic!("{other:?}"),
    }
    let refresh = |version: u64, ttl: Option<u32>| Command::Refresh {
        key: key.clone(),
        ttl: ttl.and_then(Ttl::from_seconds),
        version: Version::from_number(version).unwrap(),
        remembered: Box::new(known.clone()),
    };
    assert_eq!(session.refresh_long(&refresh(2, Some(1000)), WITHIN).await, Ok(Reply::Unchanged));
    assert_eq!(session.refresh_long(&refresh(2, None), WITHIN).await, Ok(Reply::Superseded));
    assert_eq!(session.refresh_long(&refresh(3, None), WITHIN).await, Ok(Reply::Unchanged));
    assert_eq!(one(&mut session, at(3, set("k", "late"))).await, Ok(Reply::Superseded));
    let mut other = whole.to_vec();
    other[2 * 1024 * 1024] ^= 1;
    for other in [Bytes::from(other), whole.slice(1..), Bytes::new()] {
        assert_eq!(one(&mut session, set("k", other.clone())).await, Ok(Reply::Stored));
        assert_eq!(session.refresh_long(&refresh(4, None), WITHIN).await, Ok(Reply::Changed));
        assert!(one(&mut session, get("k")).await == hit(other));
    }
    assert_eq!(one(&mut session, delete("k")).await, Ok(Reply::Deleted));
    assert_eq!(session.refresh_long(&refresh(4, None), WITHIN).await, Ok(Reply::Changed));
}

#[tokio::test]
async fn a_long_value_is_let_stand_step_by_step() {
    let server = RedisServer::start(&[]);
    lets_long_values_stand(&server.cache()).await;
}

#[tokio::test]
async fn a_value_that_comes_in_is_stored_in_one_step_once_it_is_whole() {
    let server = RedisServer::start(&[]);
    keeps_its_promises(&server.cache()).await;
}

#[tokio::test]
async fn the_owner_of_a_key_takes_what_comes_in() {
    let cluster = Cluster::start(3, 0);
    let settings = Settings::new("127.0.0.1", cluster.servers[1].port);
    let cache = ClusterCache::new(settings, Vec::new()).unwrap();
    keeps_its_promises(&cache).await;
    lets_long_values_stand(&cache).await;
}

#[tokio::test]
async fn a_version_that_changes_meanwhile_is_noticed() {
    let server = RedisServer::start(&[]);
    let mut session = server.session();
    let mut other = server.session();
    for (theirs, ours) in [(3, Reply::Superseded), (1, Reply::Stored)] {
        let name = format!("k{theirs}");
        let (key, version) = (key(name.as_str()), Version::from_number(2));
        // They write once the first piece has been asked for.
        let (told, asked) = tokio::sync::oneshot::channel();
        let (done, written) = tokio::sync::oneshot::channel::<()>();
        let pieces = stream::unfold((0, Some(told), Some(written)), |(turn, mut told, mut written)| async move {
            match turn {
                0 => told.take().into_iter().for_each(|told| told.send(()).expect("they wait")),
                1 => written.take().expect("once").await.expect("they write"),
                _ => return None,
            }
            Some((Some(Bytes::from_static(b"half")), (turn + 1, told, written)))
        });
        let pieces = pin!(pieces);
        let incoming =
            Incoming { key: &key, bytes: 8, ttl: None, version: version.as_ref(), remembered: &|| None, pieces };
        let storing = session.store_incoming(incoming, WITHIN);
        let writing = async {
            asked.await.expect("it asks");
            assert_eq!(one(&mut other, at(theirs, set(&name, "theirs"))).await, Ok(Reply::Stored));
            done.send(()).expect("it waits");
        };
        let (reply, ()) = tokio::join!(storing, writing);
        assert_eq!(reply, Ok(Reply::Changed), "{theirs}");
        assert_eq!(one(&mut other, get(&name)).await, hit("theirs"));
        let again = store(&mut session, &name, 4, vec![Some("ours".into())], None, Some(2)).await;
        assert_eq!(again, Ok(ours), "{theirs}");
    }
}

#[tokio::test]
async fn the_cache_in_the_process_takes_values_whole() {
    let cache = EmbeddedCache::new(1 << 20, "rcs:v:", Duration::from_secs(60));
    assert!(!cache.takes_streams());
    let mut session = cache.session();
    let reply = store(&mut session, "k", 1, vec![Some("v".into())], None, None).await;
    assert!(matches!(reply, Err(StreamError::Cache(CacheError::Refused(_)))), "{reply:?}");
}
