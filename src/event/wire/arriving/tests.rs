use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

use super::*;
use crate::event::validate::validate;
use crate::event::{Action, Limits, OwnKeys, Source};

fn limits() -> Limits {
    Limits {
        max_events: 100,
        max_keys: 100,
        max_key_bytes: 1024,
        default_ttl: None,
        max_ttl_seconds: 1000,
        allow_match_all: false,
        own_keys: OwnKeys::new("rcs:v:", "rcs:journal"),
        stores: Some(["main".to_owned()].into()),
    }
}

fn json(body: &str) -> Result<Split, SplitError> {
    split(&Bytes::from(body.to_owned()), BodyForm::Json, 3)
}

fn lines(body: &[u8]) -> Vec<Result<ByteString, String>> {
    match split(&Bytes::copy_from_slice(body), BodyForm::NdJson, 3).unwrap() {
        Split::Batch(events) => events.into_iter().map(|event| event.0.map(|document| document.text)).collect(),
        Split::One(_) => panic!("lines are always a batch"),
    }
}

fn texts(split: Split) -> Vec<String> {
    let events = match split {
        Split::One(event) => vec![event],
        Split::Batch(events) => events,
    };
    events.into_iter().map(|event| event.0.unwrap().text.trim().to_owned()).collect()
}

#[track_caller]
fn malformed(body: &[u8]) -> String {
    match split(&Bytes::copy_from_slice(body), BodyForm::Json, 3) {
        Err(SplitError::Malformed { detail }) => detail,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_an_array_is_a_batch() {
    for one in ["{}", " {\"a\":1}\n", "1", "\"[]\"", "null", "-1e400"] {
        let split = json(one).unwrap();
        assert!(matches!(split, Split::One(_)), "{one}");
        assert_eq!(texts(split), [one.trim()]);
    }
    for (batch, elements) in [("[]", vec![]), (" [ {} ] ", vec!["{}"]), ("[1,\"a\" , [2] ]", vec!["1", "\"a\"", "[2]"])]
    {
        let split = json(batch).unwrap();
        assert!(matches!(split, Split::Batch(_)), "{batch}");
        assert_eq!(texts(split), elements);
    }
}

#[test]
fn elements_are_slices_of_the_body() {
    let body = Bytes::from_static(b"[{\"key\":\"SET\"}]");
    let Ok(Split::Batch(events)) = split(&body, BodyForm::Json, 1) else { panic!("a batch") };
    let text = &events[0].0.as_ref().unwrap().text;
    assert_eq!(text.as_ptr(), body[1..].as_ptr());
}

#[test]
fn what_is_not_json_is_told_with_line_and_column() {
    for (body, place) in [
        (&b""[..], "line 1 column 0"),
        (b"  ", "line 1 column 2"),
        (b"{", "line 1 column 1"),
        (b"{\n\"a\":tru}", "line 2 column 8"),
        (b"{} {}", "line 1 column 4"),
        (b"[{}]x", "line 1 column 5"),
        (b"[{},]", "line 1 column 5"),
        (b"[{}\n{}]", "line 2 column 1"),
        (b"{\"a\":1,}", "line 1 column 8"),
        (b"'a'", "line 1 column 1"),
        (b"01", "line 1 column 2"),
        (b"NaN", "line 1 column 1"),
        (b"\"\\x\"", "line 1 column 3"),
        (b"\"a\nb\"", "line 1 column 2"),
        (b"{\n\"a\":\"\xff\"}", "line 2 column 6"),
        (b"[\"a\xc3\"]", "line 1 column 4"),
    ] {
        let detail = malformed(body);
        assert!(detail.ends_with(place), "{}: {detail}", body.escape_ascii());
    }
}

#[test]
fn lone_surrogates_duplicates_and_huge_numbers_are_good_syntax() {
    for body in [r#"{"a":"\ud800","a":1}"#, r#"{"\udc00":1e999}"#] {
        assert!(json(body).is_ok(), "{body}");
    }
}

#[test]
fn nesting_of_128_levels_is_fine_and_129_malformed() {
    let arrays = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    let objects = |levels: usize| "{\"a\":".repeat(levels) + "1" + &"}".repeat(levels);
    for fine in [arrays(128), objects(128), format!("\n[{{\"a\":{}}}]", arrays(126)), format!("[{}]", objects(127))] {
        assert!(json(&fine).is_ok(), "{fine}");
    }
    for (deep, place) in [
        (arrays(129), "line 1 column 129"),
        (objects(129), "line 1 column 641"),
        (format!("\n[{{\"a\":{}}}]", arrays(127)), "line 2 column 133"),
        (format!("[1,\n{}]", objects(128)), "line 2 column 636"),
    ] {
        let detail = malformed(deep.as_bytes());
        assert_eq!(detail, format!("nested deeper than 128 levels at {place}"));
    }
}

#[test]
fn a_million_levels_overflow_no_stack() {
    let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
    malformed(deep.as_bytes());
    malformed(&deep.as_bytes()[..1_000_000]);
    assert!(lines(deep.as_bytes())[0].is_err());
}

#[test]
fn syntax_comes_before_the_number_of_events() {
    let too_many = SplitError::TooManyEvents { found_more_than: 3 };
    assert_eq!(json("[1,2,3]").map(texts).unwrap().len(), 3);
    assert_eq!(json("[1,2,3,4]").unwrap_err(), too_many);
    malformed(b"[1,2,3,4,}");
    malformed(format!("[1,2,3,4,{}{}]", "[".repeat(128), "]".repeat(128)).as_bytes());
    assert_eq!(split(&Bytes::from_static(b"1\nx\n3\n4"), BodyForm::NdJson, 3).unwrap_err(), too_many);
}

#[test]
fn lines_are_events_and_blank_ones_are_nothing() {
    assert_eq!(lines(b""), []);
    assert_eq!(lines(b"\n \r\n\t\n"), []);
    let events = lines(b"\n{\"a\":1}\r\n \n [1] \n\"x\"");
    assert_eq!(
        events.iter().map(|event| event.as_ref().unwrap().trim()).collect::<Vec<_>>(),
        ["{\"a\":1}", "[1]", "\"x\""]
    );
}

#[test]
fn a_line_that_is_not_json_is_one_event_with_its_fault() {
    let deep = format!("1\n\n{}{}\n2", "[".repeat(129), "]".repeat(129));
    for (body, place) in [
        (&b"1\n\n{\"a\":}\n2"[..], "expected value at line 3 column 6"),
        (b"1\r\n{} {}\r\n2", "trailing characters at line 2 column 4"),
        (b"1\n\"\xff\"\n2", "not UTF-8 at line 2 column 2"),
        (deep.as_bytes(), "nested deeper than 128 levels at line 3 column 129"),
    ] {
        let events = lines(body);
        assert_eq!(events.len(), 3);
        assert_eq!(events[1], Err(place.to_owned()));
        assert!(events[0].is_ok() && events[2].is_ok());
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// JSON in odd but good clothing: white space, escapes and numbers that no printer would write.
fn odd_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
        r#""([ -!#-\[\]-~é€]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}){0,8}""#,
        "true|false",
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let space = "[ \t\r\n]{0,2}";
        let items = prop::collection::vec((space, inner.clone(), space), 0..4);
        let members = prop::collection::vec((space, r#""[a-c]{0,2}""#, space, inner, space), 0..4);
        prop_oneof![
            items.prop_map(|items| {
                let items: Vec<_> = items.into_iter().map(|(before, item, after)| before + &item + &after).collect();
                format!("[{}]", items.join(","))
            }),
            members.prop_map(|members| {
                let members: Vec<_> =
                    members.into_iter().map(|(a, name, b, value, c)| format!("{a}{name}{b}:{b}{value}{c}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..64), at_most in 0usize..5) {
        for form in [BodyForm::Json, BodyForm::NdJson] {
            let _ = split(&Bytes::from(body.clone()), form, at_most);
        }
    }

    #[test]
    fn mutilated_events_never_panic(
        event in odd_json(), cut in any::<prop::sample::Index>(), replacement in any::<u8>(),
        kind in "SET|GET|DELETE|DELETE_PATTERN|X",
    ) {
        let mut body = format!(r#"{{"key":"{kind}","id":"é","value":{{"ttl":"1","data":[{event}]}}}}"#).into_bytes();
        let place = cut.index(body.len());
        body[place] = replacement;
        for form in [BodyForm::Json, BodyForm::NdJson] {
            let events = match split(&Bytes::from(body.clone()), form, 10) {
                Ok(Split::One(event)) => vec![event],
                Ok(Split::Batch(events)) => events,
                Err(_) => vec![],
            };
            for event in events {
                let _ = validate(&event, &limits(), 100);
            }
        }
    }

    #[test]
    fn arrays_split_as_serde_json_sees_them(values in prop::collection::vec(value(), 0..6), pretty in any::<bool>()) {
        let body = if pretty { serde_json::to_string_pretty(&values) } else { serde_json::to_string(&values) }.unwrap();
        let Ok(Split::Batch(events)) = split(&Bytes::from(body.clone()), BodyForm::Json, 10) else { panic!("a batch") };
        let seen: Vec<Value> =
            events.iter().map(|event| serde_json::from_str(&event.0.as_ref().unwrap().text).unwrap()).collect();
        prop_assert_eq!(seen, serde_json::from_str::<Vec<Value>>(&body).unwrap());
    }

    #[test]
    fn whatever_is_refused_is_no_json_to_serde_json(body in r#"[\[\]{}",:0-9a-z \\]{0,12}"#) {
        let ours = split(&Bytes::from(body.clone()), BodyForm::Json, 100).is_ok();
        prop_assert_eq!(ours, serde_json::from_str::<&RawValue>(&body).is_ok());
    }

    #[test]
    fn inline_json_is_stored_byte_for_byte(value in odd_json(), twice in any::<bool>()) {
        prop_assume!(!value.starts_with('"'));
        let data = format!(r#" {{ "key" : "k" , "value" : {value} }} "#);
        let data = if twice { serde_json::to_string(&data).unwrap() } else { data };
        let body = format!(r#"{{"key":"SET","value":{{"data":{data}}}}}"#);
        let Ok(Split::One(event)) = split(&Bytes::from(body), BodyForm::Json, 1) else { panic!("one event") };
        let Action::Set(entries) = validate(&event, &limits(), 100).unwrap().action else { panic!("a SET") };
        prop_assert_eq!(&entries[0].source, &Source::Inline(value.into()));
    }
}

#[test]
fn one_byte_order_mark_at_the_beginning_is_skipped_and_no_other() {
    for body in ["{}", " {}", "[{}]", r#"{"key":"GET","value":{"data":"k"}}"#, "1"] {
        let marked = format!("\u{feff}{body}");
        assert_eq!(texts(json(&marked).unwrap()), texts(json(body).unwrap()));
        assert_eq!(lines(marked.as_bytes()), lines(body.as_bytes()));
    }
    assert!(malformed("\u{feff}\u{feff}{}".as_bytes()).contains("line 1"));
    assert!(malformed(" \u{feff}{}".as_bytes()).contains("line 1 column 2"));
    assert!(malformed("{\u{feff}}".as_bytes()).contains("line 1"));
    assert_eq!(lines("\u{feff}".as_bytes()), []);
    let later = lines("{}\n\u{feff}{}".as_bytes());
    assert!(later[0].is_ok() && later[1].is_err());
}
