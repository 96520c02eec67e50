//! Requests made to hurt: each is answered as the contract says, at a bounded cost, and harms nobody else.

use serde_json::json;

use crate::resources::memory;
use crate::support::{Daemon, get, set_inline};

const MIB: usize = 1 << 20;
const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

fn repeat(part: &str) -> String {
    part.repeat(MIB / part.len())
}

fn list(part: &str) -> String {
    format!("[{}]", vec![part; MIB / (part.len() + 1)].join(","))
}

/// A SET of one key with this JSON for a value.
fn value(json: &str) -> String {
    format!(r#"{{"key":"SET","value":{{"data":{{"key":"k","value":{json}}}}}}}"#)
}

fn with_data(kind: &str, data: &str) -> String {
    format!(r#"{{"key":"{kind}","value":{{"data":{data}}}}}"#)
}

/// Names that are all different, with their values.
fn members(escaped: &str) -> String {
    (0..MIB / 16).map(|number| format!(r#""{escaped}{number:06}":0"#)).collect::<Vec<_>>().join(",")
}

/// About a mebibyte of each kind, and the status as JSON.
fn bodies() -> Vec<(&'static str, String, u16)> {
    vec![
        ("arrays that open", repeat("["), 400),
        ("objects that open", repeat(r#"{"a":"#), 400),
        ("arrays that close again", "[".repeat(MIB / 2) + &"]".repeat(MIB / 2), 400),
        ("nesting in a string of data", with_data("GET", &format!("\"{}\"", repeat("["))), 422),
        ("an array of numbers", list("1"), 413),
        ("an array of small events", list("{}"), 413),
        ("one number", repeat("1"), 422),
        ("a number as a value", value(&repeat("9")), 200),
        ("digits as a ttl", format!(r#"{{"key":"SET","value":{{"ttl":{},"data":1}}}}"#, repeat("9")), 422),
        ("escapes in a value", value(&format!("\"{}\"", repeat("\\u00e9"))), 200),
        ("escapes in a key", with_data("GET", &format!("\"{}\"", repeat("\\u0061"))), 422),
        ("backslashes", value(&format!("\"{}\"", repeat("\\\\"))), 200),
        ("lone surrogates", value(&format!("\"{}\"", repeat("\\ud800"))), 422),
        ("extra members", format!(r#"{{{},"key":"GET","value":{{"data":"k"}}}}"#, members("")), 200),
        ("the same extra member", format!(r#"{{{}"key":"GET"}}"#, repeat(r#""a":0,"#)), 422),
        ("unknown members", with_data("SET", &format!("{{{}}}", members(""))), 422),
        ("escaped names", with_data("SET", &format!("{{{}}}", members("\\u0061"))), 422),
        ("keys", with_data("GET", &list("\"a\"")), 422),
        ("entries", with_data("SET", &list("{}")), 422),
        ("patterns", with_data("DELETE_PATTERN", &list("\"a*\"")), 422),
        ("a pattern of stars", with_data("DELETE_PATTERN", &format!("\"{}\"", "*a".repeat(500))), 200),
        ("strings inside of strings", with_data("GET", &format!("\"[\\\"{}\\\"]\"", repeat("\\\\\\\""))), 422),
        ("blank lines", repeat("\n"), 400),
        ("NUL bytes", repeat("\0"), 400),
        ("invalid base64", value(&format!("\"{}\",\"encoding\":\"base64\"", repeat("A") + "A")), 422),
    ]
}

#[test]
fn a_mebibyte_of_anything_is_answered_and_leaves_no_mark() {
    let daemon = Daemon::embedded();
    daemon.post(&set_inline("other", "v"));
    for (name, body, status) in bodies() {
        let answer = daemon.post_text(&body);
        assert_eq!(answer.status, status, "{name}: {:.200}", answer.text());
        let answer = daemon.post_with(&[NDJSON], body.as_bytes());
        assert!([200, 207, 413].contains(&answer.status), "{name} as NDJSON: {} {:.200}", answer.status, answer.text());
    }
    daemon.post_with(&[], &vec![0xff; MIB]).problem(400, "malformed-json");
    assert_eq!(daemon.post(&get(json!("other"))).json()["results"][0]["value"], "v");
    let peak = memory(&daemon, "VmHWM") as usize;
    assert!(peak < 160 * MIB, "{} MiB at the peak", peak / MIB);
}

#[test]
fn a_hundred_thousand_headers_are_refused() {
    let daemon = Daemon::embedded();
    let mut wire = daemon.wire();
    let headers: String = (0..100_000).map(|number| format!("x-{number}: 1\r\n")).collect();
    wire.send(format!("POST /events HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n").as_bytes());
    let answer = wire.answer();
    assert!((400..500).contains(&answer.status), "{answer:?}");
    assert_eq!(daemon.post(&get(json!("k"))).status, 200);
}
