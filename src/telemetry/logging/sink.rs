//! Lines on their way to stderr: gathered by whoever logs, written by one thread. Who may wait for it, and how long.

use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use log::{Log, Metadata, Record};

use super::limit::{Limiter, WINDOW};
use crate::telemetry::line::Layout;

/// How long a line below `warn` may wait for others, so that they share a system call.
pub const FLUSH_AFTER: Duration = Duration::from_millis(100);

/// Pending bytes that are written without waiting longer.
const FLUSH_BYTES: usize = 64 * 1024;

/// Bytes that may be pending; lines beyond them are dropped and counted.
const MAX_PENDING_BYTES: usize = 1024 * 1024;

/// How long a stderr that takes nothing is left alone, if it does not make the writing thread wait by itself.
const WRITE_AGAIN: Duration = Duration::from_millis(10);

/// The thread that writes.
const WRITER: &str = "log";

/// How long an error waits until it is on stderr.
const ERROR_LIMIT: Duration = Duration::from_millis(100);

/// How long a way out of the process waits for a stderr that is not read.
pub const EXIT_LIMIT: Duration = Duration::from_secs(1);

/// Lines on their way to stderr.
#[derive(Debug, Default)]
pub struct Sink {
    pub layout: Layout,
    pub limiter: Limiter,
    pub(super) state: Mutex<SinkState>,
    /// Told when there is something to write, and when it is worth writing at once.
    grown: Condvar,
    /// Told when something has been written.
    written: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct SinkState {
    pending: Vec<u8>,
    /// Lines for which there was no room.
    pub(super) dropped: u64,
    /// Lines that came, those that the writing thread has taken, and those that are on stderr.
    came: u64,
    taken: u64,
    pub(super) on_stderr: u64,
    /// Somebody waits until it is all written.
    is_urgent: bool,
    /// What was written last took too long: nobody waits for it until it is done.
    is_stuck: bool,
    /// The guard is gone: every line is waited for.
    is_ending: bool,
}

impl Sink {
    /// A sink for lines of this layout.
    pub fn new(layout: Layout) -> Self {
        Sink { layout, ..Sink::default() }
    }

    pub fn append(&self, line: &[u8], is_error: bool) {
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
    fn wait_written(&self, mut state: MutexGuard<'_, SinkState>, limit: Duration) {
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

    /// From now on every line is waited for.
    pub fn end(&self) {
        lock(&self.state).is_ending = true;
        self.leave();
    }

    /// Before the process ends: tells all that is left to tell, and waits for it.
    pub fn leave(&self) {
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
        let gathers = |state: &mut SinkState| state.pending.len() < FLUSH_BYTES && !state.is_urgent;
        drop(self.grown.wait_timeout_while(state, FLUSH_AFTER, gathers));
    }

    /// Writes what is pending, and behind it how many lines were dropped; on the writing thread alone.
    pub(super) fn write(&self, stderr: &mut impl Write, outgoing: &mut Vec<u8>) {
        let dropped = {
            let mut state = lock(&self.state);
            mem::swap(outgoing, &mut state.pending);
            (state.taken, state.is_urgent) = (state.came, false);
            mem::take(&mut state.dropped)
        };
        let end = outgoing.len();
        if dropped > 0 {
            let behind = Behind { lines: Mutex::new(outgoing), layout: &self.layout };
            log::warn!(logger: behind, count = dropped; "log lines dropped: standard error was not read");
        }
        let written = write_up_to(stderr, outgoing);
        let lost = match outgoing.get(written.min(end)..end) {
            Some(left) if written < outgoing.len() => {
                dropped + left.iter().filter(|byte| **byte == b'\n').count() as u64
            }
            _ => 0,
        };
        outgoing.clear();
        outgoing.shrink_to(FLUSH_BYTES * 2);
        let mut state = lock(&self.state);
        // What stderr did not take is told of if it takes something again.
        state.dropped += lost;
        (state.on_stderr, state.is_stuck) = (state.taken, false);
        self.written.notify_all();
    }

    /// How many lines were left out in windows that are over by then; in all, if `None`.
    fn tell_left_out(&self, by: Option<Instant>) {
        for (kind, count) in self.limiter.left_out(by) {
            let (like, problem) = (kind.message, &*kind.problem);
            log::warn!(like, problem, count; "similar lines left out");
        }
    }
}

/// Adds lines to those that are about to be written: there is always room for them, and no limit leaves them out.
struct Behind<'a> {
    lines: Mutex<&'a mut Vec<u8>>,
    layout: &'a Layout,
}

impl Log for Behind<'_> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        log::logger().enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            self.layout.write(&mut lines, record, SystemTime::now());
        }
    }

    fn flush(&self) {}
}

/// How many of the bytes were written before it failed: all, if it did not. Where stderr never blocks because another process wants
/// it so, that it takes nothing now is no failure.
fn write_up_to(stderr: &mut impl Write, bytes: &[u8]) -> usize {
    let mut written = 0;
    while let Some(left) = bytes.get(written..).filter(|left| !left.is_empty()) {
        match stderr.write(left) {
            Ok(0) => break,
            Ok(taken) => written += taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(WRITE_AGAIN),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    written
}

/// A panic elsewhere must not silence the log; the buffers hold whole lines at any time.
pub(super) fn lock(state: &Mutex<SinkState>) -> MutexGuard<'_, SinkState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread that writes.
///
/// # Errors
/// It does not start.
pub fn start_flusher(sink: Arc<Sink>) -> io::Result<()> {
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
