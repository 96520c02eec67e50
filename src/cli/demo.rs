//! `demo`: the whole job on one machine with nothing installed. A daemon on a free loopback port over the embedded cache,
//! a blob server, a real client; every sample event is shown beside its answer, and the answer compared with the one
//! that is due.
//!
//! What is sent and what is due stands in `steps`, what the blob server serves in `blobs`, the comparison in
//! `difference`.

mod blobs;
mod difference;
mod steps;

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use self::difference::differences;
use self::steps::{DemoStep, NOTIFICATIONS, SOURCE, STEPS};
use super::serve;
use super::signals::Signals;
use crate::config::Config;
use crate::telemetry::logging::{self, LogSettings};

/// Where events go.
const EVENTS: &str = "/events";
/// Columns of a line, about.
const WIDTH: usize = 116;

/// Longer than any answer may take (`event.deadline_ms`).
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// Longer than any answer of the steps.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

type Failure = Box<dyn Error>;

/// Runs every step; success only if every answer was the expected one. `keep`: goes on serving until ctrl-c or SIGTERM.
pub fn run(keep: bool) -> ExitCode {
    // Some steps are meant to be refused: their warnings would only stand in the way.
    let settings =
        LogSettings { level: log::LevelFilter::Error, format: logging::LineFormat::Text, cluster: String::new() };
    let _guard = logging::init(&settings);
    match actix_rt::System::new().block_on(demonstrate(keep)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "the demo failed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn demonstrate(keep: bool) -> Result<bool, Failure> {
    let blobs = blobs::start()?;
    let config = Config::from_pairs(&[
        ("bind", "127.0.0.1"),
        ("port", "0"),
        ("http.workers", "1"),
        ("cache.backend", "embedded"),
        ("fetch.allowed_hosts", &blobs.address.to_string()),
        ("sources.photos.value", "facts"),
    ])
    .map_err(|faults| faults.to_string())?;
    let daemon = serve::start(&config, None).await.map_err(|error| error.to_string())?;
    let all_match = run_steps(daemon.address, blobs.address).await?;
    if keep {
        let signals = Signals::listen(None).map_err(|error| error.to_string())?;
        print_how_to_go_on(daemon.address, blobs.address)?;
        daemon.run(signals).await;
    } else {
        daemon.stop().await;
    }
    blobs.stop().await;
    Ok(all_match)
}

async fn run_steps(daemon: SocketAddr, blobs: SocketAddr) -> Result<bool, Failure> {
    let started = Instant::now();
    let client = awc::Client::builder().timeout(ANSWER_WITHIN).finish();
    writeln!(io::stdout(), "the daemon listens on http://{daemon}, the blobs are on http://{blobs}\n")?;
    let mut matching = 0;
    let events = STEPS.iter().map(|step| (EVENTS, step));
    let all: Vec<(&str, &DemoStep)> = events.chain(NOTIFICATIONS.iter().map(|step| (SOURCE, step))).collect();
    for (number, (route, step)) in (1..).zip(&all) {
        let sent = step.body.replace(steps::BLOBS, &format!("http://{blobs}"));
        let answer = post(&client, &format!("http://{daemon}{route}"), step, sent.clone()).await?;
        let faults = differences(step, &answer);
        matching += usize::from(faults.is_empty());
        print_step(number, step, &sent, &answer, &faults)?;
    }
    let took = started.elapsed().as_secs_f32();
    writeln!(io::stdout(), "{matching} of {} answers as expected, in {took:.1} seconds", all.len())?;
    Ok(matching == all.len())
}

struct Answer {
    status: u16,
    body: String,
}

async fn post(client: &awc::Client, url: &str, step: &DemoStep, body: String) -> Result<Answer, Failure> {
    let request = client.post(url).content_type(step.content_type());
    // A client's errors are not `Sync`, and a demo needs no more than their text.
    let mut response = request.send_body(body).await.map_err(|error| error.to_string())?;
    let body = response.body().limit(MAX_ANSWER_BYTES).await?;
    Ok(Answer { status: response.status().as_u16(), body: String::from_utf8_lossy(&body).into_owned() })
}

fn print_step(number: usize, step: &DemoStep, sent: &str, answer: &Answer, faults: &[String]) -> io::Result<()> {
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

fn print_wrapped(out: &mut impl Write, label: &str, text: &str) -> io::Result<()> {
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

fn print_how_to_go_on(daemon: SocketAddr, blobs: SocketAddr) -> io::Result<()> {
    writeln!(
        io::stdout(),
        "
still serving; ctrl-c ends it. Try:

  curl -s http://{daemon}/events -H 'Content-Type: application/json' \\
    -d '{{\"key\":\"SET\",\"value\":{{\"data\":{{\"key\":\"mine\",\"value\":{{\"n\":1}}}},\"ttl\":60}}}}'
  curl -s http://{daemon}/events -H 'Content-Type: application/json' \\
    -d '{{\"key\":\"GET\",\"value\":{{\"data\":[\"mine\",\"logos/dot.png\"]}}}}'
  curl -s http://{daemon}/events -H 'Content-Type: application/json' \\
    -d '{{\"key\":\"SET\",\"value\":{{\"data\":\"http://{blobs}/users/42.json\"}}}}'
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
