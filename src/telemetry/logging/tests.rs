use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::sink::lock;
use super::*;

const THREADS: usize = 4;
const CHILD_LIMIT: Duration = Duration::from_secs(60);
const LINES: usize = 1_000; // Less than may be pending, whoever reads.

/// Runs one of the child tests below in a process of its own: a logger is set once a process, and what matters is
/// what is left of its lines when that process is gone.
fn run_child(test: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("telemetry::logging::tests::{test}"), "--nocapture", "run-as-child"])
        .output()
        .unwrap()
}

fn is_child() -> bool {
    std::env::args().any(|arg| arg == "run-as-child")
}

/// A child that something holds up ends by itself, so that its parent fails in place of waiting for ever.
fn init_for_child(level: LevelFilter, format: LineFormat) -> LogGuard {
    thread::spawn(|| {
        thread::sleep(CHILD_LIMIT);
        std::process::exit(70);
    });
    init(&LogSettings { level, format, cluster: "c-1".into() }).unwrap()
}

fn log_from_many_threads() {
    thread::scope(|scope| {
        for worker in 0..THREADS {
            scope.spawn(move || (0..LINES).for_each(|line| log::info!(worker, line; "work")));
        }
    });
}

fn assert_every_line_arrived(output: &Output) {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    let mut next = [0; THREADS];
    for line in stderr.lines() {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        let worker = json["worker"].as_u64().unwrap() as usize;
        assert_eq!(json["line"], next[worker], "lines of one thread arrive in order");
        assert_eq!(json["k8s.cluster.name"], "c-1");
        next[worker] += 1;
    }
    assert_eq!(next, [LINES; THREADS]);
}

#[test]
fn child_drops_the_guard() {
    if is_child() {
        let guard = init_for_child(LevelFilter::Info, LineFormat::Json);
        log_from_many_threads();
        drop(guard);
    }
}

#[test]
fn no_line_is_lost_when_the_guard_is_dropped() {
    assert_every_line_arrived(&run_child("child_drops_the_guard"));
}

#[test]
fn child_exits() {
    if is_child() {
        let _guard = init_for_child(LevelFilter::Info, LineFormat::Json);
        log_from_many_threads();
        flush();
        std::process::exit(7);
    }
}

#[test]
fn no_line_is_lost_on_an_exit_that_flushes() {
    let output = run_child("child_exits");
    assert_eq!(output.status.code(), Some(7));
    assert_every_line_arrived(&output);
}

#[test]
fn child_logs_after_the_guard() {
    if is_child() {
        drop(init_for_child(LevelFilter::Info, LineFormat::Text));
        log::info!("after the guard");
        std::process::exit(0);
    }
}

#[test]
fn a_line_after_the_guard_is_not_lost_either() {
    let stderr = String::from_utf8(run_child("child_logs_after_the_guard").stderr).unwrap();
    assert!(stderr.contains("INFO  after the guard cluster=c-1\n"), "{stderr}");
}

struct Talkative;

impl std::fmt::Display for Talkative {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        log::info!(depth = 2; "inner");
        f.write_str("shown")
    }
}

#[test]
fn child_logs_while_it_logs() {
    if is_child() {
        let _guard = init_for_child(LevelFilter::Info, LineFormat::Text);
        log::info!(field:% = Talkative, depth = 1; "outer");
    }
}

#[test]
fn a_field_that_logs_while_it_is_shown_spoils_no_line() {
    let stderr = String::from_utf8(run_child("child_logs_while_it_logs").stderr).unwrap();
    let messages: Vec<_> = stderr.lines().filter_map(|line| line.split_once("Z ")).map(|(_, rest)| rest).collect();
    assert_eq!(messages, ["INFO  inner depth=2 cluster=c-1", "INFO  outer field=shown depth=1 cluster=c-1"]);
}

#[test]
fn child_changes_the_level() {
    if is_child() {
        let _guard = init_for_child(LevelFilter::Warn, LineFormat::Text);
        log::info!("unheard");
        set_level(LevelFilter::Debug);
        log::debug!("heard");
        set_level(LevelFilter::Error);
        log::warn!("unheard");
        log::info!(target: LISTENING, "always heard");
    }
}

#[test]
fn a_new_level_holds_for_the_next_line() {
    let stderr = String::from_utf8(run_child("child_changes_the_level").stderr).unwrap();
    let messages: Vec<_> = stderr.lines().filter_map(|line| line.split_once("Z ")).map(|(_, rest)| rest).collect();
    assert_eq!(messages.len(), 2, "{stderr}");
    assert!(messages[0].contains(" heard") && messages[1].contains("always heard"), "{stderr}");
}

#[test]
fn child_aborts_after_an_error() {
    if is_child() {
        let _guard = init_for_child(LevelFilter::Info, LineFormat::Text);
        log::info!("before");
        log::error!(reason = "x"; "urgent");
        std::process::abort();
    }
}

#[test]
fn an_error_and_what_stands_before_it_are_written_at_once() {
    let stderr = String::from_utf8(run_child("child_aborts_after_an_error").stderr).unwrap();
    let messages: Vec<_> = stderr.lines().filter_map(|line| line.split_once("Z ")).map(|(_, rest)| rest).collect();
    assert_eq!(messages, ["INFO  before cluster=c-1", "ERROR urgent reason=x cluster=c-1"]);
}

#[test]
fn child_waits_for_the_flusher() {
    if is_child() {
        let guard = init_for_child(LevelFilter::Info, LineFormat::Text);
        log::info!("on its own");
        while lock(&guard.sink.state).on_stderr == 0 {
            thread::yield_now();
        }
        std::process::abort();
    }
}

#[test]
fn an_ordinary_line_arrives_without_further_calls() {
    let stderr = String::from_utf8(run_child("child_waits_for_the_flusher").stderr).unwrap();
    assert!(stderr.contains("INFO  on its own"), "{stderr}");
}

#[test]
fn child_is_not_read() {
    if is_child() {
        let guard = init_for_child(LevelFilter::Info, LineFormat::Text);
        let mut line = String::from("x");
        // Until the kernel's buffer and ours are full, whatever their sizes.
        while lock(&guard.sink.state).dropped < 10 {
            log::info!(line; "work");
            line.push_str("0123456789");
        }
        for _ in 0..20 {
            log::error!("nobody waits for long");
        }
        println!("still here");
        let mut said = String::new();
        io::stdin().read_line(&mut said).unwrap();
        while lock(&guard.sink.state).dropped > 0 {
            thread::yield_now();
        }
    }
}

#[test]
fn a_stderr_that_is_not_read_holds_nothing_up_and_is_told_what_it_missed() {
    let begun = Instant::now();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "telemetry::logging::tests::child_is_not_read", "--nocapture", "run-as-child"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
    assert!(said.into_iter().any(|line| line.ends_with("still here")));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    child.stdin.take().unwrap().write_all(b"go on\n").unwrap();
    let stderr = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    let told = stderr.lines().find(|line| line.contains("log lines dropped"));
    assert!(told.is_some_and(|line| line.contains(" count=")), "{} bytes and no such line", stderr.len());
}

/// A stderr that is slow, takes nothing now and then, and fails; while it is written to, more comes than there is room for.
struct Hostile<'a> {
    sink: &'a Sink,
    calls: usize,
    came: u64,
    text: Vec<u8>,
}

impl Write for Hostile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.calls += 1;
        let line = [&[b'x'; 1 << 16][..], b"\n"].concat();
        for _ in 0..if self.calls < 100 { 20 } else { 0 } {
            self.sink.append(&line, false);
            self.came += 1;
        }
        let is_between_lines = self.text.ends_with(b"\n");
        match self.calls % 10 {
            4 => Err(io::ErrorKind::WouldBlock.into()),
            7 if is_between_lines => Err(io::ErrorKind::StorageFull.into()),
            8 if is_between_lines => Ok(0),
            place => {
                let line = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1);
                let taken = if place == 6 { line } else { bytes.len().min(100_000) };
                self.text.extend_from_slice(&bytes[..taken]);
                Ok(taken)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn child_counts_what_it_drops() {
    if is_child() {
        let _guard = init_for_child(LevelFilter::Info, LineFormat::Text);
        let sink = Sink::new(Layout::default());
        let mut stderr = Hostile { sink: &sink, calls: 0, came: 0, text: Vec::new() };
        while stderr.calls < 200 {
            sink.append(b"x\n", false);
            stderr.came += 1;
            sink.write(&mut stderr, &mut Vec::new());
        }
        let text = String::from_utf8(stderr.text).unwrap();
        let count = |line: &str| line.rsplit_once(" count=").map(|(_, count)| count.parse::<u64>().unwrap());
        let (told, whole): (Vec<_>, Vec<_>) = text.lines().map(count).partition(Option::is_some);
        println!("came={} whole={} told={}", stderr.came, whole.len(), told.into_iter().flatten().sum::<u64>());
        std::process::exit(0);
    }
}

#[test]
fn every_line_is_written_or_counted_however_stderr_behaves() {
    let stdout = String::from_utf8(run_child("child_counts_what_it_drops").stdout).unwrap();
    let line = stdout.lines().find(|line| line.contains("came=")).expect("it comes to its end");
    let number = |name: &str| line.split_once(name).unwrap().1.split(' ').next().unwrap().parse::<u64>().unwrap();
    let (came, whole, told) = (number("came="), number("whole="), number("told="));
    assert!(told > 100 && whole > 100, "{line}");
    assert_eq!(came, whole + told, "{line}");
}

#[test]
fn child_leaves_unread() {
    if is_child() {
        let guard = init_for_child(LevelFilter::Info, LineFormat::Text);
        while lock(&guard.sink.state).dropped < 10 {
            log::info!("0123456789012345678901234567890123456789");
        }
        drop(guard);
        println!("left");
        std::process::exit(0);
    }
}

#[test]
fn leaving_waits_for_a_stderr_that_is_not_read_for_a_moment_only() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "telemetry::logging::tests::child_leaves_unread", "--nocapture", "run-as-child"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.into_iter().any(|line| line.ends_with("left")));
    assert!(child.wait().unwrap().success());
}

#[test]
fn child_panics() {
    if is_child() {
        let _guard = init_for_child(LevelFilter::Error, LineFormat::Json);
        install_panic_hook();
        let secret = std::hint::black_box("s3cret");
        let literal = thread::Builder::new().name("worker-1".into()).spawn(|| panic!("out of cheese")).unwrap();
        let _ = literal.join();
        let _ = thread::spawn(move || panic!("cannot parse {secret}")).join();
        std::process::abort();
    }
}

#[test]
fn a_panic_is_logged_with_its_place_but_only_with_a_literal_text() {
    let stderr = String::from_utf8(run_child("child_panics").stderr).unwrap();
    let lines: Vec<serde_json::Value> =
        stderr.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{stderr}");
    assert_eq!((&lines[0]["severity_text"], &lines[0]["thread.name"]), (&"ERROR".into(), &"worker-1".into()));
    assert_eq!(lines[0]["exception.message"], "out of cheese");
    assert!(lines[0]["code.file.path"].as_str().unwrap().ends_with("logging/tests.rs"));
    assert!(lines[0]["code.line.number"].is_u64());
    assert!(!stderr.contains("s3cret"), "{stderr}");
}

#[test]
fn other_crates_are_quieter_than_our_own() {
    let logger = build_filter(LevelFilter::Info);
    let enabled = |target: &str, level| logger.enabled(&Metadata::builder().target(target).level(level).build());
    assert!(enabled("redis_cache_sync::http", Level::Info) && !enabled("redis_cache_sync", Level::Debug));
    assert!(enabled("actix_server", Level::Warn) && !enabled("actix_server", Level::Info));
    assert!(
        !enabled("reqsign_core::api", Level::Error) && !enabled("reqsign_aws_v4", Level::Warn),
        "it may hold a secret"
    );
    assert_eq!(level_of_others(LevelFilter::Debug), LevelFilter::Info);
    assert_eq!(level_of_others(LevelFilter::Error), LevelFilter::Error);
    assert_eq!(level_of_others(LevelFilter::Off), LevelFilter::Off);
}
