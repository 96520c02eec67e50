//! Plain events are read in one pass; what comes of it is what comes of looking closely.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::event::wire::{Document, RawEvent};

fn document(event: &str) -> Option<Document> {
    match split(&Bytes::from(event.to_owned()), BodyForm::NdJson, 1).unwrap() {
        Split::Batch(events) => events.into_iter().next()?.0.ok(),
        Split::One(_) => None,
    }
}

fn is_plain(event: &str) -> bool {
    document(event).is_some_and(|document| document.plain.is_some())
}

#[test]
fn what_events_mostly_are_is_plain() {
    for event in [
        r#"{"key":"SET","value":{"data":{"key":"k","value":"v"}}}"#,
        r#" { "value" : { "ttl" : 60 , "data" : { "value" : "" , "key" : "é" } } , "version" : 0 , "id" : "e-1" , "key" : "SET" } "#,
        r#"{"key":"SET","value":{"data":{"key":"k","url":"http://h/a?b=c"}}}"#,
        r#"{"key":"GET","value":{"data":"k"}}"#,
        r#"{"key":"DELETE","value":{"data":{"key":"k"}}}"#,
    ] {
        assert!(is_plain(event), "{event}");
        valid(event);
    }
}

#[test]
fn what_has_to_be_decoded_or_explained_is_not_plain() {
    for event in [
        r#"{"key":"SET","value":{"data":{"key":"k","value":"\n"}}}"#,
        r#"{"key":"SET","value":{"data":{"key":"k","value":1}}}"#,
        r#"{"key":"SET","value":{"data":{"key":"k","value":"v","url":"http://h/"}}}"#,
        r#"{"key":"SET","value":{"data":"http://h/"}}"#,
        r#"{"key":"SET","value":{"data":{"key":"k"}}}"#,
        r#"{"key":"GET","value":{"data":{"key":"k","value":"v"}}}"#,
        r#"{"key":"GET","value":{"data":"{}"}}"#,
        r#"{"key":"GET","value":{"data":" [1]"}}"#,
        r#"{"key":"GET","key":"GET","value":{"data":"k"}}"#,
        r#"{"key":"DELETE_PATTERN","value":{"data":"k"}}"#,
        r#"{"key":"GET","value":{"data":"k"},"time":"2026-01-01T00:00:00Z"}"#,
        r#"{"key":"GET","value":{"data":"k"},"version":01}"#,
        r#"{"key":"GET","value":{"data":"k"},"version":1.0}"#,
        r#"{"key":"GET","value":{"data":"k"},"id":null}"#,
        "{\"key\":\"GET\",\"value\":{\"data\":\"a\tb\"}}",
        r#"{"key":"GET","value":{"data":"k"}} x"#,
    ] {
        assert!(!is_plain(event), "{event}");
    }
}

/// A text as JSON has it, mostly plain.
fn string() -> impl Strategy<Value = String> {
    let odd =
        ["", "k", "rcs:v:k", "12345678901234567", "[1]", " {", "é", r"\n", r"\u0041", r"\ud800", "\u{1}", r"\", "\\\""];
    let odd = select(odd.to_vec()).prop_map(String::from);
    prop_oneof![3 => "[a-z:]{1,8}", 1 => odd].prop_map(|text| format!("\"{text}\""))
}

fn scalar() -> impl Strategy<Value = String> {
    let odd = ["0", "00", "7", "07", "1000", "1001", "-1", "1.0", "1e2", "99999999999999999999", "null", "true", "{}"];
    prop_oneof![string(), select(odd.to_vec()).prop_map(String::from)]
}

/// An object of these members, mostly in this order, with white space here and there; some may be left out or come twice.
fn object(members: Vec<(&'static str, BoxedStrategy<String>)>) -> BoxedStrategy<String> {
    let (names, values): (Vec<_>, Vec<_>) = members.into_iter().unzip();
    let all: Vec<usize> = (0..names.len()).collect();
    let order = prop_oneof![
        8 => Just(all.clone()),
        2 => Just(all.clone()).prop_shuffle(),
        1 => subsequence(all.clone(), 0..=all.len()),
        1 => prop::collection::vec(0..all.len(), 1..=all.len() + 1),
    ];
    let written = move |(order, values, space): (Vec<usize>, Vec<String>, &str)| {
        let member = |&at: &usize| format!("{space}\"{}\"{space}:{space}{}{space}", names[at], values[at]);
        format!("{{{}}}", order.iter().map(member).collect::<Vec<_>>().join(","))
    };
    (order, values, select(vec!["", "", " ", "\t\r"])).prop_map(written).boxed()
}

fn near_plain() -> impl Strategy<Value = String> {
    let urls = vec![
        "\"http://h/a\"",
        "\"HTTP://H:80/a%20b?c\"",
        "\"ftp://h/\"",
        "\"http://u@h/\"",
        "\"http://h/\\u0041\"",
        "7",
    ];
    let urls = select(urls).prop_map(String::from).boxed();
    let entry = object(vec![("key", string().boxed()), ("value", scalar().boxed())]);
    let blob = object(vec![("key", string().boxed()), ("url", urls)]);
    let key = object(vec![("key", string().boxed())]);
    let data = prop_oneof![entry, blob, key, string()].boxed();
    let bare = object(vec![("data", data.clone())]);
    let value = prop_oneof![bare, object(vec![("data", data), ("ttl", scalar().boxed())])].boxed();
    let kinds = vec!["\"SET\"", "\"GET\"", "\"DELETE\"", "\"SET\"", "\"DELETE_PATTERN\"", "\"set\"", "1"];
    let members = vec![("key", select(kinds).prop_map(String::from).boxed()), ("value", value)];
    let more = vec![("id", scalar().boxed()), ("version", scalar().boxed())];
    let extra = vec![("extra", scalar().boxed())];
    prop_oneof![
        object(members.clone()),
        object([members.clone(), more.clone()].concat()),
        object([members, more, extra].concat())
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn in_an_array_each_is_what_it_is_alone(events in prop::collection::vec(near_plain(), 0..4), space in "[ \n]?") {
        let all = [events.clone(), vec!["1".to_owned()], events.clone()].concat();
        let body = format!("{space}[{space}{}{space}]{space}", all.join(&format!("{space},{space}")));
        let alone: Vec<_> = all.iter().filter_map(|event| document(event)).collect();
        match split(&Bytes::from(body), BodyForm::Json, all.len()) {
            Ok(Split::Batch(events)) => {
                let together = events.into_iter().map(|event| event.0.map(|document| (document.text, document.plain)));
                let alone = alone.into_iter().map(|document| Ok((document.text, document.plain)));
                prop_assert_eq!(together.collect::<Vec<_>>(), alone.collect::<Vec<_>>());
            }
            _ => prop_assert!(alone.len() < all.len()),
        }
    }

    #[test]
    fn looking_closely_comes_to_the_same(event in near_plain()) {
        let document = document(&event);
        prop_assert_eq!(document.is_some(), serde_json::from_str::<serde::de::IgnoredAny>(&event).is_ok());
        let Some(document) = document else { return Ok(()) };
        let closely = RawEvent(Ok(Document { plain: None, ..document.clone() }));
        let at_once = RawEvent(Ok(document));
        prop_assert_eq!(
            validate(&at_once, &limits(), MAX_FAULTS),
            validate(&closely, &limits(), MAX_FAULTS)
        );
    }
}
