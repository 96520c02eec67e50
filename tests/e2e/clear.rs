//! `clear`: keys deleted by pattern, straight in Redis.

use std::process::{Command, Stdio};

use crate::support::{Redis, closed_port};

/// Exit code and both streams.
fn clear(redis_port: u16, args: &[&str]) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let output = Command::new(env!("CARGO_BIN_EXE_redis-cache-sync"))
        .arg("clear")
        .args(args)
        .current_dir(dir.path())
        .env_clear()
        .envs([("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", &redis_port.to_string()), ("REDIS_RETRY_MS", "500")])
        .stdin(Stdio::null())
        .output()
        .expect("the binary can be run");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn fill(redis: &Redis, prefix: &str, count: u32) {
    let mut pipe = redis::pipe();
    for n in 0..count {
        pipe.cmd("SET").arg(format!("{prefix}{n}")).arg("v").ignore();
    }
    pipe.exec(&mut redis.conn()).expect("SET");
}

#[test]
fn without_yes_it_counts_and_shows_and_deletes_nothing() {
    let redis = Redis::start();
    fill(&redis, "sess:", 3000);
    fill(&redis, "user:", 10);
    let (code, out, err) = clear(redis.port(), &["sess:*"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.first(), Some(&"3000 keys match sess:*"));
    assert_eq!(lines.iter().filter(|line| line.starts_with("  sess:")).count(), 20);
    assert_eq!(&lines[21..], ["  … and 2980 more", "nothing was deleted; run it again with --yes to delete"]);
    assert_eq!(redis.key_count(), 3010);
    assert_eq!(clear(redis.port(), &["none:*"]).1, "0 keys match none:*\n");
}

#[test]
fn with_yes_it_deletes_what_matches_and_never_the_services_own_keys() {
    let redis = Redis::start();
    fill(&redis, "sess:", 25_000);
    fill(&redis, "user:", 10);
    fill(&redis, "rcs:v:sess:", 10);
    let (code, out, err) = clear(redis.port(), &["*sess:*", "--yes"]);
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "deleted 25000 keys\n", ""));
    assert_eq!(redis.key_count(), 20);
    let (code, out, _) = clear(redis.port(), &["*", "--yes", "--event-allow-match-all"]);
    assert_eq!((code, out.as_str()), (Some(0), "deleted 10 keys\n"));
    assert_eq!(redis.key_count(), 10);
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_way_out() {
    let redis = Redis::start();
    fill(&redis, "k", 5);
    for (args, reason) in [
        (&["*", "--yes"][..], "--event-allow-match-all"),
        (&["a[b", "--yes"], "not closed"),
        (&["", "--yes"], "1 to 1024 bytes"),
        (&["k*", "--yes", "--embedded"], "embedded"),
        (&["--yes"], "<PATTERN>"),
        (&["k*", "--yes", "--redis-port", "x"], "redis.port"),
        (&["k*", "--bogus"], "--bogus"),
    ] {
        let (code, out, err) = clear(redis.port(), args);
        assert_eq!((code, out.as_str()), (Some(64), ""), "{args:?}: {err}");
        assert!(err.contains(reason), "{args:?}: {err}");
    }
    assert_eq!(redis.key_count(), 5);
}

#[test]
fn without_redis_it_says_so() {
    let port = closed_port();
    for args in [&["k*"][..], &["k*", "--yes"]] {
        let (code, out, err) = clear(port, args);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        assert!(err.contains(&format!("redis://127.0.0.1:{port}/0: ")), "{err}");
    }
}
