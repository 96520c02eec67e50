//! What is shown meanwhile, on standard error: a bar on a terminal, elsewhere a line every few seconds; and what was not
//! stored, of which the first few are told one by one.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::event::InputPlace;
use super::ledger::SendCounts;

/// Failures told one by one.
const MAX_TOLD: u64 = 20;
const BAR_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);

pub struct Screen {
    /// None: no terminal.
    bar: Option<ProgressBar>,
    /// Bytes of the input; 0: not known.
    total: Arc<AtomicU64>,
    started: Instant,
    told: u64,
    untold: u64,
}

impl Screen {
    pub fn new(total: Arc<AtomicU64>) -> Self {
        let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
        Screen { bar, total, started: Instant::now(), told: 0, untold: 0 }
    }

    /// How often it wants to be shown something.
    pub fn every(&self) -> Duration {
        if self.bar.is_some() { BAR_EVERY } else { LINE_EVERY }
    }

    /// Notes how many bytes of the input are settled.
    pub fn show(&self, counts: &SendCounts, done_bytes: u64) {
        let total = Some(self.total.load(Ordering::Relaxed)).filter(|total| *total > 0);
        let line = progress(counts, done_bytes, total, self.started.elapsed());
        match &self.bar {
            Some(bar) => {
                if bar.length() != total {
                    style(bar, total);
                }
                bar.set_position(done_bytes);
                bar.set_message(line);
            }
            None => eprintln!("{line}"),
        }
    }

    /// Whether the next failure is still told.
    pub fn tells_more(&self) -> bool {
        self.told < MAX_TOLD
    }

    /// An event was not stored.
    pub fn tell(&mut self, class: &str, place: &InputPlace, id: Option<&str>, why: &str) {
        if !self.tells_more() {
            self.untold += 1;
            return;
        }
        self.told += 1;
        let id = id.map(|id| format!(" id {id}")).unwrap_or_default();
        self.say(&format!("{class}: {place}{id}: {why}"));
    }

    pub fn say(&self, line: &str) {
        let line = printable(line);
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// Takes the bar away and counts what was not told.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if self.untold > 0 {
            self.say(&format!("… and {} more", self.untold));
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

fn style(bar: &ProgressBar, total: Option<u64>) {
    let template = match total {
        Some(total) => {
            bar.set_length(total);
            "{wide_bar} {percent}% {msg}"
        }
        None => "{spinner} {msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

fn progress(counts: &SendCounts, done_bytes: u64, total: Option<u64>, elapsed: Duration) -> String {
    let failed = counts.rejected + counts.unavailable;
    let failed = if failed > 0 { format!(", {failed} not stored") } else { String::new() };
    let seconds = elapsed.as_secs_f64().max(0.001);
    let rate = counts.total() as f64 / seconds;
    let mut line = format!("{} events{failed}, {rate:.0}/s", counts.total());
    if let Some(total) = total.filter(|total| *total > 0) {
        let left = seconds * total.saturating_sub(done_bytes) as f64 / done_bytes.max(1) as f64;
        let share = 100 * u128::from(done_bytes.min(total)) / u128::from(total);
        let left = if done_bytes == 0 { String::new() } else { format!(", {} left", span(left)) };
        line += &format!(", {share}%{left}");
    }
    line
}

fn span(seconds: f64) -> String {
    match seconds as u64 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// Without anything that a terminal would act on: ids and reasons come from outside.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_tells_rate_share_and_time_left() {
        let counts = SendCounts { ok: 90, rejected: 8, unavailable: 2 };
        let after = Duration::from_secs(10);
        assert_eq!(progress(&counts, 250, Some(1000), after), "100 events, 10 not stored, 10/s, 25%, 30 s left");
        assert_eq!(progress(&SendCounts { ok: 5, ..SendCounts::default() }, 250, None, after), "5 events, 0/s");
        assert_eq!(progress(&counts, 0, Some(0), after), "100 events, 10 not stored, 10/s");
        assert_eq!((span(119.9), span(125.0), span(7300.0)), ("119 s".into(), "2 min".into(), "2 h".into()));
    }

    #[test]
    fn nothing_that_a_terminal_acts_on_is_shown() {
        assert_eq!(printable("a\u{1b}[2J\nb é"), "a\\u{1b}[2J\\nb é");
    }
}
