//! What makes `data` invalid, type by type, and the pointer to every fault.

use serde_json::{Value, json};

use crate::events::{encoded, event};
use crate::invalid::check;
use crate::support::{Stage, results};

#[test]
fn keys() {
    let long = Value::from("k".repeat(1025)).to_string();
    let wide = Value::from("é".repeat(513)).to_string();
    let mut cases = Vec::new();
    for key in ["\"\"", "\"rcs:v:\"", "\"rcs:v:k\"", "5", "null", "true", "[\"k\"]", &long, &wide] {
        cases.push((event("SET", format!(r#"{{"key":{key},"value":1}}"#)), "/value/data/key"));
        cases.push((
            event("SET", format!(r#"[{{"key":"ok","value":1}},{{"key":{key},"value":1}}]"#)),
            "/value/data/1/key",
        ));
        cases.push((event("GET", format!(r#"["ok",{key}]"#)), "/value/data/1"));
        cases.push((event("DELETE", format!(r#"{{"key":{key}}}"#)), "/value/data/key"));
        cases.push((event("DELETE", format!(r#"{{"keys":[{key},"ok"]}}"#)), "/value/data/keys/0"));
        if !key.starts_with('[') {
            cases.push((event("GET", key), "/value/data"));
        }
    }
    check(cases.into_iter().map(|(body, pointer)| (body, [pointer])));
    let stage = Stage::new();
    for key in ["k".repeat(1024), "é".repeat(512), "rcs:v".into(), " ".into(), "\0".into(), "rcs:V:x".into()] {
        results(&stage.daemon.post_text(&event("GET", Value::from(key))), 200, "ok");
    }
}

#[test]
fn patterns() {
    let long = format!("{}*", "k".repeat(1024));
    let bad = ["", "[a", "a[", "a[^", r"a[b\]", "a[b-", "*", "?", "**", "?*?", "[a-z]", "[^x]*", "*[ab]?", &long];
    let mut cases = Vec::new();
    for pattern in bad {
        let text = encoded(pattern);
        // A text that is itself a JSON array would be taken as one.
        cases.push((event("DELETE_PATTERN", format!(r#"["ok*",{text}]"#)), "/value/data/1"));
        cases.push((event("DELETE_PATTERN", format!(r#"{{"pattern":{text}}}"#)), "/value/data/pattern"));
        cases.push((event("DELETE_PATTERN", format!(r#"{{"patterns":[{text}]}}"#)), "/value/data/patterns/0"));
        cases.push((event("DELETE_PATTERN", text), "/value/data"));
    }
    for other in ["5", "null", "true"] {
        cases.push((event("DELETE_PATTERN", other), "/value/data"));
        cases.push((event("DELETE_PATTERN", format!("[{other}]")), "/value/data/0"));
    }
    for dry_run in ["null", "1", "\"true\"", "[]"] {
        let data = format!(r#"{{"pattern":"a*","dry_run":{dry_run}}}"#);
        cases.push((event("DELETE_PATTERN", data), "/value/data/dry_run"));
    }
    check(cases.into_iter().map(|(body, pointer)| (body, [pointer])));
    let stage = Stage::new();
    for pattern in [r"\*", r"[a]b", "*a", r"?\?", "plain", "k*"] {
        results(&stage.daemon.post_text(&event("DELETE_PATTERN", encoded(pattern))), 200, "ok");
    }
}

#[test]
fn how_many() {
    let keys = |count: usize| json!(vec!["k"; count]).to_string();
    let entries = |count: usize| json!(vec![json!({"key": "k", "value": 1}); count]).to_string();
    let patterns = |count: usize| json!(vec!["nobody*"; count]).to_string();
    check([
        (event("GET", "[]"), ["/value/data"]),
        (event("SET", "[]"), ["/value/data"]),
        (event("SET", "\"[]\""), ["/value/data"]),
        (event("DELETE", r#"{"keys":[]}"#), ["/value/data/keys"]),
        (event("DELETE_PATTERN", r#"{"patterns":[]}"#), ["/value/data/patterns"]),
        (event("GET", keys(1001)), ["/value/data"]),
        (event("DELETE", format!(r#"{{"keys":{}}}"#, keys(1001))), ["/value/data/keys"]),
        (event("SET", entries(1001)), ["/value/data"]),
        (event("DELETE_PATTERN", patterns(65)), ["/value/data"]),
        (event("DELETE_PATTERN", format!(r#"{{"patterns":{}}}"#, patterns(65))), ["/value/data/patterns"]),
    ]);
    let stage = Stage::new();
    for body in [event("GET", keys(1000)), event("SET", entries(1000)), event("DELETE_PATTERN", patterns(64))] {
        let found = results(&stage.daemon.post_text(&body), 200, "ok");
        assert!([64, 1000].contains(&found.len()));
    }
}

#[test]
fn inline_values_and_encodings() {
    let entry = |rest: &str| event("SET", format!(r#"{{"key":"k",{rest}}}"#));
    check([
        (entry(r#""value":null"#), ["/value/data/value"]),
        (entry(r#""value":"x","encoding":"hex""#), ["/value/data/encoding"]),
        (entry(r#""value":"AA==","encoding":"BASE64""#), ["/value/data/encoding"]),
        (entry(r#""value":"x","encoding":null"#), ["/value/data/encoding"]),
        (entry(r#""value":"x","encoding":64"#), ["/value/data/encoding"]),
        (entry(r#""url":"http://h/","encoding":"base64""#), ["/value/data/encoding"]),
        (entry(r#""value":5,"encoding":"base64""#), ["/value/data/encoding"]),
        (entry(r#""value":{},"encoding":"base64""#), ["/value/data/encoding"]),
        (entry(r#""value":"AAE","encoding":"base64""#), ["/value/data/value"]),
        (entry(r#""value":"AAH_","encoding":"base64""#), ["/value/data/value"]),
        (entry(r#""value":"AA ==","encoding":"base64""#), ["/value/data/value"]),
        (entry(r#""value":"AAE=\n","encoding":"base64""#), ["/value/data/value"]),
        (entry(r#""value":"A===","encoding":"base64""#), ["/value/data/value"]),
        (entry(r#""value":"é","encoding":"base64""#), ["/value/data/value"]),
    ]);
}

#[test]
fn entries() {
    check([
        (event("SET", "5"), ["/value/data"]),
        (event("SET", "null"), ["/value/data"]),
        (event("SET", "true"), ["/value/data"]),
        (event("SET", "\"just text\""), ["/value/data"]),
        (event("SET", r#"[{"key":"k","value":1},5]"#), ["/value/data/1"]),
        (event("SET", r#"[{"key":"k","value":1},null]"#), ["/value/data/1"]),
        (event("SET", r#"[[{"key":"k","value":1}]]"#), ["/value/data/0"]),
        (event("SET", r#"{"value":"x"}"#), ["/value/data/key"]),
        (event("SET", r#"[{"key":"k","value":1},{"value":2}]"#), ["/value/data/1/key"]),
        (event("SET", encoded(r#"[{"key":"k","value":1},{"value":2}]"#)), ["/value/data/1/key"]),
        (event("GET", "5"), ["/value/data"]),
        (event("GET", "null"), ["/value/data"]),
        (event("DELETE", "[[\"k\"]]"), ["/value/data/0"]),
        (event("DELETE", r#"{"keys":"k"}"#), ["/value/data/keys"]),
    ]);
}

#[test]
fn faults_of_an_entry_as_a_whole_lie_in_that_entry() {
    let stage = Stage::new();
    let cases = [
        (r#"[{"key":"ok","value":1},{"key":"k","url":"http://h/","value":1}]"#, "/value/data/1"),
        (r#"[{"key":"ok","value":1},{"key":"k"}]"#, "/value/data/1"),
        (r#"[{"key":"ok","value":1},{}]"#, "/value/data/1"),
    ];
    for (data, entry) in cases {
        let problem = stage.daemon.post_text(&event("SET", data)).problem(422, "invalid-event");
        let errors = problem["errors"].as_array().expect("errors");
        let inside = |e: &Value| e["pointer"].as_str().is_some_and(|pointer| pointer.starts_with(entry));
        assert!(!errors.is_empty() && errors.iter().all(inside), "{data}: {problem}");
    }
    for (kind, data) in
        [("GET", "{}"), ("DELETE", "{}"), ("DELETE_PATTERN", "{}"), ("DELETE_PATTERN", r#"{"dry_run":true}"#)]
    {
        stage.daemon.post_text(&event(kind, data)).problem(422, "invalid-event");
    }
    assert_eq!(stage.redis.key_count(), 0);
}

#[test]
fn urls() {
    let bad = [
        "ftp://h/x",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:,x",
        "http://u:p@h/x",
        "https://u@h/x",
        "http://:p@h/x",
        "/relative",
        "h/x",
        "//h/x",
        "http://",
        "http://h:99999/x",
        "http://h:x/y",
        "http://[::1/x",
        "http://h h/x",
        "",
    ];
    let mut cases = Vec::new();
    for url in bad {
        let url = encoded(url);
        cases.push((event("SET", format!(r#"{{"key":"k","url":{url}}}"#)), "/value/data/url"));
        cases.push((
            event("SET", format!(r#"[{{"key":"k","value":1}},{{"key":"k","url":{url}}}]"#)),
            "/value/data/1/url",
        ));
        cases.push((event("SET", format!(r#"["http://h/ok",{url}]"#)), "/value/data/1"));
        cases.push((event("SET", url), "/value/data"));
    }
    for other in ["5", "null", "[]", "{}"] {
        cases.push((event("SET", format!(r#"{{"key":"k","url":{other}}}"#)), "/value/data/url"));
    }
    check(cases.into_iter().map(|(body, pointer)| (body, [pointer])));
}

#[test]
fn urls_whose_path_is_no_usable_key() {
    let long = format!("http://h/{}", "x".repeat(1025));
    let mut cases = Vec::new();
    for url in
        ["http://h", "http://h/", "http://h/?q=1", "http://h/%ff", "http://h/rcs:v:k", "http://h/rcs%3Av%3Ak", &long]
    {
        cases.push((event("SET", format!(r#"{{"url":"{url}"}}"#)), "/value/data/url"));
        cases.push((event("SET", format!(r#""{url}""#)), "/value/data"));
        cases.push((event("SET", format!(r#"["http://h/ok","{url}"]"#)), "/value/data/1"));
    }
    check(cases.into_iter().map(|(body, pointer)| (body, [pointer])));
}

#[test]
fn every_fault_is_listed_up_to_a_bound_for_the_request() {
    let stage = Stage::new();
    let event = |faults: usize| json!({"key": "GET", "value": {"data": vec![1; faults]}});
    let problem = stage.daemon.post(&event(1000)).problem(422, "invalid-event");
    let pointers: Vec<_> = problem["errors"].as_array().expect("errors").iter().map(|e| &e["pointer"]).collect();
    assert_eq!(pointers.len(), 1000);
    assert!(pointers.iter().enumerate().all(|(n, pointer)| *pointer == &json!(format!("/value/data/{n}"))));

    let answer = stage.daemon.post(&json!(vec![event(1000); 100]));
    let answer = answer.json();
    assert_eq!(answer["counts"]["rejected"], 100);
    let listed = answer["events"].as_array().expect("events").iter().map(|e| e["problem"]["errors"].as_array());
    let listed: Vec<_> = listed.map(|errors| errors.map_or(0, Vec::len)).collect();
    assert!(listed.iter().all(|count| *count >= 1) && listed.iter().sum::<usize>() < 11_000, "{listed:?}");
}
