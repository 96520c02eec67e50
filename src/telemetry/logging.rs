//! The process-wide logger. Owns the way of a line from a call of `log` to stderr.
//!
//! Promises: a line costs no system call on the thread that logs it; one thread writes, and it alone ever waits for stderr.
//! A line is on stderr at most [`FLUSH_AFTER`] later, an error before the call returns unless stderr is not read. If it is
//! not, lines are dropped once [`MAX_PENDING_BYTES`] are pending, and counted; the count is told once it flows again. No line
//! is lost on an exit that drops the [`LogGuard`] or calls [`flush`], which wait for [`EXIT_LIMIT`] at most; lines never
//! mingle. An idle process is not woken. What a caller can repeat is limited (`limit`). The level may change at any time;
//! what asks for it takes no lock.
//!
//! How a line looks is `line`'s business; that no value, token or query gets into one is its author's.

mod limit;

use std::any::Any;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use log::{Level, LevelFilter, Log, Metadata, Record};

use self::limit::{Limiter, WINDOW};
use super::line::Layout;

/// How long a line below `warn` may wait for others, so that they share a system call.
pub const FLUSH_AFTER: Duration = Duration::from_millis(100);

/// Pending bytes that are written without waiting longer.
const FLUSH_BYTES: usize = 64 * 1024;

/// Bytes that may be pending; lines beyond them are dropped and counted.
const MAX_PENDING_BYTES: usize = 1024 * 1024;

/// The thread that writes.
const WRITER: &str = "log";

/// How long an error waits until it is on stderr.
const ERROR_LIMIT: Duration = Duration::from_millis(100);

/// How long a way out of the process waits for a stderr that is not read.
pub const EXIT_LIMIT: Duration = Duration::from_secs(1);

/// Of the room that a long line needed, a thread keeps so much.
const MAX_KEPT_BYTES: usize = 4 * 1024;

/// The crate whose lines follow `log_level` to the letter.
const OWN_CRATE: &str = env!("CARGO_CRATE_NAME");
/// What is logged whatever the level: where the daemon listens.
pub const LISTENING: &str = "redis_cache_sync::listening";
/// Tells of every malformed head; the `http` room does so itself, with the request's id.
const HTTP_PARSER: &str = "actix_http::h1::dispatcher";

/// `log_level`, `log_format` and `cluster`.
#[derive(Debug, Clone)]
pub struct Settings {
    pub level: LevelFilter,
    pub format: Format,
    /// Stands on every line unless it is empty.
    pub cluster: String,
}

/// `log_format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Text,
    /// One object a line.
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("logging has been set up already")]
    AlreadySet,
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(#[source] io::Error),
}

/// Held by `main` to its end. Dropping it writes what is pending; lines that come after that are written one by one.
#[derive(Debug)]
#[must_use = "dropping the guard ends buffering"]
pub struct LogGuard {
    sink: Arc<Sink>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        lock(&self.sink.state).is_ending = true;
        self.sink.leave();
    }
}

/// Sets up logging for the process.
///
/// # Errors
///
/// If it was set up before, or the writing thread does not start.
pub fn init(settings: &Settings) -> Result<LogGuard, LogError> {
    let layout = Layout { format: settings.format, cluster: settings.cluster.clone() };
    let sink = Arc::new(Sink { layout, ..Sink::default() });
    let filter = build_filter(settings.level);
    let max_level = filter.filter();
    let logger = Logger { filter: Arc::new(ArcSwap::from_pointee(filter)), sink: Arc::clone(&sink) };
    let levels = logger.filter.clone();
    start_flusher(Arc::clone(&sink)).map_err(LogError::Thread)?;
    log::set_boxed_logger(Box::new(logger)).map_err(|_| LogError::AlreadySet)?;
    log::set_max_level(max_level);
    let _ = (SINK.set(Arc::clone(&sink)), FILTER.set(levels));
    Ok(LogGuard { sink })
}

/// From now on this is logged, and what is above.
pub fn set_level(level: LevelFilter) {
    let Some(current) = FILTER.get() else { return };
    let filter = build_filter(level);
    let max_level = filter.filter();
    current.store(Arc::new(filter));
    log::set_max_level(max_level);
}

/// Writes every pending line before it returns, or gives up after [`EXIT_LIMIT`]: for ways out that drop nothing, such as
/// `std::process::exit`.
pub fn flush() {
    if let Some(sink) = SINK.get() {
        sink.leave();
    }
}

/// Logs a panic's place and thread at `error`, instead of printing it. The text of a panic is given only if it is a
/// literal: one that was put together may hold a value.
pub fn install_panic_hook() {
    panic::set_hook(Box::new(log_panic));
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let reason = literal_text(info.payload()).unwrap_or("not shown: it may hold data");
    log::error!(location, thread, reason; "panic");
}

fn literal_text(payload: &(dyn Any + Send)) -> Option<&'static str> {
    payload.downcast_ref::<&'static str>().copied()
}

static SINK: OnceLock<Arc<Sink>> = OnceLock::new();
static FILTER: OnceLock<Arc<ArcSwap<env_logger::Logger>>> = OnceLock::new();

/// env_logger decides what is logged. It writes nothing: its way there costs more than the whole of ours.
fn build_filter(level: LevelFilter) -> env_logger::Logger {
    env_logger::Builder::new()
        .filter_level(level_of_others(level))
        .filter_module(OWN_CRATE, level)
        .filter_module(LISTENING, LevelFilter::Info)
        .filter_module(HTTP_PARSER, LevelFilter::Off)
        .build()
}

/// Libraries tell too much: one level less than asked for, and never their `debug`, which may show what they carry.
fn level_of_others(level: LevelFilter) -> LevelFilter {
    match level {
        LevelFilter::Trace | LevelFilter::Debug => LevelFilter::Info,
        other => other.min(LevelFilter::Warn),
    }
}

struct Logger {
    filter: Arc<ArcSwap<env_logger::Logger>>,
    sink: Arc<Sink>,
}

thread_local! {
    /// Where this thread's next line is put together.
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.load().enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.filter.load().matches(record) || !self.sink.limiter.lets(record, Instant::now()) {
            return;
        }
        // Taken, not borrowed: what a field shows may log too.
        let mut line = LINE.try_with(Cell::take).unwrap_or_default();
        self.sink.layout.write(&mut line, record, SystemTime::now());
        self.sink.append(&line, record.level() == Level::Error);
        line.clear();
        line.shrink_to(MAX_KEPT_BYTES);
        let _ = LINE.try_with(|kept| kept.set(line));
    }

    fn flush(&self) {
        self.sink.leave();
    }
}

/// Lines on their way to stderr.
#[derive(Debug, Default)]
struct Sink {
    layout: Layout,
    limiter: Limiter,
    state: Mutex<State>,
    /// Told when there is something to write, and when it is worth writing at once.
    grown: Condvar,
    /// Told when something has been written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pending: Vec<u8>,
    /// Lines for which there was no room.
    dropped: u64,
    /// Lines that came, those that the writing thread has taken, and those that are on stderr.
    came: u64,
    taken: u64,
    on_stderr: u64,
    /// Somebody waits until it is all written.
    is_urgent: bool,
    /// What was written last took too long: nobody waits for it until it is done.
    is_stuck: bool,
    /// The guard is gone: every line is waited for.
    is_ending: bool,
}

impl Sink {
    fn append(&self, line: &[u8], is_error: bool) {
        let mut state = lock(&self.state);
        let before = state.pending.len();
        if before + line.len() > MAX_PENDING_BYTES {
            state.dropped += 1;
            return;
        }
        state.pending.extend_from_slice(line);
        state.came += 1;
        let after = state.pending.len();
        // The writing thread does not wait for itself.
        let is_waited_for = is_error || (state.is_ending && thread::current().name() != Some(WRITER));
        if is_waited_for {
            self.wait_written(state, ERROR_LIMIT);
        } else if before == 0 || (before < FLUSH_BYTES && after >= FLUSH_BYTES) {
            drop(state);
            self.grown.notify_one();
        }
    }

    /// Returns once all that came is on stderr, or the time is over.
    fn wait_written(&self, mut state: MutexGuard<'_, State>, limit: Duration) {
        let target = state.came;
        state.is_urgent = true;
        self.grown.notify_one();
        if state.is_stuck {
            return;
        }
        let waited = self.written.wait_timeout_while(state, limit, |state| state.on_stderr < target);
        let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_stuck |= timeout.timed_out();
    }

    /// Before the process ends: tells all that is left to tell, and waits for it.
    fn leave(&self) {
        self.tell_left_out(None);
        let mut state = lock(&self.state);
        // A last chance for who reads slowly.
        state.is_stuck = false;
        self.wait_written(state, EXIT_LIMIT);
    }

    /// Sleeps until something is pending, then lets it gather for a while. Wakes too if lines were left out, to tell of them.
    fn wait(&self) {
        let mut state = lock(&self.state);
        while state.pending.is_empty() {
            if self.limiter.has_left_out() {
                let waited = self.grown.wait_timeout(state, WINDOW / 2);
                drop(waited);
                return;
            }
            state = self.grown.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let gathers = |state: &mut State| state.pending.len() < FLUSH_BYTES && !state.is_urgent;
        drop(self.grown.wait_timeout_while(state, FLUSH_AFTER, gathers));
    }

    /// Writes what is pending; on the writing thread alone.
    fn write(&self, stderr: &mut impl Write, outgoing: &mut Vec<u8>) {
        let dropped = {
            let mut state = lock(&self.state);
            std::mem::swap(outgoing, &mut state.pending);
            (state.taken, state.is_urgent) = (state.came, false);
            state.dropped
        };
        // There is nobody left to tell that stderr is gone.
        let _ = stderr.write_all(outgoing);
        outgoing.clear();
        outgoing.shrink_to(FLUSH_BYTES * 2);
        {
            let mut state = lock(&self.state);
            (state.on_stderr, state.is_stuck) = (state.taken, false);
            self.written.notify_all();
        }
        if dropped > 0 {
            log::warn!(count = dropped; "log lines dropped: standard error was not read");
            lock(&self.state).dropped -= dropped;
        }
    }

    /// How many lines were left out in windows that are over by then; in all, if `None`.
    fn tell_left_out(&self, by: Option<Instant>) {
        for (kind, count) in self.limiter.left_out(by) {
            let (like, problem) = (kind.message, &*kind.problem);
            log::warn!(like, problem, count; "more lines like one above");
        }
    }
}

/// A panic elsewhere must not silence the log; the buffers hold whole lines at any time.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start_flusher(sink: Arc<Sink>) -> io::Result<()> {
    // A file of its own: who waits here holds no lock for which others could wait.
    let mut stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let flusher = move || {
        let mut outgoing = Vec::new();
        loop {
            sink.wait();
            sink.write(&mut stderr, &mut outgoing);
            if sink.limiter.has_left_out() {
                sink.tell_left_out(Some(Instant::now()));
            }
        }
    };
    thread::Builder::new().name(WRITER.into()).spawn(flusher).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Output, Stdio};

    use super::*;

    const THREADS: usize = 4;
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

    fn init_for_child(level: LevelFilter, format: Format) -> LogGuard {
        init(&Settings { level, format, cluster: "c-1".into() }).unwrap()
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
            let guard = init_for_child(LevelFilter::Info, Format::Json);
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
            let _guard = init_for_child(LevelFilter::Info, Format::Json);
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
            drop(init_for_child(LevelFilter::Info, Format::Text));
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
            let _guard = init_for_child(LevelFilter::Info, Format::Text);
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
            let _guard = init_for_child(LevelFilter::Warn, Format::Text);
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
            let _guard = init_for_child(LevelFilter::Info, Format::Text);
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
            let guard = init_for_child(LevelFilter::Info, Format::Text);
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
            let guard = init_for_child(LevelFilter::Info, Format::Text);
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

    #[test]
    fn child_leaves_unread() {
        if is_child() {
            let guard = init_for_child(LevelFilter::Info, Format::Text);
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
            let _guard = init_for_child(LevelFilter::Error, Format::Json);
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
        let lines: Vec<serde_json::Value> = stderr
            .lines()
            .filter(|line| line.starts_with('{'))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2, "{stderr}");
        assert_eq!((&lines[0]["severity_text"], &lines[0]["thread.name"]), (&"ERROR".into(), &"worker-1".into()));
        assert_eq!(lines[0]["exception.message"], "out of cheese");
        assert!(lines[0]["code.file.path"].as_str().unwrap().ends_with("logging.rs"));
        assert!(lines[0]["code.line.number"].is_u64());
        assert!(!stderr.contains("s3cret"), "{stderr}");
    }

    #[test]
    fn other_crates_are_quieter_than_our_own() {
        let logger = build_filter(LevelFilter::Info);
        let enabled = |target: &str, level| logger.enabled(&Metadata::builder().target(target).level(level).build());
        assert!(enabled("redis_cache_sync::http", Level::Info) && !enabled("redis_cache_sync", Level::Debug));
        assert!(enabled("actix_server", Level::Warn) && !enabled("actix_server", Level::Info));
        assert_eq!(level_of_others(LevelFilter::Debug), LevelFilter::Info);
        assert_eq!(level_of_others(LevelFilter::Error), LevelFilter::Error);
        assert_eq!(level_of_others(LevelFilter::Off), LevelFilter::Off);
    }
}
