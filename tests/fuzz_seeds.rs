//! Inputs that the fuzzer found worth keeping: what must hold of any input holds of them.

#[path = "fuzz/checks.rs"]
mod checks;

use std::fs;
use std::path::Path;

/// Every file of `tests/fuzz/seeds/NAME`.
fn replay(name: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(name);
    let mut seen = 0;
    for entry in fs::read_dir(&folder).expect("a folder of inputs") {
        let path = entry.expect("an input").path();
        check(&fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
        seen += 1;
    }
    assert!(seen > 0, "{} is empty", folder.display());
}

#[test]
fn events() {
    replay("events", checks::events);
}

#[test]
fn patterns() {
    replay("patterns", checks::patterns);
}

#[test]
fn urls() {
    replay("urls", checks::urls);
}

#[test]
fn settings() {
    replay("settings", checks::settings);
}

#[test]
fn notifications() {
    replay("notifications", checks::notifications);
}

/// Each captured notification in every format, whole and cut off.
#[test]
fn captured_notifications() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/payloads");
    for entry in fs::read_dir(&folder).expect("a folder of notifications") {
        let bytes = fs::read(entry.expect("a notification").path()).expect("a file");
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |end| end + 4);
        let body = &bytes[end..];
        for choice in 0..56 {
            for length in [body.len(), body.len() / 2, body.len() - 1] {
                checks::notifications(&[&[choice], &body[..length]].concat());
            }
        }
    }
}
