//! What only the embedded cache promises: its bound.

use bytes::Bytes;
use redis_cache_sync::cache::embedded::EmbeddedCache;
use redis_cache_sync::cache::{Cache, CacheError, Command, Fingerprint, Remembered, Reply};
use redis_cache_sync::event::EntityTag;

use crate::support::*;

#[tokio::test]
async fn the_least_recently_used_goes_first_and_a_new_entry_is_never_refused() {
    // Ten entries of 1000 bytes and what they cost besides.
    let cache = EmbeddedCache::new(11_000, "rcs:v:", std::time::Duration::from_secs(60));
    let mut session = cache.session();
    for n in 0..10 {
        assert_eq!(one(&mut session, set(&format!("k{n}"), vec![0; 1000])).await, Ok(Reply::Stored));
    }
    assert_eq!(one(&mut session, get("k0")).await, hit(vec![0; 1000]));
    for n in 10..15 {
        let name = format!("k{n}");
        assert_eq!(one(&mut session, set(&name, vec![1; 1000])).await, Ok(Reply::Stored));
        assert_eq!(one(&mut session, get(&name)).await, hit(vec![1; 1000]), "{name} was refused");
    }
    assert_eq!(one(&mut session, get("k0")).await, hit(vec![0; 1000]), "used lately, it stays");
    for n in 1..6 {
        assert_eq!(one(&mut session, get(&format!("k{n}"))).await, Ok(Reply::Miss), "k{n}");
    }
    assert!(cache.used_bytes() <= 11_000);
}

#[tokio::test]
async fn the_bound_holds_while_large_values_pour_in() {
    let cache = EmbeddedCache::new(8 << 20, "rcs:v:", std::time::Duration::from_secs(60));
    let mut session = cache.session();
    let small: Vec<_> = (0..20_000).map(|n| set(&format!("small:{n}"), vec![0; 300])).collect();
    session.apply(&small, WITHIN).await;
    for n in 0..20 {
        let batch = [set(&format!("large:{n}"), vec![n; 4 << 20])];
        assert_eq!(session.apply(&batch, WITHIN).await, [Ok(Reply::Stored)]);
        let kept: usize = crate::suite::scan(&mut session, None)
            .await
            .iter()
            .map(|key| if key.starts_with(b"large:") { 4 << 20 } else { 300 })
            .sum();
        assert!(kept <= (8 << 20) + (8 << 20) / 64, "{kept} bytes are kept");
        assert_eq!(one(&mut session, get(&format!("large:{n}"))).await, hit(vec![n; 4 << 20]));
    }
}

#[tokio::test]
async fn a_value_that_could_never_fit_changes_nothing() {
    let cache = EmbeddedCache::new(1000, "rcs:v:", std::time::Duration::from_secs(60));
    let mut session = cache.session();
    assert_eq!(one(&mut session, set("k", "old")).await, Ok(Reply::Stored));
    let too_large = Err(CacheError::ValueTooLarge { bytes: 936, max_bytes: 935 });
    assert_eq!(one(&mut session, set("k", vec![0; 936])).await, too_large);
    assert_eq!(one(&mut session, get("k")).await, hit("old"));
    assert_eq!(one(&mut session, set("k", vec![0; 935])).await, Ok(Reply::Stored));
}

/// What is remembered of a value, and its version, count as the value does: an entry that is said to be stored is there.
#[tokio::test]
async fn a_value_that_fits_only_without_what_is_remembered_of_it_is_refused() {
    let cache = EmbeddedCache::new(1000, "rcs:v:", std::time::Duration::from_secs(60));
    let mut session = cache.session();
    let fetched = |bytes: usize| {
        let value = Bytes::from(vec![0; bytes]);
        let (etag, print) = (EntityTag::parse("\"e\"").unwrap(), Fingerprint::of(&value));
        let remembered = Some(Box::new(Remembered { etag, resource: 1, print }));
        Command::Set { key: key("k"), value, ttl: None, version: None, remembered }
    };
    let refused = one(&mut session, at(1, fetched(935))).await;
    let Err(CacheError::ValueTooLarge { bytes: 935, max_bytes }) = refused else { panic!("{refused:?}") };
    assert!(max_bytes <= 775, "{max_bytes}");
    let bytes = max_bytes as usize;
    assert_eq!(one(&mut session, at(1, fetched(bytes))).await, Ok(Reply::Stored));
    assert_eq!(one(&mut session, get("k")).await, hit(vec![0; bytes]));
    // A version that was applied before stays with the key, and takes its part.
    assert!(one(&mut session, set("k", vec![0; 935])).await.is_err());
}

#[tokio::test]
async fn a_stored_slice_does_not_keep_the_whole_body_alive() {
    let body = Bytes::from(vec![b'x'; 1 << 20]);
    let cache = EmbeddedCache::new(8 << 20, "rcs:v:", std::time::Duration::from_secs(60));
    let name = bytestring::ByteString::try_from(body.slice(..10)).unwrap();
    let key = redis_cache_sync::event::CacheKey::new_unchecked(name);
    let command = redis_cache_sync::cache::Command::Set {
        key,
        value: body.slice(10..20),
        ttl: None,
        version: None,
        remembered: None,
    };
    let results = cache.session().apply(&[command], WITHIN).await;
    assert_eq!(results, [Ok(Reply::Stored)]);
    assert!(body.is_unique(), "the cache holds on to the body");
}
