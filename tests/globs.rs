//! Our globs against Redis's own matching, on a real server.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use redis_cache_sync::event::pattern::{Pattern, PatternError};

/// A redis-server of our own on a Unix socket, stopped when dropped.
struct RedisServer {
    process: Child,
    directory: tempfile::TempDir,
}

impl RedisServer {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let process = Command::new(std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into()))
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(directory.path().join("socket"))
            .arg("--dir")
            .arg(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        RedisServer { process, directory }
    }

    fn connect(&self) -> redis::Connection {
        let url = format!("redis+unix://{}", self.directory.path().join("socket").display());
        let client = redis::Client::open(url).unwrap();
        let give_up = Instant::now() + Duration::from_secs(10);
        loop {
            let attempt = client.get_connection().and_then(|mut connection| {
                redis::cmd("PING").query::<String>(&mut connection)?;
                Ok(connection)
            });
            match attempt {
                Ok(connection) => return connection,
                Err(error) => assert!(Instant::now() < give_up, "redis-server does not answer: {error}"),
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

type Keys = BTreeSet<Vec<u8>>;

fn store(redis: &mut redis::Connection, keys: &Keys) {
    let mut pipe = redis::pipe();
    pipe.cmd("FLUSHALL").ignore();
    for key in keys {
        pipe.cmd("SET").arg(key).arg("").ignore();
    }
    pipe.exec(redis).unwrap();
}

/// What Redis finds for each pattern, by KEYS and by SCAN, which must agree.
fn found_by_redis(redis: &mut redis::Connection, patterns: &[String]) -> Vec<Keys> {
    let (mut keys, mut scans) = (redis::pipe(), redis::pipe());
    for pattern in patterns {
        keys.cmd("KEYS").arg(pattern);
        scans.cmd("SCAN").arg(0).arg("COUNT").arg(100_000).arg("MATCH").arg(pattern);
    }
    let by_keys: Vec<Keys> = keys.query(redis).unwrap();
    let by_scan: Vec<(u64, Keys)> = scans.query(redis).unwrap();
    for (one, (cursor, other)) in by_keys.iter().zip(&by_scan) {
        assert_eq!((one, *cursor), (other, 0));
    }
    by_keys
}

fn found_by_us(pattern: &str, keys: &Keys) -> Option<Keys> {
    let pattern = match Pattern::parse(pattern.to_owned(), true) {
        Ok(pattern) => pattern,
        Err(PatternError::UnclosedClass) => return None,
        Err(other) => panic!("{other}"),
    };
    Some(keys.iter().filter(|key| pattern.matches(key)).cloned().collect())
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => vec(select(&b"abc"[..]), 0..7),
        3 => vec(select("ab^-[]\\*?!Zé€\0\u{7f}".as_bytes()), 1..6),
        2 => vec(any::<u8>(), 1..4),
    ]
}

fn pattern() -> impl Strategy<Value = String> {
    let in_class =
        ["a", "b", "-", "^", "\\", "*", "?", "é", "€", "a-c", "Z-a", "!-]", "a-\\", "a-é", "\\]", "\\-", "\\^"];
    let class = (select(&["[", "[^"][..]), vec(select(in_class.to_vec()), 0..5))
        .prop_map(|(open, inside)| format!("{open}{}]", inside.concat()));
    let pieces = prop_oneof![
        9 => select(&["a", "b", "c", "*", "?"][..]).prop_map(String::from),
        3 => class,
        3 => select(&["[", "]", "\\", "-", "^", "é", "€", "\\*", "\\?", "\\[", "\\a"][..]).prop_map(String::from),
        1 => any::<char>().prop_map(String::from),
    ];
    vec(pieces, 1..7).prop_map(|pieces| pieces.concat())
}

#[test]
fn globs_match_exactly_as_redis_matches_them() {
    let server = RedisServer::start();
    let redis = std::cell::RefCell::new(server.connect());
    let mut runner = TestRunner::new(Config { cases: 80, failure_persistence: None, ..Config::default() });
    let cases = (proptest::collection::btree_set(key(), 40), vec(pattern(), 40));
    runner
        .run(&cases, |(keys, patterns)| {
            let mut redis = redis.borrow_mut();
            store(&mut redis, &keys);
            let found = found_by_redis(&mut redis, &patterns);
            for (pattern, by_redis) in patterns.iter().zip(found) {
                if let Some(by_us) = found_by_us(pattern, &keys) {
                    prop_assert_eq!(by_us, by_redis, "pattern {:?}", pattern);
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn every_short_pattern_matches_as_in_redis() {
    let server = RedisServer::start();
    let mut redis = server.connect();
    let words = |alphabet: &[&str], longest: usize| {
        let mut words = vec![String::new()];
        let mut from = 0;
        for _ in 0..longest {
            let until = words.len();
            let longer: Vec<String> = words[from..until]
                .iter()
                .flat_map(|word| alphabet.iter().map(move |next| format!("{word}{next}")))
                .collect();
            words.extend(longer);
            from = until;
        }
        words
    };
    let keys: Keys = words(&["a", "b", "]", "-", "\\", "^"], 2).into_iter().map(String::into_bytes).collect();
    let mut patterns = words(&["a", "[", "]", "^", "-", "\\", "*", "?"], 5);
    patterns.retain(|pattern| !pattern.is_empty() && (pattern.len() < 5 || pattern.starts_with('[')));
    store(&mut redis, &keys);
    for patterns in patterns.chunks(500) {
        let found = found_by_redis(&mut redis, patterns);
        for (pattern, by_redis) in patterns.iter().zip(found) {
            if let Some(by_us) = found_by_us(pattern, &keys) {
                assert_eq!(by_us, by_redis, "pattern {pattern:?}");
            }
        }
    }
}
