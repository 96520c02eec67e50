//! Where settings come from, and the start that is refused because of a bad one.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::support::{Daemon, eventually, get, results, set_inline};

/// Runs the binary in `dir` to its end, with nothing in the environment but this. What does not end is ended here.
fn run(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_redis-cache-sync"))
        .current_dir(dir)
        .env_clear()
        .envs(env.iter().copied())
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the daemon's binary can be run");
    if !eventually(Duration::from_secs(10), || child.try_wait().is_ok_and(|status| status.is_some())) {
        child.kill().expect("the daemon can be killed");
    }
    child.wait_with_output().expect("the daemon can be waited for")
}

/// Asserts that `serve` is refused with exit 64, and that all of this is named.
#[track_caller]
fn assert_refused(dir: &Path, args: &[&str], env: &[(&str, &str)], named: &[&str]) {
    let output = run(dir, args, env);
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(64), "{args:?} {env:?}: {said}");
    for name in named {
        assert!(said.contains(name), "{args:?} {env:?}: {name} is not named: {said}");
    }
}

#[test]
fn a_secret_among_the_arguments_is_warned_of() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let said = |args: &[&str]| {
        let output = run(dir.path(), &[&["check-config"], args].concat(), &[("REDIS_PASSWORD", "hunter2")]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains("hunter2"), "{said}");
        said
    };
    for (flag, value) in [
        ("--redis-password", "hunter2"),
        ("--auth-tokens", "hunter2hunter2hunter2"),
        ("--redis-url", "redis://:hunter2@h"),
        ("--fetch-proxy", "http://u:hunter2@p:1"),
    ] {
        assert!(said(&[flag, value]).contains(&format!("process lists show the secret in {flag}")), "{flag}");
    }
    let open = said(&["--redis-url", "redis://h", "--fetch-proxy", "http://p:1", "--redis-username", "u"]);
    assert!(!open.contains("process lists"), "{open}");
}

#[test]
fn a_bad_value_stops_the_start_and_is_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let bad = [
        ("FETCH_POOL_SIZE", "fetch.pool_size", "many"),
        ("PORT", "port", "70000"),
        ("REDIS_PORT", "redis.port", "x"),
        ("LOG_LEVEL", "log_level", "loud"),
        ("LOG_FORMAT", "log_format", "xml"),
        ("CACHE_BACKEND", "cache.backend", "disk"),
        ("REDIS_MODE", "redis.mode", "ring"),
        ("EVENT_ALLOW_MATCH_ALL", "event.allow_match_all", "perhaps"),
        ("EVENT_DEADLINE_MS", "event.deadline_ms", "-1"),
    ];
    for (variable, setting, value) in bad {
        let output = run(dir.path(), &[], &[(variable, value)]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(64), "{variable}={value}: {said}");
        assert!(said.contains(variable) || said.contains(setting), "{variable}={value}: {said}");
        let flag = format!("--{}", setting.replace(['.', '_'], "-"));
        let given = format!("{flag}={value}");
        assert_refused(dir.path(), &[&given], &[], &[]);
    }
}

#[test]
fn an_empty_lock_and_none_where_one_is_required_stop_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["AUTH_TOKENS", "AUTH_TOKENS_FILE", "AUTH_WEBHOOK_SECRETS", "AUTH_REQUIRED"] {
        assert_refused(dir.path(), &[], &[(name, "")], &[name]);
    }
    assert_refused(dir.path(), &[], &[("AUTH_TOKENS", " , ")], &["auth.tokens"]);
    assert_refused(dir.path(), &["--auth-tokens="], &[], &["auth.tokens", "empty; leave it out"]);
    assert_refused(dir.path(), &["--auth-required=true"], &[], &["auth.required", "auth.tokens"]);
    let checked = run(dir.path(), &["check-config", "--auth-required=true"], &[("AUTH_TOKENS", "0123456789abcdef")]);
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn an_address_in_use_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let env = [("PORT", port.as_str()), ("BIND", "127.0.0.1"), ("CACHE_BACKEND", "embedded")];
    let output = run(dir.path(), &[], &env);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("set another port") && said.contains(&port), "{said}");
}

#[test]
fn unknown_names_in_the_file_or_a_flag_stop_the_start() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    assert_refused(dir.path(), &["--fetch-pool-sise=3"], &[], &["fetch-pool-sise"]);
    let file = dir.path().join("my.toml");
    fs::write(&file, "[fetch]\npool_sise = 3\n").expect("a file can be written");
    let path = file.to_str().expect("a path in UTF-8");
    assert_refused(dir.path(), &["--config", path], &[], &["pool_sise", "my.toml"]);
    fs::write(&file, "[fetch]\npool_size = \"many\"\n").expect("a file can be written");
    assert_refused(dir.path(), &["--config", path], &[], &["fetch.pool_size"]);
}

#[test]
fn limits_that_contradict_each_other_stop_the_start_and_both_are_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pairs = [
        (["INTAKE_MAX_IN_FLIGHT", "10"], ["event.max_events", "intake.max_in_flight"]),
        (["HTTP_MAX_BODY_BYTES", "999999999"], ["http.max_body_bytes", "intake.max_in_flight_bytes"]),
        (["FETCH_MAX_BLOB_BYTES", "999999999"], ["fetch.max_blob_bytes", "intake.max_in_flight_bytes"]),
        (["EVENT_MAX_KEYS", "1100000"], ["event.max_keys", "intake.max_in_flight_bytes"]),
    ];
    for ([variable, value], named) in pairs {
        assert_refused(dir.path(), &["--embedded"], &[(variable, value)], &named);
    }
}

#[test]
fn check_config_prints_what_holds_and_hides_secrets() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join(".env"), "FETCH_ATTEMPTS=7\nFETCH_POOL_SIZE=5\n").expect("a file can be written");
    let file = dir.path().join("my.toml");
    fs::write(&file, "[fetch]\nattempts = 6\nper_host = 17\n").expect("a file can be written");
    let args = ["check-config", "--config", file.to_str().expect("a path in UTF-8"), "--redis-pool-size", "9"];
    let env = [("FETCH_POOL_SIZE", "8"), ("REDIS_PASSWORD", "hunter2"), ("AUTH_TOKENS", "t0ken"), ("LOG_LEVEL", "")];
    let output = run(dir.path(), &args, &env);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let line =
        |name: &str| said.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("no {name}: {said}"));
    for (name, value) in
        [("fetch.attempts", "7"), ("fetch.per_host", "17"), ("redis.pool_size", "9"), ("fetch.pool_size", "8")]
    {
        assert!(line(name).contains(value), "{}", line(name));
    }
    assert!(said.contains("***") && !said.contains("hunter2") && !said.contains("t0ken"), "{said}");
    let faults = [("FETCH_POOL_SIZE", "x"), ("LOG_LEVEL", "loud")];
    assert_refused(dir.path(), &["check-config"], &faults, &["FETCH_POOL_SIZE", "LOG_LEVEL"]);
}

#[test]
fn the_command_line_starts_a_daemon_too() {
    let daemon = Daemon::builder().args(&["serve", "--embedded", "--event-max-keys", "2"]).start();
    results(&daemon.post(&set_inline("k", "v")), 200, "ok");
    daemon.post(&get(json!(["a", "b", "c"]))).problem(422, "invalid-event");
}

#[test]
fn a_kubernetes_service_link_is_ignored_with_a_warning() {
    let daemon = Daemon::builder().embedded().env("REDIS_PORT", "tcp://10.0.0.1:6379").start();
    daemon.log_line(|line| line.contains("REDIS_PORT") && line.to_lowercase().contains("warn"));
}
