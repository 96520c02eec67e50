//! Blobs that need not be fetched again, on every backend.

use bytes::Bytes;
use redis_cache_sync::cache::{Cache, Command, DeleteGroup, Fingerprint, Remembered, Reply, Seen, Session, Standing};
use redis_cache_sync::event::sources::Place;
use redis_cache_sync::event::version::{Rank, Version};
use redis_cache_sync::event::{EntityTag, Ttl};

use crate::support::*;

/// As long as what a refresh compares in one step.
const LONGEST: usize = 1 << 20;

fn number(version: u64) -> Version {
    Version::from_number(version).unwrap()
}

fn remembered(etag: &str, value: &[u8]) -> Remembered {
    Remembered { etag: EntityTag::parse(etag).unwrap(), resource: 0xfeed, print: Fingerprint::of(value) }
}

/// A SET of a blob that its host has given this ETag.
fn fetched(name: &str, value: impl Into<Bytes>, etag: &str, version: u64) -> Command {
    let value = value.into();
    let remembered = Some(Box::new(remembered(etag, &value)));
    Command::Set { key: key(name), value, ttl: None, version: Some(number(version)), remembered }
}

fn look(name: &str, version: u64) -> Command {
    Command::Look { key: key(name), version: Some(number(version)) }
}

fn refresh(name: &str, version: u64, value: &[u8], etag: &str, ttl: Option<u32>) -> Command {
    let (key, ttl) = (key(name), ttl.and_then(Ttl::from_seconds));
    Command::Refresh { key, ttl, version: number(version), remembered: Box::new(remembered(etag, value)) }
}

fn seen(standing: Standing, remembered: Option<Remembered>) -> Reply {
    Reply::Seen(Box::new(Seen { standing, remembered, ..Seen::default() }))
}

/// Without the version that a look tells, which [`a_look_tells_the_last_version_and_whether_there_is_a_value`] is about.
async fn replies(session: &mut Box<dyn Session>, batch: &[Command]) -> Vec<Reply> {
    let replies = session.apply(batch, WITHIN).await.into_iter().map(Result::unwrap);
    let shortened = |reply| match reply {
        Reply::Seen(seen) => Reply::Seen(Box::new(Seen { version: None, holds: false, ..*seen })),
        other => other,
    };
    replies.map(shortened).collect()
}

/// What a look at the key tells of its version and its value.
async fn last_version(session: &mut Box<dyn Session>, name: &str) -> (Option<Version>, bool) {
    match session.apply(&[look(name, 0)], WITHIN).await.remove(0).unwrap() {
        Reply::Seen(seen) => (seen.version, seen.holds),
        other => panic!("{other:?}"),
    }
}

pub async fn a_look_tells_the_last_version_and_whether_there_is_a_value(cache: &dyn Cache) {
    let mut session = cache.session();
    assert_eq!(last_version(&mut session, "seen").await, (None, false));
    let set = |version| Command::Set { key: key("seen"), value: "v".into(), ttl: None, version, remembered: None };
    session.apply(&[set(None)], WITHIN).await.remove(0).unwrap();
    assert_eq!(last_version(&mut session, "seen").await, (None, true));
    session.apply(&[set(Some(number(7)))], WITHIN).await.remove(0).unwrap();
    assert_eq!(last_version(&mut session, "seen").await, (Some(number(7)), true));
    let delete = Command::Delete { key: key("seen"), version: Some(number(8)) };
    session.apply(&[delete], WITHIN).await.remove(0).unwrap();
    assert_eq!(last_version(&mut session, "seen").await, (Some(number(8)), false));
}

pub async fn a_look_tells_what_would_be_superseded_and_what_is_remembered(cache: &dyn Cache) {
    let mut session = cache.session();
    let value = || Some(remembered("\"one\"", b"value"));
    let batch = [fetched("k", "value", "\"one\"", 5), at(5, set("plain", "v")), at(5, delete("gone"))];
    replies(&mut session, &batch).await;
    let looks = [look("k", 4), look("k", 5), look("k", 6), look("plain", 6), look("gone", 5), look("none", 0)];
    let expected = [
        seen(Standing::Superseded, value()),
        seen(Standing::Present, value()),
        seen(Standing::Open, value()),
        seen(Standing::Open, None),
        seen(Standing::Superseded, None),
        seen(Standing::Open, None),
    ];
    assert_eq!(replies(&mut session, &looks).await, expected);
    // Without its value a key gives nothing to ask for a change of, and the same version fills it again.
    replies(&mut session, &[delete("k")]).await;
    let expected = [seen(Standing::Superseded, None), seen(Standing::Open, None)];
    assert_eq!(replies(&mut session, &[look("k", 4), look("k", 5)]).await, expected);
    // A storage's own place is not old at its own place.
    let place = |rank| Version::from_place(&Place::Number(7), rank).unwrap();
    let set_at = Command::Set {
        key: key("placed"),
        value: "v".into(),
        ttl: None,
        version: Some(place(Rank::Set)),
        remembered: None,
    };
    let look_at = |rank| Command::Look { key: key("placed"), version: Some(place(rank)) };
    let expected = [Reply::Stored, seen(Standing::Open, None), seen(Standing::Open, None)];
    assert_eq!(replies(&mut session, &[set_at, look_at(Rank::Set), look_at(Rank::Delete)]).await, expected);
}

pub async fn what_is_known_again_stands_with_a_new_time_to_live_and_a_greater_version(cache: &dyn Cache) {
    let mut session = cache.session();
    let large: Vec<u8> = (0..LONGEST).map(|n| (n % 253) as u8).collect();
    for (name, value) in [("small", &b"value"[..]), ("empty", b""), ("large", &large)] {
        let late = format!("{name}:late");
        replies(&mut session, &[fetched(name, value.to_vec(), "\"one\"", 1)]).await;
        replies(&mut session, &[fetched(&late, value.to_vec(), "\"one\"", 7)]).await;
        let batch = [
            refresh(name, 2, value, "\"one\"", Some(1000)),
            refresh(name, 2, value, "\"one\"", Some(1000)),
            refresh(&late, 6, value, "\"one\"", Some(1)),
            at(2, set(name, "late")),
            look(name, 3),
            get(name),
        ];
        let expected = [
            Reply::Unchanged,
            Reply::Superseded,
            Reply::Superseded,
            Reply::Superseded,
            seen(Standing::Open, Some(remembered("\"one\"", value))),
            Reply::Hit(value.to_vec().into()),
        ];
        assert!(replies(&mut session, &batch).await == expected, "{name}");
    }
    // The time to live runs anew: shorter, and none.
    let batch = [fetched("short", "v", "\"s\"", 1), refresh("short", 2, b"v", "\"s\"", Some(1))];
    assert_eq!(replies(&mut session, &batch).await, [Reply::Stored, Reply::Unchanged]);
    let batch = [
        Command::Set {
            key: key("long"),
            value: "v".into(),
            ttl: Ttl::from_seconds(1),
            version: Some(number(1)),
            remembered: Some(Box::new(remembered("\"l\"", b"v"))),
        },
        refresh("long", 2, b"v", "\"l\"", None),
    ];
    assert_eq!(replies(&mut session, &batch).await, [Reply::Stored, Reply::Unchanged]);
    let start = std::time::Instant::now();
    while one(&mut session, get("short")).await != Ok(Reply::Miss) {
        assert!(start.elapsed().as_secs() < 20, "it did not expire");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(one(&mut session, get("long")).await, hit("v"));
    assert_eq!(one(&mut session, refresh("short", 3, b"v", "\"s\"", None)).await, Ok(Reply::Changed));
}

pub async fn nothing_else_is_taken_for_the_value_that_is_remembered(cache: &dyn Cache) {
    let mut session = cache.session();
    let refreshed = || refresh("k", 2, b"value", "\"one\"", Some(100));
    let fill = || fetched("k", "value", "\"one\"", 1);
    replies(&mut session, &[fill()]).await;
    for other in ["valuE", "valu", "value!", ""] {
        let batch = [set("k", other), refreshed(), get("k"), look("k", 2)];
        let mut got = replies(&mut session, &batch).await;
        // What is still remembered then is no more than a reason to ask.
        got.pop();
        assert_eq!(got, [Reply::Stored, Reply::Changed, Reply::Hit(other.into())], "{other}");
    }
    assert_eq!(replies(&mut session, &[delete("k"), refreshed()]).await, [Reply::Deleted, Reply::Changed]);
    // The version was not raised by any of these.
    let batch = [fill(), refreshed(), get("k")];
    assert_eq!(replies(&mut session, &batch).await, [Reply::Stored, Reply::Unchanged, Reply::Hit("value".into())]);
}

pub async fn whatever_deletes_or_writes_without_an_etag_forgets_it(cache: &dyn Cache) {
    let mut session = cache.session();
    let nothing = || seen(Standing::Open, None);
    for (name, command) in
        [("inline", at(2, set("inline", "v"))), ("deleted", at(2, delete("deleted"))), ("again", delete("again"))]
    {
        replies(&mut session, &[fetched(name, "v", "\"one\"", 1), command, set(name, "v")]).await;
        if name != "again" {
            assert_eq!(replies(&mut session, &[look(name, 9)]).await, [nothing()], "{name}");
        }
    }
    replies(&mut session, &[fetched("swept", "v", "\"one\"", 1)]).await;
    let swept = [DeleteGroup { keys: vec!["swept".into()], version: Some(number(5)) }];
    session.unlink_and_scan(&swept, None, WITHIN).await;
    assert_eq!(replies(&mut session, &[set("swept", "v"), look("swept", 9)]).await, [Reply::Stored, nothing()]);
    let batch = [fetched("new", "v", "\"one\"", 1), fetched("new", "w", "\"two\"", 2), look("new", 3)];
    let expected = [Reply::Stored, Reply::Stored, seen(Standing::Open, Some(remembered("\"two\"", b"w")))];
    assert_eq!(replies(&mut session, &batch).await, expected);
}

pub async fn looks_stand_between_other_commands_in_their_order(cache: &dyn Cache) {
    let mut session = cache.session();
    let batch = [
        get("k"),
        look("k", 1),
        at(1, set("k", "one")),
        look("k", 1),
        get("k"),
        fetched("k", "two", "\"2\"", 2),
        look("k", 3),
        get("k"),
        set("k", "plain"),
        look("k", 2),
        at(3, delete("k")),
        look("k", 3),
        get("k"),
    ];
    let mut got = replies(&mut session, &batch).await;
    let Reply::Seen(after_plain) = got.remove(9) else { panic!("a look") };
    assert_eq!(after_plain.standing, Standing::Present);
    let expected = [
        Reply::Miss,
        seen(Standing::Open, None),
        Reply::Stored,
        seen(Standing::Present, None),
        Reply::Hit("one".into()),
        Reply::Stored,
        seen(Standing::Open, Some(remembered("\"2\"", b"two"))),
        Reply::Hit("two".into()),
        Reply::Stored,
        Reply::Deleted,
        seen(Standing::Superseded, None),
        Reply::Miss,
    ];
    assert_eq!(got, expected);
}
