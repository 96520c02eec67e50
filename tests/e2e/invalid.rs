//! What makes an event invalid, and the pointer to every fault.

use crate::events::event;
use crate::support::{Answer, Stage};

#[track_caller]
fn assert_pointers(answer: &Answer, pointers: &[&str], body: &str) {
    let shown: String = body.chars().take(200).collect();
    assert_eq!(answer.status, 422, "{shown}: {}", answer.text());
    let problem = answer.problem(422, "invalid-event");
    let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("no errors: {problem}"));
    let mut found: Vec<_> = errors.iter().map(|e| e["pointer"].as_str().expect("a pointer")).collect();
    let mut want = pointers.to_vec();
    found.sort();
    want.sort();
    assert_eq!(found, want, "{shown}: {problem}");
    let details = errors.iter().all(|e| e["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    assert!(details, "{shown}: {problem}");
}

/// Posts each body, which must be invalid at exactly these pointers, and sees that nothing reached Redis.
#[track_caller]
pub fn check<B: AsRef<str>, P: AsRef<[&'static str]>>(cases: impl IntoIterator<Item = (B, P)>) {
    let stage = Stage::new();
    for (body, pointers) in cases {
        assert_pointers(&stage.daemon.post_text(body.as_ref()), pointers.as_ref(), body.as_ref());
    }
    assert_eq!(stage.redis.key_count(), 0, "work of an invalid event was started");
}

#[test]
fn the_shape_of_an_event() {
    check([
        ("42", vec![""]),
        ("\"SET\"", vec![""]),
        ("true", vec![""]),
        ("null", vec![""]),
        ("{}", vec!["/key", "/value"]),
        (r#"{"key":"GET"}"#, vec!["/value"]),
        (r#"{"value":{"data":"k"}}"#, vec!["/key"]),
        (r#"{"key":"get","value":{"data":"k"}}"#, vec!["/key"]),
        (r#"{"key":" GET","value":{"data":"k"}}"#, vec!["/key"]),
        (r#"{"key":"UNLINK","value":{"data":"k"}}"#, vec!["/key"]),
        (r#"{"key":1,"value":{"data":"k"}}"#, vec!["/key"]),
        (r#"{"key":null,"value":{"data":"k"}}"#, vec!["/key"]),
        (r#"{"key":["GET"],"value":{"data":"k"}}"#, vec!["/key"]),
        (r#"{"key":"GET","value":null}"#, vec!["/value"]),
        (r#"{"key":"GET","value":[]}"#, vec!["/value"]),
        (r#"{"key":"GET","value":"k"}"#, vec!["/value"]),
        (r#"{"key":"GET","value":{}}"#, vec!["/value/data"]),
        (r#"{"key":"SET","value":{"ttl":5}}"#, vec!["/value/data"]),
        (r#"{"key":"GET","id":null,"value":{"data":"k"}}"#, vec!["/id"]),
        (r#"{"key":"GET","id":7,"value":{"data":"k"}}"#, vec!["/id"]),
        (r#"{"key":"GET","id":{},"value":{"data":"k"}}"#, vec!["/id"]),
        (r#"{"id":null,"key":"GET","value":{"data":["ok",""],"x":1}}"#, vec!["/id", "/value/data/1", "/value/x"]),
    ]);
    let long = format!(r#"{{"key":"GET","id":"{}","value":{{"data":"k"}}}}"#, "i".repeat(257));
    check([(long, ["/id"])]);
}

#[test]
fn a_version_that_is_none() {
    let mut cases = Vec::new();
    for kind in ["SET", "DELETE", "DELETE_PATTERN"] {
        for version in ["-1", "9223372036854775808", "1.0", "1e2", "null", "true", "[]", "{}"] {
            let data = if kind == "SET" { r#"{"key":"k","value":"v"}"# } else { "\"k\"" };
            cases.push((format!(r#"{{"key":"{kind}","version":{version},"value":{{"data":{data}}}}}"#), ["/version"]));
        }
    }
    check(cases);
}

#[test]
fn a_member_given_twice() {
    check([
        (r#"{"key":"GET","key":"GET","value":{"data":"k"}}"#, ["/key"]),
        (r#"{"key":"GET","id":"a","id":"a","value":{"data":"k"}}"#, ["/id"]),
        (r#"{"key":"GET","value":{"data":"k"},"value":{"data":"k"}}"#, ["/value"]),
        (r#"{"key":"GET","value":{"data":"k","data":"k"}}"#, ["/value/data"]),
        (r#"{"key":"SET","value":{"data":{"key":"k","value":1},"ttl":5,"ttl":5}}"#, ["/value/ttl"]),
        (r#"{"key":"SET","value":{"data":{"key":"k","value":1,"key":"k"}}}"#, ["/value/data/key"]),
        (r#"{"key":"SET","value":{"data":[{"key":"k","value":1,"value":1}]}}"#, ["/value/data/0/value"]),
        (r#"{"key":"SET","value":{"data":{"key":"k","value":1,"\u006bey":"k"}}}"#, ["/value/data/key"]),
        (r#"{"key":"DELETE","value":{"data":{"keys":["k"],"keys":["k"]}}}"#, ["/value/data/keys"]),
        (
            r#"{"key":"DELETE_PATTERN","value":{"data":{"pattern":"a*","dry_run":true,"dry_run":true}}}"#,
            ["/value/data/dry_run"],
        ),
    ]);
}

#[test]
fn an_unknown_member_is_an_error_and_pointers_are_escaped() {
    check([
        (r#"{"key":"SET","value":{"tll":5,"data":{"key":"k","value":1}}}"#, vec!["/value/tll"]),
        (r#"{"key":"GET","value":{"TTL":5,"data":"k"}}"#, vec!["/value/TTL"]),
        (r#"{"key":"GET","value":{"a/b~c":5,"data":"k"}}"#, vec!["/value/a~1b~0c"]),
        (r#"{"key":"GET","value":{"~1":5,"":6,"data":"k"}}"#, vec!["/value/~01", "/value/"]),
        (r#"{"key":"SET","value":{"data":{"key":"k","value":1,"expires":5}}}"#, vec!["/value/data/expires"]),
        (
            r#"{"key":"SET","value":{"data":[{"key":"k","value":1},{"key":"k","value":1,"x/y":5}]}}"#,
            vec!["/value/data/1/x~1y"],
        ),
        (r#"{"key":"GET","value":{"data":{"key":"k","ttl":5}}}"#, vec!["/value/data/ttl"]),
        (r#"{"key":"DELETE","value":{"data":{"keys":["k"],"dry_run":true}}}"#, vec!["/value/data/dry_run"]),
        (r#"{"key":"DELETE_PATTERN","value":{"data":{"pattern":"a*","dryrun":true}}}"#, vec!["/value/data/dryrun"]),
        (
            r#"{"key":"SET","value":{"a":1,"b":2,"ttl":0,"data":{"key":"","value":1,"c":3}}}"#,
            vec!["/value/a", "/value/b", "/value/ttl", "/value/data/key", "/value/data/c"],
        ),
    ]);
}

#[test]
fn a_ttl_that_is_none() {
    let bad = [
        "0",
        "-1",
        "-0",
        "1.5",
        "100.0",
        "1e2",
        "1E2",
        "315360001",
        "99999999999999999999",
        "true",
        "[]",
        "{}",
        "[60]",
        "\"0\"",
        "\"-1\"",
        "\"+5\"",
        "\" 5\"",
        "\"5 \"",
        "\"1.5\"",
        "\"1e2\"",
        "\"abc\"",
        "\"٣\"",
        "\"315360001\"",
        "\"99999999999999999999\"",
        "\"\\ud800\"",
    ];
    let mut cases = Vec::new();
    for ttl in bad {
        cases.push((
            format!(r#"{{"key":"SET","value":{{"ttl":{ttl},"data":{{"key":"k","value":1}}}}}}"#),
            ["/value/ttl"],
        ));
        cases.push((event("SET", format!(r#"{{"key":"k","value":1,"ttl":{ttl}}}"#)), ["/value/data/ttl"]));
        cases.push((event("SET", format!(r#"[{{"key":"k","url":"http://h/","ttl":{ttl}}}]"#)), ["/value/data/0/ttl"]));
    }
    check(cases);
    let stage = Stage::with(|daemon| daemon.set("event.max_ttl_seconds", 100));
    let body = |ttl| format!(r#"{{"key":"SET","value":{{"ttl":{ttl},"data":{{"key":"k","value":1}}}}}}"#);
    assert_eq!(stage.daemon.post_text(&body(100)).status, 200);
    assert_pointers(&stage.daemon.post_text(&body(101)), &["/value/ttl"], "a ttl of 101");
}

#[test]
fn a_lone_surrogate_is_a_fault_at_its_string() {
    check([
        (r#"{"key":"SET","value":{"data":{"key":"k","value":"\ud800"}}}"#, ["/value/data/value"]),
        (r#"{"key":"SET","value":{"data":{"key":"k","value":"a\udc00b"}}}"#, ["/value/data/value"]),
        (r#"{"key":"SET","value":{"data":[{"key":"k","value":"\ud800\u0041"}]}}"#, ["/value/data/0/value"]),
        (r#"{"key":"SET","value":{"data":{"key":"\udfff","value":"v"}}}"#, ["/value/data/key"]),
        (r#"{"key":"SET","value":{"data":{"key":"k","url":"http://h/\ud800"}}}"#, ["/value/data/url"]),
        (r#"{"key":"GET","value":{"data":"\ud800"}}"#, ["/value/data"]),
        (r#"{"key":"GET","value":{"data":["a","\ud800"]}}"#, ["/value/data/1"]),
        (r#"{"key":"DELETE","value":{"data":{"keys":["\ud800"]}}}"#, ["/value/data/keys/0"]),
        (r#"{"key":"DELETE_PATTERN","value":{"data":"a\ud800*"}}"#, ["/value/data"]),
        (r#"{"key":"G\ud800T","value":{"data":"k"}}"#, ["/key"]),
        (r#"{"key":"GET","id":"\ud800","value":{"data":"k"}}"#, ["/id"]),
        (r#"{"key":"SET","value":{"data":"{\"key\":\"k\",\"value\":\"\\ud800\"}"}}"#, ["/value/data/value"]),
    ]);
    let stage = Stage::new();
    let extra = r#"{"extra":"\ud800","key":"GET","value":{"data":"k"}}"#;
    assert_eq!(stage.daemon.post_text(extra).status, 200, "extras are not looked into");
}

#[test]
fn up_to_128_levels_are_read_and_no_more() {
    let stage = Stage::new();
    let nested = |arrays: usize| format!("{}{}", "[".repeat(arrays), "]".repeat(arrays));
    let event = |arrays| event("SET", format!(r#"{{"key":"k","value":{}}}"#, nested(arrays)));
    let extra = |arrays| format!(r#"{{"key":"GET","value":{{"data":"k"}},"extra":{}}}"#, nested(arrays));
    let tries: [(String, u16); 8] = [
        (event(125), 200),
        (event(126), 400),
        (extra(127), 200),
        (extra(128), 400),
        (format!("[{}]", event(124)), 200),
        (format!("[{}]", event(125)), 400),
        (nested(129), 400),
        (nested(100_000), 400),
    ];
    for (body, status) in tries {
        let answer = stage.daemon.post_text(&body);
        assert_eq!(answer.status, status, "{}…: {}", &body[..60], answer.text());
        if status == 400 {
            answer.problem(400, "malformed-json");
        }
    }
    assert_eq!(stage.redis.value("k").unwrap(), nested(124).as_bytes());
}

#[test]
fn what_belongs_inside_value_and_stands_beside_it() {
    let names = ["ttl", "data", "url", "pattern", "patterns", "keys", "dry_run", "encoding"];
    check(names.map(|name| (format!(r#"{{"key":"GET","value":{{"data":"k"}},"{name}":null}}"#), [pointer_to(name)])));
    check([
        (r#"{"key":"SET","ttl":60,"value":{"data":{"key":"k","value":"v"}}}"#, vec!["/ttl"]),
        (r#"{"key":"SET","data":{"key":"k","value":"v"},"ttl":60}"#, vec!["/data", "/ttl", "/value"]),
    ]);
    let stage = Stage::new();
    let extras = r#"{"specversion":"1.0","source":"s","type":"t","time":"t","Ttl":1,"key":"GET","value":{"data":"k"}}"#;
    assert_eq!(stage.daemon.post_text(extras).status, 200);
}

/// A pointer to a member of the event.
fn pointer_to(name: &str) -> &'static str {
    Box::leak(format!("/{name}").into_boxed_str())
}

#[test]
fn a_byte_order_mark_before_the_body_is_no_part_of_it() {
    let stage = Stage::new();
    let event = r#"{"key":"SET","value":{"data":{"key":"k","value":"v"}}}"#;
    for body in [format!("\u{feff}{event}"), format!("\u{feff}[{event}]")] {
        assert_eq!(stage.daemon.post_text(&body).status, 200);
    }
    let lines = stage.daemon.post_ndjson(&format!("\u{feff}{event}\n{event}\n\u{feff}{event}"));
    assert_eq!((lines.status, &lines.json()["counts"]["ok"]), (207, &2.into()));
    stage.daemon.post_text(&format!("\u{feff}\u{feff}{event}")).problem(400, "malformed-json");
}

#[test]
fn a_url_that_a_parser_would_mend() {
    let urls = [
        "http://h/a#b.json",
        "http://h/a#",
        "http://h/a/../b",
        "http://h/a/%2e%2e/b",
        "http://h/./a",
        "http://h/a b",
        "http://h/caf\u{e9}",
        "http://h/a?b=c d",
        "http://h/<a>",
        "http://h\\\\a",
        "http://h/a\\tb",
    ];
    check(urls.map(|url| (event("SET", format!(r#"{{"key":"k","url":"{url}"}}"#)), ["/value/data/url"])));
    check(urls.map(|url| (event("SET", format!("[\"http://h/ok\",\"{url}\"]")), ["/value/data/1"])));
}
