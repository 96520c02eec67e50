//! The entries of a SET.

use super::*;

fn one(data: &str) -> SetEntry {
    entries(&event("SET", data)).remove(0)
}

/// Key and URL of a blob entry.
fn blob(data: &str) -> (String, String) {
    let entry = one(data);
    match entry.source {
        Source::Blob(FetchTarget::Url(url)) => (entry.key.as_str().to_owned(), url.expose().to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn entries_come_alone_or_in_an_array() {
    assert_eq!(keys_of(&event("SET", r#"{"key":"a","value":1}"#)), ["a"]);
    let mixed = r#"[{"key":"a","value":1},"http://h/b",{"url":"http://h/c"}]"#;
    assert_eq!(keys_of(&event("SET", mixed)), ["a", "b", "c"]);
    assert_eq!(keys_of(&event("SET", &serde_json::to_string(mixed).unwrap())), ["a", "b", "c"]);
    for item in ["1", "null", "[]", "true"] {
        assert_faults(&event("SET", &format!("[{item}]")), &["/value/data/0"]);
    }
}

#[test]
fn a_string_is_stored_as_its_text() {
    for (value, text) in [(r#""""#, ""), (r#""a b""#, "a b"), (r#""\u0041\n\ud83d\ude00""#, "A\n😀"), (r#""{}""#, "{}")]
    {
        assert_eq!(stored(&format!(r#"{{"key":"k","value":{value}}}"#)), text);
    }
}

#[test]
fn other_values_are_stored_as_the_very_text_that_was_sent() {
    for value in [
        "1.0",
        "-0",
        "1E400",
        "123456789012345678901234567890",
        "true",
        "false",
        "[]",
        "{ \"b\" : 1 ,\"a\":\t[ 2.50 ],\"b\":null}",
        r#"["\u00e9\ud800","\/"]"#,
    ] {
        assert_eq!(stored(&format!(r#"{{"key":"k","value": {value} }}"#)), value);
        let twice = serde_json::to_string(&format!(r#"{{"key":"k","value": {value} }}"#)).unwrap();
        assert_eq!(stored(&twice), value);
    }
}

#[test]
fn what_is_stored_or_beside_value_may_have_any_number_of_members() {
    let members: Vec<String> = (0..300_000).map(|number| format!("\"{number}\":0")).collect();
    let large = format!("{{{}}}", members.join(","));
    let entry = format!(r#"{{"key":"k","value":{large}}}"#);
    assert!(stored(&entry) == large);
    assert!(stored(&serde_json::to_string(&entry).unwrap()) == large);
    let beside = format!(r#"{{"key":"GET","extra":{large},"value":{{"data":"k"}}}}"#);
    assert_eq!(keys_of(&beside), ["k"]);
    let escaped = r#"{"key":"GET","\u0076alue":{"data":{"keys":["k"]}}}"#;
    assert_eq!(keys_of(escaped), ["k"]);
}

#[test]
fn base64_is_decoded_strictly() {
    let with = |value: &str| format!(r#"{{"key":"k","value":"{value}","encoding":"base64"}}"#);
    for (value, bytes) in
        [("AAH/", &[0, 1, 255][..]), ("", &[]), ("YQ==", b"a"), ("\\u0059Q==", b"a"), ("+\\/+/", &[251, 255, 191])]
    {
        assert_eq!(stored(&with(value)), bytes, "{value}");
    }
    for value in ["YQ", "YQ=", "YQ==\\n", " YQ==", "YR==", "-_-_", "Y", "YQ==YQ==", "é"] {
        assert_faults(&event("SET", &with(value)), &["/value/data/value"]);
    }
}

#[test]
fn null_and_lone_surrogates_are_no_values() {
    for value in ["null", r#""\ud800""#, r#""a\udc00""#] {
        assert_faults(&event("SET", &format!(r#"{{"key":"k","value":{value}}}"#)), &["/value/data/value"]);
        assert_faults(&event("SET", &format!(r#"[{{"key":"k","value":{value}}}]"#)), &["/value/data/0/value"]);
    }
}

#[test]
fn encoding_is_base64_of_a_string_or_a_fault_at_encoding() {
    for (members, pointer) in [
        (r#""value":"YQ==","encoding":"Base64""#, "encoding"),
        (r#""value":"YQ==","encoding":"""#, "encoding"),
        (r#""value":"YQ==","encoding":null"#, "encoding"),
        (r#""value":"YQ==","encoding":1"#, "encoding"),
        (r#""value":"%%","encoding":"gzip""#, "encoding"),
        (r#""value":1,"encoding":"base64""#, "encoding"),
        (r#""value":{},"encoding":"base64""#, "encoding"),
        (r#""url":"http://h/a","encoding":"base64""#, "encoding"),
        (r#""url":"http://h/a","encoding":null"#, "encoding"),
    ] {
        assert_faults(&event("SET", &format!(r#"{{"key":"k",{members}}}"#)), &[&format!("/value/data/{pointer}")]);
    }
}

#[test]
fn an_entry_has_either_a_value_or_a_url() {
    for entry in [r#"{"key":"k"}"#, "{}", r#"{"ttl":1}"#, r#"{"key":"k","value":1,"url":"http://h/a"}"#] {
        assert_faults(&event("SET", entry), &["/value/data"]);
        assert_faults(&event("SET", &format!(r#"["http://h/a",{entry}]"#)), &["/value/data/1"]);
    }
}

#[test]
fn an_inline_entry_needs_a_key() {
    assert_faults(&event("SET", r#"[{"key":"k","value":1},{"value":1}]"#), &["/value/data/1/key"]);
    for key in ["null", "1", "\"\"", "[\"a\"]", r#""\ud800""#, "\"aaaaaaaaaaaaaaaaa\""] {
        assert_faults(&event("SET", &format!(r#"{{"key":{key},"value":1}}"#)), &["/value/data/key"]);
        assert_faults(&event("SET", &format!(r#"{{"key":{key},"url":"http://h/a"}}"#)), &["/value/data/key"]);
    }
}

#[test]
fn unknown_members_of_an_entry_are_faults_there() {
    assert_faults(&event("SET", r#"{"key":"k","value":1,"tll":5}"#), &["/value/data/tll"]);
    assert_faults(&event("SET", r#"[{"url":"http://h/a","Key":"k"}]"#), &["/value/data/0/Key"]);
}

#[test]
fn an_entry_may_have_its_own_ttl() {
    let limits = Limits { default_ttl: Ttl::from_seconds(7), ..limits() };
    let ttl = |own: &str, common: &str| {
        let text = format!(r#"{{"key":"SET","value":{{"data":{{"key":"k","value":1{own}}}{common}}}}}"#);
        match check_with(&text, &limits).unwrap().action {
            Action::Set(entries) => entries[0].ttl.map(Ttl::seconds),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ttl("", ""), Some(7));
    assert_eq!(ttl("", r#","ttl":"""#), Some(7));
    assert_eq!(ttl("", r#","ttl":9"#), Some(9));
    assert_eq!(ttl(r#","ttl":"8""#, r#","ttl":9"#), Some(8));
    assert_eq!(ttl(r#","ttl":null"#, r#","ttl":9"#), Some(9));
    assert_eq!(ttl(r#","ttl":"""#, ""), Some(7));
    assert_faults(&event("SET", r#"[{"key":"k","value":1,"ttl":0}]"#), &["/value/data/0/ttl"]);
    assert_faults(&event("SET", r#"{"url":"http://h/a","ttl":1.0}"#), &["/value/data/ttl"]);
    let both = r#"{"key":"SET","value":{"ttl":0,"data":{"key":"k","value":1,"ttl":5}}}"#;
    assert_faults(both, &["/value/ttl"]);
}

#[test]
fn a_blob_without_a_key_is_stored_under_its_path() {
    for (data, key, url) in [
        (r#""http://h/a.jpg""#, "a.jpg", "http://h/a.jpg"),
        (r#"{"url":"https://h/a/b%20c?sig=1"}"#, "a/b c", "https://h/a/b%20c?sig=1"),
        (r#"{"url":"http://h/%C3%A9"}"#, "é", "http://h/%C3%A9"),
        (r#"{"key":"k","url":"http://h"}"#, "k", "http://h/"),
        (r#"{"key":"k","url":"http:\/\/h\/%ff"}"#, "k", "http://h/%ff"),
    ] {
        assert_eq!(blob(data), (key.to_owned(), url.to_owned()));
    }
    for url in
        ["http://h", "http://h/", "http://h/?a", "http://h/%ff", "http://h/rcs:v:a", "http://h/12345678901234567"]
    {
        assert_faults(&event("SET", &format!("\"{url}\"")), &["/value/data"]);
        assert_faults(&event("SET", &format!("[\"{url}\"]")), &["/value/data/0"]);
        assert_faults(&event("SET", &format!(r#"[{{"url":"{url}"}}]"#)), &["/value/data/0/url"]);
    }
}

#[test]
fn what_the_url_alone_shows_is_a_fault_at_the_url() {
    for url in
        ["\"\"", "\"a\"", "\"ftp://h/a\"", "\"http://u:p@h/a\"", "\"http:///a\"", r#""http://h/a\n""#, r#""\ud800""#]
    {
        assert_faults(&event("SET", &format!("[{url}]")), &["/value/data/0"]);
        assert_faults(&event("SET", &format!(r#"{{"key":"k","url":{url}}}"#)), &["/value/data/url"]);
    }
    for url in ["null", "1", "[]"] {
        assert_faults(&event("SET", &format!(r#"{{"key":"k","url":{url}}}"#)), &["/value/data/url"]);
    }
}

#[test]
fn no_fault_repeats_a_value_or_a_query() {
    for data in [
        r#""ftp://h/a?sig=SECRET""#,
        r#""http://SECRET:x@h/a""#,
        r#""http://h/?sig=SECRET""#,
        r#""http://h:99999/?SECRET""#,
        r#"{"key":"k","value":"SECRET%","encoding":"base64"}"#,
        r#"{"key":"k","value":1,"encoding":"SECRET"}"#,
        r#"{"key":"k","value":1,"ttl":"SECRET"}"#,
    ] {
        for fault in faults(&event("SET", data)) {
            assert!(!format!("{fault:?}").contains("SECRET"), "{fault:?}");
        }
    }
}

#[test]
fn an_entry_may_name_an_object_of_a_store() {
    let entry = one(r#"{"key":"k","store":"main","object":"b//a b%2F\u00e9?","ttl":7}"#);
    let Source::Blob(FetchTarget::Object(object)) = entry.source else { panic!("{:?}", entry.source) };
    assert_eq!((object.store(), object.bucket(), object.name()), ("main", "b", "/a b%2Fé?"));
    assert_eq!((entry.key.as_str(), entry.ttl), ("k", Ttl::from_seconds(7)));
}

#[test]
fn store_and_object_go_together_and_stand_in_place_of_a_value_or_a_url() {
    for (members, pointers) in [
        (r#""key":"k","store":"main""#, &["/value/data/object"][..]),
        (r#""key":"k","object":"b/n""#, &["/value/data/store"]),
        (r#""key":"k","store":"other","object":"b/n""#, &["/value/data/store"]),
        (r#""key":"k","store":"other","object":"b""#, &["/value/data/store", "/value/data/object"]),
        (r#""key":"k","store":1,"object":null"#, &["/value/data/store", "/value/data/object"]),
        (r#""key":"k","store":"main","object":"b/""#, &["/value/data/object"]),
        (r#""store":"main","object":"b/n""#, &["/value/data/key"]),
        (r#""key":"k","store":"main","object":"b/n","value":1"#, &["/value/data"]),
        (r#""key":"k","store":"main","object":"b/n","url":"http://h/a""#, &["/value/data"]),
        (r#""key":"k","store":"main","object":"b/n","encoding":"base64""#, &["/value/data/encoding"]),
    ] {
        assert_faults(&event("SET", &format!("{{{members}}}")), pointers);
    }
}

#[test]
fn a_blob_may_be_told_what_it_must_be() {
    let sha256 = "00ff".repeat(16);
    let members = format!(r#""etag":"\"v-1\"","sha256":"{sha256}","bytes":5"#);
    for target in [r#""url":"http://h/a""#, r#""key":"k","store":"main","object":"b/n""#] {
        let entry = one(&format!("{{{target},{members}}}"));
        let expected = entry.expected.expect("something is expected");
        assert_eq!((expected.etag.as_ref().map(EntityTag::opaque), expected.bytes), (Some("v-1"), Some(5)));
        assert_eq!(expected.sha256.map(|digest| digest[..2].to_vec()), Some(vec![0, 255]));
        assert_eq!(one(&format!("{{{target}}}")).expected, None);
    }
}

#[test]
fn what_a_blob_must_be_has_a_form_and_is_of_no_use_beside_a_value() {
    let digits = "0".repeat(63);
    for (member, value) in [
        ("etag", r#""""#),
        ("etag", "1"),
        ("etag", "null"),
        ("etag", r#""a b""#),
        ("sha256", r#""""#),
        ("sha256", "null"),
        ("sha256", &format!(r#""{digits}""#)),
        ("sha256", &format!(r#""{digits}g""#)),
        ("bytes", "-1"),
        ("bytes", "1.0"),
        ("bytes", "1e2"),
        ("bytes", r#""5""#),
        ("bytes", "null"),
        ("bytes", "99999999999999999999"),
    ] {
        let entry = format!(r#"{{"key":"k","url":"http://h/a","{member}":{value}}}"#);
        assert_faults(&event("SET", &entry), &[&format!("/value/data/{member}")]);
    }
    let all = format!(r#""etag":"a","sha256":"{digits}0","bytes":1"#);
    let pointers = ["/value/data/etag", "/value/data/sha256", "/value/data/bytes"];
    assert_faults(&event("SET", &format!(r#"{{"key":"k","value":"v",{all}}}"#)), &pointers);
}
