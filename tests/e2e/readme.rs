//! Every example of the README, as it is printed there, in the order in which it stands there.

use std::process::Command;

use serde_json::Value;

use crate::support::{Blob, BlobServer, Daemon, Redis};

const README: &str = include_str!("../../README.md");
/// Where the README's blobs are.
pub const BLOBS: &str = "http://localhost:9000";

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

/// What is posted (content type and body), and the answer that stands below it.
pub fn examples() -> Vec<(&'static str, &'static str, &'static str)> {
    let blocks = blocks();
    let example = |(index, (language, text)): (usize, &(&'static str, &'static str))| {
        let (kind, body) = posted(language, text)?;
        let (_, answer) = blocks.get(index + 1).unwrap_or_else(|| panic!("no answer to {text}"));
        Some((kind, body, *answer))
    };
    blocks.iter().enumerate().filter_map(example).collect()
}

#[test]
fn every_example_gets_the_answer_that_stands_below_it() {
    let blobs = BlobServer::start();
    blobs.put("/dot.png", Blob::bytes(include_bytes!("../../src/cli/demo/blobs/dot.png")));
    let daemon = Daemon::builder().embedded().start();
    let examples = examples();
    assert!(examples.len() >= 10, "only {} examples were found", examples.len());
    for (kind, body, answer) in examples {
        let want: Value = serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
        let body = body.replace(BLOBS, &blobs.url(""));
        let mut got = daemon.post_with(&[("content-type", kind)], body.as_bytes()).json();
        if let Some(sample) = got.pointer_mut("/results/0/sample").and_then(Value::as_array_mut) {
            sample.sort_by_key(Value::to_string);
        }
        assert_eq!(got, want, "{body}");
    }
}

/// What is printed by the commands of the block that begins so, run by a shell, and what stands below it.
fn ran(begins: &str, settings: &[(&str, String)], localhost: &str) -> (String, &'static str) {
    let blocks = blocks();
    let found = blocks.iter().position(|(language, text)| *language == "sh" && text.starts_with(begins));
    let at = found.unwrap_or_else(|| panic!("no commands that begin with {begins}"));
    let ((_, commands), (_, shown)) = (blocks[at], blocks[at + 1]);
    let dir = tempfile::tempdir().expect("a directory");
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_redis-cache-sync")).parent().expect("a directory");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("PATH"));
    let mut shell = Command::new("sh");
    shell.args(["-c", &commands.replace("http://localhost:8080", localhost)]).current_dir(dir.path()).env_clear();
    let output = shell.env("PATH", path).envs(settings.iter().cloned()).output().expect("sh runs");
    let printed = [output.stderr, output.stdout].concat();
    (String::from_utf8(printed).expect("text"), shown)
}

#[test]
fn events_are_sent_from_a_file_as_it_is_shown() {
    let daemon = Daemon::embedded();
    let (printed, shown) = ran("cat > events.ndjson", &[], &format!("http://{}", daemon.address()));
    let without_time = |text: &str| text.split(" in 0.").next().unwrap_or_default().to_owned();
    assert_eq!(without_time(&printed), without_time(shown));
}

#[test]
fn keys_are_cleared_as_it_is_shown() {
    let redis = Redis::start();
    ["sess:1", "sess:2", "cart:1"].iter().for_each(|key| redis.put(key, b"v"));
    let settings = [("REDIS_HOST", "127.0.0.1".to_owned()), ("REDIS_PORT", redis.port().to_string())];
    let (printed, shown) = ran("redis-cache-sync clear", &settings, "");
    assert_eq!(printed, shown);
    assert_eq!(redis.key_count(), 1);
}
