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
