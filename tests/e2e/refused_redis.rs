//! A Redis that the service cannot work with: what the start, the log and `/ready` say of it.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::middlebox::Middlebox;
use crate::support::redis::Redis;
use crate::support::{Daemon, eventually, set_inline};

#[test]
fn a_redis_that_is_too_old_refuses_the_start() {
    let redis = Redis::start();
    let old = Middlebox::before_an_old_redis(redis.port());
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(env!("CARGO_BIN_EXE_redis-cache-sync"))
        .current_dir(dir.path())
        .env_clear()
        .args([
            "--port",
            "0",
            "--bind",
            "127.0.0.1",
            "--redis-host",
            "127.0.0.1",
            "--redis-port",
            &old.port.to_string(),
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the daemon's binary can be run");
    if !eventually(Duration::from_secs(10), || child.try_wait().is_ok_and(|status| status.is_some())) {
        child.kill().expect("the daemon can be killed");
    }
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("cannot start") && said.contains("it is redis 5.") && said.contains("6.2 or later"),
        "{said}"
    );
}

/// What `check-config --connect` says below the settings, and its exit code.
fn tried(more: &[&str]) -> (Option<i32>, Vec<String>) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_redis-cache-sync"));
    let command = command.current_dir(dir.path()).env_clear().args(["check-config", "--connect"]).args(more);
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_check = |line: &&str| ["ok ", "failed ", "warning "].iter().any(|begin| line.starts_with(begin));
    (output.status.code(), said.lines().filter(is_check).map(str::to_owned).collect())
}

#[test]
fn check_config_tries_redis_and_says_of_each_thing_whether_it_is_good() {
    let redis = Redis::start();
    let url = |login: &str| format!("redis://{login}127.0.0.1:{}", redis.port());
    let (code, checks) = tried(&["--redis-url", &url("")]);
    assert_eq!((code, checks.len()), (Some(0), 10), "{checks:?}");
    let (kept, good): (Vec<&String>, Vec<&String>) = checks.iter().partition(|line| line.starts_with("warning "));
    assert!(good.iter().all(|line| line.starts_with("ok ")), "{checks:?}");
    assert!(kept.len() == 1 && kept[0].contains("has no append-only file"), "{checks:?}");
    assert!(checks[0].contains(&url("")), "{checks:?}");
    let user = ["SETUSER", "half", "on", ">pw", "~*", "+@all", "-getrange", "-scan", "-evalsha"];
    redis::cmd("ACL").arg(&user).exec(&mut redis.conn()).expect("a user");
    let (code, checks) = tried(&["--redis-url", &url("half:pw@")]);
    let failed: Vec<&String> = checks.iter().filter(|line| line.starts_with("failed ")).collect();
    assert_eq!((code, failed.len()), (Some(1), 3), "{checks:?}");
    for (line, right) in failed.iter().zip(["to read", "with a version", "by pattern"]) {
        assert!(line.contains(right) && line.contains("NOPERM"), "{line}");
    }
    let (code, checks) = tried(&["--redis-url", &url("half:other@")]);
    assert!(code == Some(1) && checks.len() == 1 && checks[0].contains("WRONGPASS"), "{checks:?}");
    let old = Middlebox::before_an_old_redis(redis.port());
    let (code, checks) = tried(&["--redis-host=127.0.0.1", &format!("--redis-port={}", old.port)]);
    assert!(code == Some(1) && checks[0].contains("the service needs 6.2 or later"), "{checks:?}");
    assert!(eventually(Duration::from_secs(10), || redis.key_count() == 0), "something is left behind");
    assert_eq!(tried(&["--embedded"]).0, Some(0));
}

#[test]
fn check_config_tries_the_journal_and_says_what_its_redis_keeps() {
    let (redis, journal) = (Redis::start(), Redis::durable());
    let cache = format!("--redis-url=redis://127.0.0.1:{}", redis.port());
    let with = |more: &[&str], login: &str| {
        let url = format!("--journal-url=redis://{login}127.0.0.1:{}/0", journal.port());
        let (code, checks) = tried(&[&[cache.as_str(), &url], more].concat());
        (code, checks[6..].to_vec())
    };
    let (code, checks) = with(&[], "");
    assert!(code == Some(0) && checks.len() == 3 && checks.iter().all(|line| line.starts_with("ok ")), "{checks:?}");
    redis::cmd("CONFIG").arg(&["SET", "maxmemory-policy", "allkeys-lru"]).exec(&mut journal.conn()).expect("CONFIG");
    let (code, checks) = with(&[], "");
    assert!(code == Some(0) && checks[3].contains("may evict the journal"), "{checks:?}");
    let (code, checks) = with(&["--journal-wait-replicas=1"], "");
    assert!(code == Some(1) && checks[1].contains("0 replicas acknowledged"), "{checks:?}");
    let user = ["SETUSER", "half", "on", ">pw", "~*", "+@all", "-xadd", "-xlen"];
    redis::cmd("ACL").arg(&user).exec(&mut journal.conn()).expect("a user");
    let (code, checks) = with(&[], "half:pw@");
    let failed: Vec<&String> = checks.iter().filter(|line| line.starts_with("failed ")).collect();
    assert!(code == Some(1) && failed.len() == 2, "{checks:?}");
    assert!(eventually(Duration::from_secs(10), || journal.key_count() == 0), "something is left behind");
    let (code, checks) = with(&[], "half:other@");
    assert!(code == Some(1) && checks.len() == 1 && checks[0].contains("WRONGPASS"), "{checks:?}");
}

/// It was down at the start and then is another.
#[test]
fn a_redis_that_turns_out_too_old_is_told_of_and_not_written_to() {
    let mut redis = Redis::start();
    let old = Middlebox::before_an_old_redis(redis.port());
    redis.kill();
    let daemon = Daemon::builder().set("redis.port", old.port).set("redis.retry_ms", 500).unready().start();
    redis.restart();
    let line = daemon.log_line(|line| line.contains("it is redis 5."));
    assert!(line.contains("ERROR") && line.contains("the service needs 6.2 or later"), "{line}");
    assert_eq!(daemon.post(&set_inline("k", "v")).status, 503);
    assert_eq!(daemon.get("/ready").status, 503);
    assert!(!redis.exists("k"));
}
