//! Writes with a version, on every backend.

use std::collections::BTreeSet;

use bytes::Bytes;
use redis_cache_sync::cache::{Cache, Command, DeleteGroup, Reply, Scan, Session};
use redis_cache_sync::event::sources::Place;
use redis_cache_sync::event::version::{Rank, Version};

use crate::suite::unlink;
use crate::support::*;

const STORED: Reply = Reply::Stored;

async fn replies(session: &mut Box<dyn Session>, batch: &[Command]) -> Vec<Reply> {
    session.apply(batch, WITHIN).await.into_iter().map(Result::unwrap).collect()
}

pub async fn only_a_greater_version_takes_effect(cache: &dyn Cache) {
    let mut session = cache.session();
    let batch = [
        at(5, set("k", "five")),
        at(4, set("k", "four")),
        at(5, set("k", "again")),
        get("k"),
        at(6, set("k", "six")),
        at(5, delete("k")),
        get("k"),
    ];
    let (superseded, hit) = (Reply::Superseded, |value: &'static str| Reply::Hit(value.into()));
    let expected =
        [STORED, superseded.clone(), superseded.clone(), hit("five"), STORED, superseded.clone(), hit("six")];
    assert_eq!(replies(&mut session, &batch).await, expected);
    assert_eq!(replies(&mut session, &[at(6, set("k", "late")), get("k")]).await, [superseded, hit("six")]);
}

pub async fn a_deleted_key_does_not_come_back(cache: &dyn Cache) {
    let mut session = cache.session();
    let batch = [at(1, set("k", "v")), at(3, delete("k")), at(2, set("k", "late")), get("k")];
    assert_eq!(replies(&mut session, &batch).await, [STORED, Reply::Deleted, Reply::Superseded, Reply::Miss]);
    let batch = [at(3, delete("none")), at(2, set("none", "late")), at(4, set("none", "v")), at(4, delete("none"))];
    assert_eq!(replies(&mut session, &batch).await, [Reply::Absent, Reply::Superseded, STORED, Reply::Superseded]);
}

pub async fn versions_have_the_order_of_the_contract(cache: &dyn Cache) {
    let mut session = cache.session();
    let number = |number: u64| Version::from_number(number).unwrap();
    let text = |text: &str| Version::from_text(text).unwrap();
    let place = |place| Version::from_place(&place, Rank::Delete).unwrap();
    let rising = [
        number(0),
        number(9),
        number(10),
        number((1 << 53) + 1),
        number((1 << 53) + 2),
        number(i64::MAX as u64 - 1),
        number(i64::MAX as u64),
        place(Place::Time(1_795_903_463_933_850_106)),
        place(Place::Time(1_795_903_463_933_850_107)),
        place(Place::Hex("617f08299329d189".into())),
        place(Place::Hex("617F08299329D18A".into())),
        place(Place::Hex("9F7F08299329D18A".into())),
        place(Place::Hex("A17F08299329D18A".into())),
        place(Place::Hex("A17F08299329D18A0F".into())),
        place(Place::Number(9)),
        place(Place::Number(10)),
        place(Place::Number(u128::MAX)),
        place(Place::Text("Z".into())),
        place(Place::Text("a".into())),
        place(Place::Text("a_".into())),
        place(Place::Text("aa".into())),
        place(Place::Text("b".into())),
        text(""),
        text("\0"),
        text("\0\0"),
        text("\0a"),
        text("10"),
        text("9"),
        text("Z"),
        text("a"),
        text("a\0"),
        text("a_"),
        text("aa"),
        text("n9"),
        text("z"),
        text("\u{7f}"),
        text("é"),
        text("é\0"),
        text(&"é".repeat(64)),
        text("\u{10ffff}"),
    ];
    let with = |version: &Version| Command::Set {
        key: key("k"),
        value: "v".into(),
        ttl: None,
        version: Some(version.clone()),
        remembered: None,
    };
    for (index, version) in rising.iter().enumerate() {
        assert_eq!(one(&mut session, with(version)).await, Ok(STORED), "{version:?}");
        let late: Vec<Command> = rising[..index].iter().map(with).collect();
        let none_stored = replies(&mut session, &late).await.iter().all(|reply| *reply == Reply::Superseded);
        assert!(none_stored, "after {version:?}");
        // What a storage tells again at its own place is done again.
        let again = if version.stored().first() == Some(&b's') { Ok(STORED) } else { Ok(Reply::Superseded) };
        assert_eq!(one(&mut session, with(version)).await, again, "{version:?} twice");
    }
}

pub async fn what_a_storage_tells_is_applied_again_at_its_own_place_and_a_set_comes_before_a_delete_there(
    cache: &dyn Cache,
) {
    let mut session = cache.session();
    let placed = |place: u128, rank, command: Command| {
        let version = Version::from_place(&Place::Number(place), rank);
        match command {
            Command::Set { key, value, ttl, remembered, .. } => Command::Set { key, value, ttl, version, remembered },
            Command::Delete { key, .. } => Command::Delete { key, version },
            Command::Get { .. } | Command::Look { .. } | Command::Refresh { .. } | Command::Expiry { .. } => command,
        }
    };
    let (superseded, hit) = (Reply::Superseded, |value: &'static str| Reply::Hit(value.into()));
    let set_at = |place, value: &'static str| placed(place, Rank::Set, set("k", value));
    let batch = [set_at(9, "nine"), set_at(9, "again"), get("k"), set_at(8, "eight"), set_at(10, "ten"), get("k")];
    let expected = [STORED, STORED, hit("again"), superseded.clone(), STORED, hit("ten")];
    assert_eq!(replies(&mut session, &batch).await, expected);
    let gone = || placed(10, Rank::Delete, delete("k"));
    let batch = [gone(), gone(), set_at(10, "late"), get("k"), set_at(11, "eleven"), gone(), get("k")];
    let expected = [Reply::Deleted, Reply::Absent, superseded.clone(), Reply::Miss, STORED, superseded, hit("eleven")];
    assert_eq!(replies(&mut session, &batch).await, expected);
    // What was filled in meanwhile goes with a repetition.
    let purged = || placed(12, Rank::Delete, delete("k"));
    let batch = [purged(), set("k", "filled"), purged(), get("k")];
    assert_eq!(replies(&mut session, &batch).await, [Reply::Deleted, STORED, Reply::Deleted, Reply::Miss]);
}

pub async fn without_a_version_a_write_takes_effect_and_leaves_the_version(cache: &dyn Cache) {
    let mut session = cache.session();
    let batch = [
        at(5, set("k", "five")),
        set("k", "plain"),
        get("k"),
        at(5, set("k", "late")),
        delete("k"),
        at(4, set("k", "later")),
        get("k"),
        at(6, set("k", "six")),
        get("k"),
    ];
    let hit = |value: &'static str| Reply::Hit(value.into());
    let expected = [
        STORED,
        STORED,
        hit("plain"),
        Reply::Superseded,
        Reply::Deleted,
        Reply::Superseded,
        Reply::Miss,
        STORED,
        hit("six"),
    ];
    assert_eq!(replies(&mut session, &batch).await, expected);
}

pub async fn a_value_with_a_version_is_stored_as_it_is_and_expires(cache: &dyn Cache) {
    let mut session = cache.session();
    let large = Bytes::from((0..300_000).map(|n| (n % 251) as u8).collect::<Vec<u8>>());
    let batch = [
        at(1, set("large", large.clone())),
        at(1, set("empty", "")),
        at(1, set("bytes", vec![0, 0xff, b'\r', b'\n'])),
        at(1, set_for("short", "v", 1)),
        at(1, set_for("cleared", "v", 1)),
        at(2, set("cleared", "v")),
    ];
    assert_eq!(replies(&mut session, &batch).await, vec![STORED; 6]);
    let reads = [get("large"), get("empty"), get("bytes"), get("cleared")];
    let values = [large, "".into(), vec![0, 0xff, b'\r', b'\n'].into(), "v".into()];
    assert!(replies(&mut session, &reads).await == values.map(Reply::Hit));
    let start = std::time::Instant::now();
    while one(&mut session, get("short")).await != Ok(Reply::Miss) {
        assert!(start.elapsed().as_secs() < 20, "it did not expire");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let batch = [at(0, set("short", "late")), at(1, set("short", "again")), at(1, set("short", "late"))];
    let expected = [Reply::Superseded, STORED, Reply::Superseded];
    assert_eq!(replies(&mut session, &batch).await, expected, "an expired key is filled again, once");
}

/// Nothing with a version has removed it: to publish the same version again fills the cache again.
pub async fn an_equal_version_is_applied_once_more_if_the_key_is_gone(cache: &dyn Cache) {
    let mut session = cache.session();
    for version in ["7", "a text", "a text\0"] {
        let version = version.parse().ok().and_then(Version::from_number).or(Version::from_text(version)).unwrap();
        let with = |name: &str, value: &str| {
            let (key, value, version) = (key(name), Bytes::from(value.to_owned()), Some(version.clone()));
            Command::Set { key, value, ttl: None, version, remembered: None }
        };
        let deletion = |name: &str| Command::Delete { key: key(name), version: Some(version.clone()) };
        let names = ["deleted", "purged", "tombstone", "swept", "twice"];
        let all: Vec<Command> = names.iter().map(|name| with(name, "first")).collect();
        assert_eq!(replies(&mut session, &all).await, vec![STORED; 5]);
        assert_eq!(replies(&mut session, &[delete("deleted")]).await, [Reply::Deleted]);
        assert_eq!(unlink(&mut session, &["purged"]).await, Ok(1));
        let late = [Reply::Superseded, STORED, STORED];
        assert_eq!(replies(&mut session, &[deletion("twice"), with("deleted", "b"), with("purged", "b")]).await, late);
        let again = [with("deleted", "c"), with("purged", "c"), get("deleted"), get("purged")];
        let value = || Reply::Hit("b".into());
        assert_eq!(replies(&mut session, &again).await, [Reply::Superseded, Reply::Superseded, value(), value()]);

        // A deletion of the same version is one more application, and then that is that.
        let batch = [delete("twice"), deletion("twice"), with("twice", "late"), get("twice")];
        let expected = [Reply::Deleted, Reply::Absent, Reply::Superseded, Reply::Miss];
        assert_eq!(replies(&mut session, &batch).await, expected);
        // What a version has deleted stays so, whoever fills and purges it in between.
        let groups = [DeleteGroup { keys: vec!["swept".into()], version: Some(version.clone()) }];
        let progress = session.unlink_and_scan(&groups, None, WITHIN).await;
        assert_eq!((progress.failure, progress.unlinked[0].deleted), (None, 1));
        let batch = [with("swept", "late"), set("swept", "plain"), delete("swept"), with("swept", "late")];
        let expected = [Reply::Superseded, STORED, Reply::Deleted, Reply::Superseded];
        assert_eq!(replies(&mut session, &batch).await, expected);
        for name in names {
            replies(&mut session, &[delete(name)]).await;
        }
    }
}

/// More writes than share a call, of several kinds and sizes, between writes and reads without a version.
pub async fn a_long_batch_takes_effect_in_order(cache: &dyn Cache) {
    let mut session = cache.session();
    let (mut batch, mut expected) = (Vec::new(), Vec::new());
    for round in 0..200u64 {
        let size = if round % 40 == 7 { 70_000 } else { 10 };
        for name in ["a", "b", "c"] {
            batch.push(at(round + 1, set(name, vec![round as u8; size])));
            expected.push(STORED);
        }
        batch.push(at(round + 1, set("b", "late")));
        expected.push(Reply::Superseded);
        if round % 10 == 3 {
            batch.extend([get("c"), set("c", "plain"), at(round, delete("a")), at(round + 1, delete("d"))]);
            expected.extend([Reply::Hit(vec![round as u8; size].into()), STORED, Reply::Superseded, Reply::Absent]);
        }
    }
    assert!(replies(&mut session, &batch).await == expected);
    assert_eq!(replies(&mut session, &[get("b")]).await, [Reply::Hit(vec![199; 10].into())]);
}

pub async fn a_pattern_with_a_version_leaves_what_is_newer_and_raises_what_has_one(cache: &dyn Cache) {
    let mut session = cache.session();
    let batch = [
        at(5, set("older", "v")),
        at(7, set("same", "v")),
        at(9, set("newer", "v")),
        set("plain", "v"),
        at(5, delete("gone")),
        at(9, delete("gone:newer")),
    ];
    session.apply(&batch, WITHIN).await;
    let keys = ["older", "same", "newer", "plain", "gone", "gone:newer", "none"].map(Bytes::from).to_vec();
    let groups = [DeleteGroup { keys, version: Version::from_number(7) }];
    let progress = session.unlink_and_scan(&groups, None, WITHIN).await;
    assert_eq!(progress.failure, None);
    assert_eq!(progress.unlinked[0].deleted, 3);
    assert_eq!(progress.unlinked[0].newer, ["newer"], "a key without a value does not count");

    let late = ["older", "same", "plain", "gone"].map(|name| at(7, set(name, "late")));
    assert_eq!(replies(&mut session, &late).await, vec![Reply::Superseded; 4]);
    let newer = ["older", "same", "plain", "gone"].map(|name| at(8, set(name, "v")));
    assert_eq!(replies(&mut session, &newer).await, vec![STORED; 4]);
    let rest = [at(9, set("newer", "late")), at(9, set("gone:newer", "late")), at(1, set("none", "v"))];
    assert_eq!(replies(&mut session, &rest).await, [Reply::Superseded, Reply::Superseded, STORED]);
}

pub async fn a_scan_shows_version_keys_only_as_the_keys_they_guard(cache: &dyn Cache) {
    let mut session = cache.session();
    let names = ["a", "{a}b", "a}b{c", "{}x", "}{", "é"];
    let mut batch: Vec<Command> = names.iter().map(|name| at(1, set(name, "v"))).collect();
    batch.extend([at(1, delete("tombstone")), set("plain", "v")]);
    session.apply(&batch, WITHIN).await;
    let all = |versioned| Scan { versioned, ..Scan::default() };
    let sorted = |keys: Vec<Bytes>| keys.into_iter().collect::<BTreeSet<Bytes>>();
    let step = session.unlink_and_scan(&[], Some(all(false)), WITHIN).await.step.unwrap();
    let values: BTreeSet<Bytes> = names.iter().copied().chain(["plain"]).map(Bytes::from).collect();
    assert_eq!((sorted(step.keys), step.versioned.len(), step.next), (values.clone(), 0, None));
    let step = session.unlink_and_scan(&[], Some(all(true)), WITHIN).await.step.unwrap();
    let versioned = names.iter().copied().chain(["tombstone"]).map(Bytes::from).collect();
    assert_eq!((sorted(step.keys), sorted(step.versioned)), (values, versioned));
}
