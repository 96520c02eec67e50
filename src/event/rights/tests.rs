use super::*;
use crate::event::Limits;
use crate::event::validate::{MAX_FAULTS, validate};
use crate::event::wire::{BodyForm, Split, split};

fn rights(words: &str) -> Rights {
    let line = format!("team:0123456789abcdef {words}");
    TokenLine::parse(&line).expect("a good line").rights.expect("rights")
}

fn event(text: &str) -> Event {
    let body = text.to_owned().into();
    let Ok(Split::One(raw)) = split(&body, BodyForm::Json, 1) else { panic!("{text}") };
    validate(&raw, &Limits::widest(), MAX_FAULTS).unwrap_or_else(|invalid| panic!("{text}: {invalid:?}"))
}

fn refused(words: &str, text: &str) -> Option<String> {
    rights(words).refusal(&event(text)).map(|invalid| match invalid.kind {
        InvalidKind::Forbidden(why) => why,
        other => panic!("{other:?}"),
    })
}

const SET: &str = r#"{"key":"SET","value":{"data":[{"key":"a:1","value":1},{"key":"b:1","value":2}]}}"#;
const GET: &str = r#"{"key":"GET","value":{"data":["a:1","b:1"]}}"#;
const DELETE: &str = r#"{"key":"DELETE","value":{"data":["a:1","b:1"]}}"#;

#[test]
fn a_line_without_words_is_what_it_was_before_there_were_rights() {
    for (line, name, token) in [
        ("0123456789abcdef", None, "0123456789abcdef"),
        ("billing:0123456789abcdef", Some("billing"), "0123456789abcdef"),
        ("No:name", None, "No:name"),
        ("x:", None, "x:"),
        ("a;read;prefix=b", None, "a;read;prefix=b"),
    ] {
        let parsed = TokenLine::parse(line).expect("a good line");
        assert_eq!((parsed.name, parsed.token, parsed.named_token), (name, token, line));
        assert_eq!(parsed.rights, None, "{line}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_and_never_quoted() {
    let long = format!("n:t prefix={}", "x".repeat(257));
    let many = format!("n:t{}", " prefix=x".repeat(65));
    for line in
        ["", "t read", "N:t read", "n:t reed", "n:t Read", "n:t prefix=", "n:t prefix", "n:t all", "ä", &long, &many]
    {
        let why = TokenLine::parse(line).expect_err(line);
        assert!(!why.contains("n:t") && !why.contains("reed"), "{why}");
    }
    assert_eq!(rights("prefix=a: prefix=b:"), rights("read write prefix=a: prefix=b:"));
    assert_eq!(rights("  read\tread "), rights("read"));
}

#[test]
fn rights_are_told_in_words() {
    assert_eq!(rights("read").to_string(), "may read all keys");
    assert_eq!(rights("write prefix=a").to_string(), r#"may write keys that begin with "a""#);
    assert_eq!(rights("prefix=a prefix=b").to_string(), r#"may read and write keys that begin with "a" or "b""#);
}

#[test]
fn reading_and_writing_are_rights_of_their_own() {
    let preview = r#"{"key":"DELETE_PATTERN","value":{"data":{"pattern":"a:*","dry_run":true}}}"#;
    let pattern = r#"{"key":"DELETE_PATTERN","value":{"data":"a:*"}}"#;
    for text in [SET, DELETE, pattern] {
        assert_eq!(refused("read", text).as_deref(), Some(r#"The token "team" may only read."#), "{text}");
        assert_eq!(refused("write", text), None, "{text}");
    }
    for text in [GET, preview] {
        assert_eq!(refused("write", text).as_deref(), Some(r#"The token "team" may only write."#), "{text}");
        assert_eq!(refused("read", text), None, "{text}");
    }
}

#[test]
fn every_key_must_begin_with_one_of_the_prefixes() {
    for text in [SET, GET, DELETE] {
        assert_eq!(refused("prefix=a: prefix=b:", text), None, "{text}");
        let why = refused("prefix=a: prefix=b:2", text).expect("refused");
        assert_eq!(why, r#"The token "team" has no right to the key "b:1". Its prefixes: "a:", "b:2"."#);
    }
    let why = refused("prefix=1 prefix=2 prefix=3 prefix=4 prefix=5", GET).expect("refused");
    assert!(why.ends_with(r#"Its prefixes: "1", "2", "3" and 2 more."#), "{why}");
    let long = format!(r#"{{"key":"GET","value":{{"data":"{}"}}}}"#, "é".repeat(5000));
    let why = refused("prefix=a", &long).expect("refused");
    assert!(why.len() < 400, "{why}");
}

#[test]
fn a_pattern_must_begin_literally_with_a_prefix() {
    let pattern = |pattern: &str| {
        let pattern = serde_json::Value::from(pattern);
        refused("prefix=team:", &format!(r#"{{"key":"DELETE_PATTERN","value":{{"data":[{pattern}]}}}}"#))
    };
    for inside in ["team:*", "team:a?[b]*", r"team\:*", r"\t\e\a\m:*", "team:"] {
        assert_eq!(pattern(inside), None, "{inside}");
    }
    for outside in ["team*", "tea[m]:*", "?eam:*", "*team:*", "tea*m:x", "team", "other:*", "*", "[t-t]eam:*"] {
        assert!(pattern(outside).is_some_and(|why| why.contains("to the pattern")), "{outside}");
    }
}
