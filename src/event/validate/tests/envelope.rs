//! The event's own members and those of `value`.

use super::*;

const DATA: &str = r#""value":{"data":"k"}"#;

#[test]
fn what_is_no_object_is_invalid_at_its_root() {
    for text in ["1", "\"a\"", "null", "true", "[]", r#"[{"key":"GET","value":{"data":"k"}}]"#] {
        assert_faults(text, &[""]);
    }
}

#[test]
fn a_line_that_is_not_json_is_malformed() {
    let invalid = check_with("{", &limits()).unwrap_err();
    assert_eq!((invalid.id, invalid.event), (None, None));
    assert!(matches!(invalid.kind, InvalidKind::Malformed(detail) if detail.contains("line 1 column 1")));
}

#[test]
fn the_type_is_one_of_four_exactly_so() {
    for kind in EventType::ALL {
        let data = if kind == EventType::Set { r#"{"key":"k","value":1}"# } else { "\"k\"" };
        assert_eq!(valid(&event(kind.as_str(), data)).action.name(), kind);
    }
    assert_eq!(valid(r#"{"\u006bey":"\u0047ET","value":{"data":"k"}}"#).action.name(), EventType::Get);
    for key in ["\"set\"", "\"SET \"", "\"\"", "\"PUT\"", "1", "null", "[\"SET\"]", "\"\\ud800\""] {
        assert_faults(&format!(r#"{{"key":{key},{DATA}}}"#), &["/key"]);
    }
    assert_faults(&format!("{{{DATA}}}"), &["/key"]);
}

#[test]
fn without_a_type_only_what_is_wrong_under_any_type_is_told() {
    let text = r#"{"key":"PUT","id":1,"version":null,"value":{"ttl":-1,"tll":1,"data":{"kye":1,"key":1,"key":2}}}"#;
    assert_faults(text, &["/key", "/id", "/version", "/value/tll", "/value/data/key"]);
    assert_faults(r#"{"value":{"data":[{"a":1,"a":2},3]}}"#, &["/key", "/value/data/0/a"]);
    assert_faults("{}", &["/key", "/value"]);
    assert_faults(r#"{"key":"PUT","value":{}}"#, &["/key", "/value/data"]);
}

#[test]
fn an_id_is_a_string_of_at_most_256_bytes() {
    let with_id = |id: &str| format!(r#"{{"key":"GET","id":{id},{DATA}}}"#);
    for (id, text) in [("\"e-1\"", "e-1"), ("\"\"", ""), ("\"\\u00e9\"", "é")] {
        assert_eq!(valid(&with_id(id)).id.as_deref(), Some(text));
    }
    assert_eq!(valid(&format!("{{\"key\":\"GET\",{DATA}}}")).id, None);
    assert!(valid(&with_id(&format!("\"{}\"", "é".repeat(128)))).id.is_some());
    let long = format!("\"{}\"", "é".repeat(129));
    for id in ["null", "1", "{}", "\"\\ud800\"", &long] {
        assert_faults(&with_id(id), &["/id"]);
    }
}

#[test]
fn a_version_is_a_whole_number_or_a_short_text_except_where_nothing_is_guarded() {
    let text = |bytes| format!("\"{}\"", "a".repeat(bytes));
    let (longest, too_long) = (text(128), text(129));
    for kind in ["SET", "DELETE", "DELETE_PATTERN"] {
        let data = if kind == "SET" { r#"{"key":"k","value":1}"# } else { "\"k\"" };
        let event = |version: &str| format!(r#"{{"key":"{kind}","version":{version},"value":{{"data":{data}}}}}"#);
        for version in ["0", "7", "9223372036854775807", "\"\"", "\"7\"", "\"\\u0000\"", &longest] {
            assert!(valid(&event(version)).version.is_some(), "{version}");
        }
        for version in
            ["null", "-1", "-0", "1.0", "1e2", "9223372036854775808", "true", "[1]", "{}", "\"\\ud800\"", &too_long]
        {
            assert_faults(&event(version), &["/version"]);
        }
        assert!(valid(&event("7")).version < valid(&event("8")).version);
        assert!(valid(&event("9223372036854775807")).version < valid(&event("\"\"")).version);
    }
    for version in ["1", "null", "-1"] {
        assert_eq!(valid(&format!(r#"{{"key":"GET","version":{version},{DATA}}}"#)).version, None);
    }
}

#[test]
fn an_event_with_a_version_names_no_key_twice() {
    let faults = |kind: &str, data: &str, pointers: &[&str]| {
        for version in ["1", "null"] {
            let text = format!(r#"{{"key":"{kind}","version":{version},"value":{{"data":{data}}}}}"#);
            let own: &[&str] = if version == "null" { &["/version"] } else { &[] };
            assert_faults(&text, &[own, pointers].concat());
        }
        valid(&event(kind, data));
    };
    faults("DELETE", r#"["a","\u0061","a"]"#, &["/value/data/1", "/value/data/2"]);
    faults("DELETE", r#"{"keys":["a","a"]}"#, &["/value/data/keys/1"]);
    faults("SET", r#"[{"key":"a","value":1},{"key":"a","url":"http://h/b"}]"#, &["/value/data/1/key"]);
    faults(
        "SET",
        r#"[{"key":"a","value":1},{"url":"http://h/a"},"http://h/a"]"#,
        &["/value/data/1/url", "/value/data/2"],
    );
    valid(r#"{"key":"DELETE_PATTERN","version":1,"value":{"data":["a*","a*"]}}"#);
    valid(r#"{"key":"GET","version":1,"value":{"data":["a","a"]}}"#);
}

#[test]
fn extras_beside_the_event_are_ignored_and_not_looked_into() {
    valid(&format!(r#"{{"source":null,"key":"GET","meta":{{"a":1,"a":"\ud800"}},"\ud800":1,{DATA}}}"#));
}

#[test]
fn what_belongs_inside_value_is_a_fault_beside_it() {
    for name in ["ttl", "data", "url", "pattern", "patterns", "keys", "dry_run", "encoding", "\\u0074tl"] {
        let pointer = format!("/{}", name.replace("\\u0074", "t"));
        for value in ["60", "null", "{\"a\":1}"] {
            assert_faults(&format!(r#"{{"key":"GET",{DATA},"{name}":{value}}}"#), &[&pointer]);
        }
        assert_faults(&format!(r#"{{"{name}":1,"key":"GET","{name}":2,{DATA}}}"#), &[&pointer, &pointer]);
    }
    assert_faults(r#"{"key":"SET","data":{"key":"k","value":1},"ttl":5}"#, &["/data", "/ttl", "/value"]);
    valid(&format!(r#"{{"key":"GET","Ttl":1,"encodings":1,{DATA}}}"#));
}

#[test]
fn a_member_given_twice_is_a_fault_at_that_member() {
    let value = r#"{"data":"k"}"#;
    for (text, pointer) in [
        (format!(r#"{{"key":"GET","key":"GET","value":{value}}}"#), "/key"),
        (format!(r#"{{"key":"GET","id":"a","id":"a","id":"a","value":{value}}}"#), "/id"),
        (format!(r#"{{"key":"GET","version":1,"version":1,"value":{value}}}"#), "/version"),
        (format!(r#"{{"key":"GET","value":{value},"value":{value}}}"#), "/value"),
        (format!(r#"{{"key":"GET","x/y~":1,"x\/y~":2,"value":{value}}}"#), "/x~1y~0"),
        (format!(r#"{{"key":"GET","value":{value},"v\u0061lue":{value}}}"#), "/value"),
        (r#"{"key":"GET","value":{"data":"k","data":"k"}}"#.into(), "/value/data"),
        (r#"{"key":"GET","value":{"data":"k","ttl":1,"ttl":1}}"#.into(), "/value/ttl"),
        (r#"{"key":"SET","value":{"data":{"key":"k","value":1},"ttl":1,"ttl":1}}"#.into(), "/value/ttl"),
        (event("GET", r#"{"key":"k","key":"k"}"#), "/value/data/key"),
        (event("DELETE", r#"{"keys":["k"],"keys":["k"]}"#), "/value/data/keys"),
        (event("DELETE_PATTERN", r#"{"pattern":"k","dry_run":true,"dry_run":true}"#), "/value/data/dry_run"),
        (event("SET", r#"[{"key":"k","value":1,"value":1}]"#), "/value/data/0/value"),
        (event("SET", r#"{"key":"k","key":"k","url":"http://h/"}"#), "/value/data/key"),
        (event("SET", r#"{"url":"http://h/a","url":"http://h/a"}"#), "/value/data/url"),
        (event("SET", r#"{"key":"k","value":"","encoding":"base64","encoding":"base64"}"#), "/value/data/encoding"),
        (event("SET", r#""{\"key\":\"k\",\"value\":1,\"ttl\":1,\"ttl\":2}""#), "/value/data/ttl"),
    ] {
        assert_faults(&text, &[pointer]);
    }
}

#[test]
fn value_is_an_object_with_data() {
    for value in ["null", "1", "\"k\"", "[]"] {
        assert_faults(&format!(r#"{{"key":"GET","value":{value}}}"#), &["/value"]);
    }
    assert_faults(r#"{"key":"GET"}"#, &["/value"]);
    assert_faults(r#"{"key":"GET","value":{}}"#, &["/value/data"]);
}

#[test]
fn unknown_members_of_value_are_faults_there() {
    let text = r#"{"key":"GET","value":{"data":"k","tll":1,"a/b~c":2,"\ud800":1}}"#;
    assert_faults(text, &["/value/tll", "/value/a~1b~0c", "/value/\u{fffd}\u{fffd}\u{fffd}"]);
}

#[test]
fn ttl_is_a_whole_number_of_seconds_or_a_string_of_digits() {
    let with_ttl = |ttl: &str| format!(r#"{{"key":"SET","value":{{"data":{{"key":"k","value":1}},"ttl":{ttl}}}}}"#);
    for (ttl, seconds) in [
        ("1", Some(1)),
        ("1000", Some(1000)),
        ("\"60\"", Some(60)),
        ("\"007\"", Some(7)),
        ("\"\\u0036\"", Some(6)),
        ("null", None),
        ("\"\"", None),
    ] {
        assert_eq!(entries(&with_ttl(ttl))[0].ttl, seconds.and_then(Ttl::from_seconds), "{ttl}");
    }
    for ttl in [
        "0",
        "-0",
        "-1",
        "1001",
        "1.0",
        "1e2",
        "0.5",
        "99999999999999999999",
        "true",
        "[]",
        "{}",
        "\"0\"",
        "\"-1\"",
        "\"+1\"",
        "\" 1\"",
        "\"1.0\"",
        "\"1e2\"",
        "\"1001\"",
        "\"a\"",
        "\"\u{661}\"",
        "\"\\ud800\"",
        "\"99999999999999999999\"",
    ] {
        assert_faults(&with_ttl(ttl), &["/value/ttl"]);
    }
    let detail = &faults(&with_ttl("0"))[0].detail;
    assert_eq!(detail, "must be a whole number of seconds from 1 to 1000, or a string of such digits");
}

#[test]
fn only_a_set_takes_notice_of_ttl() {
    for kind in ["GET", "DELETE", "DELETE_PATTERN"] {
        for ttl in ["0", "-1", "\"x\"", "{}", "null"] {
            valid(&format!(r#"{{"key":"{kind}","value":{{"data":"k","ttl":{ttl}}}}}"#));
        }
    }
}

#[test]
fn an_invalid_event_keeps_its_id_and_type_if_those_were_valid() {
    let parts = |text: &str| {
        let invalid = check_with(text, &limits()).unwrap_err();
        (invalid.id.map(|id| id.to_string()), invalid.event)
    };
    assert_eq!(parts(r#"{"key":"GET","id":"a"}"#), (Some("a".into()), Some(EventType::Get)));
    assert_eq!(parts(r#"{"key":"X","id":"a"}"#), (Some("a".into()), None));
    assert_eq!(parts(r#"{"key":"GET","id":1}"#), (None, Some(EventType::Get)));
    assert_eq!(parts(r#"{"key":"GET","key":"GET","id":"a","id":"a","value":{"data":"k"}}"#), (None, None));
}

#[test]
fn every_fault_is_told_in_one_go() {
    let text = r#"{"key":"SET","id":null,"value":{"ttl":0,"x":1,"data":[{"key":"","value":null},1,{"key":"k"}]}}"#;
    let expected =
        ["/id", "/value/x", "/value/ttl", "/value/data/0/key", "/value/data/0/value", "/value/data/1", "/value/data/2"];
    assert_faults(text, &expected);
}

#[test]
fn a_flood_of_faults_is_cut_and_said_to_be() {
    let members: Vec<_> = (0..=MAX_FAULTS).map(|n| format!("\"{n}\":0")).collect();
    let text = format!(r#"{{"key":"GET","value":{{"data":"k",{}}}}}"#, members.join(","));
    let faults = faults(&text);
    assert_eq!(faults.len(), MAX_FAULTS + 1);
    assert_eq!(faults.last().map(|last| last.pointer.as_str()), Some(""));
}

#[test]
fn a_time_is_a_moment_if_it_is_rfc_3339_and_any_other_is_an_extra_like_all_others() {
    let with_time = |time: &str| format!(r#"{{"key":"GET","time":{time},{DATA}}}"#);
    for (time, millis) in [
        ("\"1970-01-01T00:00:01Z\"", 1_000),
        ("\"2026-11-23T04:41:51.8899Z\"", 1_795_408_911_889),
        ("\"2026-11-23t05:41:51.889999999+01:00\"", 1_795_408_911_889),
        ("\"\\u0032026-11-23T04:41:51Z\"", 1_795_408_911_000),
        ("\"0000-01-01T00:00:00Z\"", -62_167_219_200_000),
        ("\"9999-12-31T23:59:59Z\"", 253_402_300_799_000),
    ] {
        assert_eq!(valid(&with_time(time)).time, Some(millis), "{time}");
    }
    let long = format!("\"2026-11-23T04:41:51.{}Z\"", "8".repeat(100));
    let none = [
        "null",
        "1795408911",
        "\"\"",
        "\"now\"",
        "\"2026-11-23\"",
        "\"2026-11-23 04:41:51\"",
        "\"2026-02-30T00:00:00Z\"",
        "\"2026-11-23T04:41:51\"",
        "[\"2026-11-23T04:41:51Z\"]",
        "{}",
        "true",
        "\"\\ud800\"",
        &long,
    ];
    for time in none {
        assert_eq!(valid(&with_time(time)).time, None, "{time}");
    }
    assert_eq!(valid(&format!("{{\"key\":\"GET\",{DATA}}}")).time, None);
    assert_faults(&format!(r#"{{"key":"GET","time":1,"time":2,{DATA}}}"#), &["/time"]);
}
