//! What the demo shows: a step beside its answer, and how to go on by hand.

use std::io::{self, Write};
use std::net::SocketAddr;

use super::Answer;
use super::bucket::Bucket;
use super::steps::DemoStep;

/// Columns of a line, about.
const WIDTH: usize = 116;

pub(super) fn print_step(
    number: usize,
    step: &DemoStep,
    sent: &str,
    answer: &Answer,
    faults: &[String],
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{number:>2}. {}", step.title)?;
    for (line_number, line) in sent.lines().enumerate() {
        print_wrapped(&mut out, if line_number == 0 { "POST" } else { "" }, line)?;
    }
    print_wrapped(&mut out, &answer.status.to_string(), &answer.body)?;
    for fault in faults {
        print_wrapped(&mut out, "✗", fault)?;
    }
    if faults.is_empty() {
        writeln!(out, "    ✓     as expected")?;
    }
    writeln!(out)?;
    out.flush()
}

/// Under a label, in as many lines as it takes.
pub(super) fn print_wrapped(out: &mut impl Write, label: &str, text: &str) -> io::Result<()> {
    let mut label = label;
    for part in wrap(text.trim_end(), WIDTH - 10) {
        writeln!(out, "    {label:<5} {part}")?;
        label = "";
    }
    Ok(())
}

/// Parts of at most `width` characters, cut after a comma where there is one in the part's second half.
fn wrap(text: &str, width: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((hard_end, _)) = rest.char_indices().nth(width) {
        let end =
            rest[..hard_end].rfind(',').map(|comma| comma + 1).filter(|&end| end > hard_end / 2).unwrap_or(hard_end);
        let (part, tail) = rest.split_at(end);
        parts.push(part);
        rest = tail;
    }
    parts.push(rest);
    parts
}

/// What goes on running, for a reader who goes on by hand.
pub(super) struct Running {
    pub daemon: SocketAddr,
    pub blobs: SocketAddr,
    /// URL of the object that a reader may write.
    pub object: String,
    /// None: the cache is in the daemon.
    pub redis_port: Option<u16>,
}

pub(super) fn print_how_to_go_on(running: &Running) -> io::Result<()> {
    let Running { daemon, blobs, object, redis_port } = running;
    let signature = Bucket::curl_signature();
    let post = format!("curl -s http://{daemon}/events -H 'Content-Type: application/json' \\\n    -d");
    let read = match redis_port {
        Some(port) => format!("redis-cli -p {port} get files/mine.txt"),
        None => format!("{post} '{{\"key\":\"GET\",\"value\":{{\"data\":\"files/mine.txt\"}}}}'"),
    };
    writeln!(
        io::stdout(),
        "
still serving; ctrl-c ends it. The page is http://{daemon}/. Try:

  echo mine | curl -s {signature} \\
    -T - {object}
  {read}
  {post} '{{\"key\":\"SET\",\"value\":{{\"data\":\"http://{blobs}/users/42.json\"}}}}'
  {post} '{{\"key\":\"GET\",\"value\":{{\"data\":[\"users/42.json\",\"logos/dot.png\"]}}}}'
  curl -s http://{daemon}/ready
  curl -s http://{daemon}/metrics
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapping_loses_nothing_and_keeps_to_the_width() {
        for text in ["", "short", &"é,".repeat(300), &"x".repeat(300), "a,".repeat(58).as_str()] {
            let parts = wrap(text, 106);
            assert_eq!(parts.concat(), text);
            assert!(parts.iter().all(|part| part.chars().count() <= 106));
        }
    }

    #[test]
    fn a_step_shows_every_line_of_what_was_sent() {
        let mut out = Vec::new();
        print_wrapped(&mut out, "POST", &"{\"a\":1},".repeat(20)).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.lines().nth(1).unwrap().starts_with("          {"), "{text}");
    }
}
