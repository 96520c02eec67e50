//! Metrics for who keeps the service running: who sends, what is written, what is open, what runs out.

use std::fs;

use serde_json::{Value, json};

use crate::journal::{ASYNC, assert_empty};
use crate::support::{
    Blob, Builder, Daemon, PATIENCE, Redis, Stage, delete_pattern, eventually, get, set_blob, set_inline,
};
use crate::tls::{Authority, Files, default_client};

fn post(daemon: &Daemon, path: &str, token: &str, headers: &[(&str, &str)], body: &Value) -> u16 {
    let bearer = format!("Bearer {token}");
    let own = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    daemon.post_to(path, &[&own, headers].concat(), body.to_string().as_bytes()).status
}

#[test]
fn events_are_counted_for_the_token_and_the_source_that_they_came_with() {
    let redis = Redis::start();
    let builder = Daemon::builder().redis(&redis).set("auth.tokens", "shop:0123456789abcdef,fedcba9876543210");
    let daemon = builder.set("sources.s.value", "facts").set("sources.s.key", "{object}").start();
    let (shop, other) = ("0123456789abcdef", "fedcba9876543210");
    assert_eq!(post(&daemon, "/events", shop, &[], &json!([set_inline("a", "1"), {"key": "SET"}])), 207);
    assert_eq!(post(&daemon, "/events", shop, &[], &get(json!("a"))), 200);
    assert_eq!(post(&daemon, "/events", shop, &[], &json!({"key": "SET"})), 422);
    assert_eq!(post(&daemon, "/events", shop, &[ASYNC], &json!([set_inline("a", "2"), {"key": "SET"}])), 207);
    assert_eq!(post(&daemon, "/events", other, &[], &get(json!("a"))), 200);
    assert_eq!(post(&daemon, "/events", "unknown", &[], &get(json!("a"))), 401);
    let record = |event: &str| {
        json!({
            "eventName": event, "eventTime": "2026-11-28T22:10:23.403Z",
            "s3": {"bucket": {"name": "b"}, "object": {"key": "o", "size": 5, "eTag": "e1", "sequencer": "01"}}
        })
    };
    let notification = json!({"Records": [record("ObjectCreated:Put"), record("ObjectRemoved:Delete")]});
    assert_eq!(post(&daemon, "/sources/s", shop, &[], &notification), 200);
    let of = |labels: [&str; 2]| daemon.metric("cache_sync_token_events_total", &labels);
    let shop = |outcome: &str| of(["token=\"shop\"", &format!("outcome=\"{outcome}\"")]);
    assert_eq!([shop("ok"), shop("rejected"), shop("accepted"), shop("unavailable")], [4.0, 3.0, 1.0, 0.0]);
    assert_eq!(of(["token=\"-\"", "outcome=\"ok\""]), 1.0);
    let source = ["source=\"s\"", "outcome=\"ok\""];
    assert_eq!(daemon.metric("cache_sync_source_events_total", &source), 2.0);
    assert_empty(&redis);
}

#[test]
fn bytes_that_were_stored_are_counted_streamed_ones_too() {
    let stage = Stage::with(|daemon| daemon.set("fetch.stream_bytes", 10_000));
    stage.blobs.put("/small", Blob::bytes("x".repeat(1_000)));
    stage.blobs.put("/large", Blob::bytes("x".repeat(100_000)));
    let written = || stage.daemon.metric("cache_sync_written_bytes_total", &[]);
    stage.ok(&set_inline("a", "12345"));
    assert_eq!(written(), 5.0);
    stage.ok(&set_blob("b", &stage.blobs.url("/small")));
    stage.ok(&set_blob("c", &stage.blobs.url("/large")));
    stage.ok(&get(json!("c")));
    assert_eq!(written(), 101_005.0);
}

#[test]
fn what_the_embedded_cache_holds_and_evicts_shows() {
    let daemon = Daemon::builder().embedded().set("cache.max_bytes", "1 MiB").start();
    let metric = |name: &str| daemon.metric(&format!("cache_sync_embedded_{name}"), &[]);
    daemon.post(&set_inline("a", &"x".repeat(10_000)));
    assert!((10_000.0..12_000.0).contains(&metric("bytes")), "{}", metric("bytes"));
    assert_eq!((metric("entries"), metric("evictions_total")), (1.0, 0.0));
    for n in 0..200 {
        daemon.post(&set_inline(&format!("k{n}"), &"x".repeat(10_000)));
    }
    let (bytes, entries, evictions) = (metric("bytes"), metric("entries"), metric("evictions_total"));
    assert!(bytes <= 1_048_576.0 && entries < 110.0 && evictions + entries == 201.0, "{bytes} {entries} {evictions}");
}

#[test]
fn open_connections_are_counted() {
    let daemon = Daemon::embedded();
    let open = || daemon.metric("cache_sync_connections", &[]);
    let before = open();
    let held: Vec<_> = (0..5).map(|_| daemon.wire()).collect();
    assert!(eventually(PATIENCE, || open() >= before + 5.0), "{}", open());
    drop(held);
    assert!(eventually(PATIENCE, || open() < before + 5.0), "{}", open());
}

#[test]
fn a_scan_shows_how_far_it_has_come() {
    let stage = Stage::new();
    let keys: Vec<Value> = (0..300).map(|n| set_inline(&format!("p:{n}"), "v")).collect();
    assert_eq!(stage.daemon.post(&json!(keys)).status, 200);
    stage.ok(&delete_pattern(json!({"pattern": "p:*", "dry_run": true})));
    stage.ok(&delete_pattern(json!("p:1*")));
    let keys = |outcome: &str| stage.daemon.metric("cache_sync_scan_keys_total", &[outcome]);
    let found = keys("outcome=\"found\"");
    assert!((411.0..=822.0).contains(&found), "Redis may give a key twice: {found}");
    assert_eq!(keys("outcome=\"deleted\""), 111.0);
    assert!(stage.daemon.metric("cache_sync_scan_steps_total", &[]) >= 2.0);
    assert_eq!(stage.daemon.metric("cache_sync_patterns", &[]), 0.0);
}

#[test]
fn a_certificate_shows_when_it_runs_out_and_a_file_whether_it_is_in_effect() {
    let authority = Authority::new();
    let files = Files::of(&authority.vouch_for("127.0.0.1"));
    let tokens = tempfile::NamedTempFile::new().expect("a file");
    fs::write(tokens.path(), "0123456789abcdef").expect("it can be written");
    let ports = |builder: Builder| builder.set("admin_port", 0).set("auth.tokens_file", tokens.path().display());
    let mut daemon = ports(files.builder()).start();
    let probes = daemon.admin_address();
    daemon.ask_at(probes);
    let expiry = || daemon.metric("cache_sync_certificate_expiry_timestamp_seconds", &["setting=\"http.tls_cert\""]);
    let first = expiry();
    assert!(first > 1.9e9, "{first}");
    files.put(&authority.vouch_until(2040, "127.0.0.1"));
    assert!(eventually(PATIENCE, || expiry() == 2_208_988_800.0), "{}", expiry());

    let good = |setting: &str| daemon.metric("cache_sync_last_reload_successful", &[&format!("setting=\"{setting}\"")]);
    let when = || daemon.metric("cache_sync_last_reload_timestamp_seconds", &["setting=\"auth.tokens_file\""]);
    assert_eq!([good("settings"), good("auth.tokens_file"), good("http.tls_cert")], [1.0; 3]);
    let before = when();
    fs::write(tokens.path(), "").expect("it can be written");
    assert!(eventually(PATIENCE, || good("auth.tokens_file") == 0.0));
    assert_eq!((good("settings"), when()), (1.0, before));
    fs::write(tokens.path(), "another-0123456789abcdef").expect("it can be written");
    assert!(eventually(PATIENCE, || good("auth.tokens_file") == 1.0) && when() > before);
    let mut wire = crate::support::Wire::try_tls(daemon.address(), default_client(&authority)).expect("a handshake");
    wire.send_request("POST", "/events", &[("authorization", "Bearer another-0123456789abcdef")], b"[]");
    assert_eq!(wire.answer().status, 200);
}

#[test]
fn new_settings_show_whether_they_are_in_effect() {
    let daemon = Daemon::builder().embedded().file("config/default.toml", "").start();
    let good = || daemon.metric("cache_sync_last_reload_successful", &["setting=\"settings\""]);
    assert_eq!(good(), 1.0);
    let file = daemon.dir().join("config/default.toml");
    fs::write(&file, "log_level = \"loud\"\n").expect("it can be written");
    assert!(eventually(PATIENCE, || good() == 0.0));
    fs::write(&file, "log_level = \"debug\"\n").expect("it can be written");
    assert!(eventually(PATIENCE, || good() == 1.0));
}
