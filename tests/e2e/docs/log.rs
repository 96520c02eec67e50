//! The guide to monitoring knows every message and every field of the log, and none that is not there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::read;

/// What `log_request!` of `http/request_ids.rs` puts on each line besides.
const IDS: [&str; 5] = ["request_id", "trace_id", "span_id", "trace_flags", "parent_span_id"];

/// Which fields, which message; a message that is made at run time is left out.
fn lines(code: &str) -> Vec<(Vec<&str>, Option<&str>)> {
    let mut found = Vec::new();
    for (at, name) in
        ["error!(", "warn!(", "info!(", "debug!(", "log_request!("].iter().flat_map(|name| code.match_indices(name))
    {
        let begins = !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        let rest = &code[at + name.len()..];
        let (Some(quote), true) = (rest.find('"'), begins) else { continue };
        let (fields, message) = (&rest[..quote], &rest[quote + 1..]);
        let message = &message[..message.find('"').expect("it ends")];
        let message = Some(message).filter(|message| !message.contains('{'));
        let (ids, fields) = match fields.split_once(" of ids;") {
            Some((_, fields)) => (&IDS[..], fields),
            None => (&[][..], fields),
        };
        let fields = fields.trim_end().trim_end_matches(';');
        let names = top(fields).map(|field| field.split(['=', ':']).next().unwrap_or_default().trim());
        let names = names.filter(|name| !name.is_empty() && !matches!(*name, "target" | "logger"));
        found.push((names.chain(ids.iter().copied()).collect(), message));
    }
    found
}

/// What commas part that stand in no brackets.
fn top(fields: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    fields.split(move |character| {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        character == ',' && depth == 0
    })
}

fn sources(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs")
            && path.file_stem().is_some_and(|name| name != "tests")
        {
            let text = fs::read_to_string(&path).expect("a source");
            found.push(text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned());
        }
    }
}

/// What stands in backticks in the first column of the table below these words.
fn first_column(below: &str) -> BTreeSet<&'static str> {
    let (_, rest) = read("docs/monitoring.md").split_once(below).expect("the table is there");
    let rows = rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn every_line_and_field_of_the_log_is_described_and_no_other() {
    let mut code = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut code);
    let lines: Vec<_> = code.iter().flat_map(|code| lines(code)).collect();
    let fields: BTreeSet<&str> = lines.iter().flat_map(|(fields, _)| fields).copied().collect();
    assert_eq!(fields, first_column("### Fields"));
    let messages: BTreeSet<&str> = lines.iter().filter_map(|(_, message)| *message).collect();
    let described = first_column("### Messages");
    let (made, fixed): (BTreeSet<&str>, BTreeSet<&str>) = described.iter().partition(|text| text.starts_with('…'));
    assert_eq!(made.len(), 3, "those of settings: {made:?}");
    let is_described = |message: &str| {
        let long = |text: &&str| text.strip_suffix('…').is_some_and(|head| message.starts_with(head));
        fixed.contains(message) || fixed.iter().any(long)
    };
    let missing: Vec<&&str> = messages.iter().filter(|message| !is_described(message)).collect();
    assert!(missing.is_empty(), "not described: {missing:?}");
    let is_there = |text: &&str| match text.strip_suffix('…') {
        Some(head) => messages.iter().any(|message| message.starts_with(head)),
        None => messages.contains(text),
    };
    let gone: Vec<&&str> = fixed.iter().filter(|text| !is_there(text)).collect();
    assert!(gone.is_empty(), "no longer logged: {gone:?}");
}

#[test]
fn lines_are_found_with_their_fields() {
    let code = "log::info!(a, b:% = c, d = f(x, y); \"one\");\nmy_info!(\"no\"); warn!(\"{made}\");\nerror!(\n  target: X,\n  e; \"two\")";
    let found = lines(code);
    assert_eq!(found, [(vec!["e"], Some("two")), (vec![], None), (vec!["a", "b", "d"], Some("one"))]);
}
