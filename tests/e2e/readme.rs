//! Every example of the README, as it is printed there, in the order in which it stands there.

use serde_json::Value;

use crate::support::{Blob, BlobServer, Daemon};

const README: &str = include_str!("../../README.md");
/// Where the README's blobs are.
const BLOBS: &str = "http://localhost:9000";

/// The code blocks: language and text.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let fenced = README.split("```").skip(1).step_by(2);
    fenced.filter_map(|block| block.split_once('\n')).collect()
}

/// The content type and the body, if the block is something to be posted.
fn posted(language: &str, text: &'static str) -> Option<(&'static str, &'static str)> {
    match language {
        "json" if text.starts_with("{\"key\"") => Some(("application/json", text)),
        "sh" if text.contains("/events -H ") => {
            let mut quoted = text.split('\'').skip(1).step_by(2);
            let kind = quoted.next()?.strip_prefix("Content-Type: ")?;
            Some((kind, quoted.next()?))
        }
        _ => None,
    }
}

#[test]
fn every_example_gets_the_answer_that_stands_below_it() {
    let blobs = BlobServer::start();
    blobs.put("/dot.png", Blob::bytes(include_bytes!("../../src/cli/demo/blobs/dot.png")));
    let daemon = Daemon::builder().embedded().start();
    let blocks = blocks();
    let mut examples = 0;
    for (index, (language, text)) in blocks.iter().enumerate() {
        let Some((kind, body)) = posted(language, text) else { continue };
        let (_, answer) = blocks.get(index + 1).unwrap_or_else(|| panic!("no answer to {text}"));
        let want: Value = serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
        let body = body.replace(BLOBS, &blobs.url(""));
        let mut got = daemon.post_with(&[("content-type", kind)], body.as_bytes()).json();
        if let Some(sample) = got.pointer_mut("/results/0/sample").and_then(Value::as_array_mut) {
            sample.sort_by_key(Value::to_string);
        }
        assert_eq!(got, want, "{text}");
        examples += 1;
    }
    assert!(examples >= 10, "only {examples} examples were found");
}
