//! What a caller can repeat is limited in the log: of warnings and errors of one message and problem [`LINES`] stand there in
//! a [`WINDOW`], and then one line that says how many more there were.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::kv::Key;
use log::{Level, Record};

/// Lines of one kind that are written in one window.
const LINES: u32 = 100;
/// Whoever has no token may cost one.
const LINES_UNAUTHORIZED: u32 = 1;
pub(super) const WINDOW: Duration = Duration::from_secs(2);
/// Kinds that are told apart; what is beyond them shares a window.
const MAX_KINDS: usize = 256;
/// The fields that tell one kind from another under the same message. Each has few values.
const TOLD_APART_BY: [&str; 3] = ["problem", "outcome", "actor"];

/// A message, or the module of one that is put together, and what the first of the fields above says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct LineKind {
    pub message: &'static str,
    pub problem: Box<str>,
}

#[derive(Debug, Default)]
pub(super) struct Limiter {
    windows: Mutex<HashMap<LineKind, Window>>,
    has_left_out: AtomicBool,
}

#[derive(Debug)]
struct Window {
    begun: Instant,
    written: u32,
    left_out: u64,
}

impl LineKind {
    fn of(record: &Record<'_>) -> Self {
        let message = record.args().as_str().or(record.module_path_static()).unwrap_or("other");
        let fields = record.key_values();
        let problem = TOLD_APART_BY.iter().find_map(|name| fields.get(Key::from_str(name)));
        LineKind { message, problem: problem.map(|value| value.to_string()).unwrap_or_default().into() }
    }

    fn lines(&self) -> u32 {
        if &*self.problem == "unauthorized" { LINES_UNAUTHORIZED } else { LINES }
    }
}

impl Limiter {
    /// Whether this line is to be written. The time is asked for if it matters.
    pub fn lets(&self, record: &Record<'_>, now: impl FnOnce() -> Instant) -> bool {
        if record.level() > Level::Warn {
            return true;
        }
        let (now, mut kind) = (now(), LineKind::of(record));
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MAX_KINDS && !windows.contains_key(&kind) {
            kind = LineKind { message: "other", problem: "".into() };
        }
        let lines = kind.lines();
        let window = windows.entry(kind).or_insert(Window { begun: now, written: 0, left_out: 0 });
        if window.left_out == 0 && now >= window.begun + WINDOW {
            (window.begun, window.written) = (now, 0);
        }
        let has_room = window.written < lines;
        window.written += u32::from(has_room);
        window.left_out += u64::from(!has_room);
        if !has_room {
            self.has_left_out.store(true, SeqCst);
        }
        has_room
    }

    /// Whether there is anything to tell, now or later.
    pub fn has_left_out(&self) -> bool {
        self.has_left_out.load(SeqCst)
    }

    /// How many were left out in windows that are over by then; all, if `None`.
    pub fn left_out(&self, by: Option<Instant>) -> Vec<(LineKind, u64)> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |window: &Window| by.is_none_or(|by| by >= window.begun + WINDOW);
        let told = windows.iter().filter(|(_, window)| window.left_out > 0 && is_over(window));
        let told: Vec<_> = told.map(|(kind, window)| (kind.clone(), window.left_out)).collect();
        windows.retain(|_, window| !is_over(window));
        self.has_left_out.store(windows.values().any(|window| window.left_out > 0), SeqCst);
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lets(limiter: &Limiter, level: Level, problem: &str, now: Instant) -> bool {
        let fields = [("problem", problem)];
        let mut builder = Record::builder();
        builder.level(level).key_values(&fields);
        limiter.lets(&builder.args(format_args!("event rejected")).build(), || now)
    }

    #[test]
    fn of_each_kind_so_many_stand_in_a_window_and_the_rest_is_counted() {
        let (limiter, begun) = (Limiter::default(), Instant::now());
        let told = |level, problem| (0..500).filter(|_| lets(&limiter, level, problem, begun)).count();
        assert_eq!(told(Level::Info, "a"), 500, "request lines stay");
        assert_eq!(told(Level::Warn, "a"), LINES as usize);
        assert_eq!(told(Level::Warn, "b"), LINES as usize, "another kind has a window of its own");
        assert_eq!(told(Level::Warn, "unauthorized"), 1);
        assert!(limiter.left_out(Some(begun)).is_empty(), "the windows are not over");
        assert!(!lets(&limiter, Level::Warn, "a", begun + WINDOW), "until it is told how many");
        let mut counts: Vec<u64> = limiter.left_out(Some(begun + WINDOW)).into_iter().map(|(_, count)| count).collect();
        counts.sort_unstable();
        assert_eq!(counts, [400, 401, 499]);
        assert!(!limiter.has_left_out());
        assert!(lets(&limiter, Level::Warn, "a", begun + WINDOW));
    }

    #[test]
    fn kinds_beyond_the_most_share_a_window() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let told = (0..MAX_KINDS + 500).filter(|n| lets(&limiter, Level::Warn, &n.to_string(), now)).count();
        assert_eq!(told, MAX_KINDS + LINES as usize);
        assert_eq!(limiter.left_out(None).iter().map(|(_, count)| count).sum::<u64>(), 500 - u64::from(LINES));
    }
}
