//! `demo`: the whole job with nothing installed, and what `--keep` leaves running.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::support::{Wire, eventually, signal};

/// The demo in an empty directory, with settings around it that are no business of its own.
fn start(args: &[&str]) -> (Child, BufReader<ChildStdout>, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut child = Command::new(env!("CARGO_BIN_EXE_redis-cache-sync"))
        .current_dir(dir.path())
        .env_clear()
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
