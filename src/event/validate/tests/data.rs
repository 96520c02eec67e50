//! `data` of GET, DELETE and DELETE_PATTERN, and what holds for keys everywhere.

use super::*;

#[test]
fn keys_come_in_four_forms() {
    for kind in ["GET", "DELETE"] {
        for (data, keys) in [
            (r#""a""#, &["a"][..]),
            (r#"["a","b","a"]"#, &["a", "b", "a"]),
            (r#"{"key":"a"}"#, &["a"]),
            (r#"{"keys":["a","b"]}"#, &["a", "b"]),
            (r#""{\"key\":\"a\"}""#, &["a"]),
            (r#"" [\"a\",\"\\u0062\"] ""#, &["a", "b"]),
            (r#""[\"{}\"]""#, &["{}"]),
        ] {
            assert_eq!(keys_of(&event(kind, data)), keys, "{data}");
        }
    }
}

#[test]
fn a_string_that_is_no_json_object_or_array_is_itself() {
    for text in ["a", "1", "null", "true", "\\\"a\\\"", "{", "[1", "{}x", "{a}", " k ", "[] []"] {
        let decoded = text.replace("\\\"", "\"");
        assert_eq!(keys_of(&event("GET", &format!("\"{text}\""))), [decoded]);
    }
    assert_eq!(keys_of(&event("DELETE_PATTERN", r#""[ab]*c""#)), ["[ab]*c"]);
}

#[test]
fn faults_inside_a_string_of_json_are_told_as_if_it_were_that_json() {
    assert_faults(&event("GET", r#""[1]""#), &["/value/data/0"]);
    assert_faults(&event("GET", r#""[]""#), &["/value/data"]);
    assert_faults(&event("GET", r#""{\"kye\":\"a\"}""#), &["/value/data/kye", "/value/data"]);
    assert_faults(&event("GET", r#""[\"a\",\"\\ud800\"]""#), &["/value/data/1"]);
    assert_faults(&event("DELETE_PATTERN", r#""[1]""#), &["/value/data/0"]);
}

#[test]
fn json_in_a_string_is_bounded_in_depth_too() {
    let nested = |levels: usize| {
        let value = "[".repeat(levels - 1) + &"]".repeat(levels - 1);
        event("SET", &serde_json::to_string(&format!(r#"{{"key":"k","value":{value}}}"#)).unwrap())
    };
    valid(&nested(128));
    assert_faults(&nested(129), &["/value/data"]);
}

#[test]
fn other_data_is_a_fault_at_data() {
    for kind in ["SET", "GET", "DELETE", "DELETE_PATTERN"] {
        for data in ["1", "null", "true", "[]"] {
            assert_faults(&event(kind, data), &["/value/data"]);
        }
    }
}

#[test]
fn lists_hold_strings_only() {
    for item in ["1", "null", "[]", r#"{"key":"a"}"#, r#""\ud800""#] {
        for kind in ["GET", "DELETE", "DELETE_PATTERN"] {
            assert_faults(&event(kind, &format!("[\"a\",{item}]")), &["/value/data/1"]);
        }
        assert_faults(&event("GET", &format!(r#"{{"keys":["a",{item}]}}"#)), &["/value/data/keys/1"]);
        assert_faults(&event("GET", &format!(r#"{{"key":{item}}}"#)), &["/value/data/key"]);
        let patterns = event("DELETE_PATTERN", &format!(r#"{{"patterns":["a",{item}]}}"#));
        assert_faults(&patterns, &["/value/data/patterns/1"]);
    }
    assert_faults(&event("GET", r#""\ud800""#), &["/value/data"]);
}

#[test]
fn objects_name_by_exactly_one_member() {
    for (kind, one, many) in
        [("GET", "key", "keys"), ("DELETE", "key", "keys"), ("DELETE_PATTERN", "pattern", "patterns")]
    {
        let object = |members: String| event(kind, &format!("{{{members}}}"));
        assert_faults(&object(format!(r#""{one}":"a","{many}":["a"]"#)), &["/value/data"]);
        assert_faults(&object(String::new()), &["/value/data"]);
        assert_faults(&object(format!(r#""{one}":["a"]"#)), &[&format!("/value/data/{one}")]);
        assert_faults(&object(format!(r#""{one}":"a","x":1"#)), &["/value/data/x"]);
        for list in ["\"a\"", "null", "[]", "{}"] {
            assert_faults(&object(format!(r#""{many}":{list}"#)), &[&format!("/value/data/{many}")]);
        }
    }
    assert_faults(&event("GET", r#"{"key":"a","dry_run":true}"#), &["/value/data/dry_run"]);
}

#[test]
fn entries_are_counted_and_the_fault_is_the_list_alone() {
    let list = |count: usize, item: &str| format!("[{}]", vec![item; count].join(","));
    for (kind, item, many) in [("GET", "\"a\"", "keys"), ("SET", r#"{"key":"k","value":1}"#, "")] {
        valid(&event(kind, &list(3, item)));
        assert_faults(&event(kind, &list(4, item)), &["/value/data"]);
        assert_faults(&event(kind, &list(4, "1")), &["/value/data"]);
        if !many.is_empty() {
            assert_faults(&event(kind, &format!(r#"{{"{many}":{}}}"#, list(4, "1"))), &["/value/data/keys"]);
        }
    }
    valid(&event("DELETE_PATTERN", &list(64, "\"a*\"")));
    assert_faults(&event("DELETE_PATTERN", &list(65, "\"a*\"")), &["/value/data"]);
}

#[test]
fn keys_and_patterns_are_bounded_in_bytes() {
    for kind in ["GET", "DELETE", "DELETE_PATTERN"] {
        valid(&event(kind, &format!("\"{}\"", "é".repeat(8))));
        for key in ["\"\"", "\"aaaaaaaaaaaaaaaaa\"", "\"ééééééééa\""] {
            assert_faults(&event(kind, key), &["/value/data"]);
        }
    }
    valid(&event("GET", r#""\u0000""#));
    assert_faults(&event("SET", r#"{"key":"","value":1}"#), &["/value/data/key"]);
}

#[test]
fn keys_of_the_service_itself_are_barred() {
    for kind in ["GET", "DELETE"] {
        assert_faults(&event(kind, r#"["rcs:v:a","rcs:v","rcs:v:"]"#), &["/value/data/0", "/value/data/2"]);
    }
    assert_faults(&event("SET", r#"{"key":"rcs:v:a","value":1}"#), &["/value/data/key"]);
    assert_faults(
        &event("GET", r#"["{rcs:journal}:dead","rcs:journals","rcs:journal"]"#),
        &["/value/data/0", "/value/data/2"],
    );
    valid(&event("DELETE_PATTERN", r#""rcs:v:*""#));
    let unguarded = Limits { own_keys: OwnKeys::default(), ..limits() };
    assert!(check_with(&event("GET", r#""rcs:v:a""#), &unguarded).is_ok());
}

#[test]
fn patterns_come_in_four_forms_and_objects_may_ask_for_a_dry_run() {
    let dry = |text: &str| match valid(text).action {
        Action::DeletePattern { dry_run, .. } => dry_run,
        other => panic!("{other:?}"),
    };
    for (data, patterns, dry_run) in [
        (r#""a*""#, &["a*"][..], false),
        (r#"["a*","b?"]"#, &["a*", "b?"], false),
        (r#"{"pattern":"a*"}"#, &["a*"], false),
        (r#"{"pattern":"a*","dry_run":false}"#, &["a*"], false),
        (r#"{"patterns":["a*","b*"],"dry_run":true}"#, &["a*", "b*"], true),
        (r#""{\"pattern\":\"a*\",\"dry_run\":true}""#, &["a*"], true),
    ] {
        let text = event("DELETE_PATTERN", data);
        assert_eq!(
            (keys_of(&text).as_slice(), dry(&text)),
            (&patterns.iter().map(|s| s.to_string()).collect::<Vec<_>>()[..], dry_run)
        );
    }
    for flag in ["null", "1", "\"true\"", "[]"] {
        assert_faults(
            &event("DELETE_PATTERN", &format!(r#"{{"pattern":"a*","dry_run":{flag}}}"#)),
            &["/value/data/dry_run"],
        );
    }
    assert_faults(r#"{"key":"DELETE_PATTERN","value":{"data":"a*","dry_run":true}}"#, &["/value/dry_run"]);
}

#[test]
fn unclosed_classes_and_bare_wildcards_are_faults_at_the_pattern() {
    assert_faults(
        &event("DELETE_PATTERN", r#"["a[b","*","a*","[a-z]?"]"#),
        &["/value/data/0", "/value/data/1", "/value/data/3"],
    );
    assert_faults(&event("DELETE_PATTERN", r#""*""#), &["/value/data"]);
    let all = Limits { allow_match_all: true, ..limits() };
    assert!(check_with(&event("DELETE_PATTERN", r#""*""#), &all).is_ok());
    assert!(check_with(&event("DELETE_PATTERN", r#""[a""#), &all).is_err());
}
