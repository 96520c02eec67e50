//! The four types of event: every form of `data` and `ttl`, what then lies in Redis, and the answers.

use serde_json::{Value, json};

use crate::support::{Blob, Stage, delete, delete_pattern, get, results, set};

/// A key, its bytes, and where they came from.
type Stored = (&'static str, &'static [u8], &'static str);

/// An event as text, so that values arrive exactly as written.
pub fn event(kind: &str, data: impl std::fmt::Display) -> String {
    format!(r#"{{"key":"{kind}","value":{{"data":{data}}}}}"#)
}

/// JSON text as a JSON string: what a producer does that encodes twice.
pub fn encoded(text: &str) -> String {
    Value::from(text).to_string()
}

fn stored(key: &str, bytes: usize, ttl: Option<u64>, source: &str) -> Value {
    json!({"key": key, "status": "stored", "bytes": bytes, "ttl": ttl, "source": source})
}

#[test]
fn set_takes_every_form_of_data() {
    let stage = Stage::new();
    stage.blobs.put("/one.txt", Blob::bytes("first"));
    stage.blobs.put("/dir/a%20b%C3%A9.bin", Blob::bytes([0xff, 0, 1]));
    let one = stage.blobs.url("/one.txt");
    let two = format!("{}?sig=s3cr3t&x=%2F", stage.blobs.url("/dir/a%20b%C3%A9.bin"));
    let inline = [("a", b"text".as_slice(), "inline")];
    let both = [("a", b"x".as_slice(), "inline"), ("b", b"y", "inline")];
    let cases: Vec<(String, &[Stored])> = vec![
        (r#"{"key":"a","value":"text"}"#.into(), &inline),
        (r#"[{"key":"a","value":"text"}]"#.into(), &inline),
        (r#"[{"key":"a","value":"x"},{"value":"y","key":"b"}]"#.into(), &both),
        (encoded(r#"{"key":"a","value":"text"}"#), &inline),
        (encoded(r#" [{"key":"a","value":"x"}, {"key":"b","value":"y"}] "#), &both),
        (format!(r#"{{"key":"k","url":"{one}"}}"#), &[("k", b"first", "blob")]),
        (format!(r#"{{"url":"{one}"}}"#), &[("one.txt", b"first", "blob")]),
        (format!(r#""{one}""#), &[("one.txt", b"first", "blob")]),
        (format!(r#"["{one}","{two}"]"#), &[("one.txt", b"first", "blob"), ("dir/a bé.bin", &[0xff, 0, 1], "blob")]),
        (encoded(&format!(r#"["{one}"]"#)), &[("one.txt", b"first", "blob")]),
        (
            format!(r#"[{{"key":"a","value":"x"}},"{one}",{{"key":"z","url":"{two}"}}]"#),
            &[("a", b"x", "inline"), ("one.txt", b"first", "blob"), ("z", &[0xff, 0, 1], "blob")],
        ),
        (r#"{"key":"a","value":"AAH/","encoding":"base64"}"#.into(), &[("a", &[0, 1, 0xff], "inline")]),
        (r#"{"key":"a","value":"","encoding":"base64"}"#.into(), &[("a", b"", "inline")]),
        (r#"{"key":"ключ {x} \"q\"","value":"v"}"#.into(), &[("ключ {x} \"q\"", b"v", "inline")]),
    ];
    for (data, expected) in cases {
        redis::cmd("FLUSHALL").exec(&mut stage.redis.conn()).unwrap();
        let answer = stage.daemon.post_text(&event("SET", &data));
        let want: Vec<_> = expected.iter().map(|(k, v, source)| stored(k, v.len(), None, source)).collect();
        assert_eq!(answer.status, 200, "{data}: {}", answer.text());
        assert_eq!(answer.json(), json!({"status": "ok", "event": "SET", "results": want}), "{data}");
        for (key, value, _) in expected {
            assert_eq!(stage.redis.value(key).as_deref(), Some(*value), "{data}: {key}");
            assert_eq!(stage.redis.ttl(key), -1, "{data}: {key}");
        }
        assert_eq!(stage.redis.key_count(), expected.len() as u64, "{data}");
    }
}

#[test]
fn inline_values_are_stored_byte_for_byte() {
    let stage = Stage::new();
    let verbatim = [
        "1.0",
        "-0",
        "1E+2",
        "123456789012345678901234567890.10",
        "1e999",
        "true",
        "false",
        "[]",
        "{}",
        r#"{"b": 1,"a":[1, 2 ,3],  "z":null}"#,
        "{\n\t\"name\" : \"Ada\"\r\n}",
        r#"{"esc":"\u0041\/é\ud83d\ude00","a":1,"a":2}"#,
        r#"{"half":"\ud800"}"#,
        r#"["encoding","url","key"]"#,
    ];
    for value in verbatim {
        let event = event("SET", format!(r#"{{"key":"k","value":{value}}}"#));
        let found = results(&stage.daemon.post_text(&event), 200, "ok");
        assert_eq!(found, [stored("k", value.len(), None, "inline")], "{value}");
        assert_eq!(stage.redis.value("k").as_deref(), Some(value.as_bytes()), "{value}");
    }
    let texts = [
        (r#""""#, ""),
        (r#""plain""#, "plain"),
        (r#""a\"b\\c\/d\n\t\u0000\u00e9\ud83d\ude00""#, "a\"b\\c/d\n\t\0é😀"),
        (r#"" 42 ""#, " 42 "),
        (r#""{\"not\":\"decoded\"}""#, r#"{"not":"decoded"}"#),
        (r#""null""#, "null"),
    ];
    for (value, text) in texts {
        let event = event("SET", format!(r#"{{"key":"k","value":{value}}}"#));
        assert_eq!(results(&stage.daemon.post_text(&event), 200, "ok"), [stored("k", text.len(), None, "inline")]);
        assert_eq!(stage.redis.value("k").as_deref(), Some(text.as_bytes()), "{value}");
    }
}

#[test]
fn values_inside_encoded_data_are_stored_byte_for_byte() {
    let stage = Stage::new();
    let inner = r#"{"key":"k","value":{"x": 1.0, "é":"\u0041"}}"#;
    stage.daemon.post_text(&event("SET", encoded(inner)));
    assert_eq!(stage.redis.value("k").unwrap(), r#"{"x": 1.0, "é":"\u0041"}"#.as_bytes());
}

#[test]
fn ttl_takes_every_form_and_an_entry_overrides_its_event() {
    let plain = Stage::new();
    let defaulted = Stage::with(|daemon| daemon.set("event.default_ttl_seconds", 500));
    // The event's ttl, the entry's, and what is left over with and without a default.
    let cases = [
        ("", "", None, Some(500)),
        (r#","ttl":null"#, "", None, Some(500)),
        (r#","ttl":"""#, "", None, Some(500)),
        (r#","ttl":3600"#, "", Some(3600), Some(3600)),
        (r#","ttl":"3600""#, "", Some(3600), Some(3600)),
        (r#","ttl":1"#, r#","ttl":70"#, Some(70), Some(70)),
        (r#","ttl":70"#, r#","ttl":null"#, Some(70), Some(70)),
        (r#","ttl":"70""#, r#","ttl":"""#, Some(70), Some(70)),
        ("", r#","ttl":"71""#, Some(71), Some(71)),
        (r#","ttl":315360000"#, "", Some(315_360_000), Some(315_360_000)),
        (r#","ttl":"315360000""#, "", Some(315_360_000), Some(315_360_000)),
    ];
    for (event_ttl, entry_ttl, without, with) in cases {
        for (stage, want) in [(&plain, without), (&defaulted, with)] {
            let body = format!(r#"{{"key":"SET","value":{{"data":{{"key":"k","value":"v"{entry_ttl}}}{event_ttl}}}}}"#);
            assert_eq!(results(&stage.daemon.post_text(&body), 200, "ok"), [stored("k", 1, want, "inline")], "{body}");
            let left = stage.redis.ttl("k");
            match want {
                None => assert_eq!(left, -1, "{body}"),
                Some(seconds) => assert!((seconds as i64 - 5..=seconds as i64).contains(&left), "{left}: {body}"),
            }
        }
    }
}

#[test]
fn a_blob_keeps_its_ttl_and_a_set_without_ttl_takes_one_away() {
    let stage = Stage::new();
    stage.blobs.put("/b", Blob::bytes("blob"));
    let url = stage.blobs.url("/b");
    let event =
        json!({"key": "SET", "value": {"ttl": 3600, "data": [{"key": "k", "url": url}, {"url": url, "ttl": 60}]}});
    assert_eq!(stage.ok(&event), [stored("k", 4, Some(3600), "blob"), stored("b", 4, Some(60), "blob")]);
    assert!((3590..=3600).contains(&stage.redis.ttl("k")));
    assert!((50..=60).contains(&stage.redis.ttl("b")));
    stage.ok(&set(json!({"key": "k", "value": 1})));
    assert_eq!(stage.redis.ttl("k"), -1);
}

#[test]
fn a_short_ttl_expires() {
    let stage = Stage::new();
    stage.ok(&json!({"key": "SET", "value": {"data": {"key": "k", "value": "v"}, "ttl": 1}}));
    assert!(stage.redis.exists("k"));
    assert!(crate::support::eventually(std::time::Duration::from_secs(3), || !stage.redis.exists("k")));
    assert_eq!(stage.ok(&get(json!("k"))), [json!({"key": "k", "status": "miss"})]);
}

#[test]
fn get_takes_every_form_and_answers_in_order() {
    let stage = Stage::new();
    stage.redis.put("a", b"text");
    stage.redis.put("b", &[0, 1, 0xff]);
    stage.redis.put("e", b"");
    let hit_a = json!({"key": "a", "status": "hit", "value": "text"});
    let hit_b = json!({"key": "b", "status": "hit", "value": "AAH/", "encoding": "base64"});
    let miss = json!({"key": "c", "status": "miss"});
    let empty = json!({"key": "e", "status": "hit", "value": ""});
    let cases = [
        (r#""a""#.to_owned(), json!([hit_a])),
        (r#"["c","b","a","e"]"#.to_owned(), json!([miss, hit_b, hit_a, empty])),
        (r#"{"key":"b"}"#.to_owned(), json!([hit_b])),
        (r#"{"keys":["a","b","c","a"]}"#.to_owned(), json!([hit_a, hit_b, miss, hit_a])),
        (encoded(r#"{"key":"a"}"#), json!([hit_a])),
        (encoded(r#"["a","c"]"#), json!([hit_a, miss])),
        (encoded(r#"{"keys":["a"]}"#), json!([hit_a])),
    ];
    for (data, want) in cases {
        let answer = stage.daemon.post_text(&event("GET", &data));
        assert_eq!(answer.status, 200, "{data}: {}", answer.text());
        assert_eq!(answer.json(), json!({"status": "ok", "event": "GET", "results": want}), "{data}");
    }
    // Text that is a JSON scalar is no JSON object or array: it stays the key that it is.
    stage.redis.put("42", b"scalar");
    assert_eq!(stage.ok(&get(json!("42"))), [json!({"key": "42", "status": "hit", "value": "scalar"})]);
}

#[test]
fn reads_of_keys_of_which_many_are_missing_tell_empty_values_from_none() {
    let stage = Stage::with(|daemon| daemon.set("redis.pool_size", 1));
    let kinds = ["v", "", "none", "long", "none"];
    let names: Vec<String> = (0..60).map(|n| format!("{}:{n}", kinds[n % kinds.len()])).collect();
    let long = "l".repeat(100_000);
    let value = |kind: &str| match kind {
        "none" => None,
        "long" => Some(long.clone()),
        kind => Some(kind.to_owned()),
    };
    let held = |name: &String| value(name.split_once(':').expect("a name has its kind first").0);
    names.iter().for_each(|name| held(name).iter().for_each(|value| stage.redis.put(name, value.as_bytes())));
    let read = |names: &[String]| {
        let expected = names.iter().map(|name| match held(name) {
            Some(value) => json!({"key": name, "status": "hit", "value": value}),
            None => json!({"key": name, "status": "miss"}),
        });
        assert_eq!(stage.ok(&get(json!(names))), expected.collect::<Vec<_>>());
    };
    let none: Vec<String> = (0..100).map(|n| format!("none:{n}")).collect();
    read(&none);
    let before = stage.redis.calls("exists");
    read(&none);
    assert_eq!(stage.redis.calls("exists") - before, 100_u64.div_ceil(16), "they are not asked for together");
    read(&names);
    read(&[names.clone(), names].concat());
    redis::cmd("RPUSH").arg("list").arg("v").exec(&mut stage.redis.conn()).expect("RPUSH");
    let answer = stage.daemon.post(&get(json!(["none:1", "list", "v:0", "none:2"]))).json();
    let statuses: Vec<&Value> = (0..4).map(|place| &answer["results"][place]["status"]).collect();
    assert_eq!(statuses, ["miss", "rejected", "hit", "miss"], "{answer}");
}

#[test]
fn delete_takes_every_form_and_tells_deleted_from_absent() {
    let stage = Stage::new();
    let forms = [
        r#""a""#.to_owned(),
        r#"["a"]"#.to_owned(),
        r#"{"key":"a"}"#.to_owned(),
        r#"{"keys":["a"]}"#.to_owned(),
        encoded(r#"["a"]"#),
    ];
    for data in forms {
        stage.redis.put("a", b"1");
        let answer = stage.daemon.post_text(&event("DELETE", &data));
        assert_eq!(
            answer.json(),
            json!({"status": "ok", "event": "DELETE", "results": [{"key": "a", "status": "deleted"}]}),
            "{data}"
        );
        assert!(!stage.redis.exists("a"), "{data}");
    }
    stage.redis.put("a", b"1");
    let want = [("a", "deleted"), ("c", "absent"), ("a", "absent")];
    let want: Vec<_> = want.iter().map(|(key, status)| json!({"key": key, "status": status})).collect();
    assert_eq!(stage.ok(&delete(json!(["a", "c", "a"]))), want);
}

#[test]
fn delete_removes_a_key_of_any_kind() {
    let stage = Stage::new();
    redis::cmd("RPUSH").arg("list").arg("x").exec(&mut stage.redis.conn()).unwrap();
    assert_eq!(stage.ok(&delete(json!("list"))), [json!({"key": "list", "status": "deleted"})]);
    assert!(!stage.redis.exists("list"));
}

#[test]
fn the_id_comes_back_and_extra_members_are_ignored() {
    let stage = Stage::new();
    let id = "é".repeat(128);
    let body = format!(
        r#"{{"source":"s3","key":"SET","time":null,"id":"{id}","nested":{{"a":1,"a":2}},
            "value":{{"ttl":3600,"data":{{"key":"user:42","value":{{"name": "Ada"}}}}}},"extra":5}}"#
    );
    let answer = stage.daemon.post_text(&body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let want = [stored("user:42", 15, Some(3600), "inline")];
    assert_eq!(answer.json(), json!({"status": "ok", "event": "SET", "id": id, "results": want}));
    assert_eq!(answer.header("content-type").and_then(|kind| kind.split(';').next()), Some("application/json"));
}

#[test]
fn get_takes_no_notice_of_ttl_and_version_nor_a_delete_of_ttl() {
    let stage = Stage::new();
    for bad in ["0", "-1", "\"x\"", "1.5", "[]"] {
        for (kind, extra) in [("GET", r#","version":"v1""#), ("GET", ""), ("DELETE", ""), ("DELETE_PATTERN", "")] {
            let body = format!(r#"{{"key":"{kind}"{extra},"value":{{"data":"k","ttl":{bad}}}}}"#);
            assert_eq!(stage.daemon.post_text(&body).status, 200, "{body}");
        }
    }
}

#[test]
fn the_embedded_cache_keeps_the_same_promises() {
    let daemon = crate::support::Daemon::embedded();
    let body = r#"{"key":"SET","value":{"ttl":60,"data":[{"key":"a","value":1.0},{"key":"b","value":"AAH/","encoding":"base64"}]}}"#;
    let want = [stored("a", 3, Some(60), "inline"), stored("b", 3, Some(60), "inline")];
    assert_eq!(results(&daemon.post_text(body), 200, "ok"), want);
    let want = json!([
        {"key": "a", "status": "hit", "value": "1.0"},
        {"key": "b", "status": "hit", "value": "AAH/", "encoding": "base64"},
        {"key": "c", "status": "miss"},
    ]);
    assert_eq!(json!(results(&daemon.post(&get(json!(["a", "b", "c"]))), 200, "ok")), want);
    let found = results(&daemon.post(&delete_pattern(json!({"pattern": "a*", "dry_run": true}))), 200, "ok");
    assert_eq!(found[0]["matched"], 1);
    let want = json!([{"key": "a", "status": "deleted"}, {"key": "c", "status": "absent"}]);
    assert_eq!(json!(results(&daemon.post(&delete(json!(["a", "c"]))), 200, "ok")), want);
    let want = json!([{"pattern": "b?", "status": "deleted", "matched": 0, "deleted": 0},
                      {"pattern": "b*", "status": "deleted", "matched": 1, "deleted": 1}]);
    assert_eq!(json!(results(&daemon.post(&delete_pattern(json!(["b?", "b*"]))), 200, "ok")), want);
}
