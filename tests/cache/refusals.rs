//! What Redis refuses for one key or one value: the others are carried out, and it is not held against those that come later.

use std::time::{Duration, Instant};

use redis_cache_sync::cache::redis::{CacheSettings, RedisCache};
use redis_cache_sync::cache::{Cache, CacheError, Command, DeleteGroup, Reply, Session};
use redis_cache_sync::event::version::Version;
use redis_cache_sync::secret::Secret;

use crate::middlebox::Middlebox;
use crate::support::*;

/// A session of a user that may use keys that begin so.
fn user(server: &RedisServer, rules: &[&str]) -> Box<dyn Session> {
    let mut change = redis::cmd("ACL");
    change.arg(&["SETUSER", "limited", "reset", "on", ">pw", "+@all"]).arg(rules);
    change.exec(&mut server.client()).unwrap();
    let mut settings = server.settings();
    (settings.username, settings.password) = (Some("limited".into()), Some(Secret::new("pw")));
    RedisCache::new(settings).unwrap().session()
}

/// How often the server has carried out a command, or rejected it.
fn calls(server: &RedisServer, command: &str, field: &str) -> u64 {
    let info: String = redis::cmd("INFO").arg("commandstats").query(&mut server.client()).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:"))).unwrap_or_default();
    let value = line.split(',').find_map(|pair| pair.strip_prefix(&format!("{field}=")));
    value.map_or(0, |value| value.parse().unwrap())
}

/// Until each has an answer of its own, as a writer does it: a server that closes over a value may be gone before its last
/// word was read.
async fn apply(session: &mut Box<dyn Session>, batch: &[Command]) -> Vec<Result<Reply, CacheError>> {
    let mut results = session.apply(batch, WITHIN).await;
    for _ in 0..batch.len() {
        let is_left = |result: &Result<_, _>| {
            use CacheError::{Postponed, RefusedTogether, Unavailable};
            matches!(result, Err(RefusedTogether | Postponed | Unavailable(_)))
        };
        let left: Vec<usize> = (0..batch.len()).filter(|n| is_left(&results[*n])).collect();
        let again: Vec<Command> = left.iter().map(|n| batch[*n].clone()).collect();
        for (place, result) in left.into_iter().zip(session.apply(&again, WITHIN).await) {
            results[place] = result;
        }
    }
    results
}

/// `counted`: commands that carry the writes, one or several at a time.
async fn shares_calls_again(form: fn(u64, Command) -> Command, counted: &[&str]) {
    let server = RedisServer::start(&[]);
    let mut session = user(&server, &["~open:*", "~rcs:v:*"]);
    let shared = Err(CacheError::RefusedTogether);
    let poison = [form(1, set("open:a", "v")), form(1, set("closed", "v"))];
    assert_eq!(session.apply(&poison, WITHIN).await, [shared.clone(), shared]);
    let refused = Instant::now();
    let count = || counted.iter().map(|command| calls(&server, command, "calls")).sum::<u64>();
    for version in 2.. {
        let (before, begun) = (count(), refused.elapsed());
        let batch = [form(version, set("open:a", "v")), form(version, set("open:b", "v"))];
        assert_eq!(session.apply(&batch, WITHIN).await, [Ok(Reply::Stored), Ok(Reply::Stored)]);
        let came = count() - before;
        if came == 1 {
            assert!(refused.elapsed() > Duration::from_millis(900), "too soon: {begun:?}");
            break;
        }
        assert_eq!(came, 2);
        assert!(begun < WITHIN, "each write still has a call of its own");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The same again, and it recovers again.
    assert!(session.apply(&poison, WITHIN).await.iter().all(|result| *result == Err(CacheError::RefusedTogether)));
}

#[tokio::test]
async fn one_refused_key_ends_shared_sets_for_a_moment_only() {
    shares_calls_again(|_, command| command, &["mset", "set"]).await;
}

#[tokio::test]
async fn one_refused_key_ends_shared_scripts_for_a_moment_only() {
    shares_calls_again(at, &["evalsha"]).await;
}

#[tokio::test]
async fn a_server_without_the_shared_command_is_asked_for_it_once() {
    let server = RedisServer::start(&["--rename-command", "MSET", ""]);
    let mut session = server.session();
    let batch = [set("a", "v"), set("b", "v")];
    let shared = || Err(CacheError::RefusedTogether);
    assert_eq!(session.apply(&batch, WITHIN).await, [shared(), shared()]);
    let begun = Instant::now();
    // Longer than the pause after which it would be asked again.
    while begun.elapsed() < Duration::from_millis(1300) {
        assert_eq!(session.apply(&batch, WITHIN).await, [Ok(Reply::Stored), Ok(Reply::Stored)]);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(session.reconnects(), 0);
}

/// Whether it is a Valkey that takes several writes with an expiry faster than one by one.
fn sets_many_for_a_time(server: &RedisServer) -> bool {
    let info: String = redis::cmd("INFO").arg("server").query(&mut server.client()).unwrap();
    let version = info.lines().find_map(|line| line.strip_prefix("valkey_version:")).unwrap_or_default();
    let release: Vec<u32> = version.split('.').take(2).map_while(|part| part.parse().ok()).collect();
    release >= vec![9, 1]
}

#[tokio::test]
async fn sets_that_expire_alike_are_stored_for_their_time_whatever_carries_them() {
    let server = RedisServer::start(&[]);
    let shares = sets_many_for_a_time(&server);
    // The second may not use what is new.
    let may_not = if shares { &["~*", "-msetex"][..] } else { &["~*"] };
    for (mut session, shares) in [(server.session(), shares), (user(&server, may_not), false)] {
        redis::cmd("FLUSHALL").exec(&mut server.client()).unwrap();
        // What a server can do is known once it has answered.
        session.ping(WITHIN).await.unwrap();
        let batch = [set_for("a", "1", 100), set_for("b", "2", 100), set_for("a", "3", 100), set_for("c", "4", 1000)];
        let count = |command| calls(&server, command, "calls");
        for _ in 0..2 {
            let before = (count("msetex"), count("set"));
            assert!(apply(&mut session, &batch).await.iter().all(|result| *result == Ok(Reply::Stored)));
            let came = (count("msetex") - before.0, count("set") - before.1);
            assert_eq!(came, if shares { (1, 1) } else { (0, 4) });
        }
        let mut look = server.client();
        for (name, value, seconds) in [("a", "3", 100), ("b", "2", 100), ("c", "4", 1000)] {
            assert_eq!(redis::cmd("GET").arg(name).query::<String>(&mut look).unwrap(), value);
            let left = redis::cmd("TTL").arg(name).query::<i64>(&mut look).unwrap();
            assert!((seconds - 30..=seconds).contains(&left), "{name}: {left}");
        }
    }
}

#[tokio::test]
async fn a_value_that_is_too_long_for_the_server_is_refused_and_costs_the_others_nothing() {
    let server = RedisServer::start(&["--proto-max-bulk-len", "1mb"]);
    let mut session = server.session();
    let (fits, long) = (vec![7; 1 << 20], vec![7; 3 << 20]);
    let batch = [
        set("a", "v"),
        set("long", long.clone()),
        get("a"),
        at(1, set("versioned", long.clone())),
        set("fits", fits.clone()),
        get("long"),
    ];
    let is_refused = |result: &Result<Reply, CacheError>| {
        matches!(result, Err(error @ CacheError::Refused(_))
            if error.to_string().ends_with("the value is longer than its proto-max-bulk-len"))
    };
    let mut results = apply(&mut session, &batch).await;
    let long_ones = [results.remove(3), results.remove(1)];
    assert!(long_ones.iter().all(is_refused), "{long_ones:?}");
    assert_eq!(results, [Ok(Reply::Stored), hit("v"), Ok(Reply::Stored), Ok(Reply::Miss)]);
    for _ in 0..5 {
        let result = one(&mut session, set("long", long.clone())).await;
        assert!(is_refused(&result), "{result:?}");
        assert_eq!(one(&mut session, get("fits")).await, hit(fits.clone()));
    }
    assert!((1..=2).contains(&session.reconnects()), "what was refused is not sent again and again");
}

/// The server's last word is lost with the connection that is closed while the value is on its way.
#[tokio::test]
async fn a_value_that_is_too_long_is_found_out_though_nobody_says_so() {
    let server = RedisServer::start(&["--proto-max-bulk-len", "1mb"]);
    let middlebox = Middlebox::without_last_words(server.port);
    let mut settings = server.settings();
    settings.port = middlebox.port;
    let mut session = RedisCache::new(settings).unwrap().session();
    let long = vec![7; 3 << 20];
    assert!(is_unavailable(&one(&mut session, set("long", long.clone())).await), "nothing was said");
    let again = one(&mut session, set("long", long)).await;
    assert!(matches!(again, Err(CacheError::Refused(_))), "{again:?}");
    assert_eq!(one(&mut session, set("a", "v")).await, Ok(Reply::Stored));
    // A value that is taken after a connection was lost with one like it.
    let _: () = redis::cmd("CONFIG").arg(&["SET", "proto-max-bulk-len", "64mb"]).query(&mut server.client()).unwrap();
    assert_eq!(one(&mut session, at(1, set("less", vec![7; 2 << 20]))).await, Ok(Reply::Stored));
}

/// Redis closes the connection over it without a word.
#[tokio::test]
async fn a_value_beyond_the_query_buffer_is_told_from_a_lost_connection_the_second_time() {
    let server = RedisServer::start(&["--client-query-buffer-limit", "1mb"]);
    let mut session = server.session();
    let long = || set("long", vec![7; 3 << 20]);
    assert!(is_unavailable(&one(&mut session, long()).await));
    let again = one(&mut session, long()).await;
    let told = again.as_ref().err().map(ToString::to_string).unwrap_or_default();
    assert!(
        is_unavailable(&again) && told.contains("3145728 bytes") && told.contains("client-query-buffer-limit"),
        "{told}"
    );
    assert_eq!(one(&mut session, set("a", "v")).await, Ok(Reply::Stored));
    let _: () =
        redis::cmd("CONFIG").arg(&["SET", "client-query-buffer-limit", "64mb"]).query(&mut server.client()).unwrap();
    assert_eq!(one(&mut session, long()).await, Ok(Reply::Stored));
}

#[tokio::test]
async fn one_forbidden_key_among_many_is_left_and_the_others_are_deleted() {
    let server = RedisServer::start(&[]);
    for version in [None, Version::from_number(2)] {
        let names: Vec<String> = (0..200).map(|n| format!("open:{n}")).chain(["closed".into()]).collect();
        let all: Vec<Command> = names.iter().map(|name| set(name, "v")).collect();
        server.session().apply(&all, WITHIN).await;
        let mut session = user(&server, &["~open:*", "~rcs:v:*"]);
        let groups = [DeleteGroup { version, ..delete_group(names) }, delete_group(["open:none"])];
        let progress = session.unlink_and_scan(&groups, None, WITHIN).await;
        assert_eq!((progress.failure.as_ref(), deleted(&progress)), (None, vec![200, 0]));
        assert_eq!(progress.unlinked[0].refused, ["closed"]);
        let refusal = progress.unlinked[0].refusal.as_ref().unwrap().to_string();
        assert!(refusal.ends_with(": NOPERM"), "{refusal}");
        assert_eq!(redis::cmd("KEYS").arg("[oc]*").query::<Vec<String>>(&mut server.client()).unwrap(), ["closed"]);
    }
}

#[tokio::test]
async fn without_the_right_to_delete_keys_are_not_tried_one_by_one() {
    let server = RedisServer::start(&[]);
    let mut session = user(&server, &["~*", "-unlink"]);
    let group = delete_group((0..100).map(|n| n.to_string()));
    let progress = session.unlink_and_scan(&[group], None, WITHIN).await;
    assert_eq!(progress.failure, Some(CacheError::Refused("redis refused UNLINK: NOPERM".into())));
    assert!(calls(&server, "unlink", "rejected_calls") <= 1);
}

#[tokio::test]
async fn on_a_full_redis_deletions_count_once_replicas_have_them() {
    let master = RedisServer::start(&["--maxmemory-policy", "noeviction"]);
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let mut side = master.client();
    wait_until("the replica to follow", || {
        let _: () = redis::cmd("SET").arg("probe").arg(1).query(&mut side).unwrap();
        redis::cmd("WAIT").arg(1).arg(100).query::<i64>(&mut side).unwrap() == 1
    });
    let mut settings = master.settings();
    settings.response_timeout = Duration::from_secs(1);
    let settings = CacheSettings { wait_replicas: 1, ..settings.into() };
    let mut session = RedisCache::new(settings).unwrap().session();
    let old = ["a", "b", "c", "d"].map(|name| set(name, "v"));
    assert!(session.apply(&old, WITHIN).await.iter().all(Result::is_ok));
    let _: () = redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).query(&mut side).unwrap();

    assert_eq!(one(&mut session, delete("a")).await, Ok(Reply::Deleted));
    assert_eq!(one(&mut session, delete("a")).await, Ok(Reply::Absent));
    let oom = Err(CacheError::RefusedForNow("redis answered OOM".into()));
    assert_eq!(session.apply(&[delete("b"), set("n", "v")], WITHIN).await, [Ok(Reply::Deleted), oom]);
    let progress = session.unlink_and_scan(&[delete_group(["c"])], None, WITHIN).await;
    assert_eq!((progress.failure.as_ref(), deleted(&progress)), (None, vec![1]));
    let names: Vec<String> = redis::cmd("KEYS").arg("?").query(&mut replica.client()).unwrap();
    assert_eq!(names, ["d"], "what counts is gone from the replica");

    let frozen = replica.freeze();
    assert!(is_unavailable(&one(&mut session, delete("d")).await), "no replica has acknowledged it");
    // A deletion repeated writes nothing, and must not pass for acknowledged.
    assert!(is_unavailable(&one(&mut session, delete("d")).await));
    drop(frozen);
    wait_until("the replica to catch up", || redis::cmd("WAIT").arg(1).arg(100).query::<i64>(&mut side).unwrap() == 1);
    assert_eq!(one(&mut session, delete("d")).await, Ok(Reply::Absent));
    assert_eq!(session.reconnects(), 0);
}
