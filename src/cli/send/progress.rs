//! What `send` shows: how far it is, and which events were not stored.

use std::time::Duration;

use super::event::InputPlace;
use super::ledger::SendCounts;
use crate::cli::screen::{rate, time_left};

/// An event that was not stored.
pub fn not_stored(class: &str, place: &InputPlace, id: Option<&str>, why: &str) -> String {
    let id = id.map(|id| format!(" id {id}")).unwrap_or_default();
    format!("{class}: {place}{id}: {why}")
}

/// How far it is; `total`: bytes of the input, if that is known.
pub fn progress(counts: &SendCounts, done_bytes: u64, total: Option<u64>, elapsed: Duration) -> String {
    let failed = counts.rejected + counts.unavailable;
    let failed = if failed > 0 { format!(", {failed} not stored") } else { String::new() };
    let mut line = format!("{} events{failed}, {:.0}/s", counts.total(), rate(counts.total(), elapsed));
    if let Some(total) = total {
        let share = 100 * u128::from(done_bytes.min(total)) / u128::from(total.max(1));
        let left = time_left(elapsed, done_bytes, total.saturating_sub(done_bytes));
        let left = if done_bytes == 0 { String::new() } else { format!(", {left} left") };
        line += &format!(", {share}%{left}");
    }
    line
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
        assert_eq!(progress(&counts, 0, Some(1000), after), "100 events, 10 not stored, 10/s, 0%");
    }
}
