//! JSON without the queries of the URLs in it: they carry signatures. It works on the text, so that it takes a few times the
//! text's bytes, whatever stands in it.

use std::borrow::Cow;

use memchr::{memchr, memmem};
use serde::de::IgnoredAny;

use crate::event::string_length;

/// JSON in a text, and JSON in a text of that, are looked into; each takes copies of its own. What is deeper is left out.
const LEVELS: usize = 2;
const LEFT_OUT: &str = "…";

/// Whether there may be one: however often it is escaped, a `?` is one or begins as `\u`.
pub fn may_have_queries(text: &[u8]) -> bool {
    memchr(b'?', text).is_some() || memmem::find(text, b"\\u").is_some()
}

/// The JSON text without the queries of URLs in its strings.
pub fn without_queries(text: &str) -> Cow<'_, str> {
    cut(text, LEVELS)
}

fn cut(text: &str, levels: usize) -> Cow<'_, str> {
    let mut shown: Option<Vec<u8>> = None;
    let (mut at, mut copied) = (0, 0);
    while let Some((start, literal)) = next_string(text, at) {
        at = start + literal.len();
        let Some(said) = cut_string(literal, levels) else { continue };
        let shown = shown.get_or_insert_default();
        shown.extend_from_slice(text.get(copied..start).unwrap_or_default().as_bytes());
        // A text that is written into memory does not fail.
        let _ = serde_json::to_writer(shown, &said);
        copied = at;
    }
    let Some(mut shown) = shown else { return Cow::Borrowed(text) };
    shown.extend_from_slice(text.get(copied..).unwrap_or_default().as_bytes());
    // All parts of it are UTF-8.
    String::from_utf8(shown).unwrap_or_else(|_| "null".to_owned()).into()
}

/// The next string of a JSON text, from its first quote to its last, and where it begins.
fn next_string(text: &str, from: usize) -> Option<(usize, &str)> {
    let start = from + memchr(b'"', text.as_bytes().get(from..)?)?;
    let literal = text.get(start..)?;
    Some((start, literal.get(..string_length(literal.as_bytes())?)?))
}

/// What the string says without the queries in it; None: it has none.
fn cut_string(literal: &str, levels: usize) -> Option<String> {
    let inside = literal.strip_prefix('"')?.strip_suffix('"')?;
    if !may_have_queries(inside.as_bytes()) {
        return None;
    }
    let said = match inside.contains('\\') {
        true => serde_json::from_str::<String>(literal).ok().map(Cow::Owned),
        false => Some(Cow::Borrowed(inside)),
    };
    // A lone surrogate: nobody can tell what else it says.
    let Some(said) = said else { return Some(LEFT_OUT.to_owned()) };
    match is_container(&said) {
        true if levels == 0 => Some(LEFT_OUT.to_owned()),
        true => match cut(&said, levels - 1) {
            Cow::Owned(cut) => Some(cut),
            Cow::Borrowed(_) => None,
        },
        false => cut_query(&said),
    }
}

/// Whether a text is JSON, and an object or an array, as the `data` of an event may be: its URLs may have escapes.
fn is_container(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[']) && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn cut_query(text: &str) -> Option<String> {
    let query = text.contains("://").then(|| text.split_once('?')).flatten();
    query.map(|(before, _)| format!("{before}?{LEFT_OUT}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown(event: &Value) -> Value {
        serde_json::from_str(&without_queries(&event.to_string())).expect("JSON")
    }

    fn data(data: &str) -> String {
        shown(&json!({"value": {"data": data}}))["value"]["data"].as_str().unwrap_or_default().to_owned()
    }

    #[test]
    fn queries_are_left_out_of_json_within_texts() {
        assert_eq!(data(r#"{"url":"https:\/\/h\/b?sig=secret"}"#), r#"{"url":"https://h/b?…"}"#);
        assert_eq!(data(r#" ["https://h/b\u003fsig=secret"]"#), r#" ["https://h/b?…"]"#);
        assert_eq!(data(r#"[{"url":"https://h/b?sig=secret"}]"#), r#"[{"url":"https://h/b?…"}]"#);
        assert_eq!(data(r#"{ "key" : "a?", "value": 1.0 }"#), r#"{ "key" : "a?", "value": 1.0 }"#);
    }

    #[test]
    fn queries_are_left_out_wherever_a_url_stands() {
        let event = json!({"value": {"data": ["http://h/a?sig=secret", {"url": "https://h/b?x", "value": "what?"}]}});
        assert_eq!(
            shown(&event),
            json!({"value": {"data": ["http://h/a?…", {"url": "https://h/b?…", "value": "what?"}]}})
        );
    }

    #[test]
    fn nothing_is_shown_of_what_is_nested_too_deep_or_cannot_be_read() {
        let mut text = r#"["https://h\u003fsecret"]"#.to_owned();
        for level in 0..6 {
            let shown = without_queries(&text).into_owned();
            assert!(!shown.contains("secret"), "{level}: {shown}");
            text = json!([text]).to_string();
        }
        assert_eq!(without_queries(r#"["\ud800 https://h?secret", "\\"]"#), r#"["…", "\\"]"#);
    }

    #[test]
    fn a_text_without_queries_stays_as_it_is() {
        let text = r#" {"a":[0, 1.0,"\n\"?"],"b":"{\"c\": 1}", "d":"\u00e9"} "#;
        assert!(matches!(without_queries(text), Cow::Borrowed(same) if same == text));
    }
}
