//! How large files and functions may be, and where modules and unit tests stand.

use std::collections::BTreeMap;

use super::{files, read, root};

const MAX_FILE_LINES: usize = 400;
const MAX_FUNCTION_LINES: usize = 60;
/// Of ten functions nine are not longer.
const P90_FUNCTION_LINES: usize = 20;
/// Modules that are not there yet, with the length that they must not exceed.
const LONGER_MODULES: &[(&str, usize)] = &[("blob", 21), ("cli", 23), ("http", 21), ("journal", 24)];
/// As `wc -w` counts them. Algorithms are described in their modules.
const MAX_MAP_WORDS: usize = 1500;
/// Longer unit tests stand in a file of their own: `x/tests.rs` for `x.rs`.
const MAX_TEST_LINES: usize = 100;

/// The sources, by their path from `src/` on.
fn texts() -> Vec<(String, String)> {
    let src = root().join("src");
    let rust = files(&src).into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let text = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a source");
        (path.strip_prefix(&src).expect("below src").display().to_string(), text)
    };
    rust.map(text).collect()
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Whether a function begins on this line, as rustfmt writes it.
fn begins_function(line: &str) -> bool {
    let words = line.split(|character: char| character.is_whitespace() || character == '(');
    let modifiers = ["pub", "crate)", "super)", "in", "const", "async", "unsafe", "extern", ""];
    let mut words = words.skip_while(|word| modifiers.contains(word) || word.starts_with("crate::"));
    words.next() == Some("fn") && !line.trim_start().starts_with("//")
}

/// The names of functions with the lines they take, from their head to the brace on the same level.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| begins_function(line)) {
        let level = indentation(line);
        let is_end = |end: &str| indentation(end) == level && (end.trim_end().ends_with('}') || end.ends_with(';'));
        let is_short = line.ends_with('}') || line.ends_with(';');
        let count =
            if is_short { 0 } else { lines[at + 1..].iter().position(|end| is_end(end)).map_or(0, |more| more + 1) };
        found.push((line.trim(), count + 1));
    }
    found
}

#[test]
fn files_and_functions_are_short() {
    let (mut wrong, mut lengths) = (Vec::new(), Vec::new());
    let texts = texts();
    for (path, text) in &texts {
        let lines = text.lines().count();
        if lines > MAX_FILE_LINES {
            wrong.push(format!("{path}: {lines} lines"));
        }
        for (head, lines) in functions(text) {
            lengths.push(lines);
            if lines > MAX_FUNCTION_LINES {
                wrong.push(format!("{path}: {lines} lines: {head}"));
            }
        }
    }
    lengths.sort_unstable();
    let p90 = lengths[lengths.len() * 9 / 10];
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(lengths.len() > 2000 && p90 <= P90_FUNCTION_LINES, "p90 of {} functions: {p90} lines", lengths.len());
}

/// The module at the top that a source is in; the client of the cache for Redis counts by itself.
fn module_of(path: &str) -> &str {
    match path.starts_with("cache/redis") {
        true => "cache/redis",
        false => path.split(['/', '.']).next().unwrap_or_default(),
    }
}

#[test]
fn functions_are_short_in_every_module() {
    let mut lengths: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let texts = texts();
    for (path, text) in &texts {
        lengths.entry(module_of(path)).or_default().extend(functions(text).iter().map(|(_, lines)| lines));
    }
    let mut wrong = Vec::new();
    for (module, lengths) in lengths.iter_mut().filter(|(_, lengths)| lengths.len() > 20) {
        lengths.sort_unstable();
        let p90 = lengths[lengths.len() * 9 / 10];
        let most = LONGER_MODULES.iter().find(|(name, _)| name == module).map_or(P90_FUNCTION_LINES, |(_, most)| *most);
        if p90 > most {
            wrong.push(format!("{module}: p90 of {} functions is {p90} lines, must be at most {most}", lengths.len()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_map_is_short_and_every_path_in_it_exists() {
    let map = read("docs/architecture.md");
    let words = map.split_whitespace().count();
    assert!(words <= MAX_MAP_WORDS, "docs/architecture.md has {words} words");
    let quoted = map.split('`').skip(1).step_by(2);
    let paths: Vec<&str> =
        quoted.filter(|text| ["src/", "tests/", "docs/"].iter().any(|at| text.starts_with(at))).collect();
    let missing: Vec<&&str> = paths.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(paths.len() > 30 && missing.is_empty(), "of {} paths these do not exist: {missing:?}", paths.len());
}

/// The file of module `x` is `x.rs`; its children are in the folder `x`.
#[test]
fn modules_have_one_form() {
    let texts = texts();
    let named: Vec<&str> =
        texts.iter().map(|(path, _)| path.as_str()).filter(|path| path.ends_with("mod.rs")).collect();
    assert!(named.is_empty(), "{}", named.join("\n"));
}

/// At the end of their file; the long ones in a file of their own.
#[test]
fn unit_tests_stand_at_the_end_or_in_a_file_of_their_own() {
    let mut wrong = Vec::new();
    for (path, text) in texts() {
        let Some((_, tests)) = text.split_once("#[cfg(test)]\nmod tests") else { continue };
        let is_last = tests == ";\n" || tests.starts_with(" {\n") && tests.find("\n}\n") == Some(tests.len() - 3);
        let lines = tests.lines().count();
        if !is_last || lines > MAX_TEST_LINES + 2 {
            wrong.push(format!("{path}: {lines} lines of tests, at the end: {is_last}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_functions_lines_are_counted_to_its_own_brace() {
    let text = "impl X {\n    pub(in crate::a) async fn long(\n        &self,\n    ) -> u8 {\n        if a {\n        }\n        1\n    }\n\n    fn short() {}\n}\n// fn none() {\nfn last() {\n}\n";
    let lines: Vec<usize> = functions(text).into_iter().map(|(_, lines)| lines).collect();
    assert_eq!(lines, [7, 1, 2]);
}
