use std::io::BufReader;

use super::*;

/// Events with their lines, read through buffers of several sizes.
#[track_caller]
fn split(text: &str) -> Result<Vec<(String, u64)>, String> {
    let with = |size: usize| {
        let mut splitter = Splitter::new(BufReader::with_capacity(size, text.as_bytes()));
        let mut found = Vec::new();
        while let Some((text, line)) = splitter.next().map_err(|error| error.to_string())? {
            found.push((String::from_utf8(text.to_vec()).unwrap(), line));
        }
        Ok(found)
    };
    let found = with(1 << 16);
    for size in [3, 4, 7, 64] {
        assert_eq!(with(size), found, "a buffer of {size}");
    }
    found
}

fn events(text: &str) -> Vec<(String, u64)> {
    split(text).unwrap()
}

fn expected(events: &[(&str, u64)]) -> Vec<(String, u64)> {
    events.iter().map(|(text, line)| (text.to_string(), *line)).collect()
}

#[test]
fn one_event_a_line_with_blank_lines_between() {
    let text = "\u{feff}\n{\"a\":1}\r\n\n  \n{\"b\":\"}\"} \nnonsense\n{\"c\":3}";
    assert_eq!(events(text), expected(&[("{\"a\":1}", 2), ("{\"b\":\"}\"}", 5), ("nonsense", 6), ("{\"c\":3}", 7)]));
    assert_eq!(events(""), []);
    assert_eq!(events(" \n\n"), []);
}

#[test]
fn a_broken_first_line_does_not_swallow_the_others() {
    let text = "{\"key\":\"SET\",\"value\":\n{\"b\":1}\n{\"c\":1}\n";
    assert_eq!(events(text), expected(&[("{\"key\":\"SET\",\"value\":", 1), ("{\"b\":1}", 2), ("{\"c\":1}", 3)]));
}

#[test]
fn an_object_over_several_lines_is_one_event_and_so_is_each_after_it() {
    let text = "{\n  \"a\": \"}\\\"\",\n  \"b\": {}\n}\n";
    assert_eq!(events(text), expected(&[("{ \"a\": \"}\\\"\",   \"b\": {} }", 1)]));
    let twice = format!("\n{text}{text}");
    assert_eq!(events(&twice).iter().map(|(_, line)| *line).collect::<Vec<_>>(), [2, 6]);
    assert_eq!(events("{\n\"a\":"), expected(&[("{ \"a\":", 1)]), "what does not end is sent as it is");
}

#[test]
fn an_object_without_its_bracket_costs_no_event_but_itself() {
    let broken = "{\n  \"a\": 1\n}\n{\n  \"b\": {\"x\": 2}\n{\n  \"c\": 3\n}\n";
    let all = [("{\"a\":1}", 1), ("{\"b\":{\"x\":2}", 4), ("{\"c\":3}", 6)];
    let squeezed = |events: Vec<(String, u64)>| -> Vec<(String, u64)> {
        events.into_iter().map(|(text, line)| (text.replace(' ', ""), line)).collect()
    };
    assert_eq!(squeezed(events(broken)), expected(&all));
    let array = "[{\"a\":1},\n{\"b\":[{}],\n{\"c\":3},{\"d\":4}]";
    let all = [("{\"a\":1}", 1), ("{\"b\":[{}],", 2), ("{\"c\":3}", 3), ("{\"d\":4}", 3)];
    assert_eq!(events(array), expected(&all));
}

#[test]
fn an_event_that_is_too_large_is_left_out_and_the_next_one_found() {
    let large = "x".repeat(MAX_EVENT_BYTES);
    for (text, line) in [
        (format!("{{\"a\":1}}\n{{\"b\":\"{large}\"}}\n{{\"c\":3}}\n"), 2),
        (format!("[{{\"a\":1}},\n{{\"b\":\"{large}\"}},\n{{\"c\":3}}]"), 2),
        (format!("{{\n\"a\":1}}\n{{\n\"b\":\"{large}\"}}\n{{\"c\":\n3}}"), 3),
    ] {
        let mut splitter = Splitter::new(BufReader::new(text.as_bytes()));
        assert!(splitter.next().unwrap().is_some());
        let error = splitter.next().unwrap_err();
        assert!(matches!(error, InputError::TooLarge { line: found } if found == line), "{error:?}");
        assert!(splitter.next().unwrap().is_some_and(|(text, _)| text.starts_with(b"{\"c\"")));
        assert!(splitter.next().unwrap().is_none());
    }
}

#[test]
fn an_array_is_one_event_an_element() {
    let text = " [ {\"a\":[1,2]},\n{\"b\":\"],\"} , 7,\n\"x,]\",[[]]\n]\n";
    let all = [("{\"a\":[1,2]}", 1), ("{\"b\":\"],\"}", 2), ("7", 2), ("\"x,]\"", 3), ("[[]]", 3)];
    assert_eq!(events(text), expected(&all));
    assert_eq!(events("[]"), []);
}

#[test]
fn an_array_that_is_not_well_is_told_after_what_came_before() {
    for (text, reason) in [
        ("[{},\n{}", "line 2: the array is not closed"),
        ("[{}\n", "line 2: the array is not closed"),
        ("[{\"a\":", "line 1: the array is not closed"),
        ("[{} {}]", "line 1: the array must continue with `,` or `]`"),
        ("[,{}]", "line 1: an element is missing"),
        ("[{},\n]", "line 2: an element is missing"),
        ("[{}]\n{}", "line 2: something follows the end of the array"),
    ] {
        assert_eq!(split(text), Err(reason.to_owned()), "{text}");
    }
}

#[test]
fn a_line_end_within_a_string_stays_a_fault() {
    let is_json = |(text, _): &(String, u64)| serde_json::from_str::<serde_json::Value>(text).is_ok();
    for bad in ["[{\"a\":\"x\ny\"}]", "{\n\"a\":\"x\r\ny\"}", "[{\"a\":\"x\\\ny\"}]"] {
        let found = events(bad);
        assert!(!found.is_empty() && !found.iter().any(is_json), "{bad}: {found:?}");
    }
    let good = events("[{\"a\":\n\"\\\"\\\\\",\r\n\"b\":1}]");
    assert!(good.len() == 1 && good.iter().all(is_json), "{good:?}");
}
