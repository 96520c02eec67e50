//! What a command shows meanwhile, on standard error: a bar on a terminal, elsewhere a line every few seconds; and what failed, of
//! which the first few are told one by one.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::on_stderr;

/// Failures told one by one.
const MAX_TOLD: u64 = 20;
const BAR_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Standard error for the time of a command.
pub struct Screen {
    /// None: no terminal.
    bar: Option<ProgressBar>,
    begun: Instant,
    shown: Instant,
    told: u64,
    untold: u64,
}

impl Screen {
    /// The time runs from here on.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
        let now = Instant::now();
        Screen { bar, begun: now, shown: now, told: 0, untold: 0 }
    }

    /// How often it wants to be shown something.
    pub fn every(&self) -> Duration {
        if self.bar.is_some() { BAR_EVERY } else { LINE_EVERY }
    }

    /// Whether it is time to show something again; then it is not for a while.
    pub fn is_due(&mut self) -> bool {
        let is_due = self.shown.elapsed() >= self.every();
        if is_due {
            self.shown = Instant::now();
        }
        is_due
    }

    /// Shows how far the command is, with a bar if it is known how much is done of how much.
    pub fn show(&self, line: String, share: Option<(u64, u64)>) {
        let Some(bar) = &self.bar else { return on_stderr(line) };
        let total = share.map(|(_, total)| total);
        if bar.length() != total {
            style(bar, total);
        }
        bar.set_position(share.map_or(0, |(done, _)| done));
        bar.set_message(line);
        bar.tick();
    }

    /// Whether the next failure is still told.
    pub fn tells_more(&self) -> bool {
        self.told < MAX_TOLD
    }

    /// Something failed. Beyond the first few it is only counted.
    pub fn tell(&mut self, line: &str) {
        if self.tells_more() {
            self.told += 1;
            self.say(line);
        } else {
            self.untold += 1;
        }
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        let line = printable(line);
        match &self.bar {
            Some(bar) => bar.suspend(|| on_stderr(line)),
            None => on_stderr(line),
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

    /// Since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
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

/// What so much that is left takes, at the pace of what is done.
pub fn time_left(elapsed: Duration, done: u64, left: u64) -> String {
    span(elapsed.as_secs_f64() * left as f64 / done.max(1) as f64)
}

/// A second of what was counted so far.
pub fn rate(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64().max(0.001)
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
    fn the_time_left_has_a_unit_that_fits() {
        let left = |seconds| time_left(Duration::from_secs(seconds), 10, 10);
        assert_eq!((left(119), left(125), left(7300)), ("119 s".into(), "2 min".into(), "2 h".into()));
        assert_eq!(time_left(Duration::from_secs(10), 250, 750), "30 s");
    }

    #[test]
    fn nothing_that_a_terminal_acts_on_is_shown() {
        assert_eq!(printable("a\u{1b}[2J\nb é"), "a\\u{1b}[2J\\nb é");
    }
}
