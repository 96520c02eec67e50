//! What is counted, what is shown of it meanwhile, and what is told in the end.

use std::io::Write;
use std::time::Duration;

use super::Wanted;
use crate::cli::screen::{Screen, rate, time_left};
use crate::event::CacheKey;

/// Keys that are named in the end.
const SHOWN: usize = 20;

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
    /// Keys of the template without an object that nothing shows to be of this source: they are left.
    pub unclear: u64,
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

    /// What Redis is not in step with the store for. Where nothing is changed, what is unclear could still be.
    pub fn not_done(&self, wanted: &Wanted) -> u64 {
        self.failed + if wanted.yes { self.unclear } else { 0 }
    }

    fn settled(&self) -> u64 {
        self.set + self.deleted + self.newer + self.failed
    }

    /// One line of all, on standard output, and what to do for a change.
    pub fn print(&self, wanted: &Wanted) {
        let mut out = std::io::stdout().lock();
        let ReconcileCounts { objects, in_step, to_set, set, to_delete, deleted, newer, unclear, failed, .. } = self;
        let source = &wanted.source;
        let line = match wanted.yes {
            true => format!(
                "{source}: {objects} objects, {in_step} in step, {set} set, {deleted} deleted, {newer} already newer, {} not done",
                self.not_done(wanted)
            ),
            false => format!(
                "{source}: {objects} objects, {in_step} in step, {to_set} to set, {to_delete} to delete, {failed} cannot be keys"
            ),
        };
        // Nobody reads: nothing is left to be done about it.
        let _ = writeln!(out, "{line}");
        if !wanted.yes {
            self.print_wanted(&mut out);
        }
        if *unclear > 0 {
            let _ = writeln!(
                out,
                "{unclear} keys of the template have no object, but nothing shows that {source} stored them: they are not deleted"
            );
        }
    }

    /// What it would do.
    fn print_wanted(&self, out: &mut impl Write) {
        let wanted = self.to_set + self.to_delete;
        for line in &self.sample {
            let _ = writeln!(out, "  {line}");
        }
        match wanted.saturating_sub(self.sample.len() as u64) {
            0 => {}
            more => drop(writeln!(out, "  … and {more} more")),
        }
        if wanted > 0 {
            let _ = writeln!(out, "nothing was changed; run it again with --yes to change it");
        }
    }
}

/// Shows how far it is, every now and then. `is_listed`: it is known how many there are.
pub fn show(screen: &mut Screen, counts: &ReconcileCounts, is_listed: bool) {
    if screen.is_due() {
        let left = is_listed.then(|| (counts.to_set + counts.to_delete).saturating_sub(counts.settled()));
        screen.show(
            progress(counts, left, screen.elapsed()),
            left.map(|left| (counts.settled(), counts.settled() + left)),
        );
    }
}

fn progress(counts: &ReconcileCounts, left: Option<u64>, elapsed: Duration) -> String {
    let (settled, objects) = (counts.settled(), counts.objects);
    let line = format!("{objects} objects, {:.0}/s, {settled} changed", rate(objects, elapsed));
    match left {
        Some(left) if settled > 0 => format!("{line}, {} left", time_left(elapsed, settled, left)),
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
