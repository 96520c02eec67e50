//! What is counted, what is shown meanwhile on standard error, and what is told in the end.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::Wanted;
use crate::event::CacheKey;

/// Keys that are named in the end.
const SHOWN: usize = 20;
/// Failures told one by one.
const MAX_TOLD: u64 = 20;
const BAR_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);

/// What was found, and what was done.
#[derive(Debug, Default)]
pub struct ReconcileCounts {
    /// Objects that the source follows.
    pub objects: u64,
    pub in_step: u64,
    /// Missing or differing.
    pub to_set: u64,
    pub set: u64,
    /// Keys whose object is gone.
    pub to_delete: u64,
    pub deleted: u64,
    /// Left alone because something newer was applied meanwhile.
    pub newer: u64,
    /// Keys of the template that nothing shows to be of this source.
    pub of_others: u64,
    pub failed: u64,
    sample: Vec<String>,
}

impl ReconcileCounts {
    /// One more key, named in the end if it is among the first.
    pub fn sample(&mut self, verb: &str, key: &CacheKey) {
        if self.sample.len() < SHOWN {
            self.sample.push(format!("{verb} {}", key.as_str().escape_debug()));
        }
    }

    fn settled(&self) -> u64 {
        self.set + self.deleted + self.newer + self.failed
    }

    /// One line of all, on standard output, and what to do for a change.
    pub fn print(&self, wanted: &Wanted) {
        let mut out = std::io::stdout().lock();
        let ReconcileCounts { objects, in_step, to_set, set, to_delete, deleted, newer, of_others, failed, .. } = self;
        let source = &wanted.source;
        let line = match wanted.yes {
            true => format!(
                "{source}: {objects} objects, {in_step} in step, {set} set, {deleted} deleted, {newer} already newer, {failed} not done"
            ),
            false => format!(
                "{source}: {objects} objects, {in_step} in step, {to_set} to set, {to_delete} to delete, {failed} cannot be keys"
            ),
        };
        // Nobody reads: nothing is left to be done about it.
        let _ = writeln!(out, "{line}");
        if *of_others > 0 {
            let _ = writeln!(
                out,
                "{of_others} keys of the template have no object, but nothing shows that this source stored them: they are not deleted"
            );
        }
        if wanted.yes {
            return;
        }
        for line in &self.sample {
            let _ = writeln!(out, "  {line}");
        }
        match (to_set + to_delete).saturating_sub(self.sample.len() as u64) {
            0 => {}
            more => drop(writeln!(out, "  … and {more} more")),
        }
        if to_set + to_delete > 0 {
            let _ = writeln!(out, "nothing was changed; run it again with --yes to change it");
        }
    }
}

/// What is shown meanwhile: a bar on a terminal, elsewhere a line every few seconds.
pub struct ShownProgress {
    bar: Option<ProgressBar>,
    begun: Instant,
    last: Instant,
    told: u64,
}

impl ShownProgress {
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
        ShownProgress { bar, begun: Instant::now(), last: Instant::now(), told: 0 }
    }

    /// While objects are listed nobody knows how many there are.
    pub fn show(&mut self, counts: &ReconcileCounts) {
        self.line(counts, None);
    }

    /// Once all are listed.
    pub fn show_left(&mut self, counts: &ReconcileCounts) {
        self.line(counts, Some((counts.to_set + counts.to_delete).saturating_sub(counts.settled())));
    }

    fn line(&mut self, counts: &ReconcileCounts, left: Option<u64>) {
        let every = if self.bar.is_some() { BAR_EVERY } else { LINE_EVERY };
        if self.last.elapsed() < every {
            return;
        }
        self.last = Instant::now();
        let line = progress(counts, left, self.begun.elapsed());
        match &self.bar {
            Some(bar) => {
                bar.set_message(line);
                bar.tick();
            }
            None => eprintln!("{line}"),
        }
    }

    /// Something was left undone. The first few are told.
    pub fn say(&mut self, line: &str) {
        self.told += 1;
        let line = match self.told {
            0..MAX_TOLD => line.escape_debug().to_string(),
            MAX_TOLD => "more failures are not shown, only counted".to_owned(),
            _ => return,
        };
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    pub fn finish(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

fn progress(counts: &ReconcileCounts, left: Option<u64>, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let (settled, objects) = (counts.settled(), counts.objects);
    let line = format!("{objects} objects, {:.0}/s, {settled} changed", objects as f64 / seconds);
    match left {
        Some(left) if settled > 0 => format!("{line}, {:.0} s left", seconds * left as f64 / settled as f64),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_tells_rate_and_time_left() {
        let counts = ReconcileCounts { objects: 200, set: 40, failed: 10, ..ReconcileCounts::default() };
        assert_eq!(progress(&counts, None, Duration::from_secs(10)), "200 objects, 20/s, 50 changed");
        assert_eq!(progress(&counts, Some(100), Duration::from_secs(10)), "200 objects, 20/s, 50 changed, 20 s left");
    }
}
