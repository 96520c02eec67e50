//! `demo`: the whole job with nothing installed, and what `--keep` leaves running.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::support::{PATIENCE, Wire, eventually, find_program, signal};

/// The demo in an empty directory, with settings around it that are no business of its own. What it puts elsewhere is there too.
fn start(args: &[&str]) -> (Child, BufReader<ChildStdout>, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut child = Command::new(env!("CARGO_BIN_EXE_redis-cache-sync"))
        .current_dir(dir.path())
        .env_clear()
        .env("TMPDIR", dir.path())
        .envs([("PORT", "1"), ("CACHE_BACKEND", "redis"), ("AUTH_TOKENS", "secret")])
        .arg("demo")
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary can be run");
    let out = BufReader::new(child.stdout.take().expect("piped"));
    (child, out, dir)
}

#[test]
fn it_shows_every_event_beside_its_answer_and_ends_well() {
    let (mut child, mut out, _dir) = start(&[]);
    let mut said = String::new();
    out.read_to_string(&mut said).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{said}");
    for kind in ["SET", "GET", "DELETE", "DELETE_PATTERN"] {
        assert!(said.contains(&format!("{{\"key\":\"{kind}\"")), "no {kind}: {said}");
        assert!(said.contains(&format!("\"event\":\"{kind}\"")), "no answer to {kind}: {said}");
    }
    assert!(
        said.contains("{\"Records\":") && said.contains("Microsoft.Storage.BlobDeleted"),
        "no notification: {said}"
    );
}

#[test]
fn kept_it_serves_until_a_signal_and_drains() {
    for name in ["TERM", "INT"] {
        let (mut child, mut out, _dir) = start(&["--keep"]);
        let mut address = None;
        let mut line = String::new();
        while !line.contains("still serving") {
            line.clear();
            assert!(out.read_line(&mut line).expect("text") > 0, "it ended by itself: {:?}", child.wait());
            let named = line.split("daemon listens on http://").nth(1);
            address = address.or(named.and_then(|rest| rest.split(',').next()?.parse::<SocketAddr>().ok()));
        }
        let mut wire = Wire::open(address.expect("it says where it listens"));
        wire.send_request("GET", "/ready", &[], b"");
        assert_eq!(wire.answer().status, 200);
        signal(child.id(), name);
        let mut status = None;
        let ended = eventually(Duration::from_secs(10), || {
            status = child.try_wait().expect("it can be waited for");
            status.is_some()
        });
        assert!(ended, "SIG{name} did not end it: {:?}", child.kill());
        assert_eq!(status.and_then(|status| status.code()), Some(0), "SIG{name}");
    }
}

/// Objects of its store, as each change arrived in what it says the cache is.
fn arrived(said: &str, store: &str, cache: &str, label: &str) {
    let (_, journey) = said.split_once("Objects of S3, in ").unwrap_or_else(|| panic!("no objects: {said}"));
    assert!(journey.starts_with(&format!("{store}, whose bucket \"files\" is private, and {cache}")), "{journey}");
    for value in ["\"hello\"", "\"hello again\"", "67 bytes", "nothing", "\"and once more\""] {
        let line = journey.lines().find(|line| line.trim_start().starts_with(label) && line.contains(value));
        assert!(line.is_some_and(|line| line.ends_with(" ms after the store had it")), "no {value}: {journey}");
    }
}

#[test]
fn objects_appear_in_the_cache_with_nothing_installed() {
    let (mut child, mut out, _dir) = start(&[]);
    let mut said = String::new();
    out.read_to_string(&mut said).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{said}");
    arrived(&said, "a store of the demo's own", "the embedded cache", "cache");
}

#[test]
fn with_a_redis_objects_appear_there_and_nothing_of_it_stays() {
    let redis = find_program("redis-server").expect("a redis-server").display().to_string();
    let (mut child, mut out, dir) = start(&["--redis-server", &redis]);
    let mut said = String::new();
    out.read_to_string(&mut said).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{said}");
    arrived(&said, "a store of the demo's own", "a Redis on port ", "Redis");
    assert!(nothing_is_left(&said, dir.path()), "{said}");
}

/// No folder, and nobody who listens on the port of its Redis.
fn nothing_is_left(said: &str, dir: &Path) -> bool {
    let port = said.split("a Redis on port ").nth(1).and_then(|rest| rest.split(':').next()?.parse::<u16>().ok());
    let port = port.unwrap_or_else(|| panic!("no port: {said}"));
    TcpStream::connect(("127.0.0.1", port)).is_err() && fs::read_dir(dir).expect("a folder").next().is_none()
}

#[test]
fn a_signal_ends_what_it_started_too() {
    let redis = find_program("redis-server").expect("a redis-server").display().to_string();
    for name in ["INT", "TERM", "HUP"] {
        let (mut child, mut out, dir) = start(&["--keep", "--redis-server", &redis]);
        let mut said = String::new();
        while !said.contains("still serving") {
            assert!(out.read_line(&mut said).expect("text") > 0, "it ended by itself: {said}");
        }
        signal(child.id(), name);
        let ended = eventually(PATIENCE, || !matches!(child.try_wait(), Ok(None)));
        assert!(ended, "SIG{name} did not end it: {:?}", child.kill());
        assert!(nothing_is_left(&said, dir.path()), "SIG{name}: {said}");
    }
}

#[test]
fn a_program_that_is_none_is_told() {
    for (flag, program) in [("--redis-server", "/bin/false"), ("--weed", "/no/such/weed")] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_redis-cache-sync"));
        let output = command.current_dir(dir.path()).env("TMPDIR", dir.path()).args(["demo", flag, program]).output();
        let output = output.expect("the binary can be run");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && told.contains(program), "{told}");
        assert!(fs::read_dir(dir.path()).expect("a folder").next().is_none(), "{told}");
    }
}
