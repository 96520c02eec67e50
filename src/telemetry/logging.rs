//! The process-wide logger. Owns the way of a line from a call of `log` to stderr.
//!
//! Promises: a line costs no system call on the thread that logs it; it is on stderr at most [`FLUSH_AFTER`] later, an
//! error before the call returns; no line is lost on an exit that drops the [`LogGuard`] or calls
//! [`flush`]; lines never mingle. An idle process is not woken. When stderr does not keep up, those who log wait once
//! `MAX_PENDING_BYTES` are pending. The level may change at any time; what asks for it takes no lock.
//!
//! How a line looks is `line`'s business; that no value, token or query gets into one is its author's.

use std::any::Any;
use std::cell::Cell;
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::line::Layout;

/// How long a line below `warn` may wait for others, so that they share a system call.
pub const FLUSH_AFTER: Duration = Duration::from_millis(100);

/// Pending bytes that are written without waiting longer.
const FLUSH_BYTES: usize = 64 * 1024;

/// Pending bytes that make the logging thread write by itself.
const MAX_PENDING_BYTES: usize = 1024 * 1024;

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
        self.sink.write_through.store(true, Ordering::SeqCst);
        self.sink.drain();
    }
}

/// Sets up logging for the process.
///
/// # Errors
///
/// If it was set up before, or the writing thread does not start.
pub fn init(settings: &Settings) -> Result<LogGuard, LogError> {
    let sink = Arc::new(Sink::default());
    let layout = Layout { format: settings.format, cluster: settings.cluster.clone() };
    let filter = build_filter(settings.level);
    let max_level = filter.filter();
    let logger = Logger { filter: Arc::new(ArcSwap::from_pointee(filter)), layout, sink: Arc::clone(&sink) };
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

/// Writes every pending line before it returns: for ways out that drop nothing, such as `std::process::exit`.
pub fn flush() {
    if let Some(sink) = SINK.get() {
        sink.drain();
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
    layout: Layout,
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
        if !self.filter.load().matches(record) {
            return;
        }
        // Taken, not borrowed: what a field shows may log too.
        let mut line = LINE.try_with(Cell::take).unwrap_or_default();
        self.layout.write(&mut line, record, SystemTime::now());
        self.sink.append(&line);
        if record.level() == Level::Error || self.sink.write_through.load(Ordering::SeqCst) {
            self.sink.drain();
        }
        line.clear();
        line.shrink_to(MAX_KEPT_BYTES);
        let _ = LINE.try_with(|kept| kept.set(line));
    }

    fn flush(&self) {
        self.sink.drain();
    }
}

/// Lines on their way to stderr.
#[derive(Debug, Default)]
struct Sink {
    pending: Mutex<Vec<u8>>,
    /// Told when `pending` is no longer empty and when it is worth writing at once.
    grown: Condvar,
    /// The buffer being written. Held while writing, so that buffers leave in the order in which they were filled.
    outgoing: Mutex<Vec<u8>>,
    write_through: AtomicBool,
}

impl Sink {
    fn append(&self, line: &[u8]) {
        let (before, after) = {
            let mut pending = lock(&self.pending);
            let before = pending.len();
            pending.extend_from_slice(line);
            (before, pending.len())
        };
        if after >= MAX_PENDING_BYTES {
            self.drain();
        } else if before == 0 || (before < FLUSH_BYTES && after >= FLUSH_BYTES) {
            self.grown.notify_one();
        }
    }

    /// Writes what is pending, and waits for another thread that is doing so.
    fn drain(&self) {
        let mut outgoing = lock(&self.outgoing);
        std::mem::swap(&mut *outgoing, &mut *lock(&self.pending));
        // There is nobody left to tell that stderr is gone.
        let _ = io::stderr().lock().write_all(&outgoing);
        outgoing.clear();
        outgoing.shrink_to(FLUSH_BYTES * 2);
    }

    /// Sleeps until something is pending, then lets it gather for a while.
    fn wait(&self) {
        let pending = lock(&self.pending);
        let pending = self.grown.wait_while(pending, |p| p.is_empty()).unwrap_or_else(PoisonError::into_inner);
        let gathered = self.grown.wait_timeout_while(pending, FLUSH_AFTER, |p| p.len() < FLUSH_BYTES);
        drop(gathered);
    }
}

/// A panic elsewhere must not silence the log; the buffers hold whole lines at any time.
fn lock(buffer: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    buffer.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start_flusher(sink: Arc<Sink>) -> io::Result<()> {
    let flusher = move || {
        loop {
            sink.wait();
            sink.drain();
        }
    };
    thread::Builder::new().name("log".into()).spawn(flusher).map(drop)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    use super::*;

    const THREADS: usize = 4;
    const LINES: usize = 2_000;

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
            while !(lock(&guard.sink.pending).is_empty() && lock(&guard.sink.outgoing).is_empty()) {
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
