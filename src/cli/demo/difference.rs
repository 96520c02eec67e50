//! Compares an answer with the expected one.
//!
//! In what is due, `"*"` stands for any string (texts for people are not fixed), and an object with the member
//! `"…"` may hold further members. Lists without an order of their own (`sample`, `errors`) are compared sorted.

use serde_json::{Map, Value};

use super::Answer;
use super::steps::DemoStep;

const ANY_TEXT: &str = "*";
const FURTHER_MEMBERS: &str = "…";
const UNORDERED: [&str; 2] = ["sample", "errors"];

/// What is not as it should be, one line each.
pub(super) fn differences(step: &DemoStep, answer: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    if answer.status != step.status {
        found.push(format!("status: expected {}, got {}", step.status, answer.status));
    }
    match (serde_json::from_str(step.answer), serde_json::from_str(&answer.body)) {
        (Ok(expected), Ok(actual)) => compare("", &expected, &actual, &mut found),
        (Err(error), _) => found.push(format!("the expected answer is not JSON: {error}")),
        (_, Err(error)) => found.push(format!("the answer is not JSON: {error}")),
    }
    found
}

fn compare(pointer: &str, expected: &Value, actual: &Value, found: &mut Vec<String>) {
    match (expected, actual) {
        (Value::String(any), Value::String(_)) if any == ANY_TEXT => {}
        (Value::Object(expected), Value::Object(actual)) => compare_members(pointer, expected, actual, found),
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            for (index, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                compare(&format!("{pointer}/{index}"), expected, actual, found);
            }
        }
        _ if expected == actual => {}
        _ => found.push(format!("{pointer}: expected {expected}, got {actual}")),
    }
}

fn compare_members(pointer: &str, expected: &Map<String, Value>, actual: &Map<String, Value>, found: &mut Vec<String>) {
    for (name, expected) in expected.iter().filter(|(name, _)| *name != FURTHER_MEMBERS) {
        let pointer = format!("{pointer}/{name}");
        match actual.get(name) {
            None => found.push(format!("{pointer}: expected {expected}, got nothing")),
            Some(actual) if UNORDERED.contains(&name.as_str()) => {
                compare(&pointer, &sorted(expected), &sorted(actual), found);
            }
            Some(actual) => compare(&pointer, expected, actual, found),
        }
    }
    if expected.contains_key(FURTHER_MEMBERS) {
        return;
    }
    for (name, actual) in actual.iter().filter(|(name, _)| !expected.contains_key(*name)) {
        found.push(format!("{pointer}/{name}: expected nothing, got {actual}"));
    }
}

/// Errors by their pointer, anything else by its text.
fn sorted(list: &Value) -> Value {
    let mut list = list.clone();
    if let Value::Array(items) = &mut list {
        items.sort_by_cached_key(|item| item.get("pointer").unwrap_or(item).to_string());
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(expected: &'static str, actual: &str) -> Vec<String> {
        let step = DemoStep { title: "", body: "{}", status: 200, answer: expected };
        differences(&step, &Answer { status: 200, body: actual.into() })
    }

    #[test]
    fn equal_answers_differ_in_nothing() {
        assert!(found(r#"{"a":[1,{"b":null}],"c":"x"}"#, r#"{"c":"x","a":[1,{"b":null}]}"#).is_empty());
        assert!(found(r#"{"detail":"*"}"#, r#"{"detail":"whatever"}"#).is_empty());
        assert!(found(r#"{"type":"t","…":"*"}"#, r#"{"type":"t","status":422}"#).is_empty());
        assert!(found(r#"{"sample":["a","b"]}"#, r#"{"sample":["b","a"]}"#).is_empty());
        let expected = r#"{"errors":[{"pointer":"/a","detail":"*"},{"pointer":"/b","detail":"*"}]}"#;
        assert!(
            found(expected, r#"{"errors":[{"pointer":"/b","detail":"1"},{"detail":"2","pointer":"/a"}]}"#).is_empty()
        );
    }

    #[test]
    fn every_difference_is_told_with_its_place() {
        assert_eq!(found(r#"{"a":[{"b":1}]}"#, r#"{"a":[{"b":2}]}"#), ["/a/0/b: expected 1, got 2"]);
        assert_eq!(found(r#"{"a":[1]}"#, r#"{"a":[1,2]}"#), ["/a: expected [1], got [1,2]"]);
        assert_eq!(found(r#"{"a":1}"#, "{}"), ["/a: expected 1, got nothing"]);
        assert_eq!(found("{}", r#"{"a":1}"#), ["/a: expected nothing, got 1"]);
        assert_eq!(found(r#"{"a":"*"}"#, r#"{"a":1}"#), [r#"/a: expected "*", got 1"#]);
        assert_eq!(found("{}", "nonsense").len(), 1);
    }

    #[test]
    fn another_status_is_a_difference() {
        let step = DemoStep { title: "", body: "{}", status: 200, answer: "{}" };
        let found = differences(&step, &Answer { status: 503, body: "{}".into() });
        assert_eq!(found, ["status: expected 200, got 503"]);
    }
}
