//! The first ten minutes, as they are printed: from a clone, from the archive of a release, and what the file of the image's way
//! runs. What comes from PyPI must be there already: `make check` puts it there, and runs these tests then.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::page::{Kind, sections, steps};
use super::terminal::{Network, Terminal, has_own_network};
use super::{read, take};

/// The guide.
pub const PAGE: &str = "docs/start.md";
const BY_HAND: &str = "By hand";
/// What installs SeaweedFS and the client of S3.
const FROM_PYPI: &str = "python3 -m venv tools\n";
const BUILT: &str = env!("CARGO_BIN_EXE_redis-cache-sync");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The environment with the packages that the page installs, where there is one. `FIRST_TOOLS` must be one.
fn tools() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("FIRST_TOOLS") {
        return Some(PathBuf::from(given));
    }
    let tools = root().join("target/check/first");
    let is_there = tools.join("bin/weed").is_file() && tools.join("bin/aws").is_file();
    is_there.then_some(tools)
}

/// Reads these sections in a terminal; without `tools` the last one ends where they are installed.
fn follow(terminal: &mut Terminal, names: &[&str], tools: Option<&Path>) {
    for step in steps(&sections(read(PAGE), names)).unwrap_or_else(|what| panic!("{PAGE}, {what}")) {
        let done = match &step.kind {
            Kind::NotRun { commands, .. } if commands.starts_with(FROM_PYPI) => {
                let Some(tools) = tools else { return };
                terminal.run(&format!("ln -s {} tools", tools.display())).map(|_| ())
            }
            _ => take(terminal, &step),
        };
        done.unwrap_or_else(|what| panic!("{PAGE}, line {}: {what}", step.line));
    }
}

/// The tools, if what is printed by hand can be done, and the right to do it: one at a time, for every SeaweedFS has its sockets
/// in `/tmp`, by names that are made of ports, and these are those that are printed.
fn tools_for_a_journey() -> Option<(PathBuf, File)> {
    let lock = File::create(std::env::temp_dir().join("redis-cache-sync-seaweedfs.lock")).expect("a file");
    lock.lock().expect("a lock");
    let tools = tools();
    if tools.is_none() {
        eprintln!("not run by hand: SeaweedFS and the client of S3 are not here; `make check` installs them");
    }
    if !has_own_network() {
        eprintln!("not run by hand: there is no network of one's own here");
        return None;
    }
    Some((tools?, lock))
}

/// The page in the browser has what it was told: its source, with nothing left undone.
fn seen_on_the_page(terminal: &mut Terminal) {
    let page = terminal.run("curl -sf http://localhost:8080/").expect("it ends");
    assert!(page.code == 0 && page.printed.contains("Sources"), "{}", page.printed);
    let status = terminal.run("curl -sf http://localhost:8080/status.json").expect("it ends");
    let status: Value = serde_json::from_str(&status.printed).expect("JSON");
    let sources = status["sources"].as_array().expect("a list");
    assert!(sources.iter().any(|source| source["source"] == "photos"), "{status:#}");
    let count = |event: &str, outcome: &str| status["events"][event][outcome].as_u64().unwrap_or_default();
    assert!(count("SET", "ok") >= 2 && count("DELETE", "ok") >= 1, "{status:#}");
    assert!(count("SET", "rejected") == 0 && status["journal"]["dead_letters"] == 0, "{status:#}");
}

#[test]
fn from_source_to_objects_in_redis() {
    let tools = tools_for_a_journey();
    let mut terminal = Terminal::open(Network::Own);
    let debug = terminal.desk().join("target/debug");
    fs::create_dir_all(&debug).expect("a folder");
    symlink(BUILT, debug.join("redis-cache-sync")).expect("a link");
    follow(&mut terminal, &["From source", BY_HAND], tools.as_ref().map(|(path, _)| path.as_path()));
    assert!(terminal.left_behind().is_empty(), "left in the checkout: {:?}", terminal.left_behind());
    if tools.is_some() {
        seen_on_the_page(&mut terminal);
    }
}

#[test]
fn from_the_archive_alone_to_objects_in_redis() {
    let tools = tools_for_a_journey();
    let mut terminal = Terminal::open_empty(Network::Own);
    pack(&terminal.desk());
    follow(&mut terminal, &["From the archive of a release", BY_HAND], tools.as_ref().map(|(path, _)| path.as_path()));
    if tools.is_some() {
        seen_on_the_page(&mut terminal);
    }
}

/// An archive as a release has it, of what was built.
fn pack(desk: &Path) {
    // In its place, for to pack the real one takes a minute.
    let binary = desk.join("binary");
    fs::write(&binary, format!("#!/bin/sh\nexec {BUILT} \"$@\"\n")).expect("a file");
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let name = concat!("redis-cache-sync-", env!("CARGO_PKG_VERSION"), "-x86_64-linux");
    let script = root().join(".ci/release-archive");
    let packed = Command::new(script).args(["binary", name]).current_dir(desk).output().expect("the script runs");
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
}

#[test]
fn the_packages_are_those_that_the_checks_install() {
    let wanted = fs::read_to_string(root().join("tests/check/first/requirements.txt")).expect("a file");
    let wanted: Vec<&str> = wanted.lines().filter_map(|line| line.split(';').next()).map(str::trim).collect();
    let all = steps(read(PAGE)).expect("a good page");
    let install = all.iter().find_map(|step| match &step.kind {
        Kind::NotRun { commands, .. } => commands.strip_prefix(FROM_PYPI),
        _ => None,
    });
    assert_eq!(install, Some(&*format!("tools/bin/pip install {}\n", wanted.join(" "))));
}
