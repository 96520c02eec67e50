//! The process-wide logger. Owns the way of a line from a call of `log` to stderr.
//!
//! Promises: a line costs no system call on the thread that logs it; one thread writes, and it alone ever waits for stderr.
//! A line is on stderr at most [`FLUSH_AFTER`] later, an error before the call returns unless stderr is not read. If it is
//! not, lines are dropped once 1 MiB of them is pending, and counted; the count is told once it flows again. No line
//! is lost on an exit that drops the [`LogGuard`] or calls [`flush`], which wait for [`EXIT_LIMIT`] at most; lines never
//! mingle. An idle process is not woken. What a caller can repeat is limited (`limit`). The level may change at any time;
//! what asks for it takes no lock.
//!
//! How a line looks is `line`'s business; that no value, token or query gets into one is its author's.

mod limit;
mod sink;

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use log::{Level, LevelFilter, Log, Metadata, Record};

pub use self::sink::{EXIT_LIMIT, FLUSH_AFTER};
use self::sink::{Sink, start_flusher};
use super::line::Layout;
pub use super::line::LineFormat;

/// The bytes that a thread keeps of the buffer that a long line needed.
const MAX_KEPT_BYTES: usize = 4 * 1024;

/// The crate whose lines follow `log_level` to the letter.
const OWN_CRATE: &str = env!("CARGO_CRATE_NAME");
/// What is logged whatever the level: where the daemon listens.
pub const LISTENING: &str = "redis_cache_sync::listening";
/// Tells of every malformed head; the `http` room does so itself, with the request's id.
const HTTP_PARSER: &str = "actix_http::h1::dispatcher";
/// Warn with whatever a credential service answered, and that may hold a credential. Covers each crate whose name begins so.
const SIGNERS: &str = "reqsign";

/// `log_level`, `log_format` and `cluster`.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Lines of this level and above are written (`log_level`); a reload may change it.
    pub level: LevelFilter,
    /// The form of a line (`log_format`).
    pub format: LineFormat,
    /// Stands on every line unless it is empty.
    pub cluster: String,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The process has a logger: it can be set once only.
    #[error("logging has been set up already")]
    AlreadySet,
    /// The thread that writes to stderr cannot be started.
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
        self.sink.end();
    }
}

/// Sets up logging for the process.
///
/// # Errors
///
/// If it was set up before, or the writing thread does not start.
pub fn init(settings: &LogSettings) -> Result<LogGuard, LogError> {
    let layout = Layout { format: settings.format, cluster: settings.cluster.clone() };
    let sink = Arc::new(Sink::new(layout));
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
        .filter_module(SIGNERS, LevelFilter::Off)
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
        if !self.filter.load().matches(record) || !self.sink.limiter.lets(record, Instant::now) {
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

#[cfg(test)]
mod tests;
