//! What every backend promises.

use std::collections::BTreeSet;

use bytes::Bytes;
use redis_cache_sync::cache::{Cache, CacheError, Command, Reply, Scan, Session};
use redis_cache_sync::event::pattern::{Pattern, Wider};

use crate::support::*;

pub async fn every_command_gives_its_reply(cache: &dyn Cache) {
    let mut session = cache.session();
    session.ping(WITHIN).await.unwrap();
    let batch = [get("k"), delete("k"), set("k", "v"), get("k"), delete("k"), get("k"), delete("k")];
    let expected = [
        Ok(Reply::Miss),
        Ok(Reply::Absent),
        Ok(Reply::Stored),
        hit("v"),
        Ok(Reply::Deleted),
        Ok(Reply::Miss),
        Ok(Reply::Absent),
    ];
    assert_eq!(session.apply(&batch, WITHIN).await, expected);
    assert_eq!(session.reconnects(), 0);
}

pub async fn values_come_back_byte_for_byte(cache: &dyn Cache) {
    let mut session = cache.session();
    let every_byte: Vec<u8> = (0..=255).collect();
    // Around every bound inside: what is shared, the read window, one byte to either side.
    let sizes = [1, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 200_000, 1 << 20];
    let mut values: Vec<Bytes> = vec![Bytes::new(), "\r\n$-1\r\n".into(), vec![0; 3].into(), vec![0xff; 3].into()];
    values.extend(sizes.map(|size| Bytes::from(every_byte.iter().copied().cycle().take(size).collect::<Vec<u8>>())));
    let names: Vec<String> = (0..values.len()).map(|n| format!("schlüssel {n}\r\n\0")).collect();

    let writes: Vec<Command> = names.iter().zip(&values).map(|(name, value)| set(name, value.clone())).collect();
    assert!(session.apply(&writes, WITHIN).await.iter().all(|result| *result == Ok(Reply::Stored)));
    let reads: Vec<Command> = names.iter().map(|name| get(name)).collect();
    for ((result, value), name) in session.apply(&reads, WITHIN).await.into_iter().zip(values).zip(names) {
        assert!(result == hit(value), "{name:?} came back changed");
    }
}

pub async fn large_values_come_back_byte_for_byte(cache: &dyn Cache) {
    let mut session = cache.session();
    let value: Bytes = (0..64usize << 20).map(|n| (n * 31 + n / 251) as u8).collect::<Vec<u8>>().into();
    assert_eq!(one(&mut session, set("large", value.clone())).await, Ok(Reply::Stored));
    assert!(one(&mut session, get("large")).await == hit(value));
    assert_eq!(one(&mut session, delete("large")).await, Ok(Reply::Deleted));
}

pub async fn answers_belong_to_their_commands_however_long_a_run(cache: &dyn Cache) {
    let mut session = cache.session();
    for count in [1, 2, 63, 64, 65, 129, 200] {
        let name = |n: usize| format!("{count}:{n}");
        let run: Vec<Command> = (0..count).map(|n| set(&name(n), format!("a{n}"))).collect();
        let behind = [delete("none"), set_for("brief", "v", 60), delete(&name(0)), get(&name(count - 1))];
        let again: Vec<Command> = (1..count).map(|n| set(&name(n / 2), format!("b{n}"))).collect();
        let batch = [run, behind.to_vec()].concat();
        let results = session.apply(&batch, WITHIN).await;
        assert!(results[..count].iter().all(|result| *result == Ok(Reply::Stored)), "{results:?}");
        let last = if count == 1 { Ok(Reply::Miss) } else { hit(format!("a{}", count - 1)) };
        assert_eq!(results[count..], [Ok(Reply::Absent), Ok(Reply::Stored), Ok(Reply::Deleted), last]);
        assert!(session.apply(&again, WITHIN).await.iter().all(|result| *result == Ok(Reply::Stored)));
        if count > 2 {
            let last = count - 1;
            assert_eq!(
                one(&mut session, get(&name(last / 2))).await,
                hit(format!("b{last}")),
                "the last of a key wins"
            );
        }
    }
}

pub async fn commands_of_a_batch_take_effect_in_order(cache: &dyn Cache) {
    let mut session = cache.session();
    let mut batch = Vec::new();
    let mut expected = Vec::new();
    for round in 0..100 {
        for name in ["a", "b", "c"] {
            let value = format!("{name}{round}");
            batch.extend([set(name, value.clone()), get(name)]);
            expected.extend([Ok(Reply::Stored), hit(value)]);
        }
        batch.extend([delete("b"), get("b")]);
        expected.extend([Ok(Reply::Deleted), Ok(Reply::Miss)]);
    }
    assert_eq!(session.apply(&batch, WITHIN).await, expected);
}

/// A session may ask in another way once it has seen many misses.
pub async fn no_value_is_never_taken_for_an_empty_one(cache: &dyn Cache) {
    let mut session = cache.session();
    let stored = session.apply(&[set("empty", ""), set("full", "v")], WITHIN).await;
    assert_eq!(stored, [Ok(Reply::Stored), Ok(Reply::Stored)]);
    let none = || Ok(Reply::Miss);
    let cases = [
        (vec!["none", "empty", "full", "none too"], vec![none(), hit(""), hit("v"), none()]),
        (vec!["none", "empty", "full", "none too"], vec![none(), hit(""), hit("v"), none()]),
        (vec!["full"; 9], vec![hit("v"); 9]),
        (vec!["empty", "full", "none"], vec![hit(""), hit("v"), none()]),
    ];
    for (names, expected) in cases {
        let batch: Vec<Command> = names.into_iter().map(get).collect();
        assert_eq!(session.apply(&batch, WITHIN).await, expected);
    }
}

pub async fn reads_and_writes_of_one_large_key_keep_their_order(cache: &dyn Cache) {
    let mut session = cache.session();
    let value = |byte: u8, size: usize| Bytes::from(vec![byte; size]);
    let (large, larger, empty) = (value(1, 100_000), value(2, 300_000), Bytes::new());
    let batch = [
        set("k", large.clone()),
        get("k"),
        set("k", "small"),
        set("other", larger.clone()),
        get("k"),
        set("k", larger.clone()),
        get("k"),
        get("other"),
        delete("k"),
        get("k"),
        set("k", empty.clone()),
        get("k"),
        set("k", large.clone()),
        get("k"),
    ];
    let stored = || Ok(Reply::Stored);
    let expected = [
        stored(),
        hit(large.clone()),
        stored(),
        stored(),
        hit("small"),
        stored(),
        hit(larger.clone()),
        hit(larger),
        Ok(Reply::Deleted),
        Ok(Reply::Miss),
        stored(),
        hit(empty),
        stored(),
        hit(large),
    ];
    let results = session.apply(&batch, WITHIN).await;
    for (index, (result, expected)) in results.iter().zip(&expected).enumerate() {
        assert!(result == expected, "command {index} ended otherwise");
    }
    assert_eq!(results.len(), expected.len());
}

pub async fn a_ttl_runs_from_the_write_and_the_next_write_replaces_it(cache: &dyn Cache) {
    let mut session = cache.session();
    let batch = [
        set_for("short", "v", 1),
        set_for("cleared", "v", 1),
        set("cleared", "v"),
        set_for("longer", "v", 1),
        set_for("longer", "v", 1000),
        set("given", "v"),
        set_for("given", "v", 1),
        set_for("gone", "v", 1),
    ];
    assert!(session.apply(&batch, WITHIN).await.iter().all(|result| *result == Ok(Reply::Stored)));
    assert_eq!(one(&mut session, get("short")).await, hit("v"));
    for name in ["short", "given"] {
        let start = std::time::Instant::now();
        while one(&mut session, get(name)).await != Ok(Reply::Miss) {
            assert!(start.elapsed().as_secs() < 20, "{name} did not expire");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
    let rest = [get("cleared"), get("longer"), delete("gone")];
    assert_eq!(session.apply(&rest, WITHIN).await, [hit("v"), hit("v"), Ok(Reply::Absent)]);
    let left: BTreeSet<Bytes> = scan(&mut session, None).await.into_iter().collect();
    assert_eq!(left, BTreeSet::from(["cleared".into(), "longer".into()]));
    assert_eq!(unlink(&mut session, &["short", "longer"]).await, Ok(1));
}

pub async fn a_value_beyond_the_limit_is_not_brought_over(cache: &dyn Cache) {
    let mut session = cache.session();
    for size in [0usize, 1, 10, 65_534, 65_535, 65_536, 65_537, 150_000] {
        let value = Bytes::from(vec![7; size]);
        assert_eq!(one(&mut session, set("k", value.clone())).await, Ok(Reply::Stored));
        let read = |max_bytes| Command::Get { key: key("k"), max_bytes };
        assert!(one(&mut session, read(size)).await == hit(value.clone()), "{size} bytes");
        assert!(one(&mut session, read(usize::MAX)).await == hit(value), "{size} bytes");
        if let Some(less) = size.checked_sub(1) {
            let too_large = CacheError::ValueTooLarge { bytes: size as u64, max_bytes: less as u64 };
            assert_eq!(one(&mut session, read(less)).await, Err(too_large));
        }
    }
    assert_eq!(one(&mut session, get("none")).await, Ok(Reply::Miss));
}

pub async fn a_scan_brings_every_key(cache: &dyn Cache) {
    let mut session = cache.session();
    let names: BTreeSet<String> = (0..5000).map(|n| format!("key:{n}")).collect();
    let batch: Vec<Command> = names.iter().map(|name| set(name, "v")).collect();
    for chunk in batch.chunks(512) {
        assert!(session.apply(chunk, WITHIN).await.iter().all(|result| *result == Ok(Reply::Stored)));
    }
    let found: BTreeSet<Bytes> = scan(&mut session, None).await.into_iter().collect();
    assert_eq!(found, names.into_iter().map(Bytes::from).collect());
}

pub async fn a_scan_can_be_narrowed_to_a_pattern(cache: &dyn Cache) {
    let mut session = cache.session();
    let batch = ["user:1", "user:2", "user:", "users", "other"].map(|name| set(name, "v"));
    session.apply(&batch, WITHIN).await;
    let pattern = Pattern::parse("user:*", false).unwrap();
    let found: BTreeSet<Bytes> = scan(&mut session, Some(&pattern)).await.into_iter().collect();
    assert_eq!(found, BTreeSet::from(["user:".into(), "user:1".into(), "user:2".into()]));
}

pub async fn a_scan_hides_the_prefix_of_the_service(cache: &dyn Cache) {
    let mut session = cache.session();
    session.apply(&["rcs:v:", "rcs:v:k", "rcs:v", "k"].map(|name| set(name, "v")), WITHIN).await;
    let found: BTreeSet<Bytes> = scan(&mut session, None).await.into_iter().collect();
    assert_eq!(found, BTreeSet::from(["k".into(), "rcs:v".into()]));
}

pub async fn unlink_counts_what_was_there(cache: &dyn Cache) {
    let mut session = cache.session();
    session.apply(&["a", "b", "c"].map(|name| set(name, "v")), WITHIN).await;
    assert_eq!(unlink(&mut session, &["a", "none", "c"]).await, Ok(2));
    assert_eq!(unlink(&mut session, &["a", "a"]).await, Ok(0));
    assert_eq!(unlink(&mut session, &[]).await, Ok(0));
    assert_eq!(scan(&mut session, None).await, [Bytes::from("b")]);
}

pub async fn groups_are_counted_apart_and_gone_before_the_scan_goes_on(cache: &dyn Cache) {
    let mut session = cache.session();
    session.apply(&["a", "b", "c", "d"].map(|name| set(name, "v")), WITHIN).await;
    let groups = [delete_group(["a", "none", "b", "a"]), delete_group(["b"]), delete_group(["c"])];
    let progress = session.unlink_and_scan(&groups, Some(Scan::default()), WITHIN).await;
    assert_eq!(progress.failure, None);
    assert_eq!(deleted(&progress), [2, 0, 1]);
    let step = progress.step.unwrap();
    assert_eq!((step.keys, step.next), (vec![Bytes::from("d")], None));
}

pub async fn sessions_see_what_others_wrote(cache: &dyn Cache) {
    let (mut first, mut second) = (cache.session(), cache.session());
    assert_eq!(one(&mut first, set("k", "v")).await, Ok(Reply::Stored));
    assert_eq!(one(&mut second, get("k")).await, hit("v"));
    assert_eq!(one(&mut second, delete("k")).await, Ok(Reply::Deleted));
    assert_eq!(one(&mut first, get("k")).await, Ok(Reply::Miss));
}

pub async fn an_empty_batch_has_no_results(cache: &dyn Cache) {
    assert_eq!(cache.session().apply(&[], WITHIN).await, []);
}

/// A whole scan.
pub async fn scan(session: &mut Box<dyn Session>, only: Option<&Pattern>) -> Vec<Bytes> {
    let (mut keys, mut from) = (Vec::new(), None);
    let only_matches = |key: &[u8]| only.is_none_or(|pattern| pattern.matches(key));
    let wider = only.and_then(|only| Wider::of([only]));
    loop {
        let only = wider.as_ref();
        let progress = session.unlink_and_scan(&[], Some(Scan { from, only, ..Scan::default() }), WITHIN).await;
        assert_eq!(progress.failure, None);
        let step = progress.step.unwrap();
        keys.extend(step.keys);
        from = step.next;
        if from.is_none() {
            keys.retain(|key| only_matches(key));
            return keys;
        }
    }
}

/// Deletes keys as one group.
pub async fn unlink(session: &mut Box<dyn Session>, names: &[&'static str]) -> Result<u64, CacheError> {
    let groups = [delete_group(names.iter().copied())];
    let groups = if names.is_empty() { &[][..] } else { &groups };
    let progress = session.unlink_and_scan(groups, None, WITHIN).await;
    assert_eq!(progress.unlinked.len(), groups.len());
    assert!(progress.step.is_none(), "nobody asked for a step");
    let deleted = deleted(&progress).iter().sum();
    progress.failure.map_or(Ok(deleted), Err)
}
