//! A Redis user that lacks a right: what it may not do has not happened, not in part either, and is done once it may.

use std::collections::BTreeMap;

use bytes::Bytes;
use redis_cache_sync::cache::{CacheError, Command, DeleteGroup, Reply, Seen, Session};
use redis_cache_sync::event::version::Version;
use redis_cache_sync::secret::Secret;

use crate::support::*;

/// Names of the keys in the batches below; "n" has no value before.
const KEYS: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "n"];

/// Writes with a version, in each form in which they may go: alone and together, with a time to live and without.
fn batches() -> Vec<Vec<Command>> {
    [
        vec![set("a", "new"), set("b", "new")],
        vec![set_for("c", "new", 100)],
        vec![set("d", "new")],
        vec![delete("e"), delete("n")],
        vec![set("f", "new"), set_for("g", "new", 100)],
    ]
    .into_iter()
    .map(|batch| batch.into_iter().map(|command| at(2, command)).collect())
    .collect()
}

fn group_at_two() -> DeleteGroup {
    DeleteGroup { version: Version::from_number(2), ..delete_group(["h"]) }
}

/// What all keys hold, the hidden ones too.
fn state(server: &RedisServer) -> BTreeMap<String, Vec<u8>> {
    let mut side = server.client();
    let names: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut side).unwrap();
    names.into_iter().map(|name| (name.clone(), redis::cmd("GET").arg(&name).query(&mut side).unwrap())).collect()
}

/// What of the state belongs to this key.
fn part<'a>(state: &'a BTreeMap<String, Vec<u8>>, name: &str) -> Vec<&'a Vec<u8>> {
    let version_key = format!("}}{name}");
    state.iter().filter(|(key, _)| *key == name || key.ends_with(&version_key)).map(|(_, value)| value).collect()
}

fn user(server: &RedisServer, rules: &[&str]) -> Box<dyn Session> {
    let mut change = redis::cmd("ACL");
    change.arg(&["SETUSER", "sync", "reset", "on", ">pw", "+@all"]).arg(rules);
    change.exec(&mut server.client()).unwrap();
    let mut settings = server.settings();
    (settings.username, settings.password) = (Some("sync".into()), Some(Secret::new("pw")));
    redis_cache_sync::cache::Cache::session(&redis_cache_sync::cache::redis::RedisCache::new(settings).unwrap())
}

/// Until each has an answer of its own.
async fn apply(session: &mut Box<dyn Session>, batch: &[Command]) -> Vec<Result<Reply, CacheError>> {
    let mut results = session.apply(batch, WITHIN).await;
    for _ in 0..3 {
        let left: Vec<usize> = (0..batch.len()).filter(|n| results[*n] == Err(CacheError::RefusedTogether)).collect();
        let again: Vec<Command> = left.iter().map(|n| batch[*n].clone()).collect();
        for (place, result) in left.into_iter().zip(session.apply(&again, WITHIN).await) {
            results[place] = result;
        }
    }
    results
}

async fn lacks(rules: &[&str]) {
    let server = RedisServer::start(&[]);
    let mut all = user(&server, &["~*"]);
    let old: Vec<Command> = KEYS.iter().filter(|name| **name != "n").map(|name| at(1, set(name, "old"))).collect();
    assert!(all.apply(&old, WITHIN).await.iter().all(Result::is_ok));
    let before = state(&server);

    let mut limited = user(&server, rules);
    let mut refused = Vec::new();
    for batch in batches() {
        for (command, result) in batch.iter().zip(apply(&mut limited, &batch).await) {
            let key = command.key().as_str();
            match result {
                Ok(reply) => assert_ne!(reply, Reply::Superseded, "{rules:?}, {key}"),
                Err(CacheError::Refused(detail)) => {
                    assert!(detail.ends_with(": NOPERM"), "{rules:?}: {detail}");
                    assert_eq!(part(&state(&server), key), part(&before, key), "{rules:?}: half of {key} was done");
                    refused.push(key.to_owned());
                }
                Err(error) => panic!("{rules:?}, {key}: {error:?}"),
            }
        }
    }
    let progress = limited.unlink_and_scan(&[group_at_two()], None, WITHIN).await;
    match progress.failure.or(progress.unlinked[0].refusal.clone()) {
        None => assert_eq!(progress.unlinked[0].deleted, 1),
        Some(CacheError::Refused(_)) => {
            assert_eq!(part(&state(&server), "h"), part(&before, "h"), "{rules:?}: half of h was done");
            refused.push("h".into());
        }
        Some(error) => panic!("{rules:?}: {error:?}"),
    }

    let mut all = user(&server, &["~*"]);
    for batch in batches() {
        for (command, result) in batch.iter().zip(all.apply(&batch, WITHIN).await) {
            let is_done = !refused.contains(&command.key().as_str().to_owned());
            assert_eq!(result == Ok(Reply::Superseded), is_done, "{rules:?}, {command:?}: {result:?}");
        }
    }
    let progress = all.unlink_and_scan(&[group_at_two()], None, WITHIN).await;
    assert_eq!(progress.failure, None);
    let none = || Ok(Reply::Miss);
    let values = all.apply(&KEYS.map(get), WITHIN).await;
    let new = || hit(Bytes::from("new"));
    assert_eq!(values, [new(), new(), new(), new(), none(), new(), new(), none(), none()], "{rules:?}");
    let late: Vec<Command> = KEYS.iter().map(|name| at(2, set(name, "late"))).collect();
    assert_eq!(all.apply(&late, WITHIN).await, vec![Ok(Reply::Superseded); 9], "{rules:?}");
}

#[tokio::test]
async fn without_the_right_for_a_command_nothing_of_a_step_is_done() {
    for command in ["mget", "exists", "mset", "set", "setex", "unlink", "evalsha"] {
        lacks(&["~*", &format!("-{command}")]).await;
    }
}

/// Redis says then that it does not know the script, as it does after a restart.
#[tokio::test]
async fn without_the_right_to_load_scripts_what_has_a_version_is_refused_for_good() {
    let server = RedisServer::start(&[]);
    let mut session = user(&server, &["~*", "-script"]);
    let group = || [group_at_two()];
    let refused = || CacheError::Refused("redis refused SCRIPT LOAD: NOPERM".into());
    for batch in batches() {
        for result in apply(&mut session, &batch).await {
            assert_eq!(result, Err(refused()));
        }
    }
    assert_eq!(session.unlink_and_scan(&group(), None, WITHIN).await.failure, Some(refused()));
    assert_eq!(one(&mut session, set("h", "without a version")).await, Ok(Reply::Stored));
    assert_eq!(session.reconnects(), 0);

    redis::cmd("ACL").arg(&["SETUSER", "sync", "+script"]).exec(&mut server.client()).unwrap();
    for batch in batches() {
        assert!(session.apply(&batch, WITHIN).await.iter().all(Result::is_ok));
    }
    assert_eq!(deleted(&session.unlink_and_scan(&group(), None, WITHIN).await), [1]);
}

#[tokio::test]
async fn without_the_right_for_a_key_nothing_of_a_step_is_done() {
    for closed in KEYS {
        let open: Vec<String> = KEYS.iter().filter(|key| **key != closed).map(|key| format!("~{key}")).collect();
        let open: Vec<&str> = open.iter().map(String::as_str).chain(["~rcs:v:*"]).collect();
        lacks(&open).await;
        // And with the key, but without where its version is kept.
        let open: Vec<String> =
            KEYS.iter().filter(|key| **key != closed).map(|key| format!("~rcs:v:*}}{key}")).collect();
        let open: Vec<&str> = open.iter().map(String::as_str).chain(["~?"]).collect();
        lacks(&open).await;
    }
}

/// From Redis 7.0 on rights may come from selectors, each with commands and keys of its own; no two are added up.
#[tokio::test]
async fn rights_that_come_from_selectors_are_no_different() {
    let server = RedisServer::start(&[]);
    let mut probe = redis::cmd("ACL");
    if probe.arg(&["SETUSER", "probe", "(~a)"]).exec(&mut server.client()).is_err() {
        return println!("this server knows no selectors");
    }
    let one_each: Vec<String> = KEYS.iter().map(|key| format!("(+@all ~{key} ~rcs:v:*}}{key})")).collect();
    lacks(&one_each.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for closed in KEYS {
        let open: String = KEYS.iter().filter(|key| **key != closed).map(|key| format!(" ~{key}")).collect();
        lacks(&[&format!("(+@all ~rcs:v:*{open})")]).await;
        // That key may be read and not written.
        lacks(&[&format!("(+@all ~rcs:v:* %R~{closed}{open})")]).await;
    }
    for command in ["mset", "setex", "unlink"] {
        lacks(&[&format!("(+@all -{command} ~*)"), "(+@read ~*)"]).await;
    }
}

/// A full Redis refuses what needs memory, and all of it.
#[tokio::test]
async fn a_full_redis_stores_nothing_of_a_version_and_still_deletes() {
    let server = RedisServer::start(&["--maxmemory-policy", "noeviction"]);
    let mut session = server.session();
    let old = [at(1, set("a", "old")), at(1, set("b", "old")), at(1, set("c", "old")), at(1, set("d", "old"))];
    assert!(session.apply(&old, WITHIN).await.iter().all(Result::is_ok));
    let memory = |bytes: &str| -> () {
        redis::cmd("CONFIG").arg(&["SET", "maxmemory", bytes]).query(&mut server.client()).unwrap()
    };
    memory("1");
    let full = || Err(CacheError::RefusedForNow("redis answered OOM".into()));
    let batch = [at(2, delete("a")), at(2, set("b", "new")), at(2, set_for("c", "new", 9)), get("b")];
    assert_eq!(session.apply(&batch, WITHIN).await, [Ok(Reply::Deleted), full(), full(), hit("old")]);
    let groups = DeleteGroup { version: Version::from_number(2), ..delete_group(["d"]) };
    let progress = session.unlink_and_scan(&[groups], None, WITHIN).await;
    assert_eq!((progress.failure, progress.unlinked[0].deleted), (None, 1));
    memory("0");
    let again =
        [at(2, set("a", "late")), at(2, set("b", "new")), at(2, set_for("c", "new", 9)), at(2, set("d", "late"))];
    let late = || Ok(Reply::Superseded);
    assert_eq!(session.apply(&again, WITHIN).await, [late(), Ok(Reply::Stored), Ok(Reply::Stored), late()]);
}

/// A version key of another type, or as an older release left it.
#[tokio::test]
async fn what_an_older_release_or_somebody_else_left_as_a_version_is_understood() {
    let server = RedisServer::start(&[]);
    let mut session = server.session();
    assert_eq!(one(&mut session, at(7, set("k", "v"))).await, Ok(Reply::Stored));
    let mut side = server.client();
    let names: Vec<String> = redis::cmd("KEYS").arg("rcs:v:*").query(&mut side).unwrap();
    let [version_key] = &names[..] else { panic!("{names:?}") };
    // Before writes were told from deletions.
    let _: () = redis::cmd("SET").arg(version_key).arg(format!("n{:019}", 7)).query(&mut side).unwrap();
    let batch = [
        at(6, set("k", "late")),
        at(7, set("k", "late")),
        delete("k"),
        at(7, set("k", "late")),
        at(8, set("k", "new")),
    ];
    let late = || Ok(Reply::Superseded);
    let expected = [late(), late(), Ok(Reply::Deleted), late(), Ok(Reply::Stored)];
    assert_eq!(session.apply(&batch, WITHIN).await, expected);
    let _: () = redis::cmd("DEL").arg(version_key).query(&mut side).unwrap();
    let _: () = redis::cmd("LPUSH").arg(version_key).arg("x").query(&mut side).unwrap();
    let look = Command::Look { key: key("k"), version: Version::from_number(1) };
    let nothing_known = Seen { holds: true, ..Seen::default() };
    assert_eq!(one(&mut session, look).await, Ok(Reply::Seen(Box::new(nothing_known))));
    assert_eq!(one(&mut session, at(1, set("k", "v"))).await, Ok(Reply::Stored));
    assert_eq!(one(&mut session, at(1, set("k", "late"))).await, late());
}
