//! Secrets that change while the daemon runs: what the file says now holds within two seconds, and a file that is of no
//! use changes nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::support::{Daemon, eventually, get};

const SOON: Duration = Duration::from_secs(2);

fn is_let_in(daemon: &Daemon, token: &str) -> bool {
    let authorization = format!("Bearer {token}");
    let headers = [("content-type", "application/json"), ("authorization", authorization.as_str())];
    let status = daemon.post_with(&headers, get(json!("k")).to_string().as_bytes()).status;
    assert!([200, 401].contains(&status), "{status}");
    status == 200
}

fn daemon_on(file: &Path) -> Daemon {
    Daemon::builder().embedded().set("auth.tokens", "fixed").set("auth.tokens_file", file.display()).start()
}

/// A mounted secret: `tokens` leads through `..data` to a directory, as the kubelet lays it out.
struct Mounted(TempDir);

impl Mounted {
    fn new(tokens: &str) -> Self {
        let mounted = Mounted(tempfile::tempdir().expect("a directory"));
        mounted.swap("first", tokens);
        symlink("..data/tokens", mounted.0.path().join("tokens")).expect("a link");
        mounted
    }

    fn swap(&self, version: &str, tokens: &str) {
        let at = |name: &str| self.0.path().join(name);
        fs::create_dir(at(version)).expect("a directory");
        fs::write(at(version).join("tokens"), tokens).expect("a file");
        symlink(version, at("..data_tmp")).expect("a link");
        fs::rename(at("..data_tmp"), at("..data")).expect("the link is swapped");
    }
}

#[test]
fn new_tokens_are_accepted_and_old_ones_refused_without_a_restart() {
    let mounted = Mounted::new("old-1,both\n");
    let daemon = daemon_on(&mounted.0.path().join("tokens"));
    assert!(is_let_in(&daemon, "old-1") && is_let_in(&daemon, "both") && !is_let_in(&daemon, "new-1"));
    // Of the same length, so that nothing but what it says tells them apart.
    mounted.swap("second", "new-1,both\n");
    let begun = Instant::now();
    assert!(eventually(SOON, || is_let_in(&daemon, "new-1")), "the new token is not accepted");
    assert!(!is_let_in(&daemon, "old-1"), "the old token is accepted beside the new one");
    assert!(begun.elapsed() < SOON);
    assert!(is_let_in(&daemon, "both") && is_let_in(&daemon, "fixed"));
    daemon.log_line(|line| line.contains("file reloaded") && line.contains("auth.tokens_file"));
    assert!(!daemon.logs().iter().any(|line| line.contains("new-1") || line.contains("both")), "{:?}", daemon.logs());
}

#[test]
fn a_file_that_is_of_no_use_keeps_the_last_good_tokens_and_warns() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("tokens");
    let spoil: [(&str, &dyn Fn()); 5] = [
        ("no such file", &|| fs::remove_file(&file).expect("it is there")),
        ("holds no token", &|| fs::write(&file, " \n").expect("it can be written")),
        ("a directory", &|| {
            fs::remove_file(&file).expect("it is there");
            fs::create_dir(&file).expect("a directory");
        }),
        ("item 2", &|| {
            fs::remove_dir(&file).expect("it is there");
            fs::write(&file, "good,s3cret of two words").expect("it can be written");
        }),
        ("not UTF-8", &|| fs::write(&file, b"good,s3cret\xff").expect("it can be written")),
    ];
    fs::write(&file, "last-good").expect("a file");
    let daemon = daemon_on(&file);
    for (reason, spoil) in spoil {
        spoil();
        let line = daemon.log_line(|line| line.contains("WARN") && line.contains(reason));
        assert!(line.contains("auth.tokens_file"), "{line}");
        assert!(is_let_in(&daemon, "last-good") && is_let_in(&daemon, "fixed"), "{reason}");
        assert!(!is_let_in(&daemon, "good") && !is_let_in(&daemon, ""), "{reason}");
    }
    let warned = daemon.logs().iter().filter(|line| line.contains("cannot be used")).count();
    assert_eq!(warned, 5, "{:#?}", daemon.logs());
    assert!(!daemon.logs().iter().any(|line| line.contains("s3cret")), "{:#?}", daemon.logs());

    fs::write(&file, "good-again").expect("it can be written");
    assert!(eventually(SOON, || is_let_in(&daemon, "good-again")) && !is_let_in(&daemon, "last-good"));
}
